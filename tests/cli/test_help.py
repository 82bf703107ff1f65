"""Help with lines that can be typed, completion by the shell, and failures that programs can read."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeper.cli import looking, main
from sweeper.cli.help import failures
from sweeper.cli.help.examples import EXAMPLES
from sweeper.errors import Paused, UserError


def commands(parser: argparse.ArgumentParser, before: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command, by the words that are typed for it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                own = list(commands(inner, f"{before}{name} "))
                yield from own or [(f"{before}{name}", inner)]


PARSER = main._parser()
COMMANDS = dict(commands(PARSER))


def test_every_command_has_two_examples_and_no_other_has_any() -> None:
    assert {name: len(lines) for name, lines in EXAMPLES.items()} == dict.fromkeys(COMMANDS, 2)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_are_shown_and_parse_as_what_they_stand_under(name: str) -> None:
    shown = COMMANDS[name].format_help()
    for line in EXAMPLES[name]:
        assert f"  {line}\n" in shown
        assert len(line) < 100
        words = shlex.split(line.removeprefix('eval "$(').removesuffix(')"'), comments=False)
        words = words[: next((i for i, word in enumerate(words) if word in (">", "|")), None)]
        assert words[0] == "sweeper"
        asked = PARSER.parse_args(words[1:])
        assert asked.command is COMMANDS[name].get_default("command")


def test_the_version_is_said_and_under_json_what_it_runs_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out == "sweeper 0.1.0\n"
    assert main.main(["--version", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"sweeper", "python", "torch", "ray", "optuna", "mlflow"} <= set(told)
    assert all(version[0].isdigit() for version in told.values())


def test_without_a_command_the_way_to_the_commands_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([]) == 2
    assert "a command is missing. Those there are: sweeper --help" in capsys.readouterr().err


# --- completion


def completed(line: str, *, cwd: Path, root: str | None = None) -> list[str]:
    """What a shell would offer at the end of `line`, as bash asks it: by the variables and over file descriptor 8."""
    program = (
        "import os, sys; os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), 8); "
        "from sweeper.cli.main import main; sys.argv = ['sweeper']; main()"
    )
    asking = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    asking |= {"SWEEPER_ROOT": root} if root else {}
    out = cwd / "completed"
    subprocess.run([sys.executable, "-c", program, str(out)], env=os.environ | asking, cwd=cwd, check=True, timeout=60)
    found = [word.strip() for word in out.read_text().split("\n")]
    out.unlink()
    return found


def test_a_shell_completes_commands_options_sweeps_and_presets(tmp_path: Path) -> None:
    for name in ("birds", "bees", ".deleted"):
        (tmp_path / "sweeps" / name).mkdir(parents=True)
        (tmp_path / "sweeps" / name / "spec.yaml").write_text(f"name: {name}")
    (tmp_path / "mine.yaml").write_text("name: a")
    (tmp_path / "tidy.txt").write_text("")
    assert completed("sweeper data dis", cwd=tmp_path) == ["distance"]
    assert completed("sweeper status ", cwd=tmp_path)[-2:] == ["bees", "birds"]
    assert completed("sweeper resume --root sweeps/../sweeps be", cwd=tmp_path, root="elsewhere") == ["bees"]
    assert completed("sweeper run ti", cwd=tmp_path) == ["tiny"]
    assert completed("sweeper run m", cwd=tmp_path) == ["mine.yaml"]
    assert completed("sweeper pareto birds --at-", cwd=tmp_path) == ["--at-least", "--at-most"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_asks_sweeper(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "sweeper" in script
    assert "_ARGCOMPLETE" in script
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0


# --- failures under --json


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict, str]:
    code = main.main(words)
    captured = capsys.readouterr()
    (error,) = json.loads(captured.out).values()
    assert error["exit_code"] == code
    return code, error, captured.err


def test_every_slip_of_a_spec_is_an_entry_with_its_place_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sweep.yaml").write_text("name: a\nspace: {lamda: 1, rank: 0}\n")
    code, error, said = told(["validate", str(tmp_path / "sweep.yaml"), "--json"], capsys)
    assert (code, error["kind"]) == (2, "Faults")
    assert [(slip["place"], slip["line"]) for slip in error["places"]] == [("space.lamda", 2), ("space.rank", 2)]
    assert error["places"][0]["message"].startswith("space.lamda is unknown. Did you mean 'lambda'?")
    assert error["message"] == said.rstrip("\n")


@pytest.mark.parametrize(
    "words", [["status", "nobody"], ["resume", "a/b"], ["pull", "x@knee", "-o", "y"], ["stop", "x"]]
)
def test_a_slip_has_its_message_and_its_mend(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error, said = told([*words, "--json", "--root", str(tmp_path)], capsys)
    assert (code, error["message"]) == (2, said.rstrip("\n"))
    assert "'sweeper list' shows those there are" in error["mend"]


def test_what_argparse_refuses_is_an_object_too(capsys: pytest.CaptureFixture[str]) -> None:
    code, error, said = told(["resume", "--json", "--trials", "many"], capsys)
    assert (code, error["kind"]) == (2, "Usage")
    assert "invalid int value: 'many'" in said
    assert main.main(["resume", "--trials", "many"]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("fault", "code", "kind"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (Paused("the disk is full. Make room, then resume."), 3, "Paused"),
        (ZeroDivisionError("by zero"), 1, "unexpected"),
    ],
)
def test_an_interrupt_and_a_fault_of_ours_are_objects_too(
    fault: BaseException, code: int, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(asked: argparse.Namespace) -> int:
        raise fault

    monkeypatch.setattr(looking, "list_sweeps", fails)
    assert (found := told(["list", "--json"], capsys))[0] == code
    assert found[1]["kind"] == kind
    if kind == "unexpected":
        assert found[1]["message"] == "ZeroDivisionError: by zero"
        assert "Traceback" in found[2]
        with pytest.raises(ZeroDivisionError):
            main.main(["list"])


def test_the_mend_is_what_follows_the_first_sentence() -> None:
    assert failures.error_of(UserError("x.yaml is no file. Give its path."))["error"]["mend"] == "Give its path."
    assert failures.error_of(UserError("nothing to say"))["error"]["mend"] is None
