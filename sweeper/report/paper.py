"""All tables and figures of the two papers, for the sweeps that are named: one folder, with an index.

`ITEMS` is the one list of them: what the index tells, and what `docs/papers.md` holds.
"""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import pandas as pd

from dashboards.document.document import Block, DataTable, Document, Image, Line, Picture, Section, Span, Text, code
from dashboards.ink.contact_sheet import contact_sheet
from sweeper.errors import UserError
from sweeper.report import comparison, files, papers, papers_figures, sheet
from sweeper.report.comparison import SPLITS, Side
from sweeper.results.results import Results
from trainables import data
from trainables.files import whole

FAIRLORA, VISION = "FairLoRA", "On Fairness of LoRA"


@dataclass(frozen=True)
class Sides:
    """The sweeps side by side, the rule that takes each method's point, and sets of images to measure distances to."""

    sides: Sequence[Side]
    rule: str = "accuracy"
    references: Sequence[str] = ()

    @cached_property
    def numbers(self) -> Mapping[str, Mapping[str, int]]:
        """Each sweep's points by method."""
        return {side.name: papers.points(side.results, self.rule).numbers for side in self.sides}


@dataclass
class Made:
    """What one item has come to: tables with their numbers, pictures, files that are there already, and what is not."""

    tables: dict[str, tuple[DataTable, pd.DataFrame]] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)
    drawn: dict[str, Callable[[Path], object]] = field(default_factory=dict)
    copies: list[Path] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Item:
    """Some items of a paper that are one thing here. The key in `ITEMS` is how its files' names begin."""

    paper: str
    names: tuple[str, ...]
    shows: str
    make: Callable[[Sides], Made]
    command: str = "sweeper report NAME --figures FOLDER"  # what gives it by itself


# --- tables


def _methods(place: int, metrics: Sequence[str], asked: Sides) -> Made:
    """The table at `place` of `papers.tables`, on each split."""
    made = Made()
    for split in SPLITS:
        found = comparison.method_table(asked.sides, asked.rule, split)
        tables = found.tables[place : place + 1]
        if tables:
            made.tables[split] = (tables[0], papers.plain_rows(found.rows, metrics))
        elif found.rows.empty:
            made.missing.append(f"{split}: no method was measured on it.")
        else:
            made.missing.append(f"{split}: the data has no sensitive attribute with values to compare.")
    return made


def _distances(asked: Sides) -> Made:
    if not asked.references:
        return Made(missing=["No folder of images of the pre-training data was given: --reference FOLDER."])
    from sweeper.report import distance  # loads torch
    from trainables.frechet import images_of, together

    made = Made()
    for name, results in _sweeps(asked):
        try:
            own = together(data.load(results.spec.data))
            pairs = [(results.spec.data.name, own, other, images_of(other)) for other in asked.references]
            rows, said = distance.measure(pairs, results.spec.backbone)
        except UserError as fault:
            made.missing.append(f"{name}: {fault}")
            continue
        made.tables[name] = (distance.table(rows), pd.DataFrame(rows))
        made.missing += [f"{name}: {reason}" for reason in (*said, *distance.reasons(rows))]
    return made


def _sizes(asked: Sides) -> Made:
    rows = [
        papers.size_rows(side.results).assign(model=model)
        for side, model in zip(asked.sides, comparison.model_names(asked.sides), strict=True)
    ]
    joined = pd.concat([part for part in rows if not part.empty] or rows[:1], ignore_index=True)
    if joined.empty:
        return Made(missing=["No fit has kept how many parameters it has."])
    caption = "Parameters of the models that were trained, the head included."
    return Made({"": (papers.size_table(joined, caption), joined[["model", *joined.columns.drop("model")]])})


# --- figures


def _figures(needs: str, names: Sequence[str], asked: Sides) -> Made:
    """Those of `papers_figures.FIGURES`, for each sweep by itself."""
    made = Made()
    for sweep, results in _sweeps(asked):
        for name in names:
            chart = papers_figures.FIGURES[name](results, asked.numbers[sweep])
            if chart is None:
                made.missing.append(f"{sweep}, {name}: needs {needs}.")
            else:
                made.pictures[f"{sweep} {name}" if len(names) > 1 else sweep] = Picture(name, chart)
    return made


def _by_rank(metrics: Sequence[str], methods: Sequence[str], asked: Sides) -> Made:
    """All sweeps on one picture."""
    models = comparison.model_names(asked.sides)
    sweeps = {model: side.results for model, side in zip(models, asked.sides, strict=True)}
    chart = papers_figures.metrics_by("rank", sweeps, metrics, methods)
    if chart is None:
        return Made(missing=[f"Needs trials of {' or '.join(methods[:2])} with two ranks or more."])
    return Made(pictures={"": Picture("by rank", chart)})


