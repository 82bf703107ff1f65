"""`sweeper data check` on tables that were made for others: what each column is, and the settings to paste."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from sweeper.cli import main
from sweeper.spec import loading
from tests.data.test_tables import celeba
from tests.data.trees import picture, table
from trainables import data
from trainables.data.base import SPLITS

FAIRFACE = ("file", "age", "gender", "race", "service_test")
RACES = ("East Asian", "White", "Black")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path_factory.mktemp("cache")))


def fairface(root: Path) -> Path:
    """Its two tables beside their folders of images."""
    for split, n in (("train", 120), ("val", 60)):
        rows = [
            (f"{split}/{i + 1}.jpg", ("0-2", "20-29")[i // 6 % 2], ("Male", "Female")[i % 2], RACES[i % 3], i % 4 == 0)
            for i in range(n)
        ]
        table(root / f"fairface_label_{split}.csv", FAIRFACE, rows)
        for name, *_ in rows:
            picture(root / name)
    return root


def check(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, dict[str, object]]:
    """The exit code, what is shown, and the block to paste as it is read back."""
    code = main.main(["data", "check", *map(str, words)])
    shown = capsys.readouterr().out
    block = shown.partition("write into sweep.yaml:\n")[2]
    return code, shown, (yaml.safe_load(block) or {}).get("data", {})


def test_the_columns_of_fairface_are_guessed_and_the_others_are_named(tmp_path: Path, capsys) -> None:
    path = fairface(tmp_path) / "fairface_label_train.csv"
    code, shown, block = check(capsys, path)
    assert code == 0
    assert shown.startswith(
        "columns of fairface_label_train.csv, 120 rows:\n"
        "  image      file          such as train/1.jpg, train/2.jpg (a guess)\n"
        "  label      gender        2 values: Female 60, Male 60 (a guess)\n"
        "  attribute  race          3 values: Black 40, East Asian 40, White 40 (a guess)\n"
        "  not used   age           2 values: 0-2 60, 20-29 60\n"
        "  not used   service_test  2 values: False 90, True 30\n"
    )
    columns = {"image": "file", "label": "gender", "attribute": "race"}
    assert block == {"name": "csv", "root": str(path), "columns": columns}
    assert "Female|White" in shown


def test_its_two_tables_are_one_dataset_with_the_splits_of_their_names(tmp_path: Path, capsys) -> None:
    code, shown, block = check(capsys, fairface(tmp_path))
    assert code == 0
    assert block["root"] == str(tmp_path)
    assert "note: test not given: cut by a hash of each file's bytes into train 77.8%, test 22.2%" in shown
    row = next(line.split() for line in shown.splitlines() if line.startswith("all "))
    assert int(row[2]) == 60
    assert int(row[1]) + int(row[3]) == 120


def test_what_is_said_of_columns_overrules_a_guess(tmp_path: Path, capsys) -> None:
    path = fairface(tmp_path) / "fairface_label_train.csv"
    _, shown, block = check(capsys, path, "--columns", "image=file,label=age,attribute=gender")
    assert block["columns"] == {"image": "file", "label": "age", "attribute": "gender"}
    assert "(a guess)" not in shown
    assert "0-2|Female" in shown


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        (
            "lable=age",
            "--columns lable=age: lable is unknown. Did you mean 'label'? "
            "Known: attribute, groups, image, label, split, text.",
        ),
        ("label=agee", "--columns label=agee: fairface_label_train.csv has no such column. Did you mean 'age'?"),
    ],
)
def test_a_slip_in_the_columns_says_what_there_is(tmp_path: Path, capsys, columns: str, sentence: str) -> None:
    path = fairface(tmp_path) / "fairface_label_train.csv"
    assert main.main(["data", "check", str(path), "--columns", columns]) == 2
    assert sentence in capsys.readouterr().err


def test_the_lists_of_celeba_are_found_with_their_folder_and_partition(tmp_path: Path, capsys) -> None:
    celeba(tmp_path)
    (tmp_path / "list_bbox_celeba.txt").write_text(
        "24\nimage_id x_1 y_1\n" + "".join(f"{i + 1:06d}.jpg {95 + i} {71 + 2 * i}\n" for i in range(24))
    )
    (tmp_path / "identity_CelebA.txt").write_text("".join(f"{i + 1:06d}.jpg {2880 + i}\n" for i in range(24)))
    code, shown, block = check(capsys, tmp_path, "--columns", "label=Smiling")
    assert code == 0
    assert block == {
        "name": "csv",
        "root": str(tmp_path / "list_attr_celeba.txt"),
        "columns": {"label": "Smiling", "attribute": "Male"},
        "images": "img_align_celeba",
        "partition": "list_eval_partition.txt",
    }
    assert "the splits 0, 1 and 2 are read as train, val and test" in shown
    assert [line.split()[1:] for line in shown.splitlines() if line.startswith("all ")] == [["8", "8", "8"]]


def test_the_block_is_what_a_sweep_takes(tmp_path: Path, capsys) -> None:
    celeba(tmp_path / "a: 'b'")
    code, shown, _ = check(capsys, tmp_path / "a: 'b'", "--columns", "label=Smiling,attribute=Male")
    assert code == 0
    text = "name: x\ngroups: cell\nmetrics: {min_group: 1}\n" + shown.partition("write into sweep.yaml:\n")[2]
    (tmp_path / "sweep.yaml").write_text(text)
    assert main.main(["validate", str(tmp_path / "sweep.yaml")]) == 0
    assert "  train 8: -1|-1 2, -1|1 2, 1|-1 2, 1|1 2\n" in capsys.readouterr().out


def test_the_settings_in_the_documentation_load_celeba(tmp_path: Path) -> None:
    docs = (Path(__file__).parents[2] / "docs/data.md").read_text(encoding="utf-8")
    block = re.search(r"```yaml\n(.*?)```", docs, re.DOTALL)[1].replace("root: celeba/", f"root: {tmp_path}/")
    celeba(tmp_path)
    config = loading.parse(f"name: x\n{block}").data
    assert config.limit == 2000
    dataset = data.load(config)
    assert dataset.groups("train", "cell").counts_G.tolist() == [2, 2, 2, 2]


def test_a_table_without_images_or_classes_says_what_it_has(tmp_path: Path, capsys) -> None:
    table(tmp_path / "t.csv", ("id", "age"), [(i, i % 3) for i in range(9)])
    assert main.main(["data", "check", str(tmp_path / "t.csv")]) == 2
    assert "no column looks like names of images. Say which it is: --columns image=COLUMN, " in capsys.readouterr().err
    table(tmp_path / "t.csv", ("id", "photo"), [(i, f"{i}.png") for i in range(9)])
    assert main.main(["data", "check", str(tmp_path / "t.csv")]) == 2
    assert "no column looks like a class" in capsys.readouterr().err


def test_a_spec_says_what_its_data_must_give(tmp_path: Path, capsys) -> None:
    rows = [(f"{i}.png", "ab"[i % 2], SPLITS[i // 2 % 3]) for i in range(24)]
    table(tmp_path / "t.csv", ("image", "label", "split"), rows)
    for name, *_ in rows:
        picture(tmp_path / name)
    spec = tmp_path / "sweep.yaml"
    spec.write_text(f"name: x\ndata: {{name: csv, root: {tmp_path / 't.csv'}}}\nmetrics: {{min_group: 4}}\n")
    assert check(capsys, "--spec", spec)[0] == 0
    spec.write_text(spec.read_text().replace("min_group: 4", "min_group: 5"))
    code, shown, _ = check(capsys, "--spec", spec)
    assert code == 2
    assert "objectives.delta_f1 would be undefined on csv's validation split: group a has 4 examples" in shown
    assert "A sweep for this stops here." in shown
    assert check(capsys, tmp_path / "t.csv")[0] == 0  # without it, a least group is no reason to stop
    assert main.main(["data", "check"]) == 2
    assert "there is nothing to look at" in capsys.readouterr().err


def test_a_task_is_for_the_dataset_that_has_it(tmp_path: Path, capsys) -> None:
    for i in range(60):
        picture(tmp_path / f"{10 * (i % 3) + 5}_{i % 2}_{i % 5}_2017{i:013d}.jpg.chip.jpg")
    _, shown, block = check(capsys, tmp_path, "--task", "age")
    assert block == {"name": "utkface", "root": str(tmp_path), "task": "age"}
    assert "21-30|White" in shown
    assert main.main(["data", "check", str(tmp_path), "--columns", "label=age"]) == 2
    assert "--columns is for tables, and this is utkface" in capsys.readouterr().err
