"""What a spec asks for and its data cannot give: groups that are not there, a metric that no trial could have.

Or its backbone: layers that no adapter can be on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import sweeper.spec
import trainables
from sweeper.errors import UserError
from sweeper.spec.dimensions import most, place
from trainables.errors import DataAway
from trainables.files import cache_root, write_text

if TYPE_CHECKING:
    from sweeper.spec.model import SweepSpec
    from trainables.data.base import Dataset

_ASKED = re.compile(
    r"(objectives|constraints)\.(\S+) would be undefined|(groups) is '|(space)\.(method|blocks) (?:has|goes) "
)


def check(spec: SweepSpec) -> str:
    """What the data is, in a few lines, with all that is doubtful; or why it could not be looked at here.

    While the files keep their sizes and times, what was said of them once is said again without another look.

    Raises:
        UserError: its records are bad, it has not the groups, or an objective or a constraint would be undefined.
    """
    memory = _memory(spec)
    if (text := _remembered(memory)) is not None:
        return text
    from trainables import data
    from trainables.backbones import check_kind
    from trainables.data.report import leak_note, tell

    began = time.time_ns()
    try:
        dataset = data.load(spec.data)
    except DataAway as away:
        return f"Its data was not looked at: {away}"
    check_kind(spec.backbone, spec.data.name, dataset.noun)
    leak = leak_note(dataset)
    text = "\n".join([tell(dataset), *[f"  note: {leak}"] * bool(leak)])
    if sentences := undefined(spec, dataset):
        raise UserError("\n".join([*sentences, text]))
    stamps = {name: _stamp(name) for name in _files(spec, dataset)}
    if all(stamp is not None and stamp[1] < began for stamp in stamps.values()):  # none came during the look
        with contextlib.suppress(OSError):  # a memory that cannot be kept costs time only
            memory.parent.mkdir(parents=True, exist_ok=True)
            write_text(memory, json.dumps({"stamps": stamps, "text": text}))
    return text


def check_backbone(spec: SweepSpec) -> None:
    """Whether its LoRA methods have layers to adapt, in as many blocks as the space asks for at most.

    The listed backbones have layers; others, and all where blocks are asked for, are looked at.

    Raises:
        UserError: they have not, as convolutional networks; no trial by such a method could train.
    """
    from trainables.backbones import BACKBONES
    from trainables.methods import METHODS
    from trainables.params import Params

    methods = dict.fromkeys((*spec.space.methods, *spec.search.baselines))
    lora = [method for method in methods if METHODS[method].adapter == "lora"]
    asked = [int(most(axis)) for label, axis in spec.space.axes.items() if place(label)[1] == "blocks"]
    asks = max(asked, default=None)
    if not lora or (asks is None and spec.backbone.name in BACKBONES.built_in):
        return
    from trainables import adapters, backbones

    try:
        backbone = backbones.skeleton(spec.backbone)
    except UserError:
        raise
    except Exception:  # a model that cannot be built without numbers: the first epoch will tell
        return
    axis = spec.space.axes.get("layers")
    for layers in (axis.grid() if axis else None) or [Params(method=lora[0]).layers]:
        try:
            adapters.check_layers(backbone, layers, asks)
        except UserError as fault:
            few = "params.blocks" in str(fault)
            asked_by = (
                f"blocks goes up to {asks}" if few else f"method has {', '.join(lora)}, and no trial of it could train"
            )
            raise UserError(f"space.{asked_by}: {fault}") from None


def placed(text: str, path: Path, *, root: bool = True) -> str:
    """What `check` refused, with the lines of the spec at `path` that ask for it: of the data, if `root` is from there.

    The text as it is where the spec was typed, or is no file.
    """
    from sweeper.spec import yaml_text

    try:
        document = yaml_text.read(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UserError):
        return text
    lines = text.splitlines()
    keys = [tuple(filter(None, found.groups())) if (found := _ASKED.match(line)) else () for line in lines]
    at = [document.line(key) for key in keys]
    if not any(at) and root:
        at[0] = document.line(("data", "root"))
    return "\n".join(f"{path}:{line}: {said}" if line else said for line, said in zip(at, lines, strict=True))


def undefined(spec: SweepSpec, dataset: Dataset) -> list[str]:
    """A sentence for the groups, if `dataset` has not them, or for each metric that a method could not have on it."""
    from trainables.methods import METHODS
    from trainables.metrics.on_data import undefined_on

    try:
        dataset.groups("val", spec.groups)
    except ValueError as error:
        return [f"groups is '{spec.groups}': {error}"]
    names = dict.fromkeys(spec.constraints, "constraints") | dict.fromkeys(spec.objectives, "objectives")
    sentences: dict[str, str] = {}
    methods = dict.fromkeys((*spec.space.methods, *spec.search.baselines))
    for method in sorted(methods, key=lambda name: METHODS[name].refit is not None):
        half = f" ({method} is measured on half of it)" if METHODS[method].refit else ""
        for name, reason in undefined_on(
            dataset, names, method=method, groups=spec.groups, config=spec.metrics
        ).items():
            mend = "another metric" + (", more examples, or a lower metrics.min_group" if "min_group" in reason else "")
            sentences.setdefault(
                name,
                f"{names[name]}.{name} would be undefined on {dataset.name}'s validation split{half}: {reason}. "
                f"Use {mend}.",
            )
    return list(sentences.values())


def _memory(spec: SweepSpec) -> Path:
    """Where it is remembered: another spec, or other code that looks, is another place."""
    code = [path for package in (trainables, sweeper.spec) for path in sorted(Path(package.__path__[0]).rglob("*.py"))]
    looked_by = [(str(path), _stamp(str(path))) for path in code]
    key = json.dumps([spec.model_dump(mode="json"), os.getcwd(), looked_by]).encode()
    return cache_root() / "validated" / f"{hashlib.sha256(key).hexdigest()[:20]}.json"


def _remembered(memory: Path) -> str | None:
    try:
        kept = json.loads(memory.read_text(encoding="utf-8"))
        same = all(_stamp(name) == tuple(stamp) for name, stamp in kept["stamps"].items())
        return str(kept["text"]) if same else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _stamp(name: str) -> tuple[int, int] | None:
    try:
        stat = os.stat(name)
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _files(spec: SweepSpec, dataset: Dataset) -> set[str]:
    """All that the look was at: images, tables, and the folders they lie in, whose time tells a newcomer."""
    images = [path for split in dataset.splits.values() for path in split.paths]
    root, partition = spec.data.root, getattr(spec.data, "partition", None)  # an option of tables
    if root is not None and root.is_file():
        tops = [root, *([root.parent / partition] if partition else [])]
    else:
        tops = [folder.expanduser() for folder in (root, dataset.root) if folder is not None]
        tops += [entry for folder in tops for entry in folder.iterdir()]
    return {os.path.abspath(path) for path in (*images, *{path.parent for path in images}, *tops)}
