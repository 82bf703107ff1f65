"""A Ray head of a test's own: on the loopback address, with a token, on free ports, ended by its own process."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sweeper.cluster.ray_cli import HOST, free_port, ray

START_S = 240.0


@dataclass(frozen=True)
class LocalHead:
    """Where it answers, and the environment in which commands find it and its token."""

    address: str
    environment: dict[str, str]
    root: Path

    def sweeper(self, *words: str, patience_s: float = 240.0) -> subprocess.CompletedProcess[str]:
        """One command, typed elsewhere: with the address and the token, without the head's own settings."""
        command = [sys.executable, "-m", "sweeper", *words, "--cluster", self.address]
        here = {k: v for k, v in self.environment.items() if not k.startswith(("SWEEPER_", "RAY_ENABLE"))}
        return subprocess.run(command, capture_output=True, text=True, env=here, timeout=patience_s)

    def answer(self, path: str, token: str | None) -> int:
        """The status of the dashboard's answer to a request with this token."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            request = urllib.request.Request(self.address + path, headers=headers)
            return int(urllib.request.urlopen(request, timeout=30).status)
        except urllib.error.HTTPError as refusal:
            return refusal.code


@contextlib.contextmanager
def local_head(cpus: int = 2) -> Iterator[LocalHead]:
    """The head, while the context lasts. Its folder is short: sockets have short names."""
    folder = Path(tempfile.mkdtemp(prefix="sw-"))
    token = folder / "home" / ".ray" / "auth_token"
    token.parent.mkdir(parents=True)
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    root = folder / "sweeps"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SWEEPER_"))} | {
        "HOME": str(folder / "home"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "RAY_AUTH_MODE": "token",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "SWEEPER_ROOT": str(root),
        "SWEEPER_CACHE": os.environ.get("SWEEPER_CACHE", str(Path.home() / ".cache" / "sweeper")),
        "OMP_NUM_THREADS": "1",
    }
    port = free_port()
    command = [ray(), "start", "--head", "--block", f"--num-cpus={cpus}", f"--node-ip-address={HOST}"]
    command += [
        f"--port={free_port()}",
        f"--dashboard-host={HOST}",
        f"--dashboard-port={port}",
        "--disable-usage-stats",
    ]
    command += [f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"]
    command += [f"--temp-dir={folder / 'r'}"]
    with (folder / "head.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        head = LocalHead(f"http://{HOST}:{port}", environment, root)
        _wait(head, process, folder)
        yield head
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(head: LocalHead, process: subprocess.Popen[bytes], folder: Path) -> None:
    until = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError):
            if head.answer("/api/version", None) in (200, 401):
                return
        assert process.poll() is None, (folder / "head.log").read_text()
        assert time.monotonic() < until, (folder / "head.log").read_text()
        time.sleep(0.3)
