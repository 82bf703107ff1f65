"""The shipped sweeps, smallest first, and the JSON Schema that editors hold a `sweep.yaml` against."""

from __future__ import annotations

from pathlib import Path

from sweeper.errors import UserError, unknown

FOLDER = Path(__file__).parent
JSON_SCHEMA = FOLDER / "sweep.schema.json"


def names() -> list[str]:
    """Every preset, by its file's name without the ending, the shortest sweep first."""
    first = ["tiny", "digits-demo", "waterbirds-dry"]
    others = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    return [*first, *(name for name in others if name not in first)]


def path(name: str) -> Path:
    """The file of a preset.

    Raises:
        UserError: there is no preset of this name.
    """
    if name not in names():
        raise UserError(unknown(f"preset '{name}'", name, names()))
    return FOLDER / f"{name}.yaml"
