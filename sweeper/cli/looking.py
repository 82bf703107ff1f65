"""Commands that look: at sweeps and their record, at data, at this machine."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from pathlib import Path

from sweeper.cli.help.failures import error_of
from sweeper.cli.shared import Add, file_to_read, file_to_write, folder_of, spec_at
from trainables.errors import UserError

_COLUMNS = "what the columns of a table are, such as image=file,label=gender,attribute=race (race+age: both)"

_OF_SPEC = "the data of this spec, and what it asks of it"


def _columns(text: str) -> dict[str, str]:
    parts = [part.partition("=") for part in text.split(",")]
    if not all(role and name for role, _, name in parts):
        raise argparse.ArgumentTypeError(f"'{text}' is not like image=file,label=gender")
    return {role.strip(): name.strip() for role, _, name in parts}


def register(add: Add) -> None:
    """Enrol them."""
    add("status", status, of="sweep").add_argument("--follow", "-f", action="store_true", help="until it ends")
    add("list", list_sweeps)
    add("ui", ui, of="sweep").add_argument("--port", type=int, default=5000, help="on 127.0.0.1 (default: 5000)")
    add("rebuild-record", rebuild_record, of="sweep")
    add("schema", schema)
    cluster = add("doctor", doctor)
    cluster.add_argument("--cluster", type=Path, metavar="FILE", help="look at a cluster.yaml instead; needs no cloud")
    data = add.group("data", "Look at data before a sweep does")
    check = data("check", data_check)
    check.add_argument("path", type=Path, nargs="?", help="a folder, or a table of your own images")
    check.add_argument("--name", dest="dataset", help="the dataset it is (default: by its layout)")
    check.add_argument("--columns", type=_columns, default={}, metavar="ROLE=COLUMN,...", help=_COLUMNS)
    check.add_argument("--task", choices=("gender", "age"), help="utkface: what is learnt")
    check.add_argument(
        "--spec",
        dest="of_spec",
        type=file_to_read,
        metavar="FILE",
        help="the data of this spec, and what it asks of it",
    )
    first = add("init", init)
    first.add_argument("path", type=Path, help="a folder, or a table of your own images")
    first.add_argument("--columns", type=_columns, default={}, metavar="ROLE=COLUMN,...", help=_COLUMNS)
    first.add_argument("--dataset", metavar="NAME", help="the dataset it is (default: by its layout)")
    first.add_argument("--hours", type=float, default=1.0, help="that the sweep may take here (default: 1)")
    first.add_argument("-o", dest="output", type=Path, default=Path("sweep.yaml"), metavar="FILE")
    check.add_argument("--sheet", type=file_to_write, metavar="FILE.png", help="draw some images of each cell")
    check.add_argument("--manifest", type=file_to_write, metavar="FILE.csv", help="write who is in which split")
    apart = data("distance", data_distance)
    for which in ("first", "second"):
        apart.add_argument(which, metavar="DATA", help="a folder of images, a table, or digits-on-scenes")
    apart.add_argument("--backbone", default="small-vit", help="whose features (default: small-vit)")
    apart.add_argument("--weights", default="pretrained", help="as in a spec: a path, pretrained (default) or none")
    apart.add_argument("--most", type=int, metavar="N", help="of more images N of each, chosen by a hash")


def status(asked: argparse.Namespace) -> int:
    """Where a sweep stands, by its study and lease."""
    from sweeper.results.results import Results
    from sweeper.results.summary import headline
    from sweeper.results.watching import watched

    sweep_folder = folder_of(asked, asked.sweep)
    results = Results.open(sweep_folder)
    if asked.follow and not asked.json and results.state == "running":
        from sweeper.screen import live

        with watched(sweep_folder) as look:
            results = live.follow(look)
    print(json.dumps(results.to_json(), indent=2) if asked.json else headline(results))
    if not asked.json and results.spec.resources.pack == "auto":
        from sweeper.engine.packs.gain import Gain

        print(*filter(None, [Gain.kept(sweep_folder)]))
    return 0


def list_sweeps(asked: argparse.Namespace) -> int:
    """Every sweep under the root."""
    from sweeper.results.results import Results
    from sweeper.results.summary import headline
    from sweeper.state import sweep_folder

    sweeps, unread, damaged = [], [], 0
    for sweep in sweep_folder.sweeps(asked.root):
        try:
            sweeps.append(Results.open(sweep))
        except UserError as fault:  # one that is damaged does not hide the others
            print(f"{sweep.name}: {fault}", file=sys.stderr)
            unread.append({"name": sweep.name} | error_of(fault))
            damaged = damaged if isinstance(fault, sweep_folder.Unreadable) else fault.exit_code
    if asked.json:
        print(json.dumps([*(results.to_json() for results in sweeps), *unread], indent=2))
        return damaged
    for results in sweeps:
        print(textwrap.fill(headline(results), 80, subsequent_indent="  ", break_on_hyphens=False))
    if not sweeps and not damaged:
        print(f"no sweeps in {asked.root.resolve()}. Begin one: sweeper demo")
    return damaged


def ui(asked: argparse.Namespace) -> int:
    """Start MLflow on the loopback address and print links: the front, the trials, the sweep, its models."""
    from sweeper.record.serving import server
    from sweeper.state import opening

    sweep_folder = folder_of(asked, asked.sweep)
    uri = opening.record_uri(opening.open_spec(sweep_folder), asked.root)
    uuid = opening.open_study(sweep_folder).uuid
    return server.serve(uri, sweep_folder.name, uuid, asked.root / "mlartifacts", asked.port)


def rebuild_record(asked: argparse.Namespace) -> int:
    """Write a sweep's MLflow record again, from its study and folders; nothing else is touched."""
    from sweeper.record.record import rebuild

    done = rebuild(folder_of(asked, asked.sweep))
    print(json.dumps(vars(done), indent=2) if asked.json else done)
    return 0


