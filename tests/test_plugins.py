"""Plug-ins: they are listed, held to the laws, swept, and a sweep knows those that it was begun with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from importlib import metadata
from pathlib import Path

import pytest

from sweeper.spec import loading, plugins
from tests.plugins import EXAMPLE, ROOT, environment, install, install_example, sweeper
from trainables.metrics import METRICS

BROKEN = {"sweeper.metrics": {"broken": "broken:METRIC"}, "sweeper.methods": {"lora-broken": "broken:METHOD"}}
LISTED = ("dataset 'stripes'", "method 'lora-tail'", "metric 'accuracy_ratio_by_attribute'")


@pytest.fixture
def example(tmp_path: Path) -> Path:
    return install_example(tmp_path / "example")


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    return install(tmp_path / "broken", "my-broken", BROKEN, {"broken": "import no_such_module"})


def test_they_are_listed_with_their_packages(tmp_path: Path, example: Path) -> None:
    done = sweeper("plugins", cwd=tmp_path, paths=[example])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all(f"{line} of sweeper-example 1.0: " in done.stdout for line in LISTED)
    assert "no plug-ins" in sweeper("plugins", cwd=tmp_path).stdout


def test_one_that_is_broken_is_told_and_leaves_the_rest_alone(tmp_path: Path, example: Path, broken: Path) -> None:
    listed = sweeper("plugins", cwd=tmp_path, paths=[example, broken])
    said = (
        "metric 'broken' of my-broken 1.0: metrics: 'broken' of my-broken 1.0 (broken:METRIC) cannot be loaded: "
        "ModuleNotFoundError: No module named 'no_such_module'. Mend or uninstall that package."
    )
    assert said in listed.stdout.splitlines()
    assert listed.returncode == 2
    assert all(line in listed.stdout for line in LISTED)
    (tmp_path / "good.yaml").write_text("name: x\n")
    (tmp_path / "bad.yaml").write_text("name: x\nobjectives: {accuracy: max, broken: max}\n")
    (tmp_path / "method.yaml").write_text("name: x\nspace: {method: lora-broken}\n")
    good = sweeper("validate", "good.yaml", cwd=tmp_path, paths=[broken])
    assert good.returncode == 0, good.stderr
    assert sweeper("schema", cwd=tmp_path, paths=[broken]).returncode == 0
    for file, group in (("bad.yaml", "metrics: 'broken'"), ("method.yaml", "methods: 'lora-broken'")):
        bad = sweeper("validate", file, cwd=tmp_path, paths=[broken])
        assert bad.returncode == 2
        (line,) = bad.stderr.splitlines()
        assert line.startswith(f"{group} of my-broken 1.0 (broken:")


def test_a_name_that_two_packages_give_is_refused_with_both(tmp_path: Path, example: Path) -> None:
    points = {"sweeper.methods": {"lora-tail": "sweeper_example:LORA_TAIL"}}
    other = install(tmp_path / "other", "my-tail", points, {})
    done = sweeper("plugins", cwd=tmp_path, paths=[example, other])
    assert done.returncode == 2
    assert "'lora-tail' is given by" in done.stderr
    assert "my-tail 1.0" in done.stderr
    assert "sweeper-example 1.0" in done.stderr


def test_the_example_keeps_the_laws_and_what_does_not_is_told(tmp_path: Path, example: Path) -> None:
    done = sweeper("plugins", "test", "sweeper-example", "--json", cwd=tmp_path, paths=[example])
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert set(told) == {"dataset stripes", "method lora-tail", "metric accuracy_ratio_by_attribute"}
    assert {row["breach"] for rows in told.values() for row in rows} == {None}
    assert min(map(len, told.values())) >= 6
    code = "from trainables.metrics.base import Metric, Value\n"
    code += "FIRST = Metric('max', 'groups', lambda p: Value(float(p.labels_N[0])), 'the first label', 'a test')\n"
    bad = install(tmp_path / "bad", "my-bad", {"sweeper.metrics": {"first": "bad:FIRST"}}, {"bad": code})
    done = sweeper("plugins", "test", "first", cwd=tmp_path, paths=[bad])
    assert done.returncode == 2
    assert "bad   It gives a finite number, or nan and its reason, on every split" in done.stdout
    assert "it raised IndexError" in done.stdout
    unknown = sweeper("plugins", "test", "frist", cwd=tmp_path, paths=[bad])
    assert "plug-in 'frist' is unknown. Did you mean 'first'?" in unknown.stderr


def test_parameters_of_one_name_that_mean_two_things_are_refused_where_they_meet(tmp_path: Path, example: Path) -> None:
    code = (
        "from trainables.methods import Component, Method\nfrom trainables.options import Param\n"
        "TAIL = Param('tail', int, 3, 'another tail', 'a test')\n"
        "METHOD = Method('lora', Component('sweeper_example.tail:objective', (TAIL,)), 'a test')\n"
    )
    other = install(
        tmp_path / "other", "my-tail", {"sweeper.methods": {"lora-tail-2": "tails:METHOD"}}, {"tails": code}
    )
    (tmp_path / "both.yaml").write_text("name: x\nspace: {method: lora-tail, tail: 0.5}\n")
    (tmp_path / "none.yaml").write_text("name: x\n")
    done = sweeper("validate", "both.yaml", cwd=tmp_path, paths=[example, other])
    assert done.returncode == 2
    assert "the parameter 'tail' is declared by method 'lora-tail' of sweeper-example 1.0" in done.stderr
    assert "by 'lora-tail-2' of my-tail 1.0" in done.stderr
    assert sweeper("validate", "none.yaml", cwd=tmp_path, paths=[example, other]).returncode == 0


def test_a_metric_that_is_measured_and_not_asked_for_stands_in_provenance_and_may_be_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point = metadata.EntryPoint("half", "halves:HALF", "sweeper.metrics")
    with monkeypatch.context() as installed:
        installed.setitem(vars(METRICS), "_plugins", {"half": point})
        installed.setitem(METRICS._outcomes, "half", METRICS["eod"])
        asked = loading.parse("name: x\ndata: {name: csv, columns: {attribute: [a, b]}}\nobjectives: {half/a: min}")
        kept, named = plugins.noted(loading.parse("name: x")), plugins.noted(asked)
        assert [(row["name"], row["named"]) for row in kept] == [("half", False)]
        assert [(row["name"], row["named"]) for row in named] == [("half", True)]
        assert plugins.changed(kept, plugins.measured(loading.parse("name: x"))) == []
    assert plugins.gone(kept) is None
    assert plugins.changed(kept, []) == [
        "metric 'half' of an unnamed package  is installed no more: it is not measured."
    ]
    assert "it uses metric 'half'" in str(plugins.gone(named))
    older = [{key: value for key, value in row.items() if key != "named"} for row in named]
    assert "it uses metric 'half'" in str(plugins.gone(older))


def _swept(folder: Path, python: Path) -> subprocess.CompletedProcess[str]:
    """The example's sweep in `folder`, killed after its first fit, then resumed."""
    command = [python, "-m", "sweeper", "run", str(EXAMPLE / "sweep.yaml")]
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    with (folder / "log").open("w") as log:
        first = subprocess.Popen(command, cwd=folder, env=variables, stdout=log, stderr=log, start_new_session=True)
        results = folder / "sweeps/stripes-in-the-tail/trials"
        until = time.monotonic() + 240
        while not list(results.glob("*/*/result.json")) and first.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    return sweeper("resume", "stripes-in-the-tail", cwd=folder, python=python)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_example_is_installed_swept_killed_and_resumed_on_two_workers_and_missed_when_it_is_gone(
    tmp_path: Path,
) -> None:
    python = environment(tmp_path / "environment")
    listed = sweeper("plugins", cwd=tmp_path, python=python)
    assert all(f"{line} of sweeper-example 1.0: " in listed.stdout for line in LISTED), listed.stderr
    done = _swept(tmp_path, python)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "finished, 4/4 trials" in done.stdout
    folder = tmp_path / "sweeps/stripes-in-the-tail"
    reported = sweeper("report", folder.name, "--figures", "figures", cwd=tmp_path, python=python)
    assert reported.returncode == 0, reported.stderr
    assert (tmp_path / "figures" / "by-tail.png").stat().st_size > 3000
    exported = sweeper("export", folder.name, "-o", "trials.json", cwd=tmp_path, python=python)
    assert exported.returncode == 0, exported.stderr
    trials = json.loads((tmp_path / "trials.json").read_text())["trials"]
    tails = [row["params"]["tail"] for row in trials if row["params"]["method"] == "lora-tail"]
    assert len(set(tails)) == 3
    assert all(0.2 <= tail <= 0.8 for tail in tails)
    assert all(0 <= row["metrics"]["accuracy_ratio_by_attribute"] <= 1 for row in trials)
    gone = sweeper("resume", folder.name, cwd=tmp_path)
    assert gone.returncode == 2
    assert gone.stderr.startswith(
        f"sweep '{folder.name}' cannot be read: it uses dataset 'stripes' of sweeper-example 1.0"
    )
    assert "Install sweeper-example==1.0, then go on." in gone.stderr
    newer = install_example(tmp_path / "newer", "2.0")
    changed = sweeper("resume", folder.name, "--trials", "5", cwd=tmp_path, paths=[newer])
    assert changed.returncode == 0, changed.stdout + changed.stderr
    assert "method 'lora-tail' is of sweeper-example 2.0 now; before it was of sweeper-example 1.0." in changed.stderr
