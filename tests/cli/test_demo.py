"""The first command of the README, as a new user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def sweeper(folder: Path, *words: str) -> str:
    """What the command prints."""
    done = subprocess.run([sys.executable, "-m", "sweeper", *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_demo_ends_with_a_front_where_a_fair_point_gives_what_plain_lora_does_not(tmp_path: Path) -> None:
    said = sweeper(tmp_path, "demo")
    assert "smoke benchmark" in said
    found = json.loads(sweeper(tmp_path, "pareto", "demo", "--json"))
    front = found["front"]
    assert len(front) >= 3
    assert all(row["seeds"] == 3 and row["spread"]["accuracy"] > 0 for row in front)
    trials = pd.read_csv(tmp_path / "sweeps" / "demo" / "trials.csv")
    assert len(trials) >= 16
    plain = trials[trials["baseline"] == "lora"].iloc[0]
    fair = [row["values"] for row in front if row["params"]["method"] == "fairlora"]
    assert any(point["accuracy"] > plain["accuracy"] or point["delta_f1"] < plain["delta_f1"] for point in fair)
