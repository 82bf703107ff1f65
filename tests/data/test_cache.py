"""Images decoded once: the right pixels, one array for all, finished chunks kept, torn files noticed."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from timm.data.transforms_factory import create_transform

from tests.data.trees import picture
from trainables.data import DataConfig
from trainables.data.base import SPLITS, Dataset, Split
from trainables.data.images import cache, draft, pixels
from trainables.data.images.cache import Images, decoded
from trainables.data.images.transform import Transform
from trainables.errors import UserError
from trainables.files import cache_root

PER_SPLIT = 10
SMALL = Transform(size=8)
SKIP = DataConfig(on_bad="skip", max_bad=0.2)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return make(tmp_path / "images")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft, "CHUNK", 4)
    monkeypatch.setattr(cache, "CHUNK", 4)


def make(root: Path) -> Dataset:
    """Ten pictures a split, of many modes and shapes; no attributes."""
    modes = ("RGB", "L", "RGBA", "CMYK", "P")
    parts = {}
    for split in SPLITS:
        files = [root / split / f"{i}.{'png' if i % 5 in (2, 4) else 'jpg'}" for i in range(PER_SPLIT)]
        for i, file in enumerate(files):
            picture(file, f"{split}{i}", size=(8 + i, 20 - i))
            mode = modes[i % 5]
            if mode != "RGB":
                Image.open(file).convert(mode).save(file)
        parts[split] = Split(split, tuple(files), np.arange(PER_SPLIT) % 2)
    return Dataset("pictures", root, ("even", "odd"), (), parts)


def folder() -> Path:
    """The only finished array of this test's cache."""
    (found,) = (cache_root() / "decoded").glob("*/images.u8")
    return found.parent


def expected(dataset: Dataset, split: str, transform: Transform) -> np.ndarray:
    return np.stack([transform(Image.open(path)) for path in dataset.splits[split].paths])


def test_row_i_shows_record_i_whatever_its_mode_and_shape(dataset: Dataset) -> None:
    found = decoded(dataset, "train", SMALL)
    assert found.images_NCHW.shape == (PER_SPLIT, 3, 8, 8)
    assert found.images_NCHW.dtype == np.uint8
    assert (found.images_NCHW == expected(dataset, "train", SMALL)).all()
    assert not (decoded(dataset, "val", SMALL).images_NCHW == found.images_NCHW).all()


@pytest.mark.parametrize("crop_pct", [1.0, 0.875, 0.9])
@pytest.mark.parametrize(("resize", "mode"), [("squash", "squash"), ("shorter", "center")])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_the_transform_is_timms_evaluation_transform(
    tmp_path: Path, crop_pct: float, resize: str, mode: str, interpolation: str
) -> None:
    oracle = create_transform(  # type: ignore[no-untyped-call]
        32, crop_pct=crop_pct, crop_mode=mode, interpolation=interpolation, normalize=False
    )
    ours = Transform(32, resize, crop_pct, interpolation)  # type: ignore[arg-type]
    for size in ((50, 41), (37, 90), (20, 20), (32, 33)):
        image = Image.open(picture(tmp_path / "image.png", size=size))
        assert (ours(image) == np.asarray(oracle(image))).all()


def test_waterbirds_usual_transform_is_a_squash_to_256_and_the_middle_224() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 300, 3), dtype=np.uint8))
    squashed = np.asarray(image.resize((256, 256), Image.Resampling.BICUBIC))[16:240, 16:240]
    assert (Transform(224, "squash", 224 / 256)(image) == squashed.transpose(2, 0, 1)).all()


def test_a_banner_is_cut_off_before_all_else(dataset: Dataset) -> None:
    cut = decoded(replace(dataset, crop_bottom=3), "train", SMALL)
    assert (cut.images_NCHW == expected(dataset, "train", replace(SMALL, crop_bottom=3))).all()
    assert cut.hash != decoded(dataset, "train", SMALL).hash


