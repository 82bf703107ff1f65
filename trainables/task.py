"""What all fits of a sweep share: the data, the backbone, the groups, how it is trained. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from trainables.backbones import BackboneConfig
from trainables.data import DataConfig
from trainables.options import says

GroupKind = Literal["class", "attribute", "cell"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


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
    micro_batch: Annotated[
        Annotated[int, Field(ge=1)] | Literal["auto"] | None,
        says("Use 'auto', or a whole number, 1 or more"),
        Field(
            description="examples whose activations are held at a time: same gradient, a second forward pass; auto: "
            "the whole batch, and half as many each time that memory ends"
        ),
    ] = None
    compile: Annotated[bool, Field(description="torch.compile the model's blocks: slow start, fast steps")] = False


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
    groups: str = "class"  # class, attribute, cell, overlapping, or the name of one of several attributes
    train: TrainConfig = TrainConfig()
    metrics: MetricsConfig = MetricsConfig()
