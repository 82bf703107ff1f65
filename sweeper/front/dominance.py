"""Which trials are better than a baseline in everything, and whether it can be luck.

Of many trials some look better than the baseline by chance alone: where nothing differs from anything, four sweeps of
five have one. So each lead is tested, and the tests are corrected for how many trials were compared.

Shapes: T trials, S seeds, M objectives, B resamples of the examples, C contenders.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from sweeper.front import intervals, pareto, recommend
from sweeper.front.front import points
from sweeper.front.intervals import SURE, examples_variance
from sweeper.front.noise import Sample, seed_variances
from sweeper.front.recommend import Knee, Rule
from sweeper.trial import Trial
from trainables.arrays import Floats


def luck(sample: Sample, baseline: int, members: Sequence[int], *, own: Collection[int] = ()) -> dict[int, float]:
    """Of each member that looks better than `baseline` in everything: in what share of sweeps luck gives such a lead.

    At most in that share, if no trial of the sweep dominates the baseline; below `SURE` the lead is called real. The
    differences are taken seed by seed and example by example, for all fits have the same. A lead must be real in every
    objective, so the least sure one counts; then Holm's correction for all trials that were compared, not only those
    on the front, because the front is where the luckiest are. With one seed nothing is known, and all have 1.

    A tuned baseline has more trials, its `own`, of which `baseline` is the best by some rule. They are not compared
    with it. That it is the best of several makes it look better than it is, so luck gives a lead over it less often.
    """
    rows = {number: row for row, number in enumerate(sample.numbers)}
    if baseline not in rows:
        return {}
    points_TM = np.nanmean(sample.values_TSM, axis=1)
    ahead = [n for n in members if n in rows and pareto.dominates(points_TM[rows[n]], points_TM[rows[baseline]])]
    if sample.seeds < 2:
        return dict.fromkeys(ahead, 1.0)
    variance_TM, df = seed_variances(sample.values_TSM, cautious=True)
    place = {int(row): c for c, row in enumerate(sample.contenders)}
    chances = {n: _chance(sample, rows[n], rows[baseline], variance_TM, df, place) for n in ahead}
    return _holm(chances, compared(sample, {baseline, *own}))


def compared(sample: Sample, own: Collection[int]) -> int:
    """How many trials were compared with a baseline whose own trials are `own`."""
    return len(set(sample.numbers) - set(own))


def _chance(sample: Sample, row: int, base: int, variance_TM: Floats, df: float, place: dict[int, int]) -> float:
    """The probability of such a lead where in one objective there is none, by the least sure of them.

    Only seeds that both have count.
    """
    seeds = int(min(sample.seeds_T[row], sample.seeds_T[base]))
    lead_M = (sample.values_TSM[row, :seeds] - sample.values_TSM[base, :seeds]).mean(axis=0)
    chance = 0.0 if seeds > 1 else 1.0
    for m, lead in enumerate(lead_M):
        parts = [(float(variance_TM[row, m]) / seeds, df), (float(variance_TM[base, m]) / seeds, df)]
        if sample.examples_BCSM is not None and {row, base} <= place.keys():
            moved_BCS = sample.examples_BCSM[:, :, :seeds, m]
            apart_BS = moved_BCS[:, place[row]] - moved_BCS[:, place[base]]
            parts.append((examples_variance(apart_BS), len(apart_BS) - 1.0))
        chance = max(chance, intervals.luck(float(lead), parts))
    return chance


def _holm(chances: dict[int, float], compared: int) -> dict[int, float]:
    """Corrected for `compared` tests; those that are not in `chances` found no lead. Source: Holm 1979."""
    corrected, least = {}, 0.0
    for place, (number, chance) in enumerate(sorted(chances.items(), key=lambda item: item[1])):
        least = max(least, min(1.0, chance * (compared - place)))
        corrected[number] = least
    return corrected


def sentence(
    trials: Sequence[Trial], members: Sequence[int], sample: Sample, baseline: str = "lora", by: Rule | None = None
) -> str:
    """What the front has that the named baseline has not, and how sure that is.

    Of a baseline with several trials, the one that the rule `by` (the knee by default) takes from them is compared.
    """
    number, by = recommend.per_baseline(trials, sample.objectives, by).get(baseline), by or Knee()
    if number is None:
        return f"No finished '{baseline}' baseline to compare with."
    own = {trial.number for trial in trials if trial.baseline == baseline}
    labels = {trial.number: f"#{trial.number} {trial.label}" for trial in trials}
    base = next(trial for trial in trials if trial.number == number)
    numbers = ", ".join(f"{name} {value:.3f}" for name, value in base.values.items())
    what = f"plain {baseline} ({numbers})"
    if len(own) > 1:
        rule = by.text.partition(":")[0]
        what = f"tuned {baseline} (#{number}, the best of its {len(own)} trials by {rule}: {numbers})"
    others = [trial for trial in trials if trial.number in members and trial.number not in own]
    base_M, *points_TM = points([base, *others], sample.objectives)
    ahead = [t.number for t, point_M in zip(others, points_TM, strict=True) if pareto.dominates(point_M, base_M)]
    if not ahead:
        trades = sum(not pareto.dominates(base_M, point_M) for point_M in points_TM)
        none = f"No front member is better than {what} in everything"
        return f"{none}; members that trade one objective for another: {trades}."
    looks, chances = f"look better than {what} in everything", luck(sample, number, ahead, own=own)
    if not chances or sample.seeds < 2:
        unknown = "whether that is luck cannot be said: results of fits are missing."
        alone = "with one seed it cannot be said whether that is luck."
        return f"{len(ahead)} of {len(members)} front members {looks}; {alone if chances else unknown}"
    how = f"paired by {sample.over}, corrected for the {compared(sample, own)} trials that were compared"
    sure = [member for member, chance in chances.items() if chance < SURE]
    if not sure:
        best = min(chances, key=lambda member: chances[member])
        return (
            f"{len(ahead)} of {len(members)} front members {looks}, none of them surely: luck gives a lead like that "
            f"of {labels[best]} in up to {_percent(chances[best])} of sweeps in which none is better ({how})."
        )
    rest = f" {len(ahead) - len(sure)} more look better, which may be luck." if len(ahead) > len(sure) else ""
    return (
        f"{len(sure)} of {len(members)} front members dominate {what}, e.g. {labels[sure[0]]}: luck gives such leads "
        f"in {_percent(max(chances[member] for member in sure))} of sweeps at most ({how}).{rest}"
    )


def _percent(chance: float) -> str:
    return "less than 0.1%" if chance < 0.001 else f"{chance:.1%}" if chance < 0.1 else f"{chance:.0%}"
