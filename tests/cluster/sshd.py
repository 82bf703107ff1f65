"""A real SSH server on the loopback address that stands for a head: its home and its sweeps are folders of a test's."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sweeper.cluster.ray_cli import free_port

CHECKOUT = Path(__file__).parents[2]
FILE = """
cluster_name: {name}
max_workers: 0
provider: {{type: local, head_ip: 127.0.0.1, worker_ips: []}}
auth:
  ssh_user: {user}
  ssh_private_key: {folder}/key
  ssh_proxy_command: bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}; cat <&3 & trap "kill $!" EXIT; cat >&3'
head_start_ray_commands: [sweeper head up {folder}/shared, . ~/.sweeper/head.env && ray start --head]
"""


def missing() -> str:
    """Why there can be none; '' where there can."""
    return "" if shutil.which("ssh") and _program() else "needs openssh-server"


def _program() -> str | None:
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@dataclass
class SshHead:
    """Its folder, and how often somebody has signed in."""

    folder: Path
    port: int
    server: subprocess.Popen[bytes]

    @property
    def sweeps(self) -> Path:
        """Where its sweeps are."""
        return self.folder / "shared" / "sweeps"

    @property
    def logins(self) -> int:
        """Connections, whatever was done through each."""
        return (self.folder / "log").read_text().count("Accepted publickey")

    def file(self, place: Path, name: str = "fake") -> str:
        """Write a cluster file that leads here."""
        place.write_text(FILE.format(name=name, user=getpass.getuser(), folder=self.folder, port=self.port))
        return str(place)


@contextlib.contextmanager
def ssh_head() -> Iterator[SshHead]:
    """The head, while the context lasts."""
    folder = Path(tempfile.mkdtemp(prefix="sw-"))
    for key in ("key", "hostkey"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    home = folder / "home"
    (home / ".sweeper").mkdir(parents=True)
    (folder / "shared" / "sweeps").mkdir(parents=True)
    (home / ".sweeper" / "head.env").write_text(f"export SWEEPER_ROOT='{folder}/shared/sweeps'\n")
    settings = f"PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={CHECKOUT} OMP_NUM_THREADS=1"
    stand_in = 'ray() { echo "ray $*" >> ~/typed; }'  # the real one would end whatever Ray runs on this machine
    (home / ".bashrc").write_text(f"echo a word from .bashrc\nexport {settings}\n{stand_in}\n")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    port = free_port()
    options = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": folder / "hostkey",
        "AuthorizedKeysFile": folder / "key.pub",
        "SetEnv": f"HOME={home}",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
        "PermitRootLogin": "yes",
    }
    program = _program()
    assert program is not None
    command = [program, "-D", "-e", "-f", "/dev/null", *(f"-o{name}={value}" for name, value in options.items())]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        made = SshHead(folder, port, server)
        end = time.monotonic() + 30
        while "Server listening" not in (folder / "log").read_text():
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        yield made
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)
