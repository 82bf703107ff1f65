"""What may be a slip in a user's data: names that only a computer tells apart, classes that a split lacks.

None of it is left out. Each is a record with its line, so that it is told before anything is trained.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from trainables.data.base import SPLITS, BadRecord
from trainables.data.examples import Example, alike


def doubts(examples: Sequence[Example], attributes: Sequence[str] = (), groups: Sequence[str] = ()) -> list[BadRecord]:
    """A record for each name that is another's twin, and for each class and attribute value that a split lacks.

    So for each of several `attributes`, and for the overlapping `groups`. `examples` have their splits, and are in the
    order in which they were written.
    """
    kinds = {"label": [example.label for example in examples]}
    kinds |= {name: [example.values[f] for example in examples] for f, name in enumerate(attributes)}
    if not attributes and any(example.attribute is not None for example in examples):
        kinds["attribute"] = [example.attribute or "" for example in examples]
    members = {name: [example for example in examples if example.members[g]] for g, name in enumerate(groups)}
    return [
        *_twins("image", examples, [example.id for example in examples]),
        *(record for what, values in kinds.items() for record in _twins(what, examples, values)),
        *(record for what, values in kinds.items() for record in _lacking(what, examples, values)),
        *(record for name, own in members.items() for record in _lacking("group", own, [name] * len(own))),
    ]


def _twins(what: str, examples: Sequence[Example], values: Sequence[str]) -> Iterator[BadRecord]:
    """The first example of each spelling but the most frequent one."""
    first = {value: example for example, value in zip(reversed(examples), reversed(values), strict=True)}
    spellings: dict[str, list[str]] = defaultdict(list)
    for value in first:
        spellings[alike(value)].append(value)
    counts = Counter(values)
    for same in spellings.values():
        usual, *others = sorted(same, key=lambda value: (-counts[value], value))
        for value in others:
            problem = f"{what} '{value}' and '{usual}' ({first[usual].place}) differ in case or form of Unicode only"
            yield BadRecord(first[value].place, f"{problem}; kept, as two", dropped=False)


def _lacking(what: str, examples: Sequence[Example], values: Sequence[str]) -> Iterator[BadRecord]:
    """The first example of each value that a split lacks."""
    homes: dict[str, Counter[str]] = defaultdict(Counter)
    first: dict[str, Example] = {}
    for example, value in zip(examples, values, strict=True):
        homes[value][example.split or ""] += 1
        first.setdefault(value, example)
    for value, counts in sorted(homes.items()):
        lacking, total = ", ".join(split for split in SPLITS if not counts[split]), counts.total()
        if total == 1:
            problem = f"is the only example of {what} '{value}': {lacking} have none"
            yield BadRecord(first[value].place, problem, dropped=False)
        elif lacking:
            problem = f"is the first of {total:,} examples of {what} '{value}', and none is in {lacking}"
            yield BadRecord(first[value].place, problem, dropped=False)
