"""One driver per sweep: a lease in the study's own database, dated by the database's own clock.

A clock that is wrong on one machine cannot steal a lease: only the database's clock counts. A dead
holder on this very machine is recognised at once; elsewhere the lease runs out after `TTL_S`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from sweeper.errors import UserError
from sweeper.patience import until
from sweeper.state import database
from sweeper.state.processes import born, here

log = logging.getLogger(__name__)

TTL_S = 60.0
RENEW_S = 10.0
WATCH_S = 2.5 * RENEW_S  # whoever lives renews meanwhile

_METADATA = sa.MetaData()
_LEASES = sa.Table(
    "sweeper_lease",
    _METADATA,
    sa.Column("study", sa.String(255), primary_key=True),
    sa.Column("token", sa.Integer, nullable=False),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("born", sa.String(64), nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
)
_NOW = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "extract(epoch from clock_timestamp())",
}


class Held(UserError):
    """Somebody else drives this sweep."""


@dataclass(frozen=True)
class Holder:
    """Who drives a sweep, and for how long still by the database's clock."""

    host: str
    pid: int
    born: str
    seconds_left: float

    @property
    def alive(self) -> bool:
        """False where the holder's process is certainly gone or its time has run out."""
        return self.seconds_left > 0 and not (self.near and born(self.pid) != self.born)

    @property
    def near(self) -> bool:
        """Whether its process can be looked at from here."""
        return self.host == here()

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host.split('/')[0]}"


def _has_written(connection: sa.Connection) -> bool:
    """Whether the open transaction has changed anything."""
    if connection.dialect.name == "sqlite":
        return bool(getattr(connection.connection.dbapi_connection, "in_transaction", True))
    return connection.exec_driver_sql("select pg_current_xact_id_if_assigned()").scalar() is not None


class Lease:
    """The right to drive one sweep. Take it with `acquire`; it renews itself until `release`."""

    def __init__(self, url: str, study: str) -> None:
        self.url = url
        database.make(url)
        self._engine = sa.create_engine(url, **database.options(url))
        self._study = study
        self._now = sa.literal_column(_NOW[self._engine.dialect.name], sa.Double)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.token = 0
        self.lost = threading.Event()
        self._acts: list[Callable[[], None]] = []
        database.beginning(url, lambda: _METADATA.create_all(self._engine))

    @database.patient
    def holder(self) -> Holder | None:
        """Who holds the lease, living or not; None if it was never taken or was given back."""
        with self._engine.connect() as connection:
            row = connection.execute(self._row()).first()
        return None if row is None or row.host == "" else Holder(row.host, row.pid, row.born, row.expires - row.now)

    def acquire(self, *, take_over: bool = False) -> int:
        """Take the lease and keep it renewed; gives the fencing token, one more than any before.

        A lease that runs longer than any lease does was dated by a clock that has been set back since: it counts if it
        is renewed within `WATCH_S`. `take_over` takes it from a holder on another machine, too: what that one still
        writes is refused.

        Raises:
            Held: a living driver has it.
            Paused: the database does not answer.
        """
        held = self.holder()
        if held is not None and not held.near and (take_over or (held.seconds_left > TTL_S and not self._renewed())):
            database.beginning(self.url, lambda: self._take(over=held))
        else:
            database.beginning(self.url, self._take)
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()
        return self.token

    def _renewed(self) -> bool:
        """Whether the holder renews its lease, or gives it back, within `WATCH_S`."""
        before = self._dated()
        return until(lambda: self._dated() != before, WATCH_S)

    @database.patient
    def _dated(self) -> tuple[int, float] | None:
        with self._engine.connect() as connection:
            row = connection.execute(self._row()).first()
        return None if row is None else (row.token, row.expires)

    def _take(self, over: Holder | None = None) -> None:
        """`over`: the holder that does not count."""
        with self._engine.begin() as connection:
            if self._engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            row = connection.execute(self._row().with_for_update()).first()
            mine = {"host": here(), "pid": os.getpid(), "born": born(os.getpid()), "expires": self._now + TTL_S}
            if row is None:
                self.token = 1
                connection.execute(sa.insert(_LEASES).values(study=self._study, token=1, **mine))
            else:
                held = Holder(row.host, row.pid, row.born, row.expires - row.now)
                discounted = over is not None and (over.host, over.pid, over.born) == (held.host, held.pid, held.born)
                if row.host and held.alive and not discounted:
                    gone = "" if held.near else f" If that machine is gone: sweeper resume {self._study} --take-over."
                    raise Held(
                        f"sweep '{self._study}' is being driven by {held} (its lease runs "
                        f"{min(held.seconds_left, TTL_S):.0f} s more unless renewed). Watch it with 'sweeper status', "
                        f"or stop that process first.{gone}"
                    )
                self.token = row.token + 1
                connection.execute(self._mine().values(token=self.token, **mine))

    def then(self, act: Callable[[], None]) -> None:
        """Do `act`, in a thread of the lease's own, when it turns out that somebody else has taken it."""
        self._acts.append(act)

    def vouch(self, connection: sa.Connection) -> None:
        """Refuse what `connection` is about to commit, unless the lease is ours until that is done.

        The lease lies in the same database, so this is one transaction: whoever was frozen between asking
        and writing is refused by the database itself. To be asked at each commit.

        Raises:
            Held: the lease is not ours any more.
        """
        if _has_written(connection):
            token = connection.execute(self._row().with_for_update(read=True)).first()
            if token is None or token.token != self.token:
                raise self._taken()

    def _taken(self) -> Held:
        return Held(
            f"sweep '{self._study}' was taken over while this process was away ({self.holder() or 'released'}). "
            "Nothing is lost: what it left is being done there."
        )

    def check(self) -> None:
        """Refuse to go on under a lease that somebody else has taken since.

        Raises:
            Held: the lease is not ours any more; this process was frozen or cut off for too long.
        """
        if not self.held():
            raise self._taken()

    @database.patient
    def held(self) -> bool:
        """Whether the lease is still ours, by the database."""
        with self._engine.connect() as connection:
            row = connection.execute(self._row()).first()
        return row is not None and row.token == self.token and row.host != ""

    def release(self) -> None:
        """Give the lease back. The token stays, so that the next holder's is higher.

        Where the database is away it cannot be given back, and need not be: this process ends, and it runs out.
        """
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        try:
            database.wait(self.url, self._give_back, patience_s=0)
        except UserError as fault:
            log.warning("the lease of '%s' was not given back: %s", self._study, fault)
        self._engine.dispose()

    def _give_back(self) -> None:
        with self._engine.begin() as connection:
            owned = self._mine().where(_LEASES.c.token == self.token)
            connection.execute(owned.values(host="", pid=0, born="", expires=0.0))

    def close(self) -> None:
        """Let go of the database without touching the lease (for those who only looked)."""
        self._engine.dispose()

    def _row(self) -> sa.Select[tuple[object, ...]]:
        return sa.select(_LEASES, self._now.label("now")).where(_LEASES.c.study == self._study)

    def _mine(self) -> sa.Update:
        return sa.update(_LEASES).where(_LEASES.c.study == self._study)

    def _renew(self) -> None:
        while not self._stop.wait(RENEW_S):
            with contextlib.suppress(sa.exc.SQLAlchemyError):  # busy or away: the next turn is soon enough
                with self._engine.begin() as connection:
                    owned = self._mine().where(_LEASES.c.token == self.token)
                    kept = connection.execute(owned.values(expires=self._now + TTL_S)).rowcount
                if not kept:
                    self.lost.set()
                    for act in self._acts:
                        act()
                    return
