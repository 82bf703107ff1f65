"""Short texts about a sweep: what the screen, the record and the report say alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it loads pandas, which takes a second
    from sweeper.results.progress import Progress
    from sweeper.results.results import Results

CAVEAT = (
    "These are validation numbers, means over the seeds with their sample standard deviation; they say how these "
    "settings did on this data, not how they will do elsewhere, and every max-min gap is biased upward in small groups."
)
SMOKE = (
    "digits-on-scenes is a smoke benchmark of handwritten digits, not evidence about vision models; its test split "
    "was looked at while it was made."
)


def duration(seconds: float | None) -> str:
    """`1 h 02 min`, `3 min 20 s`, `14 s`; `?` when unknown."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def of_trials(results: Results) -> str:
    """` of 32`: how many trials there will be at most, where the sweep is not over and that is known."""
    return f" of {results.budget}" if results.spec.search.counted and not results.over else ""


def headline(results: Results, at_work: str = "") -> str:
    """One line: where the sweep stands. `at_work`: on what, where no fit trains yet."""
    counts, progress = results.counts, results.progress
    ended = sum(counts[state] for state in ("complete", "pruned", "failed"))
    parts = [
        f"{results.spec.name}: {results.state}",
        f"{ended}{of_trials(results).replace(' of ', '/')} trials",
    ]
    if results.state == "running" and progress.fits_total:
        parts.append(f"{progress.fits_ended}/{progress.fits_total} fits")
        parts += [at_work] if at_work else _epochs(progress)
    parts += [f"{counts[state]} {state}" for state in ("running", "pruned", "failed") if counts[state]]
    if not math.isnan(results.hypervolume):
        parts.append(f"hypervolume {results.hypervolume:.4f}")
    if results.state == "running" and progress.elapsed_s:
        left = f", about {duration(progress.eta_s)} left" if progress.eta_s else ""
        parts.append(f"{duration(progress.elapsed_s)} gone{left}")
    if progress.holder:
        parts.append(f"driven by {progress.holder}")
    if progress.why:
        parts.append(f"because: {progress.why}")
    return ", ".join(parts)


def _epochs(progress: Progress) -> list[str]:
    """How far the fits are that run: each, if there are few."""
    if progress.fits_ended == progress.fits_total and progress.to_measure:
        return [f"{progress.measured} of {progress.to_measure} measured on the test split"]
    begun = [fit for fit in progress.fits if fit.begun]
    if len(begun) > 4:
        return [f"{len(begun)} fits at epoch {min(f.epoch for f in begun)} to {max(f.epoch for f in begun)}"]
    return [f"epoch {' and '.join(f'{fit.epoch}/{fit.epochs}' for fit in begun)}"] if begun else []
