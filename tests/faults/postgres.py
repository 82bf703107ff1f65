"""A real PostgreSQL server on the loopback address, for a test's length: started, restarted, killed, ended.

It asks for a password, which is in a password file that `PGPASSFILE` names, as a user would have it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

USER, PASSWORD = "sweeper", f"not-for-any-log-{secrets.token_hex(4)}"
SETTINGS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off", "shared_buffers": "8MB"}


def program(name: str) -> str | None:
    """The path of one of the server's programs; distributions keep them apart from the others."""
    places = [os.environ.get("PATH", ""), *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))]
    return shutil.which(name, path=os.pathsep.join(places))


def unprivileged() -> str | None:
    """Whom to run the server as: it refuses root. None: whoever we are."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


class Server:
    """One server and its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._data, self._user = folder, folder / "data", unprivileged()
        self.port = _free_port()
        secret = folder / "first-password"
        secret.write_text(PASSWORD)
        if self._user is not None:
            for path in (folder, secret):
                shutil.chown(path, self._user)
        self._run("initdb", "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}", "-N", "-E", "UTF8", "--locale=C")
        secret.unlink()
        self.start()

    def start(self) -> None:
        """Begin to serve; returns when it does."""
        options = " ".join(f"-c {name}='{value}'" for name, value in {**SETTINGS, "port": self.port}.items())
        self._run("pg_ctl", "start", "-w", "-t", "120", "-s", "-l", str(self._folder / "log"), "-o", options)

    def stop(self, how: str = "fast") -> None:
        """End it: `fast` cuts the connections, `immediate` is a crash."""
        self._run("pg_ctl", "stop", "-w", "-s", "-m", how)

    def url(self, name: str) -> str:
        """The URL of a fresh database of that name."""
        with self.connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{name}"

    def connect(self, name: str = "postgres") -> psycopg.Connection:
        """As the tests' own observer."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=name, autocommit=True
        )

    def _run(self, name: str, *arguments: str) -> None:
        command = [str(program(name)), "-D", str(self._data), *arguments]
        log = self._folder / f"{name}.out"  # a pipe would be kept open by the server
        with log.open("w") as out:
            done = subprocess.run(command, stdout=out, stderr=out, user=self._user, cwd=self._folder, timeout=150)
        assert done.returncode == 0, f"{command}: {log.read_text()}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server of its own, with the password file in the environment; skips where it is not installed."""
    missing = [name for name in ("initdb", "pg_ctl") if program(name) is None]
    if missing:
        pytest.skip(f"PostgreSQL's programs are not installed ({', '.join(missing)})")
    with tempfile.TemporaryDirectory(prefix="pg-") as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        server = Server(folder)
        known = folder / "pgpass"
        known.write_text(f"127.0.0.1:{server.port}:*:{USER}:{PASSWORD}\n")
        known.chmod(0o600)
        patch.setenv("PGPASSFILE", str(known))
        try:
            yield server
        finally:
            server.stop("immediate")
