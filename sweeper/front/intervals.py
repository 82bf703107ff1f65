"""How sure a number is: 95 % intervals of a mean over seeds, of a share, and of both where both are left to chance.

Seeds and examples are two sources of chance: other seeds would train other models, and another split would ask other
questions. All seeds answer the same questions, so more seeds make the second source no smaller.

Shapes: S seeds, N examples, B resamples of the examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trainables.arrays import Floats

Interval = tuple[float, float]
Part = tuple[float, float]  # an estimate of a variance, and its degrees of freedom

_TAIL = 0.975
SURE = 0.05  # a lead that luck gives less often is called real


def wilson(hits: float, n: float, z: float = 1.959964) -> Interval:
    """The interval (low, high) of a share measured as `hits` of `n`, at 95 % unless `z` says otherwise.

    Keeps its promise for small n and for shares near 0 or 1, where the usual formula does not. With
    n = 0 nothing is known: (0, 1). Source: Wilson 1927; Brown, Cai and DasGupta 2001.

    >>> tuple(round(end, 3) for end in wilson(8, 10))
    (0.49, 0.943)
    """
    if n == 0:
        return 0.0, 1.0
    share = hits / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def of_mean(values_S: npt.ArrayLike, resampled_BS: Floats | None = None) -> Interval | None:
    """Of what the mean would be over very many seeds, and over new examples too where `resampled_BS` is given.

    `resampled_BS` are the seeds' values on resamples of the examples. One seed: the interval of the examples alone.
    None where nothing is known: one seed, and no resamples.
    """
    values = np.asarray(values_S, dtype=np.float64)
    parts = variance_parts(values, resampled_BS)
    if not parts:
        return None
    half = t_quantile(parts) * math.sqrt(sum(variance for variance, _ in parts))
    mean = float(values.mean())
    return mean - half, mean + half


def of_share(shares_S: npt.ArrayLike, n: int, shared: float | None = None) -> Interval:
    """Of a share of `n` examples that was measured with each seed: Wilson's interval, with Student's t.

    Wilson's n is the number of independent examples that would leave as much to chance as seeds and examples do.
    `shared` is the variance from the examples (`shared_variance`); unknown, all seeds are taken to answer alike.
    """
    shares = np.asarray(shares_S, dtype=np.float64)
    share = float(shares.mean()) if n else 0.0
    spread = share * (1 - share)
    if len(shares) < 2 or n < 2 or spread == 0:
        return wilson(share * n, n)
    parts = [(float(shares.var(ddof=1)) / len(shares), len(shares) - 1.0)]
    parts.append((spread / n if shared is None else shared, n - 1.0))
    variance = sum(part for part, _ in parts)
    enough = n * len(shares)  # no answers are more than all of them
    like = enough if variance == 0 else min(spread / variance, enough)
    return wilson(share * like, like, t_quantile(parts))


def shared_variance(right_SN: npt.ArrayLike) -> float:
    """The variance that the draw of the examples gives to the mean over all seeds and examples.

    Examples are hard or easy for all seeds alike. What only one seed gets wrong is chance of that seed, and counted
    there: analysis of variance of a table of seeds and examples, both random.
    """
    right = np.asarray(right_SN, dtype=np.float64)
    seeds, examples = len(right), int(right.shape[1])
    by_example_N, by_seed_S = right.mean(axis=0), right.mean(axis=1)
    rest_SN = right - by_example_N - by_seed_S[:, None] + right.mean()
    rest = float((rest_SN**2).sum()) / ((examples - 1) * (seeds - 1))
    return max(0.0, float(by_example_N.var(ddof=1)) - rest / seeds) / examples


def variance_parts(values_S: Floats, resampled_BS: Floats | None = None) -> list[Part]:
    """The variance of the mean over the seeds, by its source: the seeds, then the examples."""
    seeds = len(values_S)
    parts = [(float(values_S.var(ddof=1)) / seeds, seeds - 1.0)] if seeds > 1 else []
    if resampled_BS is not None:
        parts.append((examples_variance(resampled_BS), len(resampled_BS) - 1.0))
    return parts


def examples_variance(resampled_BS: Floats) -> float:
    """What the examples give to the variance of the mean over the seeds, from the seeds' values on resamples.

    As in `shared_variance`, what the resamples do to one seed alone is in the spread of the seeds already.
    """
    together, seeds = float(resampled_BS.mean(axis=1).var(ddof=1)), int(resampled_BS.shape[1])
    if seeds == 1:
        return together
    alone = (float(resampled_BS.var(axis=0, ddof=1).mean()) - together) / (seeds - 1)
    return max(0.0, together - alone)


def t_quantile(parts: Sequence[Part]) -> float:
    """How many standard errors 95 % reach to either side, where the variance is the sum of `parts`.

    Of one part it is Student's. Of a sum, Satterthwaite's degrees of freedom give too little (two seeds: down to
    88 %), Cochran's mean of the parts' quantiles too much (up to 98 %); the mean of these two keeps 93 to 97 %.
    Source: Satterthwaite 1946; Cochran 1964.
    """
    from scipy.special import stdtrit  # a third of a second, which whoever asks for no interval need not wait for

    total = sum(variance for variance, _ in parts)
    if total == 0:
        return float(stdtrit(min(df for _, df in parts), _TAIL))
    cochran = sum(variance * float(stdtrit(df, _TAIL)) for variance, df in parts) / total
    return (float(stdtrit(satterthwaite(parts), _TAIL)) + cochran) / 2


def satterthwaite(parts: Sequence[Part]) -> float:
    """The degrees of freedom of a sum of variances; it is not 0. Source: Satterthwaite 1946."""
    total = sum(variance for variance, _ in parts)
    return total * total / sum(variance * variance / df for variance, df in parts)


def luck(lead: float, parts: Sequence[Part]) -> float:
    """The probability of such a lead or a larger one where in truth there is none; its variance is the sum of `parts`.

    Without any variance a lead is no luck.
    """
    from scipy.special import stdtr

    total = sum(variance for variance, _ in parts)
    if total == 0:
        return 0.0 if lead > 0 else 1.0
    return float(stdtr(satterthwaite(parts), -lead / math.sqrt(total)))
