"""A sweep at one moment as a terminal shows it: how far it is, what runs, and the front so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dashboards.ink import characters, wording
from dashboards.ink.characters import Mark
from sweeper.results import summary
from sweeper.screen.tables import front_table, shortened

if TYPE_CHECKING:  # it loads pandas, which takes a second
    from sweeper.results.results import Results
    from sweeper.trial import Trial

WIDE = 120  # columns from which the chart stands beside the table
RUNNING = 6  # fits that are named
STYLES = {"o": "bold green", "K": "bold yellow", ".": "dim"}


def picture(results: Results, width: int, height: int, said: str = "") -> RenderableType:
    """The sweep in `width` columns and at most `height` rows. `said`: what goes on beside training."""
    parts: list[RenderableType] = [*_standing(results, width, said)]
    fits = _running(results, width)
    parts += [fits] if fits is not None else []
    left = height - 3 - (fits.row_count + 2 if fits is not None else 0)
    front = results.front_rows
    if width >= WIDE:
        chart = _chart(results, width * 2 // 5, min(14, left - 6))
        rows = max(1, left - 6)
        table = _front(front[:rows], len(front), width - width * 2 // 5 - 2) if front else Text("")
        if front and left > 8:
            beside = Table.grid(padding=(0, 2))
            beside.add_row(chart, table)
            parts.append(beside)
        return Group(*parts)
    tall = max(6, min(11, left - 4 - (min(6, len(front)) + 6)))
    if front and left >= tall + 4:
        parts.append(_chart(results, width, tall))
        left -= tall + 4
    if front and left >= 7:
        parts.append(_front(front[: left - 6], len(front), width))
    return Group(*parts)


def _standing(results: Results, width: int, said: str) -> list[RenderableType]:
    """Two lines: what it is and how good; the bar over fits with the time."""
    progress, counts = results.progress, results.counts
    ended = sum(counts[state] for state in ("complete", "pruned", "failed"))
    words = [f"{ended}{summary.of_trials(results)} trials"]
    words += [f"{counts[state]} {state}" for state in ("pruned", "failed") if counts[state]]
    if not math.isnan(results.hypervolume):
        words.append(f"hypervolume {results.hypervolume:.4f}")
    if progress.to_measure and progress.measured < progress.to_measure and progress.fits_ended == progress.fits_total:
        words.append(f"measuring on the test split: {progress.measured} of {progress.to_measure}")
    words += [said] if said else []
    title = Text.assemble((results.spec.name, "bold"), "  ", ", ".join(words))
    if not progress.fits_total:
        return [title]
    times = f"{summary.duration(progress.elapsed_s)} gone"
    times += f", about {summary.duration(progress.eta_s)} left" if progress.eta_s else ""
    told = f"{progress.fits_ended}/{progress.fits_total} fits  {times}"
    line = Table.grid(padding=(0, 1))
    bar = ProgressBar(progress.fits_total, progress.fits_ended, width=max(8, min(60, width - len(told) - 2)))
    line.add_row(bar, Text(told, no_wrap=True))
    return [title, line]


def _running(results: Results, width: int) -> Table | None:
    """The fits that are out, one a row, with their epoch and the numbers after it."""
    fits = results.progress.fits
    if not fits:
        return None
    objectives = list(results.spec.objectives)
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    heads = ["seed", "epoch", *objectives]
    room = width - len("running") - sum(max(len(head), 8) + 2 for head in heads) - 4
    for head in ("running", "configuration", *heads):
        justify = "left" if head in ("running", "configuration") else "right"
        table.add_column(head, no_wrap=True, justify=justify)  # type: ignore[arg-type]
    for fit in fits[:RUNNING]:
        trial = results.by_number.get(fit.number)
        label = Text(shortened(trial.label, max(12, room)) if trial else "")
        epoch = f"{fit.epoch}/{fit.epochs}" if fit.begun else "starting"
        values = [wording.decimal(fit.values[name]) if name in fit.values else "" for name in objectives]
        table.add_row(f"trial {fit.number}", label, str(fit.seed), epoch, *values)
    if len(fits) > RUNNING:
        table.add_row("", Text(f"and {len(fits) - RUNNING} more"), *[""] * len(heads))
    return table


def _front(rows: Sequence[dict[str, object]], members: int, width: int) -> Table:
    more = f" ({len(rows)} of {members})" if len(rows) < members else ""
    return front_table(rows, f"front so far{more}", width=width)


def _chart(results: Results, width: int, height: int) -> Text:
    """The first objective against the second; nothing where there is one alone."""
    objectives = list(results.spec.objectives.items())
    if len(objectives) < 2 or height < 4:
        return Text("")
    (y, y_sense), (x, x_sense) = objectives[:2]
    signs = _signs(results)
    order = sorted(results.able, key=lambda trial: ".oK".find(signs[trial.number]) % 4)  # baselines on top
    marks = [Mark(trial.values[x], trial.values[y], signs[trial.number]) for trial in order]
    rows = characters.scatter(marks, width, height, wording.direction(x, x_sense), wording.direction(y, y_sense))
    text = Text(no_wrap=True)
    for beside, cells in rows:
        text.append(beside, "dim")
        for sign in cells:
            text.append(sign, STYLES.get(sign, "bold magenta") if sign != " " else None)
        text.append("\n")
    baselines = {signs[trial.number]: trial.baseline for trial in results.able if trial.baseline}
    legend = {
        "o": "front",
        "K": "knee",
        **{sign: f"baseline {name}" for sign, name in baselines.items()},
        ".": "others",
    }
    for sign, name in legend.items():
        text.append(f"{sign} ", STYLES.get(sign, "bold magenta")).append(f"{name}  ", "dim")
    return text


def _signs(results: Results) -> dict[int, str]:
    """The character of each trial: o on the front, K its knee, a letter of its own for each baseline, else a dot."""
    letters: dict[str, str] = {}
    for name in dict.fromkeys(results.spec.search.baseline_list):
        free = [letter for letter in (name + "ABCDEFG").upper() if letter not in (*letters.values(), "K", "O")]
        letters[name] = free[0]
    front, knee = set(results.front), results.named.get("knee")

    def sign(trial: Trial) -> str:
        if trial.baseline:
            return letters.get(trial.baseline, "B")
        return "K" if trial.number == knee else "o" if trial.number in front else "."

    return {trial.number: sign(trial) for trial in results.able}


def trial_line(trial: Trial, width: int, *, on_front: bool = False) -> Text:
    """A trial that has ended, in one line: its numbers, or why it has none. Spreads go before parameters do."""
    mark = "o " if on_front else "  "

    def told(spreads: bool) -> str:
        spread = trial.spread if spreads else {}
        numbers = {name: wording.decimal(value, spread.get(name, math.nan)) for name, value in trial.values.items()}
        return trial.why or "  ".join(f"{name} {number}" for name, number in numbers.items())

    heads = f"{mark}trial {trial.number} {trial.state}:", f"{mark}trial {trial.number}"
    for head, spreads in ((heads[0], True), (heads[1], True), (heads[1], False)):
        line = f"{head} {trial.label}  {told(spreads)}"
        if len(line) <= width:
            break
    else:
        head = heads[not trial.why]
        line = f"{head} {shortened(trial.label, max(12, width - len(head) - len(told(False)) - 3))}  {told(False)}"
    return Text(line, "red" if trial.reason else "green" if on_front else "")
