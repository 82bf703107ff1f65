"""What a dataset is, told: counts per split, class, attribute and cell, hash, bad records, notes."""

from __future__ import annotations

from typing import Any

from trainables.data.base import SPLITS, Dataset, Groups

_SHOWN = 10


def describe(dataset: Dataset) -> dict[str, Any]:
    """Everything countable about `dataset`, fit for JSON.

    `splits[split]` holds `n` and one mapping name -> count per kind of group that the dataset has.
    """
    return {
        "name": dataset.name,
        "root": str(dataset.root),
        "split_hash": dataset.split_hash,
        "classes": list(dataset.classes),
        "attributes": list(dataset.attributes),
        "splits": {split: _counts(dataset, split) for split in SPLITS},
        "bad": [{"place": b.place, "problem": b.problem, "dropped": b.dropped} for b in dataset.bad],
        "notes": list(dataset.notes),
        "licence": dataset.licence,
        "crop_bottom": dataset.crop_bottom,
    }


def tell(dataset: Dataset) -> str:
    """The same for people: a few lines."""
    told = describe(dataset)
    lines = [f"{told['name']}: {len(dataset.classes)} classes, split hash {told['split_hash']}"]
    for split in SPLITS:
        counts = told["splits"][split]
        groups = counts.get("cell") or counts["class"]
        lines.append(f"  {split} {counts['n']:,}: " + ", ".join(f"{name} {n:,}" for name, n in groups.items()))
    dropped = [record for record in dataset.bad if record.dropped]
    lines.append(f"  bad records left out: {len(dropped)}")
    lines += [f"    {record.place}: {record.problem}" for record in dropped[:_SHOWN]]
    lines += [f"    and {len(dropped) - _SHOWN} more"] if len(dropped) > _SHOWN else []
    return "\n".join(lines + [f"  note: {note}" for note in dataset.notes])


def _counts(dataset: Dataset, split: str) -> dict[str, Any]:
    kinds = ("class", "attribute", "cell") if dataset.attributes else ("class",)
    groups = {kind: _named(dataset.groups(split, kind)) for kind in kinds}
    return {"n": len(dataset.splits[split]), **groups}


def _named(groups: Groups) -> dict[str, int]:
    return {name: int(n) for name, n in zip(groups.names, groups.counts_G, strict=True)}
