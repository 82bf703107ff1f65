"""What decoding once buys: a second epoch and a second trial against the first, and what four readers cost.

    python benchmarks/fits/data.py --images 2000 --repetitions 5

A tree in the Waterbirds format (JPEG, 500 x 375, cut from scikit-learn's photos) is read at 224 pixels. Each
repetition starts with an empty cache; what is timed ends in normalised float batches of 32, shuffled:
  first epoch   decoding into the cache, then one pass
  second epoch  one more pass in the same process
  second trial  a fresh process finds the array: opening it and one pass, without its imports
  from disk     the same after the system was told to drop the array from memory; how much then had to be
                read from the disk is told beside it, since the system is free not to listen
Then four processes hold the whole array at once. In the sum of their PSS a shared page counts once, in the sum
of their RSS four times; both are read from each process's smaps.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

KINDS = ("first epoch", "second epoch", "second trial", "from disk")
SIZE, BATCH = 224, 32
JPEG = (500, 375)  # width and height of most of Waterbirds' images
CORES = len(os.sched_getaffinity(0))


def main() -> None:
    """Measure, or (as a child) be one trial or one reader."""
    asked = _parser().parse_args()
    if asked.child:
        _be(asked)
        return
    count, repetitions = (64, 1) if asked.quick else (asked.images, asked.repetitions)
    with tempfile.TemporaryDirectory(prefix="data-", dir=asked.folder) as folder:
        tree = photographs(Path(folder) / "tree", count)
        files = sum(path.stat().st_size for path in tree.glob("*.jpg")) / count
        print(f"{platform.machine()}, {CORES} cores, {time.strftime('%Y-%m-%d')}: {count} JPEGs of 500 x 375,")
        print(f"  {files / 1e3:.0f} kB each, decoded to {3 * SIZE**2 / 1e3:.0f} kB by {CORES} threads")
        found = [_repetition(tree, Path(folder) / f"cache-{i}") for i in range(repetitions)]
        _report(found, count)
        _memory(tree, Path(folder) / "cache-0", asked.readers)


def photographs(folder: Path, count: int) -> Path:
    """`count` training images and four each of val and test below `folder`, in the Waterbirds format.

    The label is which of scikit-learn's two photos an image is cut from, the place whether it is upside down.
    """
    from sklearn.datasets import load_sample_image

    folder.mkdir(parents=True)
    photos = [Image.fromarray(load_sample_image(f"{name}.jpg")) for name in ("china", "flower")]
    rows = [(f"{i:06d}.jpg", i % 2, 0 if i < count else 1 + (i - count) // 4, i // 2 % 2) for i in range(count + 8)]

    def save(row: tuple[str, int, int, int]) -> None:
        name, label, _, place = row
        _cut(photos[label], seed=int(name[:6]), turned=bool(place)).save(folder / name, quality=90)

    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(save, rows))
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("img_filename", "y", "split", "place"), *rows])
    return folder


def _cut(photo: Image.Image, *, seed: int, turned: bool) -> Image.Image:
    chance = np.random.default_rng(seed)
    width = int(chance.integers(photo.width // 3, photo.width * 3 // 4))
    height = width * JPEG[1] // JPEG[0]
    left, top = (int(chance.integers(0, room)) for room in (photo.width - width, photo.height - height))
    image = photo.resize(JPEG, Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))
    return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if turned else image


# --- in the parent


def _repetition(tree: Path, cache: Path) -> dict[str, float]:
    first, second = _child("first", tree, cache), _child("again", tree, cache)
    _forget(cache)
    dropped = _child("again", tree, cache)
    if len({first["hash"], second["hash"], dropped["hash"]}) > 1:
        sys.exit("the trials saw different images, so the ratios do not count")
    return {
        "first epoch": first["open_s"] + first["passes_s"][0],
        "second epoch": first["passes_s"][1],
        "second trial": second["open_s"] + second["passes_s"][0],
        "from disk": dropped["open_s"] + dropped["passes_s"][0],
        "read": dropped["read_bytes"] / _array(cache).stat().st_size,
    }


def _report(found: list[dict[str, float]], count: int) -> None:
    for kind in KINDS:
        rates = [count / run[kind] for run in found]
        ratios = [run["first epoch"] / run[kind] for run in found]
        print(f"{kind:12} {_spread(rates, '.0f')} images/s   {_spread(ratios, '.2f')} times the first epoch's rate")
    print(f"for the last, {_spread([100 * run['read'] for run in found], '.0f')} % of the array was read from the disk")


def _memory(tree: Path, cache: Path, readers: int) -> None:
    """All readers at once, each with the whole array mapped and touched."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(_command("reader", tree), env=_environment(cache), **pipes) for _ in range(readers)]
    try:
        if not all(child.stdout and child.stdout.readline() for child in children):
            sys.exit("a reader failed; its message is above")
        found = [_mapped(child.pid) for child in children]
    finally:
        for child in children:
            child.communicate()  # closes its standard input, which ends it
    size = _array(cache).stat().st_size
    rss, pss, other = (sum(part[kind] for part in found) for kind in ("rss", "pss", "other"))
    print(f"{readers} readers of an array of {size / 1e6:.1f} MB: together {pss / 1e6:.1f} MB of it resident (PSS),")
    print(f"  {pss / size:.2f} times its size, where each by itself sees it whole ({rss / size:.2f} times, RSS);")
    print(f"  beside it each process holds {other / readers / 1e6:.0f} MB (PSS): the interpreter, torch, batches")


