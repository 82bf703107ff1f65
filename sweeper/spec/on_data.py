"""What a spec asks for and its data cannot give: a metric that would be undefined in every trial of a method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweeper.errors import UserError

if TYPE_CHECKING:
    from sweeper.spec.model import SweepSpec
    from trainables.data.base import Dataset


def check(spec: SweepSpec) -> str | None:
    """Look at the data, if it is here; else why it could not be looked at.

    Raises:
        UserError: an objective or a constraint would be undefined.
    """
    from trainables import data

    try:
        dataset = data.load(spec.data)
    except UserError as error:
        return str(error)
    if sentences := undefined(spec, dataset):
        raise UserError("\n".join(sentences))
    return None


def undefined(spec: SweepSpec, dataset: Dataset) -> list[str]:
    """A sentence for each objective and constraint that a method of the sweep could not have on `dataset`."""
    from trainables.methods import METHODS
    from trainables.metrics.on_data import undefined_on

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
