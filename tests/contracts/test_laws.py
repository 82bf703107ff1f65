"""Every line keeps the laws of its table; and each law can be broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sweeper.cli import plugins
from sweeper.spec.samplers import SAMPLERS
from trainables.contracts import Breach, Law, fits, judge, metrics
from trainables.contracts.bench import drawn
from trainables.data.base import Dataset
from trainables.methods import METHODS, Component, Method
from trainables.methods.base import Objective
from trainables.metrics import METRICS
from trainables.metrics.base import Metric, Predictions, Value, undefined
from trainables.options import Param


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_keeps_the_laws(name: str) -> None:
    assert [found for found in judge(metrics.LAWS, METRICS[name]) if found.breach] == []


@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_the_laws(name: str) -> None:
    assert [found for found in judge(fits.METHOD, name) if found.breach] == []


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_keeps_the_laws(name: str) -> None:
    assert [found for found in plugins.of_sampler(name) if found.breach] == []


def test_drawn_data_keeps_the_laws(tmp_path: Path) -> None:
    assert [found for found in judge(fits.DATASET, drawn(tmp_path), drawn(tmp_path)) if found.breach] == []


def _in_order(predictions: Predictions) -> Value:
    return Value(float(predictions.correct_N[0])) if len(predictions) else undefined("no examples")


def _changing(predictions: Predictions) -> Value:
    predictions.log_probs_NC[:1] += 1
    return Value(0.5)


@pytest.mark.parametrize(
    ("law", "fn"),
    [
        (metrics.is_a_number_or_says_why_not, lambda predictions: 0.5),
        (metrics.is_a_number_or_says_why_not, lambda predictions: Value(float("nan"))),
        (metrics.is_a_number_or_says_why_not, lambda predictions: Value(float("inf"))),
        (metrics.is_a_number_or_says_why_not, lambda predictions: Value(0.5, "why")),
        (metrics.is_defined_somewhere, lambda predictions: undefined("never")),
        (metrics.is_within_its_unit, lambda predictions: Value(1.5)),
        (metrics.does_not_mind_the_order, _in_order),
        (metrics.changes_nothing, _changing),
        (metrics.changes_nothing, lambda predictions: Value(float(np.random.default_rng().random()))),
        (metrics.says_how_many, lambda predictions: Value(0.5, groups=({"name": "a", "value": 0.5},))),
        (metrics.says_how_many, lambda predictions: Value(0.5, groups=({"n": 3, "value": 0.5},))),
    ],
)
def test_a_metric_that_breaks_a_law_is_found(law: Law, fn: Callable[[Predictions], Value]) -> None:
    with pytest.raises(Breach):
        law(Metric("max", "groups", fn, "a test", "a test"))


class Bad(Objective):
    """Breaks one law, by its name."""

    def __init__(self, how: str) -> None:
        self.how, self.met = how, 0

    def __call__(self, loss_N: torch.Tensor, groups_N: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        self.met += 1
        if self.how == "vector":
            return loss_N, {}
        if self.how == "absent groups":
            return torch.stack([loss_N[groups_N == group].mean() for group in range(4)]).mean(), {}
        if self.how == "first":
            return loss_N[0], {}
        if self.how == "numbers":
            return (loss_N * groups_N).mean(), {}
        if self.how == "memory":
            return loss_N.mean() * self.met, {}
        return loss_N.mean(), {"loss": loss_N.mean()}


def bad(how: str) -> Callable[..., Bad]:
    """The factory of such an objective."""
    return lambda **_: Bad(how)


VECTOR, ABSENT, FIRST, NUMBERS, MEMORY, ATTACHED = map(
    bad, ("vector", "absent groups", "first", "numbers", "memory", "attached")
)


@pytest.mark.parametrize(
    ("law", "code"),
    [
        (fits.weighs_any_batch, "ABSENT"),
        (fits.weighs_any_batch, "VECTOR"),
        (fits.weighs_any_batch, "ATTACHED"),
        (fits.does_not_mind_the_order, "FIRST"),
        (fits.does_not_mind_the_names, "NUMBERS"),
        (fits.remembers, "MEMORY"),
    ],
)
def test_a_method_that_breaks_a_law_is_found(monkeypatch: pytest.MonkeyPatch, law: Law, code: str) -> None:
    monkeypatch.setitem(METHODS._lines, "bad", Method("lora", Component(f"{__name__}:{code}"), "a test"))
    with pytest.raises(Breach):
        law("bad")


@pytest.mark.parametrize(
    "param",
    [
        Param("margin", int, "three", "a margin", "a test"),
        Param("margin", float, 1.0, "", "a test"),
        Param("margin", float, 1.0, "a margin", ""),
        Param("margin", float, 1.0, "a margin", "a test", low=2, high=1),
        Param("margin", float, 1.0, "a margin", "a test", low=0, high=1, log=True),
        Param("copy", float, 1.0, "a name of pydantic's", "a test"),
    ],
)
def test_a_parameter_that_is_declared_badly_is_found(monkeypatch: pytest.MonkeyPatch, param: Param) -> None:
    line = Method("full", Component("trainables.methods.erm:objective", (param,)), "a test")
    monkeypatch.setitem(METHODS._lines, "bad", line)
    with pytest.raises(Breach):
        fits.declares_what_it_reads("bad")


def _with(dataset: Dataset, split: str, **changes: object) -> Dataset:
    return replace(dataset, splits=dataset.splits | {split: replace(dataset.splits[split], **changes)})


@pytest.mark.parametrize(
    ("law", "change"),
    [
        (fits.is_whole, lambda data: _with(data, "val", labels_N=data.splits["val"].labels_N + 2)),
        (fits.is_whole, lambda data: _with(data, "train", labels_N=data.splits["train"].labels_N * 0)),
        (fits.is_whole, lambda data: _with(data, "test", attributes_N=None)),
        (fits.is_whole, lambda data: _with(data, "test", paths=data.splits["test"].paths[:3])),
        (fits.has_each_example_once, lambda data: _with(data, "test", paths=data.splits["val"].paths)),
        (fits.has_its_files, lambda data: replace(data, root=data.root / "elsewhere")),
        (fits.has_its_files, lambda data: _with(data, "val", paths=(data.root / "no.png",) * 8)),
    ],
)
def test_a_dataset_that_breaks_a_law_is_found(tmp_path: Path, law: Law, change: Callable[[Dataset], Dataset]) -> None:
    with pytest.raises(Breach):
        law(change(drawn(tmp_path)), drawn(tmp_path))


def test_a_dataset_that_is_another_one_each_time_is_found(tmp_path: Path) -> None:
    dataset = drawn(tmp_path)
    with pytest.raises(Breach):
        fits.is_the_same_again(dataset, _with(dataset, "val", labels_N=1 - dataset.splits["val"].labels_N))
