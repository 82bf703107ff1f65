"""What all tests share. Time limits are pytest's business: a busy machine is not a wrong answer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from tests.faults.postgres import Server

settings.register_profile("sweeper", deadline=None)
settings.load_profile("sweeper")
_NAMES = itertools.count()
# Files whose tests start a Ray each: one after the other, since two of them on one machine share a port.
RAYS = ("test_sweep", "test_docs", "test_jobs", "test_storm", "test_workers", "test_releases")
LONG = (*RAYS, "test_crash_points")


class Rooms(LoadScopeScheduling):
    """With several workers (`-n 2`) the tests of a file stay together, and so do all that start a Ray."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "ray" if Path(file).stem in RAYS else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """The scheduler of the tests."""
    config.option.loadscopereorder = False
    return Rooms(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several workers, two begin with what takes longest."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One real PostgreSQL server for the whole session; skipped where its programs are not installed."""
    from tests.faults.postgres import serving

    with serving() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Gives fresh databases, of each kind that a study may live in."""
    if request.param == "sqlite":
        return lambda: f"sqlite:///{tmp_path / f'store-{next(_NAMES)}.db'}"
    server: Server = request.getfixturevalue("postgres")
    return lambda: server.url(f"store-{next(_NAMES)}")


@pytest.fixture
def url(urls: Callable[[], str]) -> str:
    """One such database."""
    return urls()
