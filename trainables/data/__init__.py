"""The DATASETS table: what can be trained and measured on.

A newcomer is one file with a function `load(config: DataConfig) -> Dataset`, and one line in the table. The table
itself reads nothing, so that a spec can be checked in milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from trainables.options import Chosen, Option
from trainables.table import Code, Entry, Table

if TYPE_CHECKING:
    from trainables.data.base import Dataset


@dataclass(frozen=True)
class DatasetEntry(Entry):
    """A dataset's loader, what it is and where it comes from.

    Its own `options` are settings of its `DataConfig`. Without `attribute` no example of it ever has one.
    `fits` is a function that says of a folder whether it looks like a copy: so `data check` finds the name. With
    `overlapping` it has such groups, whose names its files say.
    """

    options: tuple[Option, ...] = ()
    attribute: bool = True
    overlapping: bool = False
    fits: Code | None = None


_RESERVED = ("class", "attribute", "cell", "overlapping", "all", "split", "id", "label", "image", "sha256")


def check_names(names: Sequence[str], taken: Sequence[str] = ()) -> None:
    """Refuse names of attributes and groups that mean something else already.

    Raises:
        ValueError: says which, and the mend.
    """
    for name in names:
        if name in taken or names.count(name) > 1:
            raise ValueError(f"'{name}' is used twice: use each column once")
        if name in _RESERVED:
            raise ValueError(f"'{name}' is what sweeper calls something else: rename that column")


def _alone(value: object) -> object:
    """A list of one attribute is that attribute."""
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


_Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]


class Columns(BaseModel):
    """Which column of a user's table (`data.name: csv`) holds what. Others are not used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: Annotated[str, Field(min_length=1, description="the image's path, relative to the table's folder")] = "image"
    text: Annotated[
        str | None, Field(min_length=1, description="the text itself, of a table of texts; there is no image then")
    ] = None
    label: Annotated[str, Field(min_length=1, description="the class, any text")] = "label"
    attribute: Annotated[
        Annotated[str, Field(min_length=1)] | _Names | None,
        BeforeValidator(_alone),
        Field(description="the sensitive attribute, or a list of several; none: 'attribute', if the table has it"),
    ] = None
    groups: Annotated[
        _Names | None,
        BeforeValidator(_listed),
        Field(description="0/1 columns of groups that an example may be in several of, or none"),
    ] = None
    split: Annotated[
        str | None,
        Field(min_length=1, description="train, val or test, or 0, 1, 2; none: 'split', if the table has it"),
    ] = None

    @model_validator(mode="after")
    def _told_apart(self) -> Columns:
        taken = [self.example, self.label, *([self.split] if self.split else []), *self.attributes]
        check_names(self.named, taken=taken if len(self.attributes) < 2 else taken[: -len(self.attributes)])
        return self

    @property
    def example(self) -> str:
        """The column of the texts, or of the names of images."""
        return self.text or self.image

    @property
    def attributes(self) -> tuple[str, ...]:
        """The columns of attributes."""
        return self.attribute if isinstance(self.attribute, tuple) else (self.attribute,) if self.attribute else ()

    @property
    def named(self) -> tuple[str, ...]:
        """What may be asked for by its name: several attributes, and groups that overlap."""
        return (*(self.attributes if len(self.attributes) > 1 else ()), *(self.groups or ()))

    @property
    def used(self) -> list[str]:
        """The names of all columns that are used."""
        columns = (self.example, self.label, *self.attributes, *(self.groups or ()), self.split)
        return [column for column in columns if column]


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

    @property
    def named(self) -> tuple[str, ...] | None:
        """The names that its `groups` may have beside the kinds; None: only a look at the data says it."""
        if self.name not in DATASETS.built_in or DATASETS[self.name].overlapping:
            return None
        options = {option.name for option in self.options(vars(self)) or ()}
        several = (self.attributes or ()) if "attributes" in options else ()
        return self.columns.named if "columns" in options else several if len(several) > 1 else ()


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
            "a table of your own images or texts: .csv, .tsv, .jsonl, .parquet",
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
        "dlab-hate-speech": DatasetEntry(
            f"{_FILES}.dlab:load",
            "comments: hate speech or not; groups are those that they speak of, and overlap",
            "Kennedy et al. 2020; Sachdeva et al. 2022",
            (
                Option(
                    "subset",
                    Literal["race", "religion", "age", "gender", "sexuality", "all"] | None,
                    None,
                    "the comments that target one of these, and its groups (none: race)",
                ),
            ),
            overlapping=True,
            fits=Code(f"{_FILES}.dlab:fits"),
        ),
        "docstrings": DatasetEntry(
            f"{_FILES}.docstrings:load",
            "what functions and classes of two libraries say of themselves; embedded, for first steps",
            "scikit-learn and SciPy (BSD-3-Clause)",
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
            (
                Option("task", Literal["gender", "age"] | None, None, "what is learnt (none: gender)"),
                Option(
                    "attributes",
                    Annotated[tuple[Literal["race", "gender", "age"], ...], Field(min_length=1)] | None,
                    None,
                    "one or several, other than the task (none: race)",
                ),
            ),
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
