"""The command `sweeper`. Heavy imports live inside the commands, so that `--help` is instant."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from sweeper.cli import clusters, looking, models, plugins, results, shared, sweeps
from sweeper.cli.shared import Add
from sweeper.running_code import leave_folder
from trainables.errors import UserError

TOPICS = (sweeps, looking, results, clusters, models, plugins)
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
file, 130 interrupted (143 terminated); after the last three resume goes on
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; gives the exit code. A user's slip prints one message and no traceback."""
    leave_folder()
    shared.make_printable()
    asked = _parser().parse_args(arguments)
    asked.words = sys.argv[1:] if arguments is None else arguments
    asked.root = asked.root or (Path(os.environ["SWEEPER_ROOT"]) if "SWEEPER_ROOT" in os.environ else None)
    asked.root_given = asked.root is not None
    asked.root = asked.root or Path("sweeps")
    try:
        elsewhere = getattr(asked, "there", None) if getattr(asked, "at", None) else None
        code = int((elsewhere or asked.command)(asked))
    except UserError as fault:
        print(fault, file=sys.stderr)
        return fault.exit_code
    except KeyboardInterrupt:
        print("stopped at once; what was finished is kept: sweeper list, then sweeper resume NAME", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `sweeper list | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sweeper",
        description="Sweeps of fairness-aware LoRA fine-tuning: which settings give accuracy and fairness?",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = Add(parser.add_subparsers(metavar="command", required=True))
    for topic in TOPICS:
        topic.register(add)
    return parser
