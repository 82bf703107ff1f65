"""The audit of a real fit: who is asked about is seen by no shadow model and no twin, and it is the same each time."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pytest

from trainables.audits import Target, shadows
from trainables.errors import FitError, UserError
from trainables.finetuning import FineTuning
from trainables.params import Params
from trainables.task import Task

PARAMS = Params.from_flat({"method": "fairlora", "lambda": 1.0, "rank": 4, "layers": "attention", "epochs": 1})
FULL = Params.from_flat({"method": "fft", "epochs": 1})
OPTIONS = {"protocol": "paper", "shadows": 16, "shadow_method": "lora", "twins": 4}


class Spied(FineTuning):
    """Remembers what each fit was trained on, and who was asked about."""

    def __init__(self) -> None:
        super().__init__(Task(groups="cell"), device="cpu", threads=1)
        self.aims: list[tuple[Params, Mapping[str, np.ndarray] | None]] = []
        self.asked: dict[str, np.ndarray] = {}

    def aim(self, params: Params, seed: int, rows: Mapping[str, np.ndarray] | None = None) -> None:
        """As it is."""
        self.aims.append((params, rows))
        super().aim(params, seed, rows)

    def log_probs(self, split: str, rows: np.ndarray) -> np.ndarray:
        """As they are."""
        self.asked[split] = rows
        return super().log_probs(split, rows)


@pytest.fixture(scope="module")
def tuning() -> Spied:
    """Ready."""
    made = Spied()
    made.prepare()
    return made


@pytest.fixture(scope="module")
def targets(tuning: Spied, tmp_path_factory: pytest.TempPathFactory) -> list[Target]:
    """A fit by LoRA and a full one."""
    made = []
    for number, params in enumerate((PARAMS, FULL)):
        tuning.aim(params, number)
        tuning.train_epoch()
        made.append(Target(params, number, tmp_path_factory.mktemp("fit") / "weights"))
        tuning.save(made[-1].weights)
    return made


def test_no_shadow_model_and_no_twin_has_seen_who_is_asked_about(
    tuning: Spied, targets: list[Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = shadows.lora
    monkeypatch.setattr(shadows, "lora", lambda *of: lora(*of).model_copy(update={"epochs": 1}))  # to be quicker
    tuning.aims.clear()
    heard: list[str] = []
    found = shadows.audit(tuning, targets, shadows=3, twins=2, heard=heard.append)
    assert heard == [
        "twin 1 of 2 (fairlora)",
        "twin 2 of 2 (fairlora)",
        *(f"shadow model {n} of 3 (lora)" for n in (1, 2, 3)),
        "twin 1 of 2 (fft)",
        "twin 2 of 2 (fft)",
        *(f"shadow model {n} of 3 (lora)" for n in (1, 2, 3)),  # the first fit's adapter is on other layers
    ]
    assert [rows for _, rows in tuning.aims].count(None) == 2  # the fits themselves
    halves = [rows for _, rows in tuning.aims if rows and "test" in rows]
    for rows in (rows for _, rows in tuning.aims if rows is not None):
        for split, own in rows.items():
            assert not set(own) & set(tuning.asked[split])
    assert [set(half["test"]) for half in halves[:3]] == [set(half["test"]) for half in halves[3:]]
    assert set(halves[0]["train"]) != set(halves[1]["train"])
    whole = len(tuning.dataset.splits["train"])
    twins = [rows for _, rows in tuning.aims if rows is not None and set(rows) == {"train"}]
    assert [len(twin["train"]) for twin in twins] == [whole - found["members"]] * 4
    first, second = found["targets"]
    assert list(first["attacks"]) == ["loss", "lira", "lira-two-sided"]
    assert [len(rows) for rows in first["attacks"]["lira"]["groups"].values()] == [2, 2, 4]
    assert "above_first" not in first["attacks"]["lira"]
    assert "above_first" in second["attacks"]["lira"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (
        shadows.audit(tuning, targets[1:], shadows=3, twins=2)["targets"][0]["attacks"]["loss"]["auc"]
        == (second["attacks"]["loss"]["auc"])
    )


@pytest.mark.parametrize(("protocol", "members", "others"), [("paper", 1 / 5, 1 / 5), ("code", 1 / 8, 1 / 2)])
def test_each_protocol_asks_about_its_shares_and_halves_all_the_rest(
    tuning: Spied, protocol: str, members: float, others: float
) -> None:
    asked = shadows.Asked.draw(tuning, shadows.PROTOCOLS[protocol])
    train, test = (len(tuning.dataset.splits[split]) for split in ("train", "test"))
    assert (len(asked.members), len(asked.others)) == (round(members * train), round(others * test))
    assert sorted([*asked.members, *asked.left]) == list(range(train))
    assert sorted([*asked.others, *asked.rest]) == list(range(test))
    assert asked.pool == train + test - len(asked.members) - len(asked.others)
    half = asked.half(np.random.default_rng(0))
    assert set(half["train"]) <= set(asked.left)
    assert set(half["test"]) <= set(asked.rest)
    assert len(half["train"]) + len(half["test"]) == asked.pool // 2
    again = shadows.Asked.draw(tuning, shadows.PROTOCOLS[protocol])
    assert np.array_equal(again.members, asked.members)


def test_the_papers_shares_of_a_split_80_to_20_are_those_of_its_code() -> None:
    code = shadows.PROTOCOLS["code"]
    assert code.members * 0.8 == pytest.approx(code.others * 0.2) == 0.1


def test_shadow_models_are_trained_by_lora_as_the_paper_does_it_or_as_the_fit(
    tuning: Spied, targets: list[Target]
) -> None:
    full = shadows.lora("vit_base_patch16_224.orig_in21k", FULL).to_flat()
    assert full == {
        "method": "lora", "rank": 8, "alpha": "16", "layers": "qkv", "dropout": 0.0, "variant": "lora",
        "learning_rate": 3e-4, "weight_decay": 1e-3, "epochs": 3, "batch_size": 32,
    }  # fmt: skip
    assert shadows.lora("swinv2_large_window12_192.ms_in22k", FULL).learning_rate == 1e-3
    assert shadows.lora("small-vit", PARAMS).layers == "attention"  # where the target's adapter is
    tuning.aims.clear()
    found = shadows.audit(tuning, targets[1:], shadows=3, shadow_method="own", twins=0)
    assert [params.method for params, _ in tuning.aims] == ["fft"] * 4
    (target,) = found["targets"]
    assert target["shadows"]["params"] == FULL.to_flat()
    assert target["twins"] is None
    assert "placebo" not in target["attacks"]["lira"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"protocol": "Paper"}, "--protocol 'Paper' is unknown. Did you mean 'paper'? Known: code, paper."),
        ({"shadow_method": "fft"}, "--shadow-method 'fft' is unknown. Known: lora, own."),
        ({"shadows": 2}, "--shadows is 2. Use 3 or more; the paper's authors use 16."),
        ({"twins": -1}, "--twins is -1. Use 2 or more (4 by default), or 0 for no placebo."),
    ],
)
def test_an_option_that_does_not_exist_is_refused_before_anything_is_trained(
    tuning: Spied, targets: list[Target], wrong: dict, told: str
) -> None:
    tuning.aims.clear()
    with pytest.raises(UserError) as fault:
        shadows.audit(tuning, targets, **(OPTIONS | wrong))
    assert str(fault.value) == told
    assert tuning.aims == []


def test_a_model_to_compare_with_that_diverges_is_a_sentence(
    tuning: Spied, targets: list[Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(self: FineTuning) -> dict[str, float]:
        raise FitError("diverged", "the loss became nan in epoch 1, step 3.")

    monkeypatch.setattr(FineTuning, "train_epoch", diverge)
    with pytest.raises(UserError, match=r"could not be trained: the loss became nan in epoch 1, step 3\. Another fit"):
        shadows.audit(tuning, targets, twins=2)


def test_a_fit_on_some_rows_of_two_splits_is_the_fit_on_those_alone(tuning: Spied) -> None:
    rows = {"train": np.arange(0, len(tuning.dataset.splits["train"]), 3), "test": np.arange(5)}
    tuning.aim(PARAMS, 0, rows)
    tuning.train_epoch()
    labels = [tuning.dataset.splits[split].labels_N[own] for split, own in rows.items()]
    assert np.array_equal(tuning._train.labels_N.numpy(), np.concatenate(labels))
    train, test = tuning._split("train"), tuning._split("test")
    border = len(rows["train"])
    assert np.array_equal(tuning._train.take(slice(0, 4)).numpy(), train.take(slice(0, 12, 3)).numpy())
    mixed = tuning._train.take(tuning._train.labels_N.new_tensor([border + 1, 0, border]))
    expected = [test.take(slice(1, 2)), train.take(slice(0, 1)), test.take(slice(0, 1))]
    assert np.array_equal(mixed.numpy(), np.concatenate(expected))
    part = tuning._train.part(np.array([border, 1]))
    assert np.array_equal(
        part.take(slice(0, 2)).numpy(), np.concatenate([test.take(slice(0, 1)), train.take(slice(3, 4))])
    )
