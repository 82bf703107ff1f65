"""What commands share: the spec or the sweep that was named, who listens, and how an end is told."""

from __future__ import annotations

import argparse
import codecs
import contextlib
import io
import json
import os
import re
import shlex
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from sweeper.cli.help.examples import EXAMPLES
from trainables.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from dashboards.document.document import DataTable
    from sweeper.engine.attempt import Outcome
    from sweeper.front.stability import Stability
    from sweeper.results.results import Results
    from sweeper.spec.model import SweepSpec
    from sweeper.state.sweep_folder import SweepFolder

Command = Callable[[argparse.Namespace], int]
PIPED = 200  # columns, where nobody says how many there are
POINT = "knee, most-accurate, fairest, best-calibrated, or a trial's number"


def file_to_read(text: str) -> str:
    """The type of an argument that names a file, or `-` for standard input: with --cluster its text is sent."""
    return text


def file_to_write(text: str) -> Path:
    """The type of an argument that says where to write: with --cluster, on the desk."""
    return Path(text)


_PLAIN = {"λ": "lambda", "±": "+/-", "×": "x", "→": "->", "–": "-", "−": "-", "·": "*", "≥": ">=", "≤": "<="}


def make_printable() -> None:
    """What the console's encoding has not is written with what it has: `...` for an ellipsis, `lambda` for its sign."""
    codecs.register_error("sweeper.plain", _plainly)
    for stream in (sys.stdout, sys.stderr):
        # As Python opens them: strict, under the C locale surrogateescape; standard error backslashreplace.
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape", "backslashreplace"):
            stream.reconfigure(errors="sweeper.plain")


def _plainly(fault: UnicodeError) -> tuple[str, int]:
    if not isinstance(fault, UnicodeEncodeError):
        raise fault
    signs = fault.object[fault.start : fault.end]
    said = "".join(_PLAIN.get(sign) or unicodedata.normalize("NFKD", sign) for sign in signs)
    bare = "".join(sign for sign in said if not unicodedata.combining(sign))
    return bare.encode("ascii", "replace").decode(), fault.end


