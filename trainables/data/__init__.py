"""The DATASETS table: what can be trained and measured on.

A newcomer is one file here with a function `load(config: DataConfig) -> Dataset`, and one line in the
table. The table itself reads nothing, so that a spec can be checked in milliseconds.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainables.errors import UserError, unknown
from trainables.task import DataConfig

if TYPE_CHECKING:
    from trainables.data.base import Dataset


@dataclass(frozen=True)
class Entry:
    """Where a dataset's loader lives (`module` of this package), what it is and where it comes from.

    `options` are the settings of `DataConfig` that it has beyond those that all have.
    """

    module: str
    doc: str
    source: str
    options: tuple[str, ...] = ()
    function: str = "load"

    def load(self, config: DataConfig) -> Dataset:
        """Read it: names, labels, attributes and splits; no pixels yet."""
        module = importlib.import_module(f"{__name__}.datasets.{self.module}")
        dataset: Dataset = getattr(module, self.function)(config)
        return dataset


DATASETS: dict[str, Entry] = {
    "aircraft": Entry(
        "aircraft", "FGVC-Aircraft, 100 variants; no attribute", "Maji et al. 2013", ("validation", "crop_banner")
    ),
    "csv": Entry("custom", "a table of your own images", "yours", ("columns",), "load_table"),
    "digits-on-scenes": Entry(
        "digits", "Waterbirds in small: handwritten digits on two photos; embedded", "scikit-learn's digits and photos"
    ),
    "folder": Entry("custom", "a folder of your own images, one folder for each class", "yours", (), "load_folder"),
    "geode": Entry("geode", "40 objects in six regions of the world", "Ramaswamy et al. 2023"),
    "utkface": Entry("utkface", "faces: gender or age; the attribute is race", "Zhang et al. 2017", ("task",)),
    "waterbirds": Entry("waterbirds", "birds on land and water, 95 % correlated in train", "Sagawa et al. 2020"),
}


def load(config: DataConfig) -> Dataset:
    """The dataset that `config` names.

    Raises:
        UserError: the name is not in the table, its folder is not there, or its records are bad.
    """
    if config.name not in DATASETS:
        raise UserError(unknown(f"data.name '{config.name}'", config.name, DATASETS))
    if faults := misplaced(config):
        raise UserError("\n".join(faults.values()))
    return DATASETS[config.name].load(config)


def misplaced(config: DataConfig) -> dict[str, str]:
    """The settings that only other datasets have: name -> what to do. Empty for an unknown dataset."""
    own = {option for entry in DATASETS.values() for option in entry.options}
    having = DATASETS[config.name].options if config.name in DATASETS else own
    return {
        option: f"data.{option} is for {_holders(option)}, and data.name is '{config.name}'. Remove it."
        for option in sorted(own.difference(having))
        if getattr(config, option) != DataConfig.model_fields[option].default
    }


def _holders(option: str) -> str:
    return ", ".join(name for name, entry in DATASETS.items() if option in entry.options)
