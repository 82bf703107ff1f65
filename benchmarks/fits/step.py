"""Where one training step spends its time and memory, and what its options cost. One thread; CPU unless there is a GPU.

    python benchmarks/fits/step.py profile --models timm:vit_base_patch16_224 --batch 8
    python benchmarks/fits/step.py arms --arms ours bare frozen --models timm:vit_small_patch16_224
    python benchmarks/fits/step.py memory --models timm:vit_small_patch16_224 --batch 32
    python benchmarks/fits/step.py evaluation --sizes 1 2 4 8 16 32
    python benchmarks/fits/step.py compile --ranks 4 4 6 12

Random weights, images cut from two photos, LoRA of rank 16 on the default layers, method `fairlora`, groups by cell.

  profile     torch.profiler over an epoch of FineTuning after one that does not count: shares of the step
  arms        CPU seconds of a step, the arms in turn, in an order that is reversed from round to round; ratios to the
              first of them
                ours         FineTuning as it is
                bare         plain timm and peft: images in memory as floats, fused AdamW, clipping, no penalty
                frozen       the same without adapters; gradients go through all blocks nonetheless: LoRA comes on top
                channels     `ours` with the model's and the images' channels last
                checkpoint   `ours` with backbone.checkpointing
                micro        `ours` with train.micro_batch, a quarter of the batch
                compile      `ours` with train.compile
  memory      peak RSS over two epochs, each arm in a process of its own; and what autograd keeps of a step, by its node
  evaluation  CPU milliseconds an image without gradients, by the number of images at once, in turn
  compile     CPU seconds, this process and its children, of the first epochs of fits one after the other, by rank
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import copy
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import torch
import torch.nn.functional as F
from data import photographs
from torch import nn

from trainables import adapters, backbones
from trainables.backbones import BackboneConfig
from trainables.backbones.blocks import transformer_blocks
from trainables.data import DataConfig
from trainables.finetuning import FineTuning
from trainables.params import Params
from trainables.task import Task, TrainConfig

RANK, RATE, CLIP = 16, 1e-4, 1.0
MODELS = ["timm:vit_base_patch16_224", "open_clip:ViT-B-32", "timm:swinv2_tiny_window8_256"]
KINDS = (  # of what torch calls an operation, the first that fits
    ("attention", ("scaled_dot_product", "multi_head_attention", "_softmax")),
    ("products", ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")),
    ("convolutions", ("convolution",)),
    ("norms", ("layer_norm", "batch_norm", "linalg_vector_norm")),
    ("optimiser", ("adamw", "_foreach", "Optimizer")),
    ("copies", ("copy_", "aten::cat", "aten::stack", "aten::roll", "aten::index", "fill_", "zero_", "constant_pad")),
    ("penalty", ("penalty",)),
    (
        "elementwise",
        ("gelu", "aten::add", "aten::mul", "aten::div", "aten::sub", "aten::exp", "aten::sum", "relu", "silu"),
    ),
)


def main() -> None:
    """Measure what was asked for."""
    asked = _parser().parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="step-") as folder:
        os.environ["SWEEPER_CACHE"] = f"{folder}/cache"
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
        asked.data = DataConfig(
            name="waterbirds", root=photographs(Path(folder) / "photographs", asked.batch * asked.steps)
        )
        adapters.check_effect = lambda *_: None  # once in a process, and no part of a step
        for model in asked.models:
            asked.what(asked, model)


def _tuned(asked: argparse.Namespace, model: str, *, rank: int = RANK, **changed: Any) -> FineTuning:
    """One that is aimed; a step is an epoch over `asked.steps`."""
    own = {"checkpointing": changed.pop("checkpointing")} if "checkpointing" in changed else {}
    backbone = BackboneConfig(name=model, weights="none", **own)
    task = Task(data=asked.data, backbone=backbone, groups="cell", train=TrainConfig(clip_norm=CLIP, **changed))
    tuning = FineTuning(task, threads=1)
    tuning.prepare()
    tuning.aim(_params(asked, rank), seed=0)
    return tuning


def _params(asked: argparse.Namespace, rank: int = RANK) -> Params:
    sizes = {"batch_size": asked.batch, "epochs": 99, "learning_rate": RATE, "rank": rank}
    return Params.from_flat({"method": "fairlora", "lambda": 1.0, **sizes})


# --- profile


def profile(asked: argparse.Namespace, model: str) -> None:
    """Shares of the step's time, by kind of operation."""
    tuning = _tuned(asked, model)
    fit: Any = tuning._current
    objective = fit.objective

    def penalty(*given: Any) -> Any:
        with torch.profiler.record_function("penalty"):
            return objective(*given)

    fit.objective = penalty
    tuning.train_epoch()
    kinds = [torch.profiler.ProfilerActivity.CPU]
    began, cpu = time.perf_counter(), time.process_time()
    with torch.profiler.profile(activities=kinds, record_shapes=True) as found:
        began, cpu = time.perf_counter(), time.process_time()
        tuning.train_epoch()
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    shares: dict[str, float] = collections.defaultdict(float)
    rest: dict[str, float] = collections.defaultdict(float)
    for event in found.key_averages(group_by_input_shape=True):
        spent_s = event.self_cpu_time_total / 1e6
        kind = next((kind for kind, parts in KINDS if any(part in event.key for part in parts)), "other operations")
        if kind == "products" and any(RANK in shape for shape in event.input_shapes):
            kind = "products of LoRA"
        shares[kind] += spent_s
        if kind == "other operations":
            rest[event.key] += spent_s
    shares["Python, and between operations"] = wall_s - sum(shares.values())
    print(f"{model}, batch {asked.batch}, {asked.steps} steps: {cpu_s / asked.steps:.2f} CPU s a step")
    for kind, spent_s in sorted(shares.items(), key=lambda pair: -pair[1]):
        print(f"| {kind} | {100 * spent_s / wall_s:.1f} % |")
    print("  most of the other:", ", ".join(f"{k} {100 * v / wall_s:.1f} %" for k, v in _most(rest, 5)), flush=True)


