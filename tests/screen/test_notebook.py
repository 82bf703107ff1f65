"""A sweep to take away: in a notebook, and as tables in which nothing is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from sweeper import Sweep
from sweeper.cli import main
from sweeper.errors import UserError
from tests import finished


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sweeps")
    finished.sweep(made / "birds")
    return made


@pytest.fixture(scope="module")
def sweep(root: Path) -> Sweep:
    return Sweep.load("birds", root)


def test_the_front_is_a_table_best_first_with_the_names_of_its_points(sweep: Sweep) -> None:
    front = sweep.front()
    assert list(front.index) == [3, 2, 5]
    assert list(front["called"]) == ["most-accurate", "knee", "fairest"]
    assert front.loc[3, "accuracy"] == 0.9


def test_every_trial_fit_group_and_epoch_is_there(sweep: Sweep) -> None:
    assert list(sweep.trials().index) == list(range(7))
    assert len(sweep.fits()) == 7 * 2
    assert len(sweep.epochs()) == 6 * 2 * 2  # the failed one had none
    assert len(sweep.groups()) == 6 * 2 * (2 + 2 + 4)  # classes, places, cells
    assert sweep.groups().groupby(["number", "seed", "kind"])["n"].sum().eq(40).all()


def test_changing_a_table_changes_nothing_of_the_sweep(sweep: Sweep) -> None:
    for table in (sweep.trials(), sweep.fits()):
        table["accuracy"] = 0.0
    assert sweep.front().loc[3, "accuracy"] == 0.9
    assert sweep.fits()["accuracy"].max() > 0


def test_test_numbers_have_a_table_of_their_own(sweep: Sweep) -> None:
    assert sweep.test().loc[2, "accuracy"] == pytest.approx(33 / 40)
    assert not [name for name in sweep.trials().columns if "test" in name]


def test_a_recommendation_takes_bounds_by_name(sweep: Sweep) -> None:
    assert sweep.recommend().number == 2
    assert sweep.recommend(accuracy=0.9).number == 3
    with pytest.raises(UserError, match="the bound on 'acuracy' is unknown"):
        sweep.recommend(acuracy=0.9)


FIGURES = ["front", "growth", "lambda", "rank", "groups", "calibration", "parallel", "surface", "groups by size"]


@pytest.mark.parametrize("which", FIGURES)
def test_each_figure_is_drawn_for_the_screen(sweep: Sweep, which: str) -> None:
    assert len(sweep.figure(which).data) > 0


def test_a_figure_that_is_not_there_or_has_too_little_is_told(sweep: Sweep) -> None:
    with pytest.raises(UserError, match=r"no figure 'cake'. There are front, growth"):
        sweep.figure("cake")
    with pytest.raises(UserError, match="too little to draw 'importance'"):
        sweep.figure("importance")


def test_a_figure_shows_the_metrics_that_are_named(sweep: Sweep) -> None:
    """Trial 3 is the most accurate, .900; trial 2, .875, has the best worst class: 8 of 10, and 26 of 30."""
    drawn = sweep.figure("rank", "accuracy", "worst_accuracy_by_class", "min_recall")
    titles = [drawn.layout[f"yaxis{i}"].title.text for i in ("", "2", "3")]
    assert titles == [f"{name} (higher is better)" for name in ("accuracy", "worst accuracy by class", "min recall")]
    front = sweep.figure("front", "accuracy", "worst_accuracy_by_class")
    on_it = {x for trace in front.data if trace.marker.line.width == 1 for x in trace.x}
    assert on_it == {0.9, 0.875}
    with pytest.raises(UserError, match=r"metric 'acuracy' is unknown\. Did you mean 'accuracy'"):
        sweep.figure("rank", "acuracy")
    with pytest.raises(UserError, match=r"figure 'growth' shows no metrics to choose\. front, lambda, rank"):
        sweep.figure("growth", "accuracy")


def test_it_is_shown_as_a_picture_and_a_table_without_a_script(sweep: Sweep) -> None:
    shown = sweep._repr_html_()
    assert shown.count("<svg") == 1
    assert "<script" not in shown
    assert "<?xml" not in shown
    assert "most-accurate" in shown
    assert repr(sweep).startswith("Sweep(birds: finished, 7/7 trials")


def test_a_sweep_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'sweeper list' shows"):
        Sweep.load("nobody", tmp_path)
    with pytest.raises(UserError, match="is not a sweep's name"):
        Sweep.load("../birds", tmp_path)


def test_the_root_may_come_from_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEPER_ROOT", str(root))
    assert len(Sweep.load("birds").trials()) == 7


def test_importing_the_package_costs_nothing_until_sweep_is_asked_for() -> None:
    program = "import sys, sweeper; print('pandas' in sys.modules); sweeper.Sweep; print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_a_name_that_the_package_does_not_have_is_an_attribute_error() -> None:
    import sweeper

    with pytest.raises(AttributeError, match="no attribute 'Sweeep'"):
        _ = sweeper.Sweeep


# --- export


def export(root: Path, to: Path, *more: str) -> None:
    assert main.main(["export", "birds", "--root", str(root), "-o", str(to), *more]) == 0


def test_csv_and_parquet_hold_the_same_four_tables(root: Path, tmp_path: Path, capsys) -> None:
    export(root, tmp_path / "x.csv")
    export(root, tmp_path / "x.parquet")
    for part in ("", ".fits", ".groups", ".epochs"):
        csv = pd.read_csv(tmp_path / f"x{part}.csv")
        parquet = pd.read_parquet(tmp_path / f"x{part}.parquet")
        assert list(csv.columns) == list(parquet.columns)
        assert len(csv) == len(parquet) > 0
        for name in csv.select_dtypes("number"):
            assert csv[name].to_numpy() == pytest.approx(pd.to_numeric(parquet[name]).to_numpy(), nan_ok=True)
    assert "x.groups.parquet" in capsys.readouterr().out


def test_a_fit_keeps_every_metric_of_both_splits_its_params_and_why_one_is_undefined(
    root: Path, tmp_path: Path
) -> None:
    export(root, tmp_path / "x.csv")
    fits = pd.read_csv(tmp_path / "x.fits.csv").set_index(["number", "seed"])
    assert {"lambda", "rank", "eod", "seconds", "provenance.versions.torch"} <= set(fits.columns)
    assert fits.loc[(2, 0), "accuracy"] == 35 / 40
    assert fits.loc[(2, 0), "test_accuracy"] == 33 / 40
    assert "training split's group counts" in json.loads(fits.loc[(2, 0), "undefined"])["adjusted_accuracy"]
    assert fits.loc[(6, 1), "error"] == "diverged"
    groups = pd.read_csv(tmp_path / "x.groups.csv")
    assert set(groups["split"]) == {"val", "test"}


def test_json_holds_each_result_as_its_folder_does(root: Path, tmp_path: Path) -> None:
    export(root, tmp_path / "x.json")
    told = json.loads((tmp_path / "x.json").read_text())
    assert told["front"] == [2, 3, 5]
    assert told["named"]["knee"] == 2
    (fit, _) = told["trials"][2]["fits"]
    assert fit["result"]["values"]["accuracy"] == 35 / 40
    assert len(fit["result"]["history"]) == 2
    assert fit["result"]["answers"]["classes"] == ["landbird", "waterbird"]
    assert fit["test"]["values"]["accuracy"] == 33 / 40
    assert told["trials"][6]["state"] == "failed"
