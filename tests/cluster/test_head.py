"""The services of a head: secrets that only their owner reads, a database without a port, a record with a password."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sweeper.cluster.head import Head, program
from sweeper.cluster.ray_cli import free_port
from sweeper.errors import UserError
from tests import unprivileged


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def head(tmp_path: Path) -> Head:
    made = Head(tmp_path / "shared", tmp_path / "home", port=5000)
    made.home.mkdir()
    made._folders()
    made._keep_secrets()
    return made


def test_secrets_are_made_once_and_only_their_owner_reads_them(head: Head) -> None:
    password = head.secret("mlflow-admin")
    assert len(password) >= 32
    assert head.secret("mlflow-admin") == password
    assert password != head.secret("mlflow-key")
    secret = [*(head.shared / "secrets").iterdir(), head.home / ".mlflow" / "credentials", head.own / "basic_auth.ini"]
    assert {mode(path) for path in secret} == {0o600}
    assert {mode(folder) for folder in (head.own, head.socket, head.shared / "secrets")} == {0o700}


def test_no_secret_is_on_a_command_line_or_in_what_a_job_gets(head: Head) -> None:
    programs = head.programs()
    said = " ".join([*(" ".join(p.command) for p in programs), repr(programs), *head.environment.values()])
    assert head.secret("mlflow-admin") not in said
    assert head.secret("mlflow-key") not in said


def test_the_database_has_no_port_and_the_record_listens_here_only_with_basic_authentication(head: Head) -> None:
    postgres, mlflow = (list(p.command) for p in head.programs())
    assert "listen_addresses=" in postgres
    assert mlflow[mlflow.index("--host") + 1] == "127.0.0.1"
    assert mlflow[mlflow.index("--app-name") + 1] == "basic-auth"
    assert mlflow[mlflow.index("--allowed-hosts") + 1] == "127.0.0.1:5000,localhost:5000"
    environment = head.programs()[1].environment
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert "default_permission = NO_PERMISSIONS" in (head.own / "basic_auth.ini").read_text()


def test_what_jobs_are_told_is_where_sweeps_are_kept(head: Head) -> None:
    assert head.environment == {
        "SWEEPER_ROOT": f"{head.shared}/sweeps",
        "SWEEPER_STUDY": f"postgresql+psycopg:///sweeper?host={head.home}/.sweeper/head/socket",
        "SWEEPER_MLFLOW": "http://127.0.0.1:5000",
        "SWEEPER_MACHINES": f"{head.home}/ray_bootstrap_config.yaml",
    }


def test_a_second_head_over_the_same_storage_is_refused(head: Head, tmp_path: Path) -> None:
    other = Head(head.shared, tmp_path / "other")
    with head._held(), pytest.raises(UserError, match="another head serves"):
        other._held()
    with other._held():
        pass  # the storage is free again


# --- the real servers, as a user that is not root


def until(good: Callable[[], object], patience_s: float = 240.0) -> None:
    end = time.monotonic() + patience_s
    while not good():
        assert time.monotonic() < end
        time.sleep(0.5)


def answer(port: int, path: str = "/", **headers: str) -> int:
    """The status of MLflow's answer; 0 where none came."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        return urllib.request.urlopen(request, timeout=30).status
    except urllib.error.HTTPError as refusal:
        return refusal.code
    except OSError:
        return 0


class Served:
    """`sweeper head ...` as another user (PostgreSQL refuses root), in folders of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.shared, self.home, self.port = folder / "shared", folder / "home", port
        for made in (self.shared, self.home):
            made.mkdir()
        for path in (folder, self.shared, self.home) if unprivileged.ROOT else ():
            shutil.chown(path, unprivileged.USER)

    def head(self, command: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "sweeper", "head", command, str(self.shared), "--port", str(self.port)]
        return self.sh(shlex.join(words))

    def sh(self, command: str) -> subprocess.CompletedProcess[str]:
        environment = {"HOME": str(self.home), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
        folder = Path(__file__).parents[2]
        words = unprivileged.command(command)
        return subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    folder = Path(tempfile.mkdtemp(prefix="sweeper-head-"))  # pytest's own folders are closed to other users
    folder.chmod(0o755)
    made = Served(folder, free_port())
    done = made.head("up")
    assert done.returncode == 0, done.stderr
    yield made
    made.head("down")
    shutil.rmtree(folder)


@pytest.mark.slow
def test_mlflow_asks_for_the_password_and_answers_to_its_own_name_only(served: Served) -> None:
    until(lambda: answer(served.port) == 401)
    password = (served.shared / "secrets" / "mlflow-admin").read_text()
    right = {"Authorization": f"Basic {b64encode(f'admin:{password}'.encode()).decode()}"}
    wrong = {"Authorization": f"Basic {b64encode(b'admin:password1234').decode()}"}
    assert answer(served.port, **right) == 200
    assert answer(served.port, **wrong) == 401
    assert answer(served.port, Host="evil.example", **right) == 403
    assert answer(served.port, Host="10.evil.com", **right) == 403


@pytest.mark.slow
def test_a_server_that_is_killed_comes_back_with_all_it_knew(served: Served) -> None:
    record = served.home / ".sweeper" / "head" / "postgres.pid"
    ask = f"psql -h {served.home}/.sweeper/head/socket -XtAc"
    ask = ask.replace("psql", program("psql"), 1)
    made = served.sh(f"{ask} 'create table kept as select 7 as number' sweeper")
    assert made.returncode == 0, made.stderr
    first = int(record.read_text().split()[0])
    os.kill(first, 9)
    until(lambda: record.exists() and int(record.read_text().split()[0]) != first)
    until(lambda: served.sh(f"{ask} 'select number from kept' sweeper").stdout.strip() == "7")


@pytest.mark.slow
def test_up_is_idempotent_and_down_ends_everything(served: Served) -> None:
    before = {path.name: path.read_text() for path in (served.home / ".sweeper" / "head").glob("*.pid")}
    assert served.head("up").returncode == 0
    assert {path.name: path.read_text() for path in (served.home / ".sweeper" / "head").glob("*.pid")} == before
    assert served.head("status").returncode == 0
    assert served.head("down").returncode == 0
    assert served.head("status").returncode == 2
    assert answer(served.port) == 0
