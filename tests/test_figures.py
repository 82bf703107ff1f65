"""Figures: numbers that can be checked in one's head, and ink that needs no network."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from dashboards import figures
from dashboards.labels import CHARACTER, LINE, Box, place
from dashboards.numbers import CANVAS
from dashboards.style import looks, readable

SENSES = {"accuracy": "max", "delta_f1": "min"}


def row(number: int, accuracy: float, delta_f1: float, **over: Any) -> dict[str, Any]:
    return {
        "number": number, "state": "complete", "label": f"fairlora λ=0.1 r={number}", "method": "fairlora",
        "lambda": 0.1, "rank": number, "accuracy": accuracy, "accuracy_std": 0.01, "delta_f1": delta_f1,
        "delta_f1_std": 0.02, "feasible": True, "baseline": None, "on_front": False,
    } | over  # fmt: skip


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(rows)


def five() -> pd.DataFrame:
    """Two on the front, one dominated, one baseline, one that breaks a constraint, one failed."""
    return table(
        row(0, 0.8, 0.3, baseline="lora", method="lora", label="lora r=8"),
        row(1, 0.9, 0.2, on_front=True),
        row(2, 0.7, 0.1, on_front=True),
        row(3, 0.6, 0.2),
        row(4, 0.95, 0.05, feasible=False),
        row(5, math.nan, math.nan, state="failed"),
    )


def many(n: int) -> pd.DataFrame:
    """`n` trials along a trade-off, crowded at its good end, with a third of them on the front."""
    rng = np.random.default_rng(n)
    t = rng.uniform(size=n) ** 0.5
    points = zip(0.97 - 0.1 * (1 - t) ** 2, 0.05 + 0.2 * t, strict=True)
    rows = [row(i, x - 0.01 * (i % 3), y, on_front=i % 3 == 0) for i, (x, y) in enumerate(points)]
    rows[1] |= {"baseline": "lora", "method": "lora", "label": "lora r=8"}
    return table(*rows)


def test_each_trial_is_in_the_list_where_it_belongs() -> None:
    numbers = figures.front_numbers(five(), SENSES)
    assert [p.number for p in numbers.front] == [2, 1]  # by accuracy
    assert [p.number for p in numbers.dominated] == [3]
    assert [p.number for p in numbers.baselines] == [0]
    assert [p.number for p in numbers.infeasible] == [4]
    assert sorted(p.number for p in numbers.points) == [0, 1, 2, 3, 4]


def test_a_baseline_on_the_front_is_drawn_once_and_keeps_its_symbol() -> None:
    numbers = figures.front_numbers(table(row(0, 0.9, 0.2, baseline="lora", on_front=True), row(1, 0.8, 0.3)), SENSES)
    assert [p.number for p in numbers.points] == [1, 0]
    assert [p.number for p in numbers.baselines] == [p.number for p in numbers.front] == [0]
    assert "star" in str(figures.front_plotly(numbers).to_dict())


def test_axes_say_which_way_is_better() -> None:
    numbers = figures.front_numbers(five(), SENSES)
    assert numbers.x.title == "accuracy (higher is better)"
    assert numbers.y.title == "delta F1 (lower is better)"
    assert readable("worst_group_accuracy") == "worst group accuracy"


@pytest.mark.parametrize(
    ("senses", "first", "second", "corner"),
    [
        (("max", "min"), (0.7, 0.1), (0.9, 0.2), (0.7, 0.2)),  # up, then right: 0.9 is reached at its point only
        (("max", "max"), (0.7, 0.2), (0.9, 0.1), (0.7, 0.1)),
        (("min", "min"), (0.7, 0.2), (0.9, 0.1), (0.9, 0.2)),
        (("min", "max"), (0.7, 0.1), (0.9, 0.2), (0.9, 0.1)),
    ],
)
def test_the_step_between_neighbours_is_their_worst_corner(
    senses: tuple[str, str], first: tuple[float, float], second: tuple[float, float], corner: tuple[float, float]
) -> None:
    trials = table(row(0, *first, on_front=True), row(1, *second, on_front=True))
    numbers = figures.front_numbers(trials, dict(zip(SENSES, senses, strict=True)))
    assert numbers.outline[1:4] == (first, corner, second)


def test_the_outline_runs_on_to_the_bad_ends_of_both_axes() -> None:
    numbers = figures.front_numbers(five(), SENSES)
    assert numbers.outline[0] == (numbers.x.low, 0.1)
    assert numbers.outline[-1] == (0.9, numbers.y.high)


def test_three_objectives_have_no_outline_and_the_caption_says_why() -> None:
    trials = five().assign(loss=1.0, loss_std=0.1)
    numbers = figures.front_numbers(trials, SENSES | {"loss": "min"})
    assert numbers.outline == ()
    assert "3 objectives; loss not drawn" in numbers.caption


def test_one_objective_is_refused() -> None:
    with pytest.raises(ValueError, match="two objectives or more"):
        figures.front_numbers(five(), {"accuracy": "max"})


def test_one_diverged_trial_does_not_squeeze_the_front_and_is_counted() -> None:
    trials = pd.concat([five(), table(row(6, 0.01, 0.9))], ignore_index=True)
    numbers = figures.front_numbers(trials, SENSES)
    assert numbers.x.low > 0.3
    assert "1 outside the frame" in numbers.caption
    assert 6 in [p.number for p in numbers.dominated]


def test_the_caption_counts_trials_by_state() -> None:
    assert "6 trials (5 complete, 1 failed)." in figures.front_numbers(five(), SENSES).caption


@pytest.mark.parametrize("trials", [five().iloc[:0], five().iloc[5:], five().iloc[1:2]], ids=["none", "failed", "one"])
def test_a_sweep_that_has_hardly_begun_can_be_drawn(trials: pd.DataFrame, tmp_path: Path) -> None:
    numbers = figures.front_numbers(trials, SENSES)
    figures.front_png(numbers, tmp_path / "front.png")
    assert (tmp_path / "front.png").stat().st_size > 1000
    assert "<table>" in figures.front_html(numbers)


@pytest.mark.parametrize("n", [16, 40])
def test_labels_cover_no_point_no_line_and_no_other_label(n: int) -> None:
    numbers = figures.front_numbers(many(n), SENSES)
    x, y, (width, height) = numbers.x, numbers.y, CANVAS
    boxes = []
    for label in numbers.labels:
        u, v = x.share(label.x) * width + label.dx, y.share(label.y) * height + label.dy
        half = len(label.text) * CHARACTER / 2
        boxes.append(Box(u - half, v - LINE / 2, u + half, v + LINE / 2))
    marks = [(x.share(p.x) * width, y.share(p.y) * height) for p in numbers.points]
    assert len(boxes) >= 4
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert not any(box.left < u < box.right and box.low < v < box.high for box in boxes for u, v in marks)
    assert all(box.inside(width, height) for box in boxes)


def test_where_nothing_is_free_there_is_no_label() -> None:
    full = [Box(0, 0, 100, 100)]
    assert place([(50, 50)], [["name", "#1"]], obstacles=full, size=(100, 100)) == [None]


def test_a_long_name_gives_way_to_the_number_where_only_that_fits() -> None:
    (spot,) = place([(20, 20)], [["a name far too long for this", "#1"]], obstacles=[], size=(80, 80))
    assert spot is not None
    assert spot.text == "#1"


def test_error_bars_are_the_spread_and_one_seed_has_none() -> None:
    trials = table(row(0, 0.9, 0.2, on_front=True), row(1, 0.8, 0.1, on_front=True, accuracy_std=math.nan))
    traces = figures.front_plotly(figures.front_numbers(trials, SENSES)).to_dict()["data"]
    (cloud,) = [trace for trace in traces if "error_x" in trace]
    assert list(cloud["error_x"]["array"]) == [None, 0.01]  # sorted by accuracy
    assert list(cloud["error_y"]["array"]) == [0.02, 0.02]


def test_the_page_carries_its_script_once_and_asks_the_network_for_nothing() -> None:
    page = figures.front_html(figures.front_numbers(five(), SENSES), title="a <b> & c")
    assert page.count("plotly.js v") == 1
    assert not re.search(r"<script[^>]+src=|<link|<img|@import", page)
    assert "<h1>a &lt;b&gt; &amp; c</h1>" in page
    assert "0.9000 ± 0.0100" in page


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_paper_is_drawn_in_the_format_that_the_suffix_names(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"front{suffix}"
    figures.front_png(figures.front_numbers(many(16), SENSES), path)
    magic = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    assert path.read_bytes().startswith(magic)
    if suffix == ".svg":
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_methods_differ_in_colour_and_in_shape_and_keep_both_between_figures() -> None:
    names = ["erm", "fairfft", "fairlora", "fft", "group-dro", "lora"]
    drawn = looks(names)
    assert len({look.colour for look in drawn.values()}) == len({look.symbol for look in drawn.values()}) == len(names)
    assert looks(["lora"])["lora"] == drawn["lora"]


def test_hypervolume_is_counted_by_finished_trials(tmp_path: Path) -> None:
    numbers = figures.hypervolume_numbers([0.5, 0.5, 0.75])
    assert numbers.finished == (1, 2, 3)
    figures.hypervolume_png(numbers, tmp_path / "h.png")
    assert (tmp_path / "h.png").stat().st_size > 1000
    assert list(figures.hypervolume_plotly(numbers).data[0].y) == [0.5, 0.5, 0.75]
