"""What it saves to compute once what is frozen: an epoch of training at N of 12 blocks with adapters, by three arms.

    python benchmarks/fits/prefix.py                     # ViT-Ti at 128 pixels, N = 12, 6, 4, 2 and a probe
    python benchmarks/fits/prefix.py --model timm:vit_small_patch16_224 --size 224 --images 256

Arms, in one process, an epoch each in turn, in an order that is reversed from round to round:
  once   FineTuning, `prefix="auto"`: training begins at the first block with an adapter
  each   the same with `prefix="off"`: what is frozen is computed in every step
  bare   plain timm and peft: images already in memory as floats, fused AdamW, clipping, OneCycleLR, no wait in a step

The weights are random, the images are cut from two photos, LoRA has rank 8 on qkv. Before the first round each arm
trains one epoch that does not count. `once` and `each` must end with the same bits, or the run ends without a table.
What `once` pays before its first epoch, for both splits and to look that it is exact, is told beside the epochs after
which one fit alone has earned it back.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import peft
import torch
import torch.nn.functional as F
from data import CORES, photographs
from torch import nn

from trainables.backbones import BackboneConfig
from trainables.data import DataConfig
from trainables.finetuning import FineTuning
from trainables.methods import METHODS
from trainables.params import Params
from trainables.task import Task, TrainConfig

RATE, DECAY, WARMUP, CLIP = 1e-4, 0.01, 0.01, 1.0
Epoch = Callable[[], float]  # trains one, and gives its seconds


def main() -> None:
    """Measure each number of blocks in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="timm:vit_tiny_patch16_224")
    parser.add_argument("--size", type=int, default=128, help="pixels")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--blocks", type=int, nargs="+", default=[12, 6, 4, 2, 0], help="with adapters; 0 is a probe")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    backbone = BackboneConfig(name=asked.model, weights="none", size=asked.size)
    with tempfile.TemporaryDirectory(prefix="prefix-") as folder:
        os.environ["SWEEPER_CACHE"] = f"{folder}/cache"
        config = DataConfig(name="waterbirds", root=photographs(Path(folder) / "photographs", asked.images))
        task = Task(data=config, backbone=backbone, train=TrainConfig(clip_norm=CLIP, warmup=WARMUP))
        tunings = {mode: FineTuning(task, threads=asked.threads, prefix=mode) for mode in ("auto", "off")}
        for tuning in tunings.values():
            tuning.prepare()
        precision, device = (tunings["off"].runtime.provenance()[key] for key in ("precision", "device"))
        print(f"{asked.model} at {asked.size} pixels, {asked.images} images, batch {asked.batch}", end=", ")
        print(f"{precision}, {device}, {CORES} cores, {asked.threads} threads, torch {torch.__version__}")
        print("\n| N | once, s an epoch | each / once | bare / once | beforehand, s | earned back after |")
        print("|---|---|---|---|---|---|")
        for blocks in asked.blocks:
            print(_row(tunings["auto"], tunings["off"], blocks, asked.batch, asked.rounds), flush=True)


def _row(auto: FineTuning, off: FineTuning, blocks: int, batch: int, rounds: int) -> str:
    flat = {"batch_size": batch, "epochs": rounds + 1, "learning_rate": RATE, "weight_decay": DECAY}
    params = Params.from_flat({"method": "lora", "blocks": blocks} | flat if blocks else {"method": "probe"} | flat)
    began = time.perf_counter()
    auto.aim(params, seed=0)
    first_s = time.perf_counter() - began
    began = time.perf_counter()
    off.aim(params, seed=0)
    before_s = first_s - (time.perf_counter() - began)
    arms: dict[str, Epoch] = {"once": _ours(auto), "each": _ours(off), "bare": bare(off, params)}
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    for done in range(rounds + 1):
        for arm in list(arms)[:: 1 if done % 2 else -1]:
            spent_s = arms[arm]()
            if done:
                seconds[arm].append(spent_s)
    ends = [tuning.state()[0] for tuning in (auto, off)]
    if not all(torch.equal(ends[0][name], ends[1][name]) for name in ends[1]):
        raise SystemExit("the two do not end with the same bits")
    once = seconds["once"]
    ratios = {arm: [slow / fast for slow, fast in zip(seconds[arm], once, strict=True)] for arm in ("each", "bare")}
    saved_s = statistics.median(seconds["each"]) - statistics.median(once)
    kept = bool(auto.frozen.nbytes)
    paid = f"{before_s:.2f} | {before_s / saved_s:.1f} epochs" if kept and saved_s > 0 else f"{before_s:.2f} | never"
    name = f"{blocks}" if blocks else "none (probe)"
    cells = [spread(once, ".3f"), *(spread(ratios[arm], ".2f") for arm in ("each", "bare"))]
    return f"| {name} | {' | '.join(cells)} | {paid if kept else '- | nothing is frozen'} |"


def _ours(tuning: FineTuning) -> Epoch:
    return lambda: tuning.train_epoch()["seconds"]


def bare(tuning: FineTuning, params: Params) -> Epoch:
    """A loop by hand, over the images that ours has, from weights of its own."""
    model, samples = copy.deepcopy(tuning.backbone.model), tuning._split("train")
    if METHODS[params.method].adapter == "lora":
        blocks = range(len(model.blocks) - (params.blocks or len(model.blocks)), len(model.blocks))
        layers = [f"blocks.{block}.attn.qkv" for block in blocks]
        config = peft.LoraConfig(
            r=params.rank, lora_alpha=params.alpha_value, target_modules=layers, modules_to_save=["head"]
        )
        model = peft.get_peft_model(model, config)
    else:
        model.requires_grad_(False).head.requires_grad_(True)
    images_N3HW, labels_N, N = samples.take(slice(None)), samples.labels_N, len(samples)
    weights = [p for p in model.parameters() if p.requires_grad]
    adamw = torch.optim.AdamW(weights, lr=RATE, weight_decay=DECAY, fused=True)
    steps = params.epochs * -(-N // params.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        adamw, RATE, total_steps=steps, pct_start=WARMUP, cycle_momentum=False
    )

    def epoch() -> float:
        began = time.perf_counter()
        total = torch.zeros((), device=images_N3HW.device)
        for rows_B in torch.randperm(N).to(images_N3HW.device).split(params.batch_size):
            with tuning.runtime.autocast():
                logits_BC = model.train()(images_N3HW[rows_B])
            loss = F.cross_entropy(logits_BC.float(), labels_N[rows_B])
            adamw.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, CLIP)
            adamw.step()
            schedule.step()
            total += loss.detach()
        float(total)
        return time.perf_counter() - began

    return epoch


def spread(values: list[float], form: str) -> str:
    """Median (least to most)."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


if __name__ == "__main__":
    main()
