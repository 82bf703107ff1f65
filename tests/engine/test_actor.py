"""One actor, many fits: each durable, exact, and untouched by the one before. No Ray cluster is needed for that."""

from __future__ import annotations

import hashlib
import json
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeper import running_code
from sweeper.engine import actor as actors
from sweeper.engine.actor import FitActor
from sweeper.engine.order import Kind, Order, config
from sweeper.state.atomic import read_json, write_bytes
from sweeper.state.sweep_folder import SweepFolder
from tests.faults import tiny

SPEC = b"name: a\ngroups: cell\n"
FAIR = {"method": "fairlora", "lambda": 1.0, "rank": 4, "learning_rate": 2e-3, "epochs": 3}
PLAIN = {"method": "lora", "rank": 8, "learning_rate": 2e-3, "epochs": 2}


@pytest.fixture(autouse=True)
def _one_epoch_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors, "REPORT_EVERY_S", 0.0)


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    made = SweepFolder(tmp_path / "a", token=1)
    write_bytes(made.spec, SPEC)
    made.raise_fence()
    made.attempt.mkdir(parents=True)
    return made


def order(sweep: SweepFolder, params: dict[str, Any], number: int = 0, kind: Kind = "fit") -> dict[str, Any]:
    return config(tiny.node(sweep), Order(number, 0, params, kind))


def finish(actor: FitActor) -> list[dict[str, Any]]:
    reports = []
    while not reports or not reports[-1]["done"]:
        reports.append(actor.step())
    return reports


def outcome(sweep: SweepFolder, number: int, seed: int = 0) -> tuple[Any, ...]:
    """What must be equal: metrics of every epoch, and the weights' bytes."""
    fit = sweep.fit(number, seed)
    free = ("time_ms", "seconds", "evaluate_s")
    history = [{k: v for k, v in row.items() if k not in free} for row in fit.history()]
    weights = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in fit.weights.glob("*.safetensors")}
    return fit.result()["values"], history, weights


def test_each_epoch_is_a_report_and_the_last_one_seals_the_fit(sweep: SweepFolder) -> None:
    actor = FitActor(order(sweep, FAIR))
    reports = finish(actor)
    assert [(r["epoch"], r["done"]) for r in reports] == [(1, False), (2, False), (3, True)]
    result = sweep.fit(0, 0).result()
    assert 0.5 < result["values"]["accuracy"] <= 1
    assert result["error"] is None
    code = running_code.found()
    assert [row["epoch"] for row in result["history"]] == [1, 2, 3]
    assert {group["kind"] for group in result["groups"]} == {"class", "attribute", "cell"}
    assert result["provenance"]["params"]["lambda"] == 1.0
    assert (result["provenance"]["code"], result["code"]) == (code.digest, code.to_json())
    assert not list(sweep.fit(0, 0).path.glob("checkpoint-*"))


def test_a_reused_actor_gives_what_a_fresh_one_gives(sweep: SweepFolder) -> None:
    used = FitActor(order(sweep, FAIR, number=0))
    finish(used)
    assert used.reset_config(order(sweep, PLAIN, number=1))
    finish(used)
    finish(FitActor(order(sweep, PLAIN, number=2)))
    assert outcome(sweep, 1) == outcome(sweep, 2)


@pytest.mark.parametrize("epochs_before_death", [1, 2])
def test_a_fit_whose_actor_died_goes_on_and_ends_with_the_same_bits(sweep: SweepFolder, epochs_before_death) -> None:
    finish(FitActor(order(sweep, FAIR, number=0)))
    dying = FitActor(order(sweep, FAIR, number=1))
    for _ in range(epochs_before_death):
        dying.step()
    del dying
    reports = finish(FitActor(order(sweep, FAIR, number=1)))
    assert reports[0]["epoch"] == epochs_before_death + 1, "no epoch is paid twice"
    assert outcome(sweep, 1) == outcome(sweep, 0)


def test_a_fit_with_a_result_is_not_run_again(sweep: SweepFolder) -> None:
    actor = FitActor(order(sweep, PLAIN))
    finish(actor)
    before = outcome(sweep, 0)
    actor.reset_config(order(sweep, PLAIN))
    assert actor.step() == {"done": True, "epoch": 0, "code": running_code.found().digest}
    assert outcome(sweep, 0) == before


