"""What a metric reads and what it gives. Counts first: every rate here is a quotient of two of them.

Shapes: N examples, C classes, S values of the sensitive attribute, G groups.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from trainables.arrays import Floats, Ints, Mask
from trainables.data.base import Groups, partition

Row = dict[str, Any]
NO_ATTRIBUTE = "the data has no sensitive attribute"


@dataclass(frozen=True)
class Predictions:
    """A model's answers on one split, with all that is needed to judge them.

    `log_probs_NC` are natural logarithms. `attributes_N` is None where the data has no sensitive
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

    def __post_init__(self) -> None:
        lengths = {len(self.labels_N), len(self.predicted_N), len(self.log_probs_NC)}
        if self.attributes_N is not None:
            lengths.add(len(self.attributes_N))
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
        """The partitions that exist here, the finest last."""
        return ("class",) if self.attributes_N is None else ("class", "attribute", "cell")

    def groups(self, kind: str) -> Groups:
        """The examples by class, attribute or cell."""
        return partition(kind, self.classes, self.labels_N, self.attributes, self.attributes_N)

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
    """

    direction: Literal["max", "min"]
    about: Literal["accuracy", "performance", "groups", "calibration"]
    fn: Callable[[Predictions], Value]
    doc: str
    source: str
    unit: str = "fraction"

    def __call__(self, predictions: Predictions) -> Value:
        """The value; undefined where the function raises: the other metrics of a trained model still count."""
        try:
            return self.fn(predictions)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            return undefined(f"it raised {type(error).__name__}: {error} ({where})")


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
