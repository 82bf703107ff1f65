"""GeoDE: `index.csv` beside `images/`; 40 objects, photographed in six regions of the world.

Source: Ramaswamy et al., "GeoDE: a Geographically Diverse Evaluation Dataset for Object Recognition", 2023.
Columns: `object`, `region`, `file_path` (below `images/`), and `ip_country`, which stands in for an unknown region.

There is no official split; FairLoRA (section 5) uses 80:20. Here 70:10:20 of each cell of object and
region, ranked by a hash of `file_path`. The cut is made on the table, before any file is looked for, so
that a missing image moves no other one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from trainables.data.base import BadRecord, Dataset
from trainables.data.examples import (
    Example,
    find_root,
    inside,
    only_once,
    only_present,
    read_table,
    settle,
    splits,
)
from trainables.data.splitting import stratified
from trainables.task import DataConfig

FOLDERS = ("geode",)
TABLE = "index.csv"
IMAGES = "images"
COLUMNS = ("object", "region", "file_path")
# The countries of the public loaders (Richards et al. 2023).
COUNTRIES = {
    "Africa": ("Angola", "Botswana", "Cameroon", "Egypt", "Ghana", "Nigeria", "South Africa"),
    "Americas": ("Argentina", "Brazil", "Colombia", "Mexico", "Uruguay", "Venezuela"),
    "EastAsia": ("China", "Hong Kong", "Japan", "South Korea", "Taiwan"),
    "Europe": (
        *("Bulgaria", "Cyprus", "France", "Germany", "Greece", "Ireland", "Italy", "Netherlands"),
        *("Poland", "Portugal", "Romania", "Spain", "Switzerland", "Ukraine", "United Kingdom"),
    ),
    "SouthEastAsia": ("Indonesia", "Malaysia", "Philippines", "Singapore", "Thailand"),
    "WestAsia": ("Jordan", "Saudi Arabia", "Turkey", "United Arab Emirates", "Yemen"),
}
REGIONS = tuple(COUNTRIES)

_FETCH = f"Fetch GeoDE, unpack it, and set data.root to the folder that holds {TABLE} and {IMAGES}/, or to its parent."


def _letters(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalpha())


_REGION_OF = {_letters(region): region for region in REGIONS} | {"america": "Americas"}
_REGION_OF_COUNTRY = {_letters(country): region for region, names in COUNTRIES.items() for country in names}


def load(config: DataConfig) -> Dataset:
    """The GeoDE copy below `config.root`; classes are the sorted objects, attributes the regions.

    Raises:
        UserError: no copy is there, its table lacks a column, a split is empty, or too many rows are bad.
    """
    root = find_root(config, folders=FOLDERS, marker=TABLE, fetch=_FETCH)
    rows, bad = _read(root)
    part_of = stratified([row.id for row in rows], [(row.label, row.attribute) for row in rows])
    found, missing = only_present([replace(row, split=part_of[row.id]) for row in rows])
    settle([*bad, *missing], len(found) + sum(b.dropped for b in bad) + len(missing), config, root / TABLE)
    classes = sorted({row.label for row in rows})
    parts, ids = splits(root / TABLE, found, classes, REGIONS)
    return Dataset(
        name=config.name,
        root=root,
        classes=tuple(classes),
        attributes=REGIONS,
        splits=parts,
        bad=(*bad, *missing),
        notes=("no official split: 70:10:20 of each object and region, by a hash of file_path",),
        licence="CC BY 4.0",
        ids=ids,
    )


def _read(root: Path) -> tuple[list[Example], list[BadRecord]]:
    examples: list[Example] = []
    bad: list[BadRecord] = []
    for line, record in read_table(root / TABLE, COLUMNS):
        place = f"{TABLE}:{line}"
        try:
            examples.append(_parse(root, place, record))
        except ValueError as error:
            bad.append(BadRecord(place, str(error)))
        else:
            bad += _repaired(place, record, examples[-1])
    once, repeated = only_once(examples)
    return once, [*bad, *repeated]


def _parse(root: Path, place: str, record: dict[str, str]) -> Example:
    name, label = record["file_path"], record["object"]
    if not label:
        raise ValueError("object is empty")
    region, country = record["region"], record.get("ip_country", "")
    known = _REGION_OF.get(_letters(region)) or _REGION_OF_COUNTRY.get(_letters(country))
    if known is None:
        raise ValueError(f"region is '{region}' and ip_country '{country}'. Use one of: {', '.join(REGIONS)}")
    path = inside(root / IMAGES, name)
    return Example(place, path.relative_to(root / IMAGES).as_posix(), path, label, known)


def _repaired(place: str, record: dict[str, str], example: Example) -> Iterator[BadRecord]:
    if _letters(record["region"]) not in _REGION_OF:
        problem = f"region is '{record['region']}'; {example.attribute} by its country, {record['ip_country']}"
        yield BadRecord(place, problem, dropped=False)
