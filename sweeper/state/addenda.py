"""What is written of a study after its trials have ended: more seeds for a trial, and that the search is over.

Optuna lets nobody change a row that has ended, so it stands in attributes of the study, sealed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sweeper.spec.model import SweepSpec
from sweeper.state import rows

_LATER = "later/"  # before a trial's number
_OVER = "over"

Later = dict[str, Any]


class Attributes(Protocol):
    """What of Optuna's study is needed here."""

    @property
    def user_attrs(self) -> dict[str, Any]: ...
    def set_user_attr(self, key: str, value: Any) -> None: ...


def later(study: Attributes) -> dict[int, Later]:
    """By trial, what it got after its end: `seeds`, all that it has then, the `outcome` with those trained, and `why`.

    Raises:
        ValueError: it is not what was written.
    """
    found = {}
    for key, kept in study.user_attrs.items():
        if key.startswith(_LATER):
            number = int(key.removeprefix(_LATER))
            rows.check_seal(kept, f"what trial {number} got after its end", number)
            found[number] = kept
    return found


def give(study: Attributes, number: int, seeds: Sequence[int], outcome: Mapping[str, Any] | None, why: str) -> None:
    """Write down that trial `number` has these seeds, and what it came to with those of them that are trained."""
    body = {"seeds": list(seeds), "outcome": outcome, "why": why}
    study.set_user_attr(f"{_LATER}{number}", rows.sealed(body, number))


def is_over(study: Attributes, spec: SweepSpec) -> bool:
    """Whether nothing more is to be tried, though trials or seeds were left. A larger budget opens the search again."""
    return spec.search.open_ended and study.user_attrs.get(_OVER) == _extent(spec)


def close(study: Attributes, spec: SweepSpec) -> None:
    """Write down that nothing more is to be tried."""
    study.set_user_attr(_OVER, _extent(spec))


def _extent(spec: SweepSpec) -> dict[str, Any]:
    search = spec.search.model_dump(mode="json")
    return {"trials": spec.budget, "budget": search["budget"], "seeds": search["seeds"]}
