"""What it saves to train several fits in one pass of their frozen weights: an epoch of K fits, packed and one by one.

    python benchmarks/fits/packing.py                     # small-vit at 32 pixels, batches of 8 and 32, K = 2, 4, 8
    python benchmarks/fits/packing.py --model timm:vit_tiny_patch16_224 --size 128 --images 32

Arms, in one process, an epoch each in turn, in an order that is reversed from round to round:
  alone    FineTuning, one fit: K of them one after the other take K times as long
  K        `Pack` of K fits, whose seeds, lambdas, rates (and, with --mixed, ranks) differ
  bare     plain timm and peft, one fit: images already in memory as floats, fused AdamW, clipping, OneCycleLR

The weights are random, the images are cut from two photos, LoRA is on the qkv of all blocks; `--blocks` puts it into
the last ones alone, with the rest computed once in all arms of ours. Before the first round each arm trains one epoch
that does not count. With one thread on a CPU a second is one that the thread had, so that other work on the machine
counts less; else it is one of the clock. `alone / K` above 1 is a gain: K fits one by one over the pack, in one round.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from data import CORES, photographs
from prefix import CLIP, DECAY, RATE, WARMUP, bare, spread

from trainables.backbones import BackboneConfig
from trainables.data import DataConfig
from trainables.finetuning import FineTuning
from trainables.packing import Pack
from trainables.params import Params
from trainables.task import Task, TrainConfig

RANKS = (8, 32, 4, 64)


def main() -> None:
    """Measure each batch size in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small-vit")
    parser.add_argument("--size", type=int, default=None, help="pixels; none: the model's own")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--fits", type=int, nargs="+", default=[2, 4, 8], help="K")
    parser.add_argument("--blocks", type=int, default=None, help="with adapters; none: all")
    parser.add_argument("--mixed", action="store_true", help=f"ranks {RANKS} in turn; else 8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    backbone = BackboneConfig(name=asked.model, weights="none", **({"size": asked.size} if asked.size else {}))
    with tempfile.TemporaryDirectory(prefix="packing-") as folder:
        os.environ["SWEEPER_CACHE"] = f"{folder}/cache"
        config = DataConfig(name="waterbirds", root=photographs(Path(folder) / "photographs", asked.images))
        tuning = FineTuning(
            Task(data=config, backbone=backbone, train=TrainConfig(clip_norm=CLIP, warmup=WARMUP)),
            threads=asked.threads,
        )
        tuning.prepare()
        precision, device = (tuning.runtime.provenance()[key] for key in ("precision", "device"))
        ranks = "mixed" if asked.mixed else "rank 8"
        print(f"{asked.model} at {asked.size or 'its own'} pixels, {asked.images} images, {ranks}", end=", ")
        print(f"{precision}, {device}, {CORES} cores, {asked.threads} threads, torch {torch.__version__}")
        print(f"\n| batch | alone, s an epoch | bare / alone | {' | '.join(f'alone / {K}' for K in asked.fits)} |")
        print(f"|---|---|---|{'---|' * len(asked.fits)}")
        for batch in asked.batch:
            print(_row(tuning, batch, asked), flush=True)


def _row(tuning: FineTuning, batch: int, asked: Any) -> str:
    def aimed(K: int) -> list[FineTuning]:
        members = [tuning.another() for _ in range(K)]
        for seed, each in enumerate(members):
            each.aim(_params(batch, seed, asked), seed)
        return members

    (alone,) = aimed(1)
    clock = time.thread_time if tuning.runtime.device.type == "cpu" and asked.threads == 1 else time.perf_counter
    by_hand = bare(tuning, _params(batch, 0, asked))
    arms: dict[str, Callable[[], object]] = {"alone": alone.train_epoch, "bare": by_hand}
    arms |= {f"{K}": Pack(aimed(K)).train_epoch for K in asked.fits}
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    for done in range(asked.rounds + 1):
        for arm in list(arms)[:: 1 if done % 2 else -1]:
            began = clock()
            arms[arm]()
            if done:
                seconds[arm].append(clock() - began)
    of_one = seconds["alone"]
    ratios = [[hand / one for hand, one in zip(seconds["bare"], of_one, strict=True)]]
    for K in asked.fits:
        ratios.append([K * one / packed for one, packed in zip(of_one, seconds[f"{K}"], strict=True)])
    cells = [spread(of_one, ".3f"), *(spread(values, ".2f") for values in ratios)]
    return f"| {batch} | {' | '.join(cells)} |"


def _params(batch: int, seed: int, asked: Any) -> Params:
    own = {"rank": RANKS[seed % len(RANKS)] if asked.mixed else 8, "lambda": 10.0**seed / 1e3, "blocks": asked.blocks}
    shared = {"method": "fairlora", "batch_size": batch, "epochs": asked.rounds + 1, "weight_decay": DECAY}
    return Params.from_flat({**own, **shared, "learning_rate": RATE * (1 + seed)})


if __name__ == "__main__":
    main()
