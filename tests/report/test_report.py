"""The report: it opens with no network, says each thing once, and a name in it commands nothing."""

from __future__ import annotations

import csv
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dashboards.document import tables, writers
from dashboards.document.document import CodeBlock, DataTable, Document, Section, Text, plain
from sweeper.cli import main
from sweeper.errors import UserError
from sweeper.report import export, papers_figures, sweep_report
from sweeper.results.results import Results
from sweeper.state.sweep_folder import SweepFolder
from tests import finished, hostile
from trainables import files
from trainables.metrics import Answers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    path = tmp_path_factory.mktemp("sweeps") / "birds"
    finished.sweep(path)
    return SweepFolder(path)


@pytest.fixture(scope="module")
def document(folder: SweepFolder) -> Document:
    return sweep_report.document(sweep_report.gather(Results.open(folder)))


def section(document: Document, title: str) -> Section:
    (found,) = [section for section in document.sections if section.title == title]
    return found


def words(part: Section) -> str:
    found = []
    for block in part.blocks:
        if isinstance(block, (Text, CodeBlock)):
            found.append(block.text if isinstance(block, CodeBlock) else plain(block.text))
        elif isinstance(block, DataTable):
            found += [block.caption, *block.head, *(cell for row in block.rows for cell in row)]
    return " ".join(found)


def test_it_says_the_question_the_answer_what_failed_and_how_to_do_it_again(document: Document) -> None:
    titles = [part.title for part in document.sections]
    assert titles[:2] == ["", "The question"]
    first, *_ = document.sections[0].blocks
    assert plain(first.text).startswith("Recommended: #2 ")
    assert "accuracy 0.875 ± 0.000" in plain(first.text)
    assert "± over 2 seeds), on the true front with a chance of " in plain(first.text)
    assert "diverged: the loss became nan" in words(section(document, "What was tried"))
    assert "sweeper run sweep.yaml" in words(section(document, "How to do it again"))
    assert "trial" in section(document, "How sure that is").blocks[1].head


def test_test_numbers_stand_in_one_section_only(document: Document) -> None:
    """Trial 2 on test, seed 0: 25 + 8 right of 40, F1 50/57 and 16/23; seed 1: 24 + 9, 48/55 and 18/25."""
    apart = words(section(document, "On the test split"))
    assert "0.825 ± 0.000" in apart
    assert "-0.050" in apart  # validation was .875
    assert "0.167 ± 0.020" in apart
    rest = " ".join(words(part) for part in document.sections if part.title != "On the test split")
    assert "0.167 ± 0.020" not in rest
    assert "chose nothing" in apart


def test_the_papers_tables_are_there_on_test_too_by_the_rule_that_was_asked_for(folder: SweepFolder) -> None:
    """fairlora's trial 3 is its most accurate: on test 28 + 6 and 27 + 7 of 40 are right, .850; its knee is trial 2."""
    results = Results.open(folder)
    said = {}
    for rule in ("knee", "accuracy"):
        made = sweep_report.document(sweep_report.gather(results, method_rule=rule))
        apart = section(made, "On the test split")
        (table,) = [t for t in apart.blocks if isinstance(t, DataTable) and "min recall (↑)" in t.head]
        said[rule] = dict(row[1:3] for row in table.rows)
        assert "chosen on validation by one rule" in table.caption
    assert said["accuracy"]["fairlora"] == "85.00 ± 0.00"
    assert said["knee"]["fairlora"] == "82.50 ± 0.00"


def test_a_method_that_was_not_measured_on_test_is_named(tmp_path: Path) -> None:
    path = tmp_path / "birds"
    finished.sweep(path)
    shutil.rmtree(path / "held-out" / "00001")  # plain full fine-tuning
    made = sweep_report.document(sweep_report.gather(Results.open(SweepFolder(path))))
    assert "Not measured on the test split: the points of fft." in words(section(made, "On the test split"))


def test_the_papers_figures_are_in_the_report(document: Document) -> None:
    shown = [block.name for block in section(document, "The papers' figures").blocks]
    assert {"variance of per-class loss", "lora and fft, confidence", "groups by size"} <= set(shown)


def test_the_papers_figures_are_folded_so_that_the_answer_stays_on_top(document: Document) -> None:
    assert [part.title for part in document.sections if part.folded] == ["The papers' figures"]


