"""Programs as a user that is not root, since PostgreSQL refuses root, on machines where tests are."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

USER = "nobody"
ROOT = os.geteuid() == 0


def interpreter() -> Path:
    """The folder that Python itself lies in, behind every link."""
    return Path(sys.executable).resolve().parents[1]


def opened() -> str:
    """Shell lines for a mount namespace of one's own: there, others may reach an interpreter that lies under /root."""
    place = interpreter()
    if not ROOT or not place.is_relative_to("/root"):
        return ":"
    spare = "/tmp/.sweeper-interpreter"
    return " && ".join(
        [
            f"mkdir -p {spare} && mount --bind {place} {spare} && mount -t tmpfs -o mode=755 tmpfs /root",
            f"mkdir -p {place} && mount --bind {spare} {place}",
        ]
    )


def command(shell: str) -> list[str]:
    """`shell` as a user that is not root."""
    if not ROOT:
        return ["sh", "-c", shell]
    as_user = f"exec setpriv --reuid {USER} --regid nogroup --clear-groups sh -c {shlex.quote(shell)}"
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", f"{opened()} && {as_user}"]
