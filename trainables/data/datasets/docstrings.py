"""First sentences of docstrings: does a function say this of itself, or a class? The attribute is the library.

Embedded, for first steps with texts and for tests: `docstrings.jsonl` beside this file, real sentences of scikit-learn
1.9 and SciPy 1.17 (both BSD-3-Clause), drawn once by `collect`. As in Waterbirds the library goes with the label in
training (100, 20, 20, 100 of the four cells) and not in val and test (30 each). Many of scikit-learn's classes say what
they do, as functions would. It says nothing about people, and is too small for claims about models.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from trainables.data import Columns, DataConfig
from trainables.data.base import Dataset
from trainables.data.datasets import custom
from trainables.data.splitting import fraction

FILE = Path(__file__).with_suffix(".jsonl")
LIBRARIES = ("scipy", "sklearn")
TRAIN = {("class", "sklearn"): 100, ("class", "scipy"): 20, ("function", "sklearn"): 20, ("function", "scipy"): 100}
MEASURED = 30  # of each cell in val, and in test


def load(config: DataConfig) -> Dataset:
    """The sentences; nothing is fetched."""
    table = DataConfig(name="csv", root=FILE, columns=Columns(text="text", attribute="library"))
    found = custom.load_table(table)
    note = "sentences of two libraries' documentation: for first steps, and evidence of nothing else"
    return replace(found, name=config.name, licence="BSD-3-Clause (scikit-learn, SciPy)", notes=(note,))


def collect() -> list[dict[str, str]]:
    """The rows of the file, drawn from the releases that are installed: other releases give other rows.

    A sentence has 4 words or more, and is taken once, of the first library that has it.
    """
    members: dict[tuple[str, str], set[str]] = defaultdict(set)
    taken: set[str] = set()
    for library in LIBRARIES:
        package = importlib.import_module(library)
        for module in pkgutil.iter_modules(package.__path__, f"{library}."):
            if module.name.rpartition(".")[2].startswith(("_", "test", "conftest", "setup")):
                continue
            found = importlib.import_module(module.name)
            for name in sorted(getattr(found, "__all__", ())):
                try:
                    thing = getattr(found, name, None)
                except ImportError:  # what is experimental asks to be enabled
                    continue
                kind = "class" if inspect.isclass(thing) else "function" if inspect.isroutine(thing) else ""
                sentence = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
                if kind and len(sentence.split()) >= 4 and sentence.isascii() and sentence not in taken:
                    taken.add(sentence)
                    members[kind, library].add(sentence)
    rows = []
    for (kind, library), most in TRAIN.items():
        ranked = sorted(members[kind, library], key=fraction)
        cuts = {
            "val": ranked[:MEASURED],
            "test": ranked[MEASURED : 2 * MEASURED],
            "train": ranked[2 * MEASURED :][:most],
        }
        for split, texts in cuts.items():
            rows += [{"text": text, "label": kind, "library": library, "split": split} for text in texts]
    return rows


def write() -> None:
    """Draw the file anew."""
    FILE.write_text("".join(f"{json.dumps(row)}\n" for row in collect()), encoding="utf-8")
