"""Fréchet distance between two sets of images, each taken as one Gaussian of a backbone's features.

Sources: Heusel et al. 2017, section 3 (with Inception's features it is called FID); FairLoRA, section A.2 and Table 4.

Shapes: N and M examples, F features, K at most F.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from trainables import backbones, data
from trainables.arrays import Floats, Pixels
from trainables.backbones import Backbone, BackboneConfig
from trainables.data import DATASETS, DataConfig
from trainables.data.base import BadRecord, Dataset, Groups, Split
from trainables.data.datasets import layout
from trainables.data.datasets.tree import Tree
from trainables.data.images.cache import readable
from trainables.data.images.transform import Transform
from trainables.data.splitting import fraction
from trainables.errors import UserError
from trainables.training.fit import EVALUATION_PIXELS
from trainables.training.runtime import Runtime
from trainables.training.samples import Samples

INCEPTION = BackboneConfig(name="timm:inception_v3.tf_in1k")


def distance(features_NF: Floats, others_MF: Floats) -> float:
    """|mean - mean|² + tr(S + S' - 2 (S S')^½), S and S' the covariances (divided by N - 1 and M - 1).

    No matrix root is taken: with S = XᵀX and S' = YᵀY the trace of the root is the sum of the singular values of XYᵀ,
    which are real and not negative also where there are fewer examples than features and S is singular.

    Raises:
        ValueError: fewer than two examples, other features, or one that is not a number.
    """
    for values in (features_NF, others_MF):
        if values.ndim != 2 or len(values) < 2 or not np.isfinite(values).all():
            raise ValueError(f"features of shape {values.shape}: two examples or more are needed, all of them numbers.")
    if features_NF.shape[1] != others_MF.shape[1]:
        raise ValueError(f"{features_NF.shape[1]} features against {others_MF.shape[1]}: use one backbone for both.")
    x_KF, y_KF = _factor(features_NF), _factor(others_MF)
    apart = float(np.square(features_NF.mean(0) - others_MF.mean(0)).sum())
    shared = float(np.linalg.svd(x_KF @ y_KF.T, compute_uv=False).sum())
    return max(0.0, apart + float(np.square(x_KF).sum()) + float(np.square(y_KF).sum()) - 2 * shared)


def _factor(features_NF: Floats) -> Floats:
    """X with XᵀX the covariance."""
    centred_NF = (features_NF - features_NF.mean(0)) / np.sqrt(len(features_NF) - 1)
    factor_KF: Floats = np.asarray(np.linalg.qr(centred_NF, mode="r"))
    return factor_KF


def halves_distance(features_NF: Floats, seed: int = 0) -> float:
    """Between two random halves of one set, which differ by chance alone; nan for fewer than four examples."""
    if len(features_NF) < 4:
        return float("nan")
    order_N = np.random.default_rng(seed).permutation(len(features_NF))
    middle = len(order_N) // 2
    return distance(features_NF[order_N[:middle]], features_NF[order_N[middle : 2 * middle]])


@dataclass(frozen=True)
class Distance:
    """Between two sets in one backbone's features; `halves` is that of two halves of each set, `n` their examples."""

    features: str
    value: float
    halves: tuple[float, float]
    n: tuple[int, int]
    dimensions: int


def images_of(source: str, most: int | None = None) -> Dataset:
    """All images of a data set as one split called `all`: a folder or CSV file, or the name of embedded data.

    What has a known layout is read as that, with every split; of any other folder each image below it is taken. Of
    more than `most` images those with the least hash of their name.

    Raises:
        UserError: nothing is there, or no image.
    """
    path = Path(source)
    if source in DATASETS and not path.exists():
        return together(data.load(DataConfig(name=source)), most)
    try:
        config = DataConfig(name=layout.recognise(path), root=path, on_bad="skip", max_bad=1.0)
    except UserError:
        if not path.expanduser().is_dir():
            raise
        return together(_any_images(path.expanduser().resolve()), most)
    return together(data.load(config), most)


def _any_images(root: Path) -> Dataset:
    paths = tuple(Tree(root).images(root))
    if not paths:
        raise UserError(f"'{root}' has no images in it.")
    return Dataset("images", root, ("image",), (), {"all": Split("all", paths, np.zeros(len(paths), dtype=np.int64))})


def together(dataset: Dataset, most: int | None = None) -> Dataset:
    """The dataset with one split, `all`; of more than `most` images those with the least hash of their name."""
    names = {path: path.relative_to(dataset.root).as_posix() for s in dataset.splits.values() for path in s.paths}
    paths = tuple(sorted(sorted(names, key=lambda path: fraction(names[path]))[:most]))
    return replace(dataset, splits={"all": Split("all", paths, np.zeros(len(paths), dtype=np.int64))})


def compare(
    first: Dataset, second: Dataset, configs: Sequence[BackboneConfig], *, device: str = "auto"
) -> tuple[list[Distance | UserError], tuple[BadRecord, ...]]:
    """The distance in the features of each backbone, or why there is none; and the images that cannot be read.

    Both sets have one split, `all`. Images are prepared as each backbone's own configuration says.
    """
    runtime = Runtime.choose(device, "fp32")
    found: list[Distance | UserError] = []
    bad: dict[str, BadRecord] = {}
    for config in configs:
        try:
            backbone = backbones.load(config, classes=2)
            features = []
            for dataset in (first, second):
                pixels = readable(dataset, "all", Transform(**backbone.transform()), workers=runtime.threads or 1)
                bad |= {str(dataset.root / record.place): record for record in pixels.bad}
                features.append(extract(backbone, pixels.images_NCHW, runtime))
            if min(map(len, features)) < 2:
                raise UserError("a set of one image has no covariance. Give folders of two or more.")
        except UserError as fault:
            found.append(fault)
            continue
        a_NF, b_MF = features
        halves = (halves_distance(a_NF), halves_distance(b_MF))
        sizes = (len(a_NF), len(b_MF))
        found.append(Distance(backbone.name, distance(a_NF, b_MF), halves, sizes, a_NF.shape[1]))
    return found, tuple(bad.values())


def extract(backbone: Backbone, images_N3HW: Pixels, runtime: Runtime) -> Floats:
    """What goes into the head, `[N, F]`: the backbone's heads are replaced by nothing."""
    model = backbone.model.to(runtime.device).eval()
    for head in backbone.heads:
        model.set_submodule(head, torch.nn.Identity())
    nothing_N = np.zeros(len(images_N3HW), dtype=np.int64)
    everything = Groups("all", ("all",), nothing_N)
    samples = Samples(images_N3HW, nothing_N, everything, mean=backbone.mean, std=backbone.std, device=runtime.device)
    size = max(16, EVALUATION_PIXELS[runtime.device.type] // backbone.size**2)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(samples), size):
            with runtime.autocast():
                parts.append(model(samples.take(slice(start, start + size))).double().cpu())
    features_NF: Floats = torch.cat(parts).numpy()
    return features_NF
