"""Take away what a promise rests on, and a named test must fail: tests that cannot fail prove nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("sweeper", "trainables", "dashboards", "tests")


@dataclass(frozen=True)
class Mutation:
    """In `file`, `old` becomes `new`; then `test` fails."""

    name: str
    file: str
    old: str
    new: str
    test: str


MUTATIONS = [
    Mutation(
        "the lease is anybody's",
        "sweeper/state/lease.py",
        "if row.host and held.alive and not discounted:",
        "if False:",
        "tests/state/test_lease.py::test_a_second_driver_is_refused_and_told_who_holds_the_sweep[sqlite]",
    ),
    Mutation(
        "the fence lets all pass",
        "sweeper/state/sweep_folder.py",
        "if newest > self.token:\n            raise Fenced(",
        "if False:\n            raise Fenced(",
        "tests/state/test_sweep_folder.py::test_a_ghost_of_an_older_attempt_writes_nothing",
    ),
    Mutation(
        "renamed before it is synced",
        "trainables/files.py",
        "        _sync(draft)\n        permit()\n        os.replace(draft, path)",
        "        permit()\n        os.replace(draft, path)\n        _sync(path)",
        "tests/state/test_sweep_folder.py::test_the_bytes_are_synced_before_the_name_is_changed",
    ),
    Mutation(
        "a checkpoint's checksum is not looked at",
        "sweeper/state/fit_folder.py",
        'if hashlib.sha256(payload).hexdigest()[:16] == path.stem.rsplit("-", 1)[1]:',
        "if payload:",
        "tests/state/test_sweep_folder.py::test_a_torn_checkpoint_is_passed_over_for_the_one_before",
    ),
    Mutation(
        "runs are not searched by their tags",
        "sweeper/record/store.py",
        "        runs: list[Run] = []\n",
        "        return []\n        runs: list[Run] = []\n",
        "tests/record/test_record.py::test_a_lost_reply_leaves_one_run_per_trial_and_each_number_once",
    ),
    Mutation(
        "a lost reply is a second trial",
        "sweeper/state/study.py",
        "if row.state is TrialState.RUNNING and row.number not in self._given:",
        "if False:",
        "tests/faults/test_postgresql.py::test_a_proposal_whose_reply_was_lost_is_given_and_not_drawn_again",
    ),
]


def mutated(folder: Path, mutation: Mutation | None) -> Path:
    """A copy of the tree, with the change in it."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    if mutation is not None:
        text = (folder / mutation.file).read_text(encoding="utf-8")
        assert text.count(mutation.old) == 1, f"{mutation.file} has changed: write this mutation anew"
        (folder / mutation.file).write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    return folder


def run(folder: Path, *tests: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
    return done.returncode, done.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name.replace(" ", "-"))
def test_a_mutation_of_what_a_promise_rests_on_makes_its_test_fail(tmp_path: Path, mutation: Mutation) -> None:
    code, said = run(mutated(tmp_path, mutation), mutation.test)
    assert code == 1, said
    assert f"FAILED {mutation.test}" in said


@pytest.mark.slow
def test_those_tests_pass_where_nothing_is_mutated(tmp_path: Path) -> None:
    code, said = run(mutated(tmp_path, None), *(mutation.test for mutation in MUTATIONS))
    assert code == 0, said


def test_every_mutation_still_finds_what_it_changes() -> None:
    for mutation in MUTATIONS:
        assert (ROOT / mutation.file).read_text(encoding="utf-8").count(mutation.old) == 1, mutation.name
