"""A real sweep that an older release began, and a kill ended, is shown, resumed, extended and reported by this one."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.test_fixtures import restored
from trainables.backbones import small

FIXTURE = Path(__file__).parent / "fixtures" / "commit-821442f"
NAME = "before-rooms"
TOLD, OPEN = ("00000", "00001"), "00002"


def sweeper(*arguments: str, root: Path) -> str:
    command = [sys.executable, "-m", "sweeper", *arguments, "--root", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def history(fit: Path) -> list[dict[str, object]]:
    """The epochs of a fit's result."""
    return list(json.loads(json.loads((fit / "result.json").read_text())["body"])["history"])


def checkpointed(fit: Path) -> list[dict[str, object]]:
    """The epochs of a fit's newest checkpoint, out of the header of its safetensors file."""
    payload = max(fit.glob("checkpoint-*")).read_bytes()
    header = json.loads(payload[8 : 8 + int.from_bytes(payload[:8], "little")])
    return list(json.loads(header["__metadata__"]["meta"])["history"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep as the kill left it."""
    return restored(FIXTURE, tmp_path_factory.mktemp("sweeps"), NAME)


def test_it_is_shown_resumed_extended_and_reported(folder: Path) -> None:
    root = folder.parent
    status = json.loads(sweeper("status", NAME, "--json", root=root))
    assert (status["state"], status["counts"]["complete"], status["counts"]["running"]) == ("paused", 2, 1)
    before = [row["values"] for row in status["front"]]
    assert before, "the front of the trials that had ended"
    results = {path: path.read_bytes() for number in TOLD for path in folder.glob(f"trials/{number}/*/result.json")}
    epochs = checkpointed(folder / "trials" / OPEN / "0")

    sweeper("resume", NAME, "--trials", "5", root=root)
    assert {path: path.read_bytes() for path in results} == results, "what has a result is not run again"
    assert len(epochs) == 2
    assert history(folder / "trials" / OPEN / "0")[:2] == epochs, "no epoch of a checkpoint is paid again"
    with (folder / "trials.csv").open() as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["complete"] * 5

    made = json.loads(json.loads((folder / "trials/00004/0/result.json").read_text())["body"])["provenance"]
    assert f"small-vit-{small.FirstRecipe().hash}" in made["backbone_source"], (
        "the weights that this machine makes, as before"
    )

    page = folder / "report.html"
    sweeper("report", NAME, "-o", str(page), root=root)
    assert f"Sweep {NAME}" in page.read_text(encoding="utf-8")
    assert "5 complete of 5 trials" in page.read_text(encoding="utf-8")
