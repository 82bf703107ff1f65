"""Which code runs: none that only happens to lie in the folder one stands in, and known by its files.

Ray puts the driver's folder first on its workers' path, `python -m` puts it first on its own, and an empty entry of
PYTHONPATH is that folder too: a `peft.py` or a `trainables/` that lies there would be imported in place of the
installed one. `leave_folder`, `python` and `SAFE` keep it out; an entry of PYTHONPATH with a name is meant, and counts.
`RunningCode` is the second line: what driver and workers run is compared.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

from sweeper.errors import few

SAFE = sys.prefix  # where a program stands that takes modules from where it stands: none lies there
OURS = ("sweeper", "trainables")
LIBRARIES = {  # whose code makes the numbers of a fit: what is imported, and the distribution that has it
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "open_clip": "open_clip_torch",
    "peft": "peft",
    "safetensors": "safetensors",
    "numpy": "numpy",
    "sklearn": "scikit-learn",
    "PIL": "pillow",
}
_LETTERS = 16  # of a SHA-256
_ODD = "file "  # before the digest of a library that is not the installed one


def python(*words: str) -> list[str]:
    """The words of a Python like this one that imports nothing from the folder it stands in."""
    return [sys.executable, "-P", *words]


def leave_folder() -> None:
    """Take the folder one stands in off the path where only an empty entry of PYTHONPATH put it there."""
    written = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    named = [entry for entry in written if entry]
    if len(written) in (1, len(named)):  # a variable that is set to nothing is none
        return
    os.environ["PYTHONPATH"] = os.pathsep.join(named)  # of the programs that are started from here
    if (here := os.getcwd()) not in map(os.path.abspath, named):
        sys.path[:] = [entry for entry in sys.path if entry not in ("", here)]


@dataclass(frozen=True)
class RunningCode:
    """The code that a process imports, part by part.

    `parts`: of each file of ours and of a plug-in, such as `trainables/table.py`, the beginning of its SHA-256; of each
    library its version, without the local part that tells builds of one release apart, or, where another is imported
    than the installed one, `file` and the beginning of that one's SHA-256. `places` says where each package lies, and
    `releases` what its distribution calls itself; neither makes two codes differ.
    """

    parts: Mapping[str, str]
    places: Mapping[str, str]
    releases: Mapping[str, str]

    @functools.cached_property
    def digest(self) -> str:
        """Of all parts."""
        return _digest("".join(f"{name} {part}\n" for name, part in sorted(self.parts.items())).encode())

    def differing(self, other: RunningCode) -> list[str]:
        """The names of the parts that are not the same in both."""
        names = sorted({*self.parts, *other.parts})
        return [name for name in names if self.parts.get(name) != other.parts.get(name)]

    def place(self, name: str) -> str:
        """A part and where it lies, for a sentence: `trainables/table.py in /home/me/trainables`."""
        return f"{name} in {self.places.get(package_of(name), 'no place')}"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON, for `from_json`."""
        return {
            "digest": self.digest,
            "parts": dict(self.parts),
            "places": dict(self.places),
            "releases": dict(self.releases),
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> RunningCode:
        """What `to_json` gave."""
        return cls(kept["parts"], kept["places"], kept["releases"])


@functools.cache
def found() -> RunningCode:
    """The code that this process has imported or would import; read once, in a tenth of a second."""
    parts: dict[str, str] = {}
    places: dict[str, str] = {}
    releases: dict[str, str] = {}
    for package, distribution in (*dict.fromkeys(OURS, "sweeper").items(), *_plugins()):
        if (first := _first_file(package)) is not None:
            places[package], releases[package] = str(first.parent), _release(distribution)
            parts |= {name: _digest(path.read_bytes()) for name, path in _files(package, first)}
    for package, distribution in LIBRARIES.items():
        if (first := _first_file(package)) is not None:
            places[package], releases[package] = str(first.parent), _release(distribution)
            parts[package] = _library(first, package, distribution)
    return RunningCode(parts, places, releases)


def package_of(name: str) -> str:
    """The package that a part belongs to."""
    return name.partition("/")[0].removesuffix(".py")


def unnamed(was: RunningCode, now: RunningCode) -> list[str]:
    """The parts that differ though nothing names the change: a release does, a commit that is clean, a version."""
    return [name for name in was.differing(now) if not _named(name, was, now)]


def _named(name: str, was: RunningCode, now: RunningCode) -> bool:
    release = now.releases.get(package_of(name), "")
    if release == was.releases.get(package_of(name)) or release.endswith("-dirty"):
        return False
    return not now.parts.get(name, "").startswith(_ODD)


def shown(code: RunningCode, names: list[str]) -> str:
    """The parts `names` as a sentence says them, with their places."""
    return ", ".join(str(name) for name in few([code.place(name) for name in names], 3))


def _plugins() -> list[tuple[str, str]]:
    """The package of each plug-in, and its distribution."""
    points = metadata.entry_points()
    ours = [point for group in points.groups if group.startswith("sweeper.") for point in points.select(group=group)]
    packages = {point.module.partition(".")[0]: point.dist.name if point.dist else "" for point in ours}
    return sorted((package, name) for package, name in packages.items() if package not in OURS)


def _first_file(package: str) -> Path | None:
    """The file that importing `package` runs first; None where there is none."""
    try:
        spec = util.find_spec(package)
    except ValueError:  # a stand-in without a spec, as tests put into sys.modules
        return None
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def _files(package: str, first: Path) -> Iterator[tuple[str, Path]]:
    """Every file of code of a package, by its name; of a single module that one."""
    if first.name != "__init__.py":
        yield first.name, first
        return
    for path in sorted(first.parent.rglob("*.py")):
        yield f"{package}/{path.relative_to(first.parent).as_posix()}", path


def _library(first: Path, package: str, distribution: str) -> str:
    """A library's version, if it is the installed one that is imported."""
    try:
        installed = metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return f"{_ODD}{_digest(first.read_bytes())}"
    expected = Path(str(installed.locate_file(package))).resolve()
    if expected in (first.parent.resolve(), first.resolve().with_suffix("")):
        return installed.version.partition("+")[0]
    return f"{_ODD}{_digest(first.read_bytes())}"


def _release(distribution: str) -> str:
    try:
        return f"{distribution} {metadata.version(distribution)}"
    except metadata.PackageNotFoundError:
        return distribution


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_LETTERS]
