"""A tiny sweep on a real Ray, of which something dies: an actor as it starts, or is aimed at another fit, or trains;
or Ray's own raylet or head.

    python -m tests.faults.dying FOLDER start|reset|actor|raylet|gcs_server ...

A program of its own: Ray is started for it, and its actors train `tests.faults.tiny`. Each of what is named dies once;
whatever comes of it is told as the command line tells it. A second call goes on with the sweep.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from sweeper import running_code
from sweeper.cli.main import main as sweeper
from sweeper.engine import actor
from sweeper.engine.actor import FitActor
from sweeper.results import provenance
from sweeper.spec.model import SweepSpec
from sweeper.state.atomic import write_json
from tests.faults import tiny

DEATHS = "DEATHS"  # the environment variable that names them, for the workers


class Dying(FitActor):
    """Dies, or kills, once at each moment that is asked for."""

    def setup(self, config: dict[str, Any]) -> None:
        """In a worker's process, which is made tiny first."""
        _once("start", config)
        tiny.make_tiny()
        super().setup(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Between two fits: Tune calls an actor's fault here final, whatever its retries."""
        _once("reset", new_config)
        return super().reset_config(new_config)

    def _one_epoch(self, trains: Any) -> None:
        for whom in ("actor", "raylet", "gcs_server"):
            _once(whom, self.config)
        super()._one_epoch(trains)


def _once(moment: str, config: dict[str, Any]) -> None:
    scar = config["node"].folder.parent / f"died-at-{moment}"
    if moment not in os.environ[DEATHS].split() or scar.exists():
        return
    scar.touch()
    own = os.getsid(0)
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == moment and os.getsid(process.pid) == own:
            process.kill()
            time.sleep(60)  # else a tiny sweep is at its end before anybody has noticed
            return
    os.kill(os.getpid(), signal.SIGKILL)


def _described(spec: SweepSpec, folder: Path, changes: Sequence[str]) -> dict[str, Any]:
    """What is tiny of it, and the code that Ray's workers must run."""
    note = {"dataset": tiny.DATA, "notes": [], "commit": None, "code": running_code.found().to_json()}
    write_json(folder / "provenance.json", note)
    return note


def main(root: Path, deaths: Sequence[str]) -> int:
    """Run the sweep, or go on with it; the exit code."""
    tiny.make_tiny()
    provenance.describe = _described
    actor.FitActor = Dying  # type: ignore[misc]
    os.environ[DEATHS] = " ".join(deaths)
    if (root / tiny.NAME).exists():
        return sweeper(["resume", tiny.NAME, "--root", str(root)])
    spec = root / "tiny.yaml"
    spec.write_text(
        tiny.SPEC.format(root=root, trials=3, search="") + "resources: {max_concurrent: 1, max_retries: 1}\n"
    )
    return sweeper(["run", str(spec)])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
