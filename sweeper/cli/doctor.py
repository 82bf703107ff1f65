"""Is this machine, or this cluster file, fit for sweeps? Each check says what it found and, if not well, the mend."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sweeper.record.serving.server import answers
from sweeper.running_code import SAFE, python
from trainables.files import cache_root

_NEEDED = ("torch", "torchvision", "timm", "open_clip_torch", "peft", "ray", "optuna", "mlflow", "pandas")
DISK_GB = 5.0


@dataclass(frozen=True)
class Check:
    """One thing looked at. `verdict` is good, note (worth knowing) or bad (a sweep would fail)."""

    name: str
    verdict: Literal["good", "note", "bad"]
    found: str
    mend: str = ""


def examine(root: Path) -> list[Check]:
    """Run every check; one that breaks is itself a finding."""
    checks: list[Check] = []
    for look in (_python, _packages, _pair, _device, _sqlite, lambda: _folders(root), lambda: _disk(root), _port, _ray):
        try:
            checks += look()
        except Exception as fault:
            checks.append(
                Check(getattr(look, "__name__", "check").strip("_"), "bad", f"{type(fault).__name__}: {fault}")
            )
    return checks


def examine_cluster(path: Path) -> list[Check]:
    """Hold a cluster.yaml against Ray's schema and our rules; without a cloud, without a network.

    Raises:
        UserError: it cannot be read, or it is not YAML.
    """
    from sweeper.cluster import file as clusterfile  # Ray takes seconds to import
    from sweeper.cluster import rules

    file = clusterfile.read(path)
    found = [("Ray's schema", finding) for finding in clusterfile.by_ray(file)] + rules.findings(file)
    checks = [
        Check(name, "note" if finding.note else "bad", f"{file.where(finding)} {finding.found}", finding.mend)
        for name, finding in found
    ]
    good = not any(check.verdict == "bad" for check in checks)
    said = f"passes Ray's schema and {len(rules.RULES)} rules of ours"
    return [*checks, Check(path.name, "good", said)] if good else checks


def report(checks: list[Check]) -> str:
    """The checks as lines, mends below what they mend."""
    lines = []
    for check in checks:
        lines.append(f"{check.verdict:>4}  {check.name}: {check.found}")
        if check.mend:
            lines.append(f"      {check.mend}")
    return "\n".join(lines)


def _python() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    able = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield Check("python", "good" if able else "bad", version, "" if able else "Use Python 3.11, 3.12 or 3.13.")


def _packages() -> Iterator[Check]:
    for name in _NEEDED:
        try:
            yield Check(name, "good", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Check(name, "bad", "not installed", "Run 'make demo' again: it installs what is pinned.")


def _pair() -> Iterator[Check]:
    """torch and torchvision of different builds import apart and break together."""
    code = (
        "import torch, torchvision; torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5); print('work together')"
    )
    done = subprocess.run(python("-c", code), cwd=SAFE, capture_output=True, text=True, timeout=120)
    last = (done.stdout or done.stderr).strip().splitlines()[-1:] or ["no answer"]
    mend = "" if done.returncode == 0 else "Install both from one index, as requirements.txt pins them."
    yield Check("torch and torchvision", "bad" if done.returncode else "good", last[0], mend)


def _device() -> Iterator[Check]:
    program = shutil.which("nvidia-smi")
    if program is None:
        yield Check("gpu", "note", f"none; fits run on {os.cpu_count()} CPU cores", "Real backbones want a GPU.")
        return
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    yield Check("gpu", "good", subprocess.run(query, capture_output=True, text=True, timeout=60).stdout.strip())


def _sqlite() -> Iterator[Check]:
    yield Check("sqlite", "good", sqlite3.sqlite_version)


def _folders(root: Path) -> Iterator[Check]:
    for name, folder, setting in (("sweeps", root, "--root"), ("cache", cache_root(), "SWEEPER_CACHE")):
        try:
            with tempfile.TemporaryFile(dir=_existing(folder)):
                yield Check(name, "good", f"{folder.resolve()} can be written")
        except OSError as fault:
            yield Check(name, "bad", f"{folder.resolve()}: {fault.strerror}", f"Choose another folder with {setting}.")


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())


def _disk(root: Path) -> Iterator[Check]:
    free = shutil.disk_usage(_existing(root)).free / 1e9
    tight = free < DISK_GB
    mend = "Make room; checkpoints are small, decoded images are not." if tight else ""
    yield Check("disk", "note" if tight else "good", f"{free:.0f} GB free", mend)


def _port() -> Iterator[Check]:
    if answers(5000):
        yield Check("port 5000", "note", "in use", "Use 'sweeper ui --port'.")
    else:
        yield Check("port 5000", "good", "free")


def _ray() -> Iterator[Check]:
    value = os.environ.get("RAY_ADDRESS")
    yield Check("ray", "good", f"will join {value}" if value else "will be started here, on 127.0.0.1, with a token")
