"""A made-up package that adds lines to the tables, as one that is installed would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "sweeper-example"


def install(
    folder: Path,
    name: str,
    points: Mapping[str, Mapping[str, str]],
    modules: Mapping[str, str],
    version: str = "1.0",
) -> Path:
    """The distribution `name` in `folder`, with its entry points by group; for `sys.path`."""
    about = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    text = "".join(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in own.items()) for group, own in points.items())
    (about / "entry_points.txt").write_text(text)
    for module, code in modules.items():
        (folder / f"{module}.py").write_text(code)
    return folder


def install_example(folder: Path, version: str = "1.0") -> Path:
    """The example package in `folder`, as its pyproject.toml describes it."""
    points = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    install(folder, "sweeper-example", points, {}, version)
    shutil.copytree(EXAMPLE / "sweeper_example", folder / "sweeper_example")
    return folder


def environment(folder: Path) -> Path:
    """A fresh environment with the example installed, beside all that this one has: its Python."""
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")
    source = shutil.copytree(EXAMPLE, folder / "source")  # a build leaves its traces where it builds
    python = folder / "bin" / "python"
    install = ("-m", "uv", "pip", "install", "-q", "--offline", "--no-deps", "--no-build-isolation")
    subprocess.run([sys.executable, *install, "--python", str(python), str(source)], check=True, timeout=120)
    return python


def sweeper(
    *words: str, cwd: Path, paths: Iterable[Path] = (), python: str | Path = sys.executable
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, with packages in `paths` installed."""
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (*paths, ROOT)))}
    command = [python, "-m", "sweeper", *words]
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False, timeout=600)
