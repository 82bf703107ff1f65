"""Where the time goes between `sweeper run` and the first training step, and how fast a warm fit starts.

    python benchmarks/startup.py --repetitions 5

One process per repetition runs the preset `tiny` with more trials; the parts are read from time stamps that
the parts themselves leave: the imports and Ray in the driver, imports, data and backbone in the actor. A warm
fit's start is the time from the end of one fit to the first step of the next one on the same actor.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPEC = """
name: startup
groups: cell
space: {method: fairlora, rank: [4, 8, 16, 32], lambda: [0.1, 1, 10], learning_rate: 2e-3, epochs: 1}
search: {sampler: grid, trials: 12}
resources: {max_concurrent: 1}
"""


def main() -> None:
    """Run the repetitions and print the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        _child(Path(asked.child))
        return
    found = [_measure() for _ in range(asked.repetitions)]
    for part in found[0]["parts"]:
        _show(part, [run["parts"][part] for run in found])
    _show("sweeper run to first training step", [run["first_step"] for run in found])
    warm = sorted(gap for run in found for gap in run["warm"])
    ninety_five = warm[int(0.95 * len(warm))]
    print(f"warm fit's start: median {statistics.median(warm):.3f} s, p95 {ninety_five:.3f} s, n {len(warm)}")


def _show(name: str, values: list[float]) -> None:
    print(f"{name:38} median {statistics.median(values):6.2f} s ({min(values):.2f} to {max(values):.2f})")


def _measure() -> dict:
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        began = time.time()
        command = [sys.executable, __file__, "--child", folder]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr[-3000:])
        stamps = json.loads((Path(folder) / "stamps.json").read_text())
    fits = sorted(stamps["fits"], key=lambda fit: fit["begin"])
    first = fits[0]["begin"] - began
    parts = {
        "python and the command's imports": stamps["imported"] - began,
        "lease, Ray, data (side by side)": stamps["begun"] - stamps["imported"],
        "Tune, and the actor's process": fits[0]["begin"] - fits[0]["prepared_s"] - stamps["begun"],
        "the actor's imports, data, backbone": fits[0]["prepared_s"],
    }
    gaps = [after["begin"] - before["end"] for before, after in itertools.pairwise(fits)]
    return {"first_step": first, "parts": parts, "warm": gaps}


def _child(folder: Path) -> None:
    from sweeper.engine import driver
    from sweeper.screen import live
    from sweeper.spec import loading
    from sweeper.state.sweep_folder import SweepFolder

    stamps: dict = {"imported": time.time()}

    class Watch(live.Lines):
        def begun(self, look, notes) -> None:
            stamps["begun"] = time.time()

    spec = loading.parse(SPEC + f"storage: {{root: {folder}/sweeps}}\n")
    outcome = driver.run(spec, Watch(spec.name))
    home = SweepFolder(folder / "sweeps" / "startup")
    stamps["fits"] = [_fit(home.fit(trial.number, 0).result()) for trial in outcome.results.trials]
    (folder / "stamps.json").write_text(json.dumps(stamps))


def _fit(result: dict) -> dict:
    first, last = result["history"][0], result["history"][-1]
    begin = first["time_ms"] / 1e3 - first["seconds"] - first["evaluate_s"]
    return {"begin": begin, "end": last["time_ms"] / 1e3, "prepared_s": result["provenance"]["prepared_s"]}


if __name__ == "__main__":
    main()
