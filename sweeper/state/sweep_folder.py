"""A sweep's folder: every path in one place, every write whole or absent, every read checked.

<root>/<name>/spec.yaml                    the question, as first asked
<root>/<name>/study.db                     Optuna's database (unless storage.study names another)
<root>/<name>/trials/00007/3/              the fit of trial 7 with seed 3
    checkpoint-000012-<sha256[:16]>.safetensors   the newest two; -000012.00000340- is within the epoch after it
    weights/                               what the fit learned, in peft's format
    result.json                            its numbers; once there, the fit is never run again
    in-flight.json                         the epoch that it is in, and for how long: what an interruption costs
    log.txt, log.1.txt                     what was said while it was trained (`results.fit_log`); bounded
    stuck.txt                              where a fit hung that could not say so itself
<root>/<name>/held-out/00007/3.json        test numbers, which choosing code never reads
<root>/<name>/confirmations/00007-00000.json   trial 7 beside trial 0, both with new seeds (`results.confirmation`)
<root>/<name>/asked/<ns>-<id>.json         asked for by hand, until the driver has taken it up (`asking.inbox`)
<root>/<name>/attempts/<token>/            scratch of one run or resume; never read back
    progress.json                          how far it is, for those who watch
<root>/<name>/spent.json                   hours that all attempts took
<root>/<name>/packing.json                 how many fits are trained at once, as measured (`engine.packs.gain`)
<root>/<name>/stopped.txt                  why it is paused, for `status`
<root>/<name>/fence                        the newest lease token; older writers are refused

Where nodes share no disk (storage.fits), spec, fence, trials and held-out numbers are on an object store too: `mirror`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sweeper.errors import Corrupt, Paused, UserError, closed
from sweeper.state.atomic import read_json, write_bytes, write_json
from sweeper.state.fit_folder import FitFolder
from sweeper.state.mirror import Alone, Mirror
from trainables.files import whole_folder

__all__ = ["Fenced", "FitFolder", "SweepFolder", "sweeps"]


log = logging.getLogger(__name__)

_MEND_FENCE = "That database is an older copy, or another. Put the newest back; if it is the newest, delete the fence."


class Fenced(UserError):
    """A newer attempt holds the sweep: this process is a ghost and must not write."""


class Unreadable(UserError):
    """A sweep that this user may not look into."""

    @classmethod
    def of(cls, path: Path, fault: OSError) -> Unreadable:
        """With whose it is."""
        return cls(closed(fault, path))


class SweepFolder:
    """All paths of one sweep. `token` is the lease under which to write; None reads only.

    `store` is the URL of the object store that has a copy of it, if one has.
    """

    def __init__(self, path: Path, *, token: int | None = None, store: str | None = None) -> None:
        self.path = path.resolve()
        self.name = path.name
        self.token, self.store = token, store
        self._mirror = Mirror(self.path, store) if store else Alone()

    @property
    def spec(self) -> Path:
        """The spec as first asked."""
        return self.path / "spec.yaml"

    @property
    def exists(self) -> bool:
        """Whether a sweep was begun here.

        Raises:
            Unreadable: another user keeps that to himself.
        """
        try:
            return self.spec.exists()
        except PermissionError as fault:
            raise Unreadable.of(self.path, fault) from None

    def fit(self, number: int, seed: int) -> FitFolder:
        """The fit of trial `number` with `seed`."""
        return FitFolder(self.path / "trials" / f"{number:05d}" / str(seed), permit=self.check)

    def held_out(self, number: int, seed: int) -> Path:
        """Where the test numbers of a chosen fit are written."""
        return self.path / "held-out" / f"{number:05d}" / f"{seed}.json"

    @property
    def confirmations(self) -> Path:
        """Where it is kept what trials came to with seeds that the sweep never used."""
        return self.path / "confirmations"

    def keep_confirmation(self, point: int, baseline: int, body: Any) -> None:
        """What trial `point` came to beside trial `baseline`.

        Raises:
            Fenced: a newer attempt holds the sweep.
        """
        self.check()
        path = self.confirmations / f"{point:05d}-{baseline:05d}.json"
        write_json(path, body, permit=self.check)
        self._mirror.put(path)

    @property
    def packing(self) -> Path:
        """Where it is kept what training several fits at once gains."""
        return self.path / "packing.json"

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

    def check(self) -> None:
        """Refuse to write for an attempt that was taken over.

        Raises:
            Fenced: a newer attempt holds the sweep, or this view only reads.
        """
        if self.token is None:
            raise Fenced("this view of the sweep is read-only")
        newest = _token(self._fence)
        if newest > self.token:
            raise Fenced(f"attempt {self.token} was taken over by attempt {newest}; nothing written")

    def write(self, path: Path, data: bytes) -> None:
        """A file of the sweep as a whole, such as a table.

        Raises:
            Fenced: a newer attempt holds the sweep.
        """
        self.check()
        write_bytes(path, data, permit=self.check)

    def keep_json(self, path: Path, body: Any) -> None:
        """A note of the sweep, with its checksum.

        Raises:
            Fenced: a newer attempt holds the sweep.
        """
        self.check()
        write_json(path, body, permit=self.check)

    def keep_held_out(self, number: int, seed: int, body: Any) -> None:
        """The test numbers of a chosen fit.

        Raises:
            Fenced: a newer attempt holds the sweep.
        """
        self.check()
        write_json(self.held_out(number, seed), body, permit=self.check)
        self._mirror.put(self.held_out(number, seed))

    def raise_fence(self) -> None:
        """From now on writers with an older token are refused.

        Raises:
            Fenced: a newer attempt was quicker.
        """
        if self.token is None:
            raise Fenced("this view of the sweep is read-only")
        self._mirror.get(self._fence)
        try:
            newest = _token(self._fence)
        except Corrupt as fault:  # the lease, not the fence, tells who may write
            log.warning("%s It is written again now.", fault)
            newest = 0
        if self.token < newest:  # also a ghost's: whoever drives the sweep now must not lose its folder to it
            raise Fenced(f"{self._fence} is of attempt {newest}, the database says {self.token}. {_MEND_FENCE}")
        write_json(self._fence, self.token)
        self._mirror.put(self._fence)

    def clear_scratch(self, *, make: bool = True) -> None:
        """Delete what earlier attempts left behind, and make room for this one's, unless it needs none."""
        self.check()
        shutil.rmtree(self.path / "attempts", ignore_errors=True)
        self._stopped.unlink(missing_ok=True)
        if make:
            self.attempt.mkdir(parents=True)

    # --- its copy on an object store; nothing of this does anything where there is none

    @property
    def stored(self) -> bool:
        """Whether the store has a sweep of this name."""
        return self._mirror.holds(self.spec)

    def meet(self) -> None:
        """Make folder and store one, at the beginning of an attempt. The store is right, once it has the sweep."""
        equal = self._mirror.fetch if self.stored else self._mirror.share
        for part in (self.path / "trials", self.path / "held-out", self.confirmations):
            equal(part)
        self._mirror.put(self.spec)  # last: with it the store has the sweep

    def arrive(self) -> None:
        """Bring the spec to a node that may never have seen the sweep."""
        self._mirror.get(self.spec)

    def fetch(self, number: int, seed: int) -> None:
        """Make a fit's folder as the store has it."""
        self._mirror.fetch(self.fit(number, seed).path)

    def fetch_held_out(self, number: int, seed: int) -> None:
        """Bring the test numbers of a chosen fit."""
        self._mirror.get(self.held_out(number, seed))

    def share(self, number: int, seed: int) -> None:
        """Make the store's copy of a fit as it is here.

        Raises:
            Fenced: a newer attempt holds the sweep.
        """
        self._mirror.get(self._fence)
        self.check()
        self._mirror.share(self.fit(number, seed).path)

    def share_mark(self, number: int, seed: int) -> None:
        """Show the store what a fit noted of its epoch in flight, if it answers at once."""
        with contextlib.suppress(Paused):
            self._mirror.put(self.fit(number, seed).mark_file, patient=False)

    def drop_weights(self, number: int, seed: int) -> None:
        """Forget a fit's weights (of a trial that can never be on the front)."""
        fit = self.fit(number, seed)
        if fit.weights.exists():
            fit.drop_weights()
            self._mirror.drop(fit.weights)

    def ask_to_stop(self) -> None:
        """Ask the fits of this attempt to stop after the epoch they are in."""
        self.stop_file.touch()
        self._mirror.put(self.stop_file)

    @property
    def stopping(self) -> bool:
        """Whether the fits of this attempt were asked to stop."""
        return self.stop_file.exists() or self._mirror.holds(self.stop_file)

    # --- how far it is, and why it is paused

    def note_progress(self, body: Mapping[str, Any]) -> None:
        """Tell those who watch how far this attempt is. Not synced: it is worth no more than seconds."""
        self.check()
        (self.attempt / "progress.json").write_text(json.dumps(body), encoding="utf-8")

    def note_spent(self, body: Mapping[str, float]) -> None:
        """Note what all attempts took, this one included."""
        write_json(self.path / "spent.json", dict(body), permit=self.check)

    def spent(self) -> Mapping[str, float]:
        """What all attempts took, as far as it was noted."""
        with contextlib.suppress(FileNotFoundError):
            return dict(read_json(self.path / "spent.json", "Put back a copy, or delete it: then time counts anew."))
        return {}

    def progress(self) -> Mapping[str, Any]:
        """What the newest attempt noted last; empty where it was torn, or nothing was."""
        noted = max(self.path.glob("attempts/*/progress.json"), default=None)
        with contextlib.suppress(OSError, ValueError):
            body = json.loads(noted.read_text(encoding="utf-8")) if noted else {}
            return body if isinstance(body, dict) else {}
        return {}

    @property
    def why(self) -> str | None:
        """Why the sweep was paused, as far as whoever paused it could still say."""
        return self._stopped.read_text(encoding="utf-8") if self._stopped.exists() else None

    def note_why(self, why: str) -> None:
        """Note why the sweep is paused, until the next attempt."""
        self.write(self._stopped, why.encode())

    @property
    def _stopped(self) -> Path:
        return self.path / "stopped.txt"

    def claim(self, spec: bytes) -> None:
        """Make this folder a sweep's, all at once: it has its spec from its first instant.

        Raises:
            FileExistsError: there is something in it already.
        """
        with whole_folder(self.path, durable=True) as made:
            write_bytes(made / "spec.yaml", spec)

    def forget(self) -> None:
        """Delete the sweep: only for one that was refused before its first trial."""
        self.forget_copy()
        shutil.rmtree(self.path)

    def forget_copy(self) -> None:
        """Delete what the object store has of the sweep."""
        self._mirror.drop(self.path)


def _token(fence: Path) -> int:
    """The token that a fence was raised to; 0 where there is none."""
    try:
        bare = fence.read_text(errors="replace")
    except FileNotFoundError:
        return 0
    return (
        int(bare) if bare.isdecimal() else int(read_json(fence, "The next resume writes it again."))
    )  # schema 1: bare


def sweeps(root: Path) -> Iterator[SweepFolder]:
    """Every sweep under `root`, by name."""
    try:
        paths = sorted(root.iterdir()) if root.is_dir() else []
    except PermissionError as fault:
        raise Unreadable.of(root, fault) from None
    for path in paths:
        folder = SweepFolder(path)
        if path.name.startswith("."):  # a claim that died half-way
            continue
        try:
            found = folder.exists
        except Unreadable:  # it may be one: whoever opens it is told
            found = True
        if found:
            yield folder
