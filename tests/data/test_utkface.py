"""UTKFace's names, dirty ones included; cut by content, so that no image is on both sides."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.data.trees import COSMETIC_FACES, RACELESS_FACES, home, listed, picture, told
from trainables import data
from trainables.data import DataConfig, contents
from trainables.data.base import Dataset
from trainables.data.datasets.utkface import AGES, RACES
from trainables.data.splitting import keyed
from trainables.errors import UserError

# Three groups of the same bytes. The first two are at odds: on race, on gender and race.
TWINS = (
    ("26_0_1_20170116000000001.jpg.chip.jpg", "26_0_3_20170116000000002.jpg.chip.jpg"),
    ("30_0_0_20170116000000003.jpg.chip.jpg", "30_1_4_20170116000000004.jpg.chip.jpg"),
    ("7_1_2_20170116000000005.jpg.chip.jpg", "7_1_2_2017011600000006.jpg.chip.jpg"),  # 16 digits, as three published
)


def plain() -> list[str]:
    return [f"{1 + i % 116}_{i % 2}_{i % 5}_2017{i:013d}.jpg.chip.jpg" for i in range(150)]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faces") / "UTKFace"
    for name in (*plain(), *COSMETIC_FACES, *RACELESS_FACES):
        picture(root / name, name)
    for number, group in enumerate(TWINS):
        for name in group:
            picture(root / name, f"twins {number}")
    (root / ".DS_Store").write_bytes(b"\0")
    (root / "._1_0_0_20170109150557335.jpg.chip.jpg").write_bytes(b"\0")
    return root


@pytest.fixture
def faces(pristine: Path, tmp_path: Path) -> Path:
    shutil.copytree(pristine, tmp_path / "UTKFace")
    return tmp_path / "UTKFace"


def load(root: Path, **settings: object) -> Dataset:
    return data.load(DataConfig(name="utkface", root=root, **settings))


def test_names_tell_gender_and_race_and_cosmetic_slips_are_no_matter(pristine: Path) -> None:
    dataset = load(pristine.parent)
    assert (dataset.classes, dataset.attributes) == (("male", "female"), RACES)
    found = told(dataset)
    assert found["55_0_0_20170116232725357jpg.chip.jpg"] == ("male", "White")
    assert found["24_0_1_20170116220224657 .jpg.chip.jpg"] == ("male", "Black")
    assert found["7_1_2_2017011600000006.jpg.chip.jpg"] == ("female", "Asian")
    assert len(home(dataset)) == 150 + 2 + 6


def test_the_published_names_without_a_race_are_left_out_and_reported_even_where_bad_records_fail(pristine) -> None:
    dropped = [record for record in load(pristine, on_bad="fail").bad if record.dropped]
    assert {record.place for record in dropped} == set(RACELESS_FACES)
    assert all("lack the race" in record.problem for record in dropped)


@pytest.mark.parametrize(
    ("age", "bin_"), [(1, "1-10"), (10, "1-10"), (11, "11-20"), (80, "71-80"), (81, "81-200"), (116, "81-200")]
)
def test_age_bins_are_closed_on_the_right(faces: Path, age: int, bin_: str) -> None:
    name = f"{age}_0_0_20180000000000000.jpg.chip.jpg"
    picture(faces / name)
    dataset = load(faces, task="age")
    assert dataset.classes == AGES
    assert len(AGES) == 9
    assert told(dataset)[name] == (bin_, "White")


@pytest.mark.parametrize("task", ["gender", "age"])
def test_files_with_the_same_bytes_are_in_one_split(pristine: Path, task: str) -> None:
    where = home(load(pristine, task=task))
    assert all(where[a] == where[b] for a, b in TWINS)


def test_both_tasks_have_the_same_splits(pristine: Path) -> None:
    assert listed(load(pristine, task="gender")) == listed(load(pristine, task="age"))
    assert (
        load(pristine).split_hash == load(pristine, task="gender").split_hash != load(pristine, task="age").split_hash
    )


def test_twins_that_disagree_are_kept_and_reported(pristine: Path) -> None:
    dataset = load(pristine)
    problems = {record.place: record.problem for record in dataset.bad if not record.dropped}
    assert problems == {
        TWINS[0][0]: f"has the same bytes as {TWINS[0][1]}, and they disagree on attribute (Black, Indian); "
        "kept, in one split",
        TWINS[1][0]: f"has the same bytes as {TWINS[1][1]}, and they disagree on label (female, male) and "
        "attribute (Others, White); kept, in one split",
    }
    assert "6 files in 3 groups have the same bytes; each group is in one split" in dataset.notes


def test_a_new_face_moves_no_other_and_the_order_of_the_folder_is_nothing(faces: Path, monkeypatch) -> None:
    before = load(faces)
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: sorted(listed(path), reverse=True))
    assert load(faces).split_hash == before.split_hash
    picture(faces / "50_1_3_20180000000000000.jpg.chip.jpg")
    after = home(load(faces))
    assert {name: after[name] for name in home(before)} == home(before)


def test_a_face_is_cut_by_its_bytes_and_not_by_its_name(faces: Path) -> None:
    before = home(load(faces))
    (faces / plain()[0]).rename(faces / "116_1_4_20190000000000000.jpg.chip.jpg")
    assert home(load(faces))["116_1_4_20190000000000000.jpg.chip.jpg"] == before[plain()[0]]


def test_hashes_are_remembered_and_a_changed_or_torn_memory_is_no_matter(
    faces: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "_SETTLED_NS", -contents._SETTLED_NS)  # these files are old enough
    first = load(faces)
    memory = next((own_cache / "contents").glob("digests-*.json"))
    kept = json.loads(memory.read_text())
    assert load(faces).split_hash == first.split_hash
    memory.write_text(memory.read_text()[:100])
    assert load(faces).split_hash == first.split_hash
    assert json.loads(memory.read_text()) == kept
    new = picture(faces / plain()[0], "another face")  # other bytes: the old hash must not be believed
    os.utime(new, ns=(1, 1))
    digest = hashlib.sha256(new.read_bytes()).hexdigest()[:32]
    assert home(load(faces))[plain()[0]] == keyed(digest)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("0_0_0_20180000000000000.jpg.chip.jpg", "says age 0"),
        ("201_0_0_20180000000000000.jpg.chip.jpg", "says age 201"),
        ("20_3_0_20180000000000000.jpg.chip.jpg", "gender 3"),
        ("20_0_5_20180000000000000.jpg.chip.jpg", "race 5"),
        ("20_0__20180000000000000.jpg.chip.jpg", "is not named"),
        ("face.chip.jpg", "is not named"),
    ],
)
def test_a_name_that_tells_nothing_useful_is_bad(faces: Path, name: str, problem: str) -> None:
    picture(faces / name)
    with pytest.raises(UserError, match=r"1 of 162 records are bad, and data\.on_bad is 'fail'"):
        load(faces)
    record = next(record for record in load(faces, on_bad="skip").bad if record.place == name)
    assert problem in record.problem


def test_a_folder_without_faces_says_what_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file name in it ends in \.chip\.jpg\. Fetch the aligned"):
        load(tmp_path)
    with pytest.raises(UserError, match=r"data\.root is missing"):
        data.load(DataConfig(name="utkface"))
