"""A sweep's folder: writes are whole or absent, reads are checked, ghosts are refused."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest

from sweeper.errors import Corrupt
from sweeper.state import sweep_folder as folders
from sweeper.state.atomic import read_json, write_bytes, write_json
from sweeper.state.sweep_folder import Fenced, SweepFolder


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    made = SweepFolder(tmp_path / "a-sweep", token=1)
    made.raise_fence()
    return made


def payload(epoch: int) -> bytes:
    """A safetensors file without tensors whose metadata tells a history of `epoch` rows."""
    meta = json.dumps({"history": [{"epoch": e + 1} for e in range(epoch)]})
    header = json.dumps({"__metadata__": {"meta": meta}}).encode()
    return struct.pack("<Q", len(header)) + header


def test_json_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"λ": [1, 0.1, None]})
    assert read_json(tmp_path / "a.json") == {"λ": [1, 0.1, None]}


@pytest.mark.parametrize(
    "harm", [lambda b: b[:-9], lambda b: b.replace(b"0.25", b"0.35"), lambda b: b"", lambda b: b"[]"]
)
def test_a_damaged_file_is_reported_with_its_name_and_mend_and_never_read(tmp_path: Path, harm) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"accuracy": 0.25})
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(Corrupt, match=r"result\.json is damaged .* Delete it"):
        read_json(path)


def test_nan_is_refused_because_it_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch) -> None:
    write_json(tmp_path / "a.json", 1)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_json(tmp_path / "a.json", 2)
    monkeypatch.undo()
    assert read_json(tmp_path / "a.json") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_the_bytes_are_synced_before_the_name_is_changed(tmp_path: Path, monkeypatch) -> None:
    calls: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("sync"), sync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b))[1])
    write_bytes(tmp_path / "x", b"1")
    assert calls == ["sync", "replace", "sync"]


def test_the_newest_two_checkpoints_are_kept(sweep: SweepFolder) -> None:
    fit = sweep.fit(0, 0)
    for epoch in (1, 2, 3):
        fit.save_checkpoint(epoch, payload(epoch))
    assert [p.name[:17] for p in sorted(fit.path.iterdir())] == ["checkpoint-000002", "checkpoint-000003"]
    assert fit.newest_checkpoint() == payload(3)
    assert [row["epoch"] for row in fit.history()] == [1, 2, 3]


def test_a_torn_checkpoint_is_passed_over_for_the_one_before(sweep: SweepFolder) -> None:
    fit = sweep.fit(0, 0)
    fit.save_checkpoint(1, payload(1))
    fit.save_checkpoint(2, payload(2))
    newest = max(fit.path.iterdir())
    newest.write_bytes(newest.read_bytes()[:-3])
    assert fit.newest_checkpoint() == payload(1)


def test_a_sealed_fit_has_a_result_and_no_checkpoints(sweep: SweepFolder) -> None:
    fit = sweep.fit(7, 3)
    assert fit.result() is None
    fit.save_checkpoint(1, payload(1))
    fit.write_result({"values": {"accuracy": 0.5}, "history": [{"epoch": 1}]})
    assert [p.name for p in fit.path.iterdir()] == ["result.json"]
    assert SweepFolder(sweep.path).fit(7, 3).result()["values"] == {"accuracy": 0.5}


def test_weights_are_taken_over_whole(sweep: SweepFolder) -> None:
    fit = sweep.fit(0, 0)
    for content in (b"old", b"new"):
        made = fit.path / ".weights"
        made.mkdir(parents=True)
        (made / "head.safetensors").write_bytes(content)
        fit.keep_weights(made)
    assert (fit.weights / "head.safetensors").read_bytes() == b"new"
    assert not made.exists()


def test_a_ghost_of_an_older_attempt_writes_nothing(sweep: SweepFolder) -> None:
    ghost = sweep.fit(0, 0)
    SweepFolder(sweep.path, token=2).raise_fence()
    with pytest.raises(Fenced, match="taken over by attempt 2"):
        ghost.save_checkpoint(1, payload(1))
    with pytest.raises(Fenced):
        ghost.write_result({"values": {}})
    assert not ghost.path.exists()


def test_a_reader_cannot_write(sweep: SweepFolder) -> None:
    with pytest.raises(Fenced, match="read-only"):
        SweepFolder(sweep.path).fit(0, 0).save_checkpoint(1, payload(1))


def test_only_folders_with_a_spec_are_sweeps(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    write_bytes(SweepFolder(tmp_path / "mine").spec, b"name: mine\n")
    assert [s.name for s in folders.sweeps(tmp_path)] == ["mine"]
    assert list(folders.sweeps(tmp_path / "absent")) == []
