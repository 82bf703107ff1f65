"""What made a sweep, noted in its folder: the data on this machine, the code's commit, the packages' versions."""

from __future__ import annotations

import contextlib
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from sweeper.errors import Corrupt
from sweeper.spec import on_data, plugins
from sweeper.spec.model import SweepSpec
from sweeper.state.atomic import read_json, write_json
from trainables.metrics import METRICS

PACKAGES = ("sweeper", "torch", "timm", "open_clip_torch", "peft", "ray", "optuna", "mlflow")
_KEPT = "provenance.json"


def describe(spec: SweepSpec, folder: Path) -> dict[str, Any]:
    """The data on this machine (built if it is embedded), the code's commit, the packages' versions.

    It is kept in the sweep's folder. There `manifest.csv` says which example is in which split, so that the split can
    be checked and used elsewhere. `undefined` has a sentence for each metric that the data cannot define.
    """
    from trainables import data
    from trainables.data import report

    dataset, table = data.load(spec.data), folder / "manifest.csv"
    before = table.read_bytes() if table.exists() else None
    report.manifest(dataset, table)
    changed = before is not None and before != table.read_bytes()
    packages = plugins.used(spec)
    commit = None
    with contextlib.suppress(OSError, subprocess.SubprocessError):  # no git, or no checkout
        command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
        commit = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    note = {
        "dataset": report.describe(dataset),
        "undefined": on_data.undefined(spec, dataset),
        "notes": [
            report.tell(dataset),
            *[f"{table} was not as it was written; it is written again."] * changed,
            *plugins.changed(noted(folder).get("plugins"), packages),
            *(f"{fault} It is not measured." for fault in METRICS.broken.values()),
        ],
        "commit": commit,
        "plugins": [vars(plugin) for plugin in packages],
        "versions": {dist.name: dist.version for dist in map(metadata.distribution, PACKAGES)},
    }
    write_json(folder / _KEPT, note)
    return note


def kept(spec: SweepSpec, folder: Path) -> dict[str, Any]:
    """The last attempt's note; made again where it is missing or damaged."""
    return noted(folder) or describe(spec, folder)


def noted(folder: Path) -> dict[str, Any]:
    """The last attempt's note; empty where it is missing or damaged."""
    try:
        note: dict[str, Any] = read_json(folder / _KEPT)
    except (FileNotFoundError, Corrupt):
        return {}
    return note
