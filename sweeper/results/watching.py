"""A sweep that another process drives, looked at again and again: its study is opened once, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sweeper.results.results import Results
from sweeper.state.lease import Lease
from sweeper.state.opening import open_spec, study_url
from sweeper.state.study import Study
from sweeper.state.sweep_folder import SweepFolder


@contextmanager
def watched(folder: SweepFolder) -> Iterator[Callable[[], Results]]:
    """A function that gives the sweep as it is.

    Raises:
        UserError: there is no such sweep, or it was not begun.
    """
    spec = open_spec(folder)
    url = study_url(spec, folder)
    study, lease = Study(spec, url), Lease(url, spec.name)
    try:
        yield lambda: Results.seen(folder, spec, study, lease)
    finally:
        lease.close()
