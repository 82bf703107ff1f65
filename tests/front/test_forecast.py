"""Early stopping by forecast: whom it ends, by hand; if its chances are right, and whom it loses, in made-up sweeps.

What it saves, and loses of a front, at length: benchmarks/search/stopping.py.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.search import stopping
from sweeper.front import pareto
from sweeper.front.forecast import ENOUGH, LIMITS, Forecast
from sweeper.trial import State, Trial

SIGNS = {"accuracy": 1.0, "delta_f1": -1.0}


def ended(count: int = 12, *, feasible: bool = True, limits: tuple[float, float] = LIMITS["gentle"]) -> Forecast:
    """Trials 0, 1, ... of eight epochs: after four at about 0.4 and 0.2, at the end at about 0.8 and 0.1."""
    rule, rng = Forecast(*limits, SIGNS), np.random.default_rng(3)
    for number, (accuracy, delta, *luck) in enumerate(rng.normal(0, 0.01, (count, 4))):
        rule.note(number, 8, 4, {"accuracy": 0.4 + accuracy, "delta_f1": 0.2 + delta})
        values = {"accuracy": 0.8 + accuracy + luck[0] / 5, "delta_f1": 0.1 + delta + luck[1] / 5}
        rule.told(Trial(number, State.COMPLETE, {}, values=values, feasible=feasible))
    return rule


def stops(rule: Forecast, accuracy: float, delta: float, number: int = 50, epochs: int = 8, epoch: int = 4) -> bool:
    rule.note(number, epochs, epoch, {"accuracy": accuracy, "delta_f1": delta})
    return rule.stops(number, epochs, epoch)


def test_a_fit_is_judged_from_a_quarter_on_six_times_at_most_and_never_at_its_end() -> None:
    assert Forecast(0.1, 0.1, SIGNS).rungs(20) == (5, 7, 9, 11, 15, 19)
    assert Forecast(0.1, 0.1, SIGNS).rungs(4) == (1, 2, 3)
    assert Forecast(0.1, 0.1, SIGNS).rungs(1) == ()


def test_who_is_far_behind_in_everything_ends_and_who_leads_somewhere_does_not() -> None:
    assert stops(ended(), 0.3, 0.3)
    assert not stops(ended(), 0.3, 0.1)
    assert not stops(ended(), 0.42, 0.3)


def test_few_ended_trials_and_trials_of_higher_numbers_or_other_lengths_tell_nothing() -> None:
    assert not stops(ended(ENOUGH - 1), 0.3, 0.3)
    assert stops(ended(ENOUGH), 0.3, 0.3)
    assert not stops(ended(), 0.3, 0.3, number=ENOUGH - 1)
    assert not stops(ended(), 0.3, 0.3, epochs=16)
    assert not stops(ended(), 0.3, 0.3, epoch=5)


def test_an_undefined_objective_decides_nothing_and_a_trial_out_of_bounds_is_ahead_of_nobody() -> None:
    assert not stops(ended(), math.nan, 0.3)
    assert not stops(ended(feasible=False), 0.3, 0.3)


def test_gentle_takes_no_more_risk_together_than_its_limit_also_when_it_begins_anew() -> None:
    """Each has a chance of nearly 1 %: as many may end as fit into the limit."""
    limits = 0.05, 0.05
    rule, chances = ended(limits=limits), list[float]()
    for number in range(20, 60):
        rule.note(number, 8, 4, {"accuracy": 0.412, "delta_f1": 0.2})
        chance = rule.chance(number, 8, 4)
        assert chance is not None
        assert 0.001 < chance < 0.05
        ends = rule.stops(number, 8, 4)
        assert ends == (sum(chances) + chance < 0.05)
        if not ends:
            break
        chances.append(chance)
        rule.told(Trial(number, State.PRUNED, {}))
    assert len(chances) > 1
    anew = ended(limits=limits)
    for number in range(20, 20 + len(chances)):
        anew.note(number, 8, 4, {"accuracy": 0.412, "delta_f1": 0.2})
        anew.told(Trial(number, State.PRUNED, {}))
    assert not stops(anew, 0.412, 0.2, number=20 + len(chances))


@pytest.mark.parametrize(("enough", "cautious"), [(8, 0.12), (30, 0.045)])
def test_where_curves_are_as_assumed_a_chance_is_how_often_it_happens_or_with_few_more(
    enough: int, cautious: float
) -> None:
    """1,000 sweeps: standard error 0.015, and 0.02 of the unlikely ones."""
    told, happened = list[float](), list[bool]()
    for n in range(1000):
        rng = np.random.default_rng(n)
        now_TM = rng.normal(0, 1, (enough + 1, 2))
        end_TM = 0.5 * now_TM + rng.multivariate_normal([1, 2], [[0.5, -0.3], [-0.3, 0.5]], enough + 1)
        rule = Forecast(0.1, 0.1, SIGNS)
        for number, (now, end) in enumerate(zip(now_TM, end_TM, strict=True)):
            rule.note(number, 8, 4, {"accuracy": now[0], "delta_f1": -now[1]})
            rule.told(Trial(number, State.COMPLETE, {}, values={"accuracy": end[0], "delta_f1": -end[1]}))
        chance = rule.chance(enough, 8, 4)
        assert chance is not None
        told.append(chance)
        happened.append(bool(pareto.front(end_TM)[-1]))
    told_N, happened_N = np.array(told), np.array(happened)
    assert -0.045 < told_N.mean() - happened_N.mean() < cautious
    unlikely_N = told_N < 0.3
    assert happened_N[unlikely_N].mean() < told_N[unlikely_N].mean() + 0.05


@pytest.mark.slow
@pytest.mark.parametrize("world", stopping.WORLDS)
def test_gentle_loses_a_member_of_the_shown_front_in_less_than_one_sweep_of_twenty(world: str) -> None:
    rows = [
        stopping.measured(curves, true, "gentle")
        for true, curves in (stopping.made_up(np.random.default_rng(n), 1, world) for n in range(200))
    ]
    saved, lost = np.mean(rows, axis=0)[:2]
    assert lost < 0.05
    assert saved > 0.05
