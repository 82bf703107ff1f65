"""A cluster.yaml as our rules look at it, and what Ray itself says of it. Needs no cloud and no network."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.errors import UserError
from sweeper.spec import yaml_text as yaml
from sweeper.spec.faults import Faults, KeyPath, dotted

LISTS = (
    *("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands"),
)
HEAD, WORKER = "head", "worker"
NEEDED: tuple[tuple[str, ...], ...] = (("cluster_name",), ("provider", "type"))
_OF_A_SWEEP = ("space", "objectives", "search")
PLACEHOLDER = "CHANGE-ME"


@dataclass(frozen=True)
class Finding:
    """One thing that is not well: where, what was found, how to mend it. A `note` does not forbid `ray up`."""

    keys: KeyPath
    found: str
    mend: str
    note: bool = False


@dataclass(frozen=True)
class ClusterFile:
    """The values of a cluster.yaml, with the lines they stand on."""

    path: Path
    document: yaml.YamlMapping

    @property
    def values(self) -> dict[str, Any]:
        """As written."""
        return self.document.values

    @property
    def provider(self) -> str:
        """`aws`, `gcp`, `local`, ..."""
        return str(self.get("provider", "type") or "")

    def get(self, *keys: str) -> Any:
        """The value at `keys`, None where there is none."""
        value: Any = self.values
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    @property
    def has_workers(self) -> bool:
        """Whether there can be a node beside the head."""
        return bool(self.get("max_workers") != 0)

    def node_types(self) -> Iterator[tuple[str, KeyPath, Mapping[str, Any]]]:
        """`(role, keys, node_config)` of each node type."""
        for name, kind in (self.get("available_node_types") or {}).items():
            role = HEAD if name == self.get("head_node_type") else WORKER
            config = kind.get("node_config") if isinstance(kind, Mapping) else None
            yield role, ("available_node_types", name, "node_config"), config or {}

    def commands(self, *lists: str) -> Iterator[tuple[KeyPath, str]]:
        """Each command of these lists (default: of all), with its place."""
        for name in lists or LISTS:
            for index, command in enumerate(self.get(name) or ()):
                yield (name, index), str(command)

    def texts(self) -> Iterator[tuple[KeyPath, str]]:
        """Every text in the file, with its place."""
        yield from _texts(self.values, ())

    def where(self, finding: Finding) -> str:
        """`cluster.yaml:14: provider.region`."""
        line = self.document.line(finding.keys)
        return ":".join([self.path.name, *([str(line)] if line else [])]) + f": {dotted(finding.keys)}"


def _texts(value: Any, keys: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, (*keys, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*keys, index))
    elif isinstance(value, str):
        yield keys, value


def read(path: Path) -> ClusterFile:
    """The file, as written.

    Raises:
        UserError: it cannot be read, or is another kind of file, or lacks what every cluster file has.
        Faults: it is not plain YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise UserError(f"{path} cannot be read: {fault}. Give the path of a cluster.yaml.") from None
    document = yaml.read(text, str(path), kind="a cluster file", begin="cluster_name: my-cluster")
    if document.faults:
        raise Faults(document.faults, str(path))
    file = ClusterFile(path, document)
    _check_that_it_is_one(file)
    return file


def _check_that_it_is_one(file: ClusterFile) -> None:
    """Raises: `UserError` where Ray would fall over it, or start something else."""
    if any(key in file.values for key in _OF_A_SWEEP):
        raise UserError(
            f"{file.path} is a sweep, and --cluster takes the file of the machines: "
            f"sweeper submit {file.path} --cluster cluster.yaml"
        )
    if "apiVersion" in file.values:
        raise UserError(
            f"{file.path} is a manifest of Kubernetes ({file.get('kind')}), which Ray's launcher does not start. "
            "Do: kubectl apply, then kubectl port-forward; --cluster takes the tunnel's URL, http://127.0.0.1:8265."
        )
    for keys in NEEDED:
        if file.get(*keys) is None:
            raise UserError(
                f"{file.path}: {dotted(keys)} is missing. See cluster.yaml, which has all that a file needs."
            )


def by_ray(file: ClusterFile) -> Iterator[Finding]:
    """What Ray's own schema has against the file."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    printed = io.StringIO()  # Ray prints what it refuses, and may raise without a word
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            validate_config(prepare_config(file.values))
    except Exception as fault:  # of click, of jsonschema (which knows the place), or what a wrong type leads to
        lines = [line for line in printed.getvalue().splitlines() if line.strip()]
        message = getattr(fault, "message", str(fault)) or (lines[-1] if lines else type(fault).__name__)
        place = tuple(getattr(fault, "absolute_path", ()))
        yield Finding(place, f"Ray refuses the file: {message}", "See Ray's reference of cluster files.")