def _most(found: dict[str, float], count: int) -> list[tuple[str, float]]:
    return sorted(found.items(), key=lambda pair: -pair[1])[:count]


# --- arms


def arms(asked: argparse.Namespace, model: str) -> None:
    """CPU seconds of a step, and ratios to `ours`."""
    steps = {arm: _arm(asked, model, arm) for arm in asked.arms}
    spent: dict[str, list[float]] = {arm: [] for arm in asked.arms}
    for done in range(asked.rounds + 1):
        for arm in asked.arms[:: 1 if done % 2 else -1]:
            cpu = time.process_time()
            steps[arm]()
            if done:
                spent[arm].append((time.process_time() - cpu) / asked.steps)
    print(f"{model}, batch {asked.batch}, {asked.rounds} rounds of {asked.steps} steps")
    for arm in asked.arms:
        ratios = [own / first for own, first in zip(spent[arm], spent[asked.arms[0]], strict=True)]
        print(f"| {arm} | {_spread(spent[arm], '.3f')} | {_spread(ratios, '.3f')} |", flush=True)


def _arm(asked: argparse.Namespace, model: str, arm: str) -> Callable[[], object]:
    if arm in ("bare", "frozen"):
        return _bare(asked, model, adapted=arm == "bare")
    options = {
        "checkpoint": {"checkpointing": True},
        "micro": {"micro_batch": max(1, asked.batch // 4)},
        "compile": {"compile": True},
    }
    tuning = _tuned(asked, model, **options.get(arm, {}))
    if arm == "channels":
        last, samples = torch.channels_last, tuning._split("train")
        tuning.model.to(memory_format=last)
        take = samples.take
        samples.take = lambda rows: take(rows).contiguous(memory_format=last)
    return tuning.train_epoch


def _bare(asked: argparse.Namespace, model: str, *, adapted: bool) -> Callable[[], object]:
    """A loop by hand over images in memory."""
    tuning = _tuned(asked, model)
    samples, backbone = tuning._split("train"), tuning.backbone
    net, images_N3HW, labels_N = copy.deepcopy(backbone.model), samples.take(slice(None)), samples.labels_N
    if adapted:
        config = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=backbone.targets["qkv"])
        config.modules_to_save = list(backbone.heads)
        net = peft.get_peft_model(net, config)
    else:
        net.requires_grad_(False).get_submodule(backbone.head).requires_grad_(True)
        first = net.get_submodule(transformer_blocks(net)[0])
        first.register_forward_pre_hook(lambda _, given: (given[0].detach().requires_grad_(), *given[1:]))
    weights = [p for p in net.parameters() if p.requires_grad]
    adamw = torch.optim.AdamW(weights, lr=RATE, fused=True)
    net.train()

    def epoch() -> None:
        for rows_B in torch.randperm(len(labels_N)).split(asked.batch):
            loss = F.cross_entropy(net(images_N3HW[rows_B]), labels_N[rows_B])
            adamw.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, CLIP)
            adamw.step()

    return epoch


