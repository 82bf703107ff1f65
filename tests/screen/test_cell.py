"""The screen in a notebook: cells in their order, with IPython's display replaced by one that keeps what is shown."""

from __future__ import annotations

import contextlib
import re
import sys
import time
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeper import Sweep
from sweeper.errors import UserError
from sweeper.results import watching
from sweeper.results.progress import Progress
from sweeper.results.results import Results
from sweeper.screen import cell, live
from sweeper.state.sweep_folder import SweepFolder
from tests import finished
from tests.faults import tiny


class Displays:
    """What IPython's `display` was given: one list for each display, the newest last."""

    def __init__(self) -> None:
        self.pages: list[list[dict[str, str]]] = []

    def display(self, shown: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        assert raw
        assert display_id
        pages = [shown]
        self.pages.append(pages)
        return types.SimpleNamespace(update=lambda shown, raw: pages.append(shown))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Displays:
    """As if a kernel ran this process."""
    kept = Displays()
    module = types.ModuleType("IPython")
    module.get_ipython = lambda: types.SimpleNamespace(kernel="a kernel")  # type: ignore[attr-defined]
    module.display = types.SimpleNamespace(display=kept.display)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    return kept


def test_run_resume_and_load_show_one_display_that_is_drawn_anew(
    tmp_path: Path, kernel: Displays, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.make_tiny(monkeypatch.setattr, record=tiny.Mute)
    from sweeper.engine import driver

    run, resume = driver.run, driver.resume
    monkeypatch.setattr(driver, "run", lambda *given: run(*given, executor=tiny.in_process))
    monkeypatch.setattr(driver, "resume", lambda *given, **more: resume(*given, executor=tiny.in_process, **more))
    monkeypatch.setattr(live, "DRAWN_S", 0.01)
    sweep = Sweep.run(tiny.spec(tmp_path), tmp_path)
    assert len(sweep.trials()) == 3
    (pages,) = kernel.pages
    last = pages[-1]
    assert all(f"trial {number} complete" in last["text/plain"] for number in range(3))
    assert "3 of 3 trials" in last["text/plain"]
    assert last["text/html"].startswith("<pre")
    more = sweep.resume(trials=4)
    assert len(more.trials()) == 4
    assert len(kernel.pages) == 2
    assert Sweep.load("tiny", tmp_path).recommend() is not None


def test_watch_draws_what_another_process_does_until_it_ends(
    tmp_path: Path, kernel: Displays, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished.sweep(tmp_path / "birds")
    found = Results.open(SweepFolder(tmp_path / "birds"))
    running = replace(found, progress=Progress("running", holder="process 7 on here", fits_ended=3, fits_total=14))
    moments = iter([running, running, found])
    looking = contextlib.nullcontext(lambda: next(moments))
    monkeypatch.setattr(watching, "watched", lambda folder: looking)
    monkeypatch.setattr(live, "time", types.SimpleNamespace(sleep=lambda seconds: None, monotonic=time.monotonic))
    assert len(Sweep.load("birds", tmp_path).watch().trials()) == 7
    (pages,) = kernel.pages
    assert "3/14 fits" in pages[-1]["text/plain"]


def test_without_a_kernel_there_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert type(cell.listener("birds")) is live.Lines
    assert capsys.readouterr().err == "birds: starting\n"


def test_what_stands_in_a_sweep_comes_out_as_text(kernel: Displays) -> None:
    with cell.CellScreen("<b>birds") as screen:
        screen.say("<script>alert(1)</script>")
    html = kernel.pages[-1][-1]["text/html"]
    assert "<script" not in html
    assert "&lt;b&gt;birds" in html


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    root = tmp_path_factory.mktemp("sweeps")
    finished.sweep(root / "birds")
    return Sweep.load("birds", root)


def test_a_recommendation_is_shown_with_its_numbers_and_their_intervals(sweep: Sweep) -> None:
    html = sweep.recommend()._repr_html_()
    assert "<strong>#2 fairlora" in html
    assert re.search(r"accuracy</td><td>0\.875</td><td>0\.\d{3} to [01]\.\d{3}", html.replace(' class="text"', ""))
    assert "true front" in html
    assert "<style" not in html


def test_frames_are_shown_small_and_hold_everything(sweep: Sweep) -> None:
    trials = sweep.trials()
    html = trials._repr_html_()
    heads = re.findall(r"<th[^>]*>([^<]+)</th>", html)
    assert heads == ["number", "label", "state", "accuracy", "delta_f1"]
    assert "0.900 ± 0.000" in html
    assert f"7 of 7 rows, 5 of {len(trials.columns) + 1} columns" in html
    assert len(trials.columns) > 50
    groups = sweep.groups()._repr_html_()
    assert groups.count("<tr>") == 1 + 20
    assert "20 of 96 rows" in groups
    assert type(trials.head(3)).__name__ == "DataFrame"


def test_a_table_escapes_what_is_in_it(sweep: Sweep) -> None:
    trials = sweep.trials()
    trials["label"] = "<img src=x>"
    assert "<img" not in trials._repr_html_()


def test_a_spec_may_be_a_preset_a_file_or_what_it_would_say(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lamda"):
        Sweep.run({"name": "a", "space": {"lamda": 1}}, tmp_path)
    with pytest.raises(UserError, match=r"nowhere\.yaml"):
        Sweep.run("nowhere.yaml", tmp_path)
