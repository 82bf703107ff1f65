"""The way to a cluster's head: one SSH connection, opened by the first command and used by those that follow.

It is opened as Ray's launcher opens its own: with the cluster file's user, key and proxy, and without a list of known
hosts, since a cloud gives an address to one machine after another. It belongs to one terminal and one cluster, and ends
with that terminal, or after ten minutes in which nothing used it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock

from sweeper.cluster.errand import MODULE, Errand
from sweeper.cluster.file import ClusterFile
from sweeper.errors import UserError
from sweeper.state.atomic import write_bytes
from sweeper.state.processes import born

HOST = "127.0.0.1"
ENVIRONMENT = ". ~/.sweeper/head.env"  # how `ray start` on a head learns where sweeps are kept
KEPT_S = 600
OPEN_S = 60
ALIVE_S = 10.0
NEVER_STARTED = 97
BROKEN = 255  # ssh's own exit code where the connection fails; others are the command's
LONGEST_PATH = 104 - len(".0123456789abcdef\0")  # of a socket, on the strictest system, and ssh's draft of it
_OPTIONS = {
    "StrictHostKeyChecking": "no",
    "UserKnownHostsFile": os.devnull,
    "LogLevel": "ERROR",
    "ConnectTimeout": "30",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
    "ExitOnForwardFailure": "yes",
}
_WHO = ("cluster_name", "provider", "auth", "docker")  # what of a file says whose head it is
_WATCH = """
while kill -0 "$1" 2> /dev/null || [ -d "/proc/$1" ]; do
  [ -S "$2" ] || exit 0  # closed, and perhaps about to be opened again
  sleep 2
done
ssh -S "$2" -O exit head 2> /dev/null
rm -f "$2" "$2".*
"""
_SETTINGS = f"[ -f ~/.sweeper/head.env ] || exit {NEVER_STARTED}; {ENVIRONMENT};"
_WITHOUT_TERMINAL = ("bash: cannot set terminal process group", "bash: no job control")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Connection:
    """To the head of `file` at `address`; the kept one listens at `socket`."""

    file: ClusterFile
    address: str
    socket: Path

    def carry(self, errand: Errand, hear: Say) -> None:
        """Have an errand carried out there; its answer is heard as it comes. Ctrl-C here is Ctrl-C there.

        Raises:
            UserError: the connection broke, or the head was never started.
        """
        with tempfile.TemporaryFile("w+", errors="replace") as said:
            process = subprocess.Popen(
                self._words("-T", at_end=[self._on_head(f"{_SETTINGS} exec python -P -m {MODULE}")]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            try:
                _talk(process, errand.line(attended=True), hear)
            except BaseException:
                process.terminate()
                raise
            finally:
                code = process.wait()
            said.seek(0)
            lines = [line for line in said if line.strip() and not line.startswith(_WITHOUT_TERMINAL)]
        if code == BROKEN:
            raise UserError(f"the connection to the head of {self.file.path} broke: {_last(lines)} Type it again.")
        if code == NEVER_STARTED:
            file = self.file.path
            raise UserError(f"no sweeps are kept on the head of {file} yet. 'ray up {file}' makes it a head.")
        hear("".join(lines))  # why it came to nothing, if it did

    def run(self, line: str) -> int:
        """Run a line of a shell there, in front of whoever sits here; its exit code."""
        return subprocess.run(self._words("-tt", at_end=[self._on_head(line)]), stdin=subprocess.DEVNULL).returncode

    @contextlib.contextmanager
    def tunnel(self, remote_port: int, port: int) -> Iterator[int]:
        """From `port` here to `remote_port` of the head's loopback address, while the context lasts.

        Raises:
            UserError: it does not open.
        """
        ends = f"{HOST}:{port}:{HOST}:{remote_port}"
        done = _quietly(self._words("-O", "forward", "-L", ends))
        if done.returncode:
            raise UserError(f"no tunnel to the head of {self.file.path}: {_last(done.stderr.splitlines())}")
        try:
            yield port
        finally:
            _quietly(self._words("-O", "cancel", "-L", ends))

    def close(self) -> None:
        """End it, for every command of this terminal."""
        _quietly(self._words("-O", "exit"))

    def alive(self) -> bool:
        """Whether it is there; asked at the other end where nobody has used it for a while."""
        if _quietly(self._words("-O", "check")).returncode:
            return False
        if time.time() - _note(self.socket).stat().st_mtime > ALIVE_S:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return _quietly(self._words("-T", at_end=["true"]), patience_s=ALIVE_S).returncode == 0
            return False
        return True

    def open(self) -> None:
        """Open it, and have it closed with this terminal.

        Raises:
            UserError: the head is not to be reached.
        """
        keep = ("-f", "-N", "-M", "-o", f"ControlPersist={KEPT_S}")
        with tempfile.TemporaryFile("w+", errors="replace") as said:  # a pipe would stay open with the connection
            try:
                done = subprocess.run(
                    self._words(*keep), stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=OPEN_S
                )
            except subprocess.TimeoutExpired:
                raise self._unreachable(f"it did not answer in {OPEN_S} s.") from None
            except FileNotFoundError:
                raise UserError("there is no 'ssh' on this machine. Install openssh-client.") from None
            said.seek(0)
            if done.returncode:
                raise self._unreachable(_last(said.readlines()))
        if (leader := _leader()) is not None:
            subprocess.Popen(
                ["sh", "-c", _WATCH, "sweeper", str(leader), str(self.socket)],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def by_hand(self) -> str:
        """What one types to get there without us."""
        user, key, proxy = self._auth()
        return shlex.join(["ssh", *key, *(["-o", f"ProxyCommand={proxy}"] if proxy else []), user + self.address])

    def _unreachable(self, why: str) -> UserError:
        return UserError(f"no way to the head of {self.file.path}, {self.address}: {why} Try by hand: {self.by_hand}")

    def _auth(self) -> tuple[str, list[str], str | None]:
        user, key, proxy = (self.file.get("auth", f"ssh_{name}") for name in ("user", "private_key", "proxy_command"))
        identity = ["-i", os.path.expanduser(key), "-o", "IdentitiesOnly=yes"] if key else []
        return f"{user}@" if user else "", identity, proxy

    def _words(self, *words: str, at_end: Sequence[str] = ()) -> list[str]:
        user, key, proxy = self._auth()
        options = _OPTIONS | ({"ProxyCommand": proxy} if proxy else {})
        given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return ["ssh", *key, *given, "-S", str(self.socket), *words, user + self.address, *at_end]

    def _on_head(self, line: str) -> str:
        """As Ray's launcher has it run: by a login shell that reads ~/.bashrc, and in the container if there is one."""
        shell = shlex.join(["bash", "--login", "-i", "-c", f"source ~/.bashrc; {line}"])
        container = self.file.get("docker", "container_name")
        return f"docker exec -i {shlex.quote(container)} {shell}" if container else shell


