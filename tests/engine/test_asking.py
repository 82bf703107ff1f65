"""A point that a person asks for by hand, through the command, the real driver, queue and folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sweeper.cli import main
from sweeper.engine import driver
from sweeper.errors import UserError
from sweeper.results import asking
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.state.asking.inbox import Inbox
from sweeper.state.lease import Lease
from sweeper.state.opening import study_url
from sweeper.state.sweep_folder import SweepFolder
from tests.faults import tiny


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.make_tiny(monkeypatch.setattr, record=tiny.Mute)


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    assert tiny.begin(tmp_path).exit_code == 0
    return SweepFolder(tmp_path / tiny.NAME)


def test_a_point_of_a_finished_sweep_is_tried_and_says_why_it_exists(folder: SweepFolder) -> None:
    said = asking.try_point(Results.open(folder), ["lambda=0.3", "rank=8"], 4)
    assert said == "asked for: lambda 0.3, rank 8."
    assert Results.open(folder).state == "paused"
    with pytest.raises(UserError, match="asked for already"):
        asking.try_point(Results.open(folder), ["rank=8", "lambda=0.3"])
    assert tiny.go_on(folder.path.parent).exit_code == 0
    results = Results.open(folder)
    assert results.state == "finished"
    trial = results.trials[3]
    assert (trial.params["lambda"], trial.params["rank"], trial.seeds) == (0.3, 8, 4)
    assert results.budget == 4
    assert "asked for by hand" in (folder.path / "trials.csv").read_text()
    assert all(folder.held_out(n, s).exists() for n in results.front for s in results.by_number[n].seed_list)
    assert tiny.go_on(folder.path.parent).results.budget == 4
    larger = tiny.go_on(folder.path.parent, trials=4)
    assert [t.by_hand for t in larger.results.trials] == [False, False, False, True, False]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["lambda=1000"],
            "lambda is 1000, outside 0.01 to 100. Use that, or begin a sweep with a wider space: sweeper",
        ),
        (["rank=5"], "rank is 5, outside 4, 8, 16"),
        (["lamda=1"], "lamda is unknown. Did you mean 'lambda'"),
        (["lambda"], "'lambda' is no value. Write NAME=VALUE"),
        (["rank=4", "rank=8"], "rank is given twice"),
        (["rank=many"], "rank is 'many'. Use a whole number"),
        (["../x=1"], "../x is unknown"),
    ],
)
def test_what_cannot_be_tried_is_refused_with_what_can(folder: SweepFolder, words: list[str], said: str) -> None:
    with pytest.raises(UserError) as refused:
        asking.try_point(Results.open(folder), words)
    assert said in str(refused.value)
    assert Inbox(folder.path).waiting() == []


def test_fewer_seeds_than_others_have_and_a_trial_that_is_there_are_refused(tmp_path: Path) -> None:
    spec = loading.changed(
        tiny.spec(tmp_path), {"space": {"method": "fairlora", "rank": [4, 8, 16], "learning_rate": 0.1}}
    )
    spec = loading.changed(spec, {"space.lambda": [0.1, 1.0], "space.epochs": 2})
    assert driver.run(spec, tiny.Silent(), executor=tiny.in_process).exit_code == 0
    results = Results.open(SweepFolder(tmp_path / tiny.NAME))
    with pytest.raises(UserError, match=r"start with 2\. Use 2 or more"):
        asking.try_point(results, ["rank=8"], 1)
    params = results.trials[1].params
    with pytest.raises(UserError, match=r"trial 1 is that point, and complete.*sweeper more tiny@1 --seeds 4"):
        asking.try_point(results, [f"lambda={params['lambda']}", f"rank={params['rank']}"])


def test_where_a_driver_lives_the_command_leaves_it_to_that(
    folder: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    lease = Lease(study_url(tiny.spec(folder.path.parent), folder), tiny.NAME)
    lease.acquire()
    try:
        code = main.main(["try", tiny.NAME, "lambda=0.3", "--root", str(folder.path.parent), "--json"])
    finally:
        lease.release()
    assert code == 0
    assert "drives the sweep, and takes it up" in json.loads(capsys.readouterr().out)["said"]
    [request] = Inbox(folder.path).waiting()
    assert request.body == {"kind": "try", "point": {"lambda": 0.3}, "seeds": None}
    assert asking.try_point(Results.open(folder), ["rank=4"]) == "asked for: rank 4; the rest is drawn by chance."


def test_a_narrower_space_is_taken_up_by_the_next_attempt_and_told_everywhere(
    folder: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(folder.path.parent)
    assert main.main(["narrow", tiny.NAME, "lambda=0.1..10", "rank=8", "--root", root]) == 0
    said = "from the next trial on: lambda 0.1 to 10 (before: 0.01 to 100), rank 8"
    assert said in capsys.readouterr().out
    assert Results.open(folder).state == "finished"
    with pytest.raises(UserError, match="asked for already, and waits"):
        asking.narrow(Results.open(folder), ["lambda=0.1..10", "rank=8"])
    Inbox(folder.path).put({"kind": "narrow", "axes": {"rank": [8]}})  # by somebody who asked at the same moment
    results = tiny.go_on(folder.path.parent, trials=7).results
    assert all(0.1 <= trial.params["lambda"] <= 10 and trial.params["rank"] == 8 for trial in results.trials[3:])
    results = Results.open(folder)
    [change] = results.to_json()["changes"]
    assert "from trial 3 on lambda 0.1 to 10 (before: 0.01 to 100), rank 8 (before: 4, 8, 16)." in change
    with pytest.raises(UserError, match="is that already"):
        asking.narrow(results, ["rank=8"])
    with pytest.raises(
        UserError, match=r"rank is 4, outside 8.*let it have more again, up to 4, 8, 16: sweeper narrow"
    ):
        asking.try_point(results, ["rank=4"])
    assert main.main(["report", tiny.NAME, "--root", root, "-o", str(folder.path.parent / "r.md")]) == 0
    assert "Asked of it" in (folder.path.parent / "r.md").read_text()
