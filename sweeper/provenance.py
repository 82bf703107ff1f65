"""What made a sweep: the data as it is on this machine, the code's commit."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Any

from sweeper.spec import SweepSpec


def describe(spec: SweepSpec, manifest: Path) -> dict[str, Any]:
    """The data as it is on this machine (built if it is embedded), and the code's commit.

    Who is in which split goes to the table `manifest`, so that the split can be checked, and used elsewhere.
    """
    from trainables import data
    from trainables.data import manifest as manifests
    from trainables.data import report

    dataset = data.load(spec.data)
    manifests.manifest(dataset, manifest)
    return {"dataset": report.describe(dataset), "notes": [report.tell(dataset)], "commit": _commit()}


def _commit() -> str | None:
    """The code's commit, with `-dirty` where the working tree differs; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return None
