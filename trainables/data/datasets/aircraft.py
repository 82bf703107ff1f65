"""FGVC-Aircraft: 100 variants, in lists of `id label` beside `images/`; no sensitive attribute: classes are the groups.

Source: Maji et al., "Fine-Grained Visual Classification of Aircraft", 2013. Ids keep their leading zeros; labels
contain spaces and '/', and are never part of a path.

The official train, val and test have 3,334 / 3,333 / 3,333 images, and are the default: they are published, and 33
validation images of each class bear a per-class F1. FairLoRA trains on train and val together (6,667), which leaves
nothing to choose by; `validation: from-trainval` comes near it and stays honest: it trains on four fifths of each
class of the two (5,334 or so), and chooses on the other fifth, ranked by a hash of the id.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from trainables.data import DataConfig
from trainables.data.base import SPLITS, Dataset
from trainables.data.examples import Example, find_file, inside, lies_in, parsed, present, splits
from trainables.data.splitting import stratified
from trainables.errors import UserError

FOLDERS = ("fgvc-aircraft-2013b/data", "data")
NAMES = "variants.txt"
IMAGES = "images"
BANNER = 20  # pixels
VALIDATION_SHARES = {"train": 0.8, "val": 0.2}

_FETCH = f"Fetch fgvc-aircraft-2013b, unpack it, and set data.root to it or to its data/ folder, which holds {NAMES}."


def fits(root: Path) -> bool:
    """Whether `root` looks like a copy."""
    return lies_in(root, FOLDERS, lambda folder: (folder / NAMES).is_file())


def load(config: DataConfig) -> Dataset:
    """The copy below `config.root`; classes in the order of `variants.txt`.

    Raises:
        UserError: no copy is there, a list is missing or not text, a split is empty, or too many lines are bad.
    """
    root = find_file(config, NAMES, folders=FOLDERS, fetch=_FETCH)
    classes = tuple(dict.fromkeys(line for _, line in _lines(root / NAMES)))

    def parse(place: str, row: tuple[str, str]) -> Example:
        split, line = row
        id_, _, label = line.partition(" ")
        label = label.strip()
        if label not in classes:
            raise ValueError(f"label is '{label}', which {NAMES} does not list")
        return Example(place, id_, inside(root / IMAGES, f"{id_}.jpg"), label, split=split)

    # Of an id that is in two lists the first line counts. From test to train: nothing of test is trained on.
    lists = ((split, root / f"images_variant_{split}.txt") for split in reversed(SPLITS))
    listed, bad = parsed(((place, (split, line)) for split, path in lists for place, line in _lines(path)), parse)
    if config.validation == "from-trainval":
        both = [example for example in listed if example.split != "test"]
        part_of = stratified([e.id for e in both], [e.label for e in both], VALIDATION_SHARES)
        listed = [replace(example, split=part_of.get(example.id, "test")) for example in listed]
    examples, all_bad = present(listed, bad, config, root)
    return Dataset(
        name=config.name,
        root=root,
        classes=classes,
        attributes=(),
        splits=splits(root, examples, classes, bad=all_bad),
        bad=all_bad,
        notes=tuple(_notes(config)),
        licence="non-commercial research; the photographers keep the copyright",
        crop_bottom=BANNER if config.crop_banner else 0,
    )


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, with their places (`variants.txt:3`)."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text in UTF-8: {error}. {_FETCH}") from error
    return ((f"{path.name}:{number}", line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def _notes(config: DataConfig) -> Iterator[str]:
    if config.validation == "from-trainval":
        yield "validation is a fifth of each class of the official trainval, by a hash of the id; the test is official"
    else:
        yield "the official train, val and test; FairLoRA trains on train and val together"
    if config.crop_banner:
        yield f"the {BANNER} lowest pixels of each image are cut off"
