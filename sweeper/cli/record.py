"""Commands about the record that people read."""

from __future__ import annotations

import argparse
import json

from sweeper.cli.shared import Add, folder_of


def register(add: Add) -> None:
    """Enrol them."""
    add("rebuild-record", rebuild_record, of="sweep")


def rebuild_record(asked: argparse.Namespace) -> int:
    """Write a sweep's MLflow record anew, from its study and folders; nothing else is touched."""
    from sweeper.record.rebuild import rebuild

    done = rebuild(folder_of(asked))
    print(json.dumps(vars(done), indent=2) if asked.json else done)
    return 0
