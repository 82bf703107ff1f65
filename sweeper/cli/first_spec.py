"""A first sweep.yaml for the data at hand: what is in it as comments, groups that it has, a budget that fits here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from sweeper.cli.data_check import settings
from sweeper.engine import planning
from sweeper.results.summary import duration
from sweeper.spec import loading, on_data, yaml_text
from sweeper.spec.model import SweepSpec
from trainables import data
from trainables.data import DataConfig
from trainables.data.base import OVERLAPPING, SPLITS, Dataset
from trainables.data.datasets import layout
from trainables.data.report import tell
from trainables.errors import UserError
from trainables.files import write_text

TRIALS, FEWEST, SEEDS, EPOCHS = 48, 8, 3, 4
_TIMED_ON = 600  # examples, of a dataset that has more
_SPACE = f"""\
space:
  method: [lora, fairlora]
  lambda: {{low: 0.01, high: 100, log: true}}  # how much FairLoRA weighs the differences between the groups' losses
  rank: {{low: 4, high: 128, log: true}}
  learning_rate: {{low: 0.0005, high: 0.01, log: true}}
  epochs: {EPOCHS}
"""


def write(path: Path, columns: Mapping[str, str], name: str | None, output: Path, hours: float) -> str:
    """Write the spec for the data at `path` to `output`, and say what it will do; `hours` is what it may take here.

    Raises:
        UserError: there is a file already, or a sweep could not use the data.
    """
    if output.exists():
        raise UserError(f"{output} is there already. Move it away, or write to another file: -o FILE.")
    config, lines = layout.configure(path, name, columns)
    config = config.model_copy(update={"root": (config.root or path).expanduser().resolve()})
    dataset = data.load(config)
    spec = _asked(path, config, dataset)
    trials, limit, timed = _budget(spec, dataset, hours)
    text = _text(spec, dataset, lines, trials, limit, timed)
    made = loading.parse(text, str(output))
    write_text(output, text)
    return f"wrote {output}: {made.budget} trials x {SEEDS} seeds. {timed}\nNext: sweeper validate {output}"


def _asked(path: Path, config: DataConfig, dataset: Dataset) -> SweepSpec:
    """The question: with the groups that there are, and a least group that leaves the objectives defined."""
    stem = re.sub(r"[^a-z0-9._-]+", "-", path.expanduser().resolve().stem.lower()).strip("._-")[:50]
    groups = OVERLAPPING if dataset.overlapping and not dataset.attributes else dataset.finest
    values = {"name": stem or "my-sweep", "data": config, "groups": groups}
    spec = SweepSpec.model_validate(values)
    if on_data.undefined(spec, dataset):
        least = min(count for count in dataset.groups("val", "class").counts_G.tolist() if count)
        spec = SweepSpec.model_validate(values | {"metrics": {"min_group": min(10, least)}})
    if sentences := on_data.undefined(spec, dataset):
        raise UserError("\n".join([*sentences, tell(dataset)]))
    return spec


def _budget(spec: SweepSpec, dataset: Dataset, hours: float) -> tuple[int, int | None, str]:
    """How many trials, on how many examples, fit into the hours by an epoch that is measured here."""
    total = sum(len(split) for split in dataset.splits.values())
    least = 2 * len(dataset.classes) * max(1, len(dataset.attributes)) * len(SPLITS)  # two of each cell of each split
    some = max(_TIMED_ON, least)
    changes = {"space": _space(), "data.limit": some if some < total else None}
    timed = planning.plan(loading.changed(spec, changes))
    epoch_s = sum(timed.epoch_s.values()) / len(timed.epoch_s) / min(some, total) * total
    affordable = int(hours * 3600 * timed.slots / (SEEDS * EPOCHS * epoch_s))
    limit = None
    if affordable < FEWEST:
        limit = max(least, int(total * affordable / FEWEST))
        limit = limit if limit < total else None
    trials = max(FEWEST, min(TRIALS, affordable))
    share = 1.0 if limit is None else limit / total
    seconds = trials * SEEDS * EPOCHS * epoch_s * share / timed.slots
    return (
        trials,
        limit,
        f"About {duration(seconds)} on {timed.device}, {timed.slots} fits at once, by a measured epoch.",
    )


def _space() -> object:
    return yaml_text.read(_SPACE, "space").values["space"]


def _text(
    spec: SweepSpec, dataset: Dataset, columns: tuple[str, ...], trials: int, limit: int | None, timed: str
) -> str:
    config = spec.data.model_copy(update={"limit": limit})
    written = yaml_text.write({"name": spec.name, "data": settings(config)}).removesuffix("...\n")
    name, block = written.split("\n", 1)
    least = spec.metrics.min_group
    counts = dataset.groups("train", spec.groups)
    smallest = int(counts.counts_G.argmin())
    head = "Look at it: sweeper data check. Its time: sweeper plan. Begin: sweeper run. All settings: sweeper schema."
    parts = [_comment(head) + f"{name}\n"]
    parts.append(_comment("\n".join([*columns, tell(dataset)])) + block)
    if limit is not None:
        parts[-1] += f"# limit: each cell by its share; with all examples, {FEWEST} trials would take too long here.\n"
    else:
        parts[-1] += "# For a first try, add to data: `limit: 2000`, so many examples, each cell by its share.\n"
    parts.append(
        _comment("small-vit needs no download; for results take a pre-trained one, as timm:vit_base_patch16_224.dino.")
        + "backbone: {name: small-vit}\n"
    )
    parts.append(
        _comment(
            f"Whose losses the penalty compares: {len(counts.names)} groups; the smallest has "
            f"{int(counts.counts_G[smallest]):,} training examples ({counts.names[smallest]})."
        )
        + f"groups: {spec.groups}\n"
    )
    parts.append(_SPACE)
    parts.append(
        _comment("delta_f1: best minus worst class's F1. Between groups: accuracy_spread_by_attribute, ..._by_cell.")
        + "objectives: {accuracy: max, delta_f1: min}\n"
    )
    if least < 10:
        why = f"The smallest class has {least} validation examples; numbers by so few are rough. 10 is the default."
        parts.append(_comment(why) + f"metrics: {{min_group: {least}}}\n")
    parts.append(
        _comment(timed) + f"search: {{sampler: tpe, trials: {trials}, seeds: {SEEDS}, baselines: [lora, fft]}}\n"
    )
    return "\n".join(parts)


def _comment(text: str) -> str:
    """Each line of it as a comment, whatever is in the names of classes and columns."""
    lines = ("".join(c if c.isprintable() else "?" for c in line) for line in text.splitlines())
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)