def _mapped(process: int) -> dict[str, int]:
    """Bytes of the array in `process` (RSS and PSS), and PSS of all else."""
    found, array = {"rss": 0, "pss": 0, "other": 0}, False
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        name, *values = line.split()
        if not name.endswith(":"):  # the head of a mapping: its addresses first, its file last
            array = line.endswith("/images.u8")
        elif name == "Rss:" and array:
            found["rss"] += 1024 * int(values[0])
        elif name == "Pss:":
            found["pss" if array else "other"] += 1024 * int(values[0])
    return found


def _forget(cache: Path) -> None:
    handle = os.open(_array(cache), os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def _array(cache: Path) -> Path:
    (path,) = cache.glob("decoded/*/images.u8")
    return path


def _child(role: str, tree: Path, cache: Path) -> dict:
    done = subprocess.run(_command(role, tree), capture_output=True, text=True, env=_environment(cache))
    if done.returncode:
        sys.exit(f"{role} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _command(role: str, tree: Path) -> list[str]:
    return [sys.executable, __file__, "--child", role, "--folder", str(tree)]


def _environment(cache: Path) -> dict[str, str]:
    return os.environ | {"SWEEPER_CACHE": str(cache)}


def _spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


# --- in a child


def _be(asked: argparse.Namespace) -> None:
    from trainables import data
    from trainables.data import DataConfig
    from trainables.data.images.cache import decoded
    from trainables.data.images.transform import Transform

    dataset = data.load(DataConfig(name="waterbirds", root=Path(asked.folder)))
    began, read = time.perf_counter(), _read_bytes()
    found = decoded(dataset, "train", Transform(size=SIZE), workers=CORES)
    open_s = time.perf_counter() - began
    passes_s = [_pass(dataset, found, epoch) for epoch in range(2 if asked.child == "first" else 1)]
    told = {"hash": found.hash, "open_s": open_s, "passes_s": passes_s, "read_bytes": _read_bytes() - read}
    print(json.dumps(told), flush=True)
    if asked.child == "reader":
        sys.stdin.read()  # holds the map until the parent has looked


def _pass(dataset, found, epoch: int) -> float:
    """Every image once, as the training loop takes them; seconds."""
    import torch

    from trainables.training.samples import Samples

    groups, labels_N = dataset.groups("train", "class"), dataset.splits["train"].labels_N
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    began = time.perf_counter()
    samples = Samples(found.images_NCHW, labels_N, groups, mean=mean, std=std, device=torch.device("cpu"))
    order_N = torch.from_numpy(np.random.default_rng(epoch).permutation(len(samples)))
    for index_B in order_N.split(BATCH):
        samples.take(index_B)
    return time.perf_counter() - began


def _read_bytes() -> int:
    """What this process has had fetched from the disk so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="64 images, once: does it run? Its numbers mean nothing")
    parser.add_argument("--folder", help="where to work (default: the system's temporary folder)")
    parser.add_argument("--child", choices=("first", "again", "reader"), help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
