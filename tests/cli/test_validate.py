"""`sweeper validate` looks at data that is here: what a sweep would stop at is told before one is paid for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from sweeper.cli import main
from sweeper.engine import planning
from tests.data.trees import picture, table
from trainables import data
from trainables.data.base import SPLITS


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))


def rows() -> list[list[str]]:
    """Two classes, two backgrounds, three splits; four of each cell in each."""
    return [
        [f"img/{i:02d}.png", ("cat", "dog")[i % 2], ("in", "out")[i // 2 % 2], SPLITS[i // 4 % 3]] for i in range(48)
    ]


def spec(
    root: Path, new: Sequence[Sequence[str]], *lines: str, header: str = "image,label,attribute,split"
) -> list[str]:
    """What to type to validate a sweep of these rows; `lines` are of its file."""
    for name, *_ in rows():
        picture(root / name)
    table(root / "t.csv", header.split(","), new)
    (root / "sweep.yaml").write_text(
        "\n".join(["name: x", f"data: {{name: csv, root: {root / 't.csv'}}}", "metrics: {min_group: 1}", *lines])
    )
    return ["validate", str(root / "sweep.yaml")]


def test_good_data_is_counted(tmp_path: Path, capsys) -> None:
    words = spec(tmp_path, rows())
    assert main.main(words) == 0
    assert f"{tmp_path}/sweep.yaml is good.\ncsv: 2 classes, split hash" in (shown := capsys.readouterr().out)
    assert "  train 16: cat|in 4, cat|out 4, dog|in 4, dog|out 4\n" in shown
    assert shown.endswith("  bad records left out: 0\n")


def test_groups_by_an_attribute_that_no_column_is_named_for_are_refused_at_once_with_the_mend(tmp_path: Path, capsys):
    words = spec(tmp_path, rows(), "groups: attribute", header="image,label,background,split")
    assert main.main(words) == 2
    told = capsys.readouterr().err
    said = "groups is 'attribute': dataset csv has no attribute, so groups by attribute do not exist."
    assert told.startswith(f"{tmp_path}/sweep.yaml:4: {said}")
    assert (
        "t.csv:1: not used: column background. To compare groups by one, write below data: `columns: {attribute: back"
        in told
    )
    (tmp_path / "sweep.yaml").write_text("name: x\ndata: {name: folder, root: .}\ngroups: cell")
    assert main.main([*words, "--no-data"]) == 2
    assert (
        "sweep.yaml:3: groups is 'cell', and folder has no attribute. Use 'class', or data" in capsys.readouterr().err
    )


def test_bad_rows_are_refused_with_their_lines_and_not_looked_over(tmp_path: Path, capsys) -> None:
    words = spec(
        tmp_path, [*rows()[:-1], ["/pics/img/47.png", "dog", "out", "test"], ["img/00.png", "a", "b", "c", "d"]]
    )
    assert main.main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"{tmp_path}/sweep.yaml:2: {tmp_path}/t.csv: 2 of 49 records are bad, and data.on_bad is 'f")
    assert "t.csv:49: names an absolute path '/pics/img/47.png', which is not allowed: write 'img/47.png'" in told
    assert "t.csv:50: has 5 fields, and the header has 4" in told
    assert main.main([*words, "--no-data"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/sweep.yaml is good.\n"


def test_a_class_missing_in_validation_is_told_with_what_it_makes_undefined(tmp_path: Path, capsys) -> None:
    words = spec(tmp_path, [row for row in rows() if row[3] != "val" or row[1] == "cat"])
    assert main.main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith(
        f"{tmp_path}/sweep.yaml:2: objectives.delta_f1 would be undefined on csv's validation split: "
    )
    named = spec(tmp_path, [row for row in rows() if row[3] != "val" or row[1] == "cat"], "objectives: {delta_f1: min}")
    assert main.main(named) == 2
    assert capsys.readouterr().err.startswith(
        f"{tmp_path}/sweep.yaml:4: objectives.delta_f1 would be undefined on csv's"
    )
    assert main.main([*named, "--data", str(tmp_path / "none")]) == 0  # not looked at: it is away
    assert "    t.csv:3: is the first of 16 examples of label 'dog', and none is in val" in told


def test_what_is_doubtful_and_yet_good_is_told(tmp_path: Path, capsys) -> None:
    new = rows()
    new[1][1] = "Dog"
    assert main.main(spec(tmp_path, new)) == 0
    shown = capsys.readouterr().out
    assert "is good." in shown
    assert "  doubtful records kept: 2\n    t.csv:3: label 'Dog' and 'dog' (t.csv:5) differ in case" in shown
    assert "    t.csv:3: is the only example of label 'Dog': val, test have none" in shown


def test_a_column_of_two_meanings_is_refused(tmp_path: Path, capsys) -> None:
    assert main.main(spec(tmp_path, [[*row, "x"] for row in rows()], header="image,label,attribute,split,label")) == 2
    assert "t.csv:1: column 'label' stands twice in the header (columns 2 and 5)" in capsys.readouterr().err


def test_a_second_look_costs_nothing_until_a_file_changes(tmp_path: Path, capsys, monkeypatch) -> None:
    words = spec(tmp_path, rows())
    assert main.main(words) == 0
    first = capsys.readouterr().out
    looks = []
    load = data.load
    monkeypatch.setattr(data, "load", lambda config: looks.append(config) or load(config))
    assert main.main(words) == 0
    assert capsys.readouterr().out == first
    assert looks == []
    (tmp_path / "img/new.png").write_bytes((tmp_path / "img/00.png").read_bytes())  # of no row, but a newcomer
    assert main.main(words) == 0
    assert len(looks) == 1
    (tmp_path / "img/00.png").unlink()
    assert main.main(words) == 2
    assert "t.csv:2: no such file: img/00.png" in capsys.readouterr().err
    picture(tmp_path / "img/00.png")
    table(tmp_path / "t.csv", ("image", "label", "attribute", "split"), rows()[1:])
    assert main.main(words) == 0
    assert "train 15:" in capsys.readouterr().out
    (tmp_path / "sweep.yaml").write_text((tmp_path / "sweep.yaml").read_text() + "\ngroups: attribute")
    assert main.main(words) == 0
    assert len(looks) == 4


def test_what_is_refused_is_looked_at_again(tmp_path: Path, capsys) -> None:
    words = spec(tmp_path, [*rows(), ["img/none.png", "cat", "in", "train"]])
    assert [main.main(words), main.main(words)] == [2, 2]
    assert capsys.readouterr().err.count("no such file: img/none.png") == 2


def test_plan_says_the_same_before_it_spends_time_on_an_epoch(tmp_path: Path, capsys, monkeypatch) -> None:
    timed = []
    monkeypatch.setattr(planning, "plan", lambda spec: timed.append(spec.name) or "one epoch: 2 s")
    words = ["plan", *spec(tmp_path, rows())[1:]]
    assert main.main(words) == 0
    assert capsys.readouterr().out.startswith("one epoch: 2 s\ncsv: 2 classes")
    table(tmp_path / "t.csv", ("image", "label", "attribute", "split"), [row for row in rows() if row[1] == "cat"])
    assert main.main(words) == 2
    assert "there is only 1 class in it" in capsys.readouterr().err
    assert timed == ["x"]


def test_data_of_another_machine_is_no_reason_to_refuse(tmp_path: Path, capsys) -> None:
    (tmp_path / "sweep.yaml").write_text("name: x\ndata: {name: csv, root: /nowhere/t.csv}\n")
    assert main.main(["validate", str(tmp_path / "sweep.yaml")]) == 0
    shown = capsys.readouterr().out
    assert "is good.\nIts data was not looked at: data.root is '/nowhere/t.csv', which does not exist." in shown


def test_more_blocks_than_the_backbone_has_are_refused_before_anything_trains(tmp_path: Path, capsys) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("name: x\nspace:\n  method: [lora, fft]\n  blocks: [1, 4]\nsearch: {baselines: []}\n")
    assert main.main(["validate", str(path), "--no-data"]) == 2
    told = "space.blocks goes up to 4: params.blocks is 4, and small-vit has 3 blocks. Use 1 to 3; without it all have"
    assert capsys.readouterr().err.startswith(f"{path}:4: {told}")
    path.write_text(path.read_text().replace("[1, 4]", "{low: 1, high: 3}"))
    assert main.main(["validate", str(path), "--no-data"]) == 0


def test_a_convolutional_network_is_refused_for_lora_before_anything_trains(tmp_path: Path, capsys) -> None:
    path = tmp_path / "sweep.yaml"
    text = (
        "name: x\nbackbone: {name: 'timm:%s'}\nspace:\n  method: [%s]\n  learning_rate: {}\nsearch: {baselines: []}\n"
    )
    path.write_text(text % ("resnet18", "fft, fairlora"))
    assert main.main(["validate", str(path), "--no-data"]) == 2
    told = capsys.readouterr().err
    said = "space.method has fairlora, and no trial of it could train: params.layers 'qkv' of timm:resnet18"
    assert told.startswith(
        f"{path}:4: {said}: it has no linear layer but its head, as convolutional networks have none"
    )
    assert told.endswith("Use methods fft or probe, or a transformer.\n")
    for name, methods in (("resnet18", "fft, probe"), ("vit_tiny_patch16_224", "lora")):
        path.write_text(text % (name, methods))
        assert main.main(["validate", str(path), "--no-data"]) == 0
