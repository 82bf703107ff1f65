"""What is asked of a sweep by hand, until its driver has written it into the study: one small file for each.

Anybody who may write to the sweep's folder asks; only the driver takes up. A request is in the study first and its file
is deleted then, so that a death between the two neither loses it nor does it twice: the study knows it by its id.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.errors import Corrupt
from sweeper.state.atomic import read_json, write_json

log = logging.getLogger(__name__)

FOLDER = "asked"
LARGEST = 1 << 16  # bytes of a request; whatever is above was not written here
_NAME = re.compile(r"\d{20}-([0-9a-f]{32})\.json")


@dataclass(frozen=True)
class Request:
    """What is asked for, `body`, under an `id` that no other request has; since `ms` (milliseconds since 1970)."""

    id: str
    ms: int
    body: Mapping[str, Any]
    path: Path


class Inbox:
    """The requests to the sweep in `folder`, the oldest first. `permit` raises to forbid that one is taken out."""

    def __init__(self, folder: Path, permit: Callable[[], None] = lambda: None) -> None:
        self._folder, self._permit = folder / FOLDER, permit
        self._odd: set[str] = set()

    def put(self, body: Mapping[str, Any]) -> None:
        """Ask, durably. No word of `body` becomes part of a path."""
        write_json(self._folder / f"{time.time_ns():020d}-{uuid.uuid4().hex}.json", dict(body))

    def waiting(self) -> list[Request]:
        """What is asked for. What nobody could have written here is passed over, and told once."""
        found = []
        try:
            paths = sorted(self._folder.iterdir())
        except FileNotFoundError:
            return []
        for path in paths:
            name = _NAME.fullmatch(path.name)
            if name is None:  # a draft that a crash left, or a stranger's
                continue
            try:
                if path.stat().st_size > LARGEST:
                    raise Corrupt(f"{path} is no request: it is above {LARGEST:,} bytes. Delete it.")
                body = read_json(path, "It is passed over: delete it, and ask again.")
                found.append(Request(name[1], int(path.name[:20]) // 1_000_000, dict(body), path))
            except FileNotFoundError:  # taken up just now
                continue
            except (Corrupt, TypeError, ValueError) as fault:
                if path.name not in self._odd:
                    log.warning("%s", fault)
                    self._odd.add(path.name)
        return found

    def drop(self, request: Request) -> None:
        """It is in the study.

        Raises:
            Fenced: a newer attempt holds the sweep; as whatever `permit` raises.
        """
        self._permit()
        request.path.unlink(missing_ok=True)
