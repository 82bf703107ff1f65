"""PostgreSQL as the study's database: restarted in the middle, away for good, and asking for a password."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from optuna.exceptions import StorageInternalError

from sweeper.engine import attempt, driver
from sweeper.errors import Paused, UserError
from sweeper.screen import live
from sweeper.spec import loading
from sweeper.state import database, opening
from sweeper.state.lease import Lease
from sweeper.state.study import Study
from sweeper.state.sweep_folder import SweepFolder
from tests.faults.audit import audit
from tests.faults.postgres import PASSWORD, Server, serving
from tests.faults.pretend import Pretend

SPEC = "name: birds\nspace: {method: [lora, fairlora]}\nsearch: {sampler: random, trials: 12, baselines: [lora]}\n"
ROWS = [{"accuracy": 0.9, "delta_f1": 0.1}]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One that these tests may stop."""
    with serving() as made:
        yield made


def play(study: Study) -> list[dict]:
    """Ask and tell to the end of the budget; the points in order."""
    found = []
    while (proposal := study.propose()) is not None:
        study.complete(proposal.number, ROWS)
        found.append(dict(proposal.params))
    return found


def test_a_study_whose_server_crashes_again_and_again_proposes_what_an_unbroken_one_does(
    server: Server, tmp_path: Path
) -> None:
    spec = loading.parse(SPEC)
    unbroken = play(Study(spec, f"sqlite:///{tmp_path / 'study.db'}", create=True))
    study, over = Study(spec, server.url("crashing"), create=True), threading.Event()

    def crash() -> None:
        for _ in range(4):
            time.sleep(0.3)
            server.stop("immediate")
            time.sleep(0.2)
            server.start()
        over.set()

    crashes = threading.Thread(target=crash)
    crashes.start()
    found = play(study)
    crashes.join()
    assert over.is_set()
    assert found == unbroken
    assert [trial.state.value for trial in study.trials()] == ["complete"] * 12, "no trial was asked for twice"


def test_a_connection_that_is_lost_inside_optunas_own_second_try_is_waited_for_too() -> None:
    tries = iter(range(2))

    def another_query() -> None:  # where the first one has too many parameters, Optuna thinks
        raise sa.exc.PendingRollbackError("Can't reconnect until invalid transaction is rolled back.")

    def read() -> str:
        if next(tries):
            return "read"
        try:
            try:
                raise sa.exc.OperationalError("SELECT", {}, Exception("server closed the connection unexpectedly"))
            except sa.exc.OperationalError:
                another_query()
        except sa.exc.SQLAlchemyError as fault:
            raise StorageInternalError("An exception is raised during the commit.") from fault

    def understood() -> str:
        with database.reading("postgresql://127.0.0.1/a"):
            return read()

    assert database.wait("postgresql://127.0.0.1/a", understood) == "read"


def test_a_proposal_whose_reply_was_lost_is_given_and_not_drawn_again(tmp_path: Path, monkeypatch) -> None:
    spec, url = loading.parse(SPEC), f"sqlite:///{tmp_path / 'study.db'}"
    study, lost = Study(spec, url, create=True), []
    ask = study._study.ask

    def asks(*args: object) -> object:
        made = ask(*args)
        if len(lost) < 3:
            lost.append(made.number)
            raise sa.exc.OperationalError("INSERT", {}, Exception("database is locked"))
        return made

    monkeypatch.setattr(study._study, "ask", asks)
    assert [proposal.number for proposal in (study.propose(), study.propose())] == [0, 1]
    assert lost == [0, 1], "each was asked for once, and its reply was lost"
    assert len(study.trials()) == 2


def test_a_lease_outlives_a_restart_of_its_server(server: Server) -> None:
    lease = Lease(server.url("lease"), "birds")
    lease.acquire()
    server.stop()
    server.start()
    assert lease.held()
    lease.release()


def test_a_server_that_stays_away_pauses_the_sweep_with_one_sentence(server: Server, monkeypatch) -> None:
    url = server.url("away")
    study, lease = Study(loading.parse(SPEC), url, create=True), Lease(url, "birds")
    lease.acquire()
    study.propose()
    monkeypatch.setattr(database, "PATIENCE_S", 1.0)
    server.stop()
    began = time.monotonic()
    try:
        with pytest.raises(Paused, match=r"database 'away' on 127\.0\.0\.1:\d+ does not answer .* then resume"):
            study.propose()
        assert 0.5 < time.monotonic() - began < 30
        lease.release()  # cannot be given back, and says so without an error
    finally:
        server.start()
    assert [trial.number for trial in study.trials()] == [0]