def _examples(asked: Sides) -> Made:
    made = Made()
    for name, results in _sweeps(asked):
        try:
            dataset = data.load(results.spec.data)
            cells = list(sheet.cells(dataset, sheet.groups_kind(dataset)))
        except (UserError, OSError) as fault:  # the data is elsewhere, or an image of it does not decode
            made.missing.append(f"{name}: {fault}")
            continue
        title = f"{dataset.name}, split hash {dataset.split_hash}"
        made.drawn[name] = partial(contact_sheet, cells, title=title)
    return made


def _audits(attack: str, asked: Sides) -> Made:
    made = Made()
    for name, results in _sweeps(asked):
        found = sorted((results.folder.path / "audits").glob(f"membership-*-{attack}.p*"))
        made.copies += found
        if not found:
            methods = {trial.params.get("method") for trial in results.trials}
            both = {"lora", "fft"} <= methods
            fits = f"{name} --matched lora fft" if both else f"{name}@{next(iter(results.named), 'knee')}"
            made.missing.append(f"{name}: no audit of it yet. Run one: sweeper audit {fits}")
    return made


def _sweeps(asked: Sides) -> Iterator[tuple[str, Results]]:
    return ((side.name, side.results) for side in asked.sides)


_TWO = "two methods or more, and losses of the classes"
ITEMS: Mapping[str, Item] = {
    "fairlora-tables-1-2-6": Item(
        FAIRLORA, ("Table 1", "Table 2", "Table 6"), "accuracy, min F1, min recall, delta F1 by model and method",
        partial(_methods, 0, papers.OVERALL_METRICS), "sweeper compare A B --table",
    ),
    "fairlora-table-3": Item(
        FAIRLORA, ("Table 3",), "EOD_max and sensitive accuracy by model and method",
        partial(_methods, 1, (*papers.ATTRIBUTE_METRICS, *papers.CELL_METRICS)), "sweeper compare A B --table",
    ),
    "fairlora-table-4": Item(
        FAIRLORA, ("Table 4",), "Fréchet distance of the data to pre-training data", _distances,
        "sweeper data distance A B",
    ),
    "fairlora-table-5": Item(FAIRLORA, ("Table 5",), "parameters by method and rank", _sizes),
    "fairlora-figures-methods": Item(
        FAIRLORA,
        ("Figure 1 left", "Figure 3", "Figure 4", "Figure 6", "Figure 7", "Figure 8", "Figure 11 left",
         "Figure 12 left"),
        "metrics on one scale, higher is better", partial(_figures, "two methods or more", ("methods",)),
    ),
    "fairlora-figures-variance": Item(
        FAIRLORA, ("Figure 1 right", "Figure 11 right", "Figure 12 right"),
        "variance of the classes' losses, at the end and by epoch",
        partial(_figures, _TWO, ("variance of per-class loss", "variance of per-class loss by epoch")),
    ),
    "fairlora-figure-2": Item(
        FAIRLORA, ("Figure 2a", "Figure 2b"), "accuracy and variance of the classes' losses by rank, without a penalty",
        partial(_by_rank, ("accuracy", "loss_variance_by_class"), ("lora", "fft")),
    ),
    "fairlora-figures-5-9-10": Item(
        FAIRLORA, ("Figure 5", "Figure 9", "Figure 10"), "accuracy and min F1 by rank, with and without the penalty",
        partial(_by_rank, ("accuracy", "min_f1"), ("lora", "fairlora")),
    ),
    "vision-figure-1": Item(
        VISION, ("Figure 1",), "example images of each group, with counts", _examples,
        "sweeper data check DATA --sheet FILE.png",
    ),
    "vision-figures-2-7-8": Item(
        VISION, ("Figure 2", "Figure 7", "Figure 8"),
        "accuracy, EOD and F1 by group, smallest first, 95 % intervals over the seeds",
        partial(_figures, "data with a sensitive attribute", ("groups by size",)),
    ),
    "vision-figure-3": Item(
        VISION, ("Figure 3",), "confidences and reliability, LoRA against full fine-tuning",
        partial(_figures, "LoRA and full fine-tuning, with their confidences", ("lora and fft, confidence",)),
    ),
    "vision-figures-4-5": Item(
        VISION, ("Figure 4", "Figure 5"),
        "membership inference by LiRA, LoRA against full fine-tuning, over all and by group",
        partial(_audits, "lira"), "sweeper audit NAME --matched lora fft",
    ),
    "vision-figures-9-10": Item(
        VISION, ("Figure 9", "Figure 10"), "the same by LOSS",
        partial(_audits, "loss"), "sweeper audit NAME --matched lora fft",
    ),
    "vision-figure-6": Item(
        VISION, ("Figure 6",), "accuracy and EOD by group against rank; rank 0 is the head alone",
        partial(_figures, "plain LoRA at two ranks or more, and a sensitive attribute", ("groups by rank",)),
    ),
}  # fmt: skip


