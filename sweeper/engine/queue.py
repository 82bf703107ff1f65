"""Which fit comes next: proposals of the study cut into fits, and fits gathered into trials.

No Ray here: the executor asks `next`, runs the order somewhere, and says `done`. What a fit came to
is read from its folder, so it makes no difference whether this process or one before it saw it end.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sweeper.errors import Corrupt
from sweeper.front.halving import Halving
from sweeper.state.fit_folder import metrics
from sweeper.state.study import Proposal, Study
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State, Trial

log = logging.getLogger(__name__)

MOST_EMPTY = 2
ENOUGH_TO_JUDGE = 10  # trials that have ended, before their failures are a share
Kind = Literal["fit", "held-out"]


@dataclass(frozen=True)
class Order:
    """One piece of work for an actor: train a fit, or measure a chosen one on the held-out split."""

    number: int
    seed: int
    params: Mapping[str, Any]
    kind: Kind = "fit"


@dataclass
class _Open:
    """A trial on its way: the seeds still to come in, and what came in."""

    proposal: Proposal
    missing: set[int]
    results: dict[int, dict[str, Any]] = field(default_factory=dict)


class FitQueue:
    """Orders for the executor, in a sequence that depends on the study and the folders alone."""

    def __init__(
        self,
        study: Study,
        folder: SweepFolder,
        *,
        seeds: tuple[int, ...],
        max_failures: int,
        max_failed_share: float = 1.0,
        max_retries: int = 0,
        halving: Halving | None = None,
        on_trial: Callable[[Trial], None] = lambda trial: None,
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._study = study
        self._folder = folder
        self._seeds = seeds
        self._max_failures, self._max_failed_share, self._max_retries = max_failures, max_failed_share, max_retries
        self._on_trial = on_trial
        self._on_stop = on_stop
        self._open: dict[int, _Open] = {}
        self._orders: deque[Order] = deque()
        self._vain: Counter[tuple[Kind, int, int, bool]] = Counter()  # orders that came back with nothing; True: died
        self._out: set[tuple[Kind, int, int]] = set()
        self._held_out_asked = False
        self._stopped = False
        self._failures_in_a_row = self._failed = self._told = 0  # of this attempt: whoever resumes has seen the others
        self.brake: str | None = None
        self.halt: str | None = None
        self.notes: list[str] = []
        self.finished = 0
        self.split_hash = self._known_data()
        self._halving, self._early = halving, set[tuple[int, int]]()
        for proposal in study.open_proposals():
            self._take(proposal)

    # --- the executor's side

    def next(self) -> Order | None:
        """The next order, or None when there is none now (see `exhausted`)."""
        order = None
        while order is None or self._ends_here(order):
            if not self._orders and not self._stopped:
                self._refill()
            if not self._orders or self._stopped:
                return None
            order = self._orders.popleft()
        self._out.add((order.kind, order.number, order.seed))
        return order

    def rungs(self, order: Order) -> tuple[int, ...]:
        """After how many epochs the fit of `order` is compared with others."""
        if self._halving is None or order.kind == "held-out":
            return ()
        return self._halving.rungs(int(order.params["epochs"]))

    def goes_on(self, order: Order, epoch: int, values: Mapping[str, float | None]) -> bool:
        """Whether the fit of `order` is worth more than the `epoch` epochs after which its metrics are `values`.

        If not, its actor shall leave it as it is and the executor say `done`.
        """
        if epoch not in self.rungs(order):
            return True
        assert self._halving is not None
        self._halving.note(order.number, order.seed, epoch, values)
        trial = self._open.get(order.number)
        if trial is not None and (trial.proposal.baseline or not self._halving.stops(order.number, order.seed, epoch)):
            return True
        self._early.add((order.number, order.seed))
        return False

    @property
    def exhausted(self) -> bool:
        """True when no order will come any more, whatever the ones still out bring."""
        if self._stopped:
            return True
        return not self._orders and not self._out and not self._open and self._held_out_asked

    @property
    def running(self) -> int:
        """How many orders are out."""
        return len(self._out)

    def done(self, order: Order, *, died: bool = False, halt: str | None = None) -> None:
        """The executor is through with `order`; `died` says that its process or machine did not live to its end.

        An order whose machine died is issued again, `max_retries` times. `halt` says why no order can be carried
        out before a person has mended something. What a stop leaves without a result is issued again on resume.
        """
        self._out.discard((order.kind, order.number, order.seed))
        fetch = self._folder.fetch if order.kind == "fit" else self._folder.fetch_held_out
        fetch(order.number, order.seed)
        self.finished += 1
        if halt is not None:
            self.halt = self.halt or halt
            self.stop()
        if order.kind == "held-out":
            if died and not self._folder.held_out(order.number, order.seed).exists():
                self._again(order, died)
        elif (early := (order.number, order.seed) in self._early) or order.number in self._open:
            result = self._result(order)
            if result is None and early:
                result = self._stop_early(order)
            if result is None:
                self._again(order, died)
            elif order.number in self._open:
                self._settle(self._open[order.number], order.seed, result)

    def _again(self, order: Order, died: bool) -> None:
        """An order came back with nothing: its machine died, or its storage has a fault. After too many it failed."""
        if self._stopped:
            return
        key = (order.kind, order.number, order.seed, died)
        self._vain[key] += 1
        times, allowed = self._vain[key], self._max_retries if died else MOST_EMPTY
        if times <= allowed:
            self._orders.appendleft(order)
            if died:
                log.warning("fit %d/%d: its worker died; another one goes on (%d of %d)", *key[1:3], times, allowed)
        elif order.kind == "fit":
            why = f"its worker died more often than resources.max_retries allows ({allowed})"
            why = why if died else f"ended {times} times without a result"
            self._close(self._open[order.number], fault=f"seed {order.seed}: {why}")

    def stop(self) -> None:
        """Give out no more orders; those that are out may finish."""
        if not self._stopped:
            self._stopped = True
            self._on_stop()

    # --- inside

    def _refill(self) -> None:
        proposal = self._study.propose()
        if proposal is not None:
            self._take(proposal)
            if not self._orders:  # all of its fits had results already
                self._refill()
        elif not self._open and not self._held_out_asked:
            self._ask_held_out()

    def _take(self, proposal: Proposal) -> None:
        """Open a trial: what has a durable result counts, the rest is ordered."""
        trial = _Open(proposal, set(self._seeds))
        self._open[proposal.number] = trial
        for seed in self._seeds:
            order = Order(proposal.number, seed, proposal.params)
            result = self._result(order)
            if result is None:
                self._orders.append(order)
                self.notes += self._folder.fit(order.number, seed).passed_over()
            else:
                self._folder.fit(order.number, seed).tidy()
                self._settle(trial, seed, result)

    def _ends_here(self, order: Order) -> bool:
        """An order whose fit was left just where it is compared, by an attempt that did not live to say so."""
        history = self._folder.fit(order.number, order.seed).history() if self.rungs(order) else []
        if not history or self.goes_on(order, len(history), metrics(history[-1])):
            return False
        self._settle(self._open[order.number], order.seed, self._stop_early(order))
        return True

    def _stop_early(self, order: Order) -> dict[str, Any]:
        result = self._folder.fit(order.number, order.seed).stop(order.params)
        self._folder.share(order.number, order.seed)
        return result

    def _result(self, order: Order) -> dict[str, Any] | None:
        fit = self._folder.fit(order.number, order.seed)
        result = fit.result()
        if result is not None and result["params"] != dict(order.params):
            raise Corrupt(
                f"{fit.path} holds the result of other settings ({result['params']}) than the study proposed "
                f"({dict(order.params)}). Put the study's database back, or move that folder away to run the fit again."
            )
        return result

    def _known_data(self) -> str | None:
        """The hash of the split that the sweep's fits were trained on, from one that did not fail."""
        for trial in self._study.trials():
            if trial.state is State.COMPLETE:
                with contextlib.suppress(Corrupt):  # the next one knows it too
                    result = self._folder.fit(trial.number, self._seeds[0]).result()
                    if result is not None:
                        return _split_hash(result)
        return None

    def _settle(self, trial: _Open, seed: int, result: dict[str, Any]) -> None:
        trial.results[seed] = result
        self.split_hash = self.split_hash or _split_hash(result)
        trial.missing.discard(seed)
        error = result.get("error")
        if error:
            self._close(trial, fault=f"seed {seed}: {error['reason']}: {error['message']}")
        elif result.get("stopped"):
            self._close(trial, stopped=f"after epoch {result['stopped']} of seed {seed}: others were ahead")
        elif not trial.missing:
            self._close(trial)

    def _close(self, trial: _Open, fault: str | None = None, stopped: str | None = None) -> None:
        """Tell the study, once; the trial's other fits are pointless after a failure or an early stop."""
        number = trial.proposal.number
        self._orders = deque(o for o in self._orders if o.number != number)
        if number not in self._open:
            return
        if stopped is not None:
            told = self._study.prune(number, stopped)
        elif fault is None:
            told = self._study.complete(number, [trial.results[seed]["values"] for seed in self._seeds])
        else:
            told = self._study.fail(number, fault)
        del self._open[number]
        self._judge(told)
        self._on_trial(told)

    def _judge(self, told: Trial) -> None:
        """Stop where failures are the rule: more of them would cost, and tell nothing new."""
        self._told += 1
        self._failed += told.reason is not None
        self._failures_in_a_row = 0 if told.reason is None else self._failures_in_a_row + 1
        if self._failures_in_a_row >= self._max_failures:
            self.brake = f"{self._failures_in_a_row} trials failed in a row; the last: {told.reason}"
        elif self._told >= ENOUGH_TO_JUDGE and self._failed > self._max_failed_share * self._told:
            allowed = f"search.max_failed_share allows {self._max_failed_share:.0%}"
            self.brake = f"{self._failed} of {self._told} trials failed, and {allowed}; the last: {told.reason}"
        if self.brake:
            self.stop()

    def _ask_held_out(self) -> None:
        """The choice is made: order the test numbers of the front and of the baselines."""
        self._held_out_asked = True
        chosen = set(self._study.front())
        for trial in self._study.trials():
            if trial.number in chosen or (trial.baseline and trial.reason is None):
                for seed in self._seeds:
                    if not self._folder.held_out(trial.number, seed).exists():
                        self._orders.append(Order(trial.number, seed, trial.params, "held-out"))


def _split_hash(result: Mapping[str, Any]) -> str | None:
    found = result.get("provenance", {}).get("split_hash")
    return None if found is None else str(found)
