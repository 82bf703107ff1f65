"""One driver per sweep, by the database's clock."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from sweeper.state import lease as leases
from sweeper.state.lease import Held, Lease


def test_a_second_driver_is_refused_and_told_who_holds_the_sweep(url: str) -> None:
    first = Lease(url, "a")
    first.acquire()
    with pytest.raises(Held, match=r"sweep 'a' is being driven by process \d+ on "):
        Lease(url, "a").acquire()
    assert first.held()
    first.release()


def test_another_sweep_in_the_same_database_is_free(url: str) -> None:
    first, other = Lease(url, "a"), Lease(url, "b")
    assert first.acquire() == other.acquire() == 1
    first.release()
    other.release()


def test_tokens_grow_with_every_holder(url: str) -> None:
    tokens = []
    for _ in range(3):
        lease = Lease(url, "a")
        tokens.append(lease.acquire())
        lease.release()
    assert tokens == [1, 2, 3]


def test_a_dead_process_on_this_machine_loses_its_lease_at_once(url: str) -> None:
    code = f"import os; from sweeper.state.lease import Lease; Lease({url!r}, 'a').acquire(); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    lease = Lease(url, "a")
    assert not lease.holder().alive
    assert lease.acquire() == 2
    lease.release()


def _pretend(url: str, **columns: object) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.update(leases._LEASES).values(**columns))
    engine.dispose()


def test_a_silent_holder_elsewhere_keeps_its_lease_until_it_expires(url: str) -> None:
    gone = Lease(url, "a")
    gone.acquire()
    _pretend(url, host="elsewhere/boot")
    with pytest.raises(Held):
        Lease(url, "a").acquire()
    _pretend(url, expires=0.0)
    lease = Lease(url, "a")
    assert lease.acquire() == 2
    assert not gone.held()
    gone.release()
    assert lease.held(), "a fenced holder's release must not free the lease of its successor"
    lease.release()


@pytest.fixture
def elsewhere(url: str) -> Iterator[Lease]:
    """A living holder that cannot be looked at from here."""
    holder = Lease(url, "a")
    holder.acquire()
    _pretend(url, host="elsewhere/boot")
    yield holder
    holder.release()


def test_what_is_known_to_be_gone_can_be_taken_over_and_is_refused_from_then_on(url: str, elsewhere: Lease) -> None:
    with pytest.raises(Held, match="If that machine is gone: sweeper resume a --take-over"):
        Lease(url, "a").acquire()
    lease = Lease(url, "a")
    assert lease.acquire(take_over=True) == 2
    with pytest.raises(Held, match="taken over"):
        elsewhere.check()
    lease.release()


def test_a_living_process_of_this_machine_is_stopped_and_not_taken_over(url: str) -> None:
    holder = Lease(url, "a")
    holder.acquire()
    with pytest.raises(Held, match=r"or stop that process first\.$"):
        Lease(url, "a").acquire(take_over=True)
    holder.release()


@pytest.mark.parametrize("lives", [False, True])
def test_a_lease_from_before_the_clock_was_set_back_counts_if_it_is_renewed(
    url: str, elsewhere: Lease, monkeypatch, lives: bool
) -> None:
    two_days = elsewhere.holder().seconds_left + 172_800
    monkeypatch.setattr(leases, "WATCH_S", 0.5)
    _pretend(url, expires=time.time() + two_days)
    if lives:
        renewal = threading.Timer(0.2, _pretend, [url], {"expires": time.time() + 50})
        renewal.start()
        with pytest.raises(Held, match=r"its lease runs \d\d s more"):
            Lease(url, "a").acquire()
        renewal.join()
    else:
        lease = Lease(url, "a")
        assert lease.acquire() == 2
        lease.release()


def test_a_holder_that_lost_its_lease_learns_of_it(url: str, monkeypatch) -> None:
    monkeypatch.setattr(leases, "RENEW_S", 0.05)
    lease = Lease(url, "a")
    lease.acquire()
    heard: list[str] = []
    lease.then(lambda: heard.append("lost"))
    _pretend(url, token=7)
    assert lease.lost.wait(5)
    lease._thread.join(5)
    assert heard == ["lost"]
    lease.release()


def test_renewal_moves_the_expiry(url: str, monkeypatch) -> None:
    monkeypatch.setattr(leases, "RENEW_S", 0.05)
    lease = Lease(url, "a")
    lease.acquire()
    _pretend(url, expires=0.0)
    for _ in range(100):
        if lease.holder().seconds_left > 0:
            break
        leases.threading.Event().wait(0.05)
    assert lease.holder().seconds_left > leases.TTL_S / 2
    lease.release()
