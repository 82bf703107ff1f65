"""The AUDITS table: what is asked of a model after its training, such as whom it was trained on.

A newcomer is one file with a function `audit(tuning, params, seed, weights, *, heard)`, and one line in the table.
It takes a prepared `FineTuning` and the folder of a trained fit's weights, and gives strict JSON.
"""

from __future__ import annotations

from trainables.table import Entry, Table

AUDITS = Table(
    "audits",
    Entry,
    {
        "membership": Entry(
            "trainables.audits.shadows:audit",
            "can one tell whom the model was trained on? LOSS and offline LiRA, with shadow models",
            "On Fairness of LoRA, section 2.4",
        ),
    },
    place="audit",
)
