"""What is told while a sweep runs, by a clock that the test moves."""

from __future__ import annotations

import io
import types
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from sweeper.results.progress import Progress, RunningFit
from sweeper.results.results import Results
from sweeper.screen import live
from sweeper.screen.live import Lines, LiveScreen, Steps, waiting
from sweeper.screen.picture import picture, trial_line
from sweeper.screen.tables import front_table, shortened
from sweeper.state.sweep_folder import SweepFolder
from tests import finished

FITS = (
    RunningFit(4, 0, 3, 8, True, {"accuracy": 0.7, "delta_f1": 0.25}, 4.2),
    RunningFit(4, 1, 0, 8, True, {}, 1.0),
    RunningFit(5, 0, 0, 2, begun=False),
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A sweep of 7 trials of 2 seeds, as if three of its fits still ran."""
    root = tmp_path_factory.mktemp("sweeps")
    finished.sweep(root / "birds")
    progress = Progress("running", 3, 100.0, 222.0, holder="process 7 on here", fits=FITS, fits_ended=9, fits_total=14)
    return replace(Results.open(SweepFolder(root / "birds")), progress=progress)


def drawn(results: Results, width: int, height: int, said: str = "") -> list[str]:
    console = Console(width=width, height=height, record=True, file=io.StringIO(), color_system=None)
    console.print(picture(results, width, height, said))
    return console.export_text().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 40), (140, 40), (100, 60), (60, 30)])
def test_the_live_area_fits_the_terminal_and_no_word_is_cut(results: Results, width: int, height: int) -> None:
    lines = drawn(results, width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "…" not in text
    assert "9/14 fits" in text
    assert "1 min 40 s gone, about 3 min 42 s left" in text
    assert "hypervolume" in lines[0]


def test_running_fits_have_their_epoch_and_last_numbers(results: Results) -> None:
    first, second, third = (line for line in drawn(results, 80, 40) if line.startswith("trial "))
    assert first.split()[-3:] == ["3/8", "0.700", "0.250"]
    assert second.split()[-1] == "0/8"
    assert third.split()[-1] == "starting"


def test_the_chart_has_the_front_its_knee_and_the_baselines_on_axes_with_names(results: Results) -> None:
    lines = drawn(results, 80, 40)
    chart = lines[lines.index("accuracy (higher is better)") :]
    plotted = "".join(line.partition("|")[2] for line in chart[:13] if "|" in line)
    assert plotted.count("K") == 1  # trial 2
    assert plotted.count("o") == 2  # trials 3 and 5
    assert plotted.count("L") == plotted.count("F") == 1
    assert any("delta F1 (lower is better)" in line for line in chart)
    assert any("K knee" in line and "L baseline lora" in line for line in chart)


def test_the_table_of_a_wide_terminal_stands_beside_the_chart(results: Results) -> None:
    assert any("|" in line and "fairlora" in line for line in drawn(results, 140, 40))


def test_a_configuration_is_shortened_by_whole_parameters() -> None:
    label = "fairlora λ=0.31 r=16 lr=0.002"
    assert shortened(label, 40) == label
    assert shortened(label, 26) == "fairlora λ=0.31 r=16 +1"
    assert shortened(label, 12) == "fairlora +3"
    assert shortened(label, 3) == "fairlora"


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_table_of_the_front_is_never_wider_than_the_terminal_and_cuts_nothing(results: Results, width: int) -> None:
    held_out = {number: {"accuracy": (0.8, 0.01), "delta_f1": (0.2, 0.01)} for number in results.front}
    console = Console(width=width, record=True, file=io.StringIO())
    rows = [row | {"label": row["label"] + " lr=0.00123 wd=0.01"} for row in results.front_rows]
    console.print(front_table(rows, "Pareto front", held_out if width > 60 else None, width=width))
    text = console.export_text()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert "configuration" in text
    assert " +" in text or "wd=0.01" in text


def test_a_trial_that_has_ended_is_one_line_with_its_numbers(results: Results) -> None:
    trial = results.by_number[3]
    numbers = "accuracy 0.900 ± 0.000  delta_f1 0.173 ± 0.021"
    assert trial_line(trial, 100, on_front=True).plain == f"o trial 3 complete: {trial.label}  {numbers}"
    assert trial_line(trial, 80).plain == f"  trial 3 {trial.label}  {numbers}"
    assert trial_line(trial, 70).plain == f"  trial 3 {trial.label}  accuracy 0.900  delta_f1 0.173"
    assert trial_line(trial, 60).plain == "  trial 3 fairlora +2  accuracy 0.900  delta_f1 0.173"
    assert "diverged" in trial_line(results.by_number[6], 80).plain


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Heard(Lines):
    """Lines that are kept."""

    def __init__(self, clock: Clock) -> None:
        self.lines: list[str] = []
        super().__init__("birds", clock)

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_steps_are_told_with_their_seconds() -> None:
    clock = Clock()
    steps = Steps(clock)
    steps.begin("Ray")
    clock.now_s = 2.0
    steps.begin("data")
    clock.now_s = 6.0
    assert steps.going_on == "Ray ... 6 s, data ... 4 s"
    steps.end("Ray")
    steps.end("data")
    assert str(steps) == "ready after 6 s: Ray 6 s, data 4 s"


def test_a_log_says_at_once_what_is_started_and_then_how_it_goes(results: Results) -> None:
    clock = Clock()
    heard = Heard(clock)
    assert heard.lines == ["birds: starting"]
    with heard.step("Ray"):
        clock.now_s = 30.0
        assert heard.heartbeat() == "birds: Ray ... 30 s"
    assert heard.lines[-1] == "Ray: ready after 30 s"
    waits = replace(results, progress=replace(results.progress, fits=FITS[2:]))
    heard.begun(lambda: waits, ["the data"])
    clock.now_s = 35.0
    assert "9/14 fits, first workers ... 5 s" in heard.heartbeat()
    heard.begun(lambda: results, [])
    assert "9/14 fits, epoch 3/8 and 0/8" in heard.heartbeat()
    assert "1 min 40 s gone, about 3 min 42 s left" in heard.heartbeat()


def test_a_heart_beats_each_half_minute_and_after_ten_minutes_each_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, waited = Clock(), []
    heard = Heard(clock)

    class Inbox:
        def get(self, timeout: float) -> None:
            waited.append(timeout)
            clock.now_s += timeout
            if clock.now_s > 720:
                return
            raise live.queue.Empty

    heard._inbox = Inbox()  # type: ignore[assignment]
    heard._work()
    assert waited == [30.0] * 20 + [60.0] * 3
    assert len(heard.lines) == 1 + 22


@pytest.mark.parametrize(
    ("fits", "said"),
    [
        (FITS, "pausing: 2 fits finish their epochs, or keep them, about 4 s; again to stop at once"),
        (FITS[1:2], "pausing: 1 fit finishes its epoch, or keeps it, about 1 s; again to stop at once"),
        (FITS[2:], "pausing; again to stop at once"),
    ],
)
def test_a_pause_says_what_it_waits_for(results: Results, fits: Sequence[RunningFit], said: str) -> None:
    assert waiting(replace(results, progress=replace(results.progress, fits=fits))) == said


def test_an_interrupt_is_answered_at_once(results: Results) -> None:
    heard = Heard(Clock())
    heard.begun(lambda: results, [])
    with heard:
        heard.interrupted()
    assert heard.lines[-1].startswith("pausing: 2 fits finish their epochs, or keep them, about 4 s")
    early = Heard(Clock())
    with early.step("Ray"), early:
        early.interrupted()
    assert early.lines[-2] == "birds: Ray ... 0 s, pausing when that is ready; again to stop at once"


def test_a_terminal_shows_ended_trials_above_what_runs_and_leaves_nothing_behind(results: Results) -> None:
    console = Console(width=80, height=40, file=io.StringIO(), force_terminal=True, record=True)
    screen = LiveScreen("birds", console, Clock())
    with screen:
        screen.begun(lambda: results, ["the data"])
        screen.told(results.by_number[3])
    text = console.export_text()
    assert "ready after 0 s" in text
    assert "o trial 3 " in text
    assert text.splitlines()[0] == "birds: starting"
    assert "9/14 fits" in "\n".join(_plain(screen.drawn()))


def _plain(renderable: object) -> list[str]:
    console = Console(width=80, height=40, file=io.StringIO(), record=True)
    console.print(renderable)
    return console.export_text().splitlines()


def test_whoever_follows_off_a_terminal_reads_a_line_when_a_trial_ends_and_each_half_minute(
    results: Results, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()

    def sleep(seconds: float) -> None:
        clock.now_s += seconds

    monkeypatch.setattr(live, "time", types.SimpleNamespace(sleep=sleep, monotonic=clock))  # other threads have theirs

    def look() -> Results:
        return results if clock.now_s < 61 else replace(results, progress=Progress())

    assert live.follow(look).state == "finished"
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3  # at 0, 30 and 60 s
    assert "driven by process 7 on here" in lines[0]


def test_the_screen_is_light_enough_to_say_something_at_once(tmp_path: Path) -> None:
    import subprocess
    import sys

    program = "import sys, sweeper.screen.live; print(*sorted({'pandas', 'numpy', 'ray', 'optuna'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == ""
