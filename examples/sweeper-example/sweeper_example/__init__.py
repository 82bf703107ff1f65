"""A metric, a method and a dataset for sweeper. Each line says what the thing is, and where its code lies.

Importing this loads no torch: a spec is checked in milliseconds.
"""

from typing import Annotated

from pydantic import Field

from sweeper_example.ratio import accuracy_ratio
from trainables.data import DatasetEntry
from trainables.methods import Component, Method
from trainables.metrics.base import Metric
from trainables.options import Option, Param

ACCURACY_RATIO = Metric(
    direction="max",
    about="groups",
    fn=accuracy_ratio,
    doc="lowest over highest accuracy of a value of the sensitive attribute",
    source="the four-fifths rule, on accuracy",
)
TAIL = Param(
    "tail",
    Annotated[float, Field(gt=0, le=1)],
    0.5,
    "share of a batch, the worst, whose losses count",
    "Levy et al. 2020, section 2",
    low=0.1,
    high=1,
    searched=True,
)
LORA_TAIL = Method("lora", Component("sweeper_example.tail:objective", (TAIL,)), "Levy et al. 2020, section 2")
AGREEMENT = Option(
    "agreement",
    Annotated[float, Field(ge=0.5, lt=1)],
    0.9,
    "share of the training images whose ground goes with their class",
)
STRIPES = DatasetEntry("sweeper_example.stripes:load", "drawn stripes on two colours", "drawn here", (AGREEMENT,))
