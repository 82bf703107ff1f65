"""How fast an epoch is: ours, a bare timm + peft loop, and the transformers Trainer on the same model and images.

    python benchmarks/fits/training.py                       # all cases of this machine
    python benchmarks/fits/training.py --cases vit-b/128 --compile

Arms, in one process, in turns whose order is reversed from round to round:
  ours          FineTuning with method `lora`: images from the decoded array
  ours+penalty  the same with method `fairlora`, groups by cell
  ours+compile  the same as ours with train.compile (only with --compile)
  bare          a plain loop: DataLoader (a worker for each core, pinned, persistent) that decodes the JPEGs on disk
                with timm's own evaluation transform, autocast, fused AdamW, clipping, OneCycleLR, no wait in a step
  trainer       transformers' Trainer with that data, optimiser and schedule, nothing logged or saved

A turn is a whole fit from the same weights; its first epoch (workers, compilation, memory) is not counted. A ratio
counts only if the arms do the same work: the same trainable tensors (else the run ends), the same images (the
largest difference of a pixel is told), the same number of steps, and epochs' mean losses within 10 % of ours
(but for ours+penalty, which follows another objective).
Decoding once, which our epochs live on, is timed by benchmarks/fits/data.py. TFLOP/s are the matrix products that torch
counts in a step, forward and backward, beside the rate of one large product, taken anew in each round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from arms import ARMS, Case, TrainingBench, Turn
from data import CORES
from torch.utils.flop_counter import FlopCounterMode

from trainables import data
from trainables.data.images.cache import decoded
from trainables.data.images.transform import Transform
from trainables.methods import METHODS
from trainables.methods.base import GroupInfo

TOLERANCE = 0.1
CPU = {"small-vit": Case("small-vit", 32, 0), "vit-tiny": Case("timm:vit_tiny_patch16_224", 32, 256)}
GPU = {
    "vit-b/32": Case("vit_base_patch16_224.augreg2_in21k_ft_in1k", 32, 4096),
    "vit-b/128": Case("vit_base_patch16_224.augreg2_in21k_ft_in1k", 128, 4096),
    "clip-b32/128": Case("vit_base_patch32_clip_224.laion2b", 128, 4096),
    "swinv2-l/32": Case("swinv2_large_window12_192.ms_in22k", 32, 1024),
}
QUICK = {"quick": Case("timm:vit_tiny_patch16_224", 8, 16)}


def main() -> None:
    """Measure each case in turn."""
    asked = _parser().parse_args()
    known = QUICK if asked.quick else GPU if torch.cuda.is_available() else CPU
    if wrong := set(asked.cases or ()) - set(known):
        sys.exit(f"--cases: {', '.join(sorted(wrong))} is not one of {', '.join(known)}")
    if asked.epochs < 2:
        sys.exit(f"--epochs: {asked.epochs} leaves none to count beside the first. Use 2 or more")
    rounds, epochs = (1, 2) if asked.quick else (asked.rounds, asked.epochs)
    with tempfile.TemporaryDirectory(prefix="training-", dir=asked.folder) as folder:
        os.environ["SWEEPER_CACHE"] = f"{folder}/cache"
        for name in asked.cases or known:
            _measure(name, TrainingBench(known[name], epochs, Path(folder), asked.workers), rounds, asked.compile)


# --- measuring and telling


def _measure(name: str, bench: TrainingBench, rounds: int, compiled: bool) -> None:
    told = bench.runtime.provenance()
    print(f"{name}: {bench.case.backbone}, batch {bench.case.batch}, {len(bench.files)} images, LoRA rank 8 on qkv")
    print(
        f"  {told['device']}, {CORES} cores, {told['threads']} threads, {told['precision']}, torch {torch.__version__}"
    )
    print(f"  {bench.workers} workers, {time.strftime('%Y-%m-%d')}; largest difference of a pixel {_pixels(bench):.1e}")
    flops = _flops(bench)  # also the warm-up of ours
    arms = [arm for arm in ARMS if compiled or arm != "ours+compile"]
    turns: dict[str, list[Turn]] = {arm: [] for arm in arms}
    matrix = []
    for seed in range(rounds):
        matrix.append(_matrix_rate(bench))
        for arm in arms if seed % 2 == 0 else arms[::-1]:
            turns[arm].append(ARMS[arm](bench, seed))
    for arm, done in turns.items():
        _tell(arm, done, turns["ours"], bench, flops, matrix)
    print(f"  {'one product':12} {_spread([rate / 1e12 for rate in matrix], '.3g')} TFLOP/s")
    _tell_penalty(bench, turns)


def _tell(
    arm: str, turns: list[Turn], ours: list[Turn], bench: TrainingBench, flops: float, matrix: list[float]
) -> None:
    rates = [len(bench.files) / turn.epoch_s for turn in turns]
    ratios = [turn.epoch_s / mine.epoch_s for turn, mine in zip(turns, ours, strict=True)]
    apart = max(
        abs(loss - own) / own
        for turn, mine in zip(turns, ours, strict=True)
        for loss, own in zip(turn.losses, mine.losses, strict=True)
    )
    speeds = [rate * flops for rate in rates]
    share = [100 * speed / peak for speed, peak in zip(speeds, matrix, strict=True)]
    print(
        f"  {arm:12} {_spread(rates, '.1f')} images/s   ours is {_spread(ratios, '.2f')} times as fast\n"
        f"  {'':12} {_spread([speed / 1e12 for speed in speeds], '.3g')} TFLOP/s, {_spread(share, '.0f')} % of one "
        f"product's   losses {' '.join(f'{loss:.3f}' for loss in turns[0].losses)}, up to {100 * apart:.1f} % from ours"
    )
    if apart > TOLERANCE and arm != "ours+penalty":  # which follows another objective
        print(f"  {'':12} THIS RATIO DOES NOT COUNT: the losses differ by more than {100 * TOLERANCE:.0f} %")


def _tell_penalty(bench: TrainingBench, turns: dict[str, list[Turn]]) -> None:
    """Twice: as the difference of whole epochs, which is noisy; and of the objectives alone, waited for each time."""
    pairs = zip(turns["ours+penalty"], turns["ours"], strict=True)
    epochs = [100 * (fair.epoch_s / plain.epoch_s - 1) for fair, plain in pairs]
    steps = -(-len(bench.files) // bench.case.batch)
    step_s = statistics.median(turn.epoch_s for turn in turns["ours"]) / steps
    alone_s = _penalty_s(bench)
    print(
        f"  the penalty's share of a step: {100 * alone_s / step_s:.2f} % by itself ({1e6 * alone_s:.0f} us of "
        f"{1e3 * step_s:.2f} ms), {_spread(epochs, '+.1f')} % by whole epochs\n",
        flush=True,
    )


def _penalty_s(bench: TrainingBench, repetitions: int = 200) -> float:
    """Seconds that it adds to the loss, forward and backward; the two objectives in turns."""
    found = data.load(bench.data).groups("train", "cell")
    groups = GroupInfo(found.names, tuple(found.counts_G.tolist()))
    groups_B = torch.from_numpy(found.index_N[: bench.case.batch]).to(bench.runtime.device)
    loss_B = torch.rand(bench.case.batch, device=bench.runtime.device, requires_grad=True)
    objectives = {
        name: METHODS[name].objective.load()(params=bench.params(name), groups=groups, reduction="sum")
        for name in ("fairlora", "lora")
    }
    taken: dict[str, list[float]] = {name: [] for name in objectives}
    for _ in range(repetitions):
        for name, objective in objectives.items():
            taken[name].append(_seconds(lambda go=objective: torch.autograd.grad(go(loss_B, groups_B)[0], loss_B)))
    return statistics.median(taken["fairlora"]) - statistics.median(taken["lora"])


def _flops(bench: TrainingBench) -> float:
    """Operations for one image in training, as torch counts those of matrix products and attention."""
    bench.tuning.aim(bench.params(), seed=0)
    with FlopCounterMode(display=False) as counter:
        bench.tuning.train_epoch()
    return counter.get_total_flops() / len(bench.files)


def _matrix_rate(bench: TrainingBench) -> float:
    """Operations a second in one large square product, in the precision of the training."""
    device, half = bench.runtime.device, bench.runtime.precision == "bf16"
    size = 8192 if device.type == "cuda" else 1024
    left, right = torch.randn(2, size, size, device=device, dtype=torch.bfloat16 if half else torch.float32)
    return 2 * size**3 / statistics.median(_seconds(lambda: left @ right) for _ in range(30))


def _seconds(work: Callable[[], object]) -> float:
    """Of `work`, until the device is done with it."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def _pixels(bench: TrainingBench) -> float:
    """The largest difference between an image from the array and the same one from its file, normalised."""
    found = decoded(bench.files.source, "train", Transform(**bench.backbone.transform())).images_NCHW
    mean_311, std_311 = (np.reshape(values, (3, 1, 1)) for values in (bench.backbone.mean, bench.backbone.std))
    few = range(min(8, len(bench.files)))
    return max(float(np.abs((found[i] / 255 - mean_311) / std_311 - bench.files[i][0].numpy()).max()) for i in few)


def _spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", help=f"on a CPU {', '.join(CPU)}; on a GPU {', '.join(GPU)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3, help="of a turn; the first is not counted")
    parser.add_argument("--workers", type=int, default=CORES, help="of the DataLoader in bare and trainer")
    parser.add_argument("--compile", action="store_true", help="one more arm: ours, compiled")
    parser.add_argument("--quick", action="store_true", help="16 images, once: does it run? Its numbers mean nothing")
    parser.add_argument("--folder", help="where to work (default: the system's temporary folder)")
    return parser


if __name__ == "__main__":
    main()
