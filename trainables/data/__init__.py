"""The DATASETS table: what can be trained and measured on.

A newcomer is one file with a function `load(config: DataConfig) -> Dataset`, and one line in the table. The table
itself reads nothing, so that a spec can be checked in milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainables.errors import UserError
from trainables.table import Entry, Table
from trainables.task import DataConfig

if TYPE_CHECKING:
    from trainables.data.base import Dataset


@dataclass(frozen=True)
class DatasetEntry(Entry):
    """A dataset's loader, what it is and where it comes from.

    `options` are the settings of `DataConfig` that it has beyond those that all have. Without `attribute` no example
    of it ever has one.
    """

    options: tuple[str, ...] = ()
    attribute: bool = True


_FILES = "trainables.data.datasets"
DATASETS = Table(
    "datasets",
    DatasetEntry,
    {
        "aircraft": DatasetEntry(
            f"{_FILES}.aircraft:load",
            "FGVC-Aircraft, 100 variants; no attribute",
            "Maji et al. 2013",
            ("validation", "crop_banner"),
            attribute=False,
        ),
        "csv": DatasetEntry(
            f"{_FILES}.custom:load_table",
            "a table of your own images",
            "yours",
            ("columns", "images", "partition", "exif"),
        ),
        "digits-on-scenes": DatasetEntry(
            f"{_FILES}.digits:load",
            "Waterbirds in small: handwritten digits on two photos; embedded",
            "scikit-learn's digits and photos",
        ),
        "folder": DatasetEntry(
            f"{_FILES}.custom:load_folder",
            "a folder of your own images, one folder for each class",
            "yours",
            ("exif",),
            attribute=False,
        ),
        "geode": DatasetEntry(
            f"{_FILES}.geode:load", "40 objects in six regions of the world", "Ramaswamy et al. 2023"
        ),
        "utkface": DatasetEntry(
            f"{_FILES}.utkface:load", "faces: gender or age; the attribute is race", "Zhang et al. 2017", ("task",)
        ),
        "waterbirds": DatasetEntry(
            f"{_FILES}.waterbirds:load", "birds on land and water, 95 % correlated in train", "Sagawa et al. 2020"
        ),
    },
    place="data.name",
)


def load(config: DataConfig) -> Dataset:
    """The dataset that `config` names: names, labels, attributes and splits; no pixels yet.

    Raises:
        UserError: the name is not in the table, its folder is not there, its records are bad, or `limit` is below the
            number of cells.
    """
    entry = DATASETS[config.name]
    if faults := misplaced(config):
        raise UserError("\n".join(faults.values()))
    dataset: Dataset = entry.load()(config)
    if config.limit is None:
        return dataset
    from trainables.data.splitting import limited

    return limited(dataset, config.limit)


def misplaced(config: DataConfig) -> dict[str, str]:
    """The settings that only other datasets have: name -> what to do. Empty for an unknown dataset."""
    if config.name not in DATASETS:
        return {}
    holders: dict[str, list[str]] = {}
    for name, entry in DATASETS.sound.items():
        for option in entry.options:
            holders.setdefault(option, []).append(name)
    return {
        option: f"data.{option} is for {', '.join(names)}, and data.name is '{config.name}'. Remove it."
        for option, names in sorted(holders.items())
        if config.name not in names and getattr(config, option) != DataConfig.model_fields[option].default
    }
