"""Which fit comes next: proposals are cut into fits, and the fits' results are gathered into trials.

No Ray here: the executor asks for the `next` order, runs it somewhere, and says `done`. A fit's result is read from
its folder, so it does not matter whether this process or an earlier one saw it end.

Three words for an end:
    done     an order is back from its actor, with a result or without one.
    pruned   a fit is not trained further because others are ahead. Its trial ends without numbers.
    stopped  the queue gives out no more orders. A resume goes on with what is left.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from sweeper.engine.order import SHARED, Kind, Order, unlike
from sweeper.errors import Corrupt
from sweeper.front import recommend
from sweeper.front.stopping import StoppingRule
from sweeper.spec.search import Search
from sweeper.spec.sections import Resources
from sweeper.state.asking.next_point import Proposal
from sweeper.state.fit_folder import metrics
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State, Trial

log = logging.getLogger(__name__)

EMPTY_RETRIES = 2  # of an order that comes back without a result although its worker lives
ENOUGH_TO_JUDGE = 10  # ended trials: with fewer, the share of failures says little


class Memory(Protocol):
    """Where a queue's trials come from, and what hears of their end; `Study` says what each method gives."""

    @property
    def objectives(self) -> Mapping[str, str]: ...
    @property
    def identity(self) -> Mapping[str, Any]: ...
    def open_proposals(self) -> list[Proposal]: ...
    def propose(self, left: float = ...) -> Proposal | None: ...
    def complete(self, number: int, by_seed: Sequence[Mapping[str, float | None]]) -> Trial: ...
    def fail(self, number: int, reason: str) -> Trial: ...
    def prune(self, number: int, where: str) -> Trial: ...
    def trials(self) -> list[Trial]: ...
    def look(self) -> tuple[list[Trial], list[int]]: ...


@dataclass
class Out:
    """An order that is out: how many epochs its fit had when it was given out, and has by the newest report."""

    order: Order
    begun_with: int
    epoch: int
    reported: bool = False
    values: Mapping[str, float | None] = field(default_factory=dict)


@dataclass
class _Open:
    """A trial that has not ended: the seeds whose results are missing, and the results by seed."""

    proposal: Proposal
    missing: set[int]
    results: dict[int, dict[str, Any]] = field(default_factory=dict)


