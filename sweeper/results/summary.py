"""Short texts about a sweep: what the screen, the record and the report say alike."""

from __future__ import annotations

import math

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


def headline(results: Results) -> str:
    """One line: where the sweep stands."""
    counts, progress = results.counts, results.progress
    ended = sum(counts[state] for state in ("complete", "pruned", "failed"))
    parts = [f"{results.spec.name}: {results.state}", f"{ended}/{results.spec.budget} trials"]
    parts += [f"{counts[state]} {state}" for state in ("running", "pruned", "failed") if counts[state]]
    if not math.isnan(results.hypervolume):
        parts.append(f"hypervolume {results.hypervolume:.4f}")
    if results.state == "running" and progress.elapsed_s:
        parts.append(f"{duration(progress.elapsed_s)} gone, about {duration(progress.eta_s)} to go")
    if progress.holder:
        parts.append(f"driven by {progress.holder}")
    if progress.why:
        parts.append(f"because: {progress.why}")
    return ", ".join(parts)
