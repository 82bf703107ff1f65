"""A sweep as its study and lease tell it, without driving it."""

from __future__ import annotations

from pathlib import Path

from sweeper import database, migrations, summary
from sweeper import spec as specs
from sweeper.errors import Corrupt, UserError
from sweeper.folder import SweepFolder
from sweeper.lease import Holder, Lease
from sweeper.spec import SweepSpec
from sweeper.study import NoSuchSweep, Study
from sweeper.summary import Snapshot
from sweeper.trial import Trial

SQLITE = "sqlite:///"


def study_url(spec: SweepSpec, folder: SweepFolder) -> str:
    """Where the study lives: SQLite in the sweep's folder unless the spec names a server.

    Raises:
        Corrupt: the database is gone, and fits are there. To open it would make an empty one.
    """
    url = database.driven(spec.storage.study or f"{SQLITE}{folder.path / 'study.db'}")
    file = Path(url.removeprefix(SQLITE)) if url.startswith(SQLITE) else None
    if file is not None and not file.exists() and (folder.path / "trials").exists():
        raise Corrupt(
            f"{folder.path} has fits, and {file} is missing. Put the database back; without it nobody can say which "
            "settings those fits had."
        )
    return url


def record_uri(spec: SweepSpec, root: Path) -> str:
    """Where the record is written: SQLite beside the sweeps unless the spec names a server."""
    return database.driven(spec.storage.mlflow or f"sqlite:///{root.resolve() / 'mlflow.db'}")


def open_spec(folder: SweepFolder) -> SweepSpec:
    """The spec of an existing sweep, with its storage where the folder is now."""
    if not folder.exists:
        if (folder.path / "trials").exists():
            raise Corrupt(
                f"{folder.spec} is missing. Put it back; the record has a copy (sweep.yaml of the sweep's run)."
            )
        raise UserError(f"no sweep in {folder.path}. 'sweeper list' shows those there are; --root says where to look.")
    text = folder.spec.read_text(encoding="utf-8", errors="replace")  # `load` tells of what is not UTF-8
    schema = migrations.check_stamp(text, f"the spec of '{folder.name}'")
    if schema > 1 and not text.rstrip().endswith(specs.END):
        raise Corrupt(f"{folder.spec} is cut off (its last line is '...'). The record has a copy, sweep.yaml.")
    spec = specs.load(folder.spec)
    if spec.name != folder.name:
        raise Corrupt(f"{folder.spec} is that of a sweep '{spec.name}', in the folder of '{folder.name}'. Put it back.")
    return spec


def open_study(folder: SweepFolder) -> Study:
    """The memory of an existing sweep, to look at.

    Raises:
        NoSuchSweep: it was not begun: its database has no study of that name.
    """
    spec = open_spec(folder)
    return Study(spec, study_url(spec, folder))


def look(folder: SweepFolder) -> tuple[Snapshot, list[Trial], list[int], SweepSpec]:
    """A sweep as its study and lease tell it, without driving it."""
    spec = open_spec(folder)
    url = study_url(spec, folder)
    try:
        study = Study(spec, url)
    except NoSuchSweep:
        return Snapshot(spec.name, "not begun", spec.search.trials, summary.counts([])), [], [], spec
    lease = Lease(url, spec.name)
    holder = lease.holder()
    lease.close()
    trials, front = study.look()
    living = holder if holder is not None and holder.alive else None
    finished = len(trials) >= study.budget and all(t.state.finished for t in trials)
    state = "running" if living else "finished" if finished else "paused"
    snapshot = Snapshot(
        name=spec.name,
        state=state,
        budget=study.budget,
        counts=summary.counts(trials),
        front=summary.front_rows(trials, spec, front),
        hypervolume=summary.hypervolume(trials, spec, front),
        holder=str(living) if living else None,
        why=_why(folder, holder) if state == "paused" else None,
    )
    return snapshot, trials, front, spec


def _why(folder: SweepFolder, holder: Holder | None) -> str | None:
    """Why a sweep is paused: a lease that nobody gave back tells of a death, else whoever paused it has said."""
    return folder.why if holder is None else f"its driver died: {holder}"
