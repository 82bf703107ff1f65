"""The command line: instant help, one message per slip, exit codes that mean something."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.cli import main, shared
from sweeper.engine.attempt import Outcome
from sweeper.engine.planning import Plan
from sweeper.results import summary
from sweeper.results.results import Results
from sweeper.spec.search import Budget
from sweeper.spec.urls import sqlite_url
from sweeper.state.lease import Lease
from sweeper.state.sweep_folder import SweepFolder
from tests import finished
from trainables.data import report

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


@pytest.mark.parametrize("command", ["resume", "status", "pareto", "ui", "confirm"])
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


def test_a_damaged_sweep_is_an_entry_of_the_list_and_hides_no_other(tmp_path: Path, capsys) -> None:
    finished.sweep(tmp_path / "done", right={0: (29, 4)}, **{"search.baselines": []})
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "spec.yaml").write_text("name: other")
    assert main.main(["list", "--root", str(tmp_path), "--json"]) == 3
    whole, damaged = json.loads(capsys.readouterr().out)
    assert (whole["name"], whole["state"]) == ("done", "finished")
    assert (damaged["name"], damaged["error"]["kind"], damaged["error"]["exit_code"]) == ("odd", "Corrupt", 3)
    assert main.main(["stop", "done", "--root", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"said": "nobody drives 'done'; there is nothing to stop."}


def test_what_is_printed_of_a_long_sweep_has_80_columns(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(summary, "headline", lambda _: f"done: paused, because: {'the disk is full, ' * 9}end")
    finished.sweep(tmp_path / "done", right={0: (29, 4)}, **{"search.baselines": []})
    assert main.main(["list", "--root", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line[:2] for line in lines] == ["do", "  ", "  "]
    epochs = {f"method-{number}": 0.5 for number in range(9)}
    plan = Plan(
        "a-long-name-of-a-sweep", 40, {"lora": 5, "fft": 5}, 3, 2, "cpu", ("lora",), 4, epochs, 9, False, ("x " * 60,)
    )
    assert max(map(len, str(plan).splitlines())) <= 80
    assert str(plan).replace("\n  ", " ").count("\n") == 3


@pytest.mark.parametrize(
    ("budget", "gpus", "fits", "told"),
    [
        (
            {"hours": 1},
            0.0,
            178,
            "the budget (hours 1) buys 178 fits at this pace; without a GPU each slot counts as one",
        ),
        ({"gpu_hours": 1}, 0.5, 178, "the budget (gpu_hours 1) buys 178 fits at this pace"),
        ({"cost": 5, "per_gpu_hour": 2.5}, 1.0, 178, "2 GPU-hours, which cost 5.00"),
        ({"hours": 100}, 1.0, 1000, "buys 1000 fits"),
    ],
)
def test_a_plan_tells_what_a_budget_buys(budget: dict[str, float], gpus: float, fits: int, told: str) -> None:
    plan = Plan(
        "s", 1000, {}, 1, 2, "cpu", ("lora",), 4, {"lora": 10.0}, 40.0, True, gpus=gpus, budget=Budget(**budget)
    )
    assert plan.fits == fits  # 40 s each, two at once, 3,560 s
    assert told in " ".join(str(plan).split())
    assert json.loads(json.dumps(plan.to_json()))["budget"] == budget


def test_the_cells_of_a_split_are_folded_between_their_names() -> None:
    names = [f"class {number}|a place" for number in range(10)]
    line = f"  train 160: {', '.join(f'{name} 16' for name in names)}"
    rows = report._folded(line).splitlines()
    assert max(map(len, rows)) <= 80
    assert all(row.startswith("      class ") for row in rows[1:])
    assert [name for row in rows for name in names if f"{name} 16" in row] == names
    assert report._folded("  val 3: a 1, b 2") == "  val 3: a 1, b 2"


# --- consoles


@given(
    st.text(st.characters(exclude_categories=[])),  # surrogates too: undecodable bytes of a path
    st.sampled_from(["ascii", "latin-1", "cp1252", "cp437", "koi8-r", "utf-8"]),
    st.sampled_from(["strict", "surrogateescape"]),
)
def test_any_text_can_be_printed_on_any_console(text: str, encoding: str, errors: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        console = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors, newline="")
        patch.setattr(sys, "stdout", console)
        shared.make_printable()
        print(text, flush=True)
        if text.isascii():
            assert console.buffer.getvalue() == f"{text}\n".encode("ascii")


def test_signs_that_a_console_has_not_are_spelled() -> None:
    with pytest.MonkeyPatch.context() as patch:
        console = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        patch.setattr(sys, "stdout", console)
        shared.make_printable()
        print("fairlora λ=0.3 0.80 ± 0.02 … é ☃", flush=True)
    assert console.buffer.getvalue() == b"fairlora lambda=0.3 0.80 +/- 0.02 ... e ?\n"


@pytest.mark.parametrize("words", [["list"], ["status", "done"], ["pareto", "done"], ["list", "--json"]])
def test_a_finished_sweep_is_told_on_a_console_of_ascii(words: list[str], tmp_path: Path) -> None:
    finished.sweep(tmp_path / "done")
    with pytest.MonkeyPatch.context() as patch:
        console = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
        patch.setattr(sys, "stdout", console)
        assert main.main([*words, "--root", str(tmp_path)]) == 0
    assert b"done" in console.buffer.getvalue()


# --- sweeps of other users


AS_NOBODY = """
import json, os, sys
from contextlib import redirect_stderr, redirect_stdout
from sweeper.cli import main
root, *commands = sys.argv[1:]
with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
    for command in commands:  # so that all is imported: nobody may not read root's libraries
        main.main([*json.loads(command), "--root", root + "/before"])
