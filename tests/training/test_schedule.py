"""The one-cycle schedule, held to torch's own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trainables.training.fit import one_cycle


@settings(max_examples=40)
@given(steps=st.integers(2, 60), warmup=st.floats(0, 0.9), peak=st.floats(1e-6, 1))
def test_it_is_torchs_one_cycle_at_every_step(steps: int, warmup: float, peak: float) -> None:
    assume(abs(warmup * steps - 1) > 1e-6)  # torch divides by zero there
    optimizer = torch.optim.AdamW([torch.zeros(1)], lr=peak)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps, pct_start=warmup)
    for step in range(steps):
        assert one_cycle(step, steps, peak, warmup) == pytest.approx(schedule.get_last_lr()[0], rel=1e-6, abs=1e-12)
        if step < steps - 1:
            optimizer.step()
            schedule.step()


@pytest.mark.parametrize("warmup", [0.0, 0.01, 0.25, 0.5])
def test_a_hundred_steps_start_low_peak_where_the_way_up_ends_and_end_near_zero(warmup: float) -> None:
    rates = [one_cycle(step, 100, 1.0, warmup) for step in range(100)]
    top = max(round(warmup * 100) - 1, 0)
    assert max(rates) == rates[top] == pytest.approx(1, abs=1e-3)
    assert rates[-1] == pytest.approx(1 / 250_000)
    if top > 0:
        assert rates[0] == pytest.approx(1 / 25)
