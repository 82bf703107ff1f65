"""The command `sweeper`. Heavy imports live inside the commands, so that `--help` is instant."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.errors import UserError

if TYPE_CHECKING:
    from sweeper.attempt import Outcome
    from sweeper.folder import SweepFolder
    from sweeper.spec import SweepSpec

EXAMPLES = """examples:
  sweeper demo                    a real sweep on handwritten digits, in minutes
  sweeper validate sweep.yaml     every fault of the file at once
  sweeper plan sweep.yaml         trials, waves, and how long they will take here
  sweeper run sweep.yaml          search; Ctrl-C pauses
  sweeper resume NAME             go on; --trials 64 gives a larger budget
  sweeper pareto NAME             the front
  sweeper ui NAME                 the record in a browser
  sweeper data check PATH         what is in a folder of data, before a sweep is spent on it

exit codes: 0 good, 1 some trials failed, 2 bad input, 130 interrupted (143 terminated): resume goes on
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; gives the exit code. A user's slip prints one message and no traceback."""
    asked = _parser().parse_args(arguments)
    asked.root = asked.root or (Path(os.environ["SWEEPER_ROOT"]) if "SWEEPER_ROOT" in os.environ else None)
    asked.root_given = asked.root is not None
    asked.root = asked.root or Path("sweeps")
    try:
        code = int(asked.command(asked))
    except UserError as fault:
        print(fault, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped at once; what was finished is kept: sweeper list, then sweeper resume NAME", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `sweeper list | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


# --- the commands


def demo(asked: argparse.Namespace) -> int:
    """Run the shipped demonstration, under the first free name."""
    names = (f"demo-{i}" if i > 1 else "demo" for i in itertools.count(1))
    asked.name = next(name for name in names if not (asked.root / name).exists())
    asked.spec, asked.data = "digits-demo", None
    return _begin(_spec(asked), asked)


def validate(asked: argparse.Namespace) -> int:
    """Say every fault of a spec at once, or that there is none."""
    spec = _spec(asked)
    print(json.dumps(spec.model_dump(mode="json"), indent=2) if asked.json else f"{asked.spec} is good.")
    return 0


def plan(asked: argparse.Namespace) -> int:
    """Show what a spec would do here, timed by a real epoch."""
    from sweeper import planning

    made = planning.plan(_spec(asked))
    print(json.dumps(made.to_json(), indent=2) if asked.json else made)
    return 0


def run(asked: argparse.Namespace) -> int:
    """Begin a sweep."""
    return _begin(_spec(asked), asked)


def resume(asked: argparse.Namespace) -> int:
    """Finish what is left of a sweep."""
    from sweeper import driver, view

    folder = _folder(asked)
    spec = view.open_spec(folder)
    with _listener(spec, asked) as listener:
        outcome = driver.resume(folder, listener, trials=asked.trials)
    return _show_outcome(outcome, spec, folder, asked)


def status(asked: argparse.Namespace) -> int:
    """Where a sweep stands, by its study and lease."""
    from sweeper import screen, view

    folder = _folder(asked)
    snapshot, *_ = view.look(folder)
    print(json.dumps(snapshot.to_json(), indent=2) if asked.json else screen.headline(snapshot))
    if asked.follow and not asked.json:
        screen.watch(lambda: view.look(folder)[0])
    return 0


def list_sweeps(asked: argparse.Namespace) -> int:
    """Every sweep under the root."""
    from sweeper import folder, screen, view

    snapshots = [view.look(sweep)[0] for sweep in folder.sweeps(asked.root)]
    if asked.json:
        print(json.dumps([snapshot.to_json() for snapshot in snapshots], indent=2))
        return 0
    for snapshot in snapshots:
        print(screen.headline(snapshot))
    if not snapshots:
        print(f"no sweeps in {asked.root.resolve()}. Begin one: sweeper demo")
    return 0


def pareto(asked: argparse.Namespace) -> int:
    """The front of a sweep, with its test numbers apart."""
    from sweeper import heldout, summary, view

    folder = _folder(asked)
    snapshot, trials, front, spec = view.look(folder)
    if asked.json:
        held_out = {
            str(n): {k: list(v) for k, v in row.items()} for n, row in heldout.read(folder, spec, trials).items()
        }
        shown = summary.plain({"front": snapshot.front, "hypervolume": snapshot.hypervolume, "held_out": held_out})
        print(json.dumps(shown, indent=2))
        return 0
    _show_front(snapshot, trials, front, spec, folder)
    return 0


def ui(asked: argparse.Namespace) -> int:
    """Start MLflow on the loopback address and print the link that opens the front."""
    from sweeper import view, webui

    folder = _folder(asked)
    uri = view.record_uri(view.open_spec(folder), asked.root)
    return webui.serve(uri, folder.name, asked.root / "mlartifacts", asked.port)


def schema(asked: argparse.Namespace) -> int:
    """The JSON Schema of a spec, for editors."""
    from sweeper import spec

    print(json.dumps(spec.schema(), indent=2))
    return 0


def doctor(asked: argparse.Namespace) -> int:
    """Check this machine: versions, devices, disk, database, ports."""
    from sweeper import doctor as surgery

    checks = surgery.examine(asked.root)
    print(json.dumps([vars(check) for check in checks], indent=2) if asked.json else surgery.report(checks))
    return 2 if any(check.verdict == "bad" for check in checks) else 0


def data_check(asked: argparse.Namespace) -> int:
    """Tell what is in a folder of data: counts, bad records, leaks; exit code 2 where a sweep would stop."""
    from sweeper import datacheck

    finding = datacheck.check(asked.path, asked.dataset)
    if asked.sheet:
        datacheck.write_sheet(finding, asked.sheet)
    if asked.manifest:
        datacheck.write_manifest(finding, asked.manifest)
    print(json.dumps(finding.to_json(), indent=2) if asked.json else datacheck.report(finding))
    return 0 if finding.refusal is None else 2


# --- what they share


def _spec(asked: argparse.Namespace) -> SweepSpec:
    """The spec of a file, or of a preset by its name, with what the command line changes."""
    from sweeper import presets
    from sweeper import spec as specs

    found = specs.load(presets.path(asked.spec) if asked.spec in presets.names() else asked.spec)
    changes = {"name": asked.name} if asked.name else {}
    changes |= {"storage.root": str(asked.root)} if asked.root_given else {}
    changes |= {"data.root": str(asked.data)} if asked.data else {}
    return specs.changed(found, changes) if changes else found


def _folder(asked: argparse.Namespace) -> SweepFolder:
    """The sweep's folder; a name is never a path."""
    from sweeper.folder import SweepFolder
    from sweeper.spec import NAME

    if not re.match(NAME, asked.sweep):
        raise UserError(f"'{asked.sweep}' is not a sweep's name. 'sweeper list' shows those there are.")
    return SweepFolder(asked.root / asked.sweep)


def _listener(spec: SweepSpec, asked: argparse.Namespace) -> Any:
    from rich.console import Console

    from sweeper import screen

    console = Console(stderr=True)
    return screen.LiveTable(spec, console) if console.is_terminal and not asked.json else screen.Lines(spec)


def _begin(spec: SweepSpec, asked: argparse.Namespace) -> int:
    from sweeper import driver
    from sweeper.folder import SweepFolder

    with _listener(spec, asked) as listener:
        outcome = driver.run(spec, listener)
    return _show_outcome(outcome, spec, SweepFolder(Path(spec.storage.root) / spec.name), asked)


def _show_outcome(outcome: Outcome, spec: SweepSpec, folder: SweepFolder, asked: argparse.Namespace) -> int:
    from sweeper import screen

    if asked.json:
        print(
            json.dumps(outcome.snapshot.to_json() | {"exit_code": outcome.exit_code, "notes": outcome.notes}, indent=2)
        )
        return outcome.exit_code
    _show_front(outcome.snapshot, outcome.trials, outcome.front, spec, folder)
    for note in outcome.notes:
        print(note)
    here = "" if folder.path.parent == Path("sweeps").resolve() else f" --root {folder.path.parent}"
    if outcome.snapshot.state == "paused":
        print(f"paused; nothing is lost. Go on with: sweeper resume {spec.name}{here}")
    else:
        print(f"took {screen.duration(outcome.snapshot.elapsed_s)}. Look at the record: sweeper ui {spec.name}{here}")
    return outcome.exit_code


def _show_front(snapshot: Any, trials: Any, front: Any, spec: SweepSpec, folder: SweepFolder) -> None:
    from rich.console import Console

    from sweeper import heldout, screen, summary

    console = Console(soft_wrap=True)
    print(screen.headline(snapshot))
    if snapshot.front:
        console.print(screen.front_table(snapshot.front, "Pareto front", heldout.read(folder, spec, trials)))
        print(summary.against_baseline(trials, spec, front))
    print(summary.CAVEAT + (f" {summary.SMOKE}" if spec.data.name == "digits-on-scenes" else ""))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sweeper",
        description="Sweeps of fairness-aware LoRA fine-tuning: which settings give accuracy and fairness?",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="command", required=True)

    def add(name: str, command: Any, *, of: str | None = None, to: Any = commands) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = to.add_parser(
            name, help=command.__doc__.rstrip("."), description=command.__doc__
        )
        sub.set_defaults(command=command)
        if of == "spec":
            sub.add_argument("spec", help="a sweep.yaml, or the name of a shipped preset")
            sub.add_argument("--name", help="call the sweep so, whatever the file says")
            sub.add_argument("--data", type=Path, metavar="FOLDER", help="where your copy of the data is")
        if of == "sweep":
            sub.add_argument("sweep", metavar="NAME", help="the sweep's name")
        sub.add_argument("--root", type=Path, default=None, help="where sweeps are kept (default: ./sweeps)")
        sub.add_argument("--json", action="store_true", help="print JSON on standard output, nothing else there")
        return sub

    add("demo", demo)
    for name, command in (("validate", validate), ("plan", plan), ("run", run)):
        add(name, command, of="spec")
    add("resume", resume, of="sweep").add_argument("--trials", type=int, help="a larger budget")
    add("status", status, of="sweep").add_argument("--follow", "-f", action="store_true", help="until it ends")
    add("list", list_sweeps)
    add("pareto", pareto, of="sweep")
    add("ui", ui, of="sweep").add_argument("--port", type=int, default=5000, help="on 127.0.0.1 (default: 5000)")
    add("schema", schema)
    add("doctor", doctor)
    data = commands.add_parser("data", help="Look at data before a sweep does").add_subparsers(required=True)
    check = add("check", data_check, to=data)
    check.add_argument("path", type=Path, help="a folder, or a CSV file of your own images")
    check.add_argument("--name", dest="dataset", help="the dataset it is (default: by its layout)")
    check.add_argument("--sheet", type=Path, metavar="FILE.png", help="draw some images of each cell")
    check.add_argument("--manifest", type=Path, metavar="FILE.csv", help="write who is in which split")
    return parser
