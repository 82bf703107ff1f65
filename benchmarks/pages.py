"""What a report of a sweep costs: seconds of the processor and of the clock, imports included, and the page's size.

python -m benchmarks.pages SWEEP [--root FOLDER]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path


def main() -> None:
    """Make the report's page and the front's, and print what each took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--root", type=Path, default=Path("sweeps"))
    asked = parser.parse_args()
    began = time.perf_counter()
    from dashboards.document import writers
    from sweeper.report import front_page, sweep_report
    from sweeper.results.results import Results
    from sweeper.state.sweep_folder import SweepFolder

    results = Results.open(SweepFolder(asked.root / asked.name))
    page = writers.to_html(sweep_report.document(sweep_report.gather(results)))
    _show(f"report of {len(results.trials)} trials", time.process_time(), time.perf_counter() - began, page)
    before, began = time.process_time(), time.perf_counter()
    again = Results(results.folder, results.spec, results.trials, results.front)
    page = writers.to_html(front_page.page(again))
    _show("the front's page", time.process_time() - before, time.perf_counter() - began, page)


def _show(name: str, processor_s: float, clock_s: float, page: str) -> None:
    print(f"{name:28} processor {processor_s:6.2f} s  clock {clock_s:6.2f} s  page {len(page.encode()) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
