"""Every dataset, every family of backbones and every method, each pair of them together at least once.

A new line in a table comes under these laws by itself; what it cannot do without is told by the first test.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from tests.contracts.conftest import Prepared
from tests.contracts.models import MODELS
from tests.contracts.trees import TREES
from trainables.audits import AUDITS
from trainables.backbones import BACKBONES, find
from trainables.contracts import fits
from trainables.data import DATASETS
from trainables.methods import ERM, L1, METHODS, Component, Method
from trainables.params import Params, exists
from trainables.training.refit import trained_head

EPOCHS = 2
TEXTS, READERS = ("docstrings", "dlab-hate-speech"), ("bert",)  # datasets of texts, and models that read them


def together(dataset: str, model: str) -> bool:
    """Whether the examples of the dataset are what the model takes."""
    return (dataset in TEXTS) == (model in READERS)


MODELS_FOR = {dataset: [model for model in MODELS if together(dataset, model)] for dataset in DATASETS}
DATA_FOR = {model: [dataset for dataset in DATASETS if together(dataset, model)] for model in MODELS}
# Shifting the model by one for each dataset and method meets all pairs, as there are more of both than of models.
TRIPLES = [
    (dataset, MODELS_FOR[dataset][(i + j) % len(MODELS_FOR[dataset])], method)
    for model in ("small", "bert")  # one of each kind
    for (i, dataset), (j, method) in itertools.product(enumerate(DATA_FOR[model]), enumerate(METHODS))
]
# (dataset, model, method) for the laws that need two fits: all of models x methods, the datasets in turn.
PAIRS = [
    (DATA_FOR[model][i % len(DATA_FOR[model])], model, method)
    for i, (model, method) in enumerate(itertools.product(MODELS, METHODS))
]


def params(method: str, model: str, epochs: int = EPOCHS) -> Params:
    """With dropout wherever method and model know it: fused attention has none."""
    flat: dict[str, Any] = {"lambda": 1.0, "rank": 4, "dropout": 0.0 if "clip" in model else 0.1}
    mine = {name: value for name, value in flat.items() if exists(name, method)}
    return Params.from_flat({"method": method, "learning_rate": 1e-3, "epochs": epochs, "batch_size": 8, **mine})


def test_every_line_of_every_table_is_enrolled() -> None:
    assert TREES.keys() == DATASETS.keys()
    loaders = {entry.code for entry in (*BACKBONES.values(), *BACKBONES.families.values())}
    assert {find(config.name).code for config in MODELS.values()} == loaders
    for left, right in itertools.combinations(range(3), 2):
        tables = (DATASETS, MODELS, METHODS)
        met = {(triple[left], triple[right]) for triple in TRIPLES}
        pairs = set(itertools.product(tables[left], tables[right]))
        assert met == {pair for pair in pairs if (left, right) != (0, 1) or together(*pair)}


@pytest.mark.parametrize(("dataset", "model", "method"), TRIPLES)
def test_a_fit_is_finite_and_moves_the_weights_of_the_method_and_no_others(
    prepared: Prepared, dataset: str, model: str, method: str
) -> None:
    fits.moves_its_own(prepared(dataset, model), params(method, model))


@pytest.mark.parametrize(("dataset", "model", "method"), PAIRS)
def test_a_fit_continued_from_its_state_ends_with_the_bits_of_an_unbroken_one(
    prepared: Prepared, dataset: str, model: str, method: str
) -> None:
    fits.goes_on(prepared(dataset, model), params(method, model))


@pytest.mark.parametrize("method", ["lora", "probe", "fft"])
@pytest.mark.parametrize("model", MODELS)
def test_the_saved_model_is_the_measured_one(prepared: Prepared, model: str, method: str) -> None:
    fits.saves_what_it_measured(
        prepared("waterbirds" if together("waterbirds", model) else TEXTS[0], model), params(method, model)
    )


@pytest.mark.parametrize(("dataset", "model", "method"), PAIRS[:: len(METHODS) + 1] + PAIRS[: len(METHODS)])
def test_the_same_seed_gives_the_same_numbers(prepared: Prepared, dataset: str, model: str, method: str) -> None:
    fits.repeats(prepared(dataset, model), params(method, model, epochs=1))


@pytest.mark.parametrize("method", METHODS)
def test_a_zero_shot_head_starts_from_the_class_names_and_not_from_the_seed(prepared: Prepared, method: str) -> None:
    tuning = prepared("waterbirds", "clip-zero-shot")
    pristine = tuning._backbone.model.get_submodule("head").state_dict()["weight"].clone()
    for seed in (0, 1):
        tuning.aim(params(method, "clip-zero-shot"), seed)
        heads = [tensor for name, tensor in tuning.fit.weights.items() if ".head." in f".{name}" and "weight" in name]
        assert len(heads) == 1
        assert torch.equal(heads[0], pristine)


def test_a_second_refit_is_one_file_and_one_line(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    line = Method("lora", ERM, "a test", refit=Component("tests.contracts.means:refit", (L1,)))
    monkeypatch.setitem(METHODS._lines, "lora-means", line)
    tuning = prepared("waterbirds", "small")
    tuning.aim(Params.from_flat({"method": "lora-means", "l1": 2.0, "rank": 4, "epochs": 1, "batch_size": 8}), seed=0)
    assert tuning.train_epoch()["refit_shrinkage"] == 2.0
    assert tuning.provenance()["validation_examples"] == 4  # the other half of eight, on which it was fitted, is not
    weight_CF = trained_head(tuning.fit.model, "head").weight
    bias_C = trained_head(tuning.fit.model, "head").bias
    assert torch.allclose(bias_C, -weight_CF.square().sum(1) / 2)


@pytest.mark.parametrize("name", AUDITS)
def test_an_audit_gives_strict_json_and_the_same_for_the_same_seed(prepared: Prepared, name: str) -> None:
    fits.is_repeatable(name, prepared("waterbirds", "small"), params("fairlora", "small", epochs=1))


def test_a_random_head_comes_from_the_seed(prepared: Prepared) -> None:
    tuning, heads = prepared("waterbirds", "clip"), []
    for seed in (0, 1):
        tuning.aim(params("fft", "clip"), seed)
        heads.append(tuning.fit.weights["head.weight"].detach().clone())
    assert not torch.equal(*heads)
