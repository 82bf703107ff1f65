"""The gauges of a sweep, and the Grafana dashboard that draws them: every name in it is a name that is emitted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from sweeper.engine.telling import telemetry
from sweeper.spec import loading
from sweeper.state import opening
from sweeper.state.study import Study
from sweeper.state.sweep_folder import SweepFolder

GRAFANA = Path(__file__).parents[2] / "dashboards" / "grafana"
DASHBOARD = json.loads((GRAFANA / "sweeps.json").read_text(encoding="utf-8"))
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
OURS = {f"ray_{name}" for name in telemetry.GAUGES}


def names(query: str) -> set[str]:
    """The metrics of a PromQL query: words that begin like Ray's or the autoscaler's."""
    return set(re.findall(r"\b(?:ray|autoscaler)_\w+", query))


def test_the_dashboard_is_whole() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["title"] and panel["description"] and panel["targets"] for panel in panels)
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels]
    assert len(set(places)) == len(places)
    assert all(query.count("(") == query.count(")") and query.count("{") == query.count("}") for query in QUERIES)
    assert all(names(query) for query in QUERIES)
    assert yaml.safe_load((GRAFANA / "provider.yaml").read_text())["providers"][0]["type"] == "file"


def test_prometheus_reads_what_ray_writes_and_grafana_reads_prometheus_and_the_dashboard() -> None:
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    (job,) = yaml.safe_load((GRAFANA / "prometheus.yaml").read_text())["scrape_configs"]
    assert job["file_sd_configs"] == [{"files": [f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]}]
    page = (GRAFANA.parents[1] / "docs" / "cluster.md").read_text()
    (source,) = yaml.safe_load((GRAFANA / "datasource.yaml").read_text())["datasources"]
    assert source["url"].removeprefix("http://") == re.search(r"--web\.listen-address=(\S+)", page)[1]
    place = yaml.safe_load((GRAFANA / "provider.yaml").read_text())["providers"][0]["options"]["path"]
    assert f"install -D -t {place} dashboards/grafana/sweeps.json" in page


def test_every_gauge_of_ours_is_drawn_with_the_tags_that_it_has() -> None:
    drawn = set().union(*map(names, QUERIES))
    assert drawn >= OURS
    for name, (_, tags) in telemetry.GAUGES.items():
        for chosen in re.findall(rf"ray_{name}{{(.*?)}}", " ".join(QUERIES)):
            assert set(re.findall(r"(\w+)!?=", chosen)) <= {"sweep", *tags}


def test_every_other_metric_is_one_that_rays_own_dashboards_draw() -> None:
    from ray.dashboard.modules.metrics import dashboards

    sources = Path(dashboards.__file__).parent.glob("*_panels.py")
    rays = set().union(*(names(source.read_text(encoding="utf-8")) for source in sources))
    assert set().union(*map(names, QUERIES)) - OURS <= rays


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    """A sweep with two trials complete and one running."""
    spec = loading.parse("name: told\nspace: {method: [lora, fft]}\nsearch: {trials: 5, seeds: 2}\n")
    made = SweepFolder(tmp_path / "told", token=1)
    made.path.mkdir()
    made.spec.write_text(loading.dump(spec))
    study = Study(spec, opening.study_url(spec, made), create=True)
    for _ in range(2):
        proposal = study.propose()
        assert proposal is not None
        study.complete(proposal.number, [{"accuracy": 0.5, "delta_f1": 0.5}] * 2)
    study.propose()
    return made


def test_the_gauges_are_set_to_what_the_study_says(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.util import metrics

    told: dict[str, float] = {}

    class Heard(metrics.Gauge):
        def set(self, value: float, tags: dict[str, str] | None = None) -> None:
            super().set(value, tags)  # refuses a tag that was not declared
            assert tags is not None
            assert tags["sweep"] == "told"
            told[" ".join([self.info["name"], *(tags[key] for key in tags if key != "sweep")])] = value

    monkeypatch.setattr(metrics, "Gauge", Heard)
    with telemetry.telling(folder, period_s=60.0):
        pass  # at the end they are set once more
    assert told == {
        **{"sweeper_trials complete": 2, "sweeper_trials running": 1},
        **{"sweeper_trials failed": 0, "sweeper_trials pruned": 0},
        **{"sweeper_budget": 5, "sweeper_fits": 4, "sweeper_front": 2, "sweeper_hypervolume": 0.25},
    }


def test_a_store_that_is_away_costs_the_gauges_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with telemetry.telling(SweepFolder(tmp_path / "nothing")):
        pass
    assert "The gauges stand still; the sweep goes on." in caplog.text
