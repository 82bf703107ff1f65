"""Eight drawn images, the small models prepared for them, and short fits: for laws of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.contracts.models import MODELS, register_clip
from trainables.contracts.bench import drawn
from trainables.data.base import Dataset
from trainables.finetuning import FineTuning
from trainables.params import Params
from trainables.task import Task, TrainConfig

FLIP = TrainConfig(flip=True)


def images(folder: Path) -> Dataset:
    """What `prepared` trains on, drawn into `folder`."""
    register_clip(folder)
    return drawn(folder)


def prepared(data: Dataset, model: str = "small", train: TrainConfig = FLIP, **more: Any) -> FineTuning:
    """One of `MODELS`, on one thread."""
    made = FineTuning(Task(backbone=MODELS[model], groups="cell", train=train), device="cpu", threads=1, **more)
    made.prepare(data)
    return made


def params(method: str = "fairlora", **more: Any) -> Params:
    """Three examples in a batch of 8: the last one of an epoch has two."""
    return Params.from_flat({"method": method, "epochs": 2, "batch_size": 3, "learning_rate": 1e-2, **more})
