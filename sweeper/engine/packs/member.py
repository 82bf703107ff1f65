"""One order at its actor: its fit's folder holds the facts, and this is what the actor knows beside them.

An actor has one, or as many as it trains at once; to each of them that makes no difference.
"""

from __future__ import annotations

import logging
import socket
import time
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sweeper.engine.order import Bundle, Node, Order, unlike
from sweeper.errors import Corrupt
from sweeper.results import fit_log
from sweeper.results.provenance import MANIFEST
from sweeper.running_code import RunningCode
from sweeper.state import migrations
from sweeper.state.mirror import SHOWN_S
from trainables.errors import FitError, UserError
from trainables.params import Params
from trainables.undefined import to_null

if TYPE_CHECKING:  # torch stays out of the driver
    from trainables.finetuning import FineTuning
    from trainables.metrics import Evaluation

log = logging.getLogger(__name__)


class Member:
    """The fit of `order`, which is trained together with those of its `bundle`, if there are others.

    `over` says that it has a result. A second of an epoch counts as that share of one which is the fit's own.
    """

    tuning: FineTuning
    _evaluation: Evaluation

    def __init__(self, node: Node, order: Order, bundle: Bundle) -> None:
        self.order = order
        self.over = False
        self._mates = [f"{other.number}/{other.seed}" for other in bundle if other is not order]
        self._packed: list[dict[str, Any]] = []  # which of its epochs were trained together with which fits
        self._node, self._sweep = node, node.sweep()
        self.fit = self._sweep.fit(order.number, order.seed)
        self.history: list[dict[str, Any]] = []
        self._failed = False
        self._seconds = self._shown_s = 0.0
        self._began = self._kept = time.perf_counter()  # the epoch in flight; the newest checkpoint
        self._fetched = False

    def fetch(self) -> None:
        """Make the fit's folder as the store has it, once."""
        if not self._fetched:
            self._sweep.fetch(self.order.number, self.order.seed)
            self._fetched = True

    def share(self) -> None:
        """Make the store's copy as the folder is. Where nodes share no disk, an epoch is durable only then."""
        self._sweep.share(self.order.number, self.order.seed)

    # --- it is trained

    def ended_before(self) -> bool:
        """Whether there is nothing to train: it has a result, or fails now, because a process before hung at it."""
        if self.fit.result() is not None:
            self.over = True
        elif (stack := self.fit.hung()) is not None:
            self.history = self.fit.history()
            self.hang(stack)
        return self.over

    def aim(self, tuning: FineTuning) -> None:
        """Load the fit's newest checkpoint, or begin the fit."""
        from trainables.training import checkpoint

        self.tuning = tuning
        params = dict(self.order.params)
        tuning.aim(Params.from_flat(params), self.order.seed)
        if differing := unlike(self.order.same, tuning.provenance()):
            files = tuning.changed_files(self._sweep.path / MANIFEST)
            raise Corrupt(
                f"on {socket.gethostname()} it is not what the sweep's other fits were trained on: "
                f"{'; '.join(differing)}.{f' Files: {files}.' * bool(files)} Put back what was there, and give all "
                "machines the same files, then resume; or begin another sweep."
            )
        payload = self.fit.newest_checkpoint()
        if payload is not None:
            try:
                tensors, meta = checkpoint.unpack(payload)
                migrations.check(meta.get("schema", 1), f"a checkpoint in {self.fit.path}")
                tuning.load_state(tensors, meta["state"])
                self.history, self._seconds = meta["history"], meta["seconds"]
                self._packed = meta.get("packed", [])
            except (KeyError, ValueError, UserError) as fault:
                raise Corrupt(
                    f"a checkpoint in {self.fit.path} has a valid checksum and cannot be read ({fault}). It was "
                    "written by another release; delete the fit's folder to run this fit again."
                ) from fault
        fit_log.FIT.info("begins on %s (%s) after epoch %d: %s", socket.gethostname(), self._node, tuning.epoch, params)

    def begin_epoch(self) -> None:
        """From now on time counts as the next epoch's."""
        self._began = self._kept = time.perf_counter()

    def end_epoch(self, logs: Mapping[str, float], trained_s: float) -> None:
        """An epoch was trained, of which `trained_s` are the fit's own: measure it, and keep it unless it is the last.

        Raises:
            FitError: the model's answers are not numbers, or memory ran out.
        """
        tuning, began = self.tuning, time.perf_counter()
        row: dict[str, Any] = {"epoch": tuning.epoch, **logs}
        if self._mates:
            self._note_mates(tuning.epoch)
        self._evaluation = tuning.evaluate("val")
        row["evaluate_s"] = time.perf_counter() - began
        row |= {f"val_{name}": value for name, value in self._evaluation.values.items()}
        self._seconds += trained_s + row["evaluate_s"]
        self.history.append(to_null(row) | {"time_ms": time.time_ns() // 1_000_000})
        fit_log.FIT.info("epoch %d: %s", tuning.epoch, _shown(row))
        if not tuning.done:
            self._keep(self._seconds)

    def keep_within(self, every_s: float) -> bool:
        """Keep a long epoch as far as it is, if the newest checkpoint is older than `every_s`; whether it was."""
        now = time.perf_counter()
        if now - self._kept <= every_s:
            return False
        self._keep(self._seconds + (now - self._began) / self._shares)
        self.share()
        self._kept = time.perf_counter()
        return True

    def _keep(self, seconds: float) -> None:
        from trainables.training import checkpoint

        tensors, state = self.tuning.state()
        meta = {"state": state, "history": self.history, "seconds": seconds, "schema": migrations.SCHEMA}
        meta |= {"packed": self._packed} if self._packed else {}
        self.fit.save_checkpoint(self.tuning.epoch, checkpoint.pack(tensors, meta), step=state.get("step", 0))

    def _note_mates(self, epoch: int) -> None:
        if self._packed and self._packed[-1]["with"] == self._mates and self._packed[-1]["epochs"][1] == epoch - 1:
            self._packed[-1]["epochs"][1] = epoch
        else:
            self._packed.append({"epochs": [epoch, epoch], "with": self._mates})

    def seal(self, code: RunningCode, prepared_s: float) -> None:
        """Write the weights first, then the result, which holds their checksums."""
        self.fit.path.mkdir(parents=True, exist_ok=True)
        unsealed = self.fit.unsealed_weights
        self.tuning.save(unsealed)
        self.fit.keep_weights(unsealed)
        self.fit.write_result(
            self._evaluation.to_json()
            | {
                "params": dict(self.order.params),
                "history": self.history,
                "weights": self.fit.digests(),
                "provenance": self.tuning.provenance()
                | {"code": code.digest, "prepared_s": prepared_s}
                | ({"packed": self._packed} if self._packed else {}),
                "code": code.to_json(),
                "seconds": self._seconds,
                "error": None,
            }
        )
        self.over = True
        fit_log.FIT.info("ended after %.1f s", self._seconds)

    # --- it is told of

    def report(self, shown: list[str]) -> dict[str, Any]:
        """Its newest epoch: of a fit that is compared now all metrics, of another the columns `shown`."""
        row = self.history[-1] if self.history and not self._failed else {}
        if not self.at_rung:
            row = {name: row[name] for name in shown if name in row}
        return row | {"epoch": len(self.history)}

    @property
    def at_rung(self) -> bool:
        """Whether it stands where it is compared with others."""
        return len(self.history) in self.order.rungs

    def beat(self, elapsed_s: float) -> None:
        """Note how long it is since the newest checkpoint: what an interruption now would cost."""
        if self.order.kind == "fit":
            lost_s = min(elapsed_s, time.perf_counter() - self._kept) / self._shares
            self.fit.mark(len(self.history) + 1, lost_s, cpus=self._node.cpus, gpus=self._node.gpus)
            if not 0 < elapsed_s - self._shown_s < SHOWN_S:
                self._shown_s = elapsed_s
                self._sweep.share_mark(self.order.number, self.order.seed)

    @property
    def _shares(self) -> int:
        return 1 + len(self._mates)

    # --- it comes to nothing

    def give_up(self, reason: str, fault: BaseException, trace: str | None = None) -> None:
        """The fit fails and is not retried: it would fail again. Its folder gets the whole trace."""
        trace = trace or "".join(traceback.format_exception(fault))
        log.warning("%s: %s", self.order, trace)
        self._failed = self.over = True
        if self.order.kind == "fit":
            error = {"reason": reason, "message": str(fault) or type(fault).__name__, "trace": trace}
            self.fit.end_without_numbers(self.order.params, history=self.history, seconds=self._seconds, error=error)
            self.share()

    def hang(self, stack: str) -> None:
        """An epoch took longer than it may: the fit fails and is not retried, because it would hang again."""
        if self.order.kind == "fit" and self.fit.result() is None:
            message = (
                f"epoch {len(self.history) + 1} took longer than resources.epoch_timeout_s allows. The trace shows "
                "where it was. If it was only slow, give later trials a larger limit: sweeper resume NAME --with FILE."
            )
            self.give_up("timed-out", FitError("timed-out", message), trace=stack)


def _shown(row: Mapping[str, Any]) -> str:
    """The loss, and the numbers of the validation split that are over all examples."""
    names = ("train_loss", "val_accuracy", "val_delta_f1", "val_loss")
    return ", ".join(f"{name} {row[name]:.4f}" for name in names if isinstance(row.get(name), float))
