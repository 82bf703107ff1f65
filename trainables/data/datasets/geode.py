"""GeoDE: `index.csv` beside `images/`; 40 objects, photographed in six regions of the world.

Source: Ramaswamy et al., "GeoDE: a Geographically Diverse Evaluation Dataset for Object Recognition", 2023.
Columns: `object`, `region`, `file_path` (below `images/`), and `ip_country`, which stands in for an unknown region.

There is no official split; FairLoRA (section 5) uses 80:20. Here 70:10:20 of each cell of object and
region, ranked by a hash of `file_path`. The cut is made on the table, before any file is looked for, so
that a missing image moves no other one.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from trainables.data import DataConfig
from trainables.data.base import BadRecord, Dataset
from trainables.data.examples import Example, find_file, inside, lies_in, parsed, present, splits
from trainables.data.splitting import stratified
from trainables.data.tables import has_columns, read_table

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


def fits(root: Path) -> bool:
    """Whether `root` looks like a copy."""
    return lies_in(root, FOLDERS, lambda folder: has_columns(folder / TABLE, COLUMNS))


def load(config: DataConfig) -> Dataset:
    """The GeoDE copy below `config.root`; classes are the sorted objects, attributes the regions.

    Raises:
        UserError: no copy is there, its table lacks a column, a split is empty, or too many rows are bad.
    """
    root = find_file(config, TABLE, folders=FOLDERS, fetch=_FETCH)
    repaired: list[BadRecord] = []
    listed, bad = parsed(read_table(root / TABLE, COLUMNS, ("ip_country",)), partial(_example, root, repaired))
    part_of = stratified([e.id for e in listed], [(e.label, e.attribute) for e in listed])
    cut = (replace(example, split=part_of[example.id]) for example in listed)
    examples, all_bad = present(cut, [*bad, *repaired], config, root / TABLE)
    classes = tuple(sorted({example.label for example in listed}))
    return Dataset(
        name=config.name,
        root=root,
        classes=classes,
        attributes=REGIONS,
        splits=splits(root / TABLE, examples, classes, REGIONS, bad=all_bad),
        bad=all_bad,
        notes=("no official split: 70:10:20 of each object and region, by a hash of file_path",),
        licence="CC BY 4.0",
    )


def _example(root: Path, repaired: list[BadRecord], place: str, row: dict[str, str]) -> Example:
    """The example of a row; one whose region its country tells is `repaired`."""
    label, region, country = row["object"], row["region"], row.get("ip_country", "")
    if not label:
        raise ValueError("object is empty")
    known = _REGION_OF.get(_letters(region)) or _REGION_OF_COUNTRY.get(_letters(country))
    if known is None:
        raise ValueError(f"region is '{region}' and ip_country '{country}'. Use one of: {', '.join(REGIONS)}")
    path = inside(root / IMAGES, row["file_path"])
    if _letters(region) not in _REGION_OF:
        repaired.append(BadRecord(place, f"region is '{region}'; {known} by its country, {country}", dropped=False))
    # Not the name as written: './a.jpg' and 'a.jpg' are one image.
    return Example(place, path.relative_to(root / IMAGES).as_posix(), path, label, known)
