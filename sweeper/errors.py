"""What a person may be told: one error type for users, and the kinds of it that a sweep waits for."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from trainables.errors import FitError, UserError, few, nearest, unknown

__all__ = [
    "Corrupt",
    "FitError",
    "Paused",
    "UserError",
    "few",
    "nearest",
    "of_storage",
    "storage_told",
    "unknown",
]


class Paused(UserError):
    """Something outside the sweep stopped it: a full disk, a store that is away. Nothing is lost; resume goes on."""

    exit_code = 3


class Corrupt(Paused):
    """A durable file is not what was written. Names the file and the mend."""


_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EACCES, errno.EFBIG}


def of_storage(fault: BaseException) -> Paused | None:
    """What to say of a disk that is full or gone, if `fault` or what is behind it is that; None for other faults."""
    inner: BaseException | None = fault
    while inner is not None and not (isinstance(inner, OSError) and inner.errno in _STORAGE):
        inner = inner.__cause__ or inner.__context__
    if not isinstance(inner, OSError):
        return None
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
