"""Commands about clusters: sweeps on one, from here, and the services on its head.

`--cluster FILE` (or SWEEPER_CLUSTER) on a command runs the very same command on the head; files that it writes come
home, a file that it reads is sent.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.cli.shared import Add, Parser, agreed, file_to_read, file_to_write, folder_of, point_of, spec_of, typed
from trainables.errors import UserError

if TYPE_CHECKING:
    from sweeper.cluster.errand import Errand
    from sweeper.cluster.head import Head
    from sweeper.cluster.jobs import Cluster

LOOKING = (
    "status",
    "list",
    "pareto",
    "stop",
    "report",
    "compare",
    "paper",
    "export",
    "pull",
    "audit",
    "clone",
    "narrow",
)
LOOKING_IF_ASKED = ("validate", "data check", "data distance")  # not by SWEEPER_CLUSTER: the data may be here
_AT = "a cluster.yaml, or the URL of a tunnel to a cluster's dashboard"


def register(add: Add) -> None:
    """Enrol them, after all others: some of those get a way to the cluster."""
    stopping = add("stop", stop, of="sweep")
    stopping.add_argument("--now", action="store_true", help="do not wait for the epochs on their way")
    for name in (*LOOKING, "rebuild-record"):
        _at(add.made[name]).set_defaults(there=look)
    for name in LOOKING_IF_ASKED:
        _at(add.made[name], always=False).set_defaults(there=look)
    for name, there in (
        ("resume", resume_there),
        ("confirm", point_there),
        ("more", point_there),
        ("try", resume_there),
        ("logs", logs_there),
    ):
        _at(add.made[name]).set_defaults(there=there)
    for name, there in (("ui", ui_there), ("delete", delete_there)):
        _at(add.made[name]).set_defaults(there=there)
    _at(add("submit", submit, of="spec"))
    down_options = _at(add("down", down))
    down_options.add_argument("--yes", action="store_true", help="do not ask, also when a sweep runs")
    head = add.group("head", "On a cluster's head: PostgreSQL and MLflow")
    for name, command in (("up", head_up), ("down", head_down), ("status", head_status), ("run", head_run)):
        sub = head(name, command)
        sub.add_argument("shared", type=Path, help="the folder that every node sees")
        sub.add_argument("--port", type=int, default=5000, help="MLflow's, on 127.0.0.1 (default: 5000)")


def _at(parser: Parser, *, always: bool = True) -> Parser:
    default, said = (os.environ.get("SWEEPER_CLUSTER"), f"{_AT} (default: SWEEPER_CLUSTER)") if always else (None, _AT)
    parser.add_argument("--cluster", dest="at", metavar="WHERE", default=default, help=said)
    parser.set_defaults(parser=parser)
    return parser


# --- sweeps


def stop(asked: argparse.Namespace) -> int:
    """Pause a sweep that another process here drives; nothing is lost."""
    from sweeper.engine import signals

    said = signals.pause(folder_of(asked, asked.sweep), at_once=asked.now)
    print(json.dumps({"said": said}) if asked.json else said)
    return 0


def submit(asked: argparse.Namespace) -> int:
    """Begin a sweep on a cluster. The spec is sent, the data is not: its paths are the cluster's."""
    spec = spec_of(asked)
    with _cluster(asked) as cluster:
        job, new = cluster.submit(spec)
        if not new:
            print(f"'{spec.name}' was submitted before, as it is. Watch it: sweeper logs {spec.name} -f")
            return 0
        code = cluster.first_words(job, _say)
    if code == 0:
        print(f"'{spec.name}' runs on the cluster. You may close this: sweeper status, logs -f, stop {spec.name}")
    return code


def logs_there(asked: argparse.Namespace) -> int:
    """What the driver of a sweep on a cluster says, or what was said in a trial's fits."""
    if asked.trial is not None:
        return look(asked)
    with _cluster(asked) as cluster:
        job = cluster.newest(asked.sweep)
        if not asked.follow:
            _say(cluster.log(job))
            return 0
        cluster.follow(job, _say)
        return cluster.exit_code(job)


def down(asked: argparse.Namespace) -> int:
    """Take a cluster down; what is on its shared storage stays."""
    from sweeper.cluster import ray_cli

    file = _where(asked)
    if "://" in file:
        raise UserError(
            "what took the cluster up takes it down: 'sweeper down' needs the cluster file; on Kubernetes: "
            "kubectl delete raycluster sweeper"
        )
    running, unknown = ray_cli.running(file)
    if unknown:
        print(f"whether a sweep runs there is not known: {unknown}")
    if running:
        print(
            f"running there: {', '.join(running)}. Pause first (sweeper stop NAME), or pay up to a minute of each fit."
        )
    if not asked.yes and not agreed(f"take {file} down? [y/N] "):
        print("left as it is. Without a terminal: --yes")
        return 1
    ray_cli.take_down(file)
    print(f"down. Sweeps, record and database are on the shared storage; 'ray up {file}' finds them there.")
    return 0


# --- the same command, there


def look(asked: argparse.Namespace) -> int:
    """Run the command on the head."""
    return _carried(asked, _errand(asked))


def delete_there(asked: argparse.Namespace) -> int:
    """Delete a sweep on the cluster, once somebody here has said yes."""
    folder_of(asked, asked.sweep)
    if not asked.yes and not agreed(f"delete '{asked.sweep}' and its record on {_where(asked)}, for good? [y/N] "):
        print("left as it is. Without a terminal: --yes", file=sys.stderr)
        return 1
    asked.words = [*asked.words, *["--yes"] * (not asked.yes)]
    return look(asked)