# --- the folder


def write(asked: Sides, folder: Path) -> tuple[list[Path], dict[str, list[str]]]:
    """Every item's files, and `index.html` and `index.md`; gives the files, and for each item what is missing and why.

    Raises:
        UserError: the folder's place is taken by a file, or a sweep has no complete trial.
    """
    if empty := [side.name for side in asked.sides if not side.results.able]:
        raise UserError(f"no trial of {', '.join(empty)} is complete and keeps the constraints: nothing to show.")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file. Name a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    rows: list[tuple[Line, ...]] = []
    sections, missing = [], {}
    for stem, item in ITEMS.items():
        made = item.make(asked)
        own = _written(made, stem, item, folder)
        written += own
        missing[stem] = made.missing
        rows += [(item.paper, name, item.shows, _links(own), " ".join(made.missing)) for name in item.names]
        blocks = [*_blocks(made, own), *(Text(reason, aside=True) for reason in made.missing)]
        sections.append(Section(_title(item), tuple(blocks), folded=True))
    rules = dict.fromkeys(papers.points(side.results, asked.rule).rule for side in asked.sides)
    head = ("paper", "item", "what it shows", "files", "not made, and why")
    document = Document(
        f"Tables and figures of the papers, for {', '.join(side.name for side in asked.sides)}",
        f"Each method's point is chosen on validation from its own trials by one rule ({' / '.join(rules)}).",
        (Section("What is here", (DataTable(head, tuple(rows), words=tuple(range(5))),)), *sections),
    )
    index = [folder / f"index.{form}" for form in ("html", "md")]
    for path in index:
        files.write_document(document, path.suffix[1:], path)
    return [*index, *written], missing


def _title(item: Item) -> str:
    return f"{item.paper}: {', '.join(item.names)}"


def _links(paths: Sequence[Path]) -> Line:
    """`methods-digits .pdf .png`, each ending a link."""
    parts: list[str | Span] = []
    for stem, same in itertools.groupby(paths, lambda path: path.stem):
        parts += [f"{', ' if parts else ''}{stem}"]
        parts += [part for path in same for part in (" ", Span(path.suffix, url=path.name))]
    return tuple(parts) or "–"


def _written(made: Made, stem: str, item: Item, folder: Path) -> list[Path]:
    written = []
    for part, (table, rows) in made.tables.items():
        place = folder / _name(stem, part)
        document = Document(_title(item), part, (Section("", (table,)),))
        for form in ("csv", "md", "tex"):
            path = place.with_name(f"{place.name}.{form}")
            if form == "csv":
                files.write_rows(rows, path)
            else:
                files.write_document(document, form, path)
            written.append(path)
    for part, picture in made.pictures.items():
        written += files.write_picture(picture, folder / _name(stem, part))
    for part, draw in made.drawn.items():
        for suffix in (".pdf", ".png"):
            path = folder / f"{_name(stem, part)}{suffix}"
            with whole(path) as temporary:
                draw(temporary)
            written.append(path)
    for source in made.copies:
        path = folder / _name(stem, f"{source.parent.parent.name}-{source.name}")
        with whole(path) as temporary:
            shutil.copyfile(source, temporary)
        written.append(path)
    return written


def _blocks(made: Made, written: Sequence[Path]) -> list[Block]:
    images = [Image(path.stem, path.name) for path in written if path.suffix == ".png" and (made.drawn or made.copies)]
    return [*(table for table, _ in made.tables.values()), *made.pictures.values(), *images]


def _name(stem: str, part: str) -> str:
    return re.sub(r"[^\w.]+", "-", f"{stem}-{part}").strip("-")


def overview() -> DataTable:
    """The items without any sweep: what each shows, and how its files' names begin."""
    rows = tuple(
        (item.paper, ", ".join(item.names), item.shows, (code(item.command),), (code(stem),))
        for stem, item in ITEMS.items()
    )
    return DataTable(("paper", "items", "what it shows", "command", "files begin with"), rows, words=tuple(range(5)))
