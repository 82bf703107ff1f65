"""A sweep that takes a fraction of a second: the real driver, queue, study, lease, folder, actor and record, no Ray.

Only three things are small: what is trained (`Tiny`, two numbers that depend on params, seed and epoch
alone), who executes (`in_process`: one real FitActor, in this process), and what describes the data.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from sweeper.engine import actor as actors
from sweeper.engine import attempt, driver
from sweeper.engine.actor import FitActor
from sweeper.engine.attempt import Execute
from sweeper.engine.order import Node, config
from sweeper.engine.packs.packing import by_member
from sweeper.engine.queue import FitQueue
from sweeper.record import pictures
from sweeper.record.background import Projector
from sweeper.results import provenance
from sweeper.spec import loading
from sweeper.spec.model import SweepSpec
from sweeper.spec.sections import Resources
from sweeper.state.sweep_folder import SweepFolder
from trainables import finetuning
from trainables.errors import UserError
from trainables.metrics import Evaluation
from trainables.params import Params

NAME, SEEDS = "tiny", (0, 1)
EACH_STEP = "resources: {checkpoint_every_s: 1.0e-9}\n"  # of a `Long` one
DATA = {"name": "tiny", "split_hash": "tiny", "data_digest": "tiny", "root": "nowhere", "splits": {"val": {"n": 1}}}
SPEC = """
name: tiny
storage: {{root: {root}}}
space: {{method: fairlora, lambda: {{low: 0.01, high: 100, log: true}}, rank: [4, 8, 16], epochs: 2}}
search: {{sampler: tpe, trials: {trials}, seeds: 2, baselines: [lora]{search}}}
"""


def spec(root: Path, trials: int = 3, more: str = "", search: str = "") -> SweepSpec:
    """Three trials of two seeds and two epochs each, unless told otherwise."""
    return loading.parse(SPEC.format(root=root, trials=trials, search=search) + more)


class Tiny:
    """A fine-tuning of two numbers: the same settings and seed give the same bits."""

    def __init__(self, task: Any, *, device: str, threads: int, prefix: str = "auto") -> None:
        self.epoch = 0

    def prepare(self) -> None:
        """Nothing to read."""

    def another(self) -> Tiny:
        """One more fit, of its own."""
        return type(self)(None, device="none", threads=1)

    def aim(self, params: Params, seed: int, *, trains: bool = True) -> None:
        """Begin at nought."""
        self._params, self._seed, self.epoch = params, seed, 0
        self._weight_2 = torch.zeros(2, dtype=torch.float64)

    @property
    def done(self) -> bool:
        """After the epochs that the params ask for."""
        return self.epoch >= self._params.epochs

    def train_epoch(self) -> dict[str, float]:
        """Half of what was, and something new."""
        chance = torch.Generator().manual_seed(1000 * self._seed + self.epoch)
        known = {"lambda": 1.0, "rank": 8} | self._params.to_flat()
        pull = torch.tensor([known["lambda"], float(known["rank"])], dtype=torch.float64)
        self._weight_2 = self._weight_2 / 2 + torch.rand(2, generator=chance, dtype=torch.float64) / (1 + pull)
        self.epoch += 1
        return {"loss": float(self._weight_2.sum())}

    def evaluate(self, split: str) -> Evaluation:
        """Two metrics in [0, 1], other ones on another split."""
        shift = 0.0 if split == "val" else 0.01
        accuracy, delta = (1 / (1 + self._weight_2 + shift)).tolist()
        return Evaluation({"accuracy": accuracy, "delta_f1": delta}, {}, [])

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """The two numbers, and the epoch."""
        return {"weight": self._weight_2.clone()}, {"epoch": self.epoch, "seed": self._seed}

    def load_state(self, tensors: dict[str, torch.Tensor], meta: dict[str, Any]) -> None:
        """Go on from `state`."""
        if meta["seed"] != self._seed:
            raise ValueError("the state is of another fit")
        self._weight_2, self.epoch = tensors["weight"], meta["epoch"]

    def save(self, folder: Path) -> None:
        """The two numbers as weights."""
        folder.mkdir(parents=True)
        save_file({"weight": self._weight_2}, folder / "adapter_model.safetensors")

    def load_weights(self, folder: Path) -> None:
        """What `save` wrote."""
        self._weight_2 = load_file(folder / "adapter_model.safetensors")["weight"]

    def provenance(self) -> dict[str, Any]:
        """What made the numbers."""
        return {"device": "none", "split_hash": "tiny"}


class Long(Tiny):
    """A tiny fine-tuning whose epochs have three steps. `stepped` hears of each that begins."""

    STEPS = 3
    between_steps = staticmethod(lambda: None)
    stepped: Callable[[Params, int, int, int], None] = staticmethod(lambda *place: None)

    def aim(self, params: Params, seed: int, *, trains: bool = True) -> None:
        """Begin at nought."""
        super().aim(params, seed, trains=trains)
        self.step = 0

    def train_epoch(self) -> dict[str, float]:
        """What is left of the three steps, and then what an epoch does."""
        while self.step < self.STEPS:
            self.stepped(self._params, self._seed, self.epoch, self.step)
            chance = torch.Generator().manual_seed(1000 * self._seed + 10 * self.epoch + self.step)
            self._weight_2 = self._weight_2 + torch.rand(2, generator=chance, dtype=torch.float64) / 10
            self.step += 1
            if self.step < self.STEPS:
                self.between_steps()
        self.step = 0
        return super().train_epoch()

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """And the step."""
        tensors, meta = super().state()
        return tensors, meta | {"step": self.step}

    def load_state(self, tensors: dict[str, torch.Tensor], meta: dict[str, Any]) -> None:
        """Go on from `state`."""
        super().load_state(tensors, meta)
        self.step = meta.get("step", 0)


@contextlib.contextmanager
def in_process(resources: Resources) -> Iterator[Execute]:
    """An executor: one real actor in this process, one order after the other."""
    yield work_off


def work_off(queue: FitQueue, folder: SweepFolder, *, at: Path | None = None) -> None:
    """What Ray Tune would do with the queue's orders: an actor that raises is dead, and another one tries.

    `at` is the sweep's folder on the actors' node, where that has a disk of its own.
    """
    actor = None
    while bundle := queue.next_bundle():
        report: dict[str, Any] = {"done": False}
        died = False
        try:
            actor = _aimed(actor, config(node(folder, at=at), *bundle))
            while not report["done"]:
                report = actor.step()
                if not report["done"] and queue.reports(bundle, by_member(report)):
                    break
        except Exception:
            actor, died = None, True
        queue.done(*bundle, died=died, to_mend=report.get("to_mend"), told=report)


def node(folder: SweepFolder, *, at: Path | None = None) -> Node:
    """One CPU of this machine, with the sweep's folder at `at` where that is another one."""
    return Node(at or folder.path, folder.token, folder.store, device="cpu", threads=1, cpus=1.0, gpus=0.0)


