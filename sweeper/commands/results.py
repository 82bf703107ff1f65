"""Commands that show what a sweep has found: the front, the report, sweeps side by side, tables to take away."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from sweeper.commands.shared import Add, folder_of, show_front
from trainables.errors import UserError


def register(add: Add) -> None:
    """Enrol them."""
    front = add("pareto", pareto, of="sweep")
    _bounds(front)


def _bounds(parser: argparse.ArgumentParser) -> None:
    """How the recommended point is chosen: the knee, unless there are bounds."""
    for option, what in (("--at-least", "higher"), ("--at-most", "lower")):
        parser.add_argument(
            option,
            action="append",
            default=[],
            metavar="OBJECTIVE=X",
            help=f"recommend the best of the others with this one (of which {what} is better) within X; again for more",
        )


def pareto(asked: argparse.Namespace) -> int:
    """The front of a sweep, the point to take and why; test numbers apart."""
    from sweeper import heldout, summary, view
    from sweeper.results import Results

    folder = folder_of(asked)
    snapshot, trials, front, spec = view.look(folder)
    advice = Results(folder, spec, trials, front).recommendation(bounds(asked, spec.objectives))
    test = heldout.read(folder, spec, trials)
    if asked.json:
        shown: dict[str, Any] = {"front": snapshot.front, "hypervolume": snapshot.hypervolume}
        shown["held_out"] = {str(n): {k: list(v) for k, v in row.items()} for n, row in test.items()}
        shown["recommended"] = None if advice is None else advice.to_json()
        print(json.dumps(summary.plain(shown), indent=2))
        return 0
    show_front(snapshot, trials, front, spec, folder)
    if advice is not None:
        print(advice)
        print(heldout.drop(advice.values, test.get(advice.number), spec.objectives))
    return 0


def bounds(asked: argparse.Namespace, objectives: Mapping[str, str]) -> dict[str, float]:
    """`--at-least accuracy=0.82` as `{"accuracy": 0.82}`.

    Raises:
        UserError: it is written otherwise, or bounds an objective at its better end.
    """
    found = {}
    for option, sense in (("at_least", "max"), ("at_most", "min")):
        flag = f"--{option.replace('_', '-')}"
        for text in getattr(asked, option):
            name, _, value = text.partition("=")
            if objectives.get(name, sense) != sense:
                other = "--at-most" if sense == "max" else "--at-least"
                raise UserError(f"{flag} {text}: of {name}, {_better(objectives[name])} is better. Use {other}.")
            try:
                found[name] = float(value)
            except ValueError:
                raise UserError(f"{flag} {text}: use an objective and a number, such as accuracy=0.82.") from None
    return found


def _better(sense: str) -> str:
    return "higher" if sense == "max" else "lower"
