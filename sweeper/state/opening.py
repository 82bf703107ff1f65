"""A sweep as its study and lease tell it, without driving it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeper.errors import Corrupt, UserError
from sweeper.spec import loading, plugins
from sweeper.spec.faults import Faults
from sweeper.spec.model import SweepSpec
from sweeper.spec.urls import sqlite_file, sqlite_url
from sweeper.state import database, migrations
from sweeper.state.atomic import read_json
from sweeper.state.study import Study
from sweeper.state.sweep_folder import SweepFolder, Unreadable

DELETING = "deleting.json"  # in a sweep's folder: its deletion has begun (`record.deletion`)


def study_url(spec: SweepSpec, folder: SweepFolder) -> str:
    """Where the study lives: SQLite in the sweep's folder unless the spec names a server.

    Raises:
        Corrupt: the database is gone, and fits are there. To open it would make an empty one.
    """
    url = database.driven(spec.storage.study or sqlite_url(folder.path / "study.db"))
    file = sqlite_file(url)
    if file is not None and not file.exists() and (folder.path / "trials").exists():
        raise Corrupt(
            f"{folder.path} has fits, and {file} is missing. Put the database back; without it nobody can say which "
            "settings those fits had."
        )
    return url


def record_uri(spec: SweepSpec, root: Path) -> str:
    """Where the record is written: SQLite beside the sweeps unless the spec names a server."""
    return database.driven(spec.storage.mlflow or sqlite_url(root.resolve() / "mlflow.db"))


def open_spec(folder: SweepFolder) -> SweepSpec:
    """The spec of an existing sweep, with its storage where the folder is now.

    Raises:
        UserError: there is no such sweep, it is damaged, or half deleted.
    """
    spec = kept_spec(folder)
    if (folder.path / DELETING).exists():
        raise UserError(f"'{folder.name}' is half deleted. Finish that: sweeper delete {folder.name}")
    return spec


def kept_spec(folder: SweepFolder) -> SweepSpec:
    """The same, also of a sweep that is half deleted."""
    if not folder.exists:
        if (folder.path / "trials").exists():
            raise Corrupt(
                f"{folder.spec} is missing. Put it back; the record has a copy (sweep.yaml of the sweep's run)."
            )
        raise UserError(f"no sweep in {folder.path}. 'sweeper list' shows those there are; --root says where to look.")
    try:
        text = folder.spec.read_text(encoding="utf-8", errors="replace")  # `load` tells of what is not UTF-8
    except PermissionError as fault:
        raise Unreadable.of(folder.path, fault) from None
    schema = migrations.check_stamp(text, f"the spec of '{folder.name}'")
    if schema > 1 and not text.rstrip().endswith(loading.END):
        raise Corrupt(f"{folder.spec} is cut off (its last line is '...'). The record has a copy, sweep.yaml.")
    try:
        spec = loading.load_kept(folder.spec)
    except Faults:
        if gone := plugins.gone(_provenance(folder).get("plugins")):
            raise UserError(f"sweep '{folder.name}' cannot be read: {gone}") from None
        raise
    if spec.name != folder.name:
        raise Corrupt(f"{folder.spec} is that of a sweep '{spec.name}', in the folder of '{folder.name}'. Put it back.")
    return spec


def _provenance(folder: SweepFolder) -> Mapping[str, Any]:
    try:
        note: Mapping[str, Any] = read_json(folder.path / "provenance.json")
    except (FileNotFoundError, Corrupt):
        return {}
    return note


def open_study(folder: SweepFolder) -> Study:
    """The memory of an existing sweep, to look at.

    Raises:
        NoSuchSweep: it was not begun: its database has no study of that name.
    """
    spec = open_spec(folder)
    return Study(spec, study_url(spec, folder))