def kept(file: ClusterFile, find_address: Callable[[ClusterFile], str]) -> Connection:
    """The connection of this terminal to the head of `file`, opened if there is none. `find_address` is asked for then.

    Raises:
        UserError: the head is not to be reached, or the folder of such connections is not to be trusted.
    """
    leader = _leader()
    who = [{name: file.get(name) for name in _WHO}, leader, born(leader) if leader else ""]
    socket = _folder() / hashlib.sha256(json.dumps(who, default=str).encode()).hexdigest()[:16]
    with FileLock(f"{socket}.lock"):  # two commands at once open one
        note = _note(socket)
        if note.exists() and (known := Connection(file, note.read_text(), socket)).alive():
            os.utime(note)
            return known
        if note.exists():
            known.close()
        made = Connection(file, find_address(file), socket)
        made.open()
        write_bytes(note, made.address.encode(), private=True)
        return made


def _note(socket: Path) -> Path:
    """The file that says where a connection leads."""
    return socket.with_suffix(".address")


def _folder() -> Path:
    """Where sockets are: a folder of this user alone, with a short path.

    Raises:
        UserError: somebody else made it, or others may enter it.
    """
    given = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(given, "sweeper") if given and os.path.isdir(given) else Path(f"/tmp/sweeper-{os.geteuid()}")
    if len(str(folder)) + len("/0123456789abcdef") > LONGEST_PATH:
        folder = Path(f"/tmp/sweeper-{os.geteuid()}")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    seen = folder.lstat()
    if not folder.is_dir() or folder.is_symlink() or seen.st_uid != os.geteuid() or seen.st_mode & 0o077:
        raise UserError(
            f"{folder} is not a folder of yours alone, and connections are kept there. Move it away, or do: "
            f"chmod 700 {folder}"
        )
    return folder


def _leader() -> int | None:
    """The process whose end is the end of this terminal; None where that is this very command."""
    leader = os.getsid(0)
    return None if leader in (0, os.getpid()) else leader


def _talk(process: subprocess.Popen[str], line: str, hear: Say) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
    try:
        _listen(process.stdout, hear)
    except KeyboardInterrupt:
        process.stdin.close()  # the head interrupts the command, and tells its last words
        _listen(process.stdout, hear)
        raise


def _listen(answer: IO[str], hear: Say) -> None:
    for line in answer:
        hear(line)


def _quietly(words: Sequence[str], patience_s: float | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=patience_s
    )


def _last(lines: Sequence[str]) -> str:
    return next((line.strip().rstrip(".") + "." for line in reversed(lines) if line.strip()), "ssh gave no reason.")
