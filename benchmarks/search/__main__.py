"""Searches compared on the same noisy surfaces: what each shows as the front, how good and how true that is.

    python -m benchmarks.search --out build/search.jsonl --surfaces digits convex --arms tpe-1 ours-tpe-3
    python -m benchmarks.search --ours 'racing={"sampler": "tpe", "seeds": {"start": 1, "most": 5}}' --arms racing
    python -m benchmarks.search --out build/search.jsonl --table volume

Arms: random, sobol, tpe, gp and nsga2 are Optuna's samplers as they come, with 1 or 3 seeds for each configuration;
moasha-1, ax-1, ax-3 are Syne Tune's MOASHA and Ax's qLogNEHVI (they need a Python of their own, `--python`: see
`others`); ours-... and race-... are the product's own, through its study and queue. All get the same epochs, the same
worlds of noise, and `--slots` fits at a time. After 1/8, 1/4, 1/3, 1/2 and all of the budget is asked: the true
hypervolume of what is shown as the front, as a share of the space's own front's; how much of it is false (another tried
point truly beats it); and how much is false of what is shown as sure, which is all of the front but with ours.

What was run is kept line by line, and not run again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.search import harness
from benchmarks.search.shown import Shown
from benchmarks.search.surfaces import surfaces

OURS: dict[str, Mapping[str, Any]] = {
    "ours-tpe-1": {"sampler": "tpe", "seeds": 1},
    "ours-tpe-3": {"sampler": "tpe", "seeds": 3},
    "race-tpe": {"sampler": "tpe", "seeds": {"start": 1, "most": 5}},
    "race-gp": {"sampler": "gp", "seeds": {"start": 1, "most": 5}},
}
OPTUNA = [f"{sampler}-{seeds}" for sampler in ("random", "sobol", "tpe", "gp", "nsga2") for seeds in (1, 3)]
OTHERS = ["moasha-1", "ax-1", "ax-3"]


def main() -> None:
    """Run what is asked for and is not there yet, or print a table of what is."""
    asked = _parser().parse_args()
    for name, _, search in (text.partition("=") for text in asked.ours):
        OURS[name] = json.loads(search)
    kept = harness.Kept(asked.out)
    if asked.table:
        print(text(kept.rows, asked.table))
        return
    for world, name, arm in itertools.product(range(asked.worlds), asked.surfaces, asked.arms):
        if kept.lacks(arm, name, 1.0, world, asked.slots):
            kept.add(_rows(arm, name, world, asked))


def _rows(arm: str, name: str, world: int, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    surface = harness.surface_named(name)
    if arm in OURS:
        return harness.run_ours(arm, OURS[arm], surface, world, asked.slots, asked.fits)
    if arm in OTHERS:
        return _others(arm, name, world, asked)
    return harness.run(arm, surface, world, asked.slots, asked.fits)


def _others(arm: str, name: str, world: int, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The rows of an arm that needs a Python of its own; its answers come through a pipe."""
    command = [asked.python, "-m", "benchmarks.search.others", arm, name, "--world", str(world)]
    command += ["--slots", str(asked.slots), "--fits", str(asked.fits)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    surface = harness.surface_named(name)
    for share, seen in zip(harness.SHARES, json.loads(done.stdout.splitlines()[-1]), strict=True):
        what = Shown(seen["tried"], seen["front"], seen["front"], seen["epochs"])
        yield harness.row(arm, surface, share, world, asked.slots, what)


def text(rows: list[dict[str, Any]], measure: str) -> str:
    """A Markdown table of each surface: arms down, shares of the budget across."""
    told, lines = harness.table(rows), []
    for (surface, slots), part in told.groupby(["surface", "slots"], sort=False):
        shares = sorted(part["share"].unique())
        lines += [f"{surface}, {slots} at a time, {measure}", ""]
        lines += ["| arm | " + " | ".join(f"{share:.2g}" for share in shares) + " | repetitions |"]
        lines += ["|" + "---|" * (len(shares) + 2)]
        for arm, own in part.groupby("arm", sort=False):
            cells = [_cell(own[own["share"] == share].to_dict("records"), measure) for share in shares]
            lines += [f"| {arm} | " + " | ".join(cells) + f" | {own['repetitions'].min()} |"]
        lines += [""]
    return "\n".join(lines)


def _cell(found: list[dict[str, Any]], measure: str) -> str:
    if not found:
        return ""
    (own,) = found
    spread = f" [{own['low']:.3f}, {own['high']:.3f}]" if measure == "volume" else ""
    return f"{own[measure]:.3f}{spread}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/search.jsonl"), help="where rows are kept")
    parser.add_argument("--surfaces", nargs="+", choices=surfaces(), default=list(surfaces()))
    parser.add_argument("--arms", nargs="+", default=[*OURS, *OPTUNA], help=", ".join([*OURS, *OPTUNA, *OTHERS]))
    parser.add_argument("--ours", nargs="+", default=[], metavar="NAME=JSON", help="arms: other `search:` mappings")
    parser.add_argument("--worlds", type=int, default=20, help="repetitions")
    parser.add_argument("--slots", type=int, default=4, help="fits at a time")
    parser.add_argument("--fits", type=int, default=harness.WHOLE, help="the whole budget, in fits of 4 epochs")
    parser.add_argument("--python", help="the interpreter that has Ax and Syne Tune")
    parser.add_argument("--table", choices=harness.MEASURES, help="print this of what is kept, and run nothing")
    return parser


if __name__ == "__main__":
    main()
