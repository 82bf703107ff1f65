"""What is written is whole or absent: files and folders, their modes, and what a failure leaves."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from trainables.files import move_folder, whole, whole_folder, write_text


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_files_follow_the_umask_and_a_private_one_is_its_owners_from_the_first_byte(
    tmp_path: Path, umask: None
) -> None:
    write_text(tmp_path / "table.csv", "a\n")
    with whole(tmp_path / "secret", private=True) as draft:
        assert mode(draft) == 0o600
        draft.write_text("swordfish")
    with whole_folder(tmp_path / "folder") as folder:
        (folder / "deep").mkdir()
        save_file({"w": np.zeros(1)}, folder / "deep" / "w.safetensors")
    with whole(tmp_path / "w.safetensors") as draft:
        save_file({"w": np.zeros(1)}, draft)
    names = ("table.csv", "w.safetensors", "folder/deep/w.safetensors", "secret", "folder")
    assert [mode(tmp_path / name) for name in names] == [0o640, 0o640, 0o640, 0o600, 0o750]


def test_the_draft_is_hidden_and_has_the_suffix_by_which_writers_choose_a_format(tmp_path: Path) -> None:
    with whole(tmp_path / "front.png") as draft:
        assert (draft.parent, draft.name[0], draft.suffix) == (tmp_path, ".", ".png")
    assert [path.name for path in tmp_path.iterdir()] == ["front.png"]


def test_who_looks_for_durable_files_by_their_suffix_does_not_meet_what_a_crash_left_of_one(tmp_path: Path) -> None:
    with whole(tmp_path / "0.json", durable=True):
        assert list(tmp_path.glob("*.json")) == []
    assert list(tmp_path.glob("*.json")) == [tmp_path / "0.json"]


def test_who_is_refused_at_the_last_moment_changes_nothing(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")

    def refuse() -> None:
        assert any(path.read_text() == "new" for path in tmp_path.glob(".a.*")), "it was asked before all was written"
        raise PermissionError("a newer attempt")

    with pytest.raises(PermissionError, match="a newer attempt"), whole(tmp_path / "a", permit=refuse) as draft:
        draft.write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}


def test_a_failure_names_the_file_and_not_its_draft(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as failure:
        write_text(tmp_path / "absent" / "a", "text")
    assert failure.value.filename == str(tmp_path / "absent" / "a")


def test_a_folder_takes_an_empty_place_and_one_with_content_only_where_that_is_said(tmp_path: Path) -> None:
    place = tmp_path / "folder"
    place.mkdir()
    with whole_folder(place) as draft:
        (draft / "a").write_text("first")
    with pytest.raises(FileExistsError, match="folder"), whole_folder(place) as draft:
        (draft / "a").write_text("second")
    assert (place / "a").read_text() == "first"
    with whole_folder(place, over=True) as draft:
        (draft / "a").write_text("third")
    assert (place / "a").read_text() == "third"
    assert list(tmp_path.iterdir()) == [place]


def test_a_file_in_the_place_of_a_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("mine")
    with pytest.raises(FileExistsError), whole_folder(tmp_path / "folder"):
        pass
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_durable_folder_is_on_the_disk_before_it_is_called_so(tmp_path: Path, monkeypatch) -> None:
    calls: list[str] = []
    sync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(os.readlink(f"/proc/self/fd/{fd}")), sync(fd))[1])
    monkeypatch.setattr(os, "rename", lambda a, b: (calls.append("rename"), rename(a, b))[1])
    made = tmp_path / "made"
    made.mkdir()
    (made / "weights").write_text("w")
    move_folder(made, tmp_path / "kept", durable=True, permit=lambda: calls.append("permit"))
    assert calls == [str(made / "weights"), str(made), "permit", "rename", str(tmp_path)]