@pytest.mark.parametrize("wrong", [{"size": 0}, {"crop_pct": 1.1}, {"resize": "stretch"}, {"interpolation": "box"}])
def test_an_impossible_transform_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Use "):
        Transform(**wrong)  # type: ignore[arg-type]


def test_threads_change_nothing(dataset: Dataset, own_cache: Path) -> None:
    one = decoded(dataset, "train", SMALL)
    kept = np.array(one.images_NCHW)
    shutil.rmtree(own_cache / "decoded")
    four = decoded(dataset, "train", SMALL, workers=4)
    assert (kept == four.images_NCHW).all()
    assert one.hash == four.hash


def test_the_hash_is_of_the_bytes_and_the_transform_not_of_place_or_time(tmp_path: Path, dataset: Dataset) -> None:
    first = decoded(dataset, "train", SMALL).hash
    shutil.copytree(dataset.root, tmp_path / "moved")
    moved = make(tmp_path / "moved")
    os.utime(moved.splits["train"].paths[0], (1, 1))
    assert decoded(moved, "train", SMALL).hash == first
    assert decoded(dataset, "train", Transform(size=9)).hash != first
    picture(moved.splits["train"].paths[0], "another picture")
    assert decoded(moved, "train", SMALL).hash != first


def test_nothing_is_decoded_twice(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    first = decoded(dataset, "train", SMALL)
    monkeypatch.setattr(draft, "_read", None)  # calling it would raise
    again = decoded(dataset, "train", SMALL)
    assert (first.images_NCHW == again.images_NCHW).all()
    assert again.notes == ()
    assert isinstance(again.images_NCHW, np.memmap)
    assert not again.images_NCHW.flags.writeable


def test_an_edited_image_is_seen(dataset: Dataset) -> None:
    before = decoded(dataset, "train", SMALL)
    picture(dataset.splits["train"].paths[4], "edited")
    after = decoded(dataset, "train", SMALL)
    differ = (before.images_NCHW != after.images_NCHW).any(axis=(1, 2, 3))
    assert np.flatnonzero(differ).tolist() == [4]


class Killed(BaseException):
    """What no handler catches: stands for SIGKILL, but leaves the test alive."""


def kill_at(position: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Reading stops at the given call; returns the names read so far, growing."""
    read, seen = draft._read, list[str]()

    def reader(path: Path, transform: Transform, row: np.ndarray) -> tuple[str, str | None]:
        if len(seen) == position:
            raise Killed
        seen.append(path.name)
        return read(path, transform, row)

    monkeypatch.setattr(draft, "_read", reader)
    return seen


@pytest.mark.parametrize("position", [0, 3, 4, 6, 9])
def test_a_killed_build_goes_on_after_its_last_whole_chunk(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, position: int
) -> None:
    with monkeypatch.context() as patch:
        kill_at(position, patch)
        with pytest.raises(Killed):
            decoded(dataset, "train", SMALL)
    with monkeypatch.context() as patch:
        seen = kill_at(99, patch)
        found = decoded(dataset, "train", SMALL)
    assert len(seen) == PER_SPLIT - position // 4 * 4
    assert (found.images_NCHW == expected(dataset, "train", SMALL)).all()
    assert not (folder() / "draft").exists()


def test_a_draft_that_was_torn_is_believed_only_where_its_checksums_agree(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        kill_at(9, patch)
        with pytest.raises(Killed):
            decoded(dataset, "train", SMALL)
    (unfinished,) = (cache_root() / "decoded").glob("*/draft")
    with (unfinished / "images.u8").open("r+b") as file:
        file.write(b"\xaa" * 100)  # inside the first of two finished chunks
    with (unfinished / "journal").open("a") as file:
        file.write('{"chunk": 2, "cr')
    with monkeypatch.context() as patch:
        seen = kill_at(99, patch)
        found = decoded(dataset, "train", SMALL)
    assert len(seen) == 6  # records 0 to 3 again, and 8 and 9
    assert (found.images_NCHW == expected(dataset, "train", SMALL)).all()


def truncate() -> None:
    with (folder() / "images.u8").open("r+b") as file:
        file.truncate(100)


def truncate_quietly() -> None:
    path = folder() / "images.u8"
    before = path.stat()
    truncate()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip() -> None:
    with (folder() / "images.u8").open("r+b") as file:
        file.seek(1000)
        file.write(b"\x00\xff\x00\xff")


def lose_array() -> None:
    (folder() / "images.u8").unlink()


def cut_manifest() -> None:
    path = folder() / "manifest.json"
    path.write_text(path.read_text()[:50])


@pytest.mark.parametrize("tear", [truncate, truncate_quietly, flip, lose_array, cut_manifest])
def test_a_torn_array_is_built_again_and_says_so(dataset: Dataset, tear: object) -> None:
    first = decoded(dataset, "train", SMALL).hash
    assert callable(tear)
    tear()
    found = decoded(dataset, "train", SMALL)
    assert (found.images_NCHW == expected(dataset, "train", SMALL)).all()
    assert found.hash == first
    assert [note for note in found.notes if note.startswith("decoded images were damaged and are built again")]
    assert decoded(dataset, "train", SMALL).notes == ()


def test_a_copied_cache_is_checked_once_and_believed(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded(dataset, "train", SMALL)
    os.utime(folder() / "images.u8", (1, 1))  # as a copy without times would have it
    monkeypatch.setattr(draft, "_read", None)
    assert decoded(dataset, "train", SMALL).notes == ()
    assert json.loads((folder() / "manifest.json").read_text())["mtime_ns"] == 1_000_000_000


def build_and_tell(root: Path) -> tuple[str, int]:
    """In a process of its own: the array's hash and its file's number."""
    found = decoded(make_again(root), "train", SMALL, workers=2)
    return found.hash, (folder() / "images.u8").stat().st_ino


def make_again(root: Path) -> Dataset:
    files = {split: sorted((root / split).iterdir(), key=lambda file: int(file.stem)) for split in SPLITS}
    labels = np.arange(PER_SPLIT) % 2
    parts = {split: Split(split, tuple(paths), labels) for split, paths in files.items()}
    return Dataset("pictures", root, ("even", "odd"), (), parts)


def test_processes_that_ask_at_once_share_one_array(dataset: Dataset) -> None:
    with multiprocessing.get_context("fork").Pool(3) as pool:
        answers = pool.map(build_and_tell, [dataset.root] * 3, chunksize=1)
    assert len(set(answers)) == 1


def damage(dataset: Dataset) -> None:
    """One image of each split: cut short, not an image, gone."""
    short, text, gone = (dataset.splits[split].paths[i] for split, i in (("train", 2), ("val", 5), ("test", 9)))
    short.write_bytes(short.read_bytes()[:-60])
    text.write_text("not an image")
    gone.unlink()


@pytest.mark.parametrize(
    ("split", "told"),
    [
        ("train", "train/2.png: cannot be decoded: "),
        ("val", "val/5.jpg: is not an image that Pillow can read"),
        ("test", "test/9.png: no such file"),
    ],
)
def test_an_unreadable_image_ends_the_reading_by_name(dataset: Dataset, split: str, told: str) -> None:
    damage(dataset)
    with pytest.raises(UserError, match=r"1 of 10 records are bad, and data.on_bad is 'fail'") as fault:
        decoded(dataset, split, SMALL)
    assert told in str(fault.value)
    assert "0x" not in str(fault.value)
    with pytest.raises(UserError, match="1 of 10 records are bad"):
        Images(dataset, SMALL, DataConfig(on_bad="fail")).split(split)


def test_skip_leaves_the_same_images_out_everywhere_and_in_the_hash(dataset: Dataset) -> None:
    whole = Images(dataset, SMALL, SKIP)
    assert (whole.dataset.split_hash, whole.dataset.bad) == (dataset.split_hash, ())
    hashes = [whole.split(split).hash for split in SPLITS]
    damage(dataset)
    reduced = Images(dataset, SMALL, SKIP)
    assert [record.place for record in reduced.dataset.bad] == ["train/2.png", "val/5.jpg", "test/9.png"]
    assert reduced.dataset.split_hash != dataset.split_hash
    assert not set(hashes) & {reduced.split(split).hash for split in SPLITS}
    for split, gone in (("train", 2), ("val", 5), ("test", 9)):
        part, found = reduced.dataset.splits[split], reduced.split(split)
        assert part.paths == tuple(p for p in dataset.splits[split].paths if p.stem != str(gone))
        assert part.labels_N.tolist() == [i % 2 for i in range(PER_SPLIT) if i != gone]
        assert found.kept_N.tolist() == [i for i in range(PER_SPLIT) if i != gone]
        assert (found.images_NCHW == expected(reduced.dataset, split, SMALL)).all()
    again = Images(dataset, SMALL, SKIP)
    assert again.dataset.split_hash == reduced.dataset.split_hash


def test_skip_has_its_limit(dataset: Dataset) -> None:
    damage(dataset)
    with pytest.raises(UserError, match=r"3 of 30 records are bad, and data.max_bad allows a share of 0.09"):
        Images(dataset, SMALL, DataConfig(on_bad="skip", max_bad=0.09))


def test_a_split_without_one_readable_image_is_refused(dataset: Dataset) -> None:
    for path in dataset.splits["val"].paths:
        path.write_text("not an image")
    with pytest.raises(UserError, match=r"none of the 10 images can be read. The first: .*val/0.jpg: is not an image"):
        Images(dataset, SMALL, DataConfig(on_bad="skip", max_bad=1))


def test_a_class_without_one_readable_image_is_refused(dataset: Dataset) -> None:
    odd = [path for split in SPLITS for path in dataset.splits[split].paths[1::2]]
    for path in odd:
        path.write_text("not an image")
    with pytest.raises(UserError, match=r"class odd has no image that can be used\. 15 .*\n  train/1\.jpg: is not an"):
        Images(dataset, SMALL, DataConfig(on_bad="skip", max_bad=1))


def test_the_same_heic_is_another_array_once_its_decoder_is_there(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels.readable()
    path = dataset.splits["train"].paths[0]
    Image.new("RGB", (32, 32), "red").save(path, "HEIF")
    with monkeypatch.context() as patch:
        patch.setattr(pixels, "readable", lambda: ("JPEG", "PNG"))
        assert [record.problem for record in Images(dataset, SMALL, SKIP).dataset.bad] == [
            "is HEIC, which needs the package pillow-heif: pip install 'sweeper[heic]'"
        ]
    assert Images(dataset, SMALL, SKIP).dataset.bad == ()


def test_photos_are_turned_where_the_dataset_says_so(dataset: Dataset) -> None:
    path = dataset.splits["train"].paths[0]
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(path).convert("RGB").save(path, exif=exif.tobytes())
    as_stored = decoded(dataset, "train", SMALL)
    turned = decoded(replace(dataset, upright=True), "train", SMALL)
    assert turned.hash != as_stored.hash
    assert (turned.images_NCHW[0] == as_stored.images_NCHW[0, :, ::-1, ::-1]).all()


def test_who_looks_at_train_alone_decodes_train_alone(dataset: Dataset) -> None:
    Images(dataset, SMALL, DataConfig(on_bad="fail")).split("train")
    assert folder().is_dir()  # the only one


def test_a_full_disk_is_a_sentence_and_not_a_bus_error(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"no room for 0.00 GB .* \(No space left on device\).*\n?.*SWEEPER_CACHE"):
        decoded(dataset, "train", SMALL)


def test_a_file_that_the_system_refuses_is_not_called_bad_data(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be readable tomorrow, and the cache would remember it as bad for ever."""

    def broken(file: object, digest: str) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", broken)
        with pytest.raises(UserError, match=r"train/0.jpg cannot be read: Input/output error. Mend that"):
            Images(dataset, SMALL, SKIP)
    assert Images(dataset, SMALL, SKIP).dataset.bad == ()