def _aimed(actor: FitActor | None, aim: dict[str, Any]) -> FitActor:
    if actor is None:
        actor = FitActor.__new__(FitActor)  # without what Tune's own constructor looks for in a cluster
        actor.setup(aim)
    else:
        actor.reset_config(aim)
    return actor


class Prompt(Projector):
    """The record, written at once and in the caller's thread, so that writes come in one order."""

    def start(self, after_s: float = 0.0) -> None:
        """A pass at once."""
        self._pass(ending=False)

    def poke(self) -> None:
        """A pass at once."""
        self._pass(ending=False)

    def finish(self, timeout_s: float) -> bool:
        """The last pass."""
        return self._pass(ending=True)


class Mute(Prompt):
    """No record: for tests that are about something else."""

    def _pass(self, ending: bool) -> bool:
        return True


class Silent(attempt.Listener):
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def begun(self, look: Any, notes: list[str]) -> None:
        """Notes of an attempt."""
        self.notes = list(notes)

    def told(self, trial: Any) -> None:
        """Nothing."""


def make_tiny(
    put: Callable[[Any, str, Any], None] = setattr, *, tuning: type[Tiny] = Tiny, record: type[Projector] = Prompt
) -> None:
    """From now on this process trains `tuning`, draws no pictures, and writes the record at once."""
    put(finetuning, "FineTuning", tuning)
    put(actors, "REPORT_EVERY_S", 0.0)
    put(attempt, "Projector", record)
    put(provenance, "describe", lambda spec, folder, changes=(): {"dataset": DATA, "notes": [], "commit": None})
    put(pictures, "draw", lambda *what: None)


def begin(root: Path, **options: Any) -> attempt.Outcome:
    """Run the tiny sweep in this process."""
    return driver.run(spec(root, **options), Silent(), executor=in_process)


def go_on(root: Path, listener: Silent | None = None, **options: Any) -> attempt.Outcome:
    """Resume it in this process."""
    return driver.resume(SweepFolder(root / NAME), listener or Silent(), executor=in_process, **options)


def forked(act: Callable[[], int], log: Path) -> int:
    """Do `act` in a child of this process; its exit code. What it prints goes to `log`."""
    return os.waitstatus_to_exitcode(os.waitpid(begun(act, log), 0)[1])


def begun(act: Callable[[], int], log: Path) -> int:
    """Begin `act` in a child of this process; its process id."""
    child = os.fork()
    if child == 0:
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            code = act()
        except BaseException as fault:
            code = fault.exit_code if isinstance(fault, UserError) else 70
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return child