def test_a_diverging_fit_is_told_with_its_reason_and_the_actor_goes_on(sweep: SweepFolder) -> None:
    actor = FitActor(order(sweep, FAIR | {"learning_rate": 1e30}))
    assert finish(actor)[-1]["done"]
    error = sweep.fit(0, 0).result()["error"]
    assert error["reason"] == "diverged"
    assert "a smaller learning rate or lambda may hold" in error["message"]
    assert "Traceback" in error["trace"]
    actor.reset_config(order(sweep, PLAIN, number=1))
    finish(actor)
    assert sweep.fit(1, 0).result()["error"] is None


def test_data_that_is_not_there_fails_every_fit_with_its_mend(sweep: SweepFolder) -> None:
    write_bytes(sweep.spec, b"name: a\ndata: {name: waterbirds, root: /nowhere}\n")
    actor = FitActor(order(sweep, FAIR))
    for number in (0, 1):
        actor.reset_config(order(sweep, FAIR, number=number))
        assert actor.step()["done"]
        assert "/nowhere" in sweep.fit(number, 0).result()["error"]["message"]


def test_the_stop_file_ends_a_fit_after_its_epoch_without_a_result(sweep: SweepFolder) -> None:
    actor = FitActor(order(sweep, FAIR))
    sweep.stop_file.touch()
    assert actor.step().items() >= {"done": True, "epoch": 1}.items()
    assert sweep.fit(0, 0).result() is None
    assert sweep.fit(0, 0).newest_checkpoint() is not None


def test_fits_that_are_trained_at_once_end_as_they_would_alone_and_go_on_from_their_own_checkpoints(
    sweep: SweepFolder,
) -> None:
    """Two trials of other ranks and lengths, the second of which an actor dies; rounding alone may differ."""
    finish(FitActor(order(sweep, FAIR, number=0)))
    finish(FitActor(order(sweep, PLAIN, number=1)))
    both = config(tiny.node(sweep), Order(2, 0, FAIR), Order(3, 0, PLAIN))
    dying = FitActor(both)
    assert [each["epoch"] for each in json.loads(dying.step()["members"])] == [1, 1]
    packed = FitActor(both)
    report = packed.step()
    assert (report["done"], [each["epoch"] for each in json.loads(report["members"])]) == (True, [2, 2])
    assert sweep.fit(2, 0).result() is None, "its bundle has ended with the other fit"
    packed.reset_config(order(sweep, FAIR, number=2))
    finish(packed)
    assert sweep.fit(2, 0).result()["provenance"]["packed"] == [{"epochs": [1, 2], "with": ["3/0"]}]
    for number in (0, 1):
        alone, together = sweep.fit(number, 0).result(), sweep.fit(number + 2, 0).result()
        assert together["weights"].keys() == alone["weights"].keys()
        for one, other in zip(alone["history"], together["history"], strict=True):
            assert other["train_loss"] == pytest.approx(one["train_loss"], rel=1e-4)
            assert other["val_loss"] == pytest.approx(one["val_loss"], rel=1e-3)
            assert other["val_accuracy"] == pytest.approx(one["val_accuracy"], abs=0.02)


def test_an_actor_of_an_older_attempt_is_refused_and_leaves_nothing(sweep: SweepFolder) -> None:
    ghost = FitActor(order(sweep, FAIR))
    SweepFolder(sweep.path, token=2).raise_fence()
    assert ghost.step().items() >= {"done": True, "epoch": 0}.items()
    assert not sweep.fit(0, 0).path.exists()


def test_held_out_numbers_come_from_the_saved_weights_and_go_to_a_place_of_their_own(sweep: SweepFolder) -> None:
    actor = FitActor(order(sweep, FAIR))
    finish(actor)
    before = sweep.fit(0, 0).result()
    actor.reset_config(order(sweep, FAIR, kind="held-out"))
    assert actor.step()["done"]
    test = read_json(sweep.held_out(0, 0))
    assert test["values"]["accuracy"] != before["values"]["accuracy"]
    assert sweep.fit(0, 0).result() == before


def test_a_worker_of_other_code_trains_nothing_and_says_what_it_has(sweep: SweepFolder) -> None:
    given = order(sweep, PLAIN)
    given["node"] = replace(given["node"], code="0123456789abcdef")
    report = FitActor(given).step()
    assert report == {"done": True, "epoch": 0, "other_code": json.dumps(running_code.found().to_json())}
    assert not sweep.fit(0, 0).path.exists()


def test_what_cannot_be_imported_is_told_at_once_with_the_imports_own_error(
    sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trainables.finetuning", None)
    said = FitActor(order(sweep, PLAIN)).step()["to_mend"]
    assert f"a worker on {socket.gethostname()} cannot import what it runs: ModuleNotFoundError: import of " in said
    assert "trainables.finetuning" in said
    assert sweep.fit(0, 0).result() is None, "no fit has failed"
