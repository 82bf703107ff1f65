"""Which trials are better than a baseline in everything, and whether it can be luck.

Of many trials some look better than the baseline by chance alone: where nothing differs from anything, four sweeps of
five have one. So each lead is tested, and the tests are corrected for how many trials were compared.

Shapes: T trials, S seeds, M objectives, B resamples of the examples, C contenders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sweeper.front import intervals, pareto
from sweeper.front.front import points
from sweeper.front.intervals import SURE, examples_variance
from sweeper.front.noise import Sample, seed_variances
from sweeper.trial import State, Trial
from trainables.arrays import Floats


def luck(sample: Sample, baseline: int, members: Sequence[int]) -> dict[int, float]:
    """Of each member that looks better than `baseline` in everything: in what share of sweeps luck gives such a lead.

    At most in that share, if no trial of the sweep dominates the baseline; below `SURE` the lead is called real. The
    differences are taken seed by seed and example by example, for all fits have the same. A lead must be real in every
    objective, so the least sure one counts; then Holm's correction for all trials that were compared, not only those
    on the front, because the front is where the luckiest are. With one seed nothing is known, and all have 1.
    """
    rows = {number: row for row, number in enumerate(sample.numbers)}
    if baseline not in rows:
        return {}
    points_TM = sample.values_TSM.mean(axis=1)
    ahead = [n for n in members if n in rows and pareto.dominates(points_TM[rows[n]], points_TM[rows[baseline]])]
    if sample.seeds < 2:
        return dict.fromkeys(ahead, 1.0)
    variance_TM, df = seed_variances(sample.values_TSM, cautious=True)
    place = {int(row): c for c, row in enumerate(sample.contenders)}
    chances = {n: _chance(sample, rows[n], rows[baseline], variance_TM / sample.seeds, df, place) for n in ahead}
    return _holm(chances, len(sample.numbers) - 1)


def _chance(sample: Sample, row: int, base: int, variance_TM: Floats, df: float, place: dict[int, int]) -> float:
    """The probability of such a lead where in one objective there is none, by the least sure of them."""
    lead_M = (sample.values_TSM[row] - sample.values_TSM[base]).mean(axis=0)
    chance = 0.0
    for m, lead in enumerate(lead_M):
        parts = [(float(variance_TM[row, m]), df), (float(variance_TM[base, m]), df)]
        if sample.examples_BCSM is not None and {row, base} <= place.keys():
            apart_BS = sample.examples_BCSM[:, place[row], :, m] - sample.examples_BCSM[:, place[base], :, m]
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


def sentence(trials: Sequence[Trial], members: Sequence[int], sample: Sample, baseline: str = "lora") -> str:
    """What the front has that the named baseline has not, and how sure that is."""
    base = next((t for t in trials if t.baseline == baseline and t.state is State.COMPLETE), None)
    if base is None:
        return f"No finished '{baseline}' baseline to compare with."
    numbers = ", ".join(f"{name} {value:.3f}" for name, value in base.values.items())
    others = [trial for trial in trials if trial.number in members and trial.number != base.number]
    base_M, *points_TM = points([base, *others], sample.objectives)
    ahead = [t.number for t, point_M in zip(others, points_TM, strict=True) if pareto.dominates(point_M, base_M)]
    if not ahead:
        trades = sum(not pareto.dominates(base_M, point_M) for point_M in points_TM)
        none = f"No front member is better than plain {baseline} ({numbers}) in everything"
        return f"{none}; members that trade one objective for another: {trades}."
    chances = luck(sample, base.number, ahead)
    labels = {t.number: f"#{t.number} {t.label}" for t in trials}
    return _said(chances, len(ahead), len(members), f"plain {baseline} ({numbers})", labels, sample)


def _said(
    chances: Mapping[int, float], ahead: int, members: int, what: str, labels: Mapping[int, str], sample: Sample
) -> str:
    looks = f"{ahead} of {members} front members look better than {what} in everything"
    if not chances:
        return f"{looks}; whether that is luck cannot be said: results of fits are missing."
    if sample.seeds < 2:
        return f"{looks}; with one seed it cannot be said whether that is luck."
    sure = [number for number, chance in chances.items() if chance < SURE]
    how = f"paired by {sample.over}, corrected for the {len(sample.numbers) - 1} trials that were compared"
    if not sure:
        best = min(chances, key=lambda number: chances[number])
        return f"{looks}, none of them surely: luck gives a lead like that of {labels[best]} in up to " + (
            f"{_percent(chances[best])} of sweeps in which none is better ({how})."
        )
    worst = max(chances[number] for number in sure)
    rest = f" {ahead - len(sure)} more look better, which may be luck." if ahead > len(sure) else ""
    return (
        f"{len(sure)} of {members} front members dominate {what}, e.g. {labels[sure[0]]}: luck gives such leads in "
        f"{_percent(worst)} of sweeps at most ({how}).{rest}"
    )


def _percent(chance: float) -> str:
    return "less than 0.1%" if chance < 0.001 else f"{chance:.1%}" if chance < 0.1 else f"{chance:.0%}"
