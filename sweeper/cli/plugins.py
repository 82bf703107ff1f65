"""The command `sweeper plugins`: what installed packages add, and whether it keeps the laws of its kind."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.cli.shared import Add
from sweeper.errors import UserError, unknown

if TYPE_CHECKING:
    from sweeper.spec.model import SweepSpec
    from trainables.contracts import Verdict


def register(add: Add) -> None:
    """Enrol it."""
    asked = add("plugins", plugins)
    asked.add_argument("test", nargs="?", choices=["test"], help="hold NAME to the laws of its kind")
    asked.add_argument("name", nargs="?", metavar="NAME", help="a package, or what one adds: a method, a metric, ...")
    asked.add_argument("--data", type=Path, metavar="FOLDER", help="where your copy of the data is, to test a dataset")


def plugins(asked: argparse.Namespace) -> int:
    """List what installed packages add; `plugins test NAME` holds it to the laws of its kind."""
    from sweeper.spec import plugins as lines

    if asked.test:
        return _test(asked)
    found = lines.installed()
    if asked.json:
        print(json.dumps([vars(plugin) for plugin in found], indent=2))
    else:
        print("\n".join(_said(plugin) for plugin in found) or "no plug-ins: no package has an entry point for sweeper.")
    return 2 if any(plugin.fault for plugin in found) else 0


def _said(plugin: object) -> str:
    return f"{plugin}: {getattr(plugin, 'fault', '') or getattr(plugin, 'doc', '')}"


def _test(asked: argparse.Namespace) -> int:
    chosen = _lines(asked.name)

    from trainables.contracts.bench import bench  # loads torch

    told: dict[str, list[dict[str, str | None]]] = {}
    good = True
    with bench(asked.data) as place:
        for kind, name in chosen:
            findings = of_sampler(name) if kind == "sampler" else place.findings(kind, name)
            if not asked.json:
                print(f"{kind} '{name}'")
            rows = told.setdefault(f"{kind} {name}", [])
            for found in findings:
                good = good and found.breach is None
                rows.append(vars(found))
                if not asked.json:
                    print(f"  {'bad ' if found.breach else 'good'}  {found.claim}", flush=True)
                    print(f"        {found.breach}\n" * (found.breach is not None), end="")
    if asked.json:
        print(json.dumps(told, indent=2))
    return 0 if good else 2


def _lines(name: str | None) -> list[tuple[str, str]]:
    """The lines that `name` stands for: those of a package, those that packages call so, else our own of that name."""
    from sweeper.spec.plugins import TABLES, installed

    if name is None:
        raise UserError("plugins test: name what to test: a package, or one line of it. 'sweeper plugins' lists them.")
    added = installed()
    found = [(plugin.kind, plugin.name) for plugin in added if name in (plugin.package, plugin.name)]
    found = found or [(kind, name) for kind, table in TABLES.items() if name in table.built_in]
    if not found:
        names = [known for plugin in added for known in (plugin.package, plugin.name)]
        raise UserError(unknown(f"plug-in '{name}'", name, names) if names else f"no plug-in '{name}': there are none.")
    return found


def of_sampler(name: str) -> Iterator[Verdict]:
    from sweeper.spec.samplers import SAMPLERS
    from sweeper.spec.search import Search
    from trainables.contracts import judge
    from trainables.contracts.fits import declares_its_options

    yield from judge((declares_its_options,), SAMPLERS[name].options, Search)
    yield from judge((proposes_alike, stays_in_the_space, goes_on), name)


def proposes_alike(sampler: str) -> None:
    """The same seed proposes the same points."""
    from trainables.contracts import hold

    one, other = _proposals(sampler), _proposals(sampler)
    hold(one == other, f"asked again it proposed {other} instead of {one}. Draw all chance from the streams' seeds.")


def stays_in_the_space(sampler: str) -> None:
    """Every point lies in the space."""
    from trainables.contracts import hold

    space = _spec(sampler).space
    for point in _proposals(sampler):
        hold(space.contains(point), f"{point} does not.")


def goes_on(sampler: str) -> None:
    """Built anew after a crash, it proposes what it would have."""
    from trainables.contracts import hold

    whole, broken = _proposals(sampler), _proposals(sampler, reopened=True)
    hold(whole == broken, f"it proposed {broken} instead of {whole}. What it learns it must read from the study.")


def _spec(sampler: str) -> SweepSpec:
    from sweeper.spec import loading
    from sweeper.spec.samplers import SAMPLERS

    weights = "[0.1, 1, 10]" if SAMPLERS[sampler].grid else "{low: 0.1, high: 10, log: true}"
    space = f"{{method: [lora, fairlora], lambda: {weights}, rank: [4, 8, 16]}}"
    return loading.parse(f"name: contract\nspace: {space}\nsearch: {{sampler: {sampler}, trials: 12}}")


def _proposals(sampler: str, *, reopened: bool = False) -> list[dict[str, object]]:
    """The points of a sweep whose trials are told at once, by a made-up surface."""
    from sweeper.state.study import Study

    spec, points = _spec(sampler), []
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/study.db"
        study = Study(spec, url, create=True)
        while (proposal := study.propose()) is not None:
            points.append(dict(proposal.params))
            weight = float(proposal.params.get("lambda", 0.0))
            study.complete(proposal.number, [{"accuracy": 1 / (1 + weight), "delta_f1": 0.5 / (1 + 2 * weight)}])
            if reopened and len(points) == 6:
                study = Study(spec, url)
    return points
