"""Completion of commands, options, sweeps and presets by the shell. The only door to argcomplete.

A shell asks by running `sweeper` with `_ARGCOMPLETE` set: nothing of this costs any other start.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

from sweeper.cli.shared import Add

SHELLS = ("bash", "zsh", "fish")


def register(add: Add) -> None:
    """Enrol the command."""
    add("completion", completion).add_argument("shell", choices=SHELLS, help="yours")


def completion(asked: argparse.Namespace) -> int:
    """Print what a shell needs to complete commands, options, and names of sweeps and presets."""
    import argcomplete.shell_integration

    print(argcomplete.shell_integration.shellcode(["sweeper"], shell=asked.shell))
    return 0


def answer(parser: argparse.ArgumentParser) -> None:
    """Where a shell asks, tell it how the line may go on, and end the process."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    import argcomplete

    for action in _actions(parser):
        if action.metavar in ("NAME", "NAME@POINT") and not action.option_strings:
            action.completer = _sweeps  # type: ignore[attr-defined]  # where argcomplete looks for it
        elif action.dest == "spec":
            action.completer = _specs  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser)


def _actions(parser: argparse.ArgumentParser) -> Iterable[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)
        else:
            yield action


def _sweeps(parsed_args: argparse.Namespace, **_: object) -> list[str]:
    root = getattr(parsed_args, "root", None) or Path(os.environ.get("SWEEPER_ROOT", "sweeps"))
    return sorted(spec.parent.name for spec in root.glob("[!.]*/spec.yaml"))


def _specs(prefix: str, **_: object) -> list[str]:
    from argcomplete.completers import FilesCompleter

    presets = Path(__file__).parent.parent.parent / "spec" / "presets"  # by their files: the module would cost imports
    files = FilesCompleter(("yaml", "yml"))(prefix)
    return [*sorted(path.stem for path in presets.glob("*.yaml")), *map(str, files)]
