"""How a failure is told: a message on standard error and, under `--json`, one object on standard output.

{"error": {"kind": "...", "message": "...", "mend": "...", "places": [{"place", "line", "message"}], "exit_code": 2}}
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sweeper.errors import UserError, closed

INTERRUPTED = 130
_STOPPED = "stopped at once; what was finished is kept: sweeper list, then sweeper resume NAME"
_SENTENCE = re.compile(r"(?<=[^.\s])[.?!]\s+(?=[A-Z'\"])")


@dataclass
class Ending:
    """With which exit code a command ended."""

    exit_code: int = 0


@contextlib.contextmanager
def told(*, json_too: bool) -> Iterator[Ending]:
    """Tell what goes wrong inside, and note the exit code that stands for it. A fault of ours keeps its traceback."""
    ending = Ending()
    try:
        yield ending
    except UserError as fault:
        print(fault, file=sys.stderr)
        ending.exit_code = fault.exit_code
        _print(json_too, error_of(fault))
    except PermissionError as fault:
        refused = UserError(closed(fault))
        print(refused, file=sys.stderr)
        ending.exit_code = refused.exit_code
        _print(json_too, error_of(refused))
    except KeyboardInterrupt:
        print(_STOPPED, file=sys.stderr)
        ending.exit_code = INTERRUPTED
        _print(json_too, _object("interrupted", "stopped at once", INTERRUPTED, "what was finished is kept: resume"))
    except BrokenPipeError:  # `sweeper list | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as fault:
        if not json_too:
            raise
        traceback.print_exc()
        ending.exit_code = 1
        _print(json_too, _object("unexpected", f"{type(fault).__name__}: {fault}", 1))


def error_of(fault: UserError) -> dict[str, Any]:
    """The object of a message. Our sentences say first what is wrong, then the mend."""
    message = str(fault)
    found = _SENTENCE.search(message)
    mend = message[found.end() :] if found else None
    places = [
        {"place": ".".join(map(str, slip.path)), "line": slip.line, "message": slip.text}
        for slip in getattr(fault, "faults", ())
    ]
    return _object(type(fault).__name__, message, fault.exit_code, None if places else mend, places)


def _object(kind: str, message: str, exit_code: int, mend: str | None = None, places: Any = ()) -> dict[str, Any]:
    told = {"kind": kind, "message": message, "mend": mend, "places": list(places), "exit_code": exit_code}
    return {"error": told}


def _print(wanted: bool, error: dict[str, Any]) -> None:
    if wanted:
        print(json.dumps(error, indent=2), flush=True)