if os.geteuid() == 0:
    os.seteuid(65534)
for command in commands:
    print("exit code", main.main([*json.loads(command), "--root", root]), flush=True)
    print("exit code", file=sys.stderr, flush=True)
"""


@pytest.fixture
def shared_root() -> Iterator[Path]:
    """A folder with two sweeps, which every user may read, as pytest's own may not."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        for name in ("mine", "theirs"):
            finished.sweep(Path(made) / name)
            Lease(sqlite_url(Path(made) / name / "study.db"), name).close()  # as a driver leaves it: it is only read
            shutil.copytree(Path(made) / name, Path(made) / "before" / name)
        yield Path(made)


def as_nobody(root: Path, *commands: str) -> subprocess.CompletedProcess[str]:
    words = [json.dumps(command.split()) for command in commands]
    return subprocess.run([sys.executable, "-c", AS_NOBODY, str(root), *words], capture_output=True, text=True)


@pytest.mark.parametrize("kept", ["theirs", "theirs/spec.yaml"])
def test_a_sweep_that_another_user_keeps_to_himself_is_named_and_does_not_hide_ones_own(
    kept: str, shared_root: Path
) -> None:
    (shared_root / kept).chmod(0)
    done = as_nobody(shared_root, "list", "status mine", "status theirs")
    (shared_root / kept).chmod(0o755)
    said = closed(shared_root / kept)
    assert done.stderr.splitlines() == [f"theirs: {said}", "exit code", "exit code", said, "exit code"]
    lines = done.stdout.splitlines()
    assert [line[:14] for line in lines] == [*2 * ["mine: finished", "exit code 0"], "exit code 2"]


def closed(place: Path, why: str = "Permission denied") -> str:
    return f"{place} is {place.owner()}'s and closed to you ({why}). Ask for it, or choose another place."


def test_what_another_user_lets_one_read_and_not_write_is_told_in_a_sentence(shared_root: Path) -> None:
    (shared_root / "theirs" / "trials").chmod(0)
    out = shared_root / "report.html"
    done = as_nobody(shared_root, f"report mine -o {out}", "pareto theirs", "delete mine --yes")
    (shared_root / "theirs" / "trials").chmod(0o755)
    said = [line for line in done.stderr.splitlines() if "closed to you" in line or "Traceback" in line]
    study, trials = shared_root / "mine" / "study.db", shared_root / "theirs" / "trials"
    assert said == [closed(out), closed(trials), closed(study, "attempt to write a readonly database")]
    assert [line for line in done.stdout.splitlines() if "exit code" in line] == [f"exit code {n}" for n in (2, 2, 3)]


def test_the_way_on_can_be_typed_also_where_the_folder_has_an_odd_name(tmp_path: Path) -> None:
    odd = tmp_path / "a b?x=1 %41#&'"
    finished.sweep(odd / "done")
    results = Results.open(SweepFolder(odd / "done"))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        shared.show_outcome(Outcome(results, 0), results.folder, argparse.Namespace(json=False))
    said = printed.getvalue()
    assert "Recommended: #2" in said
    ways = [shlex.split(line, comments=True) for line in said.splitlines()[-3:]]
    root = ["--root", str(odd)]
    assert ways == [
        ["sweeper", "report", "done", *root],
        ["sweeper", "ui", "done", *root],
        ["sweeper", "pull", "done@knee", "-o", "done-knee", *root],
    ]
