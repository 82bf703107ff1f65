"""Hosts made of namespaces on one machine: each has its own network, processes, name, home and SSH server.

So `ray up` does what it does between real machines. Needs root, openssh-server, rsync and iproute2.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests import unprivileged

NEEDED = ("sshd", "ssh-keygen", "rsync", "ip", "unshare", "setpriv", "initdb")
USER, UID = "sweeps", 23456
HOME = "/sweephome"
NETWORK = "10.78.0"


def missing() -> str:
    """Why such hosts cannot be made here; '' where they can."""
    if os.geteuid() != 0:
        return "needs root"
    lacking = [name for name in NEEDED if shutil.which(name) is None and not Path("/usr/sbin", name).exists()]
    return f"needs {', '.join(lacking)}" if lacking else ""


@dataclass
class Hosts:
    """The hosts, by name, and the place of the one who sits in front of them."""

    folder: Path
    names: Sequence[str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def address(self, name: str) -> str:
        """Its address."""
        return f"{NETWORK}.{10 + self.names.index(name)}"

    def home(self, name: str) -> Path:
        """Its user's home, seen from outside."""
        return self.folder / name / "home"

    @property
    def shared(self) -> Path:
        """The storage that all of them see."""
        return self.folder / "shared"

    def pids(self, name: str) -> list[int]:
        """Every process of a host."""
        done = subprocess.run(["ip", "netns", "pids", _space(name)], capture_output=True, text=True)
        return [int(pid) for pid in done.stdout.split()]

    def kill(self, name: str, what: str) -> int:
        """SIGKILL the host's processes that have `what` on their command line; how many."""
        killed = 0
        for pid in self.running(name, what):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        return killed

    def running(self, name: str, what: str) -> list[int]:
        """The host's processes that have `what` on their command line."""
        found = []
        for pid in self.pids(name):
            with contextlib.suppress(OSError):
                found += [pid] if what in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") else []
        return found

    def link(self, name: str, *, up: bool) -> None:
        """Plug its cable in, or pull it."""
        _run("ip", "link", "set", _cable(name), "up" if up else "down")

    def listening(self, name: str) -> str:
        """What listens on a host, as `ss` tells."""
        return _run("ip", "netns", "exec", _space(name), "ss", "-Hltnp").stdout


@contextlib.contextmanager
def hosts(*names: str) -> Iterator[Hosts]:
    """The hosts, while the context lasts."""
    folder = Path(tempfile.mkdtemp(prefix="swh-"))
    folder.chmod(0o755)
    made = Hosts(folder, names)
    _tear_down(made)
    try:
        _build(made)
        yield made
    finally:
        _tear_down(made)
        shutil.rmtree(folder, ignore_errors=True)


def _build(made: Hosts) -> None:
    for key in ("key", "hostkey"):
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(made.folder / key))
    made.shared.mkdir()
    os.chown(made.shared, UID, UID)
    own = f"{USER}:*:{UID}:{UID}::{HOME}:/bin/bash\n"
    (made.folder / "passwd").write_text(Path("/etc/passwd").read_text() + own)
    for place in (HOME, "/run/sshd", "/tmp/ray"):
        Path(place).mkdir(exist_ok=True)
    _run("ip", "link", "add", "swbr", "type", "bridge")
    _run("ip", "addr", "add", f"{NETWORK}.1/24", "dev", "swbr")
    _run("ip", "link", "set", "swbr", "up")
    for name in made.names:
        _prepare(made, name)
        _wire(made, name)
        made.processes[name] = _switch_on(made, name)
    time.sleep(1)


def _prepare(made: Hosts, name: str) -> None:
    home = made.home(name)
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    (made.folder / name / "ray").mkdir()
    shutil.copy(made.folder / "key.pub", home / ".ssh" / "authorized_keys")
    (home / ".bashrc").touch()
    (home / ".bash_profile").write_text(". ~/.bashrc\n")
    for path in (made.folder / name, *(made.folder / name).rglob("*")):
        os.chown(path, UID, UID)


def _wire(made: Hosts, name: str) -> None:
    space = _space(name)
    _run("ip", "netns", "add", space)
    _run("ip", "link", "add", _cable(name), "type", "veth", "peer", "name", "eth0", "netns", space)
    _run("ip", "link", "set", _cable(name), "master", "swbr", "up")
    _run("ip", "-n", space, "addr", "add", f"{made.address(name)}/24", "dev", "eth0")
    for device in ("eth0", "lo"):
        _run("ip", "-n", space, "link", "set", device, "up")
    _run("ip", "-n", space, "route", "add", "default", "via", f"{NETWORK}.1")


def _switch_on(made: Hosts, name: str) -> subprocess.Popen[bytes]:
    """Its own mounts, then its SSH server in the foreground."""
    place = made.folder / name
    lines = [
        f"hostname {name}",
        "mount --make-rprivate /",
        unprivileged.opened(),
        f"mount --bind {place}/home {HOME}",
        f"mount --bind {made.folder}/passwd /etc/passwd",
        f"mount --bind {place}/ray /tmp/ray",
        "mount -t tmpfs -o size=16g,mode=1777 tmpfs /dev/shm",
        f"exec $(PATH=$PATH:/usr/sbin which sshd) -D -e -h {made.folder}/hostkey -o StrictModes=no -o UsePAM=no "
        f"-o PidFile=none -o PermitUserEnvironment=no -o AuthorizedKeysFile={HOME}/.ssh/authorized_keys",
    ]
    inside = ["unshare", "--uts", "--pid", "--fork", "--mount", "--mount-proc", "bash", "-c", " && ".join(lines)]
    with (place / "sshd.log").open("wb") as log:
        return subprocess.Popen(
            ["ip", "netns", "exec", _space(name), *inside], stdout=log, stderr=log, start_new_session=True
        )


def _tear_down(made: Hosts) -> None:
    for name in made.names:
        for pid in made.pids(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        subprocess.run(["ip", "link", "del", _cable(name)], capture_output=True)
        subprocess.run(["ip", "netns", "del", _space(name)], capture_output=True)
    for process in made.processes.values():
        process.wait()
    subprocess.run(["ip", "link", "del", "swbr"], capture_output=True)


def _space(name: str) -> str:
    return f"sw-{name}"


def _cable(name: str) -> str:
    return f"swv{name}"


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=True)
