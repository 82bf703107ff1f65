"""What benchmarks/fits/training.py compares: one fit of the same model on the same images, by each arm.

What the arms share (model, starting weights, data, optimiser, schedule) is in `TrainingBench`; each arm gives a `Turn`.
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import peft
import timm.data
import torch
import torch.nn.functional as F
from data import photographs
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from trainables import adapters, backbones, data
from trainables.backbones import BackboneConfig
from trainables.data import DataConfig
from trainables.finetuning import FineTuning
from trainables.params import Params
from trainables.task import Task, TrainConfig

RATE, DECAY, WARMUP, CLIP = 1e-4, 0.01, 0.01, 1.0


@dataclass(frozen=True)
class Case:
    """One model at one batch size; `images` of 0 means digits-on-scenes, 32 pixels, as it is."""

    backbone: str
    batch: int
    images: int


@dataclass
class Turn:
    """One fit: when each epoch ended, and its mean loss."""

    ends: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def epoch(self, loss: float) -> None:
        self.losses.append(loss)
        self.ends.append(time.perf_counter())

    @property
    def epoch_s(self) -> float:
        """Of the epochs after the first."""
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


class TrainingBench:
    """A case made ready: data on the disk and decoded, the pristine model, and what all arms share."""

    def __init__(self, case: Case, epochs: int, folder: Path, workers: int) -> None:
        self.case, self.epochs, self.folder, self.workers = case, epochs, folder, workers
        root = folder / f"photographs-{case.images}"
        if case.images and not root.exists():
            photographs(root, case.images)
        name = "waterbirds" if case.images else "digits-on-scenes"
        self.data = DataConfig(name=name, root=root)
        self.backbone = backbones.load(BackboneConfig(name=case.backbone, weights="none"), classes=2)
        self.tuning = self.tuned(TrainConfig(clip_norm=CLIP, warmup=WARMUP))
        self.runtime = self.tuning.runtime
        self.files = Files(self.data, self.backbone)

    def tuned(self, train: TrainConfig) -> FineTuning:
        backbone = BackboneConfig(name=self.case.backbone, weights="none")
        tuning = FineTuning(Task(data=self.data, backbone=backbone, groups="cell", train=train))
        tuning.prepare()
        return tuning

    @functools.cached_property
    def compiled(self) -> FineTuning:
        return self.tuned(TrainConfig(clip_norm=CLIP, warmup=WARMUP, compile=True))

    def params(self, method: str = "lora") -> Params:
        sizes = {"batch_size": self.case.batch, "epochs": self.epochs}
        return Params.from_flat({"method": method, "learning_rate": RATE, "weight_decay": DECAY, **sizes})

    def wrapped(self, seed: int) -> nn.Module:
        """timm's model in plain peft, from the weights that ours starts from."""
        config = peft.LoraConfig(
            r=8, lora_alpha=16, target_modules=self.backbone.targets["qkv"], modules_to_save=[self.backbone.head]
        )
        model = peft.get_peft_model(copy.deepcopy(self.backbone.model), config)
        self.tuning.aim(self.params(), seed)
        state = {name: t for name, t in self.tuning.state()[0].items() if name.startswith("weights.")}
        adapters.load_trainable_state(model, {name.removeprefix("weights."): t for name, t in state.items()})
        return model.to(self.runtime.device).train()

    def optimiser(self, model: nn.Module) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR]:
        weights = [p for p in model.parameters() if p.requires_grad]
        adamw = torch.optim.AdamW(weights, lr=RATE, weight_decay=DECAY, fused=True)
        steps = self.epochs * -(-len(self.files) // self.case.batch)
        return adamw, torch.optim.lr_scheduler.OneCycleLR(
            adamw, RATE, total_steps=steps, pct_start=WARMUP, cycle_momentum=False
        )


class Files(Dataset):
    """The training images on disk, decoded at each visit: what a user writes first."""

    def __init__(self, config: DataConfig, backbone: backbones.Backbone) -> None:
        self.source = data.load(config)
        self.paths, self.labels = self.source.splits["train"].paths, self.source.splits["train"].labels_N.tolist()
        self.transform = timm.data.create_transform(
            (3, backbone.size, backbone.size),
            is_training=False,
            interpolation=backbone.interpolation,
            mean=backbone.mean,
            std=backbone.std,
            crop_pct=backbone.crop_pct,
            crop_mode="squash" if backbone.resize == "squash" else "center",
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.paths[i]) as image:
            return self.transform(image.convert("RGB")), self.labels[i]


# --- the arms: each gives one turn


def _ours(bench: TrainingBench, seed: int, method: str = "lora", compiled: bool = False) -> Turn:
    tuning, turn = bench.compiled if compiled else bench.tuning, Turn()
    tuning.aim(bench.params(method), seed)
    while not tuning.done:
        turn.epoch(tuning.train_epoch()["train_loss"])
    return turn


def _bare(bench: TrainingBench, seed: int) -> Turn:
    model, turn, device = bench.wrapped(seed), Turn(), bench.runtime.device
    optimizer, schedule = bench.optimiser(model)
    weights = [p for p in model.parameters() if p.requires_grad]
    loader = DataLoader(
        bench.files,
        bench.case.batch,
        shuffle=True,
        num_workers=bench.workers,
        pin_memory=device.type == "cuda",
        persistent_workers=bench.workers > 0,
    )
    for _ in range(bench.epochs):
        total = torch.zeros((), device=device)
        for images_B3HW, labels_B in loader:
            images_B3HW, labels_B = images_B3HW.to(device, non_blocking=True), labels_B.to(device, non_blocking=True)
            with bench.runtime.autocast():
                logits_BC = model(images_B3HW)
            loss = F.cross_entropy(logits_BC.float(), labels_B)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, CLIP)
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(labels_B)
        turn.epoch(float(total) / len(bench.files))
    return turn


