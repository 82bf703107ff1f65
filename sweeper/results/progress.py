"""How the work on a sweep stands at one moment, as its driver tells whoever watches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from trainables.undefined import to_nan, to_null


@dataclass(frozen=True)
class RunningFit:
    """A fit that is out to be trained: `epoch` of `epochs` have ended, with the objectives `values`.

    `begun` is false while its worker still prepares. `left_s` are the seconds until the epoch that it is in ends, as
    far as that can be known.
    """

    number: int
    seed: int
    epoch: int
    epochs: int
    begun: bool = True
    values: Mapping[str, float] = field(default_factory=dict)
    left_s: float | None = None


@dataclass(frozen=True)
class Progress:
    """How the work on a sweep stands, as far as this process can know. Times are seconds.

    `state` is `not begun`, `running` or `paused`. `holder` is the process that drives the sweep, if it is another one.
    `why` says why it is paused. `eta_s` is the time until the last fit is trained and measured, at the pace of this
    attempt's fits without its start-up; None until that is known. `fits_ended` counts results and what needs none any
    more, of `fits_total`; `measured` of `to_measure` fits have their test numbers, once the search is over. All
    attempts together took `hours`, and held GPUs for `gpu_hours` (slots, where there are none).
    """

    state: str = "paused"
    running_fits: int = 0
    elapsed_s: float = 0.0
    eta_s: float | None = None
    holder: str | None = None
    why: str | None = None
    fits: Sequence[RunningFit] = ()
    fits_ended: int = 0
    fits_total: int = 0
    measured: int = 0
    to_measure: int = 0
    hours: float = 0.0
    gpu_hours: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """For programs and for `from_json`: nan is null."""
        body: dict[str, Any] = to_null(asdict(self))
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Any], holder: str) -> Progress:
        """What the driver `holder` noted last; as much of it as can be understood."""
        try:
            known = {name: body[name] for name in cls.__dataclass_fields__ if name in body}
            fits = tuple(RunningFit(**{**fit, "values": to_nan(fit["values"])}) for fit in known.pop("fits", ()))
            return cls(**known | {"fits": fits, "state": "running", "holder": holder})
        except (KeyError, TypeError, ValueError):  # of another release
            return cls("running", holder=holder)
