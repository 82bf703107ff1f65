"""Commands that show what a sweep has found: the front, the report, sweeps side by side, tables to take away."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.cli.shared import Add, file_to_write, folder_of, say, show_front, show_table
from trainables.errors import UserError

if TYPE_CHECKING:
    from sweeper.report.comparison import Side

FORMATS = ("html", "md", "tex")
TABLES = (*FORMATS, "csv")
EXPORTS = ("csv", "json", "parquet")


def register(add: Add) -> None:
    """Enrol them."""
    _bounds(add("pareto", pareto, of="sweep"))
    told = add("report", report, of="sweep")
    _bounds(told)
    told.add_argument("--format", choices=FORMATS, help="default: by the file's suffix, else html")
    told.add_argument(
        "-o", "--output", type=file_to_write, metavar="FILE", help="default: NAME-report.html in this folder"
    )
    told.add_argument(
        "--figures", type=file_to_write, metavar="FOLDER", help="also each figure, as PDF and PNG, for a paper"
    )
    _rule(told)
    several = add("compare", compare)
    several.add_argument("sweeps", nargs="+", metavar="NAME", help="two or more sweeps on the same data")
    several.add_argument("--force", action="store_true", help="also sweeps that were measured on other data")
    several.add_argument("--table", action="store_true", help="only their methods in one table, on validation and test")
    _rule(several)
    several.add_argument("--format", choices=TABLES, help="default: by the file's suffix; csv is for --table")
    several.add_argument(
        "-o",
        "--output",
        type=file_to_write,
        metavar="FILE",
        help="write its report, with pictures; of --table the table",
    )
    whole = add("paper", paper)
    whole.add_argument("sweeps", nargs="+", metavar="NAME", help="sweeps to show side by side, such as one a backbone")
    whole.add_argument("-o", "--output", type=file_to_write, required=True, metavar="FOLDER", help="where the files go")
    whole.add_argument(
        "--reference",
        action="append",
        default=[],
        metavar="DATA",
        help="a folder of images of the pre-training data, to measure the data's distance to; again for more",
    )
    _rule(whole, default="accuracy")
    taken = add("export", export_tables, of="sweep")
    taken.add_argument("--format", choices=EXPORTS, help="default: by the file's suffix, else csv")
    taken.add_argument("-o", "--output", type=file_to_write, metavar="FILE", help="default: NAME.csv in this folder")


def _rule(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    parser.add_argument(
        "--rule",
        choices=("knee", "accuracy"),
        default=default,
        help="which point stands for each method in the papers' tables (accuracy: the most accurate on validation)",
    )


def _bounds(parser: argparse.ArgumentParser) -> None:
    """How the recommended point is chosen: the knee, unless there are bounds."""
    for option, what in (("--at-least", "higher"), ("--at-most", "lower")):
        parser.add_argument(
            option,
            action="append",
            default=[],
            metavar="OBJECTIVE=X",
            help=f"recommend the best of the others with this one (of which {what} is better) within X; again for more",
        )


def pareto(asked: argparse.Namespace) -> int:
    """The front of a sweep, the point to take and why; test numbers apart."""
    from sweeper.results import held_out
    from sweeper.results.results import Results
    from trainables.undefined import to_null

    results = Results.open(folder_of(asked, asked.sweep))
    objectives = results.spec.objectives
    within = bounds(asked, objectives)
    advice = results.recommendation(within)
    test = held_out.read(results)
    if asked.json:
        shown: dict[str, Any] = {"front": results.front_rows, "hypervolume": results.hypervolume}
        shown["held_out"] = {str(n): {k: list(v) for k, v in row.items()} for n, row in test.items()}
        shown["recommended"] = None if advice is None else advice.to_json()
        print(json.dumps(to_null(shown), indent=2))
        return 0
    show_front(results, None if advice is None else advice.stability, within)
    if advice is not None:
        say(str(advice))
        say(held_out.drop(advice.values, test.get(advice.number), objectives))
    return 0


def report(asked: argparse.Namespace) -> int:
    """Write one file that tells all of a sweep: HTML that opens offline, Markdown, or its tables for a paper."""
    from sweeper.report import files, sweep_report
    from sweeper.results.results import Results

    folder = folder_of(asked, asked.sweep)
    form, path = files.target(asked.format, asked.output, FORMATS, f"{folder.name}-report")
    results = Results.open(folder)
    facts = sweep_report.gather(results, bounds(asked, results.spec.objectives), asked.rule)
    document = sweep_report.document(facts)
    files.write_document(document, form, path)
    figures = files.write_figures(document, asked.figures) if asked.figures else []
    tell(asked, [path, *figures])
    return 0


def compare(asked: argparse.Namespace) -> int:
    """Two or more sweeps on one picture, with one reference point for the hypervolume."""
    from sweeper.report import comparison, files

    form, path = (asked.format, asked.output)
    if form or path:
        form, path = files.target(form, path, TABLES if asked.table else FORMATS, "-".join(asked.sweeps))
    sides = [comparison.side(folder_of(asked, name)) for name in asked.sweeps]
    if asked.table:
        return _compare_methods(asked, sides, form, path)
    found = comparison.compare(sides, force=asked.force)
    if path is not None:
        files.write_document(comparison.document(found), form, path)
    if asked.json:
        print(json.dumps(found.to_json() | {"written": [str(path)] if path else []}, indent=2))
        return 0
    for difference in found.differences:
        print(f"not the same data: {difference}")
    show_table(comparison.volume_table(found))
    if path is not None:
        print(f"wrote {path}")
    return 0


def _compare_methods(asked: argparse.Namespace, sides: Sequence[Side], form: str | None, path: Path | None) -> int:
    """The methods of all sweeps in one table, printed or written."""
    from sweeper.report import comparison, files

    made = [comparison.method_table(sides, asked.rule or "knee", split) for split in comparison.SPLITS]
    if path is not None and form == "csv":
        files.write_rows(comparison.methods_csv(made), path)
    elif path is not None and form is not None:
        files.write_document(comparison.methods_document(made, sides), form, path)
    if asked.json:
        shown: dict[str, Any] = {each.split: [{"head": t.head, "rows": t.rows} for t in each.tables] for each in made}
        print(json.dumps(shown | {"written": [str(path)] if path else []}, indent=2))
    elif path is not None:
        print(f"wrote {path}")
    else:
        for table in (table for each in made for table in each.tables):
            show_table(table)
    return 0


def paper(asked: argparse.Namespace) -> int:
    """All tables and figures of the two papers for these sweeps, in one folder, with an index of what and why not."""
    from sweeper.report import comparison
    from sweeper.report import paper as papers

    if len(set(asked.sweeps)) < len(asked.sweeps):
        raise UserError("a sweep is named twice. Name each once.")
    sides = [comparison.side(folder_of(asked, name)) for name in asked.sweeps]
    written, missing = papers.write(papers.Sides(sides, asked.rule, asked.reference), asked.output)
    if asked.json:
        print(json.dumps({"written": [str(path) for path in written], "missing": missing}, indent=2))
        return 0
    for stem, reasons in missing.items():
        for reason in reasons:
            print(f"{papers.ITEMS[stem].paper}, {'; '.join(papers.ITEMS[stem].names)}: {reason}")
    print(f"wrote {len(written)} files; begin with {written[0]}")
    return 0


def export_tables(asked: argparse.Namespace) -> int:
    """Write trials and fits, with nothing left out, as tables (CSV, Parquet) or JSON."""
    from sweeper.report import export, files
    from sweeper.results.results import Results

    folder = folder_of(asked, asked.sweep)
    form, path = files.target(asked.format, asked.output, EXPORTS, folder.name)
    tell(asked, export.write(Results.open(folder), form, path))
    return 0


def tell(asked: argparse.Namespace, written: Sequence[Path]) -> None:
    """Say what was written."""
    print(json.dumps([str(path) for path in written]) if asked.json else "\n".join(f"wrote {path}" for path in written))


def bounds(asked: argparse.Namespace, objectives: Mapping[str, str]) -> dict[str, float]:
    """`--at-least accuracy=0.82` as `{"accuracy": 0.82}`.

    Raises:
        UserError: it is written otherwise, or bounds an objective at its better end.
    """
    found = {}
    for option, sense in (("at_least", "max"), ("at_most", "min")):
        flag = f"--{option.replace('_', '-')}"
        for text in getattr(asked, option):
            name, _, value = text.partition("=")
            if objectives.get(name, sense) != sense:
                other = "--at-most" if sense == "max" else "--at-least"
                raise UserError(f"{flag} {text}: of {name}, {_better(objectives[name])} is better. Use {other}.")
            try:
                found[name] = float(value)
            except ValueError:
                raise UserError(f"{flag} {text}: use an objective and a number, such as accuracy=0.82.") from None
    return found


def _better(sense: str) -> str:
    return "higher" if sense == "max" else "lower"