class Usage(UserError):
    """What was typed is no command."""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are told like all others, under `--json` too."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse.

        Raises:
            Usage: always.
        """
        raise Usage(f"{self.format_usage()}{self.prog}: error: {message}")


class Add:
    """Enrols commands, `add(name, function)`, whose help is the function's docstring."""

    def __init__(self, commands: argparse._SubParsersAction[Parser], before: str = "") -> None:
        self._commands, self._before = commands, before
        self.made: dict[str, Parser] = {}  # by all words of the command

    def __call__(self, name: str, command: Command, *, of: Literal["spec", "sweep"] | None = None) -> Parser:
        """The parser of the new command, for options of its own. `of` says what it is about."""
        text = command.__doc__ or ""
        whole = f"{self._before}{name}"
        sub = self._commands.add_parser(
            name,
            help=text.partition("\n")[0].rstrip("."),
            description=textwrap.fill(text, 100),
            epilog="\n".join(["examples:", *(f"  {line}" for line in EXAMPLES.get(whole, ()))]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.made[whole] = sub
        sub.set_defaults(command=command)
        if of == "spec":
            sub.add_argument(
                "spec", type=file_to_read, help="a sweep.yaml, the name of a shipped preset, or - for standard input"
            )
            sub.add_argument("--name", help="call the sweep so, whatever the file says")
            sub.add_argument("--data", type=Path, metavar="FOLDER", help="where your copy of the data is")
        if of == "sweep":
            sub.add_argument("sweep", metavar="NAME", help="the sweep's name")
        sub.add_argument("--root", type=Path, default=None, help="where sweeps are kept (default: ./sweeps)")
        sub.add_argument("--json", action="store_true", help="print JSON on standard output, nothing else there")
        return sub

    def group(self, name: str, text: str) -> Add:
        """Commands under a common first word."""
        group = Add(self._commands.add_parser(name, help=text).add_subparsers(required=True), f"{name} ")
        group.made = self.made
        return group


def spec_of(asked: argparse.Namespace) -> SweepSpec:
    """The spec of a file, or of a preset by its name, with what the command line changes."""
    from sweeper.spec import loading, presets

    found = spec_at(str(presets.path(asked.spec)) if asked.spec in presets.names() else asked.spec)
    changes = {"name": asked.name} if asked.name else {}
    changes |= {"storage.root": str(asked.root)} if asked.root_given else {}
    changes |= {"data.root": str(asked.data)} if asked.data else {}
    for key, variable in (("study", "SWEEPER_STUDY"), ("mlflow", "SWEEPER_MLFLOW")):  # as a cluster's head sets them
        if getattr(found.storage, key) is None and variable in os.environ:
            changes[f"storage.{key}"] = os.environ[variable]
    return loading.changed(found, changes) if changes else found


def spec_at(place: str) -> SweepSpec:
    """The spec of a file, or of standard input where `place` is `-`."""
    from sweeper.spec import loading

    return loading.parse(typed(), "standard input") if place == "-" else loading.load(place)


def typed() -> str:
    """Standard input, which is UTF-8 as a file would be, whatever the console's encoding is.

    Raises:
        UserError: it is not.
    """
    if not isinstance(sys.stdin, io.TextIOWrapper):
        return sys.stdin.read()
    try:
        return str(sys.stdin.buffer.read(), "utf-8")
    except UnicodeDecodeError as fault:
        raise UserError(f"standard input is not text in UTF-8 (byte {fault.start}).") from None


def folder_of(asked: argparse.Namespace, name: str) -> SweepFolder:
    """The folder of the sweep `name`; a name is never a path."""
    from sweeper.spec.model import NAME
    from sweeper.state.sweep_folder import SweepFolder

    if not re.match(NAME, name):
        raise UserError(f"'{name}' is not a sweep's name. 'sweeper list' shows those there are.")
    return SweepFolder(asked.root / name)


def point_of(asked: argparse.Namespace) -> tuple[str, str]:
    """The sweep and the point that `NAME@POINT` names; of a sweep alone the knee."""
    name, _, which = asked.point.partition("@")
    return name, which or "knee"


def agreed(question: str) -> bool:
    """Whether somebody said yes; where nobody can answer, nobody did. It is asked on standard error."""
    print(question, end="", file=sys.stderr, flush=True)
    with contextlib.suppress(EOFError):
        return input().strip().lower() in ("y", "yes")
    return False


def show_outcome(outcome: Outcome, folder: SweepFolder, asked: argparse.Namespace) -> int:
    from sweeper.results.summary import duration

    if asked.json:
        print(
            json.dumps(outcome.results.to_json() | {"exit_code": outcome.exit_code, "notes": outcome.notes}, indent=2)
        )
        return outcome.exit_code
    results, name = outcome.results, outcome.results.spec.name
    choice = None if results.state == "paused" else results.recommendation()
    show_front(results, None if choice is None else choice.stability)
    if choice is not None:
        say(str(choice))
    for note in outcome.notes:
        print(note)
    here = "" if folder.path.parent == Path("sweeps").resolve() else f" --root {shlex.quote(str(folder.path.parent))}"
    if results.state == "paused":
        print(f"paused; nothing is lost. Go on with: sweeper resume {name}{here}")
        return outcome.exit_code
    if results.progress.elapsed_s:
        print(f"took {duration(results.progress.elapsed_s)}.")
    if results.front:
        go_on = {f"report {name}": "one HTML file that opens offline", f"ui {name}": "every trial in a browser"}
        go_on[f"pull {name}@knee -o {name}-knee"] = "this point as a folder for plain peft"
        longest = max(len(command) for command in go_on)
        lines = [f"  sweeper {command + here:<{longest + len(here)}}  # {what}" for command, what in go_on.items()]
        if max(map(len, lines)) > output().width:
            lines = [f"  sweeper {command + here}" for command in go_on]
        print("\n".join(["Go on with:", *lines]))
    return outcome.exit_code


def show_front(results: Results, stability: Stability | None = None, bounds: Mapping[str, float] | None = None) -> None:
    from sweeper.results import held_out, summary
    from sweeper.screen import tables

    console = output()
    print(summary.headline(results))
    if results.front:
        on_front = None if stability is None else stability.on_front
        measured = held_out.read(results)
        console.print(tables.front_table(results.front_rows, "Pareto front", measured, on_front, width=console.width))
        say(results.against_baseline(bounds))
    say(summary.CAVEAT + (f" {summary.SMOKE}" if results.spec.data.name == "digits-on-scenes" else ""))


def show_table(table: DataTable) -> None:
    """A report's table on the terminal."""
    from rich.table import Table as Drawn
    from rich.text import Text

    from dashboards.document.document import plain

    drawn = Drawn(caption=table.caption, caption_justify="left", header_style="bold")
    for column, name in enumerate(table.head):
        drawn.add_column(name, justify="left" if column in table.words else "right")
    for row in table.rows:
        drawn.add_row(*(Text(plain(cell)) for cell in row))
    output().print(drawn)


def say(text: str) -> None:
    """Sentences, on a terminal broken between words."""
    console = output()
    lines = text.splitlines()
    print("\n".join(textwrap.fill(line, console.width) if console.is_terminal else line for line in lines))


def output() -> Console:
    """Standard output; a file or a pipe is wide enough for every table."""
    from rich.console import Console

    console = Console(soft_wrap=True)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED
    return console