# --- memory


def memory(asked: argparse.Namespace, model: str) -> None:
    """Peak RSS of each arm in a process of its own; in the child, of the one arm."""
    if not asked.child:
        for arm in asked.arms:
            own = [sys.executable, *sys.argv, "--child", arm, "--models", model]
            subprocess.run(own, check=True)
        return
    seen = {"imports": _rss_mb()}
    go = _arm(asked, model, asked.child)
    seen["aimed"] = _rss_mb()
    kept: dict[str, float] = collections.defaultdict(float)
    for _ in range(2):
        with _kept(kept) if asked.kept else contextlib.nullcontext():
            go()
        seen["epoch"] = _rss_mb()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = ", ".join(f"{what} {mb:.0f}" for what, mb in seen.items())
    print(f"| {model} | {asked.batch} | {asked.child} | {peak:.0f} | {told} |", flush=True)
    if kept:
        print("  kept for the backward pass, MB a step:", ", ".join(f"{k} {v:.0f}" for k, v in _most(kept, 9)))


@contextlib.contextmanager
def _kept(found: dict[str, float]) -> Iterator[None]:
    """MB that autograd keeps of the last step, by shape; each storage once, weights left out."""
    seen: dict[int, Any] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        where = tensor.untyped_storage()
        if not isinstance(tensor, nn.Parameter) and not tensor.is_leaf and where.data_ptr() not in seen:
            seen[where.data_ptr()] = tensor
            found[str(list(tensor.shape))] += where.nbytes() / 2**20
        return tensor

    def unpack(tensor: torch.Tensor) -> torch.Tensor:
        seen.clear()  # the backward pass has begun
        return tensor

    found.clear()
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield


def _rss_mb() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


# --- evaluation and compilation


def evaluation(asked: argparse.Namespace, model: str) -> None:
    """CPU milliseconds an image, by the number of images at once."""
    backbone = backbones.load(BackboneConfig(name=model, weights="none"), classes=2)
    net, images = backbone.model.eval(), torch.randn(max(asked.sizes), 3, backbone.size, backbone.size)
    spent: dict[int, list[float]] = {size: [] for size in asked.sizes}
    with torch.inference_mode():
        for done in range(asked.rounds + 1):
            for size in asked.sizes[:: 1 if done % 2 else -1]:
                cpu = time.process_time()
                for part in images.split(size):
                    net(part)
                if done:
                    spent[size].append(1e3 * (time.process_time() - cpu) / len(images))
    best = {size: statistics.median(values) for size, values in spent.items()}
    for size, values in spent.items():
        ratio = best[size] / min(best.values())
        print(f"| {model} | {backbone.size} | {size} | {_spread(values, '.1f')} | {ratio:.2f} |", flush=True)


def compiling(asked: argparse.Namespace, model: str) -> None:
    """CPU seconds of the first two epochs of each fit, one fit after the other."""
    tuning = _tuned(asked, model, compile=True)
    for rank in asked.ranks:
        tuning.aim(_params(asked, rank), seed=0)
        spent = []
        for _ in range(2):
            began = _with_children_s()
            tuning.train_epoch()
            spent.append(_with_children_s() - began)
        print(f"| {model} | rank {rank} | first epoch {spent[0]:.1f} s | second {spent[1]:.2f} s |", flush=True)


def _with_children_s() -> float:
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in found)


def _spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    whats = {each.__name__: each for each in (profile, arms, memory, evaluation)} | {"compile": compiling}
    parser.add_argument("what", choices=whats, help="see above")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2, help="in an epoch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--arms", nargs="+", default=["ours", "bare", "frozen"], help="the first is compared with")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--ranks", type=int, nargs="+", default=[4, 4, 6, 12])
    parser.add_argument("--kept", action="store_true", help="of memory: tell also what autograd keeps")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    read = parser.parse_args

    def parsed() -> argparse.Namespace:
        asked = read()
        asked.what = whats[asked.what]
        return asked

    parser.parse_args = parsed  # type: ignore[method-assign]
    return parser


if __name__ == "__main__":
    main()
