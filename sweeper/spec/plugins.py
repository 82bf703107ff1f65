"""Plug-ins: the lines that installed packages add to the tables, and those of them that a sweep uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeper.errors import UserError
from sweeper.spec.samplers import SAMPLERS
from trainables.audits import AUDITS
from trainables.backbones import BACKBONES
from trainables.data import DATASETS
from trainables.methods import METHODS
from trainables.metrics import METRICS
from trainables.table import Table

if TYPE_CHECKING:
    from sweeper.spec.model import SweepSpec

TABLES: Mapping[str, Table[Any]] = {
    "dataset": DATASETS,
    "backbone": BACKBONES,
    "method": METHODS,
    "metric": METRICS,
    "sampler": SAMPLERS,
    "audit": AUDITS,
}


@dataclass(frozen=True)
class Plugin:
    """One line of a package: what it is, its name, the package's name and version; `fault` says why it is unusable."""

    kind: str
    name: str
    package: str
    version: str
    code: str
    doc: str = ""
    fault: str = ""

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}' of {self.package} {self.version}".rstrip()


def installed() -> list[Plugin]:
    """Every line that a package adds, by package; loads each, to see whether it can be.

    Raises:
        UserError: two packages give one name.
    """
    found = [_plugin(kind, name) for kind, table in TABLES.items() for name in table.plugins]
    return sorted(found, key=lambda plugin: plugin.package)


def used(spec: SweepSpec) -> list[Plugin]:
    """The lines of packages that a spec names."""
    return [_plugin(kind, name) for kind, name in dict.fromkeys(_named(spec)) if name in TABLES[kind].plugins]


def measured(spec: SweepSpec) -> list[Plugin]:
    """The metrics of packages that every fit measures, though the spec does not name them."""
    named = {name for kind, name in _named(spec) if kind == "metric"}
    return [_plugin("metric", name) for name in METRICS.plugins if name in METRICS.sound and name not in named]


def noted(spec: SweepSpec) -> list[dict[str, Any]]:
    """Both as provenance has them; `named` tells them apart: without what is only measured a sweep goes on."""
    return [vars(plugin) | {"named": True} for plugin in used(spec)] + [
        vars(plugin) | {"named": False} for plugin in measured(spec)
    ]


def gone(kept: object) -> str | None:
    """The plug-ins that a sweep was begun with and that are not installed any more, in a sentence; None: all are there.

    `kept` is what its provenance has of them, as `noted` gives it; of older releases all are named.
    """
    rows = [row for row in kept if isinstance(row, Mapping)] if isinstance(kept, list) else []
    rows = [row for row in rows if row.get("named", True)]
    missing = [row for row in rows if row.get("name") not in TABLES.get(str(row.get("kind")), {})]
    if not missing:
        return None
    lines = " and ".join(f"{row['kind']} '{row['name']}' of {row['package']} {row['version']}" for row in missing)
    packages = sorted({f"{row['package']}=={row['version']}" for row in missing})
    return f"it uses {lines}, which is not installed here. Install {', '.join(packages)}, then go on."


def changed(kept: object, now: list[Plugin]) -> list[str]:
    """A sentence for each plug-in whose version is another one than in `kept`, as `gone` takes it, or that is gone."""
    rows = kept if isinstance(kept, list) else []
    before = {(row["kind"], row["name"]): f"{row['package']} {row['version']}" for row in rows}
    here = {(plugin.kind, plugin.name) for plugin in now}
    lost = [
        f"metric '{row['name']}' of {row['package']} {row['version']} is installed no more: it is not measured."
        for row in rows
        if not row.get("named", True) and (row["kind"], row["name"]) not in here
    ]
    return lost + [
        f"{plugin.kind} '{plugin.name}' is of {plugin.package} {plugin.version} now; before it was of {was}."
        for plugin in now
        if (was := before.get((plugin.kind, plugin.name))) not in (None, f"{plugin.package} {plugin.version}")
    ]


def _named(spec: SweepSpec) -> Iterator[tuple[str, str]]:
    yield "dataset", spec.data.name
    yield "backbone", spec.backbone.name
    yield "sampler", spec.search.sampler
    yield from (("method", name) for name in dict.fromkeys((*spec.space.methods, *spec.search.baselines)))
    yield from (("metric", name.partition("/")[0]) for name in (*spec.objectives, *spec.constraints))


def _plugin(kind: str, name: str) -> Plugin:
    table, point = TABLES[kind], TABLES[kind].plugins[name]
    package, version = (point.dist.name, point.dist.version) if point.dist else ("an unnamed package", "")
    try:
        return Plugin(kind, name, package, version, point.value, _doc(table[name]))
    except UserError as fault:
        return Plugin(kind, name, package, version, point.value, fault=str(fault))


def _doc(line: Any) -> str:
    return str(getattr(line, "doc", "") or getattr(line, "source", ""))
