"""What a release has written, the next one resumes: each committed fixture goes on to its end, numbers and all."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import optuna
import pytest

from sweeper.errors import UserError
from sweeper.results.results import Results
from sweeper.state import migrations
from sweeper.state.opening import open_spec
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State, mean_and_spread
from tests.faults import tiny
from tests.faults.audit import audit
from trainables.metrics import ALIASES

FIXTURES = sorted(path for path in (Path(__file__).parent / "fixtures").glob("schema-*"))


def restored(fixture: Path, root: Path, name: str = tiny.NAME) -> Path:
    """The sweep of a fixture as it lay on a disk."""
    folder = root / name
    shutil.copytree(fixture, folder)
    with sqlite3.connect(folder / "study.db") as database:
        database.executescript((folder / "study.sql").read_text(encoding="utf-8"))
    return folder


def signed(folder: Path) -> dict[str, object]:
    with sqlite3.connect(folder / "study.db") as database:
        (text,) = database.execute("select value_json from study_user_attributes where key = 'sweeper'").fetchone()
    return json.loads(text)


def test_every_schema_that_is_read_has_a_fixture() -> None:
    assert [path.name for path in FIXTURES] == [f"schema-{n}" for n in (*migrations.MIGRATIONS, migrations.SCHEMA)]


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.name)
def test_a_sweep_that_an_older_release_paused_goes_on_to_its_end(
    fixture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = tiny.Long if fixture.name >= "schema-3" else tiny.Tiny  # as `make` was then
    tiny.make_tiny(monkeypatch.setattr, tuning=tuning, record=tiny.Mute)
    folder = restored(fixture, tmp_path)
    before = (folder / "trials" / "00000" / "0" / "result.json").read_bytes()
    outcome = tiny.go_on(tmp_path)
    assert [trial.state for trial in outcome.results.trials] == [State.COMPLETE] * 3
    assert (folder / "trials" / "00000" / "0" / "result.json").read_bytes() == before
    assert audit(folder, tmp_path / "no-ledger", budget=3, seeds=tiny.SEEDS, record=None).faults == []
    assert signed(folder)["schema"] == migrations.SCHEMA
    study = optuna.load_study(study_name=tiny.NAME, storage=f"sqlite:///{folder / 'study.db'}")
    assert study.metric_names == list(outcome.results.spec.objectives)
    assert folder.joinpath("spec.yaml").read_text().startswith(f"# sweeper schema {migrations.SCHEMA}\n")
    (tmp_path / "fresh").mkdir()
    tiny.begin(tmp_path / "fresh")
    assert (folder / "trials.csv").read_bytes() == (tmp_path / "fresh" / tiny.NAME / "trials.csv").read_bytes()


def test_the_numbers_of_an_older_release_are_found_under_both_names_and_measured_on_as_they_were(
    tmp_path: Path,
) -> None:
    results = Results.open(SweepFolder(restored(FIXTURES[0].parent / "commit-821442f", tmp_path, "before-rooms")))
    trial, fit = results.trials[0], results.fits[0]
    for old, new in ALIASES.items():
        assert trial.metrics[new] == trial.metrics[old]
        assert trial.spread[new] == trial.spread[old]
        assert fit.values[new] == fit.values[old]
    assert (results.spec.metrics.min_group, fit.ece_bins) == (1, 15)


def test_the_seeds_of_one_trial_may_be_of_two_releases() -> None:
    older, newer = {"worst_group_accuracy": 0.5}, {"worst_group_accuracy": 0.7, "worst_accuracy_by_cell": 0.7}
    for rows in ([older, newer], [newer, older]):
        means, _ = mean_and_spread(rows)
        assert means["worst_group_accuracy"] == means["worst_accuracy_by_cell"] == pytest.approx(0.6)


def test_a_sweep_of_a_newer_release_is_refused_before_anything_is_read_or_written(tmp_path: Path) -> None:
    folder = restored(FIXTURES[-1], tmp_path)
    newer = (folder / "spec.yaml").read_text().replace(f"schema {migrations.SCHEMA}", "schema 99", 1) + "unheard: of\n"
    (folder / "spec.yaml").write_text(newer)
    with pytest.raises(UserError, match=r"the spec of 'tiny' has schema 99; .* Use the release that wrote it"):
        open_spec(SweepFolder(folder))


@pytest.mark.parametrize(
    ("schema", "mend"),
    [(migrations.SCHEMA + 1, "Use the release that wrote it, or a later one"), (None, "put a copy of it back")],
)
def test_a_schema_that_is_not_known_is_refused_with_the_mend(schema: int | None, mend: str) -> None:
    with pytest.raises(UserError, match=mend):
        migrations.migrated("a", {"schema": schema, "identity": {}})


def test_the_first_schema_gets_a_uuid_of_its_own_and_forgets_where_its_data_lay() -> None:
    old = {"schema": 1, "identity": {"data": {"name": "waterbirds", "root": "/old"}, "groups": "cell"}}
    new = migrations.migrated("a", old)
    assert new["identity"] == {"data": {"name": "waterbirds"}, "groups": "cell"}
    assert new["uuid"] == migrations.migrated("a", old)["uuid"] != migrations.migrated("b", old)["uuid"]
    assert migrations.migrated("a", old | {"uuid": "mine"})["uuid"] == "mine"
    assert old["schema"] == 1, "what was read is not changed"
