"""The AUDITS table: what is asked of a model after its training, such as whom it was trained on.

A newcomer is one file with a function `audit(tuning, targets, *, heard)`, and one line in the table. It takes a
prepared `FineTuning` and trained fits of its task, and gives strict JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.table import Entry, Table

if TYPE_CHECKING:
    from trainables.params import Params


@dataclass(frozen=True)
class Target:
    """A trained fit: its settings, its seed, and the folder of its weights."""

    params: Params
    seed: int
    weights: Path


AUDITS = Table(
    "audits",
    Entry,
    {
        "membership": Entry(
            "trainables.audits.shadows:audit",
            "can one tell whom the model was trained on? LOSS and offline LiRA, with shadow models and a placebo",
            "On Fairness of LoRA, section 2.4",
        ),
    },
    place="audit",
)
