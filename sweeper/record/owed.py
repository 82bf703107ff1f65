"""Whether MLflow has all of a finished sweep, known without it: only to import it takes seconds.

When the last picture is written, a digest of all that the record shows is noted in the sweep's folder. A record is owed
while the note is not there, or is of something else, or the record's own file is gone.
"""

from __future__ import annotations

from importlib import metadata

from sweeper.errors import Corrupt
from sweeper.record import content
from sweeper.results import confirmation, held_out
from sweeper.results.results import Results
from sweeper.spec.urls import sqlite_file
from sweeper.state.atomic import read_json
from sweeper.state.opening import record_uri

NOTE = "recorded.json"


def note(results: Results) -> None:
    """The record has all of `results`; for whoever drives the sweep."""
    results.folder.keep_json(results.folder.path / NOTE, _digest(results))


def is_owed(results: Results) -> bool:
    """Whether the record may lack something of `results`."""
    file = sqlite_file(record_uri(results.spec, results.folder.path.parent))
    if file is not None and not file.exists():
        return True
    try:
        return bool(read_json(results.folder.path / NOTE) != _digest(results))
    except (FileNotFoundError, Corrupt):
        return True


def _digest(results: Results) -> str:
    confirmed = [each.to_json() for each in confirmation.read(results.folder)]
    place = [metadata.version("sweeper"), record_uri(results.spec, results.folder.path.parent)]
    trials = [content.fingerprint(trial) for trial in results.ended]
    return content.digest([*place, trials, sorted(results.front), held_out.count(results), confirmed])