def test_the_odds_of_a_group_are_those_against_all_others_and_its_f1_is_of_the_positive_class() -> None:
    """a: TPR 1/2, FPR 0; b and c together: TPR 1, FPR 1/2. c has no negatives: its FPR is unknown.

    F1 of a: 1 found, 1 missed, 2/3; of b: 1 found, 1 false alarm, 2/3; of c: 1.
    """
    answers = Answers(
        labels_N=np.array([1, 1, 0, 1, 0, 0, 1]), predicted_N=np.array([1, 0, 0, 1, 1, 0, 1]), classes=("no", "yes"),
        attributes_N=np.array([0, 0, 0, 1, 1, 1, 2]), attributes=("a", "b", "c"),
    )  # fmt: skip
    found = papers_figures.by_attribute(answers)
    assert found["a"]["eod"] == found["b"]["eod"] == 0.5
    assert math.isnan(found["c"]["eod"])
    assert [found[name]["f1"] for name in "abc"] == pytest.approx([2 / 3, 2 / 3, 1])


class References(HTMLParser):
    """Everything in a page that would make a browser ask for something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {"src", "href", "srcset", "data", "poster", "action", "xlink:href", "background"}
        self.found += [f"{tag} {name}" for name, _ in attrs if name in named]
        if tag in ("iframe", "object", "embed", "link", "base", "form"):
            self.found.append(tag)


def test_the_page_refers_to_nothing_outside_itself(document: Document) -> None:
    page = writers.to_html(document)
    seen = References()
    seen.feed(page)
    assert seen.found == []
    assert not re.search(r"https?://(?!www.w3.org/2000/svg)|@import|url\((?!#)", page)
    assert page.count('class="explorer">') == 1
    assert page.count('class="chart">') == len(document.pictures) - 1 >= 6


def test_a_class_with_a_hostile_name_is_text_in_the_report_of_a_whole_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names of classes and attribute values, through fits, study, tables and pictures."""
    classes = ("<script>alert(1)</script>", "=HYPERLINK(1)")
    places = ("[x](javascript:alert(1)) | `b` http://evil.example", "$y$ ~~z~~ <img src=x>")
    pages = []
    for names in (("a", "b", "c", "d"), (*classes, *places)):
        monkeypatch.setattr(finished, "CLASSES", names[:2])
        monkeypatch.setattr(finished, "PLACES", names[2:])
        path = tmp_path / str(len(pages)) / "birds"
        finished.sweep(path)
        results = Results.open(SweepFolder(path))
        made = sweep_report.document(sweep_report.gather(results))
        pages.append((hostile.Page(writers.to_html(made)), hostile.rendered(writers.to_markdown(made))))
    for harmless, page in zip(*pages, strict=True):
        assert page.tags == harmless.tags
        assert page.addresses == harmless.addresses
        assert all(page.says(name) for name in (*classes, *places))
    with export.write(results, "csv", tmp_path / "x.csv")[2].open(newline="") as file:
        groups = {row["name"] for row in csv.DictReader(file)}
    assert {classes[0], f"'{classes[1]}"} <= groups


def test_markdown_and_latex_hold_the_tables_in_the_papers_shape(document: Document) -> None:
    markdown, latex = writers.to_markdown(document), writers.to_latex(document)
    assert "| model | method | accuracy (↑) | min F1 (↑) | min recall (↑) | delta F1 (↓) |" in markdown
    assert r"model & method & accuracy ($\uparrow$) & min F1 ($\uparrow$)" in latex
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") == len(document.tables)


def test_a_row_for_each_method_in_percent_what_is_surely_best_of_its_model_in_bold() -> None:
    """FairLoRA, Table 1, CLIP and DiNO: LoRA and FairLoRA."""
    rows = pd.DataFrame(
        [
            {"model": "CLIP", "method": "LoRA", "accuracy": 0.9735, "accuracy_std": 0.0017, "delta_f1": 0.1229},
            {"model": "CLIP", "method": "FairLoRA", "accuracy": 0.9758, "accuracy_std": 0.0006, "delta_f1": 0.1071},
            {"model": "DiNO", "method": "LoRA", "accuracy": 0.9438, "accuracy_std": 0.0023, "delta_f1": 0.1293},
        ]
    ).assign(accuracy_best=[True, True, True], delta_f1_best=[False, True, True])
    table = tables.method_table(rows, {"accuracy": "max", "delta_f1": "min", "eod": "min"})
    assert table.head == ("model", "method", "accuracy (↑)", "delta F1 (↓)")  # nothing is known of eod
    assert table.rows[0] == ("CLIP", "LoRA", "97.35 ± 0.17", "12.29")
    assert table.rows[1][0] == ""
    assert table.best == {(1, 3)}  # CLIP's accuracies cannot be told apart; of DiNO there is nothing to compare
    assert table.lines == (2,)


# --- the command


