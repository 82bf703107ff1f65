"""The study's database as databases are: away for a while, busy, full, or damaged.

What passes is waited for, up to `PATIENCE_S`; what stays becomes one sentence with its mend. Whatever is
done patiently may be done twice, since a reply can be lost after the deed.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import sqlalchemy as sa

from sweeper.errors import Corrupt, Paused, UserError, closed
from sweeper.patience import insist
from sweeper.spec.urls import sqlite_file
from trainables import files

PATIENCE_S = 300.0  # a server's restart, or its successor's start; the fits that run go on meanwhile
BUSY_S = 60.0  # SQLite's own wait for another process to finish writing
_POSTGRESQL = {"connect_timeout": 10, "keepalives_idle": 20, "keepalives_interval": 5, "keepalives_count": 4}

# What a database says when waiting is of no use, in SQLite's and in PostgreSQL's words.
_FULL = ("disk is full", "No space left", "could not extend file")
_FORBIDDEN = ("readonly database", "permission denied", "unable to open database file", "disk I/O error")
_DAMAGED = ("malformed", "not a database", "invalid page", "no such table", "no such column")

P = ParamSpec("P")
T = TypeVar("T")


class HasUrl(Protocol):
    """Whatever keeps its facts in a database."""

    url: str


S = TypeVar("S", bound=HasUrl)


def driven(url: str) -> str:
    """`url` with the driver that this project installs, where it names none.

    Raises:
        UserError: that driver is not installed here.
    """
    url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    if not url.startswith("http"):
        try:
            sa.make_url(url).get_dialect().import_dbapi()
        except (sa.exc.ArgumentError, ImportError) as fault:
            ours = url.startswith("postgresql+psycopg:")
            mend = "Run: pip install 'sweeper[cluster]'" if ours else "Install it, or name another."
            raise UserError(f"{shown(url)}: the database's driver is not installed ({fault}). {mend}") from None
    return url


def options(url: str) -> dict[str, Any]:
    """For SQLAlchemy's `create_engine`: a dead connection is noticed, and a busy file waited for."""
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": BUSY_S}}
    return {"pool_pre_ping": True, "connect_args": _POSTGRESQL if url.startswith("postgresql") else {}}


def make(url: str) -> None:
    """An SQLite file that is not there yet, as open as others are: SQLite's own are 0644, whatever the umask allows."""
    file = sqlite_file(url)
    if file is not None:
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            files.make(file)


def shown(url: str) -> str:
    """The database as messages call it, without user or password."""
    found = sa.make_url(url)
    if found.drivername.startswith("sqlite"):
        return str(found.database)
    return f"'{found.database}' on {found.host or 'this machine'}" + (f":{found.port}" if found.port else "")


def patient(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """A method that waits for the database of its object; one that may be done twice."""

    def waits(self: S, *args: P.args, **kwargs: P.kwargs) -> T:
        return wait(self.url, lambda: method(self, *args, **kwargs))

    return cast(Callable[Concatenate[S, P], T], functools.wraps(method)(waits))


def wait(url: str, act: Callable[[], T], patience_s: float | None = None) -> T:
    """Do `act`, again and again while the database is away or busy, for `patience_s` (`PATIENCE_S`) at most.

    Raises:
        Paused: the database stayed away, is full, or forbids writing.
        Corrupt: the database is damaged.
    """
    return insist(act, functools.partial(_meaning, url), PATIENCE_S if patience_s is None else patience_s)


def beginning(url: str, act: Callable[[], T]) -> T:
    """Do `act`, without patience: who begins is there to mend what is wrong.

    Once more where another driver made the same tables or row in the same instant: then they are there.
    """
    try:
        return wait(url, act, patience_s=0)
    except (sa.exc.IntegrityError, sa.exc.ProgrammingError):
        return wait(url, act, patience_s=0)


def check(url: str) -> None:
    """Look at every page and index of a SQLite file; a server does that for itself.

    Raises:
        ValueError: one is damaged.
    """
    if not url.startswith("sqlite"):
        return
    engine = sa.create_engine(url, **options(url))
    try:
        with engine.connect() as connection:
            found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one()
    finally:
        engine.dispose()
    if found != "ok":
        raise ValueError(str(found))


@contextmanager
def reading(url: str) -> Iterator[None]:
    """What cannot be understood inside is damage: nothing that this project writes reads so.

    Raises:
        Corrupt: with the database and the mend.
    """
    try:
        yield
    except Exception as fault:
        if isinstance(fault, UserError) or _meaning(url, fault)[0] is not None:
            raise
        raise _damage(url, fault) from fault


def _meaning(url: str, fault: BaseException) -> tuple[UserError | None, bool]:
    """What `fault` tells of the database, and whether it may pass by itself; None for what is not of its kind."""
    own = None if isinstance(fault, UserError) else _of_database(fault)  # a UserError was understood further in
    if own is None:
        return None, False
    said, place = _sentence(own), f"the study's database {shown(url)}"
    if any(word in said for word in _DAMAGED):
        return _damage(url, own), False
    if any(word in said for word in _FULL):
        return Paused(f"{place} has no room ({said}). Make room, then resume."), False
    file = sqlite_file(url)
    if any(word in said for word in _FORBIDDEN):
        for part in (file, file.parent) if file is not None and os.path.exists(file) else ():
            if not os.access(part, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids):
                return Paused(closed(PermissionError(errno.EACCES, said, str(part)))), False
        return Paused(f"{place} cannot be used ({said}). Mend that, then resume."), False
    if "locked" in said if file else _away(own):
        mend = "End the process that locks it" if file else "See to its server"
        return Paused(f"{place} does not answer ({said}). {mend}, then resume."), True
    odd = isinstance(own, sa.exc.OperationalError) if file else type(own) is sa.exc.DatabaseError
    return (_damage(url, own), False) if odd else (None, False)


def _of_database(fault: BaseException | None) -> sa.exc.SQLAlchemyError | None:
    """The database's own error in or behind `fault`, whoever wrapped it."""
    while fault is not None and not isinstance(fault, (sa.exc.DBAPIError, sa.exc.TimeoutError)):
        asked_again = isinstance(fault, sa.exc.PendingRollbackError)  # on the connection that had just been lost
        fault = fault.__cause__ or (fault.__context__ if asked_again else None)
    return fault


def _away(fault: sa.exc.SQLAlchemyError) -> bool:
    """Whether a server does not answer, or has cut the connection."""
    kinds = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError)
    return isinstance(fault, kinds) or (isinstance(fault, sa.exc.DBAPIError) and fault.connection_invalidated)


def _sentence(fault: BaseException) -> str:
    """The first line of what the database itself said, without SQLAlchemy's frame and our SQL."""
    own = getattr(fault, "orig", None) or fault
    return " ".join(str(own).partition("\n")[0].split())[:300] or type(own).__name__


def _damage(url: str, fault: BaseException) -> Corrupt:
    return Corrupt(
        f"the study's database {shown(url)} is damaged ({type(fault).__name__}: {_sentence(fault)}). Put back a copy "
        "of it; fits that have a result are not run again."
    )
