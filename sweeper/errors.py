"""What a person may be told: one error type for users, and the kinds of it that a sweep waits for."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from trainables.errors import FitError, UserError, few, nearest, unknown

__all__ = [
    "Corrupt",
    "FitError",
    "Paused",
    "UserError",
    "closed",
    "few",
    "nearest",
    "of_storage",
    "storage_told",
    "unknown",
    "without_secrets",
]

TOKEN = re.compile(  # as GitHub, GitLab, Hugging Face, Slack, OpenAI and AWS give them, and JSON web tokens
    r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_\w{20,}|xox[abeprs]-[\w-]{10,}|sk-[\w-]{20,}"
    r"|A[KS]IA[0-9A-Z]{16}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
)
_SECRET_NAME = re.compile(r"TOKEN|PASSW|SECRET|CREDENTIAL|(^|_)KEY$|API_?KEY|WEBHOOK", re.IGNORECASE)
_IN_URL = re.compile(r"://[^@\s/]*@|(?<=[?&]password=)[^&\s'\"]+")
_LEAST = 8  # letters of a variable's value that is hidden: a shorter one may be any word


def without_secrets(text: str) -> str:
    """`text` as it may be kept: without tokens, passwords of URLs, and values of variables named as secrets."""
    for name, value in os.environ.items():
        if len(value) >= _LEAST and value in text and _SECRET_NAME.search(name):
            text = text.replace(value, f"<{name}>")
    text = _IN_URL.sub(lambda found: "://...@" if found[0].startswith("://") else "...", text)
    return TOKEN.sub("<a token>", text)


class Paused(UserError):
    """Something outside the sweep stopped it: a full disk, a store that is away. Nothing is lost; resume goes on."""

    exit_code = 3


class Corrupt(Paused):
    """A durable file is not what was written. Names the file and the mend."""


def closed(fault: OSError, where: Path | None = None) -> str:
    """What to say of a file or folder that this user may not read or write: which it is, and whose.

    `where`: what it is about, if the system's error does not say it.

    >>> closed(PermissionError(13, "Permission denied", "/root/none/there"))  # doctest: +SKIP
    "/root is root's and closed to you (Permission denied). Ask for it, or choose another place."
    """
    place = Path(fault.filename or where or ".").absolute()
    if place.name.startswith("."):  # a draft of ours, of whose name nobody knows
        place = place.parent
    owner = None
    while owner is None and place != place.parent:
        try:
            owner = place.owner()
        except KeyError:  # it has a number and no name
            owner = f"user {place.stat().st_uid}"
        except OSError:  # not there, or not to be seen: the folder that it is in is the one that is closed
            place = place.parent
    return f"{place} is {owner}'s and closed to you ({fault.strerror}). Ask for it, or choose another place."


_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EACCES, errno.EFBIG}


def of_storage(fault: BaseException) -> Paused | None:
    """What to say of a disk that is full or gone, if `fault` or what is behind it is that; None for other faults."""
    inner: BaseException | None = fault
    while inner is not None and not (isinstance(inner, OSError) and inner.errno in _STORAGE):
        inner = inner.__cause__ or inner.__context__
    if not isinstance(inner, OSError):
        return None
    if isinstance(inner, PermissionError):
        return Paused(f"{closed(inner)} Then resume; nothing that was written is lost.")
    place = f"{inner.filename}: " if inner.filename else ""
    mend = "Make room" if inner.errno in (errno.ENOSPC, errno.EDQUOT) else "Mend that"
    return Paused(f"{place}{inner.strerror or inner}. {mend}, then resume; nothing that was written is lost.")


@contextlib.contextmanager
def storage_told() -> Iterator[None]:
    """Of a full disk, or one that is gone, says one sentence with its mend, wherever inside it is met.

    Raises:
        Paused: in place of the system's own error.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as fault:
        told = of_storage(fault)
        if told is None:
            raise
        raise told from fault
