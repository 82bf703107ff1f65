"""Durable state has a schema. What an older release wrote is brought up to date; what a newer one wrote is refused.

The schema is signed into the study, into the first line of the folder's spec, and into each checkpoint.
Whoever only looks at a sweep migrates what it has read; whoever drives it, under the lease, writes that back.
A release that changes what is durable raises `SCHEMA`, adds the step from the one before to `MIGRATIONS`, and
commits a paused sweep of its own to `tests/faults/fixtures` (`make.py` there), which the tests then resume.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from sweeper.errors import UserError

SCHEMA = 4
Signature = dict[str, Any]
_STAMP = re.compile(r"# sweeper schema (\d+)\n")


def _from_1(name: str, signed: Signature) -> Signature:
    """A sweep got a uuid of its own; where its data lies is no longer part of what makes trials comparable."""
    derived = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps([name, signed["identity"]], sort_keys=True)).hex
    identity = signed["identity"]
    data = {key: value for key, value in identity["data"].items() if key != "root"}
    return {"uuid": derived} | signed | {"identity": identity | {"data": data}, "schema": 2}


def _from_2(name: str, signed: Signature) -> Signature:
    """A checkpoint may lie within an epoch; a release that knows ends of epochs alone would misread it."""
    return signed | {"schema": 3}


def _from_3(name: str, signed: Signature) -> Signature:
    """Trials may be asked for by hand, beside the budget; a release that does not know that would count them in it."""
    return signed | {"schema": 4}


MIGRATIONS: Mapping[int, Callable[[str, Signature], Signature]] = {1: _from_1, 2: _from_2, 3: _from_3}


def signature(identity: Mapping[str, Any]) -> Signature:
    """What a sweep is signed with at its beginning: what must not change in it, and a name that no other has."""
    return {"schema": SCHEMA, "identity": dict(identity), "uuid": uuid.uuid4().hex}


def migrated(name: str, signed: Mapping[str, Any]) -> Signature:
    """What sweep `name` was signed with, in today's schema.

    Raises:
        UserError: a newer release wrote it, or one that is too old, or none.
    """
    current = dict(signed)
    check(current.get("schema"), f"study '{name}'")
    while current["schema"] < SCHEMA:
        current = MIGRATIONS[current["schema"]](name, current)
    return current


def check(schema: object, what: str) -> None:
    """Refuse what this release cannot read.

    Raises:
        UserError: says which schema `what` has.
    """
    if schema == SCHEMA or schema in MIGRATIONS:
        return
    newer = isinstance(schema, int) and schema > SCHEMA
    mend = "Use the release that wrote it, or a later one" if newer else "No release wrote that: put a copy of it back"
    raise UserError(f"{what} has schema {schema}; this release reads {min(MIGRATIONS)} to {SCHEMA}. {mend}.")


def stamped(spec: str) -> bytes:
    """The text of a spec as it is kept in a sweep's folder."""
    return f"# sweeper schema {SCHEMA}\n{spec}".encode()


def check_stamp(text: str, what: str) -> int:
    """The schema of a kept spec; the first releases kept it without a stamp.

    Raises:
        UserError: a newer release wrote it.
    """
    found = _STAMP.match(text)
    schema = int(found[1]) if found else 1
    check(schema, what)
    return schema
