"""Which column of a table is what, by their names and by what is in them: for tables that were made for others.

A guess is for a person to look at: `data check` prints it, with all that it leaves, as settings to paste. Loading never
guesses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainables.data import Columns
from trainables.data.datasets.tree import folders
from trainables.data.images import pixels
from trainables.data.report import shortened
from trainables.data.splitting import SPELLINGS
from trainables.data.tables import ENDINGS, Column, header, profile
from trainables.errors import UserError, few, hint

# Names that say what a column is, the surest first.
_LABELS = ("label", "class", "category", "target", "y", "species", "object", "diagnosis", "gender", "sex", "emotion")
_ATTRIBUTES = (
    "attribute",
    "group",
    "race",
    "ethnicity",
    "gender",
    "sex",
    "male",
    "skin",
    "background",
    "place",
    "region",
)
_SPLITS = ("split", "partition", "subset", "fold", "part", "set", "usage")
_LOOKED_AT = 20  # names of images
_FOLDERS = 200  # that the images may lie in


@dataclass(frozen=True)
class Guess:
    """`data.columns`, `data.images` and `data.partition` of a table, and a line for a person on each column."""

    columns: Columns
    images: Path | None
    partition: Path | None
    lines: tuple[str, ...]


def guess(table: Path, given: Mapping[str, str]) -> Guess:
    """What the columns of `table` are; `given` says it of some (`{"label": "gender", "attribute": "race+age"}`).

    Raises:
        UserError: `given` names what is not there, or no column looks like names of images, or like a class.
    """
    found = profile(table)
    names = [column.name for column in found]
    several = {role: _split(role, text, names) for role, text in given.items()}
    for role, own in several.items():
        for name in own:
            if name not in names:
                which = "no such column" if len(own) == 1 else f"no column '{name}'"
                raise UserError(
                    f"--columns {role}={given[role]}: {table.name} has {which}. {hint(name, filter(None, names))}"
                )
    by_name = {column.name: column for column in reversed(found)}
    usual = {role for role in Columns.model_fields if role in names and role != "groups"}
    if "image" in names or "image" in given:
        usual.discard("text")  # a caption, say
    more = {role: own for role, own in several.items() if len(own) > 1 or role == "groups"}
    one = {role: own[0] for role, own in several.items() if role not in more}
    roles = {role: role for role in usual if role not in more} | one
    taken = {name for own in several.values() for name in own}
    texts = "text" in roles
    if not texts:
        roles.setdefault("image", _image(table, found))
    partition = None
    if "split" not in roles:
        partition = _partition(table)
        split = next(_named_split(found), None) if partition is None else None
        roles |= {"split": split} if split else {}
    taken |= set(roles.values())
    left = [column for column in found if column.name and column.name not in taken and column.categories]
    made_for_others = not {"text" if texts else "image", "label"} <= usual
    if made_for_others and "attribute" not in roles.keys() | more.keys():
        attribute = _first(left, _ATTRIBUTES)
        if attribute and ("label" in roles or len(left) > 1):
            roles["attribute"] = attribute
            left = [column for column in left if column.name != attribute]
    if "label" not in roles:
        label = _first(left, _LABELS) or next((column.name for column in left), None)
        if label is None:
            raise UserError(
                f"{table}: no column looks like a class (two values or more, each in several rows). "
                f"Say which it is: --columns label=COLUMN. There are: {', '.join(filter(None, names))}."
            )
        roles["label"] = label
    images = None if texts else _images(table, by_name[roles["image"]])
    chosen: dict[str, Any] = {
        role: name for role, name in roles.items() if role not in usual or name != role or role == "text"
    } | more
    roles_of: dict[str, tuple[str, ...]] = {role: (name,) for role, name in roles.items()}
    roles_of |= more
    lines = (
        f"columns of {table.name}, {found[0].rows:,} rows:",
        *_told(found, roles_of, guessed=roles.keys() - given.keys() - usual),
        *([f"  images are in {images}"] if images else []),
        *([f"  splits are in {partition}"] if partition else []),
    )
    try:
        return Guess(Columns(**chosen), images, partition, lines)
    except ValidationError as error:
        raise UserError(f"--columns: {error.errors()[0]['msg'].removeprefix('Value error, ')}.") from None


def _split(role: str, text: str, names: Sequence[str]) -> tuple[str, ...]:
    """The columns that `--columns ROLE=A+B` names; a column may have a + in its own name."""
    if role not in Columns.model_fields:
        raise UserError(f"--columns {role}={text}: {role} is unknown. {hint(role, Columns.model_fields)}")
    return (text,) if text in names or role not in ("attribute", "groups") else tuple(text.split("+"))


def tables(folder: Path) -> list[Path]:
    """The tables in `folder` whose images are there, and that have a column which may be a class."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and path.name[0] != ".")
    return [path for path in found if path.is_file() and _lists_images(path)]


