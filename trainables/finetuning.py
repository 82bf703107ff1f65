"""One fine-tuning: prepare once, then aim, train, evaluate, save, and aim again. It knows nothing of sweeps."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from trainables import adapters, backbones, data
from trainables.arrays import Floats, Ints
from trainables.backbones import Backbone, weights, within
from trainables.data import report
from trainables.data.base import Dataset
from trainables.data.images.cache import Images
from trainables.data.images.transform import Transform
from trainables.data.texts.tokens import Tokenised, Tokens
from trainables.errors import UserError
from trainables.frozen.start import Frozen, Start
from trainables.methods import METHODS
from trainables.methods.base import GroupInfo
from trainables.metrics import Evaluation, evaluate
from trainables.metrics.on_data import judged, measured
from trainables.params import Params
from trainables.task import Task
from trainables.training import small_bodies
from trainables.training.batches import derived
from trainables.training.clock import Clock
from trainables.training.fit import Fit
from trainables.training.refit import refit_head
from trainables.training.runtime import Runtime
from trainables.training.samples import Samples
from trainables.training.texts import Texts


class FineTuning:
    """A task, and one fit of it at a time.

    Data and backbone are read once, by `prepare`; each `aim` starts a fit that owes nothing to the last one.

    >>> tuning = FineTuning(Task(groups="cell"))                             # doctest: +SKIP
    >>> tuning.prepare()                                                     # doctest: +SKIP
    >>> tuning.aim(Params.from_flat({"method": "fairlora", "lambda": 1.0}), seed=0)  # doctest: +SKIP
    >>> while not tuning.done: tuning.train_epoch()                          # doctest: +SKIP
    >>> tuning.evaluate("val").values["accuracy"]                            # doctest: +SKIP

    `between_steps` is called between two steps of an epoch; it may read `state()`, or raise, to go on from there later.
    """

    between_steps: Callable[[], None] = staticmethod(lambda: None)

    def __init__(
        self, task: Task, *, device: str = "auto", threads: int | None = None, prefix: Literal["auto", "off"] = "auto"
    ) -> None:
        """`prefix`: keep what the frozen part of a model gives, where that changes no number and there is room."""
        self.task = task
        self._prefix: Literal["auto", "off"] = prefix
        self.runtime = Runtime.choose(device, task.train.precision, threads)
        self._current: Fit | None = None
        self._refit: dict[str, float] = {}
        self._clock = Clock()
        self._proven: set[tuple[object, ...]] = set()  # ways of wiring an adapter that were seen to have an effect
        self.packs: dict[tuple[object, ...], Any] = {}  # what `packing` has found out about packs of such fits
        self._samples: dict[str, Samples] = {}
        self._content: dict[str, str] = {}

    def prepare(self, dataset: Dataset | None = None) -> None:
        """Read the data, decode it once per machine, build the backbone that all fits start from.

        A `dataset` that is at hand is taken instead of the task's.

        Raises:
            UserError: unknown dataset or backbone, missing files, groups that the data does not have.
        """
        self.runtime.use_threads()
        dataset = dataset or data.load(self.task.data)
        try:
            dataset.groups("train", self.task.groups)
        except ValueError as error:
            raise UserError(f"groups is '{self.task.groups}': {error}") from None
        backbones.check_kind(self.task.backbone, dataset.name, dataset.noun)
        if dataset.noun == "text" and (self.task.train.flip or self.task.train.crop is not None):
            raise UserError("train.flip and train.crop are for images, and the data has texts. Leave them out.")
        classes = dataset.classes
        self._backbone = backbones.load(self.task.backbone, classes=len(classes), class_names=classes)
        self._backbone_digest = weights.digest(self._backbone.model, self._backbone.heads)
        self._backbone.model.to(self.runtime.device)
        self._files = report.file_digests(dataset)
        self._source: Images | Tokens
        if self._backbone.reading is not None:
            self._source = Tokens(dataset, self._backbone.reading)
        else:
            transform = Transform(**self._backbone.transform())
            self._source = Images(dataset, transform, self.task.data, workers=self.runtime.threads or 1)
        self._data = self._source.dataset  # without the records whose image cannot be read
        self._split_hash = self._data.split_hash
        self._frozen = Frozen(
            self._backbone,
            self._backbone_digest,
            self._split,
            self._content,
            self.task.train,
            self.runtime,
            self._prefix,
        )
        for split in ("train", "val"):  # now, so that no fit's time has the decoding in it
            self._split(split)

    def aim(self, params: Params, seed: int, rows: Mapping[str, Ints] | None = None, *, trains: bool = True) -> None:
        """Start a fresh fit: backbone as pre-trained, adapter and head from `seed`; a zero-shot head stays.

        It sees the whole training split, or these `rows` alone, by split. One that gets its weights from a file, and
        does not train, needs nothing that is computed beforehand.

        Raises:
            FitError: the adapter has no effect (`dead-adapter`), or memory ran out.
            UserError: the backbone has not the layers, or the single head, that the params ask for.
        """
        if METHODS[params.method].refit and self._backbone.more_heads:
            raise UserError(
                f"{params.method} refits one head, and {self._backbone.name} has several. Use another method."
            )
        self._current, self._refit, self._clock = None, {}, Clock()  # frees the last fit's memory before it is needed
        chance = self.runtime.seeded(derived(seed, 0, "weights"))
        with self.runtime.memory("building the model"), chance:
            model = self._fresh(params)
            if self.task.backbone.head == "random":
                for head in self._backbone.heads:
                    for module in model.get_submodule(head).modules():
                        if callable(reset := getattr(module, "reset_parameters", None)):
                            reset()
            model = adapters.wrap(model, self._backbone, params)
            adapter = METHODS[params.method].adapter
            wiring = (adapter, params.layers, params.variant, params.blocks) if adapter == "lora" else (adapter,)
            if wiring not in self._proven:  # whatever the rank: looked at once
                small = small_bodies.kept_small(model)
                check = small_bodies.check_effect if small else adapters.check_effect
                check(model, self.examples)
                self._proven.add(wiring)
            if self.runtime.precision == "bf16" or small_bodies.kept_small(model):
                adapters.answer_in_float32(model, self._backbone.heads)
            self._start = self._frozen.start(model, params, whole=trains and not rows)
        parts = [self._split(split).part(rows_K) for split, rows_K in (rows or {}).items()]
        self._train = functools.reduce(Samples.joined, parts) if parts else self._inputs("train")
        groups = GroupInfo.of(self._train.groups)
        balanced = self.task.train.sampler != "shuffle"
        if groups.members and (balanced or not METHODS[params.method].overlapping):
            can = ", ".join(name for name, method in METHODS.sound.items() if method.overlapping)
            what = "train.sampler" if balanced else params.method
            raise UserError(f"{what} needs groups that do not overlap. Use other groups, or shuffle and one of: {can}.")
        objective = METHODS[params.method].objective.load()(
            params=params, groups=groups, reduction=self.task.train.reduction
        )
        start = self._start
        self._current = Fit(
            model, objective, params, seed, self.task.train, self.runtime, tail=start.tail, still=start.still
        )

    def another(self) -> FineTuning:
        """One with a fit of its own, not aimed yet, that shares all that `prepare` made, frozen weights included."""
        other = copy.copy(self)
        vars(other).pop("between_steps", None)
        other._current, other._refit, other._clock = None, {}, Clock()
        return other

    @property
    def epoch(self) -> int:
        """Finished epochs of the fit."""
        return self.fit.epoch

    @property
    def done(self) -> bool:
        """Whether the fit has had all its epochs."""
        return bool(self.fit.epoch >= self.fit.params.epochs)

    def train_epoch(self) -> dict[str, float]:
        """One pass over the training split: what `Fit.train_epoch` says of it, and `seconds`.

        The last one ends with the refit of the last layer, where the method has one.

        Raises:
            FitError: `diverged`, `dead-adapter`, `out-of-memory`, or `bad-data` of a refit.
        """
        self.begin_epoch()
        return self.end_epoch(self.fit.train_epoch(self._train, self.between_steps))

    def begin_epoch(self, sharers: int = 1) -> None:
        """Time runs for the epoch in flight: a share of it, where so many fits are trained at once."""
        self._clock.start(sharers)

    def end_epoch(self, logs: Mapping[str, float]) -> dict[str, float]:
        """What `train_epoch` says, of an epoch whose steps are done and gave these `logs`; the last one ends here."""
        if self.done:
            self._refit = refit_head(self.fit, self._backbone.head, self._inputs("val"))
        return {"seconds": self._clock.stop(), **logs, **self._refit}

    def evaluate(self, split: str = "val") -> Evaluation:
        """Every metric on `split`, and its groups of every kind that the data has.

        Of `val` without the half that refits the last layer, where the method does that.

        Raises:
            FitError: `diverged` where the model's answers are not numbers.
        """
        rows = self._measured(split)
        log_probs_NC = self.fit.log_probs(self._asked(split))[rows]
        return evaluate(
            judged(self._data, split, rows, log_probs_NC, groups=self.task.groups, config=self.task.metrics)
        )

    @property
    def dataset(self) -> Dataset:
        """What is trained on: without the records whose image cannot be read."""
        return self._data

    @property
    def notes(self) -> list[str]:
        """What was done to the examples that a person should know: texts that are cut, in the splits read so far."""
        return self._source.notes if isinstance(self._source, Tokens) else []

    @property
    def backbone(self) -> Backbone:
        """What all fits start from."""
        return self._backbone

    @property
    def model(self) -> nn.Module:
        """The model of the fit, wrapped."""
        return self.fit.model

    def changed_files(self, manifest: Path) -> str:
        """Which files of the data are others than the manifest of another look at it says, in a few words."""
        return report.changed_files(self._files, manifest)

    def log_probs(self, split: str, rows: Ints) -> Floats:
        """Log-probabilities of the classes for these examples of a split, `[K, C]`."""
        return self.fit.log_probs(self._asked(split).part(rows))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that is needed to go on: tensors on the CPU (weights, AdamW's moments, the method's own) and JSON."""
        spent = {"step": self.fit.step, "spent_s": self._clock.spent_s} if self.fit.step else {}
        return self.fit.state(), {"epoch": self.fit.epoch, **spent, **self._parts, **self._identity}

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Go on from `state()`, in this or another process; aim at the same params and seed first.

        Raises:
            ValueError: the state is of another fit.
        """
        wrong = [key for key, value in self._identity.items() if meta.get(key) != value]
        if wrong:
            raise ValueError(f"the state is of another fit ({', '.join(wrong)} differ). Aim at the one that saved it.")
        self.fit.load_state(tensors, int(meta["epoch"]), int(meta.get("step", 0)))
        self.fit.at_once = meta.get("at_once", self.fit.at_once)
        self._clock = Clock(float(meta.get("spent_s", 0.0)))

    def save(self, folder: Path) -> None:
        """Write what was trained, in peft's format (or all weights, under full fine-tuning)."""
        adapters.save_adapter(self.fit.model, folder, self._backbone)

    def load_weights(self, folder: Path) -> None:
        """Take the trained weights that `save` wrote, to evaluate them again.

        Raises:
            UserError: there are none, or they are of a model of another shape.
        """
        adapters.load_adapter(self.fit.model, folder)
        self.fit.epoch = self.fit.params.epochs

    def provenance(self) -> dict[str, Any]:
        """What made the numbers: machine, versions, data, backbone, sizes, settings. Ready for JSON."""
        trainable, total = adapters.count_parameters(self.fit.model)
        adapted, blocks = adapters.attention_reach(self.fit.model)
        return {
            **self.runtime.provenance(),
            **self._identity,
            "method": self.fit.params.method,
            "dataset": self._data.name,
            "data_digest": report.data_digest(self._files),
            "content_hash": dict(self._content),
            "backbone": self._backbone.name,
            "backbone_source": self._backbone.source,
            "backbone_digest": self._backbone_digest,
            "trainable_parameters": trainable,
            "total_parameters": total,
            "adapted_attention_blocks": f"{adapted} of {blocks}",
            "validation_examples": len(self._measured("val")),
            **self._parts,
            **({"frozen": self._start.told} if self._start.told else {}),
            **({"notes": self.notes} if self.notes else {}),
            **{name: bool(value) for name, value in self._refit.items() if name == "refit_converged"},
        }

    @property
    def fit(self) -> Fit:
        """The fit that it is aimed at."""
        if self._current is None:
            raise RuntimeError("There is no fit yet. Call prepare(), then aim(params, seed).")
        return self._current

    @property
    def inputs(self) -> Samples:
        """What the fit trains on: images, or what is through the frozen part of its model."""
        return self._train

    @property
    def examples(self) -> Tensor:
        """A few images, or texts, as the whole model takes them."""
        return self._split("train").take(slice(0, 4))

    def _fresh(self, params: Params) -> nn.Module:
        """The model as it was before any fit. What no fit of this method changes is the backbone's own, not a copy."""
        model = self._backbone.model
        if METHODS[params.method].adapter == "full":
            return copy.deepcopy(model)
        frozen = [p for name, p in model.named_parameters() if not within(name, self._backbone.heads)]
        return copy.deepcopy(model, {id(p): p for p in frozen})

    @property
    def _parts(self) -> dict[str, int]:
        """The examples that are computed at once since memory ended with more."""
        at_once = self.fit.at_once
        return {"at_once": at_once} if self.task.train.micro_batch == "auto" and at_once else {}

    @property
    def _identity(self) -> dict[str, Any]:
        return {"params": self.fit.params.to_flat(), "seed": self.fit.seed, "split_hash": self._split_hash}

    @property
    def frozen(self) -> Start:
        """What of the fit's model is frozen, and whether it is computed once."""
        return self._start

    def frozen_bytes(self, params: Params) -> int:
        """What such a fit would keep on the disk of what is frozen; 0 where it would compute that in every step."""
        model = adapters.wrap(self._fresh(params), self._backbone, params)
        return self._frozen.nbytes(model, params)

    def _inputs(self, split: str) -> Samples:
        """What the fit takes from a split: what is through the frozen part of its model already, or images."""
        return self._start.features.get(split) or self._split(split)

    def _asked(self, split: str) -> Samples:
        """What a split is evaluated on. What is kept of the training split is as it is while the fit trains."""
        return self._split(split) if split == "train" else self._inputs(split)

    def _split(self, name: str) -> Samples:
        """The split's samples, read at first use: a fit that never looks at test never loads it."""
        if name not in self._samples:
            found = self._source.split(name)
            self._content[name] = found.hash
            labels_N, groups = self._data.splits[name].labels_N, self._data.groups(name, self.task.groups)
            mean, std, device = self._backbone.mean, self._backbone.std, self.runtime.device
            self._samples[name] = (
                Texts(found, labels_N, groups, device=device)
                if isinstance(found, Tokenised)
                else Samples(found.images_NCHW, labels_N, groups, mean=mean, std=std, device=device)
            )
        return self._samples[name]

    def _measured(self, split: str) -> Ints:
        labels_N, groups = self._data.splits[split].labels_N, self._data.groups(split, self.task.groups)
        return measured(self.fit.params.method, split, labels_N, groups)
