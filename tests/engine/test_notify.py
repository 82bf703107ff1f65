"""Somebody is told how a sweep ended; whatever goes wrong in telling is a note, and shows no address."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sweeper.engine.telling import notify
from sweeper.errors import Paused
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.state.sweep_folder import SweepFolder
from tests.faults import tiny
from tests.faults.tiny import Tiny


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.make_tiny(monkeypatch.setattr, record=tiny.Mute)
    monkeypatch.setattr(notify, "PAUSE_S", 0.01)


class Hook(ThreadingHTTPServer):
    """A webhook here: `answers` are given in turn, then 200; a number of seconds is waited, as a float."""

    daemon_threads = True

    def __init__(self) -> None:
        self.got: list[dict] = []
        self.answers: list[int | float] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hooks/s3cr3t-w0rd"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        hook: Hook = self.server
        hook.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        answer = hook.answers.pop(0) if hook.answers else 200
        if isinstance(answer, float):
            time.sleep(answer)
            answer = 200
        self.send_response(answer)
        if answer == 302:
            self.send_header("Location", hook.url)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    server = Hook()
    monkeypatch.setenv("MY_HOOK", server.url)
    yield server
    server.shutdown()
    server.server_close()


HOOKED = "notify: {webhook: {env: MY_HOOK}, timeout_s: 1}\n"


def test_a_finished_sweep_is_posted_with_its_front_and_a_sentence(tmp_path: Path, hook: Hook) -> None:
    outcome = tiny.begin(tmp_path, more=HOOKED)
    (told,) = hook.got
    assert (outcome.exit_code, outcome.notes) == (0, [])
    assert (told["event"], told["sweep"], told["exit_code"], told["counts"]["complete"]) == ("finished", "tiny", 0, 3)
    assert [row["number"] for row in told["front"]] == [trial.number for trial in outcome.results.members]
    assert told["text"] == told["content"]
    assert told["text"].startswith("finished: tiny: finished, 3/3 trials")
    assert hook.url not in (tmp_path / "tiny" / "spec.yaml").read_text()


def test_a_pause_and_a_fault_are_told_and_raised_as_ever(
    tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(Tiny):
        def train_epoch(self) -> dict[str, float]:
            raise Paused("the disk is full. Make room, then resume.")

    tiny.make_tiny(monkeypatch.setattr, tuning=Stuck, record=tiny.Mute)
    assert tiny.begin(tmp_path, more=HOOKED).exit_code == 3
    assert (hook.got[0]["event"], hook.got[0]["exit_code"]) == ("paused", 3)
    assert "the disk is full" in hook.got[0]["why"]

    def broken(queue: object, folder: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(tiny, "work_off", broken)
    with pytest.raises(ZeroDivisionError):
        tiny.go_on(tmp_path)
    assert (hook.got[1]["event"], hook.got[1]["exit_code"], hook.got[1]["why"]) == ("failed", 1, "ours")


def test_a_sweep_that_its_stop_rules_ended_has_failed_and_one_event_can_be_asked_for_alone(
    tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = "notify: {webhook: {env: MY_HOOK}, on: [failed]}\n"
    tiny.begin(tmp_path / "good", more=only)
    assert hook.got == []

    class Raising(Tiny):
        def train_epoch(self) -> dict[str, float]:
            raise RuntimeError("no")

    tiny.make_tiny(monkeypatch.setattr, tuning=Raising, record=tiny.Mute)
    (tmp_path / "bad").mkdir()
    tiny.begin(tmp_path / "bad", trials=8, more=only)
    assert [told["event"] for told in hook.got] == ["failed"]


@pytest.mark.parametrize(
    ("answers", "asked", "problem"),
    [
        ([500, 503], 3, None),
        ([429], 2, None),
        ([500, 500, 500], 3, "it answered 500"),
        ([404], 1, "it answered 404"),
        ([302], 1, "it answered 302"),
        ([5.0], 1, "no answer within 1 s"),
    ],
)
def test_a_webhook_is_tried_again_where_that_may_help_and_its_failure_is_a_note(
    answers: list[int | float], asked: int, problem: str | None, hook: Hook, tmp_path: Path
) -> None:
    hook.answers = answers
    began = time.monotonic()
    notes = notify.tell(tiny.spec(tmp_path, more=HOOKED), "finished", {"text": "done"})
    assert len(hook.got) == asked
    assert time.monotonic() - began < 4
    assert [problem in note.lower() for note in notes] == ([True] if problem else [])
    assert "s3cr3t" not in "".join(notes)


def test_a_webhook_that_is_away_or_not_set_is_a_note_without_its_address(
    tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MY_HOOK", f"http://127.0.0.1:{free.getsockname()[1]}/s3cr3t")
    outcome = tiny.begin(tmp_path, more=HOOKED)
    assert outcome.exit_code == 0
    assert outcome.notes == ["notify: the webhook was not told of 'finished': Connection refused."]
    monkeypatch.delenv("MY_HOOK")
    (note,) = notify.tell(tiny.spec(tmp_path, more=HOOKED), "finished", {"text": "done"})
    assert "the environment variable MY_HOOK is not set" in note


def test_a_peer_that_sends_a_byte_now_and_then_does_not_hold_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        peer, _ = listening.accept()
        with contextlib.suppress(OSError):
            for _ in range(100):
                peer.send(b"x")
                time.sleep(0.2)

    threading.Thread(target=drip, daemon=True).start()
    monkeypatch.setenv("MY_HOOK", f"http://127.0.0.1:{listening.getsockname()[1]}/")
    began = time.monotonic()
    (note,) = notify.tell(tiny.spec(tmp_path, more=HOOKED), "finished", {"text": "done"})
    assert time.monotonic() - began < 4
    assert "no answer within 3 s" in note
    listening.close()


def commanded(tmp_path: Path, program: str, timeout_s: float = 20) -> str:
    words = json.dumps([sys.executable, "-c", program, str(tmp_path / "out")])
    return f"notify: {{command: {words}, timeout_s: {timeout_s}}}\n"


def test_a_command_gets_the_facts_as_json_and_in_its_environment(tmp_path: Path) -> None:
    program = "import os, sys; open(sys.argv[1], 'w').write(os.environ['SWEEPER_EVENT'] + sys.stdin.read())"
    outcome = tiny.begin(tmp_path, more=commanded(tmp_path, program))
    assert outcome.notes == []
    text = (tmp_path / "out").read_text()
    assert text.startswith("finished{")
    assert json.loads(text.removeprefix("finished"))["sweep"] == "tiny"


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("raise SystemExit(7)", "it ended with exit code 7"),
        ("import time; time.sleep(60)", "it took longer than 1 s and was ended"),
    ],
)
def test_a_command_that_fails_or_hangs_is_a_note(tmp_path: Path, program: str, problem: str) -> None:
    spec = tiny.spec(tmp_path, more=commanded(tmp_path, program, timeout_s=1))
    assert notify.tell(spec, "paused", {"text": ""}) == [f"notify: the command was not told of 'paused': {problem}."]


def test_no_shell_reads_a_command_and_a_program_that_is_not_there_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text("import sys; open(sys.argv[1], 'w').write(repr(sys.argv[2:]))")
    line = f"{sys.executable} {tmp_path}/told.py {tmp_path}/out; touch $HOME `id`"
    notify.tell(tiny.spec(tmp_path, more=f"notify: {{command: '{line}'}}\n"), "finished", {"text": ""})
    assert (tmp_path / "out;").read_text() == "['touch', '$HOME', '`id`']"
    absent = tiny.spec(tmp_path, more="notify: {command: nobody-has-this}\n")
    assert "nobody-has-this: No such file or directory" in notify.tell(absent, "finished", {"text": ""})[0]


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.slack.com/services/T0/B0/s3cr3t",
        "https://discord.com/api/webhooks/1/s3cr3t",
        "https://me:s3cr3t@host/",
        "https://host/x?token=s3cr3t",
        "https://host/hooks/s3cr3t4x7m1w9yj3f8zk2qp",
        "ftp://host/s3cr3t",
        "http://[s3cr3t",
    ],
)
def test_a_url_with_a_secret_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(loading.Faults, match=r"sweep\.yaml:2: notify\.webhook .*\{?env") as refused:
        loading.parse(f"name: a\nnotify: {{webhook: '{url}'}}\n")
    assert "s3cr3t" not in str(refused.value)
    with pytest.raises(loading.Faults, match=r"notify\.webhook") as refused:
        loading.parse(f"name: a\nnotify: {{webhook: {{env: '{url}'}}}}\n")
    assert "s3cr3t" not in str(refused.value)


def test_who_is_told_may_change_in_a_sweep(tmp_path: Path, hook: Hook) -> None:
    tiny.begin(tmp_path)
    tiny.go_on(tmp_path, wanted=tiny.spec(tmp_path, trials=4, more=HOOKED))
    assert [told["event"] for told in hook.got] == ["finished"]
    assert Results.open(SweepFolder(tmp_path / "tiny")).spec.notify is not None
