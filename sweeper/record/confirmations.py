"""The runs of a sweep's confirmations: one each, beside those of the trials, but in no view of them."""

from __future__ import annotations

from collections.abc import Mapping

from dashboards.document import writers
from dashboards.document.document import Document, Section
from sweeper.record import content
from sweeper.record.content import Scalar
from sweeper.record.store import CONFIRMS, DIGEST, NOTE, ROLE, KnownRun, Store
from sweeper.report import confirmed
from sweeper.results.confirmation import Confirmation, read
from sweeper.results.results import Results


class ConfirmationRuns:
    """What the store holds of them, by `<point>-<baseline>`."""

    def __init__(self, store: Store, known: Mapping[str, KnownRun]) -> None:
        self._store, self._known = store, dict(known)

    def refresh(self, parent: KnownRun, results: Results) -> None:
        """Write what the store lacks of those that have ended."""
        for confirmation in read(results.folder):
            wanted = content.digest(confirmation.to_json())
            key = f"{confirmation.point}-{confirmation.baseline}"
            run = self._known.get(key)
            if confirmation.ended_ms is None or (run is not None and run.digest == wanted):
                continue
            if run is None:
                tags = {ROLE: "confirmation", CONFIRMS: key, "mlflow.parentRunId": parent.run_id}
                label = f"confirm #{confirmation.point} against #{confirmation.baseline}"
                run = self._known[key] = self._store.create(label, tags, begun_ms=confirmation.begun_ms)
            tags = _tags(results, confirmation)
            self._store.log(run, _metrics(confirmation), params={}, tags=tags | {DIGEST: wanted})
            self._store.set_status(run, "FAILED" if confirmation.failed else "FINISHED", ended_ms=confirmation.ended_ms)
            run.digest = wanted


def _metrics(confirmation: Confirmation) -> list[Scalar]:
    """`test/accuracy/difference`, its `low` and `high`, and the means of `point` and `baseline`."""
    rows = []
    for each in confirmation.differences:
        values = {"point": each.point, "baseline": each.baseline, "difference": each.value}
        values |= {} if each.low is None or each.high is None else {"low": each.low, "high": each.high}
        rows += [
            Scalar(f"{each.split}/{each.metric}/{name}", value, confirmation.ended_ms or 0, len(confirmation.seeds))
            for name, value in values.items()
        ]
    return rows


def _tags(results: Results, confirmation: Confirmation) -> dict[str, str]:
    """What was asked, and the note that the run's page shows."""
    page = Document("Confirmation", "", (Section("", tuple(confirmed.blocks(results, confirmation))),))
    return {
        "point": str(confirmation.point),
        "against": str(confirmation.baseline),
        "rule": confirmation.rule,
        "new seeds": ", ".join(map(str, confirmation.seeds)),
        NOTE: writers.to_markdown(page)[:7_900],
    }
