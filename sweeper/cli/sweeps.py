"""Commands that begin sweeps or go on with them."""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.cli.shared import (
    POINT,
    Add,
    file_to_read,
    folder_of,
    point_of,
    show_outcome,
    show_table,
    spec_at,
    spec_of,
)
from trainables.errors import UserError
from trainables.undefined import to_null

if TYPE_CHECKING:
    from sweeper.spec.model import SweepSpec
    from sweeper.state.sweep_folder import SweepFolder


def register(add: Add) -> None:
    """Enrol them."""
    add("demo", demo)
    look = add("validate", validate, of="spec")
    look.add_argument("--no-data", action="store_true", help="the file alone: do not look at the data")
    for name, command in (("plan", plan), ("run", run)):
        add(name, command, of="spec")
    again = add("resume", resume, of="sweep")
    again.add_argument("--trials", type=int, help="a larger budget")
    again.add_argument(
        "--with", dest="wanted", type=file_to_read, metavar="FILE", help="a spec with other resources or stop rules"
    )
    again.add_argument("--new-code", action="store_true", help="although the code has changed since; that is noted")
    again.add_argument(
        "--take-over",
        action="store_true",
        help="although a driver on another machine has it: for one that is known to be dead; a living one is cut off",
    )
    further = add("more", more)
    further.add_argument("point", metavar="NAME@POINT", help=POINT)
    further.add_argument("--seeds", type=int, required=True, help="how many the trial has then, in all")
    further.add_argument("--new-code", action="store_true", help="although the code has changed since; that is noted")
    asking = add("try", try_, of="sweep")
    asking.add_argument(
        "values", nargs="+", metavar="PARAMETER=VALUE", help="of the point; the rest is drawn by chance"
    )
    asking.add_argument("--seeds", type=int, help="how many it gets (default: as any other trial)")
    asking.add_argument("--new-code", action="store_true", help="although the code has changed since; that is noted")
    less = add("narrow", narrow, of="sweep")
    less.add_argument("ranges", nargs="+", metavar="PARAMETER=RANGE", help="such as lambda=0.1..10, or rank=8,16,32")
    point = add("confirm", confirm)
    point.add_argument("point", metavar="NAME@POINT", help=POINT)
    point.add_argument("--seeds", type=int, default=5, help="how many new ones (default: 5)")
    point.add_argument("--baseline", metavar="METHOD", help="what it is compared with (default: lora, if a baseline)")
    point.add_argument("--new-code", action="store_true", help="although the code is not the sweep's; that is noted")


def demo(asked: argparse.Namespace) -> int:
    """Run the shipped demonstration, under the first free name."""
    names = (f"demo-{i}" if i > 1 else "demo" for i in itertools.count(1))
    asked.name = next(name for name in names if not (asked.root / name).exists())
    asked.spec, asked.data = "digits-demo", None
    return _begin(spec_of(asked), asked)


def validate(asked: argparse.Namespace) -> int:
    """Say every fault of a spec at once, and of its data if that is here; or that there is none, and what is in it."""
    from sweeper.spec import on_data

    spec = spec_of(asked)
    try:
        on_data.check_backbone(spec)
        seen = "" if asked.no_data else on_data.check(spec)
    except UserError as fault:
        raise UserError(on_data.placed(str(fault), Path(asked.spec), root=asked.data is None)) from None
    read = "standard input" if asked.spec == "-" else asked.spec
    print(json.dumps(spec.model_dump(mode="json"), indent=2) if asked.json else f"{read} is good.\n{seen}".rstrip())
    return 0


def plan(asked: argparse.Namespace) -> int:
    """Show what a spec would do here, timed by a real epoch, and what is in its data."""
    from sweeper.engine import planning
    from sweeper.spec import on_data

    spec = spec_of(asked)
    seen = on_data.check(spec)
    made = planning.plan(spec)
    print(json.dumps(made.to_json(), indent=2) if asked.json else f"{made}\n{seen}")
    return 0


def run(asked: argparse.Namespace) -> int:
    """Begin a sweep."""
    return _begin(spec_of(asked), asked)


def resume(asked: argparse.Namespace) -> int:
    """Finish what is left of a sweep."""
    folder = folder_of(asked, asked.sweep)
    wanted = spec_at(asked.wanted) if asked.wanted else None
    return _go_on(asked, folder, trials=asked.trials, wanted=wanted, take_over=asked.take_over)


def more(asked: argparse.Namespace) -> int:
    """Give a trial more seeds: its numbers become means over all of them. What is left of the sweep goes on too."""
    name, which = point_of(asked)
    return _go_on(asked, folder_of(asked, name), more=(which, asked.seeds))


def try_(asked: argparse.Namespace) -> int:
    """Try a point that the search did not ask for. Whoever drives the sweep does it next; else the sweep goes on."""
    from sweeper.results import asking
    from sweeper.results.results import Results

    folder = folder_of(asked, asked.sweep)
    results = Results.open(folder)
    said = asking.try_point(results, asked.values, asked.seeds)
    if results.progress.holder is None:
        print(said, file=sys.stderr)
        return _go_on(asked, folder)
    said += f" {results.progress.holder} drives the sweep, and takes it up as soon as a fit can begin."
    print(json.dumps({"said": said}) if asked.json else said)
    return 0


def narrow(asked: argparse.Namespace) -> int:
    """Search less from now on: a part of each range that is given. What was tried stays."""
    from sweeper.results import asking
    from sweeper.results.results import Results

    results = Results.open(folder_of(asked, asked.sweep))
    said = asking.narrow(results, asked.ranges)
    if results.progress.holder is None:
        said += f" It waits for: sweeper resume {asked.sweep}{' --trials N, with more trials' * results.finished}"
    print(json.dumps({"said": said}) if asked.json else said)
    return 0


def _go_on(asked: argparse.Namespace, folder: SweepFolder, **how: Any) -> int:
    from sweeper.screen import live

    with live.listener(folder.name, live=not asked.json) as watching:
        with watching.step("libraries"):
            from sweeper.engine import driver
        outcome = driver.resume(folder, watching, new_code=asked.new_code, **how)
    return show_outcome(outcome, folder, asked)


def confirm(asked: argparse.Namespace) -> int:
    """Train a point of a finished sweep, and the baseline, with new seeds: by how much do they differ?"""
    from dashboards.document.document import DataTable, plain
    from sweeper.engine import driver
    from sweeper.report import confirmed
    from sweeper.results import summary

    name, which = point_of(asked)
    told = driver.confirm(
        folder_of(asked, name),
        which,
        asked.seeds,
        method=asked.baseline,
        new_code=asked.new_code,
        heard=functools.partial(print, file=sys.stderr, flush=True),
    )
    if asked.json:
        shown = told.confirmation.to_json() | {"exit_code": told.exit_code, "notes": told.notes}
        print(json.dumps(to_null(shown), indent=2))
        return told.exit_code
    for block in confirmed.blocks(told.results, told.confirmation):
        if isinstance(block, DataTable):
            show_table(block)
        else:
            print(plain(block.text))
    for note in [*told.notes, *[summary.SMOKE] * (told.results.spec.data.name == "digits-on-scenes")]:
        print(note)
    return told.exit_code


def _begin(spec: SweepSpec, asked: argparse.Namespace) -> int:
    from sweeper.screen import live

    with live.listener(spec.name, live=not asked.json) as watching:
        with watching.step("libraries"):
            from sweeper.engine import driver
        outcome = driver.run(spec, watching)
    return show_outcome(outcome, outcome.results.folder, asked)
