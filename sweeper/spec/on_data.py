"""What a spec asks for and its data cannot give: groups that are not there, a metric that no trial could have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweeper.errors import UserError
from trainables.errors import DataAway

if TYPE_CHECKING:
    from sweeper.spec.model import SweepSpec
    from trainables.data.base import Dataset


def check(spec: SweepSpec) -> str:
    """What the data is, in a few lines, with all that is doubtful; or why it could not be looked at here.

    Raises:
        UserError: its records are bad, it has not the groups, or an objective or a constraint would be undefined.
    """
    from trainables import data
    from trainables.data.report import tell

    try:
        dataset = data.load(spec.data)
    except DataAway as away:
        return f"Its data was not looked at: {away}"
    if sentences := undefined(spec, dataset):
        raise UserError("\n".join([*sentences, tell(dataset)]))
    return tell(dataset)


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
