"""The record made again from what is true: the study and the fits' folders."""

from __future__ import annotations

from dataclasses import dataclass

from sweeper.record.record import open_record
from sweeper.results import provenance
from sweeper.results.results import Results
from sweeper.state.lease import Lease
from sweeper.state.opening import open_spec, record_uri, study_url
from sweeper.state.study import Study
from sweeper.state.sweep_folder import SweepFolder


@dataclass(frozen=True)
class Rebuilt:
    """How many runs were deleted and how many trials written, and where the record is."""

    deleted: int
    written: int
    uri: str

    def __str__(self) -> str:
        return f"{self.written} trials written to {self.uri}, after {self.deleted} runs were deleted."


def rebuild(folder: SweepFolder) -> Rebuilt:
    """Delete this sweep's runs and models, and write them again: the same numbers at the same times.

    Under the sweep's lease. Begun again after a crash, it ends in the same record. MLflow keeps what is deleted, out
    of sight, until `mlflow gc`.

    Raises:
        UserError: there is no such sweep, or somebody drives it (`lease.Held`).
    """
    spec = open_spec(folder)
    url = study_url(spec, folder)
    lease = Lease(url, spec.name)
    lease.acquire()
    try:
        study = Study(spec, url, guard=lease.check)
        provenance.kept(spec, folder.path)  # described again where that was lost
        record = open_record(spec, folder, study.uuid)
        deleted = record.forget()
        results = Results(folder, spec, *study.look())
        written = record.refresh(results)
        record.close(results)
        record.illustrate(results)
        return Rebuilt(deleted, written, record_uri(spec, folder.path.parent))
    finally:
        lease.release()
