"""Each wait has an end, and grows no further than it says."""

from __future__ import annotations

import doctest
import logging
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from sweeper import patience
from sweeper.patience import insist, told_to_end, until


class Slept(list):
    """The pauses that were asked for, on a clock that only they move."""

    now_s = 0.0

    def sleep(self, pause_s: float) -> None:
        self.append(pause_s)
        self.now_s += pause_s


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> Slept:
    pauses = Slept()
    clock = SimpleNamespace(sleep=pauses.sleep, monotonic=lambda: pauses.now_s)
    monkeypatch.setattr(patience, "time", clock)  # this module's alone: threads of other tests sleep too
    return pauses


def test_what_is_true_at_once_costs_no_pause(slept: Slept) -> None:
    assert until(lambda: "yes", 0.0) == "yes"
    assert slept == []


def test_the_last_answer_is_given_when_the_time_is_over(slept: Slept) -> None:
    assert until(lambda: slept.now_s > 100, 1.0, every_s=0.5) is False
    assert slept == [0.5, 0.5]


def passing(fault: Exception) -> tuple[Exception | None, bool]:
    return (RuntimeError(f"away ({fault})."), "for ever" not in str(fault)) if isinstance(fault, OSError) else (None, 0)


def test_what_passes_is_waited_for_at_growing_distances_and_told_once(slept: Slept, caplog) -> None:
    def act() -> str:
        if len(slept) < 5:
            raise OSError("busy")
        return "done"

    with caplog.at_level(logging.WARNING):
        assert insist(act, passing, 60.0, first_s=1.0, longest_s=4.0) == "done"
    assert slept == [1.0, 2.0, 4.0, 4.0, 4.0]
    assert [record.message for record in caplog.records] == [
        "away (busy). Waiting up to 60 s for it; fits that run go on."
    ]


@pytest.mark.parametrize(
    ("fault", "within_s", "raised", "pauses"),
    [
        (OSError("busy"), 2.0, RuntimeError, [1.0]),  # the next pause, of 2 s, would not be over in time
        (OSError("busy"), 0.0, RuntimeError, []),
        (OSError("gone for ever"), 60.0, RuntimeError, []),
        (ValueError("none of this kind"), 60.0, ValueError, []),
    ],
)
def test_what_stays_is_raised(slept: Slept, fault: Exception, within_s: float, raised: type, pauses: list) -> None:
    def act() -> None:
        raise fault

    with pytest.raises(raised, match=str(fault)):
        insist(act, passing, within_s, first_s=1.0)
    assert slept == pauses


def test_its_example_is_true() -> None:
    assert doctest.testmod(patience).failed == 0


# --- being told to end

WAITING = """
import time
from sweeper.patience import told_to_end
with told_to_end():
    try:
        print("up", flush=True)
        time.sleep(60)
    finally:
        print("closed", flush=True)
print("after")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("ignored", [False, True])
def test_int_term_and_hup_end_what_waits_for_them_quietly(number: signal.Signals, ignored: bool) -> None:
    before = (lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if ignored else None
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    assert process.communicate(timeout=30) == ("closed\nafter\n", "")
    assert process.returncode == 0


def test_nohup_keeps_its_word() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with told_to_end():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            signal.raise_signal(signal.SIGTERM)
            pytest.fail("TERM did not end it")
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
