"""A tiny sweep on a real Ray whose first actor dies as it starts, and whose next one as it is aimed at another fit.

    python -m tests.faults.dying FOLDER

A program of its own: Ray is started for it, and its actors train `tests.faults.tiny`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweeper import running_code
from sweeper.engine import actor, driver
from sweeper.engine.actor import FitActor
from sweeper.results import provenance
from sweeper.spec.model import SweepSpec
from sweeper.state.atomic import write_json
from tests.faults import tiny


class Dying(FitActor):
    """Dies once at each moment at which it trains nothing."""

    def setup(self, config: dict[str, Any]) -> None:
        """In a worker's process, which is made tiny first."""
        _die_once("start", config)
        tiny.make_tiny()
        super().setup(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Between two fits: Tune calls an actor's fault here final, whatever its retries."""
        _die_once("reset", new_config)
        return super().reset_config(new_config)


def _die_once(moment: str, config: dict[str, Any]) -> None:
    scar = config["node"].folder.parent / f"died-at-{moment}"
    if not scar.exists():
        scar.touch()
        os._exit(1)


def _described(spec: SweepSpec, folder: Path, changes: Sequence[str]) -> dict[str, Any]:
    """What is tiny of it, and the code that Ray's workers must run."""
    note = {"dataset": tiny.DATA, "notes": [], "commit": None, "code": running_code.found().to_json()}
    write_json(folder / "provenance.json", note)
    return note


def main(root: Path) -> int:
    """Run the sweep; its exit code."""
    tiny.make_tiny()
    provenance.describe = _described
    actor.FitActor = Dying  # type: ignore[misc]
    return driver.run(tiny.spec(root, more="resources: {max_concurrent: 1, max_retries: 1}\n"), tiny.Silent()).exit_code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
