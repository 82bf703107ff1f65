"""Figures: numbers that can be checked in one's head, and ink that needs no network."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dashboards.document import writers
from dashboards.document.document import Document, Section
from dashboards.figures import (
    bars,
    curves,
    exposure,
    front,
    growth,
    importance,
    parallel,
    reliability,
    subgroups,
    surface,
)
from dashboards.figures import trials as trials_figure
from dashboards.ink import paper, screen
from dashboards.ink.chart import COLUMN, SCREEN, Chart, Panel, ReferenceLine, Scale, Series
from dashboards.ink.labels import CHARACTER, LINE, Box, place
from dashboards.ink.style import DARK, LIGHT, METHOD_LOOKS, STAR, Theme, looks, mark
from dashboards.ink.wording import readable

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
    numbers = front.front_numbers(five(), SENSES)
    assert [p.number for p in numbers.front] == [2, 1]  # by accuracy
    assert [p.number for p in numbers.dominated] == [3]
    assert [p.number for p in numbers.baselines] == [0]
    assert [p.number for p in numbers.infeasible] == [4]
    assert sorted(p.number for p in numbers.points) == [0, 1, 2, 3, 4]


def test_a_baseline_on_the_front_is_drawn_once_and_keeps_its_symbol() -> None:
    numbers = front.front_numbers(table(row(0, 0.9, 0.2, baseline="lora", on_front=True), row(1, 0.8, 0.3)), SENSES)
    assert [p.number for p in numbers.points] == [1, 0]
    assert [p.number for p in numbers.baselines] == [p.number for p in numbers.front] == [0]
    assert "star" in str(screen.plotly(front.front_chart(numbers)).to_dict())


def test_axes_say_which_way_is_better() -> None:
    numbers = front.front_numbers(five(), SENSES)
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
    numbers = front.front_numbers(trials, dict(zip(SENSES, senses, strict=True)))
    assert numbers.outline[1:4] == (first, corner, second)


def test_the_outline_runs_on_to_the_bad_ends_of_both_axes() -> None:
    numbers = front.front_numbers(five(), SENSES)
    assert numbers.outline[0] == (numbers.x.low, 0.1)
    assert numbers.outline[-1] == (0.9, numbers.y.high)


def test_three_objectives_have_no_outline_and_the_caption_says_why() -> None:
    trials = five().assign(loss=1.0, loss_std=0.1)
    numbers = front.front_numbers(trials, SENSES | {"loss": "min"})
    assert numbers.outline == ()
    assert "3 objectives; loss not drawn" in numbers.caption


def test_one_objective_is_refused() -> None:
    with pytest.raises(ValueError, match="two objectives or more"):
        front.front_numbers(five(), {"accuracy": "max"})


def test_one_diverged_trial_does_not_squeeze_the_front_and_is_counted() -> None:
    trials = pd.concat([five(), table(row(6, 0.01, 0.9))], ignore_index=True)
    numbers = front.front_numbers(trials, SENSES)
    assert numbers.x.low > 0.3
    assert "1 outside the frame" in numbers.caption
    assert 6 in [p.number for p in numbers.dominated]


def test_the_caption_counts_trials_by_state() -> None:
    assert "6 trials (5 complete, 1 failed)." in front.front_numbers(five(), SENSES).caption


@pytest.mark.parametrize("trials", [five().iloc[:0], five().iloc[5:], five().iloc[1:2]], ids=["none", "failed", "one"])
def test_a_sweep_that_has_hardly_begun_can_be_drawn(trials: pd.DataFrame, tmp_path: Path) -> None:
    numbers = front.front_numbers(trials, SENSES)
    paper.save(front.front_chart(numbers), tmp_path / "front.png")
    assert (tmp_path / "front.png").stat().st_size > 1000
    assert len(trials_figure.explorer(numbers, trials, ["rank"], {}, None).rows) == len(trials)


@pytest.mark.parametrize("n", [16, 40])
def test_labels_cover_no_point_no_line_and_no_other_label(n: int) -> None:
    numbers = front.front_numbers(many(n), SENSES)
    x, y, (width, height) = numbers.x, numbers.y, SCREEN
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
    traces = screen.plotly(front.front_chart(front.front_numbers(trials, SENSES))).to_dict()["data"]
    (cloud,) = [trace for trace in traces if trace.get("error_x")]
    assert list(cloud["error_x"]["array"]) == [None, 0.01]  # sorted by accuracy
    assert list(cloud["error_y"]["array"]) == [0.02, 0.02]


def page_of(trials: pd.DataFrame, title: str) -> str:
    picture = trials_figure.front_picture(front.front_numbers(trials, SENSES), trials, ["rank"])
    return writers.to_html(Document(title, "", (Section("", (picture,)),)))


def test_a_page_may_run_its_own_script_alone_and_fetch_nothing() -> None:
    page = page_of(five(), "a <b> & c")
    assert not re.search(r"<script[^>]+src=|<link|<img|@import|https?://(?!www.w3.org/2000/svg)", page)
    assert "<h1>a &lt;b&gt; &amp; c</h1>" in page
    for kind in ("script", "style"):
        (own,) = re.findall(f"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        named = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{named}';" in page
    assert "default-src 'none'" in page
    assert len(page) < 60_000


def test_all_trials_are_rows_and_say_where_they_are_drawn_the_front_first() -> None:
    trials = table(
        row(0, 0.8, 0.3, baseline="lora", rank=1), row(1, 0.9, 0.1, on_front=True, rank=64),
        row(2, 0.7, 0.4, baseline="lora"), row(3, 0.6, 0.5), row(4, math.nan, math.nan, state="failed"),
    )  # fmt: skip
    numbers = front.front_numbers(trials, SENSES, stars=[0])
    made = trials_figure.explorer(numbers, trials, ["rank", "method"], {1: "knee"}, 1)
    assert [r[0] for r in made.rows] == [1, 0, 2, 3, 4]
    assert made.places == ("front", "baseline", "tuned", "dominated", "")
    assert made.chosen == 0
    (rank,) = [column for column in made.columns if column.name == "rank"]
    assert (rank.log, rank.axis, rank.whole) == (True, True, True)


def test_of_a_tuned_baseline_the_best_is_a_star_and_the_others_are_faint() -> None:
    trials = table(row(0, 0.9, 0.2, on_front=True), *(row(n, 0.5 + n / 100, 0.4, baseline="lora") for n in range(1, 6)))
    series = front.front_chart(front.front_numbers(trials, SENSES, stars=[5])).panels[0].series
    stars = [(s.size, s.opacity, len(s.x)) for s in series if s.look.symbol is STAR and len(s.x)]
    assert stars == [(8, 0.35, 4), (15, 1.0, 1)]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_paper_is_drawn_in_the_format_that_the_suffix_names(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"front{suffix}"
    paper.save(front.front_chart(front.front_numbers(many(16), SENSES)), path)
    magic = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    assert path.read_bytes().startswith(magic)
    if suffix == ".svg":
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_methods_differ_in_colour_and_in_shape_and_keep_both_between_figures() -> None:
    names = ["fairfft", "fairlora", "fft", "lora", "lora-groupdro", "fft-groupdro", "probe"]
    drawn = looks(names)
    assert len({look.colour for look in drawn.values()}) == len({look.symbol for look in drawn.values()}) == len(names)
    assert looks(["lora"])["lora"] == drawn["lora"]
    assert mark("fairlora") == ("#0072B2", "circle")


def test_a_method_of_a_plugin_looks_the_same_in_any_company() -> None:
    alone = looks(["erm"])["erm"]
    assert looks(["lora", "erm", "probe", "fft"])["erm"] == alone
    assert alone not in METHOD_LOOKS.values()


def test_a_point_looks_like_its_method_and_the_second_of_a_method_is_paler() -> None:
    methods = {"knee": "fairlora", "fairest": "fairlora", "tuned": "lora"}
    drawn = looks(list(methods), methods)
    assert (drawn["knee"], drawn["tuned"]) == (METHOD_LOOKS["fairlora"], METHOD_LOOKS["lora"])
    assert (drawn["fairest"].colour, drawn["fairest"].symbol) == (drawn["knee"].colour, drawn["knee"].symbol)
    assert drawn["fairest"].strength < drawn["knee"].strength


def test_hypervolume_is_counted_by_finished_trials(tmp_path: Path) -> None:
    numbers = growth.hypervolume_numbers([0.5, 0.5, 0.75])
    assert numbers.finished == (1, 2, 3)
    paper.save(growth.hypervolume_chart(numbers), tmp_path / "h.png")
    assert (tmp_path / "h.png").stat().st_size > 1000
    assert list(screen.plotly(growth.hypervolume_chart(numbers)).data[0].y) == [0.5, 0.5, 0.75]


# --- colours


# Machado, Oliveira and Fernandes 2009, severity 1; on linear RGB.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.119192, 0.9503041]]
)


def linear(colour: str) -> np.ndarray:
    shares = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE 1976 L*a*b*, in which a distance of 2.3 is just noticeable."""
    relative = TO_XYZ @ np.clip(rgb, 0, 1) / np.array([0.95047, 1, 1.08883])
    f = np.where(relative > 216 / 24389, np.cbrt(relative), (24389 / 27 * relative + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(colour: str, background: str) -> float:
    """WCAG 2.2: (lighter + .05) / (darker + .05) of the relative luminances."""
    luminances = sorted((float(TO_XYZ[1] @ linear(c)) for c in (colour, background)), reverse=True)
    return (luminances[0] + 0.05) / (luminances[1] + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
@pytest.mark.parametrize("kind", BLINDNESS)
def test_two_hues_are_told_apart_by_the_colour_blind_too(kind: str, theme: Theme) -> None:
    seen = {name: lab(np.array(BLINDNESS[kind]) @ linear(hue)) for name, hue in theme.hues.items()}
    distances = {(a, b): float(np.linalg.norm(seen[a] - seen[b])) for a, b in itertools.combinations(seen, 2)}
    assert min(distances.values()) > 13, min(distances, key=distances.__getitem__)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_the_papers_methods_and_all_text_stand_out_from_the_background(theme: Theme) -> None:
    drawn = looks(["fairlora", "lora", "fairfft", "fft"])
    assert min(contrast(theme.colour(look.colour), theme.paper) for look in drawn.values()) >= 3  # WCAG 1.4.11
    assert min(contrast(colour, theme.paper) for colour in (theme.ink, theme.muted)) >= 4.5  # WCAG 1.4.3
    assert min(contrast(hue, theme.paper) for hue in theme.hues.values()) >= 2.2  # of others the shape helps


def test_thirteen_methods_never_share_both_colour_and_shape() -> None:
    from trainables.methods import METHODS

    assert set(METHOD_LOOKS) == set(METHODS)
    assert len({(look.colour, look.symbol) for look in METHOD_LOOKS.values()}) == len(METHODS)
    assert len({look.symbol for look in METHOD_LOOKS.values()}) == len(METHODS)


# --- the front's additions


def test_the_knee_is_ringed_and_named_and_a_bound_is_a_line() -> None:
    numbers = front.front_numbers(five(), SENSES, knee=1, bounds={"accuracy": (0.75, None), "loss": (None, 1)})
    drawn = str(screen.plotly(front.front_chart(numbers)).to_dict())
    assert "accuracy ≥ 0.75" in drawn
    assert "loss" not in drawn
    assert any(label.text == "fairlora λ=0.1 r=1, the knee" for label in numbers.labels)


def test_a_bound_outside_the_frame_is_not_drawn() -> None:
    numbers = front.front_numbers(five(), SENSES, bounds={"accuracy": (0.01, None)})
    assert front.front_chart(numbers).panels[0].reference_lines == ()


def test_a_name_that_looks_like_a_tag_stays_text_on_the_screen() -> None:
    trials = table(row(0, 0.9, 0.2, on_front=True, label="<b onclick=x>"))
    page = page_of(trials, "a front")
    assert "<b onclick" not in page
    assert page.count("<script") == page.count("</script>") == 2


def test_at_a_columns_width_the_letters_are_six_points_or_more(tmp_path: Path) -> None:
    numbers = front.front_numbers(many(16), SENSES, canvas=COLUMN)
    drawn = paper.draw(front.front_chart(numbers), width_in=paper.COLUMN_IN)
    assert drawn.get_figwidth() == pytest.approx(paper.COLUMN_IN)
    (axes,) = drawn.axes
    texts = [*axes.texts, *axes.get_xticklabels(), axes.xaxis.label, *drawn.legends[0].get_texts()]
    assert min(text.get_fontsize() for text in texts) >= 6


# --- the other figures


def test_hours_add_up_over_the_trials() -> None:
    numbers = growth.hypervolume_numbers([0.5, 0.6], [1800, 3600])
    assert numbers.hours == (0.5, 1.5)
    assert len(growth.hypervolume_chart(numbers).panels) == 2
    with pytest.raises(ValueError, match="2 trials and the seconds of 1"):
        growth.hypervolume_numbers([0.5, 0.6], [1])


def fits(*rows: tuple[int, int, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["number", "seed", "accuracy", "delta_f1"]).assign(method="fairlora")


def test_what_every_seed_attains_is_the_worse_of_two_seeds_and_any_seed_the_better() -> None:
    """One trial, two seeds: (.8, .2) and (.9, .3)."""
    numbers = surface.surface_numbers(fits((0, 0, 0.8, 0.2), (0, 1, 0.9, 0.3)), SENSES, [0])
    any_seed, every_seed = numbers.levels
    assert [level.seeds for level in numbers.levels] == [1, 2]
    assert every_seed.outline[1] == pytest.approx((0.8, 0.3))  # accuracy of the one, delta F1 of the other
    corners = [(round(x, 6), round(y, 6)) for x, y in any_seed.outline]
    assert (0.8, 0.2) in corners
    assert (0.9, 0.3) in corners


def test_a_trial_off_the_front_attains_nothing() -> None:
    both = fits((0, 0, 0.8, 0.2), (1, 0, 0.99, 0.01))
    (level,) = surface.surface_numbers(both, SENSES, [0]).levels
    assert max(x for x, _ in level.outline) == 0.8
    with pytest.raises(ValueError, match="no fit of a member"):
        surface.surface_numbers(both, SENSES, [7])


def test_where_other_settings_vary_too_the_line_is_the_best_trial_of_each_value() -> None:
    trials = table(
        row(0, 0.8, 0.3, rank=8), row(1, 0.9, 0.2, rank=8), row(2, 0.7, 0.3, rank=16),
        row(3, 0.6, 0.5, rank=math.nan, method="fft"), row(4, 0.5, 0.1, rank=math.nan, method="fft"),
    )  # fmt: skip
    numbers = curves.curve_numbers(trials, "rank", SENSES)
    accuracy, delta_f1 = numbers.curves
    assert (accuracy.x, accuracy.mean, accuracy.std) == ((8, 16), (0.9, 0.7), (0.01, 0.01))
    assert delta_f1.mean == (0.2, 0.3), "the same trials: the most accurate"
    assert numbers.level == {("accuracy", "fft"): 0.6, ("delta_f1", "fft"): 0.5}
    assert "the trial of each value with the best accuracy" in curves.curve_chart(numbers).caption


def test_where_a_grid_was_searched_the_line_holds_the_other_settings_fixed() -> None:
    """The best is rank 16 at lambda 1; at rank 8 lambda 0.1 was better, but the line stays at lambda 1."""
    trials = table(
        row(0, 0.80, 0.3, rank=8) | {"lambda": 0.1}, row(1, 0.75, 0.3, rank=8) | {"lambda": 1.0},
        row(2, 0.70, 0.3, rank=16) | {"lambda": 0.1}, row(3, 0.90, 0.3, rank=16) | {"lambda": 1.0},
    )  # fmt: skip
    numbers = curves.curve_numbers(trials, "rank", {"accuracy": "max"}, ["method", "rank", "lambda"])
    (curve,) = numbers.curves
    assert curve.mean == (0.75, 0.9)
    assert "fairlora at lambda 1." in curves.curve_chart(numbers).caption


def test_many_values_are_put_into_bins_of_equal_number_and_ticks_are_powers_of_two() -> None:
    trials = table(*[row(n, n / 100, 0.3, rank=n) for n in range(4, 64)])
    numbers = curves.curve_numbers(trials, "rank", {"accuracy": "max"})
    (curve,) = numbers.curves
    assert curve.x == (15, 27, 39, 51, 63), "the best of each twelve"
    assert curves.curve_chart(numbers).panels[0].x.ticks == (4, 8, 16, 32, 64)


def subgroup(number: int, seed: int, kind: str, name: str, n: int, **measures: float) -> dict[str, Any]:
    return {"number": number, "seed": seed, "kind": kind, "name": name, "n": n, **measures}


def test_the_variance_of_the_classes_losses_is_taken_for_each_seed() -> None:
    """Losses 1 and 3: variance 1; losses 2 and 6: 4. Mean 2.5, standard deviation 3 / sqrt 2; worst class 3 and 6."""
    rows = pd.DataFrame(
        [
            subgroup(5, 0, "class", "a", 9, loss=1.0), subgroup(5, 0, "class", "b", 1, loss=3.0),
            subgroup(5, 1, "class", "a", 9, loss=2.0), subgroup(5, 1, "class", "b", 1, loss=6.0),
        ]
    )  # fmt: skip
    variance, worst = subgroups.loss_numbers(rows, {5: "lora"}).measures.values()
    assert (variance[0].y, variance[0].half) == ((2.5,), pytest.approx((3 / math.sqrt(2),)))
    assert worst[0].y == (4.5,)


def many_subgroups() -> pd.DataFrame:
    """Trial 1 on two groups with two seeds, trial 2 with one; the larger group comes first in the table."""
    return pd.DataFrame(
        [
            subgroup(1, 0, "attribute", "many", 90, accuracy=0.8, eod=0.1, loss=1.0),
            subgroup(1, 0, "attribute", "few", 10, accuracy=0.5, eod=0.1, loss=1.0),
            subgroup(1, 1, "attribute", "many", 90, accuracy=0.9, eod=0.2, loss=1.0),
            subgroup(1, 1, "attribute", "few", 10, accuracy=0.6, eod=0.2, loss=1.0),
            subgroup(2, 0, "attribute", "many", 90, accuracy=0.7, eod=0.3, loss=1.0),
        ]
    )


def test_groups_are_sorted_by_size_and_their_means_have_the_interval_given() -> None:
    numbers = subgroups.size_numbers(many_subgroups(), {1: "lora", 2: "fft"}, "attribute", ("accuracy", "eod"), len)
    lora, fft = numbers.measures["accuracy"]
    assert numbers.ticks == ("few\nn = 10", "many\nn = 90")
    assert lora.y == pytest.approx((0.55, 0.85))
    assert lora.half == (2, 2)
    assert math.isnan(fft.y[0])
    assert fft.y[1] == 0.7


def test_forty_five_names_stand_side_by_side_on_paper() -> None:
    ticks = tuple(f"a class of birds {g}\nn = {g}" for g in range(45))
    line = subgroups.SubgroupLine("lora", tuple(map(float, range(45))), (0.5,) * 45, (0.1,) * 45)
    numbers = subgroups.SubgroupNumbers({"accuracy": (line,), "eod": (line,)}, ticks)
    figure = paper.draw(subgroups.size_chart(numbers, ""))
    FigureCanvasAgg(figure).draw()
    boxes = [[text.get_window_extent() for text in axes.get_xticklabels()] for axes in figure.axes]
    assert [len(row) for row in boxes] == [45, 45]
    assert not any(a.overlaps(b) for row in boxes for a, b in itertools.pairwise(row))
    assert min(box.y0 for box in boxes[0]) > figure.axes[1].get_window_extent().y1
    assert "n = 44" in figure.axes[0].get_xticklabels()[-1].get_text()


def test_against_rank_each_group_has_a_line_and_the_head_alone_is_rank_0() -> None:
    numbers = subgroups.rank_numbers(many_subgroups(), {1: 8, 2: 0}, "attribute", ("accuracy",), len)
    few, many = numbers.measures["accuracy"]
    assert numbers.ticks == ("0", "8")
    assert many.y == pytest.approx((0.7, 0.85))
    assert math.isnan(few.y[0])


def test_of_a_metric_that_should_be_low_the_bar_is_one_minus_it() -> None:
    rows = pd.DataFrame([{"name": "a", "method": "lora", "accuracy": 0.9, "accuracy_std": 0.01, "delta_f1": 0.2,
                          "delta_f1_std": 0.02, "eod": math.nan}])  # fmt: skip
    numbers = bars.bar_numbers(rows, {"accuracy": "max", "delta_f1": "min", "eod": "min"})
    assert numbers.metrics == ("accuracy", "delta_f1")  # nan is no bar
    assert numbers.heights == ((0.9, 0.8),)
    assert numbers.errors == ((0.01, 0.02),)


def groups(classes: int) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"number": 1, "seed": seed, "kind": "class", "name": f"c{c}", "n": 10 + c, "accuracy": c / 100,
             "recall": c / 100, "f1": c / 100 + seed / 10}
            for seed in (0, 1) for c in range(classes)
        ]
    )  # fmt: skip


def test_groups_are_means_over_the_seeds_with_their_counts() -> None:
    numbers = bars.group_numbers(groups(2), {1: "knee"})
    title, names, values, errors = numbers.measures[0]
    assert (title, names) == ("F1 by class", ("c0\nn = 10", "c1\nn = 11"))
    assert values[0] == pytest.approx((0.05, 0.06))
    assert errors[0] == pytest.approx((math.sqrt(0.005), math.sqrt(0.005)))


def test_of_many_groups_the_worst_dozen_is_shown_and_the_rest_is_counted() -> None:
    numbers = bars.group_numbers(groups(100), {1: "knee"})
    assert [name.split()[0] for name in numbers.measures[0][1]] == [f"c{n}" for n in range(12)]
    assert "88 others" in bars.group_chart(numbers).caption


def test_a_line_crosses_each_axis_where_its_value_is_and_better_is_up() -> None:
    trials = table(row(0, 0.8, 0.3, rank=1), row(1, 0.9, 0.1, rank=100, on_front=True), row(2, 0.85, 0.2, rank=10))
    numbers = parallel.parallel_numbers(trials, ["rank", "lambda"], SENSES)
    assert numbers.axes == ("rank\n1 … 100", "accuracy\n0.8 … 0.9", "delta F1\n0.3 … 0.1")  # lambda never varies
    assert [line.places for line in numbers.lines] == [
        pytest.approx((0, 0, 0)), pytest.approx((1, 1, 1)), pytest.approx((0.5, 0.5, 0.5)),
    ]  # fmt: skip


def test_importance_finds_the_parameter_that_counts_and_says_when_nothing_does() -> None:
    rng = np.random.default_rng(0)
    ranks, lambdas = rng.uniform(4, 64, 40), 10 ** rng.uniform(-2, 2, 40)
    pairs = enumerate(zip(ranks, lambdas, strict=True))
    trials = table(*[row(n, np.log(x), rng.random(), rank=r) | {"lambda": x} for n, (r, x) in pairs])
    numbers = importance.importance_numbers(trials, ["rank", "lambda"], list(SENSES))
    assert numbers is not None
    rank, lambda_ = numbers.importance["accuracy"]
    assert lambda_ > 0.5 > 0.1 > rank
    assert numbers.predicted["accuracy"] > 0.8
    assert numbers.predicted["delta_f1"] < 0.2
    chart = importance.importance_chart(numbers)
    assert chart.panels[0].x.names[0] == "lambda"
    assert ("cannot say what delta F1 depends on" in chart.caption) == (numbers.predicted["delta_f1"] <= 0)


def test_a_share_of_the_variance_is_none_above_one() -> None:
    """An objective of one parameter alone: its share is 1, and a forest that smooths finds a little less."""
    x = np.random.default_rng(1).permutation(np.linspace(0, 1, 80))
    trials = table(*[row(n, float(value), 0.5, rank=float(value)) for n, value in enumerate(x)])
    numbers = importance.importance_numbers(trials, ["rank"], ["accuracy"])
    assert numbers is not None
    assert 0.85 < numbers.importance["accuracy"][0] < 1.1


def test_too_few_trials_are_not_asked_what_is_important() -> None:
    assert importance.importance_numbers(five(), ["rank"], list(SENSES)) is None


def bins(*rows: tuple[int, str, str, int, int, int, float], of: str = "answer") -> pd.DataFrame:
    """Number, kind, name, bin, n, hits, sum of confidences."""
    columns = ["number", "kind", "name", "bin", "n", "hits", "confidence"]
    return pd.DataFrame(rows, columns=columns).assign(of=of, seed=0, bins=10)


def test_a_reliability_diagram_adds_up_the_seeds_and_shows_the_worst_group() -> None:
    told = bins(
        (7, "all", "all", 8, 10, 6, 5.5),
        (7, "all", "all", 8, 10, 8, 5.5),  # another seed
        (7, "all", "all", 14, 20, 20, 19.0),
        (7, "attribute", "land", 14, 20, 20, 19.0),
        (7, "attribute", "water", 8, 20, 14, 11.0),
        (9, "all", "all", 14, 40, 30, 38.0),
    )
    numbers = reliability.reliability_numbers(told, {7: "knee", 9: "fairest"})
    assert [title for title, _ in numbers.panels] == ["all examples", "worst calibrated: water"]
    knee, fairest = numbers.panels[0][1]
    assert (knee.confidence, knee.hits, knee.share) == ((11 / 20, 19 / 20), (14 / 20, 1.0), (0.5, 0.5))
    assert (fairest.name, fairest.n) == ("fairest", (40,))
    assert [curve.name for curve in numbers.panels[1][1]] == ["knee"], "the other one has no examples there"


def test_of_two_classes_the_positive_ones_probability_is_shown() -> None:
    told = pd.concat([bins((7, "all", "all", 8, 10, 6, 5.5)), bins((7, "all", "all", 1, 10, 1, 1.0), of="positive")])
    numbers = reliability.reliability_numbers(told, {7: "knee"})
    assert numbers.panels[0][1][0].hits == (0.1,)
    chart = reliability.reliability_chart(numbers)
    assert chart.panels[0].x.title == "P(positive)"
    assert "10 bins" in chart.caption, "those that were computed"


def test_bars_of_confidence_show_each_method_and_its_own_worst_group_with_their_ece() -> None:
    """Ten bins. lora: 10 of 20 right where .75 was promised; fft: 20 of 20 where .95; ECE .25 and .05."""
    told = bins(
        (1, "all", "all", 7, 20, 10, 15.0), (1, "attribute", "land", 7, 10, 7, 7.5),
        (1, "attribute", "water", 7, 10, 3, 7.5), (2, "all", "all", 9, 20, 20, 19.0),
        (2, "attribute", "land", 9, 10, 10, 9.0), (2, "attribute", "water", 9, 10, 10, 10.0),
    )  # fmt: skip
    chart = reliability.confidence_chart(reliability.confidence_numbers(told, {1: "lora", 2: "fft"}))
    assert (chart.rows, chart.columns) == (2, 4)
    titles = [panel.title for panel in chart.panels[:4]]
    assert titles == ["lora, all: ECE 0.250", "fft, all: ECE 0.050", "lora, water: ECE 0.450", "fft, land: ECE 0.100"]
    _, true, gap = chart.panels[4].series
    assert (list(true.x), list(true.y), true.width) == ([0.75], [0.5], 0.1)
    assert (list(gap.y), list(gap.base)) == ([0.25], [0.5])
    drawn = next(bar for bar in screen.plotly(chart).data if bar.name == gap.name)
    assert (drawn.base[0], drawn.y[0]) == (0.5, 0.25)


def test_rows_of_panels_stand_below_each_other_on_paper_and_on_the_screen() -> None:
    panel = growth.hypervolume_chart(growth.hypervolume_numbers([0.1], [1.0])).panels[0]
    chart = Chart((panel,) * 4, canvas=(400, 400), rows=2)
    boxes = [axes.get_position() for axes in paper.draw(chart).axes]
    assert boxes[0].y0 > boxes[2].y1
    assert boxes[0].x1 < boxes[1].x0
    layout = screen.plotly(chart).layout
    assert layout.yaxis.domain[0] > layout.yaxis3.domain[1]
    assert layout.xaxis.domain[1] < layout.xaxis2.domain[0]


def test_a_measure_by_epoch_is_the_mean_over_the_seeds_with_their_spread() -> None:
    """Seeds at 1 and 3, then at 2 and 2."""
    rows = [{"number": 5, "seed": s, "epoch": e, "v": v} for s, e, v in ((0, 1, 1), (1, 1, 3), (0, 2, 2), (1, 2, 2))]
    (line,) = subgroups.epoch_numbers(pd.DataFrame(rows), {5: "lora", 9: "fft"}, "v")
    assert (line.x, line.y, line.half) == ((1.0, 2.0), (2.0, 2.0), (math.sqrt(2), 0.0))


@pytest.mark.parametrize(("value", "above"), [(0.1, True), (0.9, False)])
def test_the_name_of_a_level_stands_inside_the_axes(value: float, above: bool) -> None:
    level = ReferenceLine("y", value, "fft")
    panel = Panel(Scale(), Scale("y", 0, 1), (Series("a", (0, 1), (0, 1)),), reference_lines=(level,))
    canvas = FigureCanvasAgg(paper.draw(Chart((panel,))))
    (axes,) = canvas.figure.axes
    (text,) = [text for text in axes.texts if text.get_text() == "fft"]
    box, line = text.get_window_extent(canvas.get_renderer()), axes.transData.transform((0, value))[1]
    assert (box.y0 > line) == above
    assert axes.get_window_extent().y0 < box.y0 < box.y1 < axes.get_window_extent().y1


def every_chart() -> dict[str, Chart]:
    rows, one = five().assign(name=five()["label"]), fits((0, 0, 0.8, 0.2), (0, 1, 0.9, 0.3))
    return {
        "front": front.front_chart(front.front_numbers(five(), SENSES, knee=1)),
        "growth": growth.hypervolume_chart(growth.hypervolume_numbers([0.1, 0.2], [10, 10])),
        "surface": surface.surface_chart(surface.surface_numbers(one, SENSES, [0])),
        "curves": curves.curve_chart(curves.curve_numbers(five(), "rank", SENSES)),
        "bars": bars.bar_chart(bars.bar_numbers(rows.iloc[:3], SENSES)),
        "groups": bars.group_chart(bars.group_numbers(groups(3), {1: "knee"})),
        "parallel": parallel.parallel_chart(parallel.parallel_numbers(five(), ["rank"], SENSES)),
        "roc": exposure.roc_chart(exposure.roc_numbers("lira", {"lora": attacked(2), "fft": attacked(2)}, "class")),
        "losses": subgroups.loss_chart(subgroups.loss_numbers(many_subgroups().assign(kind="class"), {1: "lora"})),
        "sizes": subgroups.size_chart(
            subgroups.size_numbers(many_subgroups(), {1: "lora", 2: "fft"}, "attribute", ("accuracy",), len), "Bars."
        ),
        "ranks": subgroups.rank_chart(
            subgroups.rank_numbers(many_subgroups(), {1: 8, 2: 0}, "attribute", ("accuracy",), len), "Bars."
        ),
        "epochs": subgroups.epoch_chart(
            subgroups.epoch_numbers(
                pd.DataFrame({"number": 1, "seed": 0, "epoch": [1, 2], "v": [0.2, 0.1]}), {1: "lora"}, "v"
            ),
            "v",
        ),
        "confidence": reliability.confidence_chart(
            reliability.confidence_numbers(bins((1, "all", "all", 8, 10, 6, 5.5)), {1: "lora"})
        ),
        "calibration": reliability.reliability_chart(
            reliability.reliability_numbers(bins((1, "all", "all", 8, 10, 6, 5.5)), {1: "knee"})
        ),
    }


def attacked(groups: int) -> dict[str, Any]:
    """One attack: half as many members as others, the groups each larger than the one before; one has no members."""
    points = {"fpr": [0.01, 0.1, 1.0], "tpr": [0.0, 0.3, 1.0]}
    found = {"members": 50, "others": 100, "roc": points, "placebo": {"roc": points | {"tpr": [0.02, 0.2, 1.0]}}}
    own = [found | {"name": f"g{g}", "members": 2 * (g + 1), "others": 4 * (g + 1)} for g in range(groups)]
    return found | {"groups": {"class": [*own, {"name": "none", "members": 0, "others": 3, "auc": None}]}}


def test_the_roc_has_everybody_and_the_largest_groups_with_how_many_there_are() -> None:
    numbers = exposure.roc_numbers("lira", {"lora": attacked(7), "fft": attacked(7)}, "class")
    assert [panel.title for panel in numbers.panels] == ["all", "g2", "g3", "g4", "g5", "g6"]
    assert numbers.left_out == 3
    chart = exposure.roc_chart(numbers)
    assert "Attack: lira." in chart.caption
    assert "Groups that are not drawn: 3." in chart.caption
    assert chart.panels[1].title == "g2: 6 and 12"
    assert [line.text for line in chart.panels[0].reference_lines] == ["5 of 100"]
    assert [key.name for key in chart.keys] == ["guessing", "lora, placebo", "lora", "fft, placebo", "fft"]
    _, placebo, lora, *_ = chart.panels[0].series
    assert (lora.x, lora.y) == ((0.1, 1.0), (0.3, 1.0))  # a rate of 0 has no place on the axis
    assert (placebo.x, placebo.y) == ((0.01, 0.1, 1.0), (0.02, 0.2, 1.0))


@pytest.mark.parametrize("name", list(every_chart()))
def test_each_chart_is_drawn_by_both_inks_in_both_themes(name: str, tmp_path: Path) -> None:
    chart = every_chart()[name]
    for theme in (LIGHT, DARK):
        paper.save(chart, tmp_path / f"{theme.name}.png", theme=theme)
        assert (tmp_path / f"{theme.name}.png").stat().st_size > 3000
        drawn = screen.plotly(chart, theme)
        assert drawn.layout.paper_bgcolor == theme.paper
        json.loads(drawn.to_json())
    keys = {key.name for key in chart.keys}
    shown = {trace.name for trace in screen.plotly(chart).data if trace.showlegend}
    assert shown == keys
