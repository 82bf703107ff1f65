"""What the README says of the demo, taken from a finished run of it: `docs/front.png` and, beside it, `docs/demo.json`.

    make picture

Validation numbers. ± is the standard deviation over the seeds; an interval is of a member's delta F1 less that of plain
LoRA, 95 %, paired by seed and example, of that pair alone: `sweeper confirm` says it of seeds that chose nothing.
`python -m benchmarks.demo FOLDER` alone prints a row of the table in RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dashboards.figures import front
from dashboards.ink import paper
from sweeper.front import noise, paired
from sweeper.front.intervals import Interval
from sweeper.results.results import Results
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import Trial
from trainables.files import write_text

ACCURACY, GAP = "accuracy", "delta_f1"
DIGITS = 4


def main() -> None:
    """Print the row; write picture and numbers where they are asked for, and print what the README says then."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, help="the folder of a finished run of the demo")
    parser.add_argument("--docs", type=Path, help="the folder for front.png and demo.json")
    asked = parser.parse_args()
    results = Results.open(SweepFolder(asked.sweep))
    numbers = measured(results)
    print(row(numbers))
    if asked.docs is not None:
        draw(results, asked.docs / "front.png")
        write_text(asked.docs / "demo.json", json.dumps(numbers, indent=1, ensure_ascii=False) + "\n")
        print(caption(numbers))


def measured(results: Results) -> dict[str, Any]:
    """Plain LoRA, the recommended point, and the fairest member of the front that is surely fairer than plain LoRA."""
    plain = results.by_number[results.baseline_points()["lora"]]
    recommended, seeds = results.choice(), results.spec.search.seed_list
    assert recommended is not None, "the sweep has no front"
    intervals = {t.number: interval for t in results.members if (interval := less(results, t, plain)) is not None}
    sure = [t for t in results.members if t.number in intervals and intervals[t.number][1] < 0]
    fairest = min(sure, key=lambda trial: trial.values[GAP], default=None)
    return {
        "sweep_seed": results.spec.search.seed,
        "trials": len(results.trials),
        "seeds": len(seeds),
        "epochs": plain.params["epochs"],
        "front": len(results.members),
        "lora": _point(plain),
        "recommended": _point(results.by_number[recommended.number], intervals),
        "fairest_sure": None if fairest is None else _point(fairest, intervals),
    }


def less(results: Results, trial: Trial, plain: Trial) -> Interval | None:
    """The interval of the trial's delta F1 less plain LoRA's; None for plain LoRA itself."""
    if trial.number == plain.number:
        return None
    by_number = {fits.number: fits for fits in results.trial_fits()}
    pair = [by_number[each.number] for each in (trial, plain)]
    column = list(results.spec.objectives).index(GAP)
    resampled_B2S = noise.resampled(pair, list(results.spec.objectives), resamples=noise.RESAMPLES)[..., column]
    return paired.difference(np.array([fits.values_SM[:, column] for fits in pair]), resampled_B2S)


def _point(trial: Trial, intervals: Mapping[int, Interval] | None = None) -> dict[str, Any]:
    point: dict[str, Any] = {"number": trial.number, "label": trial.label, "params": _settings(trial)}
    for name in (ACCURACY, GAP):
        point[name] = [round(trial.values[name], DIGITS), round(trial.spread[name], DIGITS)]
    interval = (intervals or {}).get(trial.number)
    if interval is not None:
        point["less"] = [round(end, DIGITS) for end in interval]
    return point


def _settings(trial: Trial) -> dict[str, Any]:
    return {name: trial.params[name] for name in ("method", "lambda", "rank") if name in trial.params}


def draw(results: Results, path: Path) -> None:
    """The front as the README shows it."""
    choice = results.choice()
    knee = None if choice is None else choice.number
    numbers = front.front_numbers(results.summary_table, results.spec.objectives, knee=knee)
    paper.save(front.front_chart(numbers), path)


def row(numbers: Mapping[str, Any]) -> str:
    """A line of the table in RESULTS.md: plain LoRA, the recommended point, the fairest sure member."""
    points = [numbers[name] for name in ("lora", "recommended", "fairest_sure")]
    cells = [_cell(point) if point else "none" for point in points]
    return f"| {numbers['sweep_seed']} | {' | '.join(cells)} |"


def _cell(point: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{name} {value:.3g}" for name, value in point["params"].items() if name != "method")
    accuracy, gap = (_pm(point[name]) for name in (ACCURACY, GAP))
    interval = f"; {_interval(point['less'])}" if "less" in point else ""
    return f"{point['params']['method']} {settings}: {accuracy}, {gap}{interval}"


def _pm(value: tuple[float, float]) -> str:
    return f"{value[0]:.3f} ± {value[1]:.3f}"


def _interval(ends: tuple[float, float]) -> str:
    return f"{ends[0]:+.3f} to {ends[1]:+.3f}"


def caption(numbers: Mapping[str, Any]) -> str:
    """The README's sentences under the picture, on one line."""
    plain, fair, best = (numbers[name] for name in ("lora", "fairest_sure", "recommended"))
    surely = "Of no member is delta F1 lower than plain LoRA's by its 95 % interval (paired)."
    if fair is not None:
        low, high = fair["less"]
        surely = (
            "The fairest whose delta F1 is lower than plain LoRA's by its 95 % interval (paired; of that pair alone, "
            f"and it was chosen): {_pm(fair[ACCURACY])} and {_pm(fair[GAP])}, lower by {-high:.3f} to {-low:.3f}."
        )
    return (
        f"The front of the demo, `make demo`: {numbers['trials']} configurations, {numbers['seeds']} "
        "seeds each, on the embedded digits-on-scenes data. Bars, and ±, are the standard deviation over the seeds. "
        f"Plain LoRA: accuracy {_pm(plain[ACCURACY])}, delta F1 {_pm(plain[GAP])}. The recommended point: "
        f"{_pm(best[ACCURACY])} and {_pm(best[GAP])}. {surely} It is a smoke benchmark, not evidence about vision "
        f"models: {numbers['epochs']} epochs, kept short on purpose, of a model of 164,000 weights on 597 images, "
        'where always answering "0-7" scores .80 with a delta F1 of .89.'
    )


if __name__ == "__main__":
    main()
