"""The command `sweeper`. Heavy imports live inside the commands, so that `--help` is instant."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

from sweeper.cli import clusters, keeping, looking, models, plugins, results, shared, sweeps
from sweeper.cli.help import completion, failures
from sweeper.cli.shared import Add
from sweeper.running_code import leave_folder
from trainables.errors import UserError

TOPICS = (sweeps, looking, results, keeping, models, plugins, completion, clusters)
EXAMPLES = """examples:
  sweeper demo                    a real sweep on handwritten digits, in minutes
  sweeper validate sweep.yaml     every fault of the file at once
  sweeper plan sweep.yaml         trials, waves, and how long they will take here
  sweeper run sweep.yaml          search; Ctrl-C pauses
  sweeper resume NAME             go on; --trials 64 gives a larger budget
  sweeper pareto NAME             the front
  sweeper ui NAME                 the record in a browser
  sweeper data check PATH         what is in a folder of data, before a sweep is spent on it
  sweeper init PATH               a commented sweep.yaml for it

exit codes: 0 good, 1 some trials failed, 2 bad input, 3 paused by a full disk, a store that is away or a damaged
file, 130 interrupted (143 terminated, 129 terminal closed); then resume goes on
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; gives the exit code. A user's slip prints one message and no traceback.

    Under `--json` a failure is one object on standard output too: see `failures`.
    """
    leave_folder()
    shared.make_printable()
    words = sys.argv[1:] if arguments is None else arguments
    with failures.told(json_too="--json" in words) as failure:
        failure.exit_code = _run(words)
    return failure.exit_code


def _run(words: list[str]) -> int:
    parser = _parser()
    completion.answer(parser)
    asked = parser.parse_args(words)
    if asked.version:
        return _version(as_json=asked.json_version)
    if not hasattr(asked, "command"):
        raise UserError(f"{parser.format_usage()}a command is missing. Those there are: sweeper --help")
    asked.words = words
    asked.root = asked.root or (Path(os.environ["SWEEPER_ROOT"]) if "SWEEPER_ROOT" in os.environ else None)
    asked.root_given = asked.root is not None
    asked.root = asked.root or Path("sweeps")
    elsewhere = getattr(asked, "there", None) if getattr(asked, "at", None) else None
    return int((elsewhere or asked.command)(asked))


def _parser() -> argparse.ArgumentParser:
    parser = shared.Parser(
        prog="sweeper",
        description="Sweeps of fairness-aware LoRA fine-tuning: which settings give accuracy and fairness?",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="of sweeper; with --json also what it runs on")
    parser.add_argument("--json", dest="json_version", action="store_true", help=argparse.SUPPRESS)
    add = Add(parser.add_subparsers(metavar="command"))
    for topic in TOPICS:
        topic.register(add)
    return parser


def _version(*, as_json: bool) -> int:
    from importlib import metadata

    if not as_json:
        print(f"sweeper {metadata.version('sweeper')}")
        return 0
    names = ("sweeper", "torch", "ray", "optuna", "mlflow", "timm", "open_clip_torch", "peft")
    print(
        json.dumps({name: metadata.version(name) for name in names} | {"python": platform.python_version()}, indent=2)
    )
    return 0
