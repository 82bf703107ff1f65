"""A command that is typed here and runs on a cluster's head: what is sent, and how the head carries it out.

One line of JSON goes there: the words, what is to be standard input, and what stands already where files will land.
The head runs the very command in an empty folder (`python -m sweeper.cluster.errand`) and answers in lines, each with
the errand's key in front: what was printed, every file that the command has left in that folder, and the exit code.
All of it is text, so that an SSH connection and the log of a Ray job carry it alike. `homecoming` hears the answer.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import IO, Any

from sweeper.running_code import python

MODULE = "sweeper.cluster.errand"
PIECE = 48 * 1024  # bytes of a file in one line
GRACE_S = 30.0  # of a command whose desk has gone
FILE, EMPTY, FULL = "file", "empty", "full"  # what may stand at a place: a file, a folder without and with content


@dataclass(frozen=True)
class Place:
    """Where the desk wants a file or a folder, `typed` there, and the name of its folder on the head."""

    typed: str
    folder: str

    @property
    def path(self) -> Path:
        """On the desk; with a name, whatever was typed."""
        path = Path(self.typed)
        return path if path.name else path.resolve()

    @property
    def there(self) -> str:
        """The word that the head gets for it."""
        return f"{self.folder}/{self.path.name}"


@dataclass(frozen=True)
class Errand:
    """`words` of a command line for the head. `stdin`: its standard input, if any; `attended`: ours ends with the desk.

    `places` are where its files are wanted; a file without one is called after one of `names`.
    """

    words: Sequence[str]
    stdin: str | None = None
    places: Sequence[Place] = ()
    names: Sequence[str] = ()
    key: str = field(default_factory=lambda: token_hex(8))

    def line(self, *, attended: bool) -> str:
        """What is sent."""
        order = Carried(self.words, self.stdin, _standing(self.places), attended, self.key)
        return json.dumps(asdict(order))


@dataclass(frozen=True)
class Carried:
    """An errand as the head gets it. `standing` maps a name in its folder to what the desk has there."""

    words: Sequence[str]
    stdin: str | None
    standing: Mapping[str, str]
    attended: bool
    key: str


def _standing(places: Sequence[Place]) -> dict[str, str]:
    """So that the command refuses there what it would refuse here."""
    found = {}
    for place in places:
        path = place.path
        if path.parent.is_dir():
            found[place.folder] = EMPTY
        if path.is_dir():
            found[place.there] = FULL if any(path.iterdir()) else EMPTY
        elif path.exists():
            found[place.there] = FILE
    return found


# --- on the head

Send = Callable[[Mapping[str, Any]], None]


def carry_out(order: Carried, send: Send, gone: threading.Event) -> None:
    """Run the command and send what comes of it. Where `gone` is set, it is interrupted as by Ctrl-C."""
    with tempfile.TemporaryDirectory(prefix="sweeper-errand-") as made:
        folder = Path(made)
        _lay_out(folder, order.standing)
        before = _stamps(folder)
        root = os.path.abspath(os.environ.get("SWEEPER_ROOT", "sweeps"))
        own = {"SWEEPER_ROOT": root, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
        process = subprocess.Popen(
            python("-m", "sweeper", *order.words),
            cwd=folder,
            env={name: value for name, value in os.environ.items() if name != "SWEEPER_CLUSTER"} | own,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        ended = threading.Event()
        threads = [
            threading.Thread(target=_tell, args=(process.stdout, "out", f"{folder}/", send)),
            threading.Thread(target=_tell, args=(process.stderr, "err", f"{folder}/", send)),
            threading.Thread(target=_end_with, args=(gone, ended, process), daemon=True),
        ]
        for thread in threads:
            thread.start()
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:  # type: ignore[union-attr]
            pipe.write((order.stdin or "").encode())
        code = process.wait()
        ended.set()
        gone.set()
        for thread in threads:
            thread.join()
        _send_files(folder, [name for name, stamp in _stamps(folder).items() if before.get(name) != stamp], send)
        send({"exit": code if code >= 0 else 128 - code})


def _lay_out(folder: Path, standing: Mapping[str, str]) -> None:
    for name, what in standing.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if what == FILE:
            path.touch()
        else:
            path.mkdir(exist_ok=True)
        if what == FULL:
            (path / ".kept").touch()


def _stamps(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every plain file below, and what changes when it is written; nothing that is reached by a link."""
    found = {}
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in names):
            if path.is_file() and not path.is_symlink():
                seen = path.stat()
                found[path.relative_to(folder).as_posix()] = (seen.st_ino, seen.st_mtime_ns, seen.st_size)
    return dict(sorted(found.items()))


def _tell(pipe: IO[bytes], which: str, folder: str, send: Send) -> None:
    for line in pipe:
        send({which: line.decode(errors="replace").replace(folder, "")})


def _end_with(gone: threading.Event, ended: threading.Event, process: subprocess.Popen[bytes]) -> None:
    gone.wait()
    if not ended.is_set():
        process.send_signal(signal.SIGINT)
        if not ended.wait(GRACE_S):
            os.killpg(process.pid, signal.SIGKILL)


def _send_files(folder: Path, names: Sequence[str], send: Send) -> None:
    send({"files": len(names), "bytes": sum((folder / name).stat().st_size for name in names)})
    for name in names:
        send({"file": name, "bytes": (folder / name).stat().st_size})
        digest = hashlib.sha256()
        for piece in _pieces(folder / name):
            digest.update(piece)
            send({"data": base64.b64encode(piece).decode()})
        send({"sha256": digest.hexdigest()})


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def main() -> None:
    """Carry out the order on standard input."""
    order = Carried(**json.loads(sys.stdin.readline()))
    gone, one_at_a_time = threading.Event(), threading.Lock()
    answer = os.fdopen(os.dup(1), "w", encoding="ascii")

    def send(told: Mapping[str, Any]) -> None:
        with one_at_a_time:
            try:
                answer.write(f"{order.key} {json.dumps(told)}\n")
                answer.flush()
            except OSError:  # nobody listens any more
                gone.set()

    def attend() -> None:
        sys.stdin.read()  # ends when the desk does
        gone.set()

    if order.attended:
        threading.Thread(target=attend, daemon=True).start()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # as Ray stops a job
        signal.signal(number, lambda *_: gone.set())
    carry_out(order, send, gone)
    os._exit(0)  # the thread at standard input waits for what will not come


if __name__ == "__main__":
    main()
