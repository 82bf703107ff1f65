"""A sweep of which too many trials fail stops: more of them would cost and teach nothing."""

from __future__ import annotations

from sweeper.spec.search import Search
from sweeper.trial import Trial

ENOUGH_TO_JUDGE = 10  # ended trials: with fewer, the share of failures says little


class Brake:
    """Counts the trials of one attempt: whoever resumes has seen the earlier failures."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._in_a_row = self._failures = self._ended = 0

    def pulled_by(self, trial: Trial) -> str | None:
        """Why the sweep stops, now that `trial` has ended; None where it goes on."""
        self._ended += 1
        self._failures += trial.reason is not None
        self._in_a_row = 0 if trial.reason is None else self._in_a_row + 1
        share = self._search.max_failed_share
        if self._in_a_row >= self._search.max_failures:
            failures = f"{self._in_a_row} trials failed in a row"
        elif self._ended >= ENOUGH_TO_JUDGE and self._failures > share * self._ended:
            failures = (
                f"{self._failures} of {self._ended} trials failed, and search.max_failed_share allows {share:.0%}"
            )
        else:
            return None
        return f"{failures}; the last: {trial.reason}"
