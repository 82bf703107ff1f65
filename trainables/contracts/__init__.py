"""The laws of each table, which every line keeps: the tests hold ours to them, `sweeper plugins test` yours.

A law is a function of a line (or of a fine-tuning that is made of it) whose docstring says in one line what holds; it
raises `Breach` where that does not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from trainables.errors import FitError, UserError

Law = Callable[..., None]


class Breach(Exception):
    """A law does not hold; the message says of what."""


@dataclass(frozen=True)
class Verdict:
    """What came of one law: its claim, and the breach, if there is one."""

    claim: str
    breach: str | None = None


def hold(what: object, otherwise: str) -> None:
    """Raise a breach unless `what` is true."""
    if not what:
        raise Breach(otherwise)


def judge(laws: Iterable[Law], *subject: Any) -> Iterator[Verdict]:
    """Look at `subject` by each law; whatever it raises is a finding, too."""
    for law in laws:
        claim = (law.__doc__ or law.__name__).partition("\n")[0].rstrip(".")
        try:
            law(*subject)
        except (Breach, UserError, FitError) as fault:
            yield Verdict(claim, str(fault))
        except Exception as fault:
            yield Verdict(claim, f"it raised {type(fault).__name__}: {fault}")
        else:
            yield Verdict(claim)
