"""The audit of a real fit: who is asked about is seen by no shadow model, and the same audit gives the same numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.audits import shadows
from trainables.finetuning import FineTuning
from trainables.params import Params
from trainables.task import Task

PARAMS = Params.from_flat({"method": "fairlora", "lambda": 1.0, "rank": 4, "epochs": 1})


class Spied(FineTuning):
    """Remembers what each fit was trained on, and who was asked about."""

    def __init__(self) -> None:
        super().__init__(Task(groups="cell"), device="cpu", threads=1)
        self.trained: list[np.ndarray | None] = []
        self.asked: dict[str, np.ndarray] = {}

    def aim(self, params: Params, seed: int, rows: Any = None) -> None:
        """As it is."""
        self.trained.append(rows)
        super().aim(params, seed, rows)

    def log_probs(self, split: str, rows: np.ndarray) -> np.ndarray:
        """As they are."""
        self.asked[split] = rows
        return super().log_probs(split, rows)


@pytest.fixture(scope="module")
def tuning() -> Spied:
    """Ready, with one fit trained."""
    made = Spied()
    made.prepare()
    made.aim(PARAMS, 0)
    made.train_epoch()
    return made


@pytest.fixture(scope="module")
def weights(tuning: Spied, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fit") / "weights"
    tuning.save(place)
    return place


def test_no_shadow_model_has_seen_who_is_asked_about(tuning: Spied, weights: Path) -> None:
    tuning.trained.clear()
    heard: list[int] = []
    found = shadows.audit(tuning, PARAMS, 0, weights, shadows=2, heard=heard.append)
    target, *beside = tuning.trained
    assert target is None
    assert heard == [1, 2]
    everybody = len(tuning.dataset.splits["train"])
    assert len(tuning.asked["train"]) == round(0.2 * everybody)
    assert len(tuning.asked["test"]) == len(tuning.dataset.splits["test"])
    for half in beside:
        assert len(half) == (everybody - len(tuning.asked["train"])) // 2
        assert not set(half) & set(tuning.asked["train"])
    assert set(beside[0]) != set(beside[1])
    assert list(found["attacks"]) == ["loss", "lira", "lira-two-sided"]
    assert [len(rows) for rows in found["attacks"]["lira"]["groups"].values()] == [2, 2, 4]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert shadows.audit(tuning, PARAMS, 0, weights, shadows=2) == found


def test_one_shadow_model_is_refused_before_anything_is_trained(tuning: Spied, weights: Path) -> None:
    tuning.trained.clear()
    with pytest.raises(ValueError, match="1 shadow models"):
        shadows.audit(tuning, PARAMS, 0, weights, shadows=1)
    assert tuning.trained == []


def test_a_fit_on_some_rows_is_the_fit_on_those_alone(tuning: Spied) -> None:
    rows = np.arange(0, len(tuning.dataset.splits["train"]), 3)
    tuning.aim(PARAMS, 0, rows)
    tuning.train_epoch()
    assert np.array_equal(tuning._train.labels_N.numpy(), tuning.dataset.splits["train"].labels_N[rows])
    everybody = tuning._split("train")
    assert np.array_equal(tuning._train.take(slice(0, 4)).numpy(), everybody.take(slice(0, 12, 3)).numpy())
