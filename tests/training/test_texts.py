"""Texts as batches: nothing lost, little padded, the same bits after a stop."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.backbones import language
from trainables.backbones import BackboneConfig
from trainables.data import DataConfig
from trainables.data import load as load_data
from trainables.data.base import SPLITS, Groups
from trainables.data.texts.tokens import Reading, Tokens, tokenised
from trainables.errors import UserError
from trainables.finetuning import FineTuning
from trainables.params import Params
from trainables.task import Task, TrainConfig
from trainables.training.texts import NO_TOKEN, Texts

LETTERS = Reading(lambda texts, most: [list(map(ord, text))[:most] for text in texts], "letters", 8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


def texts(*given: str) -> Texts:
    labels_N = np.zeros(len(given), np.int64)
    found = tokenised(given, LETTERS, about="a test")
    return Texts(found, labels_N, Groups("class", ("one",), labels_N), device=torch.device("cpu"))


def said(tokens_BL: torch.Tensor) -> list[str]:
    return ["".join(chr(token) for token in row if token != NO_TOKEN) for row in tokens_BL.tolist()]


def test_a_batch_is_as_wide_as_its_longest_text_whichever_part_it_is_of() -> None:
    split = texts("a", "bcd", "", "ef")
    assert split.take(slice(0, 2)).tolist() == [[97, -1, -1], [98, 99, 100]]
    assert said(split.take(torch.tensor([3, 0]))) == ["ef", "a"]
    part = split.part(np.array([3, 1]))
    assert said(part.take(slice(0, 2))) == ["ef", "bcd"]
    both = part.joined(texts("xyz"))
    assert said(both.take(torch.tensor([2, 0, 1]))) == ["xyz", "ef", "bcd"]
    assert both.lengths_N.tolist() == [2, 3, 3]
    assert said(both.part(np.array([2])).take(slice(0, 1))) == ["xyz"]


def test_texts_are_tokenised_once_and_again_if_the_array_is_torn(cache: Path) -> None:
    calls: list[int] = []

    def encode(given: object, most: int | None) -> list[list[int]]:
        calls.append(1)
        return LETTERS.encode(given, most)  # type: ignore[arg-type]

    reading = Reading(encode, "counted", 8)
    for _ in range(2):
        assert said_by(reading) == ["abc", "longer t"]
    assert len(calls) == 2  # once as they are, once for those that are cut
    (file,) = cache.glob("*/tokens.i32")
    file.write_bytes(bytes([*file.read_bytes()[:-1], 7]))
    assert said_by(reading) == ["abc", "longer t"]
    assert len(calls) == 4
    assert said_by(Reading(encode, "another tokenizer", 8)) == ["abc", "longer t"]
    assert len(calls) == 6
    assert len(list(cache.glob("*/tokens.i32"))) == 2


def said_by(reading: Reading) -> list[str]:
    found = tokenised(["abc", "longer texts"], reading, about="a test")
    assert found.cut == 1
    starts = found.starts_N1
    return ["".join(map(chr, found.tokens_T[a:b])) for a, b in itertools.pairwise(starts)]


def test_the_order_by_length_has_each_example_once_and_pads_little() -> None:
    lengths = np.random.default_rng(0).integers(1, 9, 1003)
    split = texts(*("x" * length for length in lengths))
    order_N = np.random.default_rng(1).permutation(1003)
    by_length = split.by_length(order_N, 10, np.random.default_rng(2))
    assert sorted(by_length) == list(range(1003))
    assert (by_length == split.by_length(order_N, 10, np.random.default_rng(2))).all()

    def padded(order: np.ndarray) -> int:
        parts = [lengths[order[i : i + 10]] for i in range(0, 1003, 10)]
        return sum(int((part.max() - part).sum()) for part in parts)

    assert padded(by_length) < padded(order_N) / 4
    means = [lengths[by_length[i : i + 10]].mean() for i in range(0, 1000, 10)]
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.3  # batches are not in the order of their length


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> BackboneConfig:
    folder = language.bert(tmp_path_factory.mktemp("bert"))
    return BackboneConfig(name=f"transformers:{folder}", length=12)


def test_a_fit_on_texts_that_was_stopped_between_two_steps_ends_with_the_same_bits(bert: BackboneConfig) -> None:
    tuning = FineTuning(Task(data=DataConfig(name="docstrings"), backbone=bert, groups="cell"), device="cpu", threads=1)
    tuning.prepare()
    words = {
        split: [re.findall(r"\w+|[^\w\s]+", text) for text in tuning.dataset.splits[split].texts] for split in SPLITS
    }
    assert tuning.notes == [
        f"{split}: {sum(len(text) > 10 for text in words[split])} of {n} texts have more than 12 tokens, and are cut"
        for split, n in (("train", 240), ("val", 120))  # [CLS] and [SEP] are two of the twelve
    ]
    params = Params.from_flat({"method": "fairlora", "lambda": 1.0, "rank": 4, "layers": "qv", "epochs": 2})
    tuning.aim(params, seed=0)
    while not tuning.done:
        tuning.train_epoch()
    whole = tuning.log_probs("val", np.arange(120))
    assert tuning.provenance()["notes"] == tuning.notes

    class Stopped(Exception):
        pass

    def stop() -> None:
        if tuning.fit.step == 3:
            raise Stopped

    tuning.aim(params, seed=0)
    tuning.between_steps = stop  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        tuning.train_epoch()
    state = tuning.state()
    tuning.between_steps = lambda: None  # type: ignore[method-assign]
    tuning.aim(params, seed=0)
    tuning.load_state(*state)
    while not tuning.done:
        tuning.train_epoch()
    assert (tuning.log_probs("val", np.arange(120)) == whole).all()


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ({"data": {"name": "docstrings"}}, "docstrings has texts, and backbone.name small-vit takes images"),
        ({"backbone": "bert"}, "digits-on-scenes has images, and backbone.name transformers:.* takes texts"),
        (
            {"data": {"name": "docstrings"}, "backbone": "bert", "train": TrainConfig(flip=True)},
            "train.flip and train.crop are for images",
        ),
    ],
)
def test_texts_and_images_are_told_apart(bert: BackboneConfig, task: dict[str, object], told: str) -> None:
    backbone = bert if task.get("backbone") else BackboneConfig()
    tuning = FineTuning(Task.model_validate(task | {"backbone": backbone}), device="cpu", threads=1)
    with pytest.raises(UserError, match=told):
        tuning.prepare()


def test_only_splits_that_were_read_are_told_of() -> None:
    tokens = Tokens(load_data(DataConfig(name="docstrings")), LETTERS)
    assert tokens.notes == []
    tokens.split("test")
    assert tokens.notes == ["test: 120 of 120 texts have more than 8 tokens, and are cut"]