def schema(asked: argparse.Namespace) -> int:
    """The JSON Schema of a spec, for editors."""
    from sweeper.spec import loading

    print(json.dumps(loading.schema(), indent=2))
    return 0


def doctor(asked: argparse.Namespace) -> int:
    """Check this machine (versions, devices, disk, database, ports), or a cluster file."""
    from sweeper.cli import doctor as surgery

    checks = surgery.examine_cluster(asked.cluster) if asked.cluster else surgery.examine(asked.root)
    print(json.dumps([vars(check) for check in checks], indent=2) if asked.json else surgery.report(checks))
    return 2 if any(check.verdict == "bad" for check in checks) else 0


def data_check(asked: argparse.Namespace) -> int:
    """Tell what is in data: columns, counts, bad records; exit code 2 where a sweep would stop, or a split leaks."""
    from sweeper.cli import data_check as datacheck

    spec = spec_at(asked.of_spec) if asked.of_spec else None
    checked = datacheck.check(asked.path, asked.dataset, columns=asked.columns, task=asked.task, spec=spec)
    if asked.sheet:
        datacheck.write_sheet(checked, asked.sheet)
    if asked.manifest:
        datacheck.write_manifest(checked, asked.manifest)
    print(json.dumps(checked.to_json(), indent=2) if asked.json else datacheck.report(checked))
    return 0 if checked.good else 2


def init(asked: argparse.Namespace) -> int:
    """Write a commented sweep.yaml for the data at hand, with a budget that fits this machine."""
    from sweeper.cli import first_spec

    if not asked.hours > 0:
        raise UserError(f"--hours is {asked.hours:g}. Use more than 0.")
    said = first_spec.write(asked.path, asked.columns, asked.dataset, asked.output, asked.hours)
    print(json.dumps({"file": str(asked.output), "said": said}, indent=2) if asked.json else said)
    return 0


def data_distance(asked: argparse.Namespace) -> int:
    """How far two data sets are apart: Fréchet distance in a backbone's features, and in Inception's if it is here."""
    from sweeper.cli.shared import show_table
    from sweeper.report import distance
    from trainables.backbones import BackboneConfig
    from trainables.frechet import images_of

    if asked.most is not None and asked.most < 2:
        raise UserError(f"--most is {asked.most}. Use 2 or more.")
    first, second = (images_of(source, asked.most) for source in (asked.first, asked.second))
    backbone = BackboneConfig(name=asked.backbone, weights=asked.weights)
    rows, said = distance.measure([(asked.first, first, asked.second, second)], backbone)
    if asked.json:
        print(json.dumps({"distances": rows, "notes": said}, indent=2))
        return 0
    show_table(distance.table(rows))
    for line in (*said, *distance.reasons(rows)):
        print(line)
    return 0
