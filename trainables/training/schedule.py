"""The learning rate as a function of the step: nothing to save, nothing to get out of step."""

from __future__ import annotations

import math

START = 1 / 25
END = 1 / 25 / 1e4


def one_cycle(step: int, steps: int, peak: float, warmup: float) -> float:
    """The rate of step 0, 1, ..., steps - 1: cosine up from peak / 25, then cosine down to peak / 250,000.

    The rate of `torch.optim.lr_scheduler.OneCycleLR` with its defaults, without its cycle of the
    momentum: AdamW's betas stay.

    Args:
        warmup: share of the steps on the way up.

    Source:
        Smith and Topin 2019; "On Fairness of LoRA", appendix, with warm-up 0.01.
    """
    top = warmup * steps - 1
    if step < top:
        return _cosine(peak * START, peak, step / top)
    return _cosine(peak, peak * END, (step - top) / (steps - 1 - top))


def _cosine(start: float, end: float, way: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * way))
