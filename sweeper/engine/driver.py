"""Begin or resume a sweep, or confirm a point of it: claim it, open study and machines, and make an attempt at it.

Everything here may be killed at any instant; the study and the fits' folders are enough to go on.
Write order: ask -> launch -> checkpoint -> result -> tell -> record.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeper.engine import lost_work, machines
from sweeper.engine.attempt import Attempt, Confirmed, Confirming, Execute, Listener, Outcome, idle
from sweeper.engine.queueing.memory import unmeasured
from sweeper.engine.signals import Interrupts
from sweeper.engine.telling import notify
from sweeper.engine.watchdog import BEAT_S
from sweeper.errors import Paused, UserError, closed, storage_told
from sweeper.record import owed
from sweeper.results import confirmation, provenance, warm
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.spec.amending import amended, anchored, extended
from sweeper.spec.model import SweepSpec
from sweeper.spec.sections import Event, Resources
from sweeper.state import migrations
from sweeper.state.asking.inbox import Inbox
from sweeper.state.lease import Held, Lease
from sweeper.state.mirror import SHOWN_S
from sweeper.state.opening import open_spec, study_url
from sweeper.state.study import NoSuchSweep, Study
from sweeper.state.sweep_folder import Fenced, FitFolder, SweepFolder

log = logging.getLogger(__name__)
RESERVED = ("mlartifacts", "mlflow.db")  # the record's, beside the sweeps

Executor = Callable[[Resources], AbstractContextManager[Execute]]  # inside, the machines are ready to execute a queue
Step = Callable[[str], AbstractContextManager[None]]  # as `Listener.step`


def _untold(what: str) -> AbstractContextManager[None]:
    """A step that nobody hears of."""
    return contextlib.nullcontext()


@contextlib.contextmanager
def ray_tune(resources: Resources) -> Iterator[Execute]:
    """Execute with Ray Tune, on the Ray that is there or on one of our own, which ends with the context.

    Raises:
        UserError: one fit asks for more than any machine of the cluster has.
    """
    with machines.ready(resources) as slots:
        from sweeper.engine import tune  # imports Ray, whose settings `machines` has made: Ray reads them then

        yield lambda queue, folder: tune.run(queue, folder, slots)


@storage_told()
def run(spec: SweepSpec, listener: Listener, *, executor: Executor = ray_tune) -> Outcome:
    """Begin a sweep and see it through.

    Raises:
        UserError: the name is taken, or the data, weights or resources are not there, or an objective would be
            undefined on the data.
    """
    folder = SweepFolder(Path(spec.storage.root) / spec.name, store=spec.storage.fits)
    spec = anchored(spec)
    if folder.stored:
        raise UserError(f"{spec.storage.fits} has a sweep '{spec.name}' already. Choose another name.")
    warm.gathered(spec, spec.identity())  # refuses what it can before anything is written
    _claim(folder, spec)
    try:
        return _attempt(spec, folder, listener, executor, begin=True)
    except (Held, Fenced, Paused):  # another driver has the sweep now, or something must be mended first
        raise
    except UserError:
        if not (folder.path / "trials").exists():  # refused before its first trial: nothing to go on with
            folder.forget()
        raise


@storage_told()
def resume(
    folder: SweepFolder,
    listener: Listener,
    *,
    trials: int | None = None,
    wanted: SweepSpec | None = None,
    new_code: bool = False,
    take_over: bool = False,
    more: tuple[str, int] | None = None,
    executor: Executor = ray_tune,
) -> Outcome:
    """Finish what is left of a sweep. `trials` is a larger budget, `wanted` a spec with other resources or rules.

    `more` names a point, and how many seeds its trial has then.

    `new_code` goes on with code that has changed without a new name (see `provenance.code_changes`); `take_over`
    although a driver on another machine seems to live (see `Lease.acquire`).

    Of a finished sweep only a record that is owed is written: no machines, no scratch; if none is, nothing at all.

    Raises:
        UserError: there is no such sweep, another process drives it, the budget would shrink, `wanted` asks another
            question, or the code has changed.
    """
    spec, notes = open_spec(folder), []
    if wanted is not None:
        spec, changes = amended(spec, wanted)
        notes = [f"changed: {line}" for line in changes]
    if trials is not None:
        spec = extended(spec, trials)
    give = None if more is None else _more(Results.open(folder), *more)
    over = None if give else _over(folder, spec)
    if over is not None and not owed.is_owed(over):
        return idle(over, notes)
    code_changes = provenance.code_changes(folder.path, accept=new_code)
    notes = [*notes, *code_changes]
    options = {"over": over is not None, "take_over": take_over, "give": give}
    return _attempt(spec, folder, listener, executor, notes=notes, code_changes=code_changes, **options)


def _more(results: Results, which: str, seeds: int) -> tuple[int, int]:
    """The trial at the point `which`, and how many seeds it gets."""
    trial = results.point(which)
    if seeds <= (has := len(trial.seed_list)):
        raise UserError(
            f"--seeds is {seeds}, and trial {trial.number} ({trial.label}) has {has}. Use {has + 1} or more."
        )
    return trial.number, seeds


def _over(folder: SweepFolder, spec: SweepSpec) -> Results | None:
    """The sweep, if nothing is left to train or to measure; damage is told, and no fit can mend it."""
    results = replace(Results.open(folder), spec=spec)
    if results.state != "finished" or "dataset" not in provenance.noted(folder.path):
        return None
    return None if unmeasured(results.trials, results.front, spec.objectives, folder) else results


def _attempt(spec: SweepSpec, folder: SweepFolder, *how: Any, **more: Any) -> Outcome:
    """See `_carried_out`; and tell whom the spec names how it ended."""
    try:
        outcome = _carried_out(spec, folder, *how, **more)
    except (Held, Fenced):  # another driver has the sweep
        raise
    except Exception as fault:
        if (folder.path / "trials").exists():  # else it was refused before it began
            event: Event = "paused" if isinstance(fault, Paused) else "failed"
            for note in notify.tell(spec, event, notify.of_fault(spec, fault, event)):
                log.warning("%s", note)
        raise
    if more.get("over"):  # it was told when it ended
        return outcome
    event, facts = notify.of_results(outcome.results, outcome.exit_code, braked=outcome.braked)
    return replace(outcome, notes=[*outcome.notes, *notify.tell(spec, event, facts)])


def _carried_out(
    spec: SweepSpec,
    folder: SweepFolder,
    listener: Listener,
    executor: Executor,
    *,
    begin: bool = False,
    over: bool = False,
    notes: Sequence[str] = (),
    code_changes: Sequence[str] = (),
    take_over: bool = False,
    give: tuple[int, int] | None = None,
) -> Outcome:
    """Take the lease, open what the sweep needs, and execute what is left of it. `over`: that is nothing.

    `give` is a trial's number, and how many seeds it is to have.
    """
    with (
        _held(spec, folder, scratch=not over, take_over=take_over) as (folder, lease),
        Interrupts().caught() as interrupts,
    ):
        interrupts.then(listener.interrupted)
        ready = _nothing(folder) if over else _machines_and_data(spec, folder, executor, code_changes, listener.step)
        with ready as (execute, described):
            if begin and (undefined := described.get("undefined")):
                raise UserError("\n".join(undefined))
            study = _open_study(spec, folder, lease, described["dataset"], begin=begin)
            if give is not None:
                study.give(*give, "asked for")
            if not (begin or over):
                notes = [*notes, _cost(spec, folder, study)]
            elif begin:
                notes = [*filter(None, [spec.search.auto_note]), *study.warm.notes]
            attempt = Attempt(spec, folder, study, listener, interrupts)
            lease.then(attempt.stop)  # if another driver takes the lease while this one works
            return attempt.run(execute, described | {"notes": [*described["notes"], *notes]})


@storage_told()
def confirm(
    folder: SweepFolder,
    which: str,
    seeds: int,
    *,
    method: str | None = None,
    new_code: bool = False,
    heard: Callable[[str], None] = lambda said: None,
    executor: Executor = ray_tune,
) -> Confirmed:
    """Train a point of a finished sweep, and the baseline's, with new seeds, and tell how they differ.

    `confirmation.plan` says which trials and seeds those are. What is trained already is not trained again. `heard` is
    told how it goes.

    Raises:
        UserError: as `confirmation.plan` does; or another process drives the sweep, or data or (unless `new_code`)
            code are not those of the sweep.
    """
    results = Results.open(folder)
    planned = confirmation.plan(results, which, seeds, method)
    if planned.finished:
        return Confirmed(results, planned)
    spec, code_changes = results.spec, provenance.code_changes(folder.path, accept=True)
    if code_changes and not new_code:
        raise UserError(
            f"'{spec.name}' was run with other code, so that its point would not be trained as it was: "
            f"{'; '.join(code_changes)}. Go back to that code, or confirm with this one, which is noted: --new-code"
        )
    with (
        _held(spec, folder) as (folder, lease),
        Interrupts().caught() as interrupts,
        _machines_and_data(spec, folder, executor, code_changes) as (execute, described),
    ):
        study = _open_study(spec, folder, lease, described["dataset"], begin=False)
        results = Results.now(folder, spec, study)
        planned = confirmation.begun(folder, planned)
        fits = [folder.fit(number, seed) for number in (planned.point, planned.baseline) for seed in planned.seeds]
        if (cost := _settled(spec, fits)).fits:
            heard(str(cost))
        attempt = Confirming(results, planned, study, interrupts, heard)
        lease.then(attempt.stop)
        return attempt.run(execute)


@contextlib.contextmanager
def _held(
    spec: SweepSpec, folder: SweepFolder, *, scratch: bool = True, take_over: bool = False
) -> Iterator[tuple[SweepFolder, Lease]]:
    """The sweep's folder, to write to, and its lease, which is given back with the context."""
    lease = Lease(study_url(spec, folder), spec.name)
    folder = SweepFolder(folder.path, token=lease.acquire(take_over=take_over), store=spec.storage.fits)
    try:
        folder.raise_fence()
        folder.clear_scratch(make=scratch)
        if (written := migrations.stamped(loading.dump(spec))) != folder.spec.read_bytes():
            folder.write(folder.spec, written)
        folder.meet()
        yield folder, lease
    finally:
        lease.release()


