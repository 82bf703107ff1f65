"""The DATASETS table: what can be trained and measured on.

A newcomer is one file with a function `load(config: DataConfig) -> Dataset`, and one line in the table. The table
itself reads nothing, so that a spec can be checked in milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from trainables.options import Chosen, Option
from trainables.table import Code, Entry, Table

if TYPE_CHECKING:
    from trainables.data.base import Dataset


@dataclass(frozen=True)
class DatasetEntry(Entry):
    """A dataset's loader, what it is and where it comes from.

    Its own `options` are settings of its `DataConfig`. Without `attribute` no example of it ever has one.
    `fits` is a function that says of a folder whether it looks like a copy: so `data check` finds the name.
    """

    options: tuple[Option, ...] = ()
    attribute: bool = True
    fits: Code | None = None


class Columns(BaseModel):
    """Which column of a user's table (`data.name: csv`) holds what. Others are not used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: Annotated[str, Field(min_length=1, description="the image's path, relative to the table's folder")] = "image"
    label: Annotated[str, Field(min_length=1, description="the class, any text")] = "label"
    attribute: Annotated[
        str | None, Field(min_length=1, description="the sensitive attribute; none: 'attribute', if the table has it")
    ] = None
    split: Annotated[
        str | None,
        Field(min_length=1, description="train, val or test, or 0, 1, 2; none: 'split', if the table has it"),
    ] = None


class DataConfig(Chosen):
    """Which dataset, where it lies, and what happens to records that cannot be read; and the dataset's own options."""

    name: Annotated[str, Field(description="a name of the DATASETS table")] = "digits-on-scenes"
    root: Annotated[Path | None, Field(description="the folder of your copy; none for embedded data")] = None
    on_bad: Annotated[Literal["skip", "fail"], Field(description="unreadable or bad records")] = "fail"
    max_bad: Annotated[float, Field(ge=0, le=1, description="share of bad records above which skip fails too")] = 0.01
    limit: Annotated[
        int | None,
        Field(ge=1, description="use so many examples, of every cell its share, always the same (none: all)"),
    ] = None

    @classmethod
    def table(cls) -> Table[DatasetEntry]:
        return DATASETS


_FILES = "trainables.data.datasets"
_EXIF = Option(
    "exif",
    Literal["apply", "ignore"] | None,
    None,
    "turn photos upright, as their EXIF orientation says (none: apply)",
    before="ignore",
)
_LIMITED = Code("trainables.data.splitting:limited")
DATASETS = Table(
    "datasets",
    DatasetEntry,
    {
        "aircraft": DatasetEntry(
            f"{_FILES}.aircraft:load",
            "FGVC-Aircraft, 100 variants; no attribute",
            "Maji et al. 2013",
            (
                Option(
                    "validation",
                    Literal["official", "from-trainval"] | None,
                    None,
                    "the published val, or a fifth of each class of trainval (none: official)",
                ),
                Option("crop_banner", bool, False, "cut the 20 lowest pixels, which name the owner"),
            ),
            attribute=False,
            fits=Code(f"{_FILES}.aircraft:fits"),
        ),
        "csv": DatasetEntry(
            f"{_FILES}.custom:load_table",
            "a table of your own images",
            "yours",
            (
                Option("columns", Columns, Columns(), "which column holds what"),
                Option(
                    "images",
                    Path | None,
                    None,
                    "the folder that names of images start from (none: the table's)",
                    where=True,
                ),
                Option(
                    "partition",
                    Path | None,
                    None,
                    "a second table, of images and their splits, such as list_eval_partition.txt",
                    where=True,
                ),
                _EXIF,
            ),
            fits=Code(f"{_FILES}.layout:fits_table"),
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
            (_EXIF,),
            attribute=False,
            fits=Code(f"{_FILES}.layout:fits_folder"),
        ),
        "geode": DatasetEntry(
            f"{_FILES}.geode:load",
            "40 objects in six regions of the world",
            "Ramaswamy et al. 2023",
            fits=Code(f"{_FILES}.geode:fits"),
        ),
        "utkface": DatasetEntry(
            f"{_FILES}.utkface:load",
            "faces: gender or age; the attribute is race",
            "Zhang et al. 2017",
            (Option("task", Literal["gender", "age"] | None, None, "what is learnt (none: gender)"),),
            fits=Code(f"{_FILES}.utkface:fits"),
        ),
        "waterbirds": DatasetEntry(
            f"{_FILES}.waterbirds:load",
            "birds on land and water, 95 % correlated in train",
            "Sagawa et al. 2020",
            fits=Code(f"{_FILES}.waterbirds:fits"),
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
    dataset: Dataset = entry.load()(config)
    if config.limit is not None:
        dataset = _LIMITED.load()(dataset, config.limit)
    return dataset
