"""A sweep's folder: every path in one place, every write whole or absent, every read checked.

<root>/<name>/spec.yaml                    the question, as first asked
<root>/<name>/study.db                     Optuna's database (unless storage.study names another)
<root>/<name>/trials/00007/3/              the fit of trial 7 with seed 3
    checkpoint-000012-<sha256[:16]>.safetensors   the newest two
    weights/                               what the fit learned, in peft's format
    result.json                            its numbers; once there, the fit is never run again
<root>/<name>/held-out/00007/3.json        test numbers, which choosing code never reads
<root>/<name>/attempts/<token>/            scratch of one run or resume; never read back
<root>/<name>/fence                        the newest lease token; older writers are refused
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweeper.errors import Corrupt

CHECKPOINTS_KEPT = 2


class Fenced(RuntimeError):
    """A newer attempt holds the sweep: this process is a ghost and must not write."""


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` so that a reader, or a crash at any instant, sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as fault:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(fault, OSError):
            fault.filename = fault.filename or str(path)  # a write does not say to where
        raise
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, body: Any) -> None:
    """Write `body` with its checksum. nan and inf are refused: they are not JSON."""
    text = json.dumps(body, allow_nan=False, sort_keys=True, ensure_ascii=False)
    document = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "body": text}
    write_bytes(path, json.dumps(document, ensure_ascii=False).encode())


def read_json(path: Path) -> Any:
    """The body that `write_json` wrote.

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
        raise Corrupt(f"{path} is damaged (its checksum does not fit). Delete it: that fit alone is run again.")
    return json.loads(text)


class FitFolder:
    """The durable state of one fit: one training of a trial's params with one seed."""

    def __init__(self, path: Path, *, fence: Path, token: int | None) -> None:
        self.path = path
        self._fence = fence
        self._token = token

    @property
    def weights(self) -> Path:
        """The folder of the learned weights; there once the fit is done."""
        return self.path / "weights"

    @property
    def _result(self) -> Path:
        return self.path / "result.json"

    def result(self) -> dict[str, Any] | None:
        """What the fit came to, or None while it has come to nothing yet."""
        try:
            body: dict[str, Any] = read_json(self._result)
        except FileNotFoundError:
            return None
        return body

    def history(self) -> list[dict[str, Any]]:
        """One row for each finished epoch, from the result or the newest checkpoint's header."""
        result = self.result()
        if result is not None:
            return list(result["history"])
        for path in self._checkpoints():
            with contextlib.suppress(OSError, ValueError, KeyError, struct.error):
                return list(json.loads(_header(path)["meta"])["history"])
        return []

    def save_checkpoint(self, epoch: int, payload: bytes) -> None:
        """Make `payload` the state after `epoch` epochs; keep one older as a spare."""
        self.check()
        name = f"checkpoint-{epoch:06d}-{hashlib.sha256(payload).hexdigest()[:16]}.safetensors"
        write_bytes(self.path / name, payload)
        for old in self._checkpoints()[CHECKPOINTS_KEPT:]:
            old.unlink(missing_ok=True)

    def newest_checkpoint(self) -> bytes | None:
        """The newest state whose checksum fits; damaged ones are passed over."""
        for path in self._checkpoints():
            with contextlib.suppress(FileNotFoundError):
                payload = path.read_bytes()
                if hashlib.sha256(payload).hexdigest()[:16] == path.stem.rsplit("-", 1)[1]:
                    return payload
        return None

    def keep_weights(self, made: Path) -> None:
        """Take over the folder `made` (on the same file system) as the fit's weights."""
        self.check()
        if self.weights.exists():
            shutil.rmtree(self.weights)
        for file in made.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        os.replace(made, self.weights)
        _sync_directory(self.path)

    def write_result(self, body: dict[str, Any]) -> None:
        """Seal the fit. Its checkpoints have served and go."""
        self.check()
        write_json(self._result, body)
        for path in self._checkpoints():
            path.unlink(missing_ok=True)

    def drop_weights(self) -> None:
        """Forget the weights (of a trial that can never be on the front)."""
        shutil.rmtree(self.weights, ignore_errors=True)

    def _checkpoints(self) -> list[Path]:
        return sorted(self.path.glob("checkpoint-*.safetensors"), reverse=True)

    def check(self) -> None:
        """Refuse to write for an attempt that was taken over.

        Raises:
            Fenced: a newer attempt holds the sweep, or this view only reads.
        """
        if self._token is None:
            raise Fenced("this view of the sweep is read-only")
        with contextlib.suppress(FileNotFoundError):
            newest = int(self._fence.read_text())
            if newest > self._token:
                raise Fenced(f"attempt {self._token} was taken over by attempt {newest}; nothing written")


def _header(path: Path) -> dict[str, str]:
    """The string metadata of a safetensors file, without loading a tensor."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        metadata: dict[str, str] = json.loads(file.read(length))["__metadata__"]
    return metadata


class SweepFolder:
    """All paths of one sweep. `token` is the lease under which to write; None reads only."""

    def __init__(self, path: Path, *, token: int | None = None) -> None:
        self.path = path.resolve()
        self.name = path.name
        self.token = token

    @property
    def spec(self) -> Path:
        """The spec as first asked."""
        return self.path / "spec.yaml"

    @property
    def exists(self) -> bool:
        """Whether a sweep was begun here."""
        return self.spec.exists()

    def fit(self, number: int, seed: int) -> FitFolder:
        """The fit of trial `number` with `seed`."""
        return FitFolder(self.path / "trials" / f"{number:05d}" / str(seed), fence=self._fence, token=self.token)

    def held_out(self, number: int, seed: int) -> Path:
        """Where the test numbers of a chosen fit are written."""
        return self.path / "held-out" / f"{number:05d}" / f"{seed}.json"

    @property
    def attempt(self) -> Path:
        """Scratch of the attempt that holds `token`."""
        return self.path / "attempts" / f"{self.token or 0:06d}"

    @property
    def stop_file(self) -> Path:
        """Its presence asks the fits of this attempt to stop after the epoch they are in."""
        return self.attempt / "stop"

    @property
    def _fence(self) -> Path:
        return self.path / "fence"

    def raise_fence(self) -> None:
        """From now on writers with an older token are refused."""
        if self.token is None:
            raise Fenced("this view of the sweep is read-only")
        write_bytes(self._fence, str(self.token).encode())

    def clear_scratch(self) -> None:
        """Delete what earlier attempts left behind; none of it is ever read."""
        shutil.rmtree(self.path / "attempts", ignore_errors=True)

    def forget(self) -> None:
        """Delete the sweep: only for one that was refused before its first trial."""
        shutil.rmtree(self.path)


def sweeps(root: Path) -> Iterator[SweepFolder]:
    """Every sweep under `root`, by name."""
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        folder = SweepFolder(path)
        if folder.exists:
            yield folder