def resume_there(asked: argparse.Namespace) -> int:
    """Go on with a sweep on the cluster."""
    return _drive_there(asked, asked.sweep)


def point_there(asked: argparse.Namespace) -> int:
    """Train a point again on the cluster, or with more seeds; `sweeper logs` tells what it came to."""
    return _drive_there(asked, point_of(asked)[0])


def _drive_there(asked: argparse.Namespace, name: str) -> int:
    folder_of(asked, name)  # refuses what is no name
    errand = _errand(asked)
    with _cluster(asked) as cluster:
        return cluster.first_words(cluster.resume(name, errand.words, errand.stdin), _say)


def _carried(asked: argparse.Namespace, errand: Errand) -> int:
    from sweeper.cluster import ray_cli

    return ray_cli.carried(_where(asked), errand, _say, lambda text: print(text, end="", file=sys.stderr, flush=True))


def _errand(asked: argparse.Namespace) -> Errand:
    """The command line for the head: without the way to it, a file to read as standard input, places for files.

    It is written anew from what was understood, as text: so it is exact however an option was typed.
    """
    from sweeper.cluster.errand import Errand, Place

    parser: Parser = asked.parser
    name = parser.prog.split()[1:]
    kinds = {action.dest: action.type for action in parser._actions}
    for action in parser._actions:
        action.type = None
    raw = parser.parse_args(asked.words[asked.words.index(name[0]) + len(name) :])
    words, options, names = [*name], [], []
    stdin: str | None = None
    places: list[Place] = []
    mark = secrets.token_hex(4)
    for action in parser._actions:
        value = getattr(raw, action.dest, None)
        if action.dest == "at" or value == action.default or value is None:
            continue
        if kinds[action.dest] is file_to_read and (text := _text(value)) is not None:
            value, stdin = "-", text
        elif kinds[action.dest] is file_to_write:
            places.append(Place(value, f"there-{mark}-{len(places)}"))
            value = places[-1].there
        given = value if isinstance(value, list) else [value]
        if not action.option_strings:
            words += given
            names += [each.partition("@")[0] for each in given if kinds[action.dest] is not file_to_read]
            continue
        option = action.option_strings[-1]
        if action.nargs is None:
            options += [f"{option}={each}" for each in given]
        else:  # a flag, which takes none, or one that takes several
            options += [option, *(given if action.nargs else ())]
    return Errand([*words, *options], stdin, places, names)


def _text(place: str) -> str | None:
    """What is in a file of this desk, or typed here; None for what is the name of a preset."""
    from sweeper.spec import presets

    if place == "-":
        return typed()
    if place in presets.names():
        return None
    try:
        return Path(place).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise UserError(f"{place} cannot be read: {fault}.") from None


def ui_there(asked: argparse.Namespace) -> int:
    """Open a tunnel to the head's MLflow, print the links, and keep it until told to end."""
    from sweeper.cluster import file as clusterfile
    from sweeper.cluster import ray_cli, rules
    from sweeper.patience import told_to_end, until
    from sweeper.record.serving.server import HOST, answers

    folder_of(asked, asked.sweep)
    file = _where(asked)
    if "://" in file:
        raise UserError(
            "a tunnel to MLflow needs the cluster file; or make one yourself: ssh -L 5000:127.0.0.1:5000 HEAD, "
            "on Kubernetes: kubectl port-forward service/sweeper-mlflow 5000:5000"
        )
    if answers(asked.port):
        raise UserError(f"port {asked.port} on {HOST} is taken. Free it: the head's MLflow answers to no other.")
    with told_to_end(), ray_cli.opened(file, asked.port, asked.port):
        if code := look(asked):
            return code
        shared = rules.kept_in(clusterfile.read(Path(file))) or "/shared"
        print(f"user admin; its password: {ray_cli.by_hand(file)} cat {shared}/secrets/mlflow-admin", flush=True)
        until(lambda: not answers(asked.port), every_s=1.0)
    return 0


@contextlib.contextmanager
def _cluster(asked: argparse.Namespace) -> Iterator[Cluster]:
    from sweeper.cluster import ray_cli
    from sweeper.cluster.jobs import reached

    with ray_cli.dashboard(_where(asked)) as address, reached(address) as cluster:
        yield cluster


def _where(asked: argparse.Namespace) -> str:
    if not asked.at:
        raise UserError("which cluster? Say --cluster cluster.yaml, or set SWEEPER_CLUSTER.")
    return str(asked.at)


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


# --- on the head


def head_up(asked: argparse.Namespace) -> int:
    """Start PostgreSQL and MLflow here, and keep them running. Nothing where they run."""
    _head(asked).up()
    return 0


def head_down(asked: argparse.Namespace) -> int:
    """End PostgreSQL and MLflow here. Their data stays."""
    _head(asked).down()
    return 0


def head_status(asked: argparse.Namespace) -> int:
    """Which of them run here."""
    running = _head(asked).status()
    lines = (f"{'runs' if runs else 'does not run':>12}  {name}" for name, runs in running.items())
    print(json.dumps(running, indent=2) if asked.json else "\n".join(lines))
    return 0 if all(running.values()) else 2


def head_run(asked: argparse.Namespace) -> int:
    """Be what keeps them running, in the foreground; `up` starts this."""
    _head(asked).run()
    return 0


def _head(asked: argparse.Namespace) -> Head:
    from sweeper.cluster.head import Head

    return Head(asked.shared, port=asked.port)
