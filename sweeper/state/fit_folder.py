"""The durable state of one fit, under `trials/<number>/<seed>/` of a sweep's folder (see `folder`)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sweeper.errors import Corrupt
from sweeper.state.atomic import read_json, write_bytes, write_json
from trainables.files import move_folder

CHECKPOINTS_KEPT = 2
_MEND_RESULT = "Put back a copy, or delete it: while its trial is open that fit alone is run again."


class FitFolder:
    """The durable state of one fit: one training of a trial's params with one seed."""

    def __init__(self, path: Path, *, permit: Callable[[], None]) -> None:
        self.path = path
        self.check = permit

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
            body: dict[str, Any] = read_json(self._result, _MEND_RESULT)
        except FileNotFoundError:
            return None
        return body

    def history(self) -> list[dict[str, Any]]:
        """One row for each finished epoch, from the result or the newest checkpoint's header."""
        return list((self.result() or self._reached())["history"])

    def _reached(self) -> dict[str, Any]:
        """What the newest readable checkpoint says beside its tensors; of no epoch where there is none."""
        for path in self._checkpoints():
            with contextlib.suppress(OSError, ValueError, KeyError, struct.error):
                meta: dict[str, Any] = json.loads(_header(path)["meta"])
                return {"history": list(meta["history"]), "seconds": meta.get("seconds", 0.0)}
        return {"history": [], "seconds": 0.0}

    @property
    def stuck(self) -> Path:
        """Where the stack of a fit is written that hung and could not tell."""
        return self.path / "stuck.txt"

    def hung(self) -> str | None:
        """The stack at which an earlier process of this fit was ended for hanging, if one was."""
        with contextlib.suppress(OSError):
            return self.stuck.read_text() or None
        return None

    def mark(self, epoch: int, elapsed_s: float, *, cpus: float, gpus: float) -> None:
        """Note that `epoch` has been worked at for `elapsed_s`. Not synced: it is worth no more than a second."""
        self.check()
        self.path.mkdir(parents=True, exist_ok=True)
        self.mark_file.write_text(json.dumps({"epoch": epoch, "elapsed_s": elapsed_s, "cpus": cpus, "gpus": gpus}))

    def unmark(self) -> None:
        """Nothing of the fit is in flight."""
        self.check()
        self.mark_file.unlink(missing_ok=True)

    def in_flight(self) -> dict[str, float] | None:
        """What `mark` noted last; without numbers where that was torn; None where nothing was in flight."""
        try:
            noted = json.loads(self.mark_file.read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            return {}
        return noted if isinstance(noted, dict) else {}

    @property
    def mark_file(self) -> Path:
        """Where `mark` notes."""
        return self.path / "in-flight.json"

    def save_checkpoint(self, epoch: int, payload: bytes, *, step: int = 0) -> None:
        """Make `payload` the state after `epoch` epochs, and `step` steps of the next; keep one older as a spare."""
        self.check()
        reached = f"{epoch:06d}.{step:08d}" if step else f"{epoch:06d}"  # names sort as states follow each other
        name = f"checkpoint-{reached}-{hashlib.sha256(payload).hexdigest()[:16]}.safetensors"
        write_bytes(self.path / name, payload, permit=self.check)
        for old in self._checkpoints()[CHECKPOINTS_KEPT:]:
            old.unlink(missing_ok=True)

    def newest_checkpoint(self) -> bytes | None:
        """The newest state whose checksum fits; damaged ones are passed over.

        Raises:
            Corrupt: all that are there are damaged; to begin afresh is for a person to decide.
        """
        found = self._checkpoints()
        whole = next((payload for payload in map(_whole, found) if payload is not None), None)
        if whole is None and any(path.exists() for path in found):
            mend = "Put back a copy, or delete that folder: then this fit alone is run from its beginning."
            raise Corrupt(f"no checkpoint in {self.path} is whole (their checksums do not fit). {mend}")
        return whole

    def passed_over(self) -> list[str]:
        """A sentence for each damaged checkpoint that has a whole one beside it."""
        damaged = [path for path in self._checkpoints() if _whole(path) is None]
        return [f"{path} is damaged; the fit goes on from the checkpoint before it." for path in damaged]

    def digests(self) -> dict[str, str]:
        """SHA-256 of each file of the weights."""
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(self.weights.glob("*"))}

    def check_weights(self) -> None:
        """Refuse weights that are not those which the result vouches for.

        Raises:
            Corrupt: a file of them is missing, or has other bytes.
        """
        vouched, found = (self.result() or {}).get("weights", {}), self.digests()
        for name in sorted(name for name, digest in vouched.items() if found.get(name) != digest):
            state = "damaged (its checksum does not fit)" if name in found else "missing"
            raise Corrupt(f"{self.weights / name} is {state}. Put back a copy; nothing can be measured with it so.")

    @property
    def unsealed_weights(self) -> Path:
        """A name for a folder of weights that are being written; what a crash leaves of it is tidied away."""
        return self.path / f".weights-{secrets.token_hex(4)}"

    def keep_weights(self, made: Path) -> None:
        """Take over the folder `made` (on the same file system) as the fit's weights."""
        move_folder(made, self.weights, durable=True, over=True, permit=self.check)

    def write_result(self, body: dict[str, Any]) -> None:
        """Seal the fit. Its checkpoints have served and go."""
        self.check()
        write_json(self._result, body, permit=self.check)
        self.tidy()

    def stop(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Seal the fit at its newest checkpoint: it is not trained further."""
        reached = self._reached()
        return self.end_without_numbers(params, **reached, error=None, stopped=len(reached["history"]))

    def end_without_numbers(self, params: Mapping[str, Any], **told: Any) -> dict[str, Any]:
        """Seal a fit that came to no numbers; `told` is its history, its seconds, and why."""
        body = {"values": {}, "reasons": {}, "groups": [], "provenance": {}, "params": dict(params)} | told
        self.write_result(body)
        return body

    def tidy(self) -> None:
        """Delete what a crash has left of unfinished writes, and of a sealed fit its checkpoints."""
        self.check()
        for path in self.path.glob(".*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        for path in [*self._checkpoints(), self.mark_file, self.stuck] if self._result.exists() else ():
            path.unlink(missing_ok=True)

    def drop_weights(self) -> None:
        """Forget the weights (of a trial that can never be on the front)."""
        self.check()
        shutil.rmtree(self.weights, ignore_errors=True)

    def _checkpoints(self) -> list[Path]:
        return sorted(self.path.glob("checkpoint-*.safetensors"), reverse=True)


def metrics(row: Mapping[str, Any]) -> dict[str, float | None]:
    """The validation metrics of one epoch of a fit's history."""
    return {name.removeprefix("val_"): value for name, value in row.items() if name.startswith("val_")}


def _whole(path: Path) -> bytes | None:
    """The bytes of a checkpoint, if they are those that its name tells of."""
    with contextlib.suppress(FileNotFoundError):
        payload = path.read_bytes()
        if hashlib.sha256(payload).hexdigest()[:16] == path.stem.rsplit("-", 1)[1]:
            return payload
    return None


def _header(path: Path) -> dict[str, str]:
    """The string metadata of a safetensors file, without loading a tensor."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        metadata: dict[str, str] = json.loads(file.read(length))["__metadata__"]
    return metadata
