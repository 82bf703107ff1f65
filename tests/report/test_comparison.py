"""Sweeps side by side: one reference point, and no comparison of what was measured on other data."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from dashboards.figures import several
from dashboards.ink.chart import Series
from dashboards.ink.style import METHOD_LOOKS
from sweeper.cli import main
from sweeper.errors import UserError
from sweeper.report import comparison
from sweeper.report.comparison import Side
from sweeper.state.sweep_folder import SweepFolder
from tests import finished

# One trial each, one seed. The first dominates: 38 of 40 right against 34.
GOOD, POOR = {0: (29, 9)}, {0: (28, 6)}
ONE = {"search.seeds": 1, "search.baselines": ["lora"]}


def made(root: Path, name: str, right: dict, **over: object) -> Side:
    finished.sweep(root / name, right=right, **{**ONE, **over})
    return comparison.side(SweepFolder(root / name))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweeps")


@pytest.fixture(scope="module")
def sides(root: Path) -> tuple[Side, Side]:
    return made(root, "good", GOOD), made(root, "poor", POOR)


def test_each_volume_is_above_one_reference_point(sides: tuple[Side, Side]) -> None:
    """Above accuracy 0 and delta F1 1, one point's volume is accuracy x (1 - delta F1)."""
    found = comparison.compare(sides)
    assert found.reference == {"accuracy": 0.0, "delta_f1": 1.0}
    for side in sides:
        values = side.results.trials[0].values
        assert found.volumes[side.name] == pytest.approx(values["accuracy"] * (1 - values["delta_f1"]))
    assert found.together == found.volumes["good"] > found.volumes["poor"]
    assert found.shared_front == {"good": 1, "poor": 0}


def test_sweeps_with_references_of_their_own_get_one_below_the_worst_of_all(
    root: Path, sides: tuple[Side, Side]
) -> None:
    own = made(root, "own", POOR, **{"search.reference": {"accuracy": 0.5, "delta_f1": 0.5}})
    found = comparison.compare([sides[0], own])
    best, worst = (side.results.trials[0].values["accuracy"] for side in (sides[0], own))
    assert found.reference["accuracy"] == pytest.approx(worst - 0.1 * (best - worst))
    assert found.volumes["own"] > 0  # the worst counts too


def test_other_data_is_refused_unless_forced_and_then_it_is_said(root: Path, sides: tuple[Side, Side]) -> None:
    other = made(root, "other", POOR, split_hash="fedcba9876543210")
    with pytest.raises(UserError, match=r"(?s)not measured on the same data.*other: .*split fedcba98.*--force"):
        comparison.compare([sides[0], other])
    forced = comparison.compare([sides[0], other], force=True)
    assert len(forced.differences) == 2
    assert "Not the same data" in comparison.document(forced).sections[0].blocks[0].text


def test_other_objectives_are_refused_whatever_is_forced(root: Path, sides: tuple[Side, Side]) -> None:
    other = made(root, "eod", POOR, objectives={"accuracy": "max", "eod": "min"})
    with pytest.raises(UserError, match=r"other objectives \(good: accuracy, delta_f1; eod: accuracy, eod\)"):
        comparison.compare([sides[0], other], force=True)


def test_one_sweep_or_one_without_a_front_is_no_comparison(root: Path, sides: tuple[Side, Side]) -> None:
    with pytest.raises(UserError, match="two or more different sweeps"):
        comparison.compare([sides[0], sides[0]])
    empty = made(root, "empty", {0: None})
    with pytest.raises(UserError, match="no trial of empty is complete"):
        comparison.compare([sides[0], empty])


def test_the_picture_has_a_line_for_each_sweep_and_points_look_like_their_method(sides: tuple[Side, Side]) -> None:
    tables = {side.name: side.results.trials_table for side in sides}
    chart = several.fronts_chart(tables, {"accuracy": "max", "delta_f1": "min"})
    assert [(key.name, key.look.dash) for key in chart.keys[:2]] == [("good", "solid"), ("poor", "dash")]
    assert chart.keys[2:] == (Series("lora", (), (), look=METHOD_LOOKS["lora"], size=9),)
    (panel,) = chart.panels
    drawn = [series for series in panel.series if series.draw == "points" and not series.key]
    assert {series.look.colour for series in drawn} == {METHOD_LOOKS["lora"].colour}
    points = [(series.x[0], series.y[0]) for series in drawn]
    assert len(points) == 2
    assert all(panel.x.low < x < panel.x.high and panel.y.low < y < panel.y.high for x, y in points)


def test_the_command_prints_the_table_and_writes_the_report(root: Path, sides: tuple[Side, Side], capsys) -> None:
    asked = ["compare", "good", "poor", "--root", str(root)]
    assert main.main([*asked, "-o", str(root / "both.md")]) == 0
    told = capsys.readouterr().out
    assert "Hypervolume above accuracy 0, delta_f1 1." in told
    assert "both.md" in told.replace("\n", "")
    assert "| good | lora |" in (root / "both.md").read_text()  # two sweeps of one model are told apart by name
    assert main.main([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["members_of_the_joint_front"] == {"good": 1, "poor": 0}


def test_the_methods_of_several_sweeps_stand_in_one_table_on_validation_and_on_test(
    root: Path, sides: tuple[Side, Side], capsys: pytest.CaptureFixture[str]
) -> None:
    """38 and 34 of 40 are right; on test two landbirds fewer."""
    assert main.main(["compare", "good", "poor", "--table", "--rule", "accuracy", "--root", str(root), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    validation, test = ({row[0]: row[2] for row in said[split][0]["rows"]} for split in ("validation", "test"))
    assert validation == {"good": "95.00", "poor": "85.00"}
    assert test == {"good": "90.00", "poor": "80.00"}
    assert main.main(["compare", "good", "poor", "--table", "--root", str(root)]) == 0
    assert "Test split, in percent" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["md", "tex", "html"])
def test_the_table_of_methods_is_written_where_it_is_asked_for(
    form: str, root: Path, sides: tuple[Side, Side], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"table.{form}"
    assert main.main(["compare", "good", "poor", "--table", "-o", str(path), "--root", str(root)]) == 0
    assert capsys.readouterr().out == f"wrote {path}\n"
    text = path.read_text()
    assert text.count("Validation split, in percent") == text.count("Test split, in percent") == 1
    assert text.count("95.00") == 1


def test_as_csv_the_table_has_shares_that_are_not_rounded(
    root: Path, sides: tuple[Side, Side], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["compare", "good", "poor", "--table", "--root", str(root), "-o", str(tmp_path / "table.csv")]
    assert main.main([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"] == [str(tmp_path / "table.csv")]
    rows = pd.read_csv(tmp_path / "table.csv").set_index(["split", "model"])["accuracy"]
    assert rows.to_dict() == {
        ("validation", "good"): 38 / 40, ("validation", "poor"): 34 / 40, ("test", "good"): 36 / 40,
        ("test", "poor"): 32 / 40,
    }  # fmt: skip


def test_only_a_table_has_csv(root: Path, sides: tuple[Side, Side], tmp_path: Path, capsys) -> None:
    assert main.main(["compare", "good", "poor", "--root", str(root), "-o", str(tmp_path / "x.csv")]) == 2
    assert "'.csv' says no format. Use one of .html, .md, .tex" in capsys.readouterr().err
