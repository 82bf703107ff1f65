"""Durable files that are whole or absent, and JSON that is known by its checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweeper.errors import Corrupt
from trainables.files import whole


def write_bytes(path: Path, data: bytes, *, private: bool = False, permit: Callable[[], None] = lambda: None) -> None:
    """Write `data` so that a reader, or a crash at any instant, sees all of it or nothing.

    `permit` is asked at the last moment before it shows, and raises to forbid it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path, durable=True, private=private, permit=permit) as draft:
        draft.write_bytes(data)


def write_json(path: Path, body: Any, *, permit: Callable[[], None] = lambda: None) -> None:
    """Write `body` with its checksum. nan and inf are refused: they are not JSON."""
    text = json.dumps(body, allow_nan=False, sort_keys=True, ensure_ascii=False)
    document = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "body": text}
    write_bytes(path, json.dumps(document, ensure_ascii=False).encode(), permit=permit)


def read_json(path: Path, mend: str = "Delete it: it is written again.") -> Any:
    """The body that `write_json` wrote; `mend` says what to do where it is damaged.

    Raises:
        FileNotFoundError: there is none.
        Corrupt: there is one, and it is not what was written.
    """
    raw = path.read_bytes()
    try:
        document = json.loads(raw)
        text = document["body"]
        intact = hashlib.sha256(text.encode()).hexdigest() == document["sha256"]
    except (ValueError, KeyError, TypeError, AttributeError):
        intact = False
    if not intact:
        raise Corrupt(f"{path} is damaged (its checksum does not fit). {mend}")
    return json.loads(text)
