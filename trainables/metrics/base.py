"""What a metric reads and what it gives. Counts first: every rate here is a quotient of two of them.

Shapes: N examples, C classes, S values of the sensitive attribute, G groups.
"""

from __future__ import annotations

import functools
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from trainables.arrays import Floats, Ints, Mask
from trainables.data.base import OVERLAPPING, Facet, Groups, kinds, partition

Row = dict[str, Any]
NO_ATTRIBUTE = "the data has no sensitive attribute"


@dataclass(frozen=True)
class Predictions:
    """A model's answers on one split, with all that is needed to judge them.

    Of several attributes, `facets`, `attributes` are the joint values. `members_NG` says who is in which of the
    `overlapping` groups. `log_probs_NC` are natural logarithms. `attributes_N` is None where the data has no sensitive
    attribute. `shared_labels` says that class i and attribute value i mean the same.
    `train_cell_counts` are the training examples of each finest group (cell, else class).
    `penalised` is the partition that training looks at; by default the finest there is.
    Groups are compared where each that has examples has `min_group` of them. `ece_bins` are equal bins of [0, 1].

    Raises:
        ValueError: arrays of different lengths, or an index without a name.
    """

    labels_N: Ints
    predicted_N: Ints
    log_probs_NC: Floats
    classes: tuple[str, ...]
    attributes_N: Ints | None = None
    attributes: tuple[str, ...] = ()
    shared_labels: bool = False
    train_cell_counts: Ints | None = None
    penalised: str | None = None
    min_group: int = 1
    ece_bins: int = 15
    facets: tuple[Facet, ...] = ()
    overlapping: tuple[str, ...] = ()
    members_NG: Mask | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.labels_N), len(self.predicted_N), len(self.log_probs_NC)}
        if self.attributes_N is not None:
            lengths.add(len(self.attributes_N))
        if self.members_NG is not None:
            lengths.add(len(self.members_NG))
        if len(lengths) > 1:
            raise ValueError(f"arrays of {sorted(lengths)} examples. All must describe the same ones.")
        _named("labels_N", self.labels_N, self.classes)
        _named("predicted_N", self.predicted_N, self.classes)
        if self.attributes_N is not None:
            _named("attributes_N", self.attributes_N, self.attributes)

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of groups that exist here, the finest partition last if there is an attribute."""
        return kinds(() if self.attributes_N is None else self.attributes, self.facets, self.overlapping)

    @property
    def finest(self) -> str:
        """The finest partition: by cell, or by class where there is no attribute."""
        return "class" if self.attributes_N is None else "cell"

    @property
    def sides(self) -> tuple[str, ...]:
        """What `of` takes: the names of several attributes and of overlapping groups."""
        return (*(facet.name for facet in self.facets), *self.overlapping)

    def groups(self, kind: str) -> Groups:
        """The examples by class, attribute, cell, one attribute of several, or in groups that overlap."""
        return partition(
            kind,
            self.classes,
            self.labels_N,
            self.attributes,
            self.attributes_N,
            self.facets,
            self.overlapping,
            self.members_NG,
        )

    def of(self, name: str) -> Predictions:
        """The same answers with one attribute alone: one of several, or whether an example is in an overlapping group.

        So a group is compared with its complement, all others: `not NAME` is index 0, NAME is index 1.

        Raises:
            ValueError: there is no such attribute or group; says which there are.
        """
        if name in self.overlapping and self.members_NG is not None:
            codes_N, counts = self.members_NG[:, self.overlapping.index(name)].astype(np.int64), None
            values: tuple[str, ...] = (f"not {name}", name)
        else:
            facet = next((facet for facet in self.facets if facet.name == name), None)
            if facet is None or self.attributes_N is None:
                there = ", ".join(self.sides) or "one attribute, which needs no name" * bool(self.attributes) or "none"
                raise ValueError(f"the data has no attribute or group '{name}'; there is: {there}")
            of_joint_S, values = np.asarray(facet.of_joint, np.int64), facet.values
            codes_N, counts = of_joint_S[self.attributes_N], self.train_cell_counts
            if counts is not None:
                summed_CA = np.zeros((len(self.classes), len(values)), np.int64)
                np.add.at(summed_CA.T, of_joint_S, counts.reshape(len(self.classes), -1).T)
                counts = summed_CA.reshape(-1)
        return replace(
            self,
            attributes_N=codes_N,
            attributes=values,
            shared_labels=False,
            train_cell_counts=counts,
            facets=(),
            overlapping=(),
            members_NG=None,
        )

    @cached_property
    def correct_N(self) -> Mask:
        """Where the answer is right."""
        return np.equal(self.labels_N, self.predicted_N)

    @cached_property
    def loss_N(self) -> Floats:
        """Negative log-likelihood of the true class, in nats."""
        return -self.log_probs_NC[np.arange(len(self)), self.labels_N].astype(np.float64)

    @cached_property
    def counts_SCC(self) -> Ints:
        """Examples by attribute value, true class, predicted class (S = 1 without an attribute)."""
        S, C = max(len(self.attributes), 1), len(self.classes)
        attribute_N = np.zeros_like(self.labels_N) if self.attributes_N is None else self.attributes_N
        key_N = (attribute_N * C + self.labels_N) * C + self.predicted_N
        return np.bincount(key_N, minlength=S * C * C).reshape(S, C, C).astype(np.int64)


def _named(place: str, index_N: Ints, names: Sequence[str]) -> None:
    if len(index_N) and not (index_N.min() >= 0 and index_N.max() < len(names)):
        raise ValueError(f"{place} runs from {index_N.min()} to {index_N.max()}, but there are {len(names)} names.")


@dataclass(frozen=True)
class Value:
    """A number, or nan and the reason why there is none. `groups` are the parts it was made from."""

    value: float
    reason: str | None = None
    groups: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Metric:
    """One line of the METRICS table: which way is better, what it is about, how it is computed, where it is defined.

    `about` decides what the best point of a front is called: the most accurate, the fairest, the best calibrated.
    What is about performance in another way than accuracy (a loss) has no such name.
    `of_one` is what NAME/ATTRIBUTE gives: it is called with the predictions `Predictions.of` that attribute, one of
    several, or of that overlapping group and its complement. None: the metric has no such form.
    """

    direction: Literal["max", "min"]
    about: Literal["accuracy", "performance", "groups", "calibration"]
    fn: Callable[[Predictions], Value]
    doc: str
    source: str
    unit: str = "fraction"
    of_one: Callable[[Predictions], Value] | None = None

    def side(self, name: str) -> Metric:
        """NAME/ATTRIBUTE of this metric; `name` is of an attribute, an overlapping group, or `overlapping`.

        Raises:
            ValueError: the metric has no such form.
        """
        if self.of_one is None:
            raise ValueError("it is not of an attribute")
        fn = functools.partial(_worst, self.of_one, self.direction) if name == OVERLAPPING else None
        return replace(self, fn=fn or functools.partial(_of_one, self.of_one, name), of_one=None)

    def __call__(self, predictions: Predictions) -> Value:
        """The value; undefined where the function raises: the other metrics of a trained model still count."""
        try:
            return self.fn(predictions)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            return undefined(f"it raised {type(error).__name__}: {error} ({where})")


def _of_one(fn: Callable[[Predictions], Value], name: str, predictions: Predictions) -> Value:
    try:
        one = predictions.of(name)
    except ValueError as error:
        return undefined(str(error))
    return fn(one)


def _worst(fn: Callable[[Predictions], Value], direction: Literal["max", "min"], predictions: Predictions) -> Value:
    """The worst of the overlapping groups, each against its complement.

    worst over g of M(g, not g), over the groups that have both members and others.
    """
    if predictions.members_NG is None:
        return undefined("the data has no overlapping groups")
    counts_G, values_G = predictions.members_NG.sum(0), np.full(len(predictions.overlapping), np.nan)
    for g in np.flatnonzero((counts_G > 0) & (counts_G < len(predictions))):
        name = predictions.overlapping[g]
        if (value := fn(predictions.of(name))).reason is not None:
            return undefined(f"{name}: {value.reason}")
        values_G[g] = value.value
    parts = rows(predictions.overlapping, {"n": counts_G}, values_G)
    what = "overlapping group with members and others"
    return summary(values_G, np.max if direction == "min" else np.min, parts, what=what, least=1)


def undefined(reason: str, groups: Sequence[Row] = ()) -> Value:
    """No number, and why."""
    return Value(math.nan, reason, tuple(groups))


def ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Floats:
    """`part / whole`, nan where the whole is empty."""
    part_, whole_ = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    quotient: Floats = np.full(np.broadcast(part_, whole_).shape, np.nan)
    np.divide(part_, whole_, out=quotient, where=whole_ > 0)
    return quotient


def rows(names: Sequence[str], n: Mapping[str, npt.ArrayLike], value: Floats) -> tuple[Row, ...]:
    """One row a group: its name, its counts, its value."""
    counts = {key: np.asarray(column) for key, column in n.items()}
    return tuple(
        {"name": name, **{key: int(column[g]) for key, column in counts.items()}, "value": float(value[g])}
        for g, name in enumerate(names)
    )


def too_small(names: Sequence[str], n_G: npt.ArrayLike, min_group: int) -> str | None:
    """Why these groups are not compared: the smallest that has examples has too few. None: they are large enough."""
    n, name = min(((int(n), name) for n, name in zip(np.ravel(n_G), names, strict=True) if n), default=(min_group, ""))
    return f"group {name} has {n} examples, fewer than min_group {min_group}" if n < min_group else None


def summary(
    values_G: Floats,
    how: Callable[[Floats], Any],
    parts: tuple[Row, ...],
    *,
    what: str,
    least: int,
    min_group: int = 1,
) -> Value:
    """`how` over the groups that have a value: `least` of them or more, with `min_group` examples or more each."""
    defined_K = values_G[~np.isnan(values_G)]
    if len(defined_K) < least:
        return undefined(f"needs {least} {what}, and {len(defined_K)} of {len(values_G)} have any", parts)
    if small := too_small([row["name"] for row in parts], [row["n"] for row in parts], min_group):
        return undefined(small, parts)
    if not np.isfinite(defined_K).all():
        return undefined("the value of a group is infinite", parts)
    return Value(float(how(defined_K)), None, parts)
