"""The image, the cluster files and the requirements name the same versions; the image is small and not root's."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
LINES = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", DOCKERFILE)).splitlines()
CLUSTERS = [ROOT / "cluster.yaml", *sorted((ROOT / "sweeper" / "cluster" / "variants").glob("*.yaml"))]
REQUIREMENT = r"(?m)^([\w.-]+)==([\w.]+)"
PINNED = dict(re.findall(REQUIREMENT, (ROOT / "requirements.txt").read_text()))
PYTHON = re.compile(r"(?:--python |FROM python:|BASE=python:)(\d[\d.]+)")
HASHED = ("uv", "boto3")  # what an image or a node takes from requirements.txt by name, or counts on


def pythons(text: str) -> set[str]:
    return set(PYTHON.findall(text))


@pytest.mark.parametrize("path", [ROOT / "Dockerfile", *CLUSTERS], ids=lambda path: path.name)
def test_every_package_that_is_installed_comes_by_its_hash(path: Path) -> None:
    """Our own code has none; `sweeper` is the image that is built here."""
    for command in re.split(r"&&|\n", re.sub(r"\\\n\s*", "", re.sub(r"(?m)#.*", "", path.read_text()))):
        if "pip install" in command or "pip sync" in command:
            assert "--require-hashes" in command or "--no-deps --no-build-isolation" in command, command


@pytest.mark.parametrize("name", HASHED)
def test_the_line_that_takes_one_package_out_of_the_requirements_takes_it_and_its_hashes(name: str) -> None:
    (line,) = {
        found for path in [ROOT / "Dockerfile", *CLUSTERS] for found in re.findall(r"sed -n '(.*?)'", path.read_text())
    }
    command = ["sed", "-n", line.replace("uv", name), str(ROOT / "requirements.txt")]
    first, *hashes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert first.startswith(f"{name}=={PINNED[name]}")
    assert hashes
    assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", one) for one in hashes)


def test_what_only_google_needs_agrees_with_the_requirements() -> None:
    google = dict(re.findall(REQUIREMENT, (ROOT / "sweeper" / "cluster" / "variants" / "gcp.txt").read_text()))
    assert "google-api-python-client" in google
    assert {name: version for name, version in google.items() if PINNED.get(name, version) != version} == {}


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.name)
def test_nodes_and_image_have_the_same_python(path: Path) -> None:
    assert pythons(path.read_text()) == pythons(DOCKERFILE)
    assert len(pythons(DOCKERFILE)) == 1


def test_the_image_ends_as_a_user_that_is_not_root_and_from_a_named_version() -> None:
    users = [line.split()[1] for line in LINES if line.startswith("USER")]
    assert users[-1] not in ("root", "0")
    (base,) = [line.removeprefix("ARG BASE=") for line in LINES if line.startswith("ARG BASE=")]
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", base)
    assert [line for line in LINES if line.startswith("FROM")] == ["FROM ${BASE}"], "so that a digest can be given"


def test_layers_leave_no_cache_and_no_secret_behind() -> None:
    assert all("rm -rf /var/lib/apt/lists" in line for line in LINES if "apt-get install" in line)
    assert all("--no-cache" in line for line in LINES if "pip install" in line or "pip sync" in line)
    assert not re.search(r"(?i)token|password|secret", "\n".join(LINES))
    large = next(i for i, line in enumerate(LINES) if "pip sync" in line)
    code = next(i for i, line in enumerate(LINES) if line.startswith("COPY") and "trainables" in line)
    assert large < code, "a change of code does not build the packages again"


def test_everything_that_is_copied_is_there() -> None:
    for line in LINES:
        if line.startswith("COPY"):
            *sources, _ = [word for word in line.split()[1:] if not word.startswith("--")]
            assert all((ROOT / source).exists() for source in sources)
