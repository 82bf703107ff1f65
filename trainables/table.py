"""Tables of what a sweep can name: datasets, backbones, methods, metrics, audits, samplers.

A line says what a thing is and where its code lies; the code is loaded when it is first used, so that a table is light
to import. Installed packages add lines of their own by entry points.
"""

from __future__ import annotations

import functools
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from types import MappingProxyType
from typing import Any, TypeVar

from trainables.errors import UserError, hint

T = TypeVar("T")


@dataclass(frozen=True)
class Code:
    """Code that lies elsewhere, as `package.module:function`."""

    code: str

    def load(self) -> Callable[..., Any]:
        """The function itself; imports its module."""
        function: Callable[..., Any] = pkgutil.resolve_name(self.code)
        return function


@dataclass(frozen=True)
class Entry(Code):
    """A line that is little more than its code: what that is, and where it comes from."""

    doc: str
    source: str


class UnknownName(UserError, KeyError):
    """A name that is not in its table. Says the nearest one, and all that are known."""

    __str__ = Exception.__str__  # KeyError would put the sentence in quotes


class Table(Mapping[str, T]):
    """Names and their lines: first the built-in ones, as they are listed, then those of installed packages.

    A package adds a line by an entry point of the group `sweeper.NAME`, where NAME is the table's: the entry point has
    the line's name, and loads to the line. Which there are is read when a name is first looked up or listed; the line
    is loaded when it is asked for.

    A name may also be `FAMILY:...`, of one of `families`; these are known, but not listed.

    Raises:
        UnknownName: on a name that is not in the table; `place` is where a person wrote it, such as `data.name`.
        UserError: two packages give the same name, or a package's line cannot be loaded.
    """

    def __init__(
        self,
        name: str,
        kind: type[T],
        lines: Mapping[str, T],
        *,
        place: str,
        families: Mapping[str, T] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self.families = families
        self._kind = kind
        self._lines = lines
        self.place = place
        self._outcomes: dict[str, T | str] = {}

    def __getitem__(self, name: str) -> T:
        if name in self._plugins:
            return self._loaded(self._plugins[name])
        if name in self._lines:
            return self._lines[name]
        family, _, rest = name.partition(":")  # last: a listed name may have a colon too
        if rest and family in self.families:
            return self.families[family]
        raise UnknownName(f"{self.place} '{name}' is unknown. {self.hint(name)}")

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        family, _, rest = name.partition(":")
        return name in self._plugins or name in self._lines or (rest != "" and family in self.families)

    def __iter__(self) -> Iterator[str]:
        yield from self._lines
        yield from self._plugins

    def __len__(self) -> int:
        return len(self._lines) + len(self._plugins)

    @property
    def built_in(self) -> Mapping[str, T]:
        """The lines that no package adds."""
        return self._lines

    @property
    def plugins(self) -> Mapping[str, metadata.EntryPoint]:
        """The names that packages add, and by which entry point; nothing is loaded."""
        return self._plugins

    @property
    def sound(self) -> dict[str, T]:
        """Every line that can be loaded: one package that is broken is no reason to lose the others."""
        return dict(self._lines) | {name: line for name in self._plugins if (line := self._sound(name)) is not None}

    @property
    def broken(self) -> dict[str, str]:
        """A sentence for each line that cannot be loaded."""
        return {name: told for name, point in self._plugins.items() if isinstance(told := self._outcome(point), str)}

    def origin(self, name: str) -> str:
        """Who gives the line: `sweeper`, or the name and the version of a distribution."""
        return origin(self._plugins[name]) if name in self._plugins else "sweeper"

    def hint(self, name: str) -> str:
        """The end of a sentence that says `name` is not in the table: the nearest name, and all names."""
        return hint(name, [*self, *(f"{family}:NAME" for family in self.families)])

    @functools.cached_property
    def _plugins(self) -> dict[str, metadata.EntryPoint]:
        plugins: dict[str, metadata.EntryPoint] = {}
        for point in sorted(_installed().select(group=f"sweeper.{self.name}"), key=lambda point: point.name):
            if point.name in self._lines or point.name in plugins:
                other = origin(plugins[point.name]) if point.name in plugins else "sweeper"
                raise UserError(
                    f"{self.name}: '{point.name}' is given by {other} and by {origin(point)}. Uninstall one of them, "
                    "or let one choose another name."
                )
            plugins[point.name] = point
        return plugins

    def _sound(self, name: str) -> T | None:
        outcome = self._outcome(self._plugins[name])
        return None if isinstance(outcome, str) else outcome

    def _loaded(self, point: metadata.EntryPoint) -> T:
        outcome = self._outcome(point)
        if isinstance(outcome, str):
            raise UserError(outcome)
        return outcome

    def _outcome(self, point: metadata.EntryPoint) -> T | str:
        """The line, or why there is none; a package is asked once."""
        if point.name not in self._outcomes:
            self._outcomes[point.name] = self._load(point)
        return self._outcomes[point.name]

    def _load(self, point: metadata.EntryPoint) -> T | str:
        where = f"{self.name}: '{point.name}' of {origin(point)} ({point.value})"
        try:
            line = point.load()
        except Exception as error:  # the package is someone else's: anything may go wrong in it
            return f"{where} cannot be loaded: {type(error).__name__}: {error}. Mend or uninstall that package."
        if isinstance(line, self._kind):
            return line
        return f"{where} is a {type(line).__name__}. It must be a {self._kind.__name__}."


@functools.cache
def _installed() -> Any:
    """`EntryPoints` (before Python 3.12 `SelectableGroups`), read once for all tables: that may take 25 ms."""
    return metadata.entry_points()


def origin(point: metadata.EntryPoint) -> str:
    """The distribution of an entry point: name and version."""
    return "an unnamed package" if point.dist is None else f"{point.dist.name} {point.dist.version}"
