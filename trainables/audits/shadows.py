"""The membership audit of trained fits: who is asked about, the shadow models and twins, and what the attacks come to.

Members are a random part of the training split, others one of the test split. The rest of both is the pool: each
shadow model is trained on a random half of it. A twin of a fit is trained as that was, on the training split without
the members: what an attack reads of it is the placebo. Neither has seen anybody who is asked about. People, halves and
seeds are the same for all fits of a dataset, so that these can be compared example by example.

Shapes: N examples asked about, C classes, T shadow models, R twins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.arrays import Floats, Ints
from trainables.audits import Target
from trainables.audits.membership import Scores, lira_scores, log_odds, loss_scores
from trainables.data.base import Groups
from trainables.errors import FitError, UserError, unknown
from trainables.finetuning import FineTuning
from trainables.params import Params, exists

SHADOWS = 16  # as in the authors' code
TWINS = 4
SHADOW_METHODS = ("lora", "own")
_STREAM = 0x5EED


@dataclass(frozen=True)
class Protocol:
    """Which shares of the training and of the test split are asked about."""

    members: float
    others: float
    source: str


PROTOCOLS: Mapping[str, Protocol] = {
    "paper": Protocol(1 / 5, 1 / 5, "On Fairness of LoRA, section 2.4"),
    "code": Protocol(1 / 8, 1 / 2, "its authors' code: of a split 80:20, a tenth of all data each"),
}
ATTACKS: Mapping[str, Callable[[Floats, Ints, Floats], Floats]] = {
    "loss": lambda log_probs_NC, labels_N, _: loss_scores(log_probs_NC, labels_N),
    "lira": lambda log_probs_NC, labels_N, beside_TN: lira_scores(log_odds(log_probs_NC, labels_N), beside_TN),
    "lira-two-sided": lambda log_probs_NC, labels_N, beside_TN: lira_scores(
        log_odds(log_probs_NC, labels_N), beside_TN, two_sided=True
    ),
}


def audit(
    tuning: FineTuning,
    targets: Sequence[Target],
    *,
    protocol: str = "paper",
    shadows: int = SHADOWS,
    shadow_method: str = "lora",
    twins: int = TWINS,
    heard: Callable[[str], None] = lambda done: None,
) -> dict[str, Any]:
    """Attack these fits. `heard` is told of each model that was trained for that. Strict JSON.

    Shadow models are trained by LoRA, whatever the fit, or by the fit's `own` method and settings.

    Raises:
        UserError: an option that does not exist, too few examples, or a shadow model or twin that cannot be trained.
    """
    check(protocol=protocol, shadows=shadows, shadow_method=shadow_method, twins=twins)
    asked = Asked.draw(tuning, PROTOCOLS[protocol])
    chance = np.random.default_rng([_STREAM, 1])
    halves = [asked.half(chance) for _ in range(shadows)]
    seeds, twin_seeds = (chance.integers(2**31, size=count).tolist() for count in (shadows, twins))
    beside: dict[str, Floats] = {}  # by the settings
    like: dict[str, list[Floats]] = {}
    found: list[dict[str, Any]] = []
    first: dict[str, Scores] = {}

    def train(params: Params, whose: str, over: Sequence[tuple[int, Mapping[str, Ints]]]) -> list[Floats]:
        trained = []
        for seed, rows in over:
            trained.append(asked.trained(tuning, params, seed, rows))
            heard(f"{whose} {len(trained)} of {len(over)} ({params.method})")
        return trained

    for target in targets:
        tuning.aim(target.params, target.seed)
        tuning.load_weights(target.weights)
        answers_NC = asked.answers(tuning)
        shadow = target.params if shadow_method == "own" else lora(tuning.task.backbone.name, target.params)
        own, shadows_of = str(target.params.to_flat()), str(shadow.to_flat())
        if own not in like:
            like[own] = train(target.params, "twin", [(seed, {"train": asked.left}) for seed in twin_seeds])
        if shadows_of not in beside:
            beside[shadows_of] = np.stack(train(shadow, "shadow model", list(zip(seeds, halves, strict=True))))
        scores = _scores(answers_NC, like[own], beside[shadows_of], asked.labels_N)
        found.append(
            {
                "accuracy": asked.accuracy([answers_NC]),
                "twins": asked.accuracy(like[own]) if twins else None,
                "shadows": asked.accuracy(beside[shadows_of]) | {"params": shadow.to_flat()},
                "attacks": {attack: asked.judged(by, first.get(attack)) for attack, by in scores.items()},
            }
        )
        first = first or scores
    counts = {"members": len(asked.members), "others": len(asked.others), "pool": asked.pool}
    return {"protocol": protocol, **counts, "shadows": shadows, "shadow_method": shadow_method, "twins": twins} | {
        "targets": found
    }


def check(*, protocol: str, shadows: int, shadow_method: str, twins: int) -> None:
    """Refuse options that do not exist.

    Raises:
        UserError: says which, and what is allowed.
    """
    for option, given, known in (("protocol", protocol, PROTOCOLS), ("shadow-method", shadow_method, SHADOW_METHODS)):
        if given not in known:
            raise UserError(unknown(f"--{option} '{given}'", given, known))
    if shadows < 3:
        raise UserError(f"--shadows is {shadows}. Use 3 or more; the paper's authors use {SHADOWS}.")
    if twins < 0:
        raise UserError(f"--twins is {twins}. Use 2 or more ({TWINS} by default), or 0 for no placebo.")


def lora(backbone: str, target: Params) -> Params:
    """How a shadow model is trained where the paper says: LoRA, whatever the target, on the layers of its adapter."""
    layers = {"layers": target.layers} if exists("layers", target.method) else {}
    rate = 1e-3 if "swin" in backbone.lower() else 3e-4
    fixed = {"method": "lora", "rank": 8, "alpha": "16", "weight_decay": 1e-3, "batch_size": 32, "epochs": 3}
    return Params.from_flat(fixed | {"learning_rate": rate} | layers)


@dataclass(frozen=True)
class Asked:
    """Who is asked about, and what is left: `left` of the training split, `rest` of the test split."""

    members: Ints
    others: Ints
    left: Ints
    rest: Ints
    labels_N: Ints
    groups: Mapping[str, Groups]

    @classmethod
    def draw(cls, tuning: FineTuning, protocol: Protocol) -> Asked:
        """The same people for the same data and protocol.

        Raises:
            UserError: the splits have too few examples to ask about, or to train on.
        """
        data, chance = tuning.dataset, np.random.default_rng(_STREAM)
        rows = []
        for split, share in (("train", protocol.members), ("test", protocol.others)):
            order, cut = chance.permutation(len(data.splits[split])), round(share * len(data.splits[split]))
            rows += [np.sort(order[:cut]), np.sort(order[cut:])]
        members, left, others, rest = rows
        if not len(members) or not len(others):
            sizes = " and ".join(f"{len(data.splits[split])} in {split}" for split in ("train", "test"))
            raise UserError(f"{data.name} has {sizes}: too few examples to ask about any. Use more data.")

        groups = {
            kind: data.groups("train", kind).part(members).joined(data.groups("test", kind).part(others))
            for kind in data.kinds
        }
        return cls(members, others, left, rest, groups["class"].index_N, groups)

    @property
    def pool(self) -> int:
        """How many examples the shadow models are trained on, each on half."""
        return len(self.left) + len(self.rest)

    def half(self, chance: np.random.Generator) -> dict[str, Ints]:
        """A random half of the pool, by split."""
        drawn = np.sort(chance.permutation(self.pool)[: self.pool // 2])
        own = drawn < len(self.left)
        return {"train": self.left[drawn[own]], "test": self.rest[drawn[~own] - len(self.left)]}

    def trained(self, tuning: FineTuning, params: Params, seed: int, rows: Mapping[str, Ints]) -> Floats:
        """The answers of a model trained on `rows` alone.

        Raises:
            UserError: it could not be trained.
        """
        try:
            tuning.aim(params, seed, rows)
            while not tuning.done:
                tuning.train_epoch()
            return self.answers(tuning)
        except FitError as fault:
            mend = "Another fit, or --shadow-method lora or own, may hold."
            raise UserError(f"a model to compare with could not be trained: {fault} {mend}") from fault

    def answers(self, tuning: FineTuning) -> Floats:
        """[N, C]: of the model that is trained."""
        return np.concatenate([tuning.log_probs("train", self.members), tuning.log_probs("test", self.others)])

    def accuracy(self, answers_TNC: Sequence[Floats] | Floats) -> dict[str, float]:
        """The share of right answers on members and on others, the mean over models."""
        right_TN = np.stack([answers_NC.argmax(1) == self.labels_N for answers_NC in answers_TNC])
        cut = len(self.members)
        return {"members": float(right_TN[:, :cut].mean()), "others": float(right_TN[:, cut:].mean())}

    def judged(self, scores: Scores, first: Scores | None) -> dict[str, Any]:
        """Over everybody, and by each kind of groups that the data has."""
        member_N = np.arange(len(self.labels_N)) < len(self.members)
        found = scores.judged(member_N, ~member_N, first)
        found["groups"] = {
            kind: [
                {"name": name} | scores.judged(member_N & groups.member_N(g), ~member_N & groups.member_N(g), first)
                for g, name in enumerate(groups.names)
            ]
            for kind, groups in self.groups.items()
        }
        return found


def _scores(answers_NC: Floats, twins_RNC: Sequence[Floats], shadows_TNC: Floats, labels_N: Ints) -> dict[str, Scores]:
    """What each attack says of everybody: on the model, its twins, and each shadow model beside the others."""
    odds_TN = np.stack([log_odds(one_NC, labels_N) for one_NC in shadows_TNC])
    empty = np.empty((0, len(labels_N)))
    return {
        name: Scores(
            model_N=attack(answers_NC, labels_N, odds_TN),
            twins_RN=np.stack([attack(twin_NC, labels_N, odds_TN) for twin_NC in twins_RNC]) if twins_RNC else empty,
            shadows_TN=np.stack(
                [attack(one_NC, labels_N, np.delete(odds_TN, t, axis=0)) for t, one_NC in enumerate(shadows_TNC)]
            ),
        )
        for name, attack in ATTACKS.items()
    }