def _open_study(spec: SweepSpec, folder: SweepFolder, lease: Lease, data: Mapping[str, Any], *, begin: bool) -> Study:
    """The sweep's study, created if the first run died before it could. Refused if spec or data differ."""
    url, identity = lease.url, spec.identity() | {key: data[key] for key in ("split_hash", "data_digest")}
    inbox = Inbox(folder.path, lease.check)
    try:
        study = Study(spec, url, guard=lease.check, vouch=lease.vouch, inbox=inbox)
    except NoSuchSweep:
        if (folder.path / "trials").exists():
            raise UserError(
                f"{folder.path} has fits, but {spec.storage.study or 'its study.db'} knows nothing of them. Put the "
                "database back: only it can say which settings those fits had."
            ) from None
        had = warm.gathered(spec, identity)
        return Study(
            spec, url, create=True, identity=identity, guard=lease.check, vouch=lease.vouch, inbox=inbox, warm=had
        )
    if begin:
        raise UserError(f"the database already has a study '{spec.name}', of another folder. Choose another name.")
    study.note_identity({"data_digest": identity["data_digest"]})
    differences = loading.difference(loading.completed(study.identity), identity)
    if differences:
        raise UserError(
            f"'{spec.name}' has changed since it began, so that new trials could not be compared with old ones:\n  "
            + "\n  ".join(differences)
            + "\nUndo the change (split_hash, data_digest: of the data), or begin a sweep with a new name."
        )
    study.note_budget(study.budget)
    study.sign()
    return study


