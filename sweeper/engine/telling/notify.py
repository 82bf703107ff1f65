"""Tells somebody that a sweep has ended, paused or failed: a command, a webhook, or both, as its spec says.

Whatever goes wrong here is a note: it never harms the sweep. A webhook's address may be a secret, so no message has it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any

from sweeper.errors import UserError, without_secrets
from sweeper.results import summary
from sweeper.results.results import Results
from sweeper.spec.model import SweepSpec
from sweeper.spec.sections import Event, Notify
from trainables.undefined import to_null

TRIES = 3
PAUSE_S = 1.0  # before the second try; twice that before the third
_GRACE_S = 2.0
_AGAIN = {408, 425, 429}  # answers after which another try may do; and those from 500 on


def of_results(results: Results, exit_code: int, *, braked: bool) -> tuple[Event, dict[str, Any]]:
    """What an attempt came to: the event and its facts."""
    event: Event = "failed" if braked else "finished" if results.state == "finished" else "paused"
    counts = results.counts
    facts = {"counts": counts, "budget": results.budget, "front": results.front_rows, "exit_code": exit_code}
    facts |= {"hypervolume": results.hypervolume, "elapsed_s": results.progress.elapsed_s, "why": results.progress.why}
    return event, facts | {"text": f"{event}: {summary.headline(results)}"}


def of_fault(spec: SweepSpec, fault: BaseException, event: Event) -> dict[str, Any]:
    """The facts of an attempt that ended with a fault."""
    why = without_secrets(str(fault) or type(fault).__name__)
    code = fault.exit_code if isinstance(fault, UserError) else 1
    return {"why": why, "exit_code": code, "text": f"{event}: {spec.name}: {why}"}


def tell(spec: SweepSpec, event: Event, facts: Mapping[str, Any]) -> list[str]:
    """Tell those whom the spec names, if it wants to for this event; a sentence for each who could not be told."""
    wanted = spec.notify
    if wanted is None or event not in wanted.on:
        return []
    told = {"event": event, "sweep": spec.name, "host": socket.gethostname(), **facts}
    body = json.dumps(to_null(told | {"content": told["text"]}), ensure_ascii=False).encode()  # `content`: Discord's
    notes = []
    for what, act in (("command", _run), ("webhook", _post)):
        if getattr(wanted, what) is None:
            continue
        problem = _within(functools.partial(act, wanted, body, told), wanted.timeout_s + _GRACE_S)
        notes += [f"notify: the {what} was not told of '{event}': {problem}."] * bool(problem)
    return notes


def _within(act: Callable[[], str | None], limit_s: float) -> str | None:
    """What `act` gives, if it does in time: a name server or a slow peer may hold it far longer than any timeout."""
    given: list[str | None] = []

    def work() -> None:
        try:
            given.append(act())
        except Exception as fault:  # of whatever kind: the sweep has its results
            given.append(type(fault).__name__)

    thread = threading.Thread(target=work, name="notify", daemon=True)
    thread.start()
    thread.join(limit_s)
    return given[0] if given else f"no answer within {limit_s:g} s"


def _run(wanted: Notify, body: bytes, told: Mapping[str, Any]) -> str | None:
    """Run the command, without a shell: the facts are JSON on its standard input, and three are in its environment."""
    assert wanted.command is not None
    own = {"SWEEPER_EVENT": told["event"], "SWEEPER_NAME": told["sweep"], "SWEEPER_TEXT": told["text"]}
    try:
        process = subprocess.Popen(
            wanted.command,
            env=os.environ | own,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that what it has started ends with it
        )
    except OSError as fault:
        return f"{wanted.command[0]}: {fault.strerror}"
    try:
        process.communicate(body, timeout=wanted.timeout_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"it took longer than {wanted.timeout_s:g} s and was ended"
    return f"it ended with exit code {process.returncode}" if process.returncode else None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would show the facts to a place that nobody named."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _post(wanted: Notify, body: bytes, told: Mapping[str, Any]) -> str | None:
    """POST the facts as JSON; tried again where that may help, all within `timeout_s`."""
    assert wanted.webhook is not None
    address = wanted.webhook if isinstance(wanted.webhook, str) else os.environ.get(wanted.webhook.env)
    if not address or not address.startswith(("http://", "https://")):
        return f"the environment variable {getattr(wanted.webhook, 'env', '')} is not set to the URL of a webhook"
    opener = urllib.request.build_opener(_NoRedirect)
    problem, end_s = "", time.monotonic() + wanted.timeout_s
    for number in range(TRIES):
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            break
        time.sleep(min(left_s, number * PAUSE_S))
        request = urllib.request.Request(address, body, {"Content-Type": "application/json", "User-Agent": "sweeper"})
        try:
            with opener.open(request, timeout=max(0.1, end_s - time.monotonic())):
                return None
        except urllib.error.HTTPError as fault:
            problem = f"it answered {fault.code}"
            if fault.code not in _AGAIN and fault.code < 500:
                break
        except TimeoutError:
            break
        except (OSError, HTTPException, ValueError) as fault:
            reason = getattr(fault, "reason", fault)
            problem = getattr(reason, "strerror", None) or type(reason).__name__
    return problem or f"no answer within {wanted.timeout_s:g} s"
