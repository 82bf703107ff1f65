"""Which fit comes next: proposals are cut into fits, and the fits' results are gathered into trials.

No Ray here: the executor asks for the `next` order, runs it somewhere, and says `done`. A fit's result is read from
its folder, so it does not matter whether this process or an earlier one saw it end.

Three words for an end:
    done     an order is back from its actor, with a result or without one.
    pruned   a fit is not trained further because others are ahead. Its trial ends without numbers.
    stopped  the queue gives out no more orders. A resume goes on with what is left.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sweeper.engine.order import Kind, Order, unlike
from sweeper.engine.packs.packing import Packing, by_member
from sweeper.engine.queueing.brake import Brake
from sweeper.engine.queueing.memory import Memory, known, shared, unmeasured
from sweeper.engine.queueing.out import Out
from sweeper.engine.queueing.retries import Retries
from sweeper.errors import Corrupt
from sweeper.front.stopping import StoppingRule
from sweeper.spec.search import Search
from sweeper.spec.sections import Resources
from sweeper.state.asking.next_point import Proposal
from sweeper.state.fit_folder import metrics
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import Trial

log = logging.getLogger(__name__)


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
        self._search, self._left = search, left
        self._on_trial, self._on_stop = on_trial, on_stop
        self._open: dict[int, _Open] = {}
        self._orders: deque[Order] = deque()
        self._out: dict[tuple[Kind, int, int], Out] = {}
        self._pruned: set[tuple[Kind, int, int]] = set()
        self._retries = Retries(resources.max_retries)
        self.packing = Packing(resources.pack, folder)
        self._held_out_ordered = False
        self._same = shared(same or {})
        self._brake = Brake(search)
        self.slots, self.gpus = 1, 0.0  # how many orders are carried out at once, each on what; the executor says it
        self.trained: Counter[int] = Counter()  # epochs of this attempt's fits that have ended, by trial
        self.notes: list[str] = []
        self.stopped = False
        # Why the queue has stopped: a person must mend this first, or more failures would cost and teach nothing.
        self.to_mend: str | None = None
        self.too_many_failures: str | None = None

    def begin(self) -> None:
        """Take up the trials that earlier attempts left open. One whose fits all have results ends here."""
        self._same = known(self._study, self._folder) | self._same
        for proposal in self._study.open_proposals():
            self._take_up(proposal)

    # --- the executor's side

    def next(self) -> Order | None:
        """The next order, or None when there is none now (see `empty`)."""
        while not self.stopped:
            if not self._orders and not self._refill():
                return None
            if (order := self._give_out(self._orders.popleft())) is not None:
                return order
        return None

    def next_bundle(self) -> tuple[Order, ...]:
        """The next order, and those that its actor trains at once; empty when there is none now (see `empty`)."""
        first = self.next()
        if first is None:
            return ()
        if (measuring := self.packing.to_measure(first)) is not None:
            del self._out[first.key]
            self._orders.appendleft(first)
            self._out[measuring.key] = Out(measuring, 0, 0, (measuring.key,))
            return (measuring,)
        bundle = [first]
        while len(bundle) < self.packing.room(first) and (mate := self._mate(first)) is not None:
            bundle.append(mate)
        for order in bundle:
            self._out[order.key] = replace(self._out[order.key], bundle=tuple(each.key for each in bundle))
        return tuple(bundle)

    def _mate(self, first: Order) -> Order | None:
        """An order that goes together with `first`. Where none waits, one more trial is proposed."""
        proposed = False
        while not self.stopped:
            mate = next((order for order in self._orders if self.packing.together(first, order)), None)
            if mate is not None:
                self._orders.remove(mate)
                if (given := self._give_out(mate)) is not None:
                    return given
            elif proposed or not self._propose():
                return None
            else:
                proposed = True
        return None

    def _give_out(self, order: Order) -> Order | None:
        """The order as it goes out; None where its fit was to be pruned."""
        if self._was_to_be_pruned(order := replace(order, same=dict(self._same))):
            return None
        epoch = len(self._folder.fit(order.number, order.seed).history()) if order.kind == "fit" else 0
        self._out[order.key] = Out(order, epoch, epoch, (order.key,))
        return order

    def reports(self, orders: Sequence[Order], rows: Sequence[Mapping[str, Any]]) -> bool:
        """What an actor says of its bundle; whether one of the fits is not trained further. Then the bundle ends."""
        ends = False
        for order, row in zip(orders, rows, strict=False):  # none, where an actor says nothing of them
            if values := metrics(row):
                self.reported(order, row["epoch"], values)
                ends |= self.prunes(order, row["epoch"], values)
        return ends

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

    def done(
        self, *orders: Order, died: bool = False, to_mend: str | None = None, told: Mapping[str, Any] | None = None
    ) -> None:
        """The executor has finished with `orders`, a bundle. `died`: its process or machine died before their end.

        An order whose worker died is given out again, up to `max_retries` times. Of several orders the first end is
        the bundle's: the others go on in other bundles, and no retry of theirs is counted. `told` is what the actor
        said last. `to_mend` says what a person must mend before any order can be carried out. What has no result
        after a stop is ordered by the next attempt.
        """
        if to_mend is not None:
            self.pause(to_mend)
        told = told or {}
        for order, row in zip(orders, by_member(told), strict=False) if "members" in told else ():
            self.reported(order, row["epoch"], metrics(row))
        if orders[0].kind == "gain":
            self.packing.measured(told)
        left = [order for order in orders if not self._ended(order, died)]
        excused = len(orders) > 1 and (self.packing.back(orders, told, died=died) or len(left) < len(orders))
        for order in reversed(left):
            if order.kind == "held-out" or order.number in self._open:
                self._order_again(order, died, excused)
            else:
                self._leave(order)

    def _ended(self, order: Order, died: bool) -> bool:
        """Whether nothing is left to do of an order that is back; its result is gathered."""
        out = self._out.pop(order.key, None)
        if order.kind == "gain":
            return True
        fetch = self._folder.fetch if order.kind == "fit" else self._folder.fetch_held_out
        fetch(order.number, order.seed)
        if order.kind == "held-out":
            return not died or self._folder.held_out(order.number, order.seed).exists()
        if order.key not in self._pruned and order.number not in self._open:
            self._leave(order)
            return True
        result = self._result(order)
        if result is None and order.key in self._pruned:
            result = self._prune(order)
        if out is not None:
            self.trained[order.number] += (len(result["history"]) if result else out.epoch) - out.begun_with
        if result is not None and order.number in self._open:
            self._gather(self._open[order.number], order.seed, result)
        return result is not None

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
        while not self._orders and self._propose():
            if self.stopped:
                return False
        if not self._orders and not self._open and not self._held_out_ordered:
            self._order_held_out()
        return bool(self._orders)

    def _propose(self) -> bool:
        """Take up a proposal; False if there is none now."""
        if (proposal := self._study.propose(self._left())) is None:
            return False
        self._held_out_ordered = False  # it was asked for while others were measured
        self._take_up(proposal)
        return True

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

    def _order_again(self, order: Order, died: bool, excused: bool) -> None:
        """An order came back without a result: its worker died, or its storage is at fault. Too often is a failure.

        `excused`: it was one of several, and is given out again whatever came before.
        """
        if self.stopped:
            return
        if excused or (failure := self._retries.failure(order, died)) is None:
            self._orders.appendleft(order)
        elif order.kind == "fit":
            self._close(self._open[order.number], failed=f"seed {order.seed}: {failure}")

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
        self._same = {**shared(made), **self._same}
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
        if failures := self._brake.pulled_by(ended):
            self.too_many_failures = failures
            self.stop()
        self._on_trial(ended)

    # --- fits that others are ahead of

    def _was_to_be_pruned(self, order: Order) -> bool:
        """Prune a fit that stands at a rung, left there by an attempt that died before it could prune it."""
        history = self._folder.fit(order.number, order.seed).history() if order.rungs else []
        if not history or not self.prunes(order, len(history), metrics(history[-1])):
            return False
        self._gather(self._open[order.number], order.seed, self._prune(order))
        return True

    def _leave(self, order: Order) -> None:
        """Seal a fit as it is, if it has begun: its trial has ended with another of its fits."""
        if self._result(order) is None and self._folder.fit(order.number, order.seed).history():
            self._prune(order)

    def _prune(self, order: Order) -> dict[str, Any]:
        result = self._folder.fit(order.number, order.seed).stop(order.params)
        self._folder.share(order.number, order.seed)
        return result
