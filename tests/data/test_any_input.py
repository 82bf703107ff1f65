"""Whatever a table, a folder or a spec holds: it is loaded or refused with a sentence, and no row of it is lost.

Rows in = rows used + rows named. The quick profile runs always, the long one with `-m slow`.
"""

from __future__ import annotations

import csv
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from sweeper.errors import UserError
from sweeper.spec import loading, yaml_text
from sweeper.spec.model import SweepSpec
from tests.data.trees import home
from trainables import data
from trainables.data import Columns, DataConfig
from trainables.data.base import SPLITS, Dataset
from trainables.data.datasets import columns, layout
from trainables.data.images import pixels

T = TypeVar("T")
QUICK, LONG = 120, 4000
IMAGES = [f"{folder}{i}{('.png', '.JPG', '.tif')[i % 3]}" for folder in ("", "a/", "a/Ä b/") for i in range(10)]
NAMES = st.sampled_from(
    [
        *IMAGES,
        *(f"./{name}" for name in IMAGES),
        "/data/a/0.png",
        "a\\0.png",
        "C:\\a\\0.png",
        "../0.png",
        "A/0.png",
        "x.png",
    ]
)
# Any text but lone surrogates, which no file in UTF-8 holds.
TEXT = st.text(st.characters(codec="utf-8"), max_size=6)
LABELS = st.sampled_from(["cat", "dog", "Cat", "a|b", "10", "9", "", "-1", "1", "cafe\u0301", "café", " dog "]) | TEXT
PARTS = st.sampled_from(["train", "val", "test", "Training", "dev", "0", "1", "2", "3", ""])
HEADERS = st.sampled_from(
    ["image", "label", "attribute", "split", "file", "gender", "race", "partition", "", "Label", " image ", "1"]
)
ENDINGS = st.sampled_from([".csv", ".csv", ".csv", ".tsv", ".txt"])


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, str]:
    """The ending and the text of a table: mostly regular, with rows, names and quotes gone wrong."""
    ending = draw(ENDINGS)
    header = ["image", "label", "attribute", "split"][: draw(st.integers(2, 4))]
    if draw(st.integers(0, 3)) == 0:
        header = draw(st.lists(HEADERS, max_size=6))
    kinds = {"image": NAMES, "label": LABELS, "attribute": LABELS, "split": PARTS}
    row = st.tuples(*(kinds.get(name.strip(), LABELS) for name in header)).map(list)
    rows = draw(st.lists(row, max_size=9, unique_by=(lambda row: row[0] if row else 0,)))
    if header[:2] == ["image", "label"] and draw(st.integers(0, 3)):  # and a table that is good without those rows
        good = [[name, ("cat", "dog")[i % 2], "ab"[i // 2 % 2], SPLITS[i % 3]] for i, name in enumerate(IMAGES)]
        rows = draw(st.permutations([*(fields[: len(header)] for fields in good), *rows]))
    for broken in draw(st.lists(st.integers(0, max(0, len(rows) - 1)), max_size=2)):
        if rows:
            rows[broken] = [*rows[broken], draw(LABELS)] if draw(st.booleans()) else rows[broken][:-1]
    separator = {".csv": ",", ".tsv": "\t", ".txt": " "}[ending]
    if draw(st.integers(0, 4)) == 0:  # as a hand would write it: no quotes
        text = "\n".join(separator.join(fields) for fields in [header, *rows])
    else:
        text = "".join(
            separator.join(_quoted(field, ending) for field in fields) + "\r\n" for fields in [header, *rows]
        )
    return ending, draw(st.sampled_from(["", "", "", "\ufeff", "3\n", "\n"])) + text


def _quoted(field: str, ending: str) -> str:
    return field if ending == ".txt" else '"' + field.replace('"', '""') + '"'


def rows_in(path: Path) -> int:
    """How many rows a table has below its header, by the plainest reading."""
    if path.suffix == ".txt":
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [line.split() for line in file]
        lines = [fields for fields in lines if fields]
        counted = len(lines[0]) == 1 and lines[0][0].isdecimal()
        headed = not lines[counted][0].lower().endswith((".jpg", ".jpeg", ".png"))
        return len(lines) - counted - headed
    with path.open(encoding="utf-8-sig", newline="") as file:
        separated = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
        return sum(bool(fields) for fields in separated) - 1


def settled(call: Callable[[], T]) -> T | str:
    """What it gives, or the sentence with which it was refused."""
    result: T | str
    try:
        result = call()
    except UserError as error:
        result = str(error)
    event(type(result).__name__)
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("any")
    for i, name in enumerate(IMAGES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(bytes([i]) * 9)
    return root


def keeps_every_row(folder: Path, table: tuple[str, str], role: Columns) -> None:
    ending, text = table
    path = folder / f"t{ending}"
    for other in folder.glob("t.*"):
        other.unlink()
    path.write_bytes(text.encode())
    config = DataConfig(name="csv", root=path, on_bad="skip", max_bad=1, columns=role)
    dataset = settled(lambda: data.load(config))
    if isinstance(dataset, Dataset):
        dropped = [record for record in dataset.bad if record.dropped]
        assert len(home(dataset)) + len(dropped) == rows_in(path)
        assert len({record.place for record in dropped}) == len(dropped)
        assert all(record.place.startswith(f"t{ending}:") for record in dropped)
        for kind in ("class", "attribute", "cell") if dataset.attributes else ("class",):
            groups = [dataset.groups(split, kind) for split in SPLITS]
            assert len(set(groups[0].names)) == len(groups[0].names)
            assert sum(int(group.counts_G.sum()) for group in groups) == len(home(dataset))
        if not dropped:
            assert data.load(config.model_copy(update={"on_bad": "fail"})).split_hash == dataset.split_hash
    assert settled(lambda: columns.guess(path, {}))
    assert settled(lambda: layout.configure(folder))


ROLES = st.sampled_from(
    [Columns(), Columns(), Columns(image="file"), Columns(label="gender", attribute="race"), Columns(split="partition")]
)
PROFILE = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}


@settings(max_examples=QUICK, **PROFILE)
@given(tables(), ROLES)
def test_a_table_loses_no_row(folder: Path, table: tuple[str, str], role: Columns) -> None:
    keeps_every_row(folder, table, role)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@settings(max_examples=LONG, **PROFILE)
@given(tables(), ROLES)
def test_a_table_loses_no_row_at_length(folder: Path, table: tuple[str, str], role: Columns) -> None:
    keeps_every_row(folder, table, role)


# --- folders

PIECES = st.sampled_from(["cat", "dog", "Dog", "train", "val", "Testing", "a|b", "é", "e\u0301", "x" * 60, "10", "9"])
FILES = st.tuples(
    st.lists(PIECES, max_size=4), st.sampled_from("abc"), st.sampled_from([".png", ".JPG", ".txt", "", ".webp"])
)
TREES = st.lists(FILES, max_size=9)
GOOD = [([kind, *["deep"] * (i % 3)], str(i), ".png") for kind in ("cat", "dog") for i in range(12)]
_NUMBERS = itertools.count()


def keeps_every_image(root: Path, files: list[tuple[list[str], str, str]]) -> None:
    top = root / f"tree{next(_NUMBERS)}"
    top.mkdir()
    for i, (parts, name, ending) in enumerate([*GOOD, *files]):
        path = top.joinpath(*parts, name + ending)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([i]) * 9)
    images = [path for path in top.rglob("*") if path.suffix.lower() in pixels.endings() and path.is_file()]
    dataset = settled(lambda: data.load(DataConfig(name="folder", root=top, on_bad="skip", max_bad=1)))
    if isinstance(dataset, Dataset):
        named = {record.place for record in dataset.bad if record.dropped}
        assert {path.relative_to(top).as_posix() for path in images} <= {*home(dataset), *named}
        assert not home(dataset).keys() & named
    shutil.rmtree(top)


@settings(max_examples=QUICK // 2, **PROFILE)
@given(TREES)
def test_a_folder_loses_no_image(tmp_path: Path, files: list[tuple[list[str], str, str]]) -> None:
    keeps_every_image(tmp_path, files)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@settings(max_examples=LONG, **PROFILE)
@given(TREES)
def test_a_folder_loses_no_image_at_length(tmp_path: Path, files: list[tuple[list[str], str, str]]) -> None:
    keeps_every_image(tmp_path, files)


# --- specs

SECTIONS = [name for name in SweepSpec.model_fields if name != "name"]
KEYS = st.sampled_from(
    [
        *SECTIONS,
        "root",
        "columns",
        "image",
        "label",
        "limit",
        "low",
        "high",
        "log",
        "lambda",
        "rank",
        "method",
        "trials",
        "[key]",
    ]
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.sampled_from(["csv", "cell", "lora", "max"])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | TEXT, inner, max_size=3)
)
SPECS = st.dictionaries(st.sampled_from(SECTIONS) | TEXT, VALUES, max_size=4).map(lambda values: {"name": "x"} | values)


def is_a_spec_or_told(text: str) -> None:
    spec = settled(lambda: loading.parse(text))
    if isinstance(spec, SweepSpec):
        assert loading.parse(loading.dump(spec)) == spec
    else:
        assert spec.startswith("sweep.yaml")


@settings(max_examples=QUICK, **PROFILE)
@given(SPECS.map(yaml_text.write) | TEXT)
def test_a_spec_is_good_or_told(text: str) -> None:
    is_a_spec_or_told(text)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@settings(max_examples=LONG, **PROFILE)
@given(SPECS.map(yaml_text.write) | TEXT)
def test_a_spec_is_good_or_told_at_length(text: str) -> None:
    is_a_spec_or_told(text)
