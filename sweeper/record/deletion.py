"""A sweep is deleted: its record, its study, its copy in an object store, and at last its folder.

A marker in the folder comes first: from then on the sweep can only be deleted further, and a deletion that was killed
half-way is finished by the same command. The folder goes under another name in one instant, before its files go.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sweeper.errors import Paused
from sweeper.record.record import Record
from sweeper.record.store import Store
from sweeper.spec.model import SweepSpec
from sweeper.spec.urls import sqlite_file
from sweeper.state.atomic import read_json, write_json
from sweeper.state.lease import Lease
from sweeper.state.opening import DELETING, kept_spec, record_uri, study_url
from sweeper.state.rows import forget_study
from sweeper.state.study import NoSuchSweep, Study
from sweeper.state.sweep_folder import SweepFolder


@dataclass(frozen=True)
class Deleted:
    """What was deleted: runs and models of the record (`uri`), files of the folder, and bytes of both on this disk."""

    name: str
    runs: int
    models: int
    files: int
    bytes: int
    uri: str

    def __str__(self) -> str:
        of_record = f"of the record {self.runs} runs and {self.models} registered versions"
        return (
            f"deleted '{self.name}': {self.files:,} files ({self.bytes / 1e6:,.1f} MB) here; {of_record}. MLflow keeps "
            "what is deleted, hidden, until 'mlflow gc'."
        )


def delete(folder: SweepFolder) -> Deleted:
    """Delete a sweep that nobody drives. Repeated after a kill at any instant, it does what is left.

    Raises:
        UserError: there is no such sweep, another process drives it (`lease.Held`), or its study is damaged or its
            record does not answer (`Paused`); then nothing is deleted yet, unless an earlier deletion has begun.
    """
    leftovers = list(_leftovers(folder.path))
    if not folder.exists and leftovers:
        files, size = _weigh(leftovers)
        for path in leftovers:
            shutil.rmtree(path)
        return Deleted(folder.name, 0, 0, files, size, "")
    spec = kept_spec(folder)
    url, root = study_url(spec, folder), folder.path.parent
    lease = Lease(url, spec.name)
    folder = SweepFolder(folder.path, token=lease.acquire(), store=spec.storage.fits)
    try:
        folder.raise_fence()  # a driver that was frozen writes nothing more
        uri = record_uri(spec, root)
        runs, models, artifacts = _forget_record(spec, folder, url, uri)
        if sqlite_file(url) != folder.path / "study.db":
            forget_study(url, spec.name)
        folder.forget_copy()
    finally:
        lease.release()  # its row stays in a database of others: the next sweep of this name has a higher token
    gone = root / f".{folder.name}.deleted"
    files, size = _weigh([folder.path, *leftovers, *artifacts])
    for path in (*artifacts, *leftovers):
        shutil.rmtree(path, ignore_errors=True)
    for kept in ("models", ""):  # of the record's own folder, if nothing of another sweep is in it
        with contextlib.suppress(OSError):
            (root / "mlartifacts" / folder.name / kept).rmdir()
    folder.path.rename(gone)
    shutil.rmtree(gone)
    return Deleted(spec.name, runs, models, files, size, uri)


def _forget_record(spec: SweepSpec, folder: SweepFolder, url: str, uri: str) -> tuple[int, int, list[Path]]:
    """Delete what the record has of the sweep: how many runs and registered versions, and where their files lie here.

    A deletion that has begun knows the uuid from its marker, since the study may be gone by then.
    """
    marker, root = folder.path / DELETING, folder.path.parent
    uuid = read_json(marker)["uuid"] if marker.exists() else _uuid(spec, url)
    file = sqlite_file(uri)
    if uuid is None or (file is not None and not file.exists()):  # not begun, or never recorded
        write_json(marker, {"uuid": uuid})
        return 0, 0, []
    try:
        store = Store(uri, spec.name, uuid, root / "mlartifacts")
        record, artifacts = Record(store), store.places()
        models = record.versions()
    except Exception as fault:  # whatever MLflow raises
        raise Paused(
            f"the record does not answer ({' '.join(str(fault).split())[:200]}), so nothing is deleted."
        ) from fault
    write_json(marker, {"uuid": uuid})
    runs = record.forget()
    store.drop_experiment()
    return runs, models, artifacts


def _uuid(spec: SweepSpec, url: str) -> str | None:
    try:
        return Study(spec, url).uuid
    except NoSuchSweep:
        return None


def _leftovers(path: Path) -> Iterator[Path]:
    """What a kill between the two last steps has left."""
    gone = path.with_name(f".{path.name}.deleted")
    if gone.is_dir():
        yield gone


def _weigh(places: list[Path]) -> tuple[int, int]:
    sizes = [file.stat().st_size for place in places for file in place.rglob("*") if file.is_file()]
    return len(sizes), sum(sizes)
