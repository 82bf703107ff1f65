"""Errors that a person reads: where, what was given, what is allowed, the mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


class UserError(Exception):
    """A slip that its reader can mend. The command line prints it without a traceback, and ends with `exit_code`."""

    exit_code = 2


class DataAway(UserError):
    """The data is not where `data.root` says, on this machine; another one may have it."""


class FitError(Exception):
    """A fit cannot go on, and trying again with the same input would end the same way.

    `reason` is one word for tables: `diverged`, `out-of-memory`, `bad-data`, `dead-adapter`, `raised`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[FitError], tuple[str, str]]:
        return type(self), (self.reason, str(self))


def nearest(name: str, known: Iterable[str], least: float = 0.6) -> str | None:
    """The known name that `name` most likely meant, or None where nothing is close; `least` of 1 is the same name."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=least)), None)


def hint(name: str, known: Iterable[str]) -> str:
    """What to write instead of `name`: the nearest of the known names first, then all of them."""
    names = sorted(known)
    close = nearest(name, names)
    return (f"Did you mean '{close}'? " if close else "") + f"Known: {', '.join(names)}."


def unknown(place: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that does not exist.

    >>> unknown("space.lamda", "lamda", ["lambda", "rank"])
    "space.lamda is unknown. Did you mean 'lambda'? Known: lambda, rank."
    """
    return f"{place} is unknown. {hint(name, known)}"


def few(names: Iterable[T], shown: int = 4) -> list[T | str]:
    """The first `shown` of the names, and, as one entry more, how many there are besides.

    >>> few(["a", "b", "c", "d"], 2)
    ['a', 'b', 'and 2 more']
    """
    names = list(names)
    more = [f"and {len(names) - shown} more"] if len(names) > shown else []
    return [*names[:shown], *more]
