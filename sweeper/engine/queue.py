"""Which fit comes next: proposals of the study cut into fits, and fits gathered into trials.

No Ray here: the executor asks `next`, runs the order somewhere, and says `done`. What a fit came to
is read from its folder, so it makes no difference whether this process or one before it saw it end.

Three words for an end:
    done     an order is back from its actor, with a result or without one.
    pruned   a fit is not trained further because others are ahead; its trial ends, without numbers.
    stopped  the queue gives out no more orders; a resume goes on with what is left.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sweeper.engine.order import Kind, Order
from sweeper.errors import Corrupt
from sweeper.front import recommend
from sweeper.front.halving import Halving
from sweeper.spec.sections import Resources, Search
from sweeper.state.fit_folder import metrics
from sweeper.state.study import Proposal, Study
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State, Trial

log = logging.getLogger(__name__)

EMPTY_RETRIES = 2  # of an order that comes back without a result though its worker lives
ENOUGH_TO_JUDGE = 10  # trials that have ended, before their failures are a share


@dataclass
class _Open:
    """A trial on its way: the seeds whose results are missing, and the results by seed."""

    proposal: Proposal
    missing: set[int]
    results: dict[int, dict[str, Any]] = field(default_factory=dict)


class FitQueue:
    """Orders for the executor, in a sequence that depends on the study and the folders alone.

    `begin` comes first. `on_trial` is called with each trial that has ended, `on_stop` once when the queue stops.
    """

    def __init__(
        self,
        study: Study,
        folder: SweepFolder,
        search: Search,
        resources: Resources,
        *,
        halving: Halving | None = None,
        on_trial: Callable[[Trial], None] = lambda trial: None,
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._study, self._folder, self._halving = study, folder, halving
        self._search, self._seeds, self._max_retries = search, search.seed_list, resources.max_retries
        self._on_trial, self._on_stop = on_trial, on_stop
        self._open: dict[int, _Open] = {}
        self._orders: deque[Order] = deque()
        self._out: set[tuple[Kind, int, int]] = set()
        self._pruned: set[tuple[Kind, int, int]] = set()
        self._retries: Counter[tuple[Kind, int, int, bool]] = Counter()  # the last part: its worker died
        self._held_out_ordered = False
        self._split_hash: str | None = None
        # Trials of this attempt only: a person who resumes has seen the failures before it.
        self._failures_in_a_row = self._failures = self._ended = 0
        self.orders_done = 0
        self.notes: list[str] = []
        self.stopped = False
        self.to_mend: str | None = None  # stopped, because no order can be carried out before a person mends this
        self.too_many_failures: str | None = None  # stopped, because more failures would cost and teach nothing

    def begin(self) -> None:
        """Take up the trials that earlier attempts left open; one whose fits all have results ends here."""
        self._split_hash = self._known_split_hash()
        for proposal in self._study.open_proposals():
            self._take_up(proposal)

    # --- the executor's side

    def next(self) -> Order | None:
        """The next order, or None when there is none now (see `empty`)."""
        while not self.stopped:
            if not self._orders and not self._refill():
                return None
            order = replace(self._orders.popleft(), split_hash=self._split_hash)
            if not self._was_to_be_pruned(order):
                self._out.add(order.key)
                return order
        return None

    def prunes(self, order: Order, epoch: int, values: Mapping[str, float | None]) -> bool:
        """Whether the fit of `order`, whose metrics after `epoch` epochs are `values`, is not trained further.

        If so, its actor leaves it as it is, and the executor says `done`. The first seed decides for its trial. The
        other seeds' fits that run beside it end where they next reach a rung, once the trial has ended.
        """
        if self._halving is None or epoch not in order.rungs:
            return False
        trial, decides = self._open.get(order.number), order.seed == self._seeds[0]
        at = order.number, int(order.params["epochs"]), epoch
        if decides:
            self._halving.note(*at, values)
        if trial is not None and (trial.proposal.baseline or not decides or not self._halving.stops(*at)):
            return False
        self._pruned.add(order.key)
        return True

    def done(self, order: Order, *, died: bool = False, to_mend: str | None = None) -> None:
        """The executor is through with `order`; `died` says that its process or machine did not live to its end.

        An order whose worker died is given out again, `max_retries` times. `to_mend` says why no order can be carried
        out before a person has mended something. What a stop leaves without a result is ordered by the next attempt.
        """
        self._out.discard(order.key)
        fetch = self._folder.fetch if order.kind == "fit" else self._folder.fetch_held_out
        fetch(order.number, order.seed)
        self.orders_done += 1
        if to_mend is not None:
            self.to_mend = self.to_mend or to_mend
            self.stop()
        if order.kind == "held-out":
            if died and not self._folder.held_out(order.number, order.seed).exists():
                self._order_again(order, died)
        elif order.key in self._pruned or order.number in self._open:
            result = self._result(order)
            if result is None and order.key in self._pruned:
                result = self._prune(order)
            if result is None:
                self._order_again(order, died)
            elif order.number in self._open:
                self._gather(self._open[order.number], order.seed, result)

    def stop(self) -> None:
        """Give out no more orders; those that are out may end with the epoch that they are in."""
        if not self.stopped:
            self.stopped = True
            self._on_stop()

    @property
    def running(self) -> int:
        """How many orders are out."""
        return len(self._out)

    @property
    def empty(self) -> bool:
        """True when no order will come any more, whatever the ones still out bring."""
        nothing_left = self._held_out_ordered and not (self._orders or self._out or self._open)
        return self.stopped or nothing_left

    # --- trials are opened, and cut into orders

    def _refill(self) -> bool:
        """Order the fits of further proposals until there is an order; False if there is none now."""
        while not self._orders and (proposal := self._study.propose()) is not None:
            self._take_up(proposal)
            if self.stopped:
                return False
        if not self._orders and not self._open and not self._held_out_ordered:
            self._order_held_out()
        return bool(self._orders)

    def _take_up(self, proposal: Proposal) -> None:
        """Open a trial: what has a durable result counts, the rest is ordered."""
        trial = self._open[proposal.number] = _Open(proposal, set(self._seeds))
        rungs = () if self._halving is None else self._halving.rungs(int(proposal.params["epochs"]))
        for seed in self._seeds:
            order = Order(proposal.number, seed, proposal.params, rungs=rungs)
            fit, result = self._folder.fit(order.number, seed), self._result(order)
            if result is None:
                self._orders.append(order)
                self.notes += fit.passed_over()
            else:
                fit.tidy()
                self._gather(trial, seed, result)

    def _order_again(self, order: Order, died: bool) -> None:
        """An order came back with nothing: its worker died, or its storage has a fault. After too many it failed."""
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
            why = f"its worker died more often than resources.max_retries allows ({allowed})"
            why = why if died else f"ended {times} times without a result"
            self._close(self._open[order.number], failed=f"seed {order.seed}: {why}")

    def _order_held_out(self) -> None:
        """The choice is made: order the test numbers of the front, of the baselines, and of each method's points."""
        self._held_out_ordered = True
        trials, front = self._study.look()
        of_methods = recommend.measured_per_method(trials, self._study.objectives)
        for trial in trials:
            # An attempt that ended before methods' points were measured has dropped the weights of dominated trials.
            kept = trial.number in of_methods and self._folder.fit(trial.number, self._seeds[0]).weights.is_dir()
            if trial.number in front or (trial.baseline and trial.reason is None) or kept:
                for seed in self._seeds:
                    if not self._folder.held_out(trial.number, seed).exists():
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
        """A fit of an open trial has a result. The trial ends with its last one, or the first without numbers."""
        trial.results[seed] = result
        trial.missing.discard(seed)
        self._split_hash = self._split_hash or _split_hash(result)
        if error := result.get("error"):
            self._close(trial, failed=f"seed {seed}: {error['reason']}: {error['message']}")
        elif epoch := result.get("stopped"):
            self._close(trial, pruned=f"after epoch {epoch} of seed {seed}: others were ahead")
        elif not trial.missing:
            self._close(trial)

    def _close(self, trial: _Open, *, failed: str | None = None, pruned: str | None = None) -> None:
        """Tell the study, once; the other fits of a trial that failed or was pruned are pointless."""
        number = trial.proposal.number
        self._orders = deque(order for order in self._orders if order.number != number)
        if number not in self._open:
            return
        if pruned is not None:
            ended = self._study.prune(number, pruned)
        elif failed is not None:
            ended = self._study.fail(number, failed)
        else:
            ended = self._study.complete(number, [trial.results[seed]["values"] for seed in self._seeds])
        del self._open[number]
        self._judge(ended)
        self._on_trial(ended)

    def _judge(self, trial: Trial) -> None:
        """Stop where failures are the rule: more of them would cost, and teach nothing."""
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
        """Prune a fit that was left just where it is compared, by an attempt that did not live to prune it."""
        history = self._folder.fit(order.number, order.seed).history() if order.rungs else []
        if not history or not self.prunes(order, len(history), metrics(history[-1])):
            return False
        self._gather(self._open[order.number], order.seed, self._prune(order))
        return True

    def _prune(self, order: Order) -> dict[str, Any]:
        result = self._folder.fit(order.number, order.seed).stop(order.params)
        self._folder.share(order.number, order.seed)
        return result

    # --- the data

    def _known_split_hash(self) -> str | None:
        """That of the data which the sweep's fits were trained on, from one that did not fail."""
        for trial in self._study.trials():
            if trial.state is State.COMPLETE:
                with contextlib.suppress(Corrupt):  # the next one knows it too
                    result = self._folder.fit(trial.number, self._seeds[0]).result()
                    if result is not None:
                        return _split_hash(result)
        return None


def _split_hash(result: Mapping[str, Any]) -> str | None:
    split_hash = result.get("provenance", {}).get("split_hash")
    return None if split_hash is None else str(split_hash)
