"""A look at texts before a sweep is spent on them: how long they are, near copies across splits, some of each cell."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import numpy as np

from trainables.data.base import SPLITS, Dataset
from trainables.data.report import shortened
from trainables.data.splitting import fraction

_SHOWN = 5


def lengths(dataset: Dataset) -> Iterator[str]:
    """A line for each split: words of its shortest, middle, nearly longest and longest text."""
    for split in SPLITS:
        words_N = np.array([len(text.split()) for text in dataset.splits[split].texts])
        least, middle, most, longest = np.percentile(words_N, [0, 50, 95, 100]).astype(int)
        yield f"{split}: {least:,} to {longest:,} words, half of them up to {middle:,}, 95 % up to {most:,}"


def alike(dataset: Dataset) -> Iterator[str]:
    """Texts that are one of an earlier split but for case, blanks and signs, and are not that very text."""
    earlier: dict[str, tuple[str, str]] = {}
    for split in SPLITS:
        here = {_bare(text): text for text in dataset.splits[split].texts}
        for bare, text in here.items():
            if bare in earlier and earlier[bare][1] != text:
                yield f"'{shortened(text)}' ({split}) is like '{shortened(earlier[bare][1])}' ({earlier[bare][0]})"
        earlier = {bare: (split, text) for bare, text in here.items()} | earlier


def sheet(dataset: Dataset) -> str:
    """Some texts of every cell (of every class, where there is no attribute), with counts; chosen by a hash."""
    lines = [f"{dataset.name}, split hash {dataset.split_hash}"]
    groups = {split: dataset.groups(split, dataset.finest) for split in SPLITS}
    for g, name in enumerate(groups["train"].names):
        lines += ["", f"{name}: " + ", ".join(f"{split} {groups[split].counts_G[g]:,}" for split in SPLITS)]
        members = {dataset.splits[s].texts[i] for s in SPLITS for i in np.flatnonzero(groups[s].index_N == g)}
        lines += [f"  {shortened(text, 300)}" for text in sorted(members, key=fraction)[:_SHOWN]]
    return "\n".join(lines) + "\n"


def _bare(text: str) -> str:
    words = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(letter if letter.isalnum() else " " for letter in words).split())
