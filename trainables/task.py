"""What all fits of a sweep share: the data, the backbone, the groups, how it is trained. No torch here."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from trainables.options import Chosen
from trainables.table import Table

if TYPE_CHECKING:
    from trainables.backbones import BackboneEntry
    from trainables.data import DatasetEntry

GroupKind = Literal["class", "attribute", "cell"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Columns(_Part):
    """Which column of a user's table (`data.name: csv`) holds what. Others are not used."""

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
        from trainables.data import DATASETS

        return DATASETS


_ADDRESS = re.compile(r"^(timm:|open_clip:)?(hf[-_]hub:|local-dir:|https?://|timm/)")


def _not_an_address(name: str) -> str:
    """A model is named by its architecture: what lies at an address would say by itself what it is."""
    if _ADDRESS.match(name):
        bare = re.split("[/:]", name.rstrip("/:"))[-1]
        raise ValueError(
            f"Name the model, not its address, as in 'timm:{bare}' or 'open_clip:MODEL/TAG'; a file of weights that "
            "you have downloaded goes into backbone.weights"
        )
    return name


class BackboneConfig(Chosen):
    """Which pre-trained model is adapted, and where its weights come from; and the model's own options."""

    name: Annotated[
        str, AfterValidator(_not_an_address), Field(description="a name of the BACKBONES table, e.g. small-vit")
    ] = "small-vit"
    weights: Annotated[
        str, Field(description="'pretrained' (hub cache or built here), 'none', or a path to a safetensors file")
    ] = "pretrained"
    head: Annotated[
        Literal["random", "zero-shot"],
        Field(description="how the head starts: drawn, or from the class names' text embeddings (open_clip)"),
    ] = "random"

    @classmethod
    def table(cls) -> Table[BackboneEntry]:
        from trainables.backbones import BACKBONES

        return BACKBONES


class TrainConfig(_Part):
    """How every fit is trained; what differs between trials is a parameter, not a setting here."""

    precision: Annotated[Literal["auto", "fp32", "bf16"], Field(description="auto: bf16 on a GPU, fp32 else")] = "auto"
    clip_norm: Annotated[float | None, Field(gt=0, description="gradient norm is clipped here")] = 1.0
    warmup: Annotated[float, Field(ge=0, lt=1, description="share of the steps spent warming up")] = 0.01
    reduction: Annotated[
        Literal["sum", "mean"], Field(description="over the groups of the penalty; lambda refers to the sum")
    ] = "sum"
    sampler: Annotated[
        Literal["shuffle", "group-balanced"], Field(description="how examples are drawn into batches")
    ] = "shuffle"
    flip: Annotated[bool, Field(description="random horizontal flip of training images")] = False
    crop: Annotated[
        float | None,
        Field(gt=0, le=1, description="random resized crop of training images: least share of the area kept, e.g. 0.7"),
    ] = None
    compile: Annotated[bool, Field(description="torch.compile the training step's model: slow start, fast steps")] = (
        False
    )


class MetricsConfig(_Part):
    """How every fit is measured."""

    min_group: Annotated[
        int, Field(ge=1, description="fewest examples of a group by which groups are compared; with fewer: no number")
    ] = 10
    ece_bins: Annotated[
        int, Field(ge=1, le=1000, description="equal bins of confidence; 10 in On Fairness of LoRA")
    ] = 15  # Guo et al., 2017


class Task(_Part):
    """The shared part of every fit. Hand one to `FineTuning`."""

    data: DataConfig = Field(default_factory=DataConfig)
    backbone: BackboneConfig = Field(default_factory=BackboneConfig)
    groups: GroupKind = "class"
    train: TrainConfig = TrainConfig()
    metrics: MetricsConfig = MetricsConfig()


def cache_root() -> Path:
    """Where this machine keeps built data, decoded images and pre-trained weights.

    `SWEEPER_CACHE`, else `XDG_CACHE_HOME/sweeper`, else `~/.cache/sweeper`.
    """
    own = os.environ.get("SWEEPER_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sweeper"
