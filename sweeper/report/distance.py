"""How far two data sets are apart, as a table: FairLoRA's Table 4, with what chance alone would show beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dashboards.document.document import DataTable
from dashboards.ink.wording import decimal
from trainables.backbones import BackboneConfig
from trainables.data.base import Dataset
from trainables.errors import UserError, few
from trainables.frechet import INCEPTION, Distance, compare
from trainables.undefined import to_null

CAPTION = (
    "Squared Fréchet distance of Gaussians of the backbone's features; with Inception's it is called FID. Few examples "
    "make it larger: two halves of one set differ by chance alone, at half the examples. What is not well above both "
    "halves is no difference, and only distances of like n and features are to be compared."
)
INCEPTION_NOTE = "Inception is timm's inception_v3.tf_in1k: other programs have other weights and resizing."


def measure(
    pairs: Sequence[tuple[str, Dataset, str, Dataset]], backbone: BackboneConfig
) -> tuple[list[dict[str, Any]], list[str]]:
    """Each pair in the features of `backbone` and of Inception: rows for JSON, CSV and `table`, and what else to say.

    A pair is a name and its images, twice (`trainables.frechet.images_of`). To be said is which images cannot be read.

    Raises:
        UserError: the backbone is not there. Inception's weights may be missing: its row then has the reason.
    """
    rows, said = [], []
    for first, images, second, others in pairs:
        distances, bad = compare(images, others, [backbone, INCEPTION])
        if isinstance(distances[0], UserError):
            raise distances[0]
        rows += [_row(first, second, found) for found in distances]
        if bad:
            named = few(f"{record.place}: {record.problem}" for record in bad)
            said.append(f"{len(bad)} images cannot be read and are left out: {'; '.join(named)}")
    return rows, list(dict.fromkeys(said))


def _row(first: str, second: str, found: Distance | UserError) -> dict[str, Any]:
    row: dict[str, Any] = {"data": first, "other": second}
    if isinstance(found, UserError):
        return row | {"features": "Inception", "distance": None, "reason": str(found)}
    row |= {"features": found.features, "distance": found.value, "dimensions": found.dimensions}
    row |= {"halves_of_data": found.halves[0], "halves_of_other": found.halves[1]}
    return to_null(row | {"n_data": found.n[0], "n_other": found.n[1]})


def table(rows: Sequence[dict[str, Any]]) -> DataTable:
    """One row for each pair and backbone whose distance is known."""
    names = ("distance", "halves_of_data", "halves_of_other")
    body = tuple(
        (row["data"], row["other"], row["features"], *(decimal(row[name], digits=2) for name in names),
         f"{row['n_data']:,} / {row['n_other']:,}", str(row["dimensions"]))
        for row in rows
        if row["distance"] is not None
    )  # fmt: skip
    head = ("data", "other", "features of", "distance", "data's halves", "other's halves", "n", "features")
    return DataTable(head, body, f"{CAPTION} {INCEPTION_NOTE}", words=(0, 1, 2))


def reasons(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Why a distance is not known, each reason once."""
    return list(dict.fromkeys(f"{row['features']}: {row['reason']}" for row in rows if "reason" in row))