def _lists_images(table: Path) -> bool:
    try:
        found = profile(table, 1000)
        image = _image(table, found)
    except UserError:
        return False
    splits = {*_named_split(found), *(column.name for column in found if set(column.counts or ()) == set("012"))}
    others = any(c.categories and c.name not in {image, *splits} and not _numeric(c) for c in found)
    by_name = {column.name: column for column in found}
    return others and any(_there(base, by_name[image]) for base in _bases(table))


def _numeric(column: Column) -> bool:
    """Many different whole numbers: a measure, or a number of a person, rather than a class."""
    return column.categories > 20 and all(value.lstrip("-").isdecimal() for value in column.values)


def _image(table: Path, found: Sequence[Column]) -> str:
    def looks(column: Column) -> float:
        named = sum(Path(value).suffix.lower() in pixels.endings() for value in column.values[:_LOOKED_AT])
        return named / max(1, len(column.values[:_LOOKED_AT]))

    best = max((column for column in found if column.name), key=looks, default=None)
    if best is None or looks(best) < 0.5:
        there = ", ".join(column.name for column in found if column.name) or "none"
        raise UserError(
            f"{table}: no column looks like names of images. Say which it is: --columns image=COLUMN, or text=COLUMN. "
            f"There are: {there}."
        )
    return best.name


def _bases(table: Path) -> list[Path]:
    """Folders that names of images may start from: the table's, and those in it, two levels deep."""
    first = folders(table.parent)[:_FOLDERS]
    second = [inner for folder in first for inner in folders(folder)[:_FOLDERS]]
    return [table.parent, *first, *second][:_FOLDERS]


def _there(base: Path, image: Column) -> int:
    names = [value for value in image.values[:_LOOKED_AT] if value and "\0" not in value and len(value) < 200]
    return sum((base / name).is_file() for name in names)


def _images(table: Path, image: Column) -> Path | None:
    """The folder that most of the first names start from, as `data.images`; None for the table's own."""
    best = max(_bases(table), key=lambda base: _there(base, image))  # the first of equals
    return None if best == table.parent else best.relative_to(table.parent)


def _partition(table: Path) -> Path | None:
    beside = sorted(path for path in table.parent.glob("*partition*") if path.suffix.lower() in ENDINGS)
    two = [path for path in beside if path != table and path.is_file() and len(header(path)) == 2]
    return Path(two[0].name) if len(two) == 1 else None


def _named_split(found: Sequence[Column]) -> Iterator[str]:
    """Columns that say the splits: by words for them, or by 0, 1 and 2 under a name for them."""
    words = {spelling for spellings in SPELLINGS.values() for spelling in spellings}
    for column in found:
        values = {value.casefold() for value in column.counts or ()}
        if column.name and values and (values <= words or (values == set("012") and column.name.casefold() in _SPLITS)):
            yield column.name


def _first(columns: Sequence[Column], known: Sequence[str]) -> str | None:
    """The column that has the first of the known names, alone or as a word of its name."""
    for word in known:
        for column in columns:
            if word in (column.name.casefold(), *column.name.casefold().replace("-", "_").split("_")):
                return column.name
    return None


def _told(found: Sequence[Column], roles: Mapping[str, Sequence[str]], guessed: set[str]) -> Iterator[str]:
    role_of = {name: role for role, own in roles.items() for name in own}
    order = {role: i for i, role in enumerate(Columns.model_fields)}
    width = max(len(column.name) for column in found)
    for column in sorted(found, key=lambda column: order.get(role_of.get(column.name, ""), len(order))):
        role = role_of.get(column.name, "not used")
        mark = " (a guess)" if role in guessed else ""
        role = "group" if role == "groups" else role
        yield f"  {role:10} {column.name or '(unnamed)':{width}}  {_contents(column)}{mark}"


def _contents(column: Column) -> str:
    if not column.categories or column.counts is None:
        return f"such as {', '.join(map(shortened, column.values[:2]))}" if column.values else "nothing"
    counted = sorted(column.counts.items(), key=lambda item: (-item[1], item[0]))
    shown = few([f"{shortened(value) or '(empty)'} {count:,}" for value, count in counted], 5)
    return f"{column.categories} values: {', '.join(map(str, shown))}"