def test_a_server_that_was_never_there_is_told_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(Paused, match=r"'birds' on 127\.0\.0\.1:9 does not answer .*refused"):
        Lease("postgresql+psycopg://me@127.0.0.1:9/birds", "birds")
    assert time.monotonic() - began < 30


def test_a_wrong_or_missing_password_is_told_at_once_and_never_shown(
    server: Server, tmp_path: Path, monkeypatch
) -> None:
    url = server.url("secret")
    for text in (f"127.0.0.1:{server.port}:*:sweeper:{PASSWORD}-not\n", ""):
        wrong = tmp_path / "pgpass"
        wrong.write_text(text)
        wrong.chmod(0o600)
        monkeypatch.setenv("PGPASSFILE", str(wrong))
        with pytest.raises(Paused, match="password") as told:
            Study(loading.parse(SPEC), url, create=True)
        assert PASSWORD not in str(told.value)


def test_the_password_may_come_from_the_environment_too(server: Server, monkeypatch) -> None:
    monkeypatch.delenv("PGPASSFILE")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert Study(loading.parse(SPEC), server.url("environment"), create=True).trials() == []


@pytest.mark.parametrize("url", ["postgresql://me:{}@host/db", "postgresql://host/db?user=me&password={}"])
def test_a_password_in_the_spec_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UserError, match=r"use ~/\.pgpass or the environment") as told:
        loading.parse(f"name: birds\nstorage: {{study: '{url.format(PASSWORD)}'}}\n")
    assert PASSWORD not in str(told.value)


def test_a_url_without_a_driver_means_the_one_that_is_installed(tmp_path: Path) -> None:
    spec = loading.parse(
        "name: birds\nstorage: {study: 'postgresql://me@host/db', mlflow: 'postgresql://me@host/runs'}\n"
    )
    assert opening.study_url(spec, SweepFolder(tmp_path)) == "postgresql+psycopg://me@host/db"
    assert opening.record_uri(spec, tmp_path) == "postgresql+psycopg://me@host/runs"


def test_two_drivers_that_begin_together_in_an_empty_database_are_one_holder_and_one_refused(server: Server) -> None:
    url = server.url("race")
    code = "import time; from sweeper.state.lease import Lease; "
    code += f"print(Lease({url!r}, 'birds').acquire()); time.sleep(3)"
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=120) for process in both]
    assert sorted(out for out, _ in told) == ["", "1\n"], told
    assert "is being driven by process" in "".join(err for _, err in told)


SWEEP = """
name: birds
space: {{method: [lora, fairlora], rank: [4, 8, 16, 32], learning_rate: {{low: 1e-3, high: 1e-2}}, epochs: 3}}
search: {{sampler: random, trials: 4, seeds: 2}}
storage: {{root: "{root}", study: "{study}", mlflow: "{record}"}}
"""


def test_a_sweep_whose_server_is_restarted_in_the_middle_ends_as_if_nothing_had_been(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "RECORD_PATIENCE_S", 200.0)  # MLflow makes its tables first
    study, record = server.url("sweep-study"), server.url("sweep-record")
    left = [5]

    def restart(instant: str) -> None:
        left[0] -= instant == "tell"
        if left[0] == 0:
            left[0] = -1
            server.stop("immediate")
            threading.Timer(1.0, server.start).start()

    spec = loading.parse(SWEEP.format(root=tmp_path, study=study, record=record))
    outcome = driver.run(spec, live.Lines(spec.name), executor=Pretend(tmp_path / "ledger", at=restart).executor)
    assert (outcome.exit_code, outcome.notes) == (0, [])
    found = audit(tmp_path / "birds", tmp_path / "ledger", budget=4, seeds=(0, 1), study=study, record=record)
    assert found.faults == []
    kept = b"".join(path.read_bytes() for path in (tmp_path / "birds").rglob("*") if path.is_file())
    assert PASSWORD.encode() not in kept
