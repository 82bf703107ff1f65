"""A real sweep's record in a real browser: the printed links open what they say, and the front's rows lead to runs.

The pictures are for a person to look at: build/browser/*.png, or the folder named by SWEEPER_PICTURES.
"""

from __future__ import annotations

import csv
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeper.patience import until
from tests.browser.chromium import PROGRAM, Browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine"),
]
PICTURES = Path(os.environ.get("SWEEPER_PICTURES", "build/browser"))
SPEC = """
name: seen
groups: cell
space: {method: [lora, fairlora], lambda: {low: 0.1, high: 10, log: true}, rank: [4, 8, 16], epochs: 2}
search: {sampler: random, trials: 8, seeds: 2, baselines: [lora]}
"""
DRAWN = "document.querySelectorAll('.explorer .picture .mark:not([opacity=\"0.22\"])').length"
POINTS = "document.querySelectorAll('.scatterlayer path.point').length"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished sweep: the one that SWEEPER_SEEN names, or one made here."""
    if "SWEEPER_SEEN" in os.environ:
        return Path(os.environ["SWEEPER_SEEN"])
    root = tmp_path_factory.mktemp("root")
    (root / "seen.yaml").write_text(SPEC)
    command = [sys.executable, "-m", "sweeper", "run", str(root / "seen.yaml"), "--root", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    return root / "seen"


def count(sweep: Path, table: str) -> int:
    """The rows of one of the sweep's tables."""
    return len((sweep / f"{table}.csv").read_text().splitlines()) - 1


@pytest.fixture(scope="module")
def links(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What `sweeper ui` prints, while it serves."""
    errors = tmp_path_factory.mktemp("ui") / "errors"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "sweeper", "ui", sweep.name, "--root", str(sweep.parent), "--port", str(port)]
    with errors.open("w") as file:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True)
    assert server.stdout is not None
    printed = "".join(server.stdout.readline() for _ in range(4))
    assert printed.count("http") == 4, errors.read_text()
    yield dict(re.findall(r"^(.*?): +(http\S+)$", printed, re.MULTILINE))
    server.send_signal(signal.SIGINT)
    server.wait(60)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as page:
        yield page


def test_the_views_show_a_point_for_each_trial_and_for_the_front_and_the_baselines(
    browser: Browser, links: dict[str, str], sweep: Path
) -> None:
    with (sweep / "trials.csv").open() as file:
        shown = [row for row in csv.DictReader(file) if row["on_front"] == "True" or row["baseline"]]
    for view, points in {"all": count(sweep, "trials"), "front": len(shown)}.items():
        browser.open(links["the trials"].replace("-all&", f"-{view}&"))
        browser.wait(f"{POINTS} === {points}")
        browser.wait(f"document.body.innerText.includes('{points} matching run')")
        assert "accuracy vs. delta_f1" in browser.ask("document.body.innerText")
        browser.wait("document.body.innerText.includes('Parallel Coordinates')")
        browser.picture(PICTURES / f"view-{view}.png")


def test_the_first_link_shows_a_point_and_a_row_for_each_trial_and_the_one_to_take(
    browser: Browser, links: dict[str, str], sweep: Path
) -> None:
    browser.open(links["the front"])
    browser.wait("document.querySelector('iframe') !== null")
    until(lambda: browser.ask_frame(DRAWN) == count(sweep, "trials"), 60)
    assert browser.ask_frame("document.querySelectorAll('.explorer tbody tr').length") == count(sweep, "trials")
    assert "Recommended: #" in browser.ask_frame("document.querySelector('.answer').innerText")
    browser.picture(PICTURES / "front-page.png")


def test_the_note_shows_its_picture_and_its_links_lead_to_runs(
    browser: Browser, links: dict[str, str], sweep: Path
) -> None:
    browser.open(links["the sweep"])
    browser.wait("[...document.images].some(image => image.src.includes('front-small.png') && image.naturalWidth > 0)")
    text = browser.ask("document.body.innerText")
    trials = count(sweep, "trials")
    assert f"{trials} complete of {trials}" in text
    assert "Which one" in text
    assert browser.ask("[...document.links].some(link => link.href.includes('/artifacts/front.html'))")
    browser.ask("[...document.querySelectorAll('button')].find(b => b.innerText === 'Show more').click()")
    browser.wait("[...document.querySelectorAll('button')].some(b => b.innerText === 'Show less')")
    browser.picture(PICTURES / "note.png")
    href = browser.ask("[...document.querySelectorAll('td a[href*=\"/runs/\"]')][0].href")
    browser.open(href)
    browser.wait("document.body.innerText.includes('val_accuracy')")


def test_the_models_are_the_front_and_the_registered_one_has_its_aliases(
    browser: Browser, links: dict[str, str], sweep: Path
) -> None:
    browser.open(links["the models"])
    for alias in ("knee", "most-accurate", "fairest"):
        browser.wait(f"document.body.innerText.includes('{alias}')")
    browser.picture(PICTURES / "models.png")


def test_the_pages_of_the_record_open_without_a_network_and_without_a_complaint(browser: Browser, sweep: Path) -> None:
    pages = sorted((sweep.parent / "mlartifacts" / sweep.name).rglob("*.html"))
    assert pages
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.call("Network.emulateNetworkConditions", **offline)
    for page in pages:
        browser.open(page.as_uri())
        browser.wait("document.readyState === 'complete' && document.querySelectorAll('svg .mark').length > 0")
        browser.picture(PICTURES / f"{page.stem}.png")
        assert browser.complaints == []
        assert [url for url in browser.requests if url.startswith("http")] == []
