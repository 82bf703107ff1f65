"""How sure a share is: Wilson's interval."""

from __future__ import annotations

import math


def wilson(hits: float, n: int, z: float = 1.959964) -> tuple[float, float]:
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
