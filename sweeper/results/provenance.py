"""What made a sweep, noted in its folder: the data on this machine, the code that runs, the packages' versions."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper import running_code
from sweeper.errors import Corrupt, UserError, few
from sweeper.running_code import RunningCode
from sweeper.spec import on_data, plugins
from sweeper.spec.model import SweepSpec
from sweeper.state.atomic import read_json, write_json
from trainables.metrics import METRICS

if TYPE_CHECKING:
    from trainables.data.base import Dataset

PACKAGES = ("sweeper", "torch", "timm", "open_clip_torch", "peft", "ray", "optuna", "mlflow")
MANIFEST = "manifest.csv"
_KEPT = "provenance.json"


def describe(spec: SweepSpec, folder: Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """The data on this machine (built if it is embedded), the code that runs, the packages' versions.

    It is kept in the sweep's folder. There `manifest.csv` says which example is in which split, and the hash of its
    file, so that the split can be checked and used elsewhere. `undefined` has a sentence for each metric that the data
    cannot define, and `code_changes` one for each attempt that went on with other code: `changes` are this one's.

    Raises:
        UserError: the data is not there, or its files, or the pixels that are made of them, are not those of the last
            attempt.
    """
    from trainables import data
    from trainables.data import report
    from trainables.data.images import pixels

    dataset, table, last = data.load(spec.data), folder / MANIFEST, noted(folder).get("dataset", {})
    files = report.file_digests(dataset)
    digest = report.data_digest(files)
    if digest != last.get("data_digest", digest):
        names = report.changed_files(files, table)
        raise UserError(
            f"the data of '{spec.name}' has changed under it, so that new trials could not be compared with old ones"
            f"{': ' * bool(names)}{names}. Put it back, or begin a sweep with a new name."
        )
    _same_pixels(spec, folder, dataset, last)
    before = table.read_bytes() if table.exists() else None
    report.manifest(dataset, table, contents=True)
    changed = before is not None and "data_digest" in last and before != table.read_bytes()
    leak = report.leak_note(dataset)
    packages, commit = [*plugins.used(spec), *plugins.measured(spec)], _commit()
    note = {
        "dataset": report.describe(dataset) | {"data_digest": digest, "pixel_rules": pixels.RULES},
        "undefined": on_data.undefined(spec, dataset),
        "notes": [
            report.tell(dataset),
            *[f"{table} was not as it was written; it is written again."] * changed,
            *plugins.changed(noted(folder).get("plugins"), packages),
            *(f"{fault} It is not measured." for fault in METRICS.broken.values()),
            *[leak] * bool(leak),
        ],
        "commit": commit,
        "plugins": plugins.noted(spec),
        "versions": {dist.name: dist.version for dist in map(metadata.distribution, PACKAGES)},
        "code": _code(commit).to_json(),
        "code_changes": [*noted(folder).get("code_changes", []), *changes],
    }
    write_json(folder / _KEPT, note)
    return note


def _same_pixels(spec: SweepSpec, folder: Path, dataset: Dataset, last: Mapping[str, Any]) -> None:
    """Refuses to go on where an older release made other pixels of some files of the data."""
    from trainables.data.images import pixels

    # The rules changed in the release that began to note `upright`; it did not yet note their number.
    before = last.get("pixel_rules", pixels.RULES if "upright" in last else 1)
    if not last or before == pixels.RULES or not (folder / "trials").exists():
        return
    if other := [path.name for split in dataset.splits.values() for path in split.paths if pixels.ruled(path)]:
        raise UserError(
            f"'{spec.name}' was begun by a release that made other pixels of {len(other):,} of its images, those of "
            f"more than 8 bits or with transparency ({', '.join(map(str, few(sorted(other))))}), so that new trials "
            "could not be compared with old ones. Begin a sweep with a new name, or go on with the release of before."
        )


def code_changes(folder: Path, *, accept: bool) -> list[str]:
    """A sentence if the code is not that of the last attempt any more; none for one that did not note its code.

    A new release, or a commit without changes beside it, is such a change. What no name tells apart is one only if it
    is to be accepted: then nobody could say which code the numbers came from.

    Raises:
        UserError: it is not accepted.
    """
    kept = noted(folder).get("code")
    if kept is None:
        return []
    was, now = RunningCode.from_json(kept), _code(_commit())
    names = was.differing(now)
    if not names:
        return []
    said = f"{running_code.shown(now, names)} {'differs' if len(names) == 1 else 'differ'}"
    if not accept and (odd := running_code.unnamed(was, now)):
        raise UserError(
            f"'{folder.name}' has run other code until now under the same release and commit: "
            f"{running_code.shown(now, odd)} {'differs' if len(odd) == 1 else 'differ'}. Undo that change, or go on "
            f"with it, which is noted: sweeper resume {folder.name} --new-code"
        )
    return [f"the code has changed (digest {was.digest}, now {now.digest}): {said}"]


def code(folder: Path) -> RunningCode:
    """The code of the last attempt, as its note says it.

    Raises:
        Corrupt: the note is damaged or gone.
    """
    kept = noted(folder).get("code")
    if kept is None:
        raise Corrupt(f"{folder / _KEPT} is damaged or gone. The next resume writes it again.")
    return RunningCode.from_json(kept)


def _code(commit: str | None) -> RunningCode:
    """The code that runs; the release of ours is named by its commit too."""
    found = running_code.found()
    named = {package: f"{found.releases[package]} {commit or ''}".rstrip() for package in running_code.OURS}
    return replace(found, releases={**found.releases, **named})


def _commit() -> str | None:
    """The commit of this file; None where it is in no checkout. An installed copy may lie inside another one's."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    with contextlib.suppress(OSError, subprocess.SubprocessError):  # no git, or no checkout
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], capture_output=True, timeout=10, check=True)
        command = [*git, "describe", "--always", "--dirty", "--abbrev=40"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return None


def kept(spec: SweepSpec, folder: Path) -> dict[str, Any]:
    """The last attempt's note; made again where it is missing or damaged."""
    return noted(folder) or describe(spec, folder)


def noted(folder: Path) -> dict[str, Any]:
    """The last attempt's note; empty where it is missing or damaged."""
    try:
        note: dict[str, Any] = read_json(folder / _KEPT)
    except (FileNotFoundError, Corrupt):
        return {}
    return note
