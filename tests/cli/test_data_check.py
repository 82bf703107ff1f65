"""`sweeper data check`: what is there, what is broken, what is on both sides, and how each cell looks."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dashboards.ink.contact_sheet import THUMBNAIL, Cell, contact_sheet
from sweeper.cli import data_check, main
from tests.data.trees import RACELESS_FACES, VARIANTS, picture, table
from trainables.data import DATASETS, DatasetEntry, contents
from trainables.data.base import SPLITS
from trainables.data.datasets import layout
from trainables.data.images import pixels
from trainables.errors import UserError
from trainables.table import Code


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path_factory.mktemp("cache")))


def waterbirds(root: Path) -> None:
    rows = [(f"{i}.png", i % 2, i // 2 % 2, i % 3) for i in range(24)]
    table(root / "metadata.csv", ("img_filename", "y", "place", "split"), rows)
    for name, *_ in rows:
        picture(root / name)


def geode(root: Path) -> None:
    rows = [(f"{i}.png", ("bag", "stall")[i % 2], ("Africa", "Europe")[i // 2 % 2]) for i in range(40)]
    table(root / "geode/index.csv", ("file_path", "object", "region"), rows)
    for name, *_ in rows:
        picture(root / "geode/images" / name)


def aircraft(root: Path) -> None:
    (root / "data").mkdir(parents=True)
    (root / "data/variants.txt").write_text("\n".join(VARIANTS[:2]))
    for k, split in enumerate(SPLITS):
        (root / f"data/images_variant_{split}.txt").write_text(f"00{k} {VARIANTS[0]}\n01{k} {VARIANTS[1]}\n")
        for name in (f"00{k}", f"01{k}"):
            picture(root / f"data/images/{name}.jpg", size=(8, 40))


def utkface(root: Path) -> None:
    for i in range(40):
        picture(root / f"{i + 1}_{i % 2}_{i % 5}_2017{i:013d}.jpg.chip.jpg")
    picture(root / RACELESS_FACES[0])


def csv(root: Path) -> None:
    rows = [(f"{i}.png", "ab"[i % 2], "xy"[i // 2 % 2], SPLITS[i % 3]) for i in range(24)]
    table(root / "mine.csv", ("image", "label", "attribute", "split"), rows)
    for name, *_ in rows:
        picture(root / name)


def folder(root: Path) -> None:
    for i in range(40):
        picture(root / "ab"[i % 2] / f"{i}.png")


LAYOUTS: dict[str, Callable[[Path], None]] = {
    f.__name__: f for f in (waterbirds, geode, aircraft, utkface, csv, folder)
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_recognised_counted_and_drawn(name: str, tmp_path: Path, capsys) -> None:
    LAYOUTS[name](tmp_path / "data here")
    arguments = ["--sheet", str(tmp_path / "s.png"), "--manifest", str(tmp_path / "m.csv"), "--json"]
    assert main.main(["data", "check", str(tmp_path / "data here"), *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == name
    counts = [found["splits"][split] for split in SPLITS]
    assert all(sum(count[kind].values()) == count["n"] for count in counts for kind in count if kind != "n")
    assert len((tmp_path / "m.csv").read_text().splitlines()) == 1 + sum(count["n"] for count in counts)
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.height > len(counts[0].get("cell", counts[0]["class"])) * THUMBNAIL


def test_the_report_has_a_line_for_each_cell(tmp_path: Path, capsys) -> None:
    csv(tmp_path)
    assert main.main(["data", "check", str(tmp_path / "mine.csv")]) == 0
    shown = capsys.readouterr().out
    assert "cell    train      val     test\n" in shown
    assert "a|x         2        2        2\n" in shown
    assert "all         8        8        8\n" in shown
    assert "fewer than min_group 10" in shown
    assert shown.partition("A sweep")[2].startswith(" can use it, but is refused until that is changed.\n")
    enough = replace(data_check.check(tmp_path / "mine.csv"), small=())
    assert "\nA sweep can use it as it is.\n" in data_check.report(enough)


def test_an_image_that_does_not_decode_is_named_and_a_sweep_would_stop(tmp_path: Path, capsys) -> None:
    csv(tmp_path)
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:60])
    (tmp_path / "4.png").write_text("no image")
    (tmp_path / "5.png").unlink()
    assert main.main(["data", "check", str(tmp_path), "--sheet", str(tmp_path / "s.png")]) == 2
    shown = capsys.readouterr().out
    assert "mine.csv:7: no such file: 5.png" in shown
    assert "images that cannot be read: 2\n  3.png: cannot be decoded" in shown
    assert "4.png: is not an image that Pillow can read" in shown
    assert "A sweep stops here: mend these records, or set data.on_bad to 'skip'" in shown


def test_one_broken_image_is_enough_to_stop_a_sweep(tmp_path: Path) -> None:
    csv(tmp_path)
    (tmp_path / "4.png").write_text("no image")
    assert data_check.check(tmp_path).refusal == "1 image cannot be read"


def test_published_defects_stop_no_sweep(tmp_path: Path) -> None:
    utkface(tmp_path)
    finding = data_check.check(tmp_path)
    assert [record.place for record in finding.dataset.bad] == [RACELESS_FACES[0]]
    assert finding.refusal is None


def test_the_same_bytes_in_two_splits_are_told_and_twins_in_one_are_not(tmp_path: Path) -> None:
    csv(tmp_path)
    (tmp_path / "1.png").write_bytes((tmp_path / "0.png").read_bytes())  # val and train
    (tmp_path / "5.png").write_bytes((tmp_path / "2.png").read_bytes())  # both test
    assert data_check.check(tmp_path).leaks == ("0.png (train), 1.png (val)",)


def test_a_leak_is_the_verdict_and_not_a_line_above_it(tmp_path: Path, capsys) -> None:
    csv(tmp_path)
    (tmp_path / "1.png").write_bytes((tmp_path / "0.png").read_bytes())
    assert main.main(["data", "check", str(tmp_path)]) == 2
    shown = capsys.readouterr().out
    assert "images in more than one split: 1\n  0.png (train), 1.png (val)\n" in shown
    assert "keep each of these in one split only" in shown
    assert "A sweep can use it as it is" not in shown
    assert data_check.check(tmp_path).refusal is None


def test_a_near_copy_in_another_split_is_a_warning(tmp_path: Path, capsys) -> None:
    csv(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC).save(tmp_path / "2.png")  # test
    Image.open(tmp_path / "2.png").resize((48, 48)).save(tmp_path / "3.png")  # train
    Image.open(tmp_path / "2.png").convert("RGBA").save(tmp_path / "8.png")  # test too
    checked = data_check.check(tmp_path)
    assert checked.alike == ("2.png (test) is like 3.png (train)", "8.png (test) is like 3.png (train)")
    assert checked.good
    assert main.main(["data", "check", str(tmp_path)]) == 0
    assert "images that look like one of another split (copies? look at them): 2\n" in capsys.readouterr().out


def test_an_image_of_several_frames_is_told(tmp_path: Path) -> None:
    csv(tmp_path)
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    frames[0].save(tmp_path / "1.png", save_all=True, append_images=frames[1:])
    assert data_check.check(tmp_path).several_frames == ("1.png (val)",)


def test_a_second_check_decodes_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_SETTLED_NS", -contents._SETTLED_NS)  # these files are old enough
    csv(tmp_path)
    (tmp_path / "4.png").write_text("no image")
    first = data_check.check(tmp_path)
    decoded: list[object] = []
    problem = pixels.problem

    def counted(file: io.BufferedReader, use: Callable[[Image.Image], object]) -> str | None:
        decoded.append(file)
        return problem(file, use)

    monkeypatch.setattr(pixels, "problem", counted)
    assert data_check.check(tmp_path).to_json() == first.to_json()
    assert decoded == []
    before = (tmp_path / "6.png").stat()
    (tmp_path / "6.png").write_bytes((tmp_path / "5.png").read_bytes()[: before.st_size].ljust(before.st_size, b"\0"))
    os.utime(tmp_path / "6.png", ns=(before.st_atime_ns, before.st_mtime_ns))  # the same size and time, other bytes
    data_check.check(tmp_path)
    assert len(decoded) == 1


def test_a_class_of_which_nothing_can_be_read_would_stop_a_sweep(tmp_path: Path) -> None:
    folder(tmp_path)
    for image in (tmp_path / "b").iterdir():
        image.write_text("no image")
    with pytest.raises(UserError, match=r"class b has no image that can be used\. 20 records .*\n  b/\d+\.png: is not"):
        data_check.check(tmp_path)


def test_many_copies_of_an_image_are_told_in_one_short_line(tmp_path: Path) -> None:
    csv(tmp_path)
    for i in range(24):
        (tmp_path / f"{i}.png").write_bytes((tmp_path / "0.png").read_bytes())
    assert data_check.check(tmp_path).leaks == (
        "0.png (train), 12.png (train), 15.png (train), 18.png (train), and 20 more",
    )


def test_a_name_overrules_the_layout(tmp_path: Path) -> None:
    csv(tmp_path)
    assert layout.recognise(tmp_path) == "csv"
    with pytest.raises(UserError, match=r"data\.root is"):
        data_check.check(tmp_path, "geode")
    with pytest.raises(UserError, match="Did you mean 'geode'"):
        data_check.check(tmp_path, "geod")


def test_nothing_known_is_said_so(tmp_path: Path, capsys) -> None:
    assert main.main(["data", "check", str(tmp_path)]) == 2
    assert "fits no known layout. Name the dataset with --name." in capsys.readouterr().err
    assert main.main(["data", "check", str(tmp_path / "nowhere")]) == 2
    assert "is neither a folder nor a table (.csv, .tsv, .txt, .jsonl, .parquet)" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--sheet", "--manifest"])
def test_a_file_that_cannot_be_written_is_said_so(option: str, tmp_path: Path, capsys) -> None:
    csv(tmp_path)
    assert main.main(["data", "check", str(tmp_path / "mine.csv"), option, "/proc/nowhere/file"]) == 2
    assert "/proc/nowhere/file cannot be written" in capsys.readouterr().err


def test_a_table_of_other_columns_is_not_waterbirds(tmp_path: Path) -> None:
    folder(tmp_path)
    table(tmp_path / "metadata.csv", ("a", "b"), [])
    assert layout.recognise(tmp_path) == "folder"


def solid(*colour: int) -> np.ndarray:
    return np.full((THUMBNAIL, THUMBNAIL, 3), colour, np.uint8)


def test_each_cell_is_a_row_of_its_own_images(tmp_path: Path) -> None:
    cells = [Cell("a|x", "train 2", [solid(255, 0, 0), solid(0, 255, 0)]), Cell("a|y", "train 1", [solid(0, 0, 255)])]
    with Image.open(contact_sheet(cells, tmp_path / "s.png")) as sheet:
        pixels = np.asarray(sheet)
    middle = {}
    for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)):
        where = np.argwhere((pixels == colour).all(2))
        assert len(where) == THUMBNAIL**2
        middle[colour] = where.mean(0)
    assert middle[(255, 0, 0)][0] == middle[(0, 255, 0)][0] < middle[(0, 0, 255)][0]
    assert middle[(255, 0, 0)][1] == middle[(0, 0, 255)][1] < middle[(0, 255, 0)][1]


def test_many_cells_stand_in_columns_and_long_names_are_cut(tmp_path: Path) -> None:
    cells = [Cell(f"{'../' * 60}{i}\n", "", [solid(9, 9, 9)] if i else []) for i in range(240)]
    with Image.open(contact_sheet(cells, tmp_path / "s.png", title="x" * 5000)) as sheet:
        assert sheet.height < 3000
        pixels = np.asarray(sheet)
    assert (pixels == 9).all(2).sum() == 239 * THUMBNAIL**2  # no text over any image


def test_a_sheet_is_a_pdf_where_its_name_says_so(tmp_path: Path) -> None:
    contact_sheet([Cell("x", "", [])], tmp_path / "sheet.pdf")
    assert (tmp_path / "sheet.pdf").read_bytes().startswith(b"%PDF")


def test_a_sheet_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one cell"):
        contact_sheet([], tmp_path / "s.png")


def test_a_task_of_another_dataset_is_refused_in_a_sentence(tmp_path: Path, capsys) -> None:
    folder(tmp_path)
    assert main.main(["data", "check", str(tmp_path), "--task", "age"]) == 2
    assert capsys.readouterr().err == "data.task is for utkface, and data.name is 'folder'. Remove it.\n"


def has_stars(root: Path) -> bool:
    return (root / "stars").is_dir()


def test_a_line_says_itself_which_folders_are_its_and_comes_before_a_folder_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stars").mkdir()
    (tmp_path / "planets").mkdir()
    assert layout.recognise(tmp_path) == "folder"
    line = DatasetEntry("no:code", "stars", "a test", fits=Code(f"{__name__}:has_stars"))
    monkeypatch.setitem(DATASETS._lines, "stars", line)
    assert layout.recognise(tmp_path) == "stars"


def test_texts_are_counted_and_measured_and_a_sheet_shows_some_of_each_cell(tmp_path: Path, capsys) -> None:
    rows = [
        {
            "said": f"number {i} is {'good' if i % 2 else 'bad'}",
            "label": "ny"[i % 2],
            "by": "ab"[i % 3 % 2],
            "split": split,
        }
        for split in SPLITS
        for i in range(*{"train": (0, 40), "val": (40, 80), "test": (80, 120)}[split])
    ]
    rows += [{**rows[0], "split": "test"}, {**rows[1], "said": "Number 1, is GOOD!", "split": "val"}]
    table = tmp_path / "mine.jsonl"
    table.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    columns = ["--columns", "text=said,attribute=by"]
    assert main.main(["data", "check", str(table), *columns, "--sheet", str(tmp_path / "cells.txt")]) == 2
    told = capsys.readouterr().out
    assert "  train: 4 to 4 words, half of them up to 4, 95 % up to 4\n" in told
    assert "texts in more than one split: 1\n  'number 0 is bad' (train), 'number 0 is bad' (test)\n" in told
    assert (
        "another split (copies? look at them): 1\n  'Number 1, is GOOD!' (val) is like 'number 1 is good' (train)"
        in told
    )
    assert "columns: {text: said, attribute: by}" in told
    assert "images" not in told
    sheet = (tmp_path / "cells.txt").read_text()
    assert "\ny|b: train " in sheet
    assert sheet.count("is bad") == sheet.lower().count("is good") == 10
    assert main.main(["data", "check", str(table), *columns, "--sheet", str(tmp_path / "cells.png")]) == 2
    assert "a sheet of texts is a text. Name a .txt file." in capsys.readouterr().err
