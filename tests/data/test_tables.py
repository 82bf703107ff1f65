"""The table that trains is the table that was written: whatever may make it another one is told with its line."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.data.trees import home, picture, table, told
from trainables import data
from trainables.data import Columns, DataConfig, tables
from trainables.data.base import SPLITS, Dataset, partition
from trainables.errors import UserError

HEADER = ("image", "label", "attribute", "split")
Row = Sequence[object]


def rows(n: int = 24) -> list[list[str]]:
    """Two classes and two attribute values; each cell has two examples in each split."""
    return [
        [f"img/{i:02d}.png", ("cat", "dog")[i % 2], ("in", "out")[i // 2 % 2], SPLITS[i // 4 % 3]] for i in range(n)
    ]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, *_ in rows():
        picture(tmp_path / name)
    return tmp_path


def load(path: Path, **settings: object) -> Dataset:
    return data.load(DataConfig(name="csv", root=path, **settings))


def written(root: Path, new: Sequence[Row], header: Row = HEADER, name: str = "t.csv") -> Path:
    return table(root / name, header, new)


def doubtful(dataset: Dataset) -> list[str]:
    return [f"{record.place}: {record.problem}" for record in dataset.bad if not record.dropped]


# --- the header


def test_a_column_that_is_used_and_stands_twice_is_refused_with_both_places(root: Path) -> None:
    path = written(root, [[*row, "fox"] for row in rows()], (*HEADER, " label "))
    with pytest.raises(UserError, match=r"t\.csv:1: column 'label' stands twice in the header \(columns 2 and 5\)"):
        load(path)


def test_a_column_that_stands_twice_and_is_not_used_is_no_reason_to_stop(root: Path) -> None:
    dataset = load(written(root, [[*row, "x", "y"] for row in rows()], (*HEADER, "note", "note")))
    assert home(dataset) == {row[0]: row[3] for row in rows()}
    assert dataset.notes == ("t.csv:1: not used: column note, note",)


def test_columns_that_are_not_used_are_named_with_the_line_that_uses_one(root: Path) -> None:
    new = [[*row[:2], row[3], f"id {i}", row[2], "x"] for i, row in enumerate(rows())]
    dataset = load(written(root, new, ("image", "label", "split", "id", "the background", "")))
    assert dataset.attributes == ()
    assert dataset.notes == (
        "t.csv:1: not used: column id, the background, (unnamed). To compare groups by one, write below data: "
        '`columns: {attribute: "the background"}`',
    )
    assert load(root / "t.csv", columns=Columns(attribute="the background")).attributes == ("in", "out")


def test_other_names_are_guessed_by_what_is_in_the_columns(root: Path) -> None:
    path = written(
        root, [[*row[:3], i % 7, row[3]] for i, row in enumerate(rows())], ("file", "sex", "race", "age", "set")
    )
    with pytest.raises(UserError) as error:
        load(path)
    assert str(error.value) == (
        f"{path}:1: column image, label is missing; the header has: file, sex, race, age, set. Needed: image, label. "
        "By what is in them, write below data: `columns: {image: file, label: sex, attribute: race, split: set}`"
    )
    columns = Columns(image="file", label="sex", attribute="race", split="set")
    assert load(path, columns=columns).attributes == ("in", "out")
    with pytest.raises(UserError, match=r"Is 'Label' meant to be 'label'\?"):
        load(written(root, rows(), ("image", "Label", "x", "y")))


def test_one_column_with_semicolons_is_told_as_what_it_is(root: Path) -> None:
    (root / "t.csv").write_text("image;label\n" + "".join(f"{row[0]};{row[1]}\n" for row in rows()))
    with pytest.raises(UserError, match="It is one column: save the table with commas between the fields"):
        load(root / "t.csv")


def test_a_file_without_a_header_is_empty(root: Path) -> None:
    (root / "t.csv").write_text("\n\n")
    with pytest.raises(UserError, match=r"t\.csv is empty\. Its first line must name the columns"):
        load(root / "t.csv")


# --- rows


def test_the_place_of_a_row_is_the_line_where_it_begins(root: Path) -> None:
    lines = ["image,label", 'img/00.png,"a\n\nb"', "", "img/01.png", "img/02.png,c,d"]
    (root / "t.csv").write_text("\n".join(lines))
    seen = list(tables.read_table(root / "t.csv", ("label",)))
    assert [place for place, _ in seen] == ["t.csv:2", "t.csv:6", "t.csv:7"]
    assert seen[0][1] == {"label": "a\n\nb"}
    with pytest.raises(ValueError, match="has 1 field, and the header has 2: write every column"):
        seen[1][1]["label"]


def test_a_quote_that_is_never_closed_is_told_where_it_stands(root: Path) -> None:
    (root / "t.csv").write_text('image,label\nimg/00.png,cat\nimg/01.png,"dog\n')
    with pytest.raises(UserError, match=r"t\.csv cannot be read as a table in UTF-8 near line 2: unexpected end"):
        load(root / "t.csv")


def test_an_unquoted_comma_is_never_half_a_label(root: Path) -> None:
    new = [[row[0], "Hawk", " red-tailed", row[3]] if row[1] == "dog" else [row[0], "Owl", row[3]] for row in rows()]
    with pytest.raises(UserError) as error:
        load(written(root, new, ("image", "label", "split")), on_bad="skip", max_bad=1)
    assert "there is only 1 class in it. At least two classes are needed. 12 records are bad" in str(error.value)
    assert "t.csv:3: has 4 fields, and the header has 3: put a field that holds a separator in quotes" in str(
        error.value
    )
    assert "and 7 more" in str(error.value)


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("/data/pictures/img/00.png", "write 'img/00.png', which is there"),
        ("C:\\pictures\\img\\00.png", "write 'img/00.png', which is there"),
        ("/data/00.jpg", "write what follows after the folder of the images"),
        ("img\\00.png", "no such file: img\\00.png; write 'img/00.png', which is there"),
        ("no\\00.png", "no such file: no\\00.png; write '/' between folders: 'no/00.png'"),
        ("img/00.PNG", "'00.png' is there, which differs in upper and lower case"),
        ("img/none.png", "no such file: img/none.png"),
        ("x" * 300, "no such file: xxx"),
    ],
)
def test_a_name_that_is_no_file_says_what_to_write(root: Path, name: str, mend: str) -> None:
    with pytest.raises(UserError, match="1 of 24 records are bad") as error:
        load(written(root, [[name, *rows()[0][1:]], *rows()[1:]]))
    assert "t.csv:2: " in str(error.value)
    assert mend in str(error.value)


def test_where_every_row_is_bad_the_first_are_told(root: Path) -> None:
    path = written(root, [[f"/data/{row[0]}", *row[1:]] for row in rows()])
    with pytest.raises(UserError, match=r"24 of 24 records are bad, and data\.on_bad is 'fail':\n  t\.csv:2: names an"):
        load(path)
    with pytest.raises(
        UserError, match=r"no image in it can be used.* 24 records are bad, and left out:\n  t\.csv:2: "
    ):
        load(path, on_bad="skip", max_bad=1)


def test_a_file_in_another_form_of_unicode_is_told_and_not_only_missing(root: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "img/Zoë.png") for form in ("NFC", "NFD"))
    picture(root / decomposed)
    with pytest.raises(UserError, match="is there, which differs in the form of Unicode"):
        load(written(root, [*rows(), [composed, "cat", "in", "train"]]))


# --- splits


def test_splits_0_1_2_are_read_where_all_three_occur_and_it_is_said(root: Path) -> None:
    numbered = load(written(root, [[*row[:3], SPLITS.index(row[3])] for row in rows()]))
    assert home(numbered) == {row[0]: row[3] for row in rows()}
    assert numbered.notes == (f"{root / 't.csv'}: the splits 0, 1 and 2 are read as train, val and test",)
    assert numbered.split_hash == load(written(root, rows())).split_hash


@pytest.mark.parametrize("codes", [("0", "1", "1"), ("train", "1", "2"), ("0", "1", "test")])
def test_other_numbers_may_mean_anything_and_are_bad(root: Path, codes: tuple[str, ...]) -> None:
    path = written(root, [[*row[:3], codes[SPLITS.index(row[3])]] for row in rows()])
    with pytest.raises(UserError) as error:
        load(path)
    line = next(i for i, row in enumerate(rows(), 2) if codes[SPLITS.index(row[3])] in "012")
    assert f"t.csv:{line}: split is '" in str(error.value)
    assert "numbers are read where 0, 1 and 2 all occur and nothing else. Write train, val or test" in str(error.value)


def test_tables_that_are_named_after_their_splits_are_one_dataset(root: Path) -> None:
    for split, name in zip(SPLITS, ("faces_label_train", "faces-val", "Test"), strict=True):
        written(root, [row[:3] for row in rows() if row[3] == split], HEADER[:3], f"{name}.csv")
    assert home(load(root)) == {row[0]: row[3] for row in rows()}
    written(root, [], HEADER, "faces-val.csv")  # another header: they are not one table
    with pytest.raises(UserError, match="a folder with these tables"):
        load(root)


# --- names, classes and values


def test_cells_of_names_with_bars_cannot_collide(root: Path) -> None:
    new = [[row[0], {"cat": "a|b", "dog": "a"}[row[1]], {"in": "b|in", "out": "in"}[row[2]], row[3]] for row in rows()]
    groups = load(written(root, new)).groups("train", "cell")
    assert groups.names == (r"a|b\|in", "a|in", r"a\|b|b\|in", r"a\|b|in")
    assert groups.counts_G.tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("classes", "values"), [(("a|", "a"), ("b", "|b")), (("a\\", "a"), ("|b", "b")), (("a", "a\\"), ("\\|b", "|b"))]
)
def test_no_two_cells_have_one_name(classes: tuple[str, ...], values: tuple[str, ...]) -> None:
    groups = partition("cell", classes, np.zeros(1, int), values, np.zeros(1, int))
    assert len(set(groups.names)) == 4


def test_names_without_bars_are_as_they_are_written() -> None:
    groups = partition("cell", ("a\\b", "c"), np.zeros(1, int), ("x",), np.zeros(1, int))
    assert groups.names == ("a\\b|x", "c|x")


@pytest.mark.parametrize("other", ["Cat", "ｃａｔ", "CAT"])
def test_names_that_only_a_computer_tells_apart_are_told_with_both_lines(root: Path, other: str) -> None:
    new = rows()
    new[4][1] = other
    dataset = load(written(root, new))
    assert dataset.classes == tuple(sorted(("cat", "dog", other)))
    assert (
        f"t.csv:6: label '{other}' and 'cat' (t.csv:2) differ in case or form of Unicode only; kept, as two"
    ) in doubtful(dataset)


def test_twins_among_values_and_images_are_told_too(root: Path) -> None:
    picture(root / "IMG/00.png")
    nfc, nfd = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    new = [[row[0], row[1], {"in": "in", "out": nfc}[row[2]], row[3]] for row in rows()]
    new[2][2] = nfd
    told_of = doubtful(load(written(root, [*new, ["IMG/00.png", "cat", "in", "train"]])))
    assert (
        f"t.csv:4: attribute '{nfd}' and '{nfc}' (t.csv:5) differ in case or form of Unicode only; kept, as two"
        in told_of
    )
    assert any(line.startswith("t.csv:26: image 'IMG/00.png'") or "image 'img/00.png'" in line for line in told_of)


def test_a_class_that_a_split_lacks_is_told_with_its_first_line(root: Path) -> None:
    new = [row for row in rows() if not (row[1] == "dog" and row[3] == "val")]
    assert doubtful(load(written(root, new))) == [
        "t.csv:3: is the first of 8 examples of label 'dog', and none is in val"
    ]
    values = [row for row in rows() if row[2] == "in" or row[3] == "test"]
    assert doubtful(load(written(root, values))) == [
        "t.csv:8: is the first of 4 examples of attribute 'out', and none is in train, val"
    ]


def test_a_single_example_of_a_class_is_told(root: Path) -> None:
    picture(root / "fox.png")
    dataset = load(written(root, [*rows(), ["fox.png", "fox", "in", "train"]]))
    assert doubtful(dataset) == ["t.csv:26: is the only example of label 'fox': val, test have none"]
    assert told(dataset)["fox.png"] == ("fox", "in")


def test_an_attribute_of_one_value_is_told(root: Path) -> None:
    dataset = load(written(root, [[*row[:2], "in", row[3]] for row in rows()]))
    assert dataset.attributes == ("in",)
    assert dataset.notes == ("every attribute is 'in': there are no two groups to compare",)


def test_a_table_with_nothing_doubtful_has_no_such_record(root: Path) -> None:
    assert load(written(root, rows())).bad == ()
    assert load(written(root, rows())).notes == ()


# --- lists, as CelebA's


def celeba(root: Path, count: int | None = 24) -> Path:
    """Its format: a count, a header without the image's column, -1 and 1, two blanks before a 1; a partition beside."""
    lines = [] if count is None else [str(count)]
    lines += ["Male Smiling Young "]
    partition = []
    for i, (name, label, value, split) in enumerate(rows()):
        file = f"{i + 1:06d}.jpg"
        picture(root / "img_align_celeba" / file, name)
        flags = (1 if value == "in" else -1, 1 if label == "cat" else -1, (-1, 1)[i // 8 % 2])
        lines.append(f"{file} {' '.join(f'{flag:2d}' for flag in flags)}")
        partition.append(f"{file} {SPLITS.index(split)}")
    (root / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    (root / "list_eval_partition.txt").write_text("\n".join(partition) + "\n")
    return root / "list_attr_celeba.txt"


CELEBA = {
    "images": "img_align_celeba",
    "partition": "list_eval_partition.txt",
    "columns": Columns(label="Smiling", attribute="Male"),
}


def test_a_list_with_a_count_and_a_nameless_image_column_is_read(tmp_path: Path) -> None:
    dataset = load(celeba(tmp_path), **CELEBA)
    assert (dataset.classes, dataset.attributes) == (("-1", "1"), ("-1", "1"))
    assert home(dataset) == {f"{i + 1:06d}.jpg": row[3] for i, row in enumerate(rows())}
    assert told(dataset)["000001.jpg"] == ("1", "1")
    assert told(dataset)["000004.jpg"] == ("-1", "-1")
    assert [len(dataset.splits[split]) for split in SPLITS] == [8, 8, 8]
    assert "not used: column Young" in dataset.notes[1]


def test_the_split_hash_is_that_of_the_same_table_as_csv(tmp_path: Path) -> None:
    new = [
        [f"{i + 1:06d}.jpg", *("1" if yes else "-1" for yes in (row[1] == "cat", row[2] == "in")), row[3]]
        for i, row in enumerate(rows())
    ]
    listed = load(celeba(tmp_path), **CELEBA)
    assert load(written(tmp_path, new), images="img_align_celeba").split_hash == listed.split_hash
    assert load(celeba(tmp_path, None), **CELEBA).split_hash == listed.split_hash


def test_a_list_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"list_attr_celeba\.txt:1: says 202,599 rows, and there are 24"):
        load(celeba(tmp_path, 202599), **CELEBA)


def test_what_the_partition_lacks_is_bad_and_what_it_says_twice_is_refused(tmp_path: Path) -> None:
    path = celeba(tmp_path)
    partition = tmp_path / "list_eval_partition.txt"
    lines = partition.read_text().splitlines(keepends=True)
    partition.write_text("".join(lines[1:]))
    with pytest.raises(UserError, match=r"list_attr_celeba\.txt:3: 000001\.jpg is not in data\.partition"):
        load(path, **CELEBA)
    partition.write_text("".join([*lines, "000001.jpg 2\n"]))
    with pytest.raises(
        UserError, match=r"list_eval_partition\.txt:25: 000001\.jpg is in '2' here, and in '0' further up"
    ):
        load(path, **CELEBA)


def test_two_places_for_the_splits_are_one_too_many(tmp_path: Path) -> None:
    columns = Columns(label="Smiling", attribute="Male", split="Young")
    with pytest.raises(UserError, match="both say the splits"):
        load(celeba(tmp_path), **{**CELEBA, "columns": columns})


def test_a_folder_of_images_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.images is '.*/none', which is not a folder"):
        load(celeba(tmp_path), **{**CELEBA, "images": "none"})
