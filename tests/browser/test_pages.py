"""The page of the front and the report, in a real browser: what a reader sees at which width, and what answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from dashboards.document import writers
from dashboards.document.document import Document, Picture, Section
from dashboards.figures import bars, subgroups
from sweeper.report import front_page, sweep_report
from sweeper.results.results import Results
from sweeper.state.sweep_folder import SweepFolder
from tests import finished
from tests.browser.chromium import PROGRAM, Browser

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")

MARKS = "document.querySelectorAll('.explorer .picture .mark:not([opacity=\"0.22\"])').length"
ROWS = "[...document.querySelectorAll('.explorer tbody tr')].filter(row => !row.hidden)"
# Pairs of texts of one drawing that lie on each other, and texts that lie outside of their drawing.
CLASHES = """[...document.querySelectorAll('.panels svg, .explorer .picture svg')].flatMap(svg => {
  const texts = [...svg.querySelectorAll('text')].filter(text => text.textContent), frame = svg.getBoundingClientRect();
  const boxes = texts.map(text => text.getBoundingClientRect()), found = [];
  boxes.forEach((a, i) => {
    if (a.left < frame.left - 2 || a.right > frame.right + 2) found.push('outside: ' + texts[i].textContent);
    boxes.slice(i + 1).forEach((b, k) => {
      if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3)
        found.push(texts[i].textContent + ' on ' + texts[i + 1 + k].textContent);
    });
  });
  return found;
})"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of a finished sweep: the page that the record shows first, and the report."""
    folder = tmp_path_factory.mktemp("root") / "birds"
    finished.sweep(folder)
    results = Results.open(SweepFolder(folder))
    made = {"front": front_page.page(results, "/#/all"), "report": sweep_report.document(sweep_report.gather(results))}
    for name, document in made.items():
        (folder / f"{name}.html").write_text(writers.to_html(document), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in made}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as page:
        yield page


def show(browser: Browser, path: Path, width: int, scheme: str = "light") -> None:
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=1000, deviceScaleFactor=1, mobile=False)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.call("Emulation.setEmulatedMedia", features=features)
    browser.open(path.as_uri())
    browser.wait("document.readyState === 'complete' && document.querySelectorAll('svg .mark').length > 0")
    browser.ask("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert browser.complaints == []
    assert [url for url in browser.requests if url.startswith("http")] == []


def test_the_front_page_has_a_point_for_each_complete_trial_and_a_row_for_each(
    browser: Browser, pages: dict[str, Path]
) -> None:
    show(browser, pages["front"], 1600)
    assert browser.ask(MARKS) == 6
    assert browser.ask(f"{ROWS}.length") == len(finished.RIGHT) == 7
    assert browser.ask("document.querySelector('.answer').innerText").startswith("Recommended: #2 ")


def test_a_filter_holds_for_points_and_rows_and_a_head_sorts(browser: Browser, pages: dict[str, Path]) -> None:
    show(browser, pages["front"], 1600)
    box = "document.querySelector('input[type=search]')"

    def filtered(text: str) -> list[str]:
        browser.ask(f"{box}.value = {json.dumps(text)}, {box}.dispatchEvent(new Event('input'))")
        return browser.ask(f"{ROWS}.map(row => row.cells[0].innerText)")

    assert sorted(filtered("accuracy>=0.9")) == ["3"]
    assert browser.ask(MARKS) == 1
    assert filtered("fft") == ["1"]
    assert len(filtered("")) == 7
    head = "[...document.querySelectorAll('.explorer th')].find(th => th.innerText.startsWith('accuracy'))"
    order = []
    for _ in range(2):
        browser.ask(f"{head}.querySelector('button').click()")
        order.append(browser.ask(f"{ROWS}.map(row => row.cells[0].innerText)"))
    assert order[0][0] == "5"
    assert order[1][0] == "3"
    assert order[0][-1] == order[1][-1] == "6"  # it has no numbers
    assert browser.ask(f"{head}.getAttribute('aria-sort')") == "descending"


def test_the_keyboard_goes_from_point_to_point_and_tells_its_settings(browser: Browser, pages: dict[str, Path]) -> None:
    show(browser, pages["front"], 1600)
    browser.ask("document.querySelector('.explorer svg[tabindex]').focus()")
    told = []
    for _ in range(6):
        browser.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight", code="ArrowRight")
        told.append(browser.ask("document.querySelector('.facts').innerText"))
    assert [text.split(" · ")[0] for text in told[:1] + told[-1:]] == ["trial 5", "trial 3"]  # by accuracy
    assert all("configuration " in text and "accuracy (↑) 0." in text for text in told)


def test_another_number_may_be_an_axis(browser: Browser, pages: dict[str, Path]) -> None:
    show(browser, pages["front"], 1600)
    list_ = "document.querySelector('select[aria-label=\"across axis\"]')"
    chosen = f"[...{list_}.options].find(option => option.text === 'lambda, log').value"
    browser.ask(f"{list_}.value = {chosen}, {list_}.dispatchEvent(new Event('change'))")
    assert browser.ask(MARKS) == browser.ask(f"{ROWS}.filter(row => /fairlora/.test(row.innerText) && "
                                             "/complete/.test(row.innerText)).length")  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 800, 1600])
