"""What packs gain on the machines of a sweep: measured once, by the first actor, and kept in the sweep's folder.

A resume packs as the sweep did before, whatever its machines are then: delete `packing.json`, and it is measured anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sweeper.errors import UserError
from sweeper.state.atomic import read_json
from sweeper.state.sweep_folder import SweepFolder
from trainables.errors import FitError
from trainables.params import Params

if TYPE_CHECKING:  # torch takes seconds to import
    from trainables.finetuning import FineTuning

SCHEMA = 1
TRIED = (2, 4, 8)  # fits at once
WORTH = 1.1  # times as fast as one by one, or packs are not made


@dataclass(frozen=True)
class Gain:
    """How many times as fast fits are trained, by how many there are at once, and `why` no more of them were tried."""

    ratios: Mapping[int, float] = field(default_factory=dict)
    why: str = ""

    @property
    def most(self) -> int:
        """How many fits a pack has; 1: each is trained by itself."""
        best = max(self.ratios, key=lambda count: self.ratios[count], default=1)
        return best if self.ratios.get(best, 0.0) > WORTH else 1

    def __str__(self) -> str:
        return self.told(self.most)

    def told(self, most: int) -> str:
        """What was measured, where packs have `most` fits."""
        each = ", ".join(f"{ratio:.2f} with {count}" for count, ratio in self.ratios.items())
        more = f"; {self.why}" if self.why else ""
        chosen = f"{most} fits at once" if most > 1 else "each fit by itself"
        return f"packing: {chosen}. Measured, times as fast as one by one: {each or 'nothing'}{more}."

    def to_json(self) -> dict[str, Any]:
        """For the sweep's folder, and for whoever measured it."""
        return {
            "schema": SCHEMA,
            "ratios": {str(count): ratio for count, ratio in self.ratios.items()},
            "why": self.why,
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Gain:
        """What `to_json` gave.

        Raises:
            UserError: a newer release wrote it.
        """
        if body["schema"] > SCHEMA:
            raise UserError("packing.json was written by a newer release. Use that one, or delete the file.")
        return cls({int(count): ratio for count, ratio in body["ratios"].items()}, body["why"])

    @classmethod
    def kept(cls, folder: SweepFolder) -> Gain | None:
        """What the sweep measured; None where it has not."""
        try:
            return cls.from_json(read_json(folder.packing, "Delete it: then it is measured anew."))
        except FileNotFoundError:
            return None


def measured(tuning: FineTuning, params: Params, tried: Sequence[int] = TRIED) -> Gain:
    """Steps of such fits, packed and one by one in turn, of more and more at once as long as that is faster.

    Raises:
        FitError: such a fit cannot be trained even alone.
    """
    from trainables.packing import Unpackable, gain

    ratios: dict[int, float] = {}
    for count in tried:
        try:
            ratios[count] = gain(tuning, [params] * count)
        except Unpackable as fault:
            return Gain(ratios, str(fault))
        except FitError as fault:
            if fault.reason != "out-of-memory":
                raise
            return Gain(ratios, f"{count} at once need too much memory")
        if ratios[count] < max(ratios.values()):
            break
    return Gain(ratios)