def _claim(folder: SweepFolder, spec: SweepSpec) -> None:
    """Make the folder ours, or refuse: what is there already is never touched."""
    if folder.name in RESERVED:
        raise UserError(f"{folder.path} will hold something else. Choose another name, or another --root.")
    try:
        folder.claim(migrations.stamped(loading.dump(spec)))
    except FileExistsError:
        if folder.exists:
            raise UserError(
                f"sweep '{folder.name}' exists in {folder.path}. Go on with it: 'sweeper resume {folder.name}'; "
                "or choose another name: 'sweeper run FILE --name NAME'."
            ) from None
        raise UserError(f"{folder.path} holds something else. Choose another name, or another --root.") from None
    except PermissionError as fault:
        raise UserError(closed(fault)) from None


@contextlib.contextmanager
def _machines_and_data(
    spec: SweepSpec, folder: SweepFolder, executor: Executor, code_changes: Sequence[str], step: Step = _untold
) -> Iterator[tuple[Execute, dict[str, Any]]]:
    """Both take seconds and neither needs the other, so they are prepared at the same time."""

    def describe() -> dict[str, Any]:
        with step("data"):
            return provenance.describe(spec, folder.path, code_changes)

    with ThreadPoolExecutor(1, thread_name_prefix="data") as pool, contextlib.ExitStack() as stack:
        data = pool.submit(describe)
        with step("Ray"):
            execute = stack.enter_context(executor(spec.resources))
        yield execute, data.result()


@contextlib.contextmanager
def _nothing(folder: SweepFolder) -> Iterator[tuple[Execute, dict[str, Any]]]:
    """For a sweep that is over: no machines, and the data as the last attempt noted it."""
    yield (lambda queue, folder: None), {"dataset": provenance.noted(folder.path)["dataset"], "notes": []}


def _cost(spec: SweepSpec, folder: SweepFolder, study: Study) -> str:
    """What the interruption cost: the epochs in flight of trials that have not ended."""
    open_trials = [trial for trial in study.trials() if not trial.settled]
    fits = [folder.fit(trial.number, seed) for trial in open_trials for seed in trial.seed_list[trial.seeds :]]
    return str(_settled(spec, fits))


def _settled(spec: SweepSpec, fits: Sequence[FitFolder]) -> lost_work.Cost:
    return lost_work.settle(fits, SHOWN_S if spec.storage.fits else BEAT_S)
