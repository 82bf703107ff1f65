"""A fit meets an image that cannot be read: it stops and names it, or leaves it out and says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.models import MODELS
from tests.contracts.trees import TREES
from trainables import data
from trainables.data import DataConfig
from trainables.errors import UserError
from trainables.finetuning import FineTuning
from trainables.params import Params
from trainables.task import Task


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "birds"
    root.mkdir()
    TREES["waterbirds"](root)
    return DataConfig(name="waterbirds", root=root, max_bad=0.5)


def prepared(config: DataConfig) -> FineTuning:
    tuning = FineTuning(Task(data=config, backbone=MODELS["small"], groups="cell"), device="cpu", threads=1)
    tuning.prepare()
    tuning.aim(Params(method="lora", epochs=1), seed=0)
    return tuning


def break_one(config: DataConfig, split: str) -> Path:
    path = data.load(config).splits[split].paths[3]
    path.write_bytes(b"no image")
    return path


def test_an_unreadable_image_stops_a_fit_that_may_not_skip_it(config: DataConfig) -> None:
    path = break_one(config, "train")
    with pytest.raises(UserError, match=path.name):
        prepared(config)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_fit_that_may_skip_it_trains_and_measures_on_the_rest(config: DataConfig, split: str) -> None:
    whole = prepared(config).provenance()["split_hash"]
    break_one(config, split)
    tuning = prepared(config.model_copy(update={"on_bad": "skip"}))
    tuning.train_epoch()
    cells = {row["name"]: row["n"] for row in tuning.evaluate("val").groups if row["kind"] == "cell"}
    assert sum(cells.values()) == (8 if split == "train" else 7)
    assert tuning.provenance()["split_hash"] != whole