def test_a_report_is_readable_at_any_width(browser: Browser, pages: dict[str, Path], width: int, scheme: str) -> None:
    show(browser, pages["report"], width, scheme)
    if width != 1600:  # what is folded is drawn when it is opened
        browser.ask("document.querySelectorAll('details').forEach(folded => { folded.open = true; })")
        browser.wait("[...document.querySelectorAll('.figure')].every(figure => figure.querySelector('svg'))", 20)
    assert browser.ask(CLASHES) == []
    assert browser.ask("document.documentElement.scrollWidth") <= width
    paper = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") is (scheme == "light")
    if width == 1600:
        inside = "document.querySelector('.explorer .picture .mark[opacity=\"0.22\"]').getBoundingClientRect().bottom"
        assert browser.ask(inside) < 900  # the recommended point
        assert browser.ask("document.querySelector('.explorer').getBoundingClientRect().bottom") < 900


def test_a_table_of_the_report_sorts_and_what_has_no_number_stays_last(
    browser: Browser, pages: dict[str, Path]
) -> None:
    show(browser, pages["report"], 1600)
    table = "[...document.querySelectorAll('details table')].find(table => /state/.test(table.tHead.textContent))"
    head = f"[...{table}.tHead.rows[0].cells].find(cell => /lambda/.test(cell.textContent))"
    browser.ask(f"{table}.closest('details').open = true, {head}.querySelector('button').click()")
    column = browser.ask(f"[...{table}.tBodies[0].rows].map(row => row.cells[{head}.cellIndex].textContent)")
    known = [float(text) for text in column if text != "–"]
    assert known == sorted(known)
    assert len(known) >= 2
    assert set(column[len(known) :]) == {"–"}


@pytest.mark.parametrize("width", [400, 800, 1600])
def test_forty_five_groups_have_room_for_their_names(browser: Browser, tmp_path: Path, width: int) -> None:
    rows = pd.DataFrame(
        [
            {"number": n, "seed": seed, "kind": kind, "name": f"a class of birds {g}|place {g}", "n": 10 + g,
             "accuracy": g / 50, "recall": g / 50, "f1": g / 50, "eod": g / 90}
            for n in (1, 2) for seed in (0, 1) for g in range(45) for kind in ("class", "attribute")
        ]
    )  # fmt: skip
    chosen = {1: "lora", 2: "fft"}
    sizes = subgroups.size_numbers(rows, chosen, "attribute", ("accuracy", "eod"), lambda values: 0.1)
    ranks = subgroups.rank_numbers(rows, {1: 4, 2: 8}, "attribute", ("accuracy",), lambda values: 0.1)
    charts = [subgroups.size_chart(sizes, ""), subgroups.rank_chart(ranks, ""),
              bars.group_chart(bars.group_numbers(rows, chosen), {"lora": "lora", "fft": "fft"})]  # fmt: skip
    blocks = tuple(Picture(str(i), chart) for i, chart in enumerate(charts))
    (tmp_path / "many.html").write_text(writers.to_html(Document("many", "", (Section("", blocks),))))
    show(browser, tmp_path / "many.html", width)
    assert browser.ask(CLASHES) == []
    assert browser.ask("document.documentElement.scrollWidth") <= width
