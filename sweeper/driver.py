"""A sweep from its question to its front: run and resume.

Everything here may be killed at any instant; the study and the fits' folders are enough to go on.
Write order: ask -> launch -> checkpoint -> result -> tell -> record.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sweeper import provenance
from sweeper import spec as specs
from sweeper.attempt import Attempt, Listener, Outcome
from sweeper.errors import Paused, UserError, storage_told
from sweeper.executor import Execute, Executor, ray_tune
from sweeper.folder import SweepFolder, write_bytes
from sweeper.interrupts import Interrupts
from sweeper.lease import Held, Lease
from sweeper.spec import SweepSpec
from sweeper.study import NoSuchSweep, Study
from sweeper.view import open_spec, study_url

RESERVED = ("mlartifacts", "mlflow.db")  # the record's, beside the sweeps
SQLITE = "sqlite:///"


@storage_told()
def run(spec: SweepSpec, listener: Listener, *, executor: Executor = ray_tune) -> Outcome:
    """Begin a sweep and see it through.

    Raises:
        UserError: the name is taken, or the data, weights or resources are not there.
    """
    folder = SweepFolder(Path(spec.storage.root) / spec.name)
    _claim(folder)
    spec = _anchored(spec)
    write_bytes(folder.spec, specs.dump(spec).encode())
    try:
        return _attempt(spec, folder, listener, executor, begin=True)
    except (Held, Paused):  # another process began it in the same instant; or it waits for something to be mended
        raise
    except UserError:
        if not (folder.path / "trials").exists():  # refused before its first trial: nothing to go on with
            folder.forget()
        raise


@storage_told()
def resume(
    folder: SweepFolder, listener: Listener, *, trials: int | None = None, executor: Executor = ray_tune
) -> Outcome:
    """Finish what is left of a sweep; `trials` gives it a larger budget.

    Raises:
        UserError: there is no such sweep, somebody else drives it, or the budget would shrink.
    """
    spec = open_spec(folder)
    if trials is not None and trials != spec.search.trials:
        if trials < spec.search.trials:
            raise UserError(f"--trials {trials} is less than the {spec.search.trials} the sweep has. Give more.")
        spec = specs.changed(spec, {"search.trials": trials})
    return _attempt(spec, folder, listener, executor)


def _claim(folder: SweepFolder) -> None:
    """Make the folder ours, or refuse: what lies there already is never touched."""
    if folder.exists:
        raise UserError(
            f"sweep '{folder.name}' exists in {folder.path}. Go on with it: 'sweeper resume {folder.name}'; "
            "or choose another name: 'sweeper run FILE --name NAME'."
        )
    if folder.name in RESERVED or (folder.path.exists() and any(folder.path.iterdir())):
        raise UserError(f"{folder.path} holds, or will hold, something else. Choose another name, or another --root.")
    folder.path.mkdir(parents=True, exist_ok=True)


def _anchored(spec: SweepSpec) -> SweepSpec:
    """Its paths made absolute, because a resume may be typed in another folder."""
    changes: dict[str, str] = {}
    if spec.data.root is not None:
        changes["data.root"] = str(spec.data.root.expanduser().resolve())
    weights = Path(spec.backbone.weights).expanduser()
    if weights.is_file():
        changes["backbone.weights"] = str(weights.resolve())
    url = spec.storage.study or ""
    if url.startswith(SQLITE) and not url.startswith(f"{SQLITE}/"):
        changes["storage.study"] = f"{SQLITE}{Path(url.removeprefix(SQLITE)).resolve()}"
    return specs.changed(spec, changes) if changes else spec


def _attempt(
    spec: SweepSpec, folder: SweepFolder, listener: Listener, executor: Executor, *, begin: bool = False
) -> Outcome:
    url = study_url(spec, folder)
    lease = Lease(url, spec.name)
    folder = SweepFolder(folder.path, token=lease.acquire())
    try:
        folder.raise_fence()
        folder.clear_scratch()
        folder.attempt.mkdir(parents=True)
        write_bytes(folder.spec, specs.dump(spec).encode())
        with Interrupts().caught() as interrupts, _machines_and_data(spec, folder, executor) as (execute, described):
            study = _open_study(spec, folder, url, lease, described["dataset"]["split_hash"], begin=begin)
            return Attempt(spec, folder, study, listener, interrupts).run(execute, described)
    finally:
        lease.release()


@contextlib.contextmanager
def _machines_and_data(
    spec: SweepSpec, folder: SweepFolder, executor: Executor
) -> Iterator[tuple[Execute, dict[str, Any]]]:
    """Both take seconds and neither needs the other."""
    with ThreadPoolExecutor(1, thread_name_prefix="data") as pool:
        data = pool.submit(provenance.describe, spec, folder.path)
        with executor(spec.resources) as execute:
            yield execute, data.result()


def _open_study(spec: SweepSpec, folder: SweepFolder, url: str, lease: Lease, split_hash: str, *, begin: bool) -> Study:
    """The sweep's study, made where the run before died too early to; refused where spec or data differ."""
    identity = spec.identity() | {"split_hash": split_hash}
    try:
        study = Study(spec, url, guard=lease.check)
    except NoSuchSweep:
        if (folder.path / "trials").exists():
            raise UserError(
                f"{folder.path} has fits, and {spec.storage.study or 'its study.db'} knows nothing of them. Put the "
                "database back; without it nobody can say which settings those fits had."
            ) from None
        return Study(spec, url, create=True, identity=identity, guard=lease.check)
    if begin:
        raise UserError(f"the database has a study '{spec.name}' of another folder already. Choose another name.")
    differences = specs.difference(study.identity, identity)
    if differences:
        raise UserError(
            f"'{spec.name}' differs from how it began in what makes trials comparable:\n  "
            + "\n  ".join(differences)
            + "\nPut it back (split_hash: the data), or begin a sweep with a new name."
        )
    return study
