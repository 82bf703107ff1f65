"""`sweeper init`: a commented sweep.yaml for the data at hand, with groups that it has and a budget that fits here."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.cli import main
from sweeper.engine import planning
from sweeper.spec import loading
from sweeper.spec.model import SweepSpec
from tests.data.trees import picture, table
from trainables.data.base import SPLITS


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """240 images in a table of other columns; an epoch of n examples takes n/100 s, on two slots."""
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    rows = [(f"img/{i}.png", ("cat", "dog")[i % 2], ("in", "out")[i // 2 % 2], SPLITS[i % 3]) for i in range(240)]
    table(tmp_path / "My pets.csv", ("photo", "species", "background", "split"), rows)
    for name, *_ in rows:
        picture(tmp_path / name)
    monkeypatch.setattr(planning, "plan", plan)
    return tmp_path


def plan(spec: SweepSpec) -> planning.Plan:
    return planning.Plan(
        spec.name,
        trials=1,
        baselines={"lora": 1},
        seeds=1,
        slots=2,
        device="cpu",
        methods=("lora", "fft"),
        epochs=4,
        epoch_s=dict.fromkeys(("lora", "fft"), (spec.data.limit or 240) / 100),
        prepare_s=1,
        stops_early=False,
    )


def init(root: Path, *words: str) -> tuple[SweepSpec, str]:
    """The spec that is written, and its text."""
    output = root / "sweep.yaml"
    assert main.main(["init", str(root / "My pets.csv"), "-o", str(output), *words]) == 0
    return loading.load(output), output.read_text()


def test_it_names_the_data_its_counts_and_its_groups(root: Path, capsys) -> None:
    spec, text = init(root)
    assert (spec.name, spec.groups, spec.data.root) == ("my-pets", "cell", root / "My pets.csv")
    assert spec.data.columns.model_dump() == {
        "image": "photo", "text": None, "label": "species", "attribute": "background", "groups": None, "split": None,
    }  # fmt: skip
    assert "#   train 80: cat|in 20, cat|out 20, dog|in 20, dog|out 20\n" in text
    assert "4 groups; the smallest has 20 training examples (cat|in)." in text
    assert spec.metrics.min_group == 10
    assert main.main(["validate", str(root / "sweep.yaml")]) == 0
    assert "sweep.yaml is good" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("hours", "trials", "limit"),
    [
        ("1", 48, None),  # 48 x 3 x 4 x 2.4 s on two slots: 691 s
        ("0.1", 25, None),  # 360 s x 2 / (12 x 2.4 s)
        ("0.02", 8, 150),  # five would fit, eight do on 5/8 of the images
        ("0.0001", 8, 24),  # not even that: two of each of the four cells in each split
    ],
)
def test_the_budget_is_what_fits_into_the_hours_by_a_measured_epoch(
    root: Path, hours: str, trials: int, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeper.cli.first_spec._TIMED_ON", 120)
    spec, text = init(root, "--hours", hours)
    assert (spec.search.trials, spec.data.limit) == (trials, limit)
    assert "on cpu, 2 fits at once, by a measured epoch." in text


def test_small_validation_groups_get_a_least_group_that_is_said(root: Path) -> None:
    rows = [(f"img/{i}.png", ("cat", "dog")[i % 2], SPLITS[i % 3]) for i in range(24)]
    table(root / "My pets.csv", ("image", "label", "split"), rows)
    spec, text = init(root)
    assert (spec.groups, spec.metrics.min_group) == ("class", 4)
    assert "The smallest class has 4 validation examples" in text


def test_names_in_the_data_are_comments_and_never_settings(root: Path) -> None:
    evil = "dog\nstorage: {root: /tmp/x}\x1b"
    rows = [(f"img/{i}.png", ("cat", evil)[i % 2], SPLITS[i // 2 % 3]) for i in range(240)]
    table(root / "My pets.csv", ("image", "label", "split"), rows)
    spec, text = init(root)
    assert spec.storage.root == "sweeps"
    assert "# storage: {root: /tmp/x}?" in text


def test_a_file_that_is_there_is_kept_and_data_that_no_sweep_can_use_gets_none(root: Path, capsys) -> None:
    (root / "sweep.yaml").write_text("mine")
    words = ["init", str(root / "My pets.csv"), "-o", str(root / "sweep.yaml")]
    assert main.main(words) == 2
    assert "sweep.yaml is there already" in capsys.readouterr().err
    assert (root / "sweep.yaml").read_text() == "mine"
    (root / "sweep.yaml").unlink()
    rows = [(f"img/{i}.png", "cat" if i % 3 == 1 else "dog", SPLITS[i % 3]) for i in range(240)]
    table(root / "My pets.csv", ("image", "label", "split"), rows)
    assert main.main(words) == 2
    assert "objectives.delta_f1 would be undefined" in capsys.readouterr().err
    assert main.main([*words, "--hours", "0"]) == 2
    assert "--hours is 0. Use more than 0." in capsys.readouterr().err
    assert not (root / "sweep.yaml").exists()
