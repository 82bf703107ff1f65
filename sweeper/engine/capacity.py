"""What a cluster can come to give, by its own file: machines that are not there yet, and will come when fits wait.

Ray's `ray_bootstrap_config.yaml` on the head is the cluster file as `ray up` completed it; the head's services
name it to the jobs (SWEEPER_MACHINES). Without it, what is there is all there will be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.errors import UserError
from sweeper.spec import yaml_text


@dataclass(frozen=True)
class Machines:
    """So many machines of one kind, and what each has; None where only Ray finds out, once one has come."""

    count: int
    cpus: float | None
    gpus: float | None

    def __str__(self) -> str:
        return f"{self.count} of {self.cpus or 0:g} CPUs and {self.gpus or 0:g} GPUs"

    def fits(self, cpus: float, gpus: float) -> int:
        """How many fits they hold at once; a fit lies on one machine, never across two."""
        shares = [(self.cpus or 0.0) / cpus] if cpus else []
        shares += [(self.gpus or 0.0) / gpus] if gpus else []
        return self.count * int(min(shares, default=1.0) + 1e-9)


def promised(file: Path) -> list[Machines]:
    """The workers that the cluster of this file may have at most.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        values = yaml_text.read(file.read_text(encoding="utf-8"), str(file)).values
    except OSError as fault:
        raise UserError(
            f"{file} cannot be read: {fault.strerror}. SWEEPER_MACHINES names it; take that away."
        ) from None
    head, most = values.get("head_node_type"), int(values.get("max_workers", 0))
    kinds: Mapping[str, Any] = values.get("available_node_types") or {}
    if values["provider"]["type"] == "local":
        return [Machines(most, None, None)] if most else []
    workers = [_machines(kind, most) for name, kind in kinds.items() if name != head]
    return [kind for kind in workers if kind.count]


def _machines(kind: Mapping[str, Any], most: int) -> Machines:
    resources = kind.get("resources") or {}
    count = min(int(kind.get("max_workers", most)), most)
    return Machines(count, float(resources.get("CPU", 0)), float(resources.get("GPU", 0)))


def completed(kinds: Sequence[Machines], here: Sequence[Machines]) -> list[Machines]:
    """`kinds`, where one that only Ray knows is taken to be as the largest machine that is here."""
    cpus = max((machine.cpus or 0.0 for machine in here), default=0.0)
    gpus = max((machine.gpus or 0.0 for machine in here), default=0.0)
    return [Machines(kind.count, cpus, gpus) if kind.cpus is None else kind for kind in kinds]
