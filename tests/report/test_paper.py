"""`sweeper paper`: every item of the papers has its files or a reason, in the index, in the docs, in one list."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from dashboards.document import writers
from dashboards.document.document import DataTable, Document, Picture, Section
from dashboards.figures import growth
from sweeper.cli import main
from sweeper.report import paper
from tests import finished
from tests.data.trees import picture

DOCS = (Path(__file__).parents[2] / "docs" / "papers.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sweeps of one backbone, which has no weights; the second is older, and kept no answers."""
    made = tmp_path_factory.mktemp("sweeps")
    for name, answers in (("birds", True), ("older", False)):
        finished.sweep(made / name, answers=answers, **{"backbone.weights": "none"})
    return made


@pytest.fixture(scope="module")
def written(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """All of it for both sweeps: the folder, and what the command said."""
    folder, reference = root / "papers", root / "reference"
    for i in range(6):
        picture(reference / f"{i}.png")
    picture(root / "birds" / "audits" / "membership-paper-lora-2-0-lira.png")
    asked = ["paper", "birds", "older", "-o", str(folder), "--reference", str(reference), "--root", str(root)]
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setenv("SWEEPER_CACHE", str(tmp_path_factory.mktemp("cache")))
        assert main.main([*asked, "--json"]) == 0
    return folder, json.loads(said.getvalue())


def test_no_table_or_figure_of_the_papers_is_left_out() -> None:
    def numbers(which: str, kind: str) -> set[int]:
        names = [name for item in paper.ITEMS.values() if item.paper == which for name in item.names]
        return {int(re.match(rf"{kind} (\d+)", name)[1]) for name in names if name.startswith(kind)}

    assert numbers(paper.FAIRLORA, "Table") == set(range(1, 7))
    assert numbers(paper.FAIRLORA, "Figure") == set(range(1, 13))
    assert numbers(paper.VISION, "Figure") == set(range(1, 11))
    all_names = [(item.paper, name) for item in paper.ITEMS.values() for name in item.names]
    assert len(set(all_names)) == len(all_names)


def test_the_docs_have_the_same_list() -> None:
    table = writers.to_markdown(Document("", "", (Section("", (paper.overview(),)),))).partition("\n\n")[2].strip()
    assert table in DOCS, f"put this into docs/papers.md:\n{table}"


def test_every_item_has_its_files_or_a_reason_and_the_index_tells_both(written: tuple[Path, dict]) -> None:
    folder, told = written
    assert sorted(told["written"]) == sorted(str(path) for path in folder.iterdir())
    index = (folder / "index.md").read_text()
    for stem, item in paper.ITEMS.items():
        own = [path for path in folder.iterdir() if path.name.startswith(f"{stem}-") or path.stem == stem]
        assert own or told["missing"][stem], stem
        for name in item.names:
            (row,) = [line for line in index.splitlines() if line.startswith(f"| {item.paper} | {name} |")]
            assert all(f"({path.name})" in row for path in own)
    assert set(re.findall(r"\]\(([^)]+)\)", index)) <= {path.name for path in folder.iterdir()}
    assert "older, lora and fft, confidence: needs LoRA and full fine-tuning" in told["missing"]["vision-figure-3"][0]
    assert told["missing"]["vision-figures-4-5"] == [
        "older: no audit of it yet. Run one: sweeper audit older --matched lora fft"
    ]
    assert (folder / "vision-figures-4-5-birds-membership-paper-lora-2-0-lira.png").exists()
    assert told["missing"]["fairlora-tables-1-2-6"] == []


def test_tables_are_written_as_csv_markdown_and_latex_and_pictures_as_pdf_and_png(written: tuple[Path, dict]) -> None:
    folder, _ = written
    rows = pd.read_csv(folder / "fairlora-tables-1-2-6-test.csv").set_index(["model", "method"])
    assert rows.loc[("birds", "fairlora"), "accuracy"] == 34 / 40  # trial 3, the most accurate
    assert "85.00 ± 0.00" in (folder / "fairlora-tables-1-2-6-test.md").read_text()
    assert r"\begin{tabular}" in (folder / "fairlora-table-3-validation.tex").read_text()
    sizes = pd.read_csv(folder / "fairlora-table-5.csv")
    assert set(sizes["trainable"]) == {12_345}
    distances = pd.read_csv(folder / "fairlora-table-4-birds.csv").set_index("features")
    assert distances.loc["small-vit", "n_other"] == 6
    assert distances.loc["small-vit", "distance"] > 0
    for stem in ("fairlora-figures-5-9-10", "vision-figure-1-birds", "vision-figures-2-7-8-birds"):
        assert (folder / f"{stem}.pdf").read_bytes().startswith(b"%PDF")
        with Image.open(folder / f"{stem}.png") as image:
            assert min(image.size) > 200


def test_the_index_shows_the_tables_and_pictures_folded(written: tuple[Path, dict]) -> None:
    folder, _ = written
    page = (folder / "index.html").read_text()
    assert page.count("<details class='section'>") == page.count("</details>") == len(paper.ITEMS)
    assert page.count('class="chart">') >= 6
    assert '<img src="vision-figure-1-birds.png"' in page


def test_the_title_of_what_is_folded_is_text() -> None:
    chart = growth.hypervolume_chart(growth.hypervolume_numbers([0.1], [1.0]))
    section = Section("<b>", (Picture("x", chart), DataTable(("a",), (("1",),))), folded=True)
    page = writers.to_html(Document("t", "", (section,)))
    assert "<details class='section'>\n<summary>&lt;b&gt;</summary>" in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["birds", "birds", "-o", "{0}/x"], "a sweep is named twice"),
        (["birds", "-o", "{0}/birds/spec.yaml"], "is a file. Name a folder"),
        (["empty", "-o", "{0}/x"], "no trial of empty is complete and keeps the constraints: nothing to show"),
    ],
)
def test_what_cannot_be_shown_is_told_and_nothing_is_written(
    words: list[str], said: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (root / "empty").exists():
        finished.sweep(root / "empty", right={0: None, 1: None})
    assert main.main(["paper", *(word.format(root) for word in words), "--root", str(root)]) == 2
    assert said in capsys.readouterr().err
    assert not (root / "x").exists()