class FitQueue:
    """Orders for the executor, in a sequence that only the study and the folders determine.

    Call `begin` first. `on_trial` is called with each trial that has ended, `on_stop` once, when the queue stops.
    `left` says how many fits a budget in time lets begin yet.
    `same` is the provenance of a fit whose data and backbone all must have, beside that of the study's own trials.
    """

    def __init__(
        self,
        study: Memory,
        folder: SweepFolder,
        search: Search,
        resources: Resources,
        *,
        stopping: StoppingRule | None = None,
        same: Mapping[str, Any] | None = None,
        left: Callable[[], float] = lambda: math.inf,
        on_trial: Callable[[Trial], None] = lambda trial: None,
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._study, self._folder, self._stopping = study, folder, stopping
        self._search, self._max_retries, self._left = search, resources.max_retries, left
        self._on_trial, self._on_stop = on_trial, on_stop
        self._open: dict[int, _Open] = {}
        self._orders: deque[Order] = deque()
        self._out: dict[tuple[Kind, int, int], Out] = {}
        self._pruned: set[tuple[Kind, int, int]] = set()
        self._retries: Counter[tuple[Kind, int, int, bool]] = Counter()  # the bool: its worker died
        self._held_out_ordered = False
        self._same = _shared(same or {})
        # Trials of this attempt only: whoever resumes has seen the earlier failures.
        self._failures_in_a_row = self._failures = self._ended = 0
        self.slots, self.gpus = 1, 0.0  # how many orders are carried out at once, each on what; the executor says it
        self.trained: Counter[int] = Counter()  # epochs of this attempt's fits that have ended, by trial
        self.notes: list[str] = []
        self.stopped = False
        # Why the queue has stopped: a person must mend this first, or more failures would cost and teach nothing.
        self.to_mend: str | None = None
        self.too_many_failures: str | None = None

    def begin(self) -> None:
        """Take up the trials that earlier attempts left open. One whose fits all have results ends here."""
        self._same = self._known() | self._same
        for proposal in self._study.open_proposals():
            self._take_up(proposal)

    # --- the executor's side

    def next(self) -> Order | None:
        """The next order, or None when there is none now (see `empty`)."""
        while not self.stopped:
            if not self._orders and not self._refill():
                return None
            order = replace(self._orders.popleft(), same=dict(self._same))
            if not self._was_to_be_pruned(order):
                epoch = len(self._folder.fit(order.number, order.seed).history()) if order.kind == "fit" else 0
                self._out[order.key] = Out(order, epoch, epoch)
                return order
        return None

    def reported(self, order: Order, epoch: int, values: Mapping[str, float | None]) -> None:
        """The fit of `order` has ended its epoch `epoch`, with these metrics of the objectives or more."""
        if (out := self._out.get(order.key)) is not None and order.kind == "fit":
            found = {name: values[name] for name in self._study.objectives if name in values}
            self._out[order.key] = replace(out, epoch=epoch, reported=True, values=found)

    def prunes(self, order: Order, epoch: int, values: Mapping[str, float | None]) -> bool:
        """Whether the fit of `order`, whose metrics after `epoch` epochs are `values`, is not trained further.

        If so, the executor lets its actor leave the fit as it is, and says `done`. The first seed decides for its
        trial. Once the trial has ended, fits of its other seeds end at their next rung.
        """
        if self._stopping is None or epoch not in order.rungs:
            return False
        trial, decides = self._open.get(order.number), order.seed == self._search.seed_list[0]
        at = order.number, int(order.params["epochs"]), epoch
        if decides:
            self._stopping.note(*at, values)
        if trial is not None and (trial.proposal.baseline or not decides or not self._stopping.stops(*at)):
            return False
        self._pruned.add(order.key)
        return True

    def done(self, order: Order, *, died: bool = False, to_mend: str | None = None) -> None:
        """The executor has finished with `order`. `died`: its process or machine died before the order's end.

        An order whose worker died is given out again, up to `max_retries` times. `to_mend` says what a person must
        mend before any order can be carried out. What has no result after a stop is ordered by the next attempt.
        """
        out = self._out.pop(order.key, None)
        fetch = self._folder.fetch if order.kind == "fit" else self._folder.fetch_held_out
        fetch(order.number, order.seed)
        if to_mend is not None:
            self.pause(to_mend)
        if order.kind == "held-out":
            if died and not self._folder.held_out(order.number, order.seed).exists():
                self._order_again(order, died)
        elif order.key in self._pruned or order.number in self._open:
            result = self._result(order)
            if result is None and order.key in self._pruned:
                result = self._prune(order)
            if out is not None:
                self.trained[order.number] += (len(result["history"]) if result else out.epoch) - out.begun_with
            if result is None:
                self._order_again(order, died)
            elif order.number in self._open:
                self._gather(self._open[order.number], order.seed, result)

    def stop(self) -> None:
        """Give out no more orders. Those that are out may end with the epoch they are in."""
        if not self.stopped:
            self.stopped = True
            self._on_stop()

    def pause(self, why: str) -> None:
        """Stop, for a reason that a person must mend first; of several, the first is told."""
        self.to_mend = self.to_mend or why
        self.stop()

    @property
    def running(self) -> int:
        """The number of orders that are out."""
        return len(self._out)

    @property
    def out(self) -> list[Out]:
        """The orders that are out; any thread may ask."""
        return list(self._out.values())

    @property
    def waiting(self) -> list[Order]:
        """Orders of trials that are proposed, and of test numbers, which nobody has taken yet."""
        return list(self._orders)

    @property
    def gathered(self) -> int:
        """Results of trials that are open, which were not told yet."""
        return sum(len(trial.results) - trial.proposal.told for trial in list(self._open.values()) if trial.results)

    @property
    def searched(self) -> bool:
        """Whether nothing is left to train."""
        return self._held_out_ordered

    @property
    def empty(self) -> bool:
        """Whether no order will come any more, whatever the orders that are out bring."""
        nothing_left = self._held_out_ordered and not (self._orders or self._out or self._open)
        return self.stopped or nothing_left

    # --- trials are opened, and cut into orders

    def _refill(self) -> bool:
        """Take up proposals until there is an order; False if there is none now."""
        while not self._orders and (proposal := self._study.propose(self._left())) is not None:
            self._held_out_ordered = False  # it was asked for while others were measured
            self._take_up(proposal)
            if self.stopped:
                return False
        if not self._orders and not self._open and not self._held_out_ordered:
            self._order_held_out()
        return bool(self._orders)

    def _take_up(self, proposal: Proposal) -> None:
        """Open a trial: gather the results that are there, then order the fits that it still needs."""
        trial = self._open[proposal.number] = _Open(proposal, set(proposal.seeds))
        rungs = () if self._stopping is None else self._stopping.rungs(int(proposal.params["epochs"]))
        orders = [Order(proposal.number, seed, proposal.params, rungs=rungs) for seed in proposal.seeds]
        for order in orders:
            if (result := self._result(order)) is not None:
                self._folder.fit(order.number, order.seed).tidy()
                self._gather(trial, order.seed, result)
        if proposal.number in self._open:  # one result may have ended it: then the other seeds are for nothing
            for order in orders:
                if order.seed in trial.missing:
                    self._orders.append(order)
                    self.notes += self._folder.fit(order.number, order.seed).passed_over()

    def _order_again(self, order: Order, died: bool) -> None:
        """An order came back without a result: its worker died, or its storage is at fault. Too often is a failure."""
        if self.stopped:
            return
        allowed = self._max_retries if died else EMPTY_RETRIES
        self._retries[*order.key, died] += 1
        times = self._retries[*order.key, died]
        if times <= allowed:
            self._orders.appendleft(order)
            if died:
                log.warning("%s: its worker died; another one goes on (%d of %d)", order, times, allowed)
        elif order.kind == "fit":
            deaths = f"its worker died more often than resources.max_retries allows ({allowed})"
            why = deaths if died else f"ended {times} times without a result"
            self._close(self._open[order.number], failed=f"seed {order.seed}: {why}")

    def _order_held_out(self) -> None:
        """Order test numbers. Nothing is chosen after this."""
        self._held_out_ordered = True
        for trial, seed in unmeasured(*self._study.look(), self._study.objectives, self._folder):
            self._orders.append(Order(trial.number, seed, trial.params, "held-out"))

    # --- results are gathered, and trials closed

    def _result(self, order: Order) -> dict[str, Any] | None:
        fit = self._folder.fit(order.number, order.seed)
        result = fit.result()
        if result is not None and result["params"] != dict(order.params):
            raise Corrupt(
                f"{fit.path} holds the result of other settings ({result['params']}) than the study proposed "
                f"({dict(order.params)}). Put the study's database back, or move that folder away to run the fit again."
            )
        return result

    def _gather(self, trial: _Open, seed: int, result: dict[str, Any]) -> None:
        """A fit of an open trial has a result. The trial ends with the last result, or the first without numbers."""
        made = result.get("provenance", {})
        if differing := unlike(self._same, made):
            fit = self._folder.fit(trial.proposal.number, seed).path
            self.to_mend = self.to_mend or (
                f"{fit} was trained on something else than the sweep's other fits: {'; '.join(differing)}. Give all "
                "machines the same files, delete that fit's folder, then resume."
            )
            self.stop()
            return
        self._same = {**_shared(made), **self._same}
        trial.results[seed] = result
        trial.missing.discard(seed)
        if error := result.get("error"):
            self._close(trial, failed=f"seed {seed}: {error['reason']}: {error['message']}")
        elif epoch := result.get("stopped"):
            self._close(trial, pruned=f"after epoch {epoch} of seed {seed}: others were ahead")
        elif not trial.missing:
            self._close(trial)

    def _close(self, trial: _Open, *, failed: str | None = None, pruned: str | None = None) -> None:
        """Tell the study that a trial has ended, once. Its fits that wait are not needed any more."""
        number = trial.proposal.number
        self._orders = deque(order for order in self._orders if order.number != number)
        if number not in self._open:
            return
        if pruned is not None:
            ended = self._study.prune(number, pruned)
        elif failed is not None:
            ended = self._study.fail(number, failed)
        else:
            ended = self._study.complete(number, [trial.results[seed]["values"] for seed in trial.proposal.seeds])
        del self._open[number]
        if self._stopping is not None:
            self._stopping.told(ended)
        self._judge(ended)
        self._on_trial(ended)

    def _judge(self, trial: Trial) -> None:
        """Stop the queue if trials fail too often."""
        self._ended += 1
        self._failures += trial.reason is not None
        self._failures_in_a_row = 0 if trial.reason is None else self._failures_in_a_row + 1
        share = self._search.max_failed_share
        if self._failures_in_a_row >= self._search.max_failures:
            failures = f"{self._failures_in_a_row} trials failed in a row"
        elif self._ended >= ENOUGH_TO_JUDGE and self._failures > share * self._ended:
            failures = (
                f"{self._failures} of {self._ended} trials failed, and search.max_failed_share allows {share:.0%}"
            )
        else:
            return
        self.too_many_failures = f"{failures}; the last: {trial.reason}"
        self.stop()

    # --- fits that others are ahead of

    def _was_to_be_pruned(self, order: Order) -> bool:
        """Prune a fit that stands at a rung, left there by an attempt that died before it could prune it."""
        history = self._folder.fit(order.number, order.seed).history() if order.rungs else []
        if not history or not self.prunes(order, len(history), metrics(history[-1])):
            return False
        self._gather(self._open[order.number], order.seed, self._prune(order))
        return True

    def _prune(self, order: Order) -> dict[str, Any]:
        result = self._folder.fit(order.number, order.seed).stop(order.params)
        self._folder.share(order.number, order.seed)
        return result

    # --- what all fits share

    def _known(self) -> dict[str, str]:
        """As the study began, and as the sweep's complete trials were trained."""
        same = _shared(self._study.identity)
        same.pop("split_hash", None)  # the study's is of all records, the fits' of those whose image can be read
        for trial in self._study.trials():
            if trial.state is State.COMPLETE:
                with contextlib.suppress(Corrupt):  # the next trial has it too
                    result = self._folder.fit(trial.number, trial.seed_list[0]).result()
                    same = {**_shared((result or {}).get("provenance", {})), **same}
            if same.keys() == SHARED.keys():
                break
        return same


def unmeasured(
    trials: Sequence[Trial],
    front: Sequence[int],
    objectives: Mapping[str, str],
    folder: SweepFolder,
) -> list[tuple[Trial, int]]:
    """Fits that lack their test numbers: of the front, the baselines, and each method's points."""
    of_methods = recommend.measured_per_method(trials, objectives)
    of_baselines = recommend.measured_per_baseline(trials, objectives)
    found = []
    for trial in trials:
        # An attempt that ended before methods' points were measured has dropped the weights of dominated trials.
        kept = trial.number in of_methods and folder.fit(trial.number, trial.seed_list[0]).weights.is_dir()
        if trial.number in front or trial.number in of_baselines or kept:
            found += [(trial, seed) for seed in trial.seed_list if not folder.held_out(trial.number, seed).exists()]
    return found


def _shared(made: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(made[key]) for key in SHARED if made.get(key) is not None}