def test_the_format_follows_the_suffix_and_the_file_is_whole(folder: SweepFolder, tmp_path: Path, capsys) -> None:
    asked = ["report", "birds", "--root", str(folder.path.parent)]
    assert main.main([*asked, "-o", str(tmp_path / "r.html"), "--figures", str(tmp_path / "figures")]) == 0
    assert main.main([*asked, "-o", str(tmp_path / "r.tex")]) == 0
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "r.tex").read_text().startswith("% Tables of Sweep birds")
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"front.pdf", "front.png", "methods.png", "attainment.pdf"} <= drawn
    assert list(tmp_path.rglob(".*")) == []  # no temporary file is left
    assert str(tmp_path / "r.tex") in capsys.readouterr().out


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "r.html").write_text("old")

    def fail_half_way() -> None:
        with files.whole(tmp_path / "r.html") as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]
    assert (tmp_path / "r.html").read_text() == "old"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "r.docx"], "'.docx' says no format. Use one of .html, .md, .tex"),
        (["-o", "r.pdf"], "r.pdf: no PDF is written here. Write r.html, open it in a browser and print it to a PDF."),
        (["-o", "r.md", "--format", "tex"], "ends in .md, and --format is tex"),
        (["-o", "nowhere/r.md"], "nowhere is no folder"),
    ],
)
def test_a_file_name_that_makes_no_sense_is_told_with_its_mend(
    folder: SweepFolder, capsys, words: list[str], said: str
) -> None:
    assert main.main(["report", "birds", "--root", str(folder.path.parent), *words]) == 2
    assert said in capsys.readouterr().err


def test_of_a_sweep_without_a_front_there_is_nothing_to_report(tmp_path: Path) -> None:
    finished.sweep(tmp_path / "empty", right={0: None, 1: None})
    folder = SweepFolder(tmp_path / "empty")
    with pytest.raises(UserError, match="nothing to report yet"):
        sweep_report.document(sweep_report.gather(Results.open(folder)))


def test_a_tuned_baseline_is_one_point_of_the_report_and_what_it_is_compared_with(tmp_path: Path) -> None:
    """lora's trials 0, 1 and 2 (the knee of them, .875 and .153) and fairlora's; (30, 6), (29, 8) and (20, 10)."""
    right = {0: (29, 4), 1: (28, 4), 2: (27, 8), 3: (30, 6), 4: (29, 9), 5: (20, 10)}
    path = tmp_path / "birds"
    finished.sweep(path, right=right, **{"search.baselines": {"lora": 3}})
    results = Results.open(SweepFolder(path))
    made = sweep_report.document(sweep_report.gather(results))
    assert results.baseline_points() == {"lora": 2}
    assert "baselines: lora (3 trials)." in words(section(made, "The question"))
    answer = words(made.sections[0])
    assert "tuned lora (#2, the best of its 3 trials by the knee: accuracy 0.875" in answer
    assert "corrected for the 3 trials that were compared" in answer
    (table,) = [block for block in section(made, "How sure that is").blocks if isinstance(block, DataTable)]
    assert [row[0] for row in table.rows if "(baseline)" in row[1]] == ["2"]


def test_a_report_of_fits_without_answers_rests_on_the_seeds(tmp_path: Path) -> None:
    finished.sweep(tmp_path / "old", answers=False)
    folder = SweepFolder(tmp_path / "old")
    made = sweep_report.document(sweep_report.gather(Results.open(folder)))
    assert "With the noise of the 2 seeds it is on the true front" in words(section(made, "How sure that is"))


@pytest.mark.parametrize(
    "objectives", [{"accuracy": "max"}, {"accuracy": "max", "delta_f1": "min", "worst_group_accuracy": "max"}]
)
def test_one_objective_or_three_are_reported_too(objectives: dict[str, str], tmp_path: Path) -> None:
    finished.sweep(tmp_path / "other", objectives=objectives)
    folder = SweepFolder(tmp_path / "other")
    made = sweep_report.document(sweep_report.gather(Results.open(folder)))
    assert next(name for name in section(made, "How sure that is").blocks[1].head if "(" in name) == "accuracy (↑)"
    assert ("front" in [picture.name for picture in made.pictures]) == (len(objectives) > 1)
    assert len(writers.to_markdown(made)) > 2000


TEX = next((found for name in ("pdflatex", "lualatex") if (found := shutil.which(name))), None)


@pytest.mark.skipif(TEX is None, reason="no TeX on this machine")
def test_the_tables_can_be_set_by_latex_whatever_the_names_are(document: Document, tmp_path: Path) -> None:
    assert TEX is not None
    names = tuple((name if name.isascii() else "x", "1") for name in hostile.NAMES)
    strange = Document("strange", "", (Section("", (DataTable(("a_b & c", "n"), names, "100 % of $x$"),)),))
    for name, made in {"whole": document, "strange": strange}.items():
        (tmp_path / f"{name}.tex").write_text(writers.to_latex(made), encoding="utf-8")
    body = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{whole}\input{strange}\end{document}"
    (tmp_path / "paper.tex").write_text(body)
    command = [TEX, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000
    assert "Missing character" not in (tmp_path / "paper.log").read_text(errors="replace")
