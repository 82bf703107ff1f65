"""The answers behind an evaluation, example by example, small enough to be kept with every fit.

They are what resampling the split needs: how sure a number, or a choice between fits, is. Right and
wrong are kept, probabilities are not: of 10,000 examples that is 20 kB instead of megabytes.

Shapes: N examples, K of a resample.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.arrays import Ints, Mask
from trainables.data.base import Facet
from trainables.errors import UserError
from trainables.metrics.base import Predictions

SCHEMA = 2  # 1: one attribute at most, and no groups that overlap


@dataclass(frozen=True)
class Answers:
    """True class, answer and attribute of each example (indices), and what the indices mean.

    `members_NG` says who is in which of the `overlapping` groups.
    """

    labels_N: Ints
    predicted_N: Ints
    classes: tuple[str, ...]
    attributes_N: Ints | None = None
    attributes: tuple[str, ...] = ()
    shared_labels: bool = False
    train_cell_counts: tuple[int, ...] | None = None
    facets: tuple[Facet, ...] = ()
    overlapping: tuple[str, ...] = ()
    members_NG: Mask | None = None

    @classmethod
    def of(cls, predictions: Predictions) -> Answers:
        """What of `predictions` is kept."""
        counts = predictions.train_cell_counts
        return cls(
            labels_N=predictions.labels_N,
            predicted_N=predictions.predicted_N,
            classes=predictions.classes,
            attributes_N=predictions.attributes_N,
            attributes=predictions.attributes,
            shared_labels=predictions.shared_labels,
            train_cell_counts=None if counts is None else tuple(int(n) for n in counts),
            facets=predictions.facets,
            overlapping=predictions.overlapping,
            members_NG=predictions.members_NG,
        )

    def __len__(self) -> int:
        return len(self.labels_N)

    def take(self, rows_K: Ints) -> Predictions:
        """The examples `rows_K`, repeated ones as often as they occur, ready for the METRICS.

        Probabilities are nan, so that a metric which reads them is undefined rather than invented.
        """
        counts = self.train_cell_counts
        return Predictions(
            labels_N=self.labels_N[rows_K],
            predicted_N=self.predicted_N[rows_K],
            log_probs_NC=np.broadcast_to(np.nan, (len(rows_K), len(self.classes))),
            classes=self.classes,
            attributes_N=None if self.attributes_N is None else self.attributes_N[rows_K],
            attributes=self.attributes,
            shared_labels=self.shared_labels,
            train_cell_counts=None if counts is None else np.asarray(counts),
            facets=self.facets,
            overlapping=self.overlapping,
            members_NG=None if self.members_NG is None else self.members_NG[rows_K],
        )

    def to_json(self) -> dict[str, Any]:
        """Strict JSON: the indices as compressed text.

        Of one attribute it is of the first schema, which older releases read too.
        """
        packed = {"labels": self.labels_N, "predicted": self.predicted_N, "attribute_values": self.attributes_N}
        return {
            **{name: None if index_N is None else _packed(index_N) for name, index_N in packed.items()},
            "classes": list(self.classes),
            "attributes": list(self.attributes),
            "shared_labels": self.shared_labels,
            "train_cell_counts": None if self.train_cell_counts is None else list(self.train_cell_counts),
            **self._several(),
        }

    def _several(self) -> dict[str, Any]:
        if not self.facets and self.members_NG is None:
            return {}
        members = None if self.members_NG is None else _packed(self.members_NG.reshape(-1).astype(np.int64))
        return {
            "schema": SCHEMA,
            "facets": [{"name": f.name, "values": list(f.values), "of_joint": list(f.of_joint)} for f in self.facets],
            "overlapping": list(self.overlapping),
            "members": members,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Answers:
        """What `to_json` wrote, in this release or an older one.

        Raises:
            UserError: a newer release wrote it.
        """
        if data.get("schema", 1) > SCHEMA:
            raise UserError(
                f"answers of schema {data['schema']}, and this release reads up to {SCHEMA}. Install a newer sweeper."
            )
        counts, overlapping, members = data["train_cell_counts"], data.get("overlapping", ()), data.get("members")
        return cls(
            labels_N=_unpacked(data["labels"]),
            predicted_N=_unpacked(data["predicted"]),
            classes=tuple(data["classes"]),
            attributes_N=None if data["attribute_values"] is None else _unpacked(data["attribute_values"]),
            attributes=tuple(data["attributes"]),
            shared_labels=data["shared_labels"],
            train_cell_counts=None if counts is None else tuple(counts),
            facets=tuple(Facet(f["name"], tuple(f["values"]), tuple(f["of_joint"])) for f in data.get("facets", ())),
            overlapping=tuple(overlapping),
            members_NG=None if members is None else _unpacked(members).reshape(-1, len(overlapping)).astype(np.bool_),
        )


def _packed(index_N: Ints) -> str:
    return base64.b64encode(zlib.compress(index_N.astype("<u2").tobytes(), 9)).decode()  # 65,536 classes suffice


def _unpacked(text: str) -> Ints:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<u2").astype(np.int64)
