"""A sweep's record, opened from its spec and its folder: what `tracking` reads, and from where."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sweeper.front import front as frontier
from sweeper.front import recommend
from sweeper.record import note
from sweeper.record.content import FitView
from sweeper.record.note import Place
from sweeper.record.record import Record, Source
from sweeper.record.store import Data
from sweeper.results import summary
from sweeper.results.results import Results
from sweeper.results.summary import Snapshot
from sweeper.spec import loading
from sweeper.spec.model import SweepSpec
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import Trial


def open_record(
    spec: SweepSpec,
    uuid: str,
    folder: SweepFolder,
    uri: str,
    described: Mapping[str, Any],
    permit: Callable[[], None] = lambda: None,
) -> Record:
    """The record of sweep `uuid` in `folder`, at `uri`; `described` is the data, and the commit that runs it.

    `permit` is asked before each request, and raises to forbid it.
    """
    signs = summary.signs(spec)
    dataset = described.get("dataset") or {}

    def tell(trials: Sequence[Trial], front: Sequence[int], place: Place) -> str:
        named = recommend.named(trials, front, spec.objectives)
        taken = recommend.recommend(trials, front, spec.objectives)
        said = "" if taken is None else f"**#{taken.number} {taken.label}**, by {taken.rule}. {taken.why}"
        return note.write(spec, trials, front, place, named=named, recommended=said, dataset=dataset)

    source = Source(
        name=spec.name,
        uuid=uuid,
        spec_yaml=loading.dump(spec),
        objectives=spec.objectives,
        budget=spec.budget,
        fits=lambda number: list(_fits(folder, number, spec.search.seed_list)),
        table=lambda trials, front: summary.table(trials, spec, front),
        hypervolume=lambda trials: summary.hypervolume(trials, spec, frontier.front(trials, signs)),
        named=lambda trials, front: recommend.named(trials, front, spec.objectives),
        note=tell,
        report=lambda trials, front: _report(Results(folder, spec, trials, front)),
        tested=lambda: sum(1 for _ in (folder.path / "held-out").rglob("*.json")),
        folded=[f"seed-{seed}{part}" for seed in spec.search.seed_list for part in ("", "/train_loss")],
        provenance=_provenance(described),
        dataset=_data(dataset),
        permit=permit,
    )
    remote = uri.startswith(("http://", "https://"))
    return Record(source, uri, artifact_root=None if remote else folder.path.parent / "mlartifacts")


def _report(results: Results) -> str:
    """The page of `sweeper report`; '' while there is no front to report."""
    from dashboards.document import writers  # load both drawing libraries
    from sweeper.report import sweep_report

    if not results.front:
        return ""
    spec, ended = results.spec, sum(trial.state.finished for trial in results.trials)
    snapshot = Snapshot(
        name=spec.name,
        state="finished" if ended >= spec.budget else "running",
        budget=spec.budget,
        counts=summary.counts(results.trials),
        front=summary.front_rows(results.trials, spec, results.front),
        hypervolume=summary.hypervolume(results.trials, spec, results.front),
    )
    return writers.to_html(sweep_report.document(sweep_report.gather(snapshot, results)))


def _provenance(described: Mapping[str, Any]) -> dict[str, Any]:
    commit = described.get("commit")
    return {
        "commit": commit,
        "dirty": None if commit is None else commit.endswith("-dirty"),
        "dataset": described.get("dataset") or {},
        "versions": described.get("versions", {}),
    }


def _data(dataset: Mapping[str, Any]) -> Data | None:
    if "split_hash" not in dataset:
        return None
    counts = {split: counts["n"] for split, counts in dataset["splits"].items()}
    profile = {"num_rows": sum(counts.values()), **counts, "licence": dataset.get("licence", "unknown")}
    return Data(str(dataset["name"]), str(dataset["split_hash"]), str(dataset["root"]), profile)


def _fits(folder: SweepFolder, number: int, seeds: Sequence[int]) -> Iterator[FitView]:
    for seed in seeds:
        fit = folder.fit(number, seed)
        result = fit.result()
        weights = fit.weights if fit.weights.is_dir() else None
        if result is None:
            yield FitView(seed, fit.history(), weights=weights)
        else:
            kept = {name: result[name] for name in ("history", "values", "groups", "provenance", "seconds")}
            yield FitView(seed, **kept, weights=weights)
