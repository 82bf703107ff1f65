"""One prepared fine-tuning for each dataset and model, and one cache for all: the tables are large."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from open_clip import factory

from tests.contracts.models import MODELS, register_clip, write_bert
from tests.contracts.trees import TREES
from trainables import data
from trainables.contracts.bench import few
from trainables.data import DataConfig
from trainables.finetuning import FineTuning
from trainables.task import Task, TrainConfig

Prepared = Callable[[str, str], FineTuning]


@pytest.fixture(scope="package")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    """(dataset, model) -> a fine-tuning that is ready to be aimed."""
    folder = tmp_path_factory.mktemp("contracts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEPER_CACHE", str(folder / "cache"))
        for table in ("_MODEL_CONFIGS", "_MODEL_CONFIG_PATHS"):
            patch.setattr(factory, table, copy.copy(getattr(factory, table)))
        register_clip(folder)
        models = MODELS | {"bert": write_bert(folder / "bert")}
        roots = {name: (folder / name, build(_made(folder / name))) for name, build in TREES.items()}

        @cache
        def make(dataset: str, model: str) -> FineTuning:
            root, facts = roots[dataset]
            config = DataConfig(name=dataset, root=facts.get("root", root))
            train = TrainConfig() if model == "bert" else TrainConfig(flip=True, crop=0.5)
            task = Task(data=config, backbone=models[model], groups=facts["groups"], train=train)
            tuning = FineTuning(task, device="cpu", threads=1)
            tuning.prepare(few(data.load(config)))  # the embedded digits are 1,197 images otherwise
            return tuning

        yield make


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