def _trainer(bench: TrainingBench, seed: int) -> Turn:
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    turn, losses = Turn(), []

    class Classifier(Trainer):
        def compute_loss(self, model, inputs, **_):
            loss = F.cross_entropy(model(inputs["images"]).float(), inputs["labels"])
            losses.append(loss.detach() * len(inputs["labels"]))
            return loss

    class Ends(TrainerCallback):
        def on_epoch_end(self, *_, **__) -> None:
            turn.epoch(float(torch.stack(losses).sum()) / len(bench.files))
            losses.clear()

    settings = TrainingArguments(
        output_dir=str(bench.folder / "trainer"),
        num_train_epochs=bench.epochs,
        per_device_train_batch_size=bench.case.batch,
        bf16=bench.runtime.precision == "bf16",
        use_cpu=bench.runtime.device.type == "cpu",
        max_grad_norm=CLIP,
        seed=seed,
        dataloader_num_workers=bench.workers,
        dataloader_persistent_workers=bench.workers > 0,
        dataloader_pin_memory=bench.runtime.device.type == "cuda",
        remove_unused_columns=False,
        logging_strategy="no",
        logging_nan_inf_filter=False,  # it would wait for the device in each step
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    model = bench.wrapped(seed)
    trainer = Classifier(model, settings, _collate, bench.files, callbacks=[Ends], optimizers=bench.optimiser(model))
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return turn


def _collate(rows: list[tuple[torch.Tensor, int]]) -> dict[str, torch.Tensor]:
    images, labels = zip(*rows, strict=True)
    return {"images": torch.stack(images), "labels": torch.tensor(labels)}


ARMS: dict[str, Callable[[TrainingBench, int], Turn]] = {
    "ours": _ours,
    "ours+penalty": functools.partial(_ours, method="fairlora"),
    "ours+compile": functools.partial(_ours, compiled=True),
    "bare": _bare,
    "trainer": _trainer,
}
