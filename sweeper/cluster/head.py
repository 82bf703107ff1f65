"""The services of a cluster's head: PostgreSQL and MLflow, kept running, within reach of this machine only.

<shared>/sweeps         the sweeps, on storage that every node sees
<shared>/mlartifacts    MLflow's files
<shared>/postgres       PostgreSQL's data: the study, the record and its users; it outlives the head
<shared>/secrets/       made here at the first start, mode 600
~/.sweeper/head/        socket, process ids and logs of this machine
~/.sweeper/head.env     where sweeps are kept, for `ray start` to hand on; no secret in it
~/.mlflow/credentials   how a driver signs in, mode 600

PostgreSQL has no port at all: it listens on a socket in a folder of mode 700 and knows its one user by
the operating system's word, so there is no password to lose. MLflow listens on 127.0.0.1 with basic
authentication. Both are reached through a tunnel.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

from filelock import FileLock, Timeout

from sweeper.cluster.supervisor import GRACE_S, Program, Supervisor, end_left_over, living, open_private
from sweeper.errors import UserError
from sweeper.patience import until
from sweeper.record.serving import server
from sweeper.running_code import python
from sweeper.state.atomic import write_bytes
from sweeper.state.processes import born, here
from trainables.files import whole_folder

PORT = 5000
DATABASES = ("sweeper", "mlflow", "mlflow_auth")
START_S = 300.0  # a first start on a machine that is busy
ADMIN = "admin"


class Head:
    """The services over the storage `shared`. `home` is the user's; the tests give another one."""

    def __init__(self, shared: Path, home: Path | None = None, *, port: int = PORT) -> None:
        self.shared = shared.resolve()
        self.home = (home or Path.home()).resolve()
        self.port = port
        self.own = self.home / ".sweeper" / "head"
        self.socket = self.own / "socket"
        self.data = self.shared / "postgres"
        self._supervisor = self.own / "supervisor.pid"

    def url(self, database: str) -> str:
        """A database of this head, for SQLAlchemy."""
        return f"postgresql+psycopg:///{database}?host={self.socket}"

    @property
    def environment(self) -> dict[str, str]:
        """Where sweeps on this cluster are kept, as the commands read it."""
        return {
            "SWEEPER_ROOT": f"{self.shared}/sweeps",
            "SWEEPER_STUDY": self.url("sweeper"),
            "SWEEPER_MLFLOW": f"http://{server.HOST}:{self.port}",
            "SWEEPER_MACHINES": f"{self.home}/ray_bootstrap_config.yaml",  # what the cluster can grow to
        }

    # --- up and down

    def up(self) -> None:
        """Make what is missing, start what does not run, wait for the database. Nothing where all is well.

        Raises:
            UserError: the storage cannot be used, PostgreSQL is not installed, or it does not start.
        """
        if os.geteuid() == 0:
            raise UserError("PostgreSQL does not run as root. Use another account: auth.ssh_user in the cluster file.")
        self._folders()
        self._keep_secrets()
        self._found_database()
        if living(self._supervisor) is None:
            with open_private(self.own / "supervisor.log") as log:
                command = python("-m", "sweeper", "head", "run", str(self.shared), "--port", str(self.port))
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        answers = [program("pg_isready"), "-q", "-h", str(self.socket)]
        if not until(lambda: subprocess.run(answers).returncode == 0, START_S):
            raise UserError(f"PostgreSQL did not start; {self.own}/postgres.log and supervisor.log say why.")
        present = self._postgres("psql", "-XAtc", "select datname from pg_database", "postgres").split()
        for name in sorted(set(DATABASES) - set(present)):
            self._postgres("createdb", name)
        lines = (f"export {name}='{value}'\n" for name, value in self.environment.items())
        write_bytes(self.home / ".sweeper" / "head.env", "".join(lines).encode())

    def down(self) -> None:
        """End the services. Their data stays."""
        end_left_over(self._supervisor, signal.SIGTERM, grace_s=3 * GRACE_S)  # it waits for two programs itself

    def run(self) -> None:
        """Be the supervisor, until TERM: one for the storage, whichever machine it is on.

        Raises:
            UserError: another head serves this storage.
        """
        with self._held():
            self._forget_another_machine()
            write_bytes(self._supervisor, f"{os.getpid()} {born(os.getpid())}".encode())
            supervisor = Supervisor(self.programs(), self.own)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: supervisor.stop())
            supervisor.run()

    def status(self) -> dict[str, bool]:
        """Which program runs now."""
        records = {name: self.own / f"{name}.pid" for name in ("supervisor", "postgres", "mlflow")}
        return {name: living(record) is not None for name, record in records.items()}

    # --- what runs

    def programs(self) -> list[Program]:
        """PostgreSQL and MLflow, as they are started; secrets are in the environment of MLflow's own process."""
        postgres = [program("postgres"), "-D", str(self.data), "-k", str(self.socket), "-c", "listen_addresses="]
        postgres += ["-c", "unix_socket_permissions=0700"]
        mlflow = server.serve_command(self.url("mlflow"), self.shared / "mlartifacts", self.port)
        environment = server.environment({}) | {
            "MLFLOW_AUTH_CONFIG_PATH": str(self.own / "basic_auth.ini"),
            "MLFLOW_AUTH_ADMIN_PASSWORD": self.secret("mlflow-admin"),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": self.secret("mlflow-key"),
        }
        return [
            Program("postgres", postgres, end=signal.SIGINT),  # 'fast': end the sessions, keep everything
            Program("mlflow", [*mlflow, "--app-name", "basic-auth"], environment),
        ]

    # --- what has to be there before

    def _folders(self) -> None:
        for folder in (self.own, self.socket, self.shared / "secrets"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.chmod(0o700)
        for folder in (self.shared / "sweeps", self.shared / "mlartifacts"):
            folder.mkdir(exist_ok=True)

    def secret(self, name: str) -> str:
        """A secret of this cluster, made when it is first asked for; its file is of mode 600."""
        path = self.shared / "secrets" / name
        if not path.exists():
            write_bytes(path, secrets.token_urlsafe(32).encode(), private=True)
        return path.read_text()

    def _keep_secrets(self) -> None:
        signed = f"[mlflow]\nmlflow_tracking_username = {ADMIN}\nmlflow_tracking_password = "
        (self.home / ".mlflow").mkdir(mode=0o700, exist_ok=True)
        credentials = f"{signed}{self.secret('mlflow-admin')}\n"
        write_bytes(self.home / ".mlflow" / "credentials", credentials.encode(), private=True)
        settings = {
            "default_permission": "NO_PERMISSIONS",
            "database_uri": self.url("mlflow_auth"),
            "admin_username": ADMIN,
            "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
        }
        lines = ["[mlflow]", *(f"{name} = {value}" for name, value in settings.items())]
        write_bytes(self.own / "basic_auth.ini", ("\n".join(lines) + "\n").encode(), private=True)

    def _found_database(self) -> None:
        """Make PostgreSQL's data where there is none, whole or not at all."""
        if (self.data / "PG_VERSION").exists():
            return
        with whole_folder(self.data) as made:
            command = [program("initdb"), "-D", str(made), "--auth-local=peer", "--auth-host=reject", "-E", "UTF8"]
            done = subprocess.run([*command, "--no-locale"], capture_output=True, text=True)
            if done.returncode:
                said = (done.stderr or done.stdout).strip()
                raise UserError(f"PostgreSQL cannot keep its data in {self.shared}: {said}")

    def _held(self) -> contextlib.AbstractContextManager[object]:
        """The storage is ours until the context ends: two servers over one database's files would ruin them."""
        try:
            return FileLock(self.shared / "head.lock").acquire(timeout=0)
        except Timeout:
            raise UserError(f"another head serves {self.shared}. End it first: 'sweeper head down' there.") from None

    def _forget_another_machine(self) -> None:
        last = self.shared / "head.last"
        if last.exists() and last.read_text() != here():  # its process numbers mean nothing on this machine
            (self.data / "postmaster.pid").unlink(missing_ok=True)
        write_bytes(last, here().encode())

    def _postgres(self, name: str, *arguments: str) -> str:
        command = [program(name), "-h", str(self.socket), *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"{name} failed: {done.stderr.strip()}")
        return done.stdout


def program(name: str) -> str:
    """A program of PostgreSQL, of the newest version where there are several.

    Raises:
        UserError: PostgreSQL is not installed.
    """
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: int(p.parts[-3]))
    found = str(places[-1]) if places else shutil.which(name)
    if found is None:
        raise UserError(f"PostgreSQL's '{name}' is not on this machine. Install it: sudo apt-get install postgresql")
    return found
