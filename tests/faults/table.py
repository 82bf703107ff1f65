"""What a storm came to: a line for each sweep, and all of them as one table."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.faults.arms import KILLS
from tests.faults.ledger import Tally


@dataclass
class Sweep:
    """One sweep's way through the storm. `starts_s`: from the start of an attempt to its first epoch."""

    number: int
    kills: dict[str, int] = field(default_factory=dict)
    attempts: int = 0
    hangs: int = 0
    gave_up: int = 0
    silent: int = 0
    wall_s: float = 0.0
    starts_s: list[float] = field(default_factory=list)
    epochs_needed: int = 0
    tally: Tally = field(default_factory=Tally)
    left_behind: int = 0

    @property
    def struck(self) -> int:
        """Kills of any kind."""
        return sum(self.kills.values())

    @property
    def survived(self) -> bool:
        """It reached its budget, and all of it is there."""
        return not self.gave_up and not self.silent and self.tally.lost == 0


def write(path: Path, sweep: Sweep) -> None:
    """Append a line."""
    with path.open("a") as file:
        file.write(json.dumps(asdict(sweep)) + "\n")


def read(path: Path) -> list[Sweep]:
    """Every finished sweep."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [Sweep(**row | {"tally": Tally(**row["tally"])}) for row in rows]


def _kinds(sweeps: Sequence[Sweep]) -> str:
    found = sum((Counter(sweep.kills) for sweep in sweeps), Counter[str]())
    return ", ".join(f"{kind} {found[kind]}" for kind in (*KILLS, *sorted(found.keys() - KILLS.keys())))


def _total(sweeps: Sequence[Sweep]) -> Tally:
    return sum((sweep.tally for sweep in sweeps), Tally())


def _of_kills(sweeps: Sequence[Sweep], count: int) -> str:
    """A count that should be 0; a 0 of n says only that the rate is below 3/n, with 95 % confidence."""
    n = sum(sweep.struck for sweep in sweeps)
    return str(count) if count or not n else f"0 (of {n}: below {300 / n:.1f} %)"


def _repeated(sweeps: Sequence[Sweep]) -> str:
    n = sum(sweep.struck for sweep in sweeps)
    back = _total(sweeps).setbacks
    return f"{sum(back) / n:.2f}, {max(back, default=0)}" if n else "-"


def _repeated_s(sweeps: Sequence[Sweep]) -> str:
    n = sum(sweep.struck for sweep in sweeps)
    back = _total(sweeps).setbacks_s
    return f"{sum(back) / n:.1f}, {statistics.median(back):.1f}, {max(back):.1f}" if back else "-"


def _starts(sweeps: Sequence[Sweep]) -> str:
    starts = [s for sweep in sweeps for s in sweep.starts_s]
    return f"{statistics.median(starts):.0f} ({min(starts):.0f} to {max(starts):.0f})" if starts else "-"


def _promise(name: str) -> Callable[[Sequence[Sweep]], str]:
    return lambda sweeps: _of_kills(sweeps, getattr(_total(sweeps), name))


ROWS: dict[str, Callable[[Sequence[Sweep]], str]] = {
    "faults injected": lambda s: str(sum(sweep.struck for sweep in s)),
    "by kind": _kinds,
    "sweeps, trials asked": lambda s: f"{len(s)}, {_total(s).asked}",
    "survived: faults after which the sweep reached its budget": lambda s: str(
        sum(sweep.struck for sweep in s if sweep.survived)
    ),
    "trials lost": _promise("lost"),
    "fits run again after a durable result": _promise("again"),
    "zombies in the study": _promise("zombies"),
    "trials beyond the budget": _promise("beyond"),
    "MLflow duplicates": _promise("duplicates"),
    "MLflow orphans (RUNNING, no holder)": _promise("orphans"),
    "stores that disagree": _promise("disagreements"),
    "silent successes (exit 0, budget not reached)": lambda s: _of_kills(s, sum(sweep.silent for sweep in s)),
    "sweeps that could not be gone on with": lambda s: _of_kills(s, sum(sweep.gave_up for sweep in s)),
    "hung until ended by hand": lambda s: _of_kills(s, sum(sweep.hangs for sweep in s)),
    "epochs repeated per fault: mean; worst of a fit": _repeated,
    "seconds done again: mean per fault; median, worst of a fit that went back": _repeated_s,
    "epochs run, needed": lambda s: f"{_total(s).epochs}, {sum(sweep.epochs_needed for sweep in s)}",
    "start of an attempt to its first epoch, s: median (range)": _starts,
    "wall time of the sweeps, s": lambda s: f"{sum(sweep.wall_s for sweep in s):.0f}",
}


def table(arms: Mapping[str, Sequence[Sweep]]) -> str:
    """Markdown: one row per promise, one column per arm."""
    lines = [f"| | {' | '.join(arms)} |", f"|---|{'---|' * len(arms)}"]
    lines += [f"| {said} | {' | '.join(cell(sweeps) for sweeps in arms.values())} |" for said, cell in ROWS.items()]
    broken = [said for sweeps in arms.values() for sweep in sweeps for said in _named(sweep)]
    return "\n".join([*lines, "", *broken]).rstrip() + "\n"


def _named(sweep: Sweep) -> list[str]:
    return [f"- sweep {sweep.number}: {said}" for said in sweep.tally.said if not said[0].isdigit()]
