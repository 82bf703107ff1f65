"""The command line: instant help, one message per slip, exit codes that mean something."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweeper.cli import main

SPEC = "name: a\nspace: {lamda: 1, rank: 0}\nsearch: {trials: 2}\n"


def sweeper(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sweeper", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


def test_help_is_instant_and_full_of_examples() -> None:
    sweeper("--help")
    times = []
    for _ in range(3):
        began = time.perf_counter()
        done = sweeper("--help")
        times.append(time.perf_counter() - began)
    assert min(times) < 0.5
    assert "sweeper resume NAME" in done.stdout
    assert "exit codes" in done.stdout


def test_a_bad_spec_is_told_whole_without_a_traceback_and_exits_2(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(SPEC)
    done = sweeper("validate", "sweep.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith("sweep.yaml:2: space.lamda is unknown. Did you mean 'lambda'?")
    assert "sweep.yaml:2: space.rank is 0." in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["resume", "status", "pareto", "ui"])
def test_a_sweep_that_is_not_there_is_said_so(command: str, tmp_path: Path, capsys) -> None:
    assert main.main([command, "nobody", "--root", str(tmp_path)]) == 2
    assert "'sweeper list' shows those there are" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../../etc", "/etc", "a/b", "", "A B"])
def test_a_name_is_never_a_path(name: str, tmp_path: Path, capsys) -> None:
    assert main.main(["status", name, "--root", str(tmp_path)]) == 2
    assert "is not a sweep's name" in capsys.readouterr().err


def test_a_good_preset_validates_and_prints_json(capsys) -> None:
    assert main.main(["validate", "tiny", "--no-data"]) == 0
    assert capsys.readouterr().out == "tiny is good.\n"
    assert main.main(["validate", "tiny", "--json", "--name", "mine"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "mine"


def test_the_schema_is_json_that_names_the_parameters(capsys) -> None:
    assert main.main(["schema"]) == 0
    assert "lambda" in json.loads(capsys.readouterr().out)["properties"]["space"]["properties"]


def test_an_empty_root_lists_nothing_and_says_how_to_begin(tmp_path: Path, capsys) -> None:
    assert main.main(["list", "--root", str(tmp_path)]) == 0
    assert "sweeper demo" in capsys.readouterr().out
    assert main.main(["list", "--root", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_the_doctor_finds_this_machine_able(tmp_path: Path, capsys) -> None:
    assert main.main(["doctor", "--root", str(tmp_path), "--json"]) == 0
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert checks["torch and torchvision"]["found"] == "work together"
    assert {check["verdict"] for check in checks.values()} <= {"good", "note"}


def test_the_doctor_finds_a_root_that_cannot_be_written(capsys) -> None:
    assert main.main(["doctor", "--root", "/proc/nowhere", "--json"]) == 2
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert checks["sweeps"]["verdict"] == "bad"
    assert "--root" in checks["sweeps"]["mend"]
