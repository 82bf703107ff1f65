"""Commands that look after sweeps: what their fits said, their spec to begin another with, their end."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sweeper.cli.shared import Add, agreed, file_to_write, folder_of
from trainables.errors import UserError

if TYPE_CHECKING:
    from sweeper.results.fit_log import LogEntry


def register(add: Add) -> None:
    """Enrol them."""
    told = add("logs", logs, of="sweep")
    told.add_argument("trial", metavar="TRIAL", type=int, nargs="?", help="a trial's number (default: all)")
    told.add_argument("--follow", "-f", action="store_true", help="until it ends")
    copy = add("clone", clone, of="sweep")
    copy.add_argument("-o", dest="output", type=file_to_write, required=True, metavar="FILE", help="a new file")
    copy.add_argument("--name", help="of the new sweep (default: the file's name without its ending)")
    add("delete", delete, of="sweep").add_argument("--yes", action="store_true", help="do not ask")


def logs(asked: argparse.Namespace) -> int:
    """What was said in a sweep's fits, or a trial's: epochs, prints, warnings, errors. On a cluster, by the driver."""
    from sweeper.patience import until
    from sweeper.results import fit_log
    from sweeper.results.results import Results

    folder = folder_of(asked, asked.sweep)
    running = Results.open(folder).state == "running"  # refuses what is no sweep
    entries = fit_log.read(folder, asked.trial)
    if not asked.follow:
        print(json.dumps([vars(entry) for entry in entries], indent=2) if asked.json else _lines(entries))
        return 0
    seen: set[LogEntry] = set()

    def tell() -> bool:
        """Say what is new; whether the sweep has ended."""
        nonlocal running
        ended = not running
        new = [entry for entry in fit_log.read(folder, asked.trial) if entry not in seen]
        seen.update(new)
        for entry in new:
            print(json.dumps(vars(entry)) if asked.json else entry, flush=True)
        running = Results.open(folder).state == "running"
        return ended  # known before the last look, so that nothing is missed

    until(tell, every_s=1.0)
    return 0


def _lines(entries: Iterable[object]) -> str:
    return "\n".join(map(str, entries)) or "nothing was said yet."


def clone(asked: argparse.Namespace) -> int:
    """Write the spec of a sweep to a file, under a new name, to edit and begin another with."""
    from sweeper.spec import loading
    from sweeper.state import opening
    from trainables.files import write_text

    spec = opening.open_spec(folder_of(asked, asked.sweep))
    name = asked.name or asked.output.stem.lower()
    if asked.output.exists():
        raise UserError(f"{asked.output} is there already. Move it away, or write to another file: -o FILE.")
    if (asked.root / name).exists():
        raise UserError(f"the new sweep would be called '{name}', and there is one of this name. Choose: --name NAME.")
    copy = loading.changed(spec, {"name": name})
    write_text(asked.output, f"# As '{spec.name}' was asked. Begin it: sweeper run FILE\n{loading.short(copy)}")
    told = {"file": str(asked.output), "name": name}
    print(json.dumps(told) if asked.json else f"wrote {asked.output}. Edit it, then: sweeper run {asked.output}")
    return 0


def delete(asked: argparse.Namespace) -> int:
    """Delete a sweep that nobody drives: its folder and its record. It cannot be undone."""
    from sweeper.record import deletion

    folder = folder_of(asked, asked.sweep)
    if not asked.yes and not agreed(f"delete '{folder.name}', {folder.path} and its record, for good? [y/N] "):
        print("left as it is. Without a terminal: --yes", file=sys.stderr)
        if asked.json:
            print(json.dumps({"deleted": None}))
        return 1
    done = deletion.delete(folder)
    print(json.dumps({"deleted": vars(done)}, indent=2) if asked.json else done)
    return 0
