"""Every file of a folder of images is used, or counted and named: endings, links, hidden files, empty classes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from tests.data.trees import home, picture
from trainables import data
from trainables.data import DataConfig
from trainables.data.base import Dataset
from trainables.data.images import pixels
from trainables.errors import UserError

PER_CLASS = 20


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Two classes of 20 images."""
    for label in ("cat", "dog"):
        for i in range(PER_CLASS):
            picture(tmp_path / "mine" / label / f"{i}.png")
    return tmp_path / "mine"


def load(root: Path, **settings: object) -> Dataset:
    return data.load(DataConfig.model_validate({"name": "folder", "root": root, **settings}))


def left_out(root: Path) -> dict[str, str]:
    return {record.place: record.problem for record in load(root, on_bad="skip", max_bad=1).bad if record.dropped}


ENDINGS = [
    (".JPG", "JPEG"),
    (".jpe", "JPEG"),
    (".jfif", "JPEG"),
    (".JFIF", "JPEG"),
    (".mpo", "MPO"),
    (".avif", "AVIF"),
    (".HEIC", "HEIF"),
    (".heif", "HEIF"),
    (".jp2", "JPEG2000"),
    (".tga", "TGA"),
    (".pgm", "PPM"),
    (".ico", "ICO"),
    (".apng", "PNG"),
]


@pytest.mark.parametrize(("ending", "format"), ENDINGS)
def test_an_image_is_used_whatever_its_ending(mine: Path, ending: str, format: str) -> None:
    pixels.readable()
    Image.new("RGB", (16, 16), "red").save(mine / f"cat/new{ending}", format)
    dataset = load(mine)
    assert f"cat/new{ending}" in home(dataset)
    assert dataset.notes[1:] == ()


def test_what_is_not_used_is_counted_and_named(mine: Path) -> None:
    for name in ("cat/notes.txt", "cat/a.xmp", "dog/b.xmp", "readme", "cat/.DS_Store", ".git/config", "cat/._0.png"):
        (mine / name).parent.mkdir(exist_ok=True)
        (mine / name).write_text("x")
    picture(mine / "dog/.thumbnails/0.png")
    dataset = load(mine)
    assert len(home(dataset)) == 2 * PER_CLASS
    assert dataset.notes[1:] == (
        "files not used, for their endings are not of images: 4: 1 .txt (cat/notes.txt), 2 .xmp (cat/a.xmp, "
        "dog/b.xmp), 1 without an ending (readme)",
        "hidden files and folders not used: 4: .git, cat/.DS_Store, cat/._0.png, and 1 more",
    )


def test_links_inside_are_followed(mine: Path) -> None:
    picture(mine / "dog/more/deep/a.png")
    (mine / "cat/from-dog").symlink_to(mine / "dog/more")
    (mine / "cat/one.png").symlink_to("../dog/0.png")
    (mine / "wolf").symlink_to("dog")
    dataset = load(mine)
    assert {"cat/from-dog/deep/a.png", "cat/one.png", "wolf/more/deep/a.png", "wolf/0.png"} <= home(dataset).keys()
    assert dataset.classes == ("cat", "dog", "wolf")
    assert len(home(dataset)) == 2 * PER_CLASS + 1 + 1 + 1 + (PER_CLASS + 1)


def test_links_out_are_bad_records_and_a_link_to_nothing_is_too(mine: Path) -> None:
    outside = picture(mine.parent / "outside/secret.png")
    (mine / "cat/folder").symlink_to(outside.parent)
    (mine / "cat/file.png").symlink_to(outside)
    (mine / "fox").symlink_to(outside.parent)
    (mine / "dog/gone.png").symlink_to(mine / "nowhere.png")
    (mine / "dog/self.png").symlink_to(mine / "dog/self.png")
    with pytest.raises(UserError, match=r"cat/file\.png: is a link out of the folder, to .*secret\.png: put that into"):
        load(mine)
    with pytest.raises(UserError, match=r"class fox has no image that can be used"):
        load(mine, on_bad="skip", max_bad=1)
    (mine / "fox").unlink()
    said = left_out(mine)
    assert said.keys() == {"cat/folder", "cat/file.png", "dog/gone.png", "dog/self.png"}
    assert said["dog/gone.png"].startswith("is a link to nothing: ")
    assert len(home(load(mine, on_bad="skip", max_bad=1))) == 2 * PER_CLASS


def test_loops_end_and_are_named(mine: Path) -> None:
    (mine / "cat/up").symlink_to(mine)
    (mine / "cat/here").symlink_to(".")
    (mine / "cat/twin.png").symlink_to("0.png")
    (mine / "dog/a").mkdir()
    (mine / "dog/a/back").symlink_to("..")
    (mine / "all").symlink_to(mine)
    for name, other in (("x", "y"), ("y", "x")):  # two folders that lead to each other
        picture(mine / f"dog/{name}/1.png")
        (mine / f"dog/{name}/other").symlink_to(f"../{other}")
    with pytest.raises(UserError, match="class all has no image"):
        load(mine)
    (mine / "all").unlink()
    dataset = load(mine)
    assert len(home(dataset)) == 2 * PER_CLASS + 2
    assert dataset.notes[-1] == (
        "links not followed, for they lead to what is used anyhow: 6: cat/twin.png, cat/here, cat/up, and 3 more"
    )


def test_many_links_to_one_folder_are_walked_once(mine: Path) -> None:
    """Followed each time, twenty floors of two links each would be a million folders."""
    picture(mine / "dog/20/top.png")
    for floor in range(20):
        (mine / f"dog/{floor:02}").mkdir()
        for twin in ("a", "b"):
            (mine / f"dog/{floor:02}/{twin}").symlink_to(f"../{floor + 1:02}")
    (mine / "cat/tower").symlink_to("../dog/00")
    assert len(home(load(mine))) == 2 * PER_CLASS + 2  # the top, as a dog and as a cat


def test_what_is_neither_file_nor_folder_and_what_has_no_name_in_text_are_bad(mine: Path) -> None:
    os.mkfifo(mine / "cat/s.png")
    (mine / os.fsdecode(b"cat/caf\xe9.png")).write_bytes(b"x")
    said = left_out(mine)
    assert said == {
        "cat/s.png": "is neither a file nor a folder",
        "'cat/caf\\udce9.png'": "its name is not text in UTF-8: give it another",
    }


def test_a_class_without_an_image_is_an_error_and_not_a_smaller_task(mine: Path) -> None:
    (mine / "fox").mkdir()
    (mine / "fox/notes.txt").write_text("x")
    for on_bad in ("fail", "skip"):
        with pytest.raises(UserError, match=r"class fox has no image that can be used\.\nMend that, or take the class"):
            load(mine, on_bad=on_bad)


def test_a_folder_that_may_not_be_read_is_not_taken_for_an_empty_one(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.scandir

    def refused(folder: Path) -> object:
        if folder.name == "deep":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    (mine / "cat/deep").mkdir()
    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UserError, match=r"cat/deep cannot be read: Permission denied"):
        load(mine)
