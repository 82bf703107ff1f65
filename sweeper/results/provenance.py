"""What made a sweep: the data as it is on this machine, the code's commit and versions; kept in the sweep's folder."""

from __future__ import annotations

import contextlib
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from sweeper.errors import Corrupt
from sweeper.spec import on_data
from sweeper.spec.model import SweepSpec
from sweeper.state.atomic import read_json, write_json

PACKAGES = ("sweeper", "torch", "timm", "open_clip_torch", "peft", "ray", "optuna", "mlflow")
_KEPT = "provenance.json"


def describe(spec: SweepSpec, folder: Path) -> dict[str, Any]:
    """The data as it is on this machine (built if it is embedded), the code's commit and versions.

    It is kept in the sweep's folder, and there in `manifest.csv` who is in which split, so that the split can be
    checked, and used elsewhere. `undefined` has a sentence for each metric that is asked for in vain.
    """
    from trainables import data
    from trainables.data import report

    dataset, table = data.load(spec.data), folder / "manifest.csv"
    before = table.read_bytes() if table.exists() else None
    report.manifest(dataset, table)
    odd = before is not None and before != table.read_bytes()
    found = {
        "dataset": report.describe(dataset),
        "undefined": on_data.undefined(spec, dataset),
        "notes": [report.tell(dataset), *[f"{table} was not as it was written; it is written again."] * odd],
        "commit": _commit(),
        "versions": {dist.name: dist.version for dist in map(metadata.distribution, PACKAGES)},
    }
    write_json(folder / _KEPT, found)
    return found


def kept(spec: SweepSpec, folder: Path) -> dict[str, Any]:
    """What the last attempt noted; described again where there is no note, or it is damaged."""
    return noted(folder) or describe(spec, folder)


def noted(folder: Path) -> dict[str, Any]:
    """What the last attempt noted; empty where there is no note, or it is damaged."""
    try:
        note: dict[str, Any] = read_json(folder / _KEPT)
    except (FileNotFoundError, Corrupt):
        return {}
    return note


def _commit() -> str | None:
    """The code's commit, with `-dirty` where the working tree differs; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return None
