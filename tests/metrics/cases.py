"""Made-up predictions for the laws and the oracles: any counts, any gaps, absent classes included."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from trainables.metrics import Predictions


def predictions(
    labels: Any,
    answers: Any,
    classes: tuple[str, ...],
    attributes: Any = None,
    names: tuple[str, ...] = (),
    **more: Any,
) -> Predictions:
    """The answer has probability 0.7, the other classes share the rest."""
    labels, answers = np.asarray(labels, dtype=np.int64), np.asarray(answers, dtype=np.int64)
    C = len(classes)
    probs_NC = np.full((len(labels), C), 0.3 / (C - 1))
    probs_NC[np.arange(len(labels)), answers] = 0.7
    attributes = None if attributes is None else np.asarray(attributes, dtype=np.int64)
    return Predictions(labels, answers, np.log(probs_NC), classes, attributes, names, **more)


@st.composite
def made_up(draw: st.DrawFn, most_classes: int = 5, most_attributes: int = 4) -> Predictions:
    """1 to 60 examples; C from 2; with an attribute of 2 or more values, or (most_attributes = 0) without."""
    C = draw(st.integers(2, most_classes))
    S = draw(st.integers(2, most_attributes)) if most_attributes else 0
    row = st.tuples(st.integers(0, C - 1), st.integers(0, C - 1), st.integers(0, max(S - 1, 0)))
    labels, answers, attributes = zip(*draw(st.lists(row, min_size=1, max_size=60)), strict=True)
    classes, names = tuple(f"class {c}" for c in range(C)), tuple(f"value {s}" for s in range(S))
    return predictions(labels, answers, classes, attributes if S else None, names)


def covered(judged: Predictions) -> Predictions:
    """With one more example of each class on each value of the attribute, so that every rate exists."""
    assert judged.attributes_N is not None
    labels, attributes = (x.ravel() for x in np.indices((len(judged.classes), len(judged.attributes))))
    return predictions(
        np.concatenate([judged.labels_N, labels]),
        np.concatenate([judged.predicted_N, attributes % len(judged.classes)]),
        judged.classes,
        np.concatenate([judged.attributes_N, attributes]),
        judged.attributes,
    )


binary = made_up(most_classes=2)
two_by_two = made_up(most_classes=2, most_attributes=2)
cases = st.one_of(made_up(), made_up(most_attributes=0), two_by_two)
