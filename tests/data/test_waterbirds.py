"""Waterbirds' format: columns by name, both folder names, dirty rows named, a re-drawn set told apart."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.data.trees import picture, table
from trainables.data import DataConfig, load
from trainables.data.base import SPLITS, Dataset
from trainables.data.datasets.waterbirds import FOLDERS, OFFICIAL, _other_draw  # the note needs 11,788 rows, not files
from trainables.data.examples import Example
from trainables.data.report import _sizes, describe, tell
from trainables.errors import UserError

HEADER = ("img_id", "img_filename", "y", "split", "place", "place_filename")
CELLS = [(split, y, place) for split in range(3) for y in range(2) for place in range(2)]

RELATIVE = ": write what follows after the folder of the images"


def rows() -> list[list[object]]:
    """Two images per cell and split: 24."""
    names = [(f"{s:03d}.Bird of {y}{p}/{s}{y}{p}_{i}.jpg", s, y, p) for s, y, p in CELLS for i in range(2)]
    return [[number, name, y, s, p, "/o/ocean/1.jpg"] for number, (name, s, y, p) in enumerate(names, 1)]


def tree(root: Path, *extra: list[object], header: tuple[str, ...] = HEADER) -> Path:
    for row in rows():
        picture(root / str(row[1]))
    table(root / "metadata.csv", header, [*rows(), *extra])
    return root


def read(root: Path, on_bad: str = "fail", max_bad: float = 0.5) -> Dataset:
    return load(DataConfig.model_validate({"name": "waterbirds", "root": root, "on_bad": on_bad, "max_bad": max_bad}))


@pytest.mark.parametrize("folder", [".", *FOLDERS])
def test_the_root_may_be_the_folder_itself_or_its_parent(tmp_path: Path, folder: str) -> None:
    tree(tmp_path / folder)
    dataset = read(tmp_path)
    assert [len(dataset.splits[split]) for split in SPLITS] == [8, 8, 8]
    assert all(path.is_file() for split in SPLITS for path in dataset.splits[split].paths)


def test_cells_are_two_times_y_plus_place(tmp_path: Path) -> None:
    groups = read(tree(tmp_path)).groups("train", "cell")
    assert groups.names == ("landbird|land", "landbird|water", "waterbird|land", "waterbird|water")
    assert groups.counts_G.tolist() == [2, 2, 2, 2]
    part = read(tmp_path).splits["val"]
    named = [(int(path.stem[1]), int(path.stem[2])) for path in part.paths]
    assert part.attributes_N is not None
    assert named == list(zip(part.labels_N.tolist(), part.attributes_N.tolist(), strict=True))


def test_columns_are_found_by_name_and_unknown_ones_ignored(tmp_path: Path) -> None:
    plain = read(tree(tmp_path / "plain"))
    order = (4, 2, 1, 3)
    shuffled = [[*(row[i] for i in order), "new"] for row in reversed(rows())]
    tree(tmp_path / "other")
    table(tmp_path / "other" / "metadata.csv", (*(HEADER[i] for i in order), "weather"), shuffled)
    assert read(tmp_path / "other").split_hash == plain.split_hash


def test_the_split_hash_moves_with_any_label(tmp_path: Path) -> None:
    before = read(tree(tmp_path)).split_hash
    changed = rows()
    changed[0][4] = 1
    table(tmp_path / "metadata.csv", HEADER, changed)
    assert read(tmp_path).split_hash != before


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ([99, "gone.jpg", 0, 0, 0, ""], "no such file: gone.jpg"),
        (
            [99, "000.Bird of 00/000_0.jpg", 0, 1, 0, ""],
            "lists 000.Bird of 00/000_0.jpg again, first in metadata.csv:2",
        ),
        ([99, "new.jpg", 2, 0, 0, ""], "y is '2'. Use one of: 0, 1"),
        ([99, "new.jpg", "", 0, 0, ""], "y is ''. Use one of: 0, 1"),
        ([99, "new.jpg", 0, "train", 0, ""], "split is 'train'. Use one of: 0, 1, 2"),
        ([99, "new.jpg", 0, 0, "nan", ""], "place is 'nan'. Use one of: 0, 1"),
        ([99, "new.jpg", 0, 0], "has 4 fields, and the header has 6: write every column"),
        ([99, "", 0, 0, 0, ""], "has no file name"),
        ([99, "../secret.jpg", 0, 0, 0, ""], "names a path '../secret.jpg' that leads out of the folder"),
        ([99, "a/../../secret.jpg", 0, 0, 0, ""], "names a path 'a/../../secret.jpg' that leads out of the folder"),
        ([99, "..\\secret.jpg", 0, 0, 0, ""], "names a path '..\\secret.jpg' that leads out of the folder"),
        ([99, "/etc/passwd", 0, 0, 0, ""], "names an absolute path '/etc/passwd', which is not allowed" + RELATIVE),
        (
            [99, "C:\\secret.jpg", 0, 0, 0, ""],
            "names an absolute path 'C:\\secret.jpg', which is not allowed" + RELATIVE,
        ),
    ],
)
def test_a_bad_row_ends_the_reading_or_is_left_out_by_name(tmp_path: Path, row: list[object], problem: str) -> None:
    root = tree(tmp_path / "birds", row)
    picture(tmp_path / "secret.jpg")
    with pytest.raises(UserError) as told:
        read(root)
    assert f"1 of 25 records are bad, and data.on_bad is 'fail':\n  metadata.csv:26: {problem}\n" in str(told.value)
    assert "Mend them, or set data.on_bad to 'skip' to leave them out." in str(told.value)
    dataset = read(root, on_bad="skip")
    assert [(record.place, record.problem) for record in dataset.bad] == [("metadata.csv:26", problem)]
    assert dataset.split_hash == read(tree(tmp_path / "clean")).split_hash


def test_skip_has_its_limit(tmp_path: Path) -> None:
    tree(tmp_path, *([n, f"gone{n}.jpg", 0, 0, 0, ""] for n in range(6)))
    assert len(read(tmp_path, on_bad="skip", max_bad=0.2).bad) == 6  # of 30
    with pytest.raises(UserError, match=r"6 of 30 records are bad, and data.max_bad allows a share of 0.19:") as told:
        read(tmp_path, on_bad="skip", max_bad=0.19)
    assert "and 1 more" in str(told.value)


def test_codes_that_a_spreadsheet_has_made_decimal_are_read(tmp_path: Path) -> None:
    decimal = [[row[0], row[1], f"{row[2]}.0", f"{row[3]}.0", f"{row[4]}.0", ""] for row in rows()]
    plain = read(tree(tmp_path)).split_hash
    table(tmp_path / "metadata.csv", HEADER, decimal)
    assert read(tmp_path).split_hash == plain


def test_a_missing_column_is_told_with_its_likely_spelling(tmp_path: Path) -> None:
    tree(tmp_path, header=("img_id", "img_file", "y", "split", "place", "place_filename"))
    with pytest.raises(UserError, match=r"metadata.csv:1: column img_filename is missing; the header has: img_id, .*"):
        read(tmp_path)
    with pytest.raises(UserError, match=r"Is 'img_file' meant to be 'img_filename'\?"):
        read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00img", b'img_filename,y,split,place\n"torn,0,0,0'])
def test_a_damaged_table_is_a_sentence_not_a_traceback(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metadata.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"metadata\.csv"):
        read(tmp_path)


def test_a_split_without_examples_is_refused(tmp_path: Path) -> None:
    tree(tmp_path)
    table(tmp_path / "metadata.csv", HEADER, [row for row in rows() if row[3] != 1])
    with pytest.raises(UserError, match="split val has no examples"):
        read(tmp_path)


def test_a_missing_copy_is_told_with_what_to_fetch_and_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.root is missing, and waterbirds needs your own copy. Fetch water"):
        load(DataConfig(name="waterbirds"))
    with pytest.raises(UserError, match=r"data.root is '.*nowhere', which is not a folder. Fetch"):
        read(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"none of these is in it: metadata.csv, waterbird_complete95_.*/metadata.csv"):
        read(tmp_path)


def test_an_unknown_dataset_is_told_the_nearest_known_one() -> None:
    with pytest.raises(UserError, match=r"data.name 'waterbird' is unknown. Did you mean 'waterbirds'\? Known: "):
        load(DataConfig(name="waterbird"))


def drawn(train: tuple[int, ...]) -> list[Example]:
    counts = {**OFFICIAL, "train": train}
    cells = [(c, a) for c in ("landbird", "waterbird") for a in ("land", "water")]
    named = ((s, cell, i) for s in SPLITS for cell, n in zip(cells, counts[s], strict=True) for i in range(n))
    return [Example("", f"{s}{c}{a}{i}", Path(), c, a, s) for s, (c, a), i in named]


def test_the_published_draw_is_known_by_its_cells() -> None:
    assert [sum(counts) for counts in OFFICIAL.values()] == [4795, 1199, 5794]
    assert _other_draw(drawn(OFFICIAL["train"])) == ()


@pytest.mark.parametrize("train", [(3525, 186, 54, 1030), (3525, 186, 54, 1029), (1, 1, 1, 1), (184, 3498, 56, 1057)])
def test_any_other_draw_is_called_so_whatever_its_size(train: tuple[int, ...]) -> None:
    """The first has the published size: a known variant of another seed."""
    (note,) = _other_draw(drawn(train))
    cells = " / ".join(map(str, train))
    assert f"not the published Waterbirds: the cells of train are {cells}, the published ones 3498 / 184 /" in note
    assert "val are" not in note


def test_a_small_table_in_this_format_is_not_the_published_one(tmp_path: Path) -> None:
    (note,) = read(tree(tmp_path)).notes
    assert "the cells of val are 2 / 2 / 2 / 2, the published ones 467 / 466 / 133 / 133" in note


@pytest.mark.parametrize("on_bad", ["fail", "skip"])
def test_images_that_are_not_there_are_no_such_file(tmp_path: Path, on_bad: str) -> None:
    table(tmp_path / "metadata.csv", HEADER, rows())
    with pytest.raises(UserError, match=r"metadata\.csv:2: no such file: 000\.Bird of 00/000_0\.jpg"):
        read(tmp_path, on_bad=on_bad, max_bad=1.0)


def test_a_split_whose_images_are_not_there_is_told_with_them(tmp_path: Path) -> None:
    for row in rows():
        if row[3] != 1:
            picture(tmp_path / str(row[1]))
    table(tmp_path / "metadata.csv", HEADER, rows())
    with pytest.raises(UserError, match=r"split val has no examples.*8 records are bad.*\n.*:10: no such file: 001"):
        read(tmp_path, on_bad="skip")


def test_a_dataset_tells_its_counts_hash_and_what_it_left_out(tmp_path: Path) -> None:
    dataset = read(tree(tmp_path, [99, "gone.jpg", 0, 0, 0, ""]), on_bad="skip")
    described = describe(dataset)
    assert described["splits"]["test"] == {
        "n": 8,
        "class": {"landbird": 4, "waterbird": 4},
        "attribute": {"land": 4, "water": 4},
        "cell": {"landbird|land": 2, "landbird|water": 2, "waterbird|land": 2, "waterbird|water": 2},
    }
    assert described["split_hash"] == dataset.split_hash
    told = tell(dataset).replace("\n      ", " ")  # folded at 80 columns
    assert f"waterbirds: 2 classes, split hash {dataset.split_hash}" in told
    assert "train 8: landbird|land 2, landbird|water 2, waterbird|land 2, waterbird|water 2" in told
    assert "bad records left out: 1\n    metadata.csv:26: no such file: gone.jpg" in told


def test_the_same_rows_in_a_file_with_a_byte_order_mark_are_the_same_dataset(tmp_path: Path) -> None:
    before = read(tree(tmp_path)).split_hash
    with (tmp_path / "metadata.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows()])
    assert read(tmp_path).split_hash == before


def test_of_many_groups_a_line_tells_their_range_and_the_smallest() -> None:
    few, many = {"a": 2, "b": 1}, {f"g{n}": 1000 + n for n in range(45)}
    assert _sizes(few) == "a 2, b 1"
    assert _sizes(many) == (
        "45 groups of 1,000 to 1,044 examples; the smallest: g0 1,000, g1 1,001, g2 1,002, g3 1,003, g4 1,004"
    )
