"""A trained fit as a folder that plain libraries load (peft, timm, open_clip, transformers); and a model's answers.

The folder holds the weights, `labels.json`, `preprocessing.json`, `fit.json` (how to build the model here) and, where
the pre-trained weights can be had nowhere else, those too (`base.*`). Nothing in it is code that runs by itself.

Shapes: B images, C classes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from trainables import adapters, backbones
from trainables.arrays import Pixels
from trainables.backbones import Backbone, BackboneConfig
from trainables.data.base import BadRecord
from trainables.data.datasets.tree import Tree
from trainables.data.images import pixels
from trainables.data.images.transform import Transform
from trainables.data.texts.tokens import Reading
from trainables.errors import UserError
from trainables.methods import METHODS
from trainables.params import Params
from trainables.training.texts import NO_TOKEN

WHOLE = "model.safetensors"
_BATCH = 32
_RESIZE = {"squash": "({side}, {side})", "shorter": "{side}"}


@dataclass(frozen=True)
class Packed:
    """What a model card says of a folder: code that loads it, with which library, its base, its numbers of weights.

    `repository` is the hub's name of the base, '' where the hub has none.
    """

    code: str
    library: str
    base: str
    repository: str
    trained: int
    total: int


def pack(
    backbone: BackboneConfig,
    params: Params,
    labels: Sequence[str],
    weights: Path,
    out: Path,
    *,
    crop_bottom: int = 0,
    upright: bool = False,
    merge: bool = False,
) -> Packed:
    """Write the fit whose trained weights are in `weights` to the folder `out`.

    With `merge`, and after full fine-tuning, all weights are in one `model.safetensors`, for which neither
    peft nor the pre-trained weights are needed. Else they stay what was trained, in peft's format.

    Raises:
        UserError: the backbone's weights are not here, or the trained ones do not fit it.
    """
    untrained = backbone.model_copy(update={"weights": "none"})
    whole = merge or METHODS[params.method].adapter == "full"
    built = backbones.load(backbone, classes=len(labels), class_names=labels)
    model = adapters.wrap(built.model, built, params)
    adapters.load_adapter(model, weights)
    model.eval()
    trained, total = adapters.count_parameters(model)
    out.mkdir(parents=True, exist_ok=True)
    if whole:
        if isinstance(model, PeftModel):
            model = model.merge_and_unload()
        plain = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
        save_file(plain, out / WHOLE, metadata={"format": "pt"})
        if built.reading is None:
            config, base = untrained, ""  # all weights are in the one file: the pre-trained ones are not needed again
            built.recipe = backbones.load(untrained, classes=len(labels), class_names=labels).recipe
        else:
            from trainables.backbones import transformers_family

            config, base = backbone, "."  # the folder is one of transformers' own
            built.recipe = transformers_family.write_whole(built, model, out)
    else:
        for file in weights.iterdir():
            if file.name != "README.md":  # of the fit's own folder: it names places of this machine
                shutil.copyfile(file, out / file.name)
        config, base = backbone, _keep_base(built, out)
    images = {**built.transform(), "mean": built.mean, "std": built.std, "crop_bottom": crop_bottom, "upright": upright}
    if built.reading is not None:
        images = {"length": built.reading.length}
    build = config.model_dump(mode="json") | ({"weights": base} if base else {})
    build["name"] = backbones.shown(config.name) if base else config.name
    fit = {"backbone": build, "whole": whole, "params": params.to_flat()}
    for name, body in {"fit": fit, "labels": list(labels), "preprocessing": images}.items():
        text = json.dumps(body, indent=2, ensure_ascii=False) + "\n"
        (out / f"{name}.json").write_text(text, encoding="utf-8")
    adapted = (out / "adapter_config.json").exists()
    family = next((name for name in ("open_clip", "transformers") if built.name.startswith(f"{name}:")), "timm")
    code, library = _code(built, out, images, base), "peft" if adapted else family
    return Packed(code, library, built.source, built.repository, trained, total)


@dataclass(frozen=True)
class Answer:
    """What a model says of one image, or text: its label, and the probability of each label."""

    image: Path | str
    label: str
    probabilities: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        told = asdict(self)
        given = told.pop("image")
        return {"text": given, **told} if isinstance(given, str) else {"image": str(given), **told}


def images_in(places: Sequence[Path]) -> tuple[list[Path], list[BadRecord], list[str]]:
    """The images that `places` are, or hold at any depth; what of them is none; and sentences on what is not used.

    In folders the rules are those of data: endings of images, nothing hidden, no link that leads out.

    Raises:
        UserError: a place is not there.
    """
    images: list[Path] = []
    bad: list[BadRecord] = []
    notes: list[str] = []
    for place in places:
        if not place.is_dir():
            images.append(place)
            continue
        tree = Tree(place.resolve())
        images += (place / path.relative_to(tree.root) for path in tree.images(tree.root))
        bad += (BadRecord(str(place / record.place), record.problem) for record in tree.bad)
        notes += (f"{place}: {note}" for note in tree.notes())
    return images, bad, notes


@dataclass(frozen=True)
class Served:
    """A model that answers, and what its images must look like, or how it reads texts."""

    model: nn.Module
    labels: Sequence[str]
    transform: Transform | None = None
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    device: str = "cpu"
    reading: Reading | None = None

    def probabilities(self, looks: Sequence[Pixels]) -> list[list[float]]:
        """[B, C] of images that are transformed already."""
        if not looks:
            return []
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        pixels_BCHW = torch.stack([torch.from_numpy(look) for look in looks])
        return self._shares((pixels_BCHW / 255 - mean) / std)

    def of_texts(self, texts: Sequence[str]) -> list[list[float]]:
        """[B, C] of texts."""
        assert self.reading is not None
        rows = [torch.tensor(row) for row in self.reading.encode(texts, self.reading.length)] if texts else []
        return self._shares(pad_sequence(rows, batch_first=True, padding_value=NO_TOKEN)) if rows else []

    @torch.no_grad()
    def _shares(self, examples_B: torch.Tensor) -> list[list[float]]:
        rows: list[list[float]] = self.model(examples_B.to(self.device)).float().softmax(1).cpu().tolist()
        return rows


def load(folder: Path, *, device: str = "cpu") -> Served:
    """The model in a folder that `pack` wrote, or that is registered in MLflow.

    Raises:
        UserError: the folder holds no such model, or its pre-trained weights are not those that are here.
    """
    fit, labels, preprocessing = (_read(folder / f"{name}.json") for name in ("fit", "labels", "preprocessing"))
    config = fit["backbone"]
    if (folder / config["weights"]).exists():
        config = config | {"weights": str(folder / config["weights"])}
    built = backbones.load(BackboneConfig(**config), classes=len(labels), class_names=labels)
    digest = fit.get("base_sha256")
    if (
        digest
        and built.file
        and built.file.is_file()
        and not hashlib.sha256(built.file.read_bytes()).hexdigest().startswith(digest)
    ):
        raise UserError(
            f"{folder} was trained from other weights of {config['name']} than {built.file}. Pull it there."
        )
    if fit["whole"]:
        model = built.model
        model.load_state_dict(load_file(folder / WHOLE))
    else:
        model = adapters.wrap(built.model, built, Params.from_flat(fit["params"]))
        adapters.load_adapter(model, folder, but=Path(config["weights"]).name)
    if built.reading is not None:
        return Served(model.eval().to(device), labels, device=device, reading=built.reading)
    images = {**built.transform(), "mean": built.mean, "std": built.std, **preprocessing}
    mean, std = images.pop("mean"), images.pop("std")
    return Served(model.eval().to(device), labels, Transform(**images), mean, std, device, built.reading)


def reads_texts(folder: Path) -> bool:
    """Whether the model in a folder that `pack` wrote reads texts.

    Raises:
        UserError: the folder holds no such model.
    """
    return backbones.find(_read(folder / "fit.json")["backbone"]["name"]).texts


def predict_texts(folder: Path, texts: Sequence[str], *, device: str = "cpu") -> Iterator[Answer]:
    """The answers of a language model in a folder that `pack` wrote, in the texts' order.

    Raises:
        UserError: `pack` did not write the folder.
    """
    served = load(folder, device=device)
    for start in range(0, len(texts), _BATCH):
        part = texts[start : start + _BATCH]
        for text, row in zip(part, served.of_texts(part), strict=True):
            shares = dict(zip(served.labels, row, strict=True))
            yield Answer(text, max(shares, key=lambda label: shares[label]), shares)


def predict(folder: Path, images: Sequence[Path], *, device: str = "cpu") -> Iterator[Answer | BadRecord]:
    """The answers of the model in a folder that `pack` wrote, in the images' order; of a file that is none, why.

    Raises:
        UserError: `pack` did not write the folder.
    """
    served = load(folder, device=device)
    transform = served.transform
    assert transform is not None
    for start in range(0, len(images), _BATCH):
        paths = images[start : start + _BATCH]
        looks = [_pixels(path, transform) for path in paths]
        rows = iter(served.probabilities([look for look in looks if not isinstance(look, BadRecord)]))
        for path, look in zip(paths, looks, strict=True):
            if isinstance(look, BadRecord):
                yield look
            else:
                shares = dict(zip(served.labels, next(rows), strict=True))
                yield Answer(path, max(shares, key=lambda label: shares[label]), shares)


def _pixels(path: Path, transform: Transform) -> Pixels | BadRecord:
    taken: list[Pixels] = []
    try:
        with path.open("rb") as file:
            problem = pixels.problem(file, lambda image: taken.append(transform(image).copy()))
    except OSError as fault:
        problem = f"cannot be read: {fault.strerror}"
    return BadRecord(str(path), problem) if problem else taken[0]


def _keep_base(built: Backbone, out: Path) -> str:
    """The pre-trained weights, where the recipe needs a file of this machine; '' where the hub has them."""
    if built.file is None or repr(str(built.file)) not in built.recipe:
        return ""
    name = f"base{built.file.suffix}"
    if built.file.is_dir():
        from trainables.backbones import transformers_family

        name = "base"
        transformers_family.copy_files(built.file, out / name)
    else:
        shutil.copyfile(built.file, out / name)
    built.recipe = built.recipe.replace(repr(str(built.file)), f'FOLDER + "/{name}"')
    return name


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise UserError(f"{path.parent} is no pulled model ({fault}). Make one: sweeper pull NAME -o DIR") from None


def _code(built: Backbone, out: Path, images: dict[str, Any], base: str) -> str:
    """Python with plain libraries: build, load, prepare an image or a text, answer."""
    recipe = built.recipe
    if (out / "adapter_config.json").exists():
        load = "model = peft.PeftModel.from_pretrained(model, FOLDER).eval()"
    else:
        recipe = recipe.replace("import peft, ", "import ").replace(" peft,", "")
        (file,) = (file.name for file in out.glob("*.safetensors") if file.name != base)
        strict = "" if file == WHOLE else ", strict=False"
        load = (
            "model.eval()"
            if base == "."
            else f'model.load_state_dict(safetensors.torch.load_file(FOLDER + "/{file}"){strict})\nmodel.eval()'
        )
    if built.reading is not None:
        return (
            f'FOLDER = "."\n{recipe}\n{load}\n\nimport json\n'
            f"most = {images['length']}\n"
            'seen = tokenizer(["a line of text"], truncation=True, max_length=most, return_tensors="pt")\n'
            'logits = model(input_ids=seen["input_ids"], attention_mask=seen["attention_mask"]).logits\n'
            'print(json.load(open(FOLDER + "/labels.json"))[logits.argmax().item()])\n'
        )
    side = int(images["size"] / images["crop_pct"])
    crop = images["crop_bottom"]
    opened = 'Image.open("image.jpg")'
    if images["upright"]:
        opened = f"ImageOps.exif_transpose({opened})"
    cut = f"image = image.crop((0, 0, image.width, image.height - {crop}))\n" if crop else ""
    return (
        f'FOLDER = "."\n{recipe}\n{load}\n\n'
        "import json\nfrom PIL import Image, ImageOps\nfrom torchvision import transforms\n"
        "prepare = transforms.Compose([\n"
        f"    transforms.Resize({_RESIZE[images['resize']].format(side=side)}, "
        f"transforms.InterpolationMode.{images['interpolation'].upper()}),\n"
        f"    transforms.CenterCrop({images['size']}),\n    transforms.ToTensor(),\n"
        f"    transforms.Normalize({list(images['mean'])}, {list(images['std'])}),\n])\n"
        f'image = {opened}.convert("RGB")\n{cut}'
        "logits = model(prepare(image)[None])\n"
        'print(json.load(open(FOLDER + "/labels.json"))[logits.argmax().item()])\n'
    )
