"""Tables of texts, D-Lab's comments, and the embedded sentences."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from trainables.data import Columns, DataConfig, load
from trainables.data.base import SPLITS, Dataset
from trainables.data.report import file_digests, leak_note
from trainables.errors import UserError

ROWS: list[dict[str, object]] = [
    {"said": f"number {i}, which is {'good' if i % 2 else 'bad'}", "is": "yes" if i % 2 else "no"}
    | {"by": "ab"[i % 3 % 2], "x": i % 3 == 0, "y": i % 2 == 0}
    for i in range(120)
]
COLUMNS = Columns(text="said", label="is", attribute="by", groups=("x", "y"))


def write(path: Path, rows: list[dict[str, object]] = ROWS) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    elif path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            table.writeheader()
            table.writerows(rows)
    return path


def texts(root: Path, **more: object) -> Dataset:
    return load(DataConfig.model_validate({"name": "csv", "root": root, "columns": COLUMNS} | more))


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_the_same_rows_are_the_same_data_in_every_kind_of_table(tmp_path: Path, ending: str) -> None:
    dataset, plain = texts(write(tmp_path / f"mine{ending}")), texts(write(tmp_path / "plain.csv"))
    assert (dataset.noun, dataset.classes, dataset.attributes) == ("text", ("no", "yes"), ("a", "b"))
    assert dataset.split_hash == plain.split_hash
    assert file_digests(dataset) == file_digests(plain)
    said = {text for split in SPLITS for text in dataset.splits[split].texts}
    assert said == {row["said"] for row in ROWS}
    part = dataset.splits["train"]
    for text, label, members in zip(part.texts, part.labels_N, part.members_NG, strict=True):
        row = next(row for row in ROWS if row["said"] == text)
        assert dataset.classes[label] == row["is"]
        assert members.tolist() == [row["x"], row["y"]]
    assert part.part([1, 0]).texts == (part.texts[1], part.texts[0])


def test_rows_that_move_change_nothing_and_copies_stay_together(tmp_path: Path) -> None:
    one = texts(write(tmp_path / "a.jsonl", [*ROWS, *ROWS[:40]]))
    other = texts(write(tmp_path / "b.jsonl", [*reversed(ROWS), *ROWS[:40]]))
    assert one.split_hash == other.split_hash
    home = {text: split for split in SPLITS for text in one.splits[split].texts}
    assert all(home[text] == split for split in SPLITS for text in one.splits[split].texts)
    assert sum(len(part) for part in one.splits.values()) == 160
    assert leak_note(one) is None


def test_a_text_in_two_splits_is_told_by_how_it_begins(tmp_path: Path) -> None:
    rows = [{**row, "split": SPLITS[i % 3]} for i, row in enumerate(ROWS)]
    rows[1] = {**rows[0], "split": "val"}
    columns = COLUMNS.model_copy(update={"split": "split"})
    note = leak_note(texts(write(tmp_path / "mine.csv", rows), columns=columns))
    assert note is not None
    assert note.startswith("1 text is in more than one split, with the same words: 'number 0, which is bad' (train), ")


@pytest.mark.parametrize(
    ("ending", "text", "told"),
    [
        (".jsonl", '{"said": "a", "is": "b"}\n{"said"', r"mine.jsonl:2: no JSON"),
        (".jsonl", '{"said": "a"}\n[1]\n', r"mine.jsonl:2: a list. Write one JSON object on each line"),
        (".parquet", "no such thing", r"cannot be read as a parquet table"),
        (".csv", "text,is\na,b\n", r"column said is missing; the header has: text, is"),
    ],
)
def test_a_broken_table_is_told_with_its_line(tmp_path: Path, ending: str, text: str, told: str) -> None:
    path = tmp_path / f"mine{ending}"
    path.write_text(text)
    with pytest.raises(UserError, match=told):
        texts(path)


def test_an_empty_text_is_a_bad_record(tmp_path: Path) -> None:
    table = write(tmp_path / "mine.jsonl", [*ROWS, {**ROWS[0], "said": " "}])
    with pytest.raises(UserError, match=r"mine.jsonl:121: said is empty"):
        texts(table)
    assert texts(table, on_bad="skip").bad[0].place == "mine.jsonl:121"


def test_the_embedded_sentences_are_there_with_two_groups() -> None:
    dataset = load(DataConfig(name="docstrings"))
    cells = {split: dataset.groups(split, "cell") for split in SPLITS}
    assert dict(zip(cells["train"].names, cells["train"].counts_G.tolist(), strict=True)) == {
        "class|scipy": 20, "class|sklearn": 100, "function|scipy": 100, "function|sklearn": 20,
    }  # fmt: skip
    assert cells["val"].counts_G.tolist() == cells["test"].counts_G.tolist() == [30] * 4
    assert leak_note(dataset) is None
    assert any("raccoon" in text for text in dataset.splits["train"].texts)


def dlab(folder: Path, ending: str = "parquet") -> Path:
    """Comments 0 to 199, each rated twice; 0 and 1 target race."""
    rows = []
    for rating in range(2):
        for i in range(200):
            targets = {
                "race": i % 2 == 0,
                "religion": i % 2 == 1,
                "age": i % 10 == 0,
                "gender": False,
                "sexuality": i % 5 == 0,
            }
            groups = {"race_asian": i % 4 == 0, "race_black": i % 3 == 0, "religion_jewish": i % 4 == 1}
            rows.append(
                {"comment_id": i, "annotator_id": rating, "text": f"comment {i}"}
                | {"hate_speech_score": (1.0 if i % 3 == 0 else -1.0) if rating == 0 else 5.0}
                | {f"target_{name}": value for name, value in (targets | groups).items()}
            )
    frame = pd.DataFrame(rows)
    path = folder / f"measuring-hate-speech.{ending}"
    frame.to_parquet(path) if ending == "parquet" else frame.to_csv(path, index=False)
    return folder


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_comments_are_read_as_the_paper_reads_them(tmp_path: Path, ending: str) -> None:
    dataset = load(DataConfig(name="dlab-hate-speech", root=dlab(tmp_path, ending)))
    labels = Counter(dataset.classes[i] for split in SPLITS for i in dataset.splits[split].labels_N)
    assert labels == {
        "hateful": 34,
        "not hateful": 66,
    }  # 0, 6, ..., 198 of the even; the first counts
    assert dataset.overlapping == ("target_race_asian", "target_race_black")
    counts = sum(dataset.groups(split, "overlapping").counts_G for split in SPLITS)
    assert counts.tolist() == [50, 34]
    assert "On Fairness of LoRA counts 11,670 and 2,954" in dataset.notes[1]


@pytest.mark.parametrize(("subset", "count"), [("religion", 100), ("age", 20), ("sexuality", 40), ("all", 200)])
def test_a_subset_is_what_targets_it(tmp_path: Path, subset: str, count: int) -> None:
    folder = dlab(tmp_path)
    config = DataConfig(name="dlab-hate-speech", root=folder, subset=subset)
    if subset in ("age", "sexuality"):  # of which the small copy names no groups
        with pytest.raises(UserError, match=rf"no column is called target_{subset}_"):
            load(config)
        return
    dataset = load(config)
    assert sum(len(part) for part in dataset.splits.values()) == count
    assert len(dataset.overlapping) == (5 if subset == "all" else 1)


def test_a_subset_without_comments_says_so(tmp_path: Path) -> None:
    frame = pd.read_parquet(dlab(tmp_path) / "measuring-hate-speech.parquet")
    frame.assign(target_gender_men=False).to_parquet(tmp_path / "measuring-hate-speech.parquet")
    with pytest.raises(UserError, match="no comment has target_gender true"):
        load(DataConfig(name="dlab-hate-speech", root=tmp_path, subset="gender"))


def test_a_folder_without_the_table_says_what_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Fetch ucberkeley-dlab/measuring-hate-speech"):
        load(DataConfig(name="dlab-hate-speech", root=tmp_path))
