"""The image, the cluster files and the requirements name the same versions; the image is small and not root's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
LINES = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", DOCKERFILE)).splitlines()
CLUSTERS = [ROOT / "cluster.yaml", *sorted((ROOT / "sweeper" / "cluster" / "variants").glob("*.yaml"))]
PINNED = dict(re.findall(r"(?m)^([\w.-]+)==([\w.]+)", (ROOT / "requirements.txt").read_text()))
ELSEWHERE = {"boto3", "google-api-python-client"}  # Ray's way to a cloud, on that cloud's head only


def pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"([\w.-]+)==(\w[\w.]*)", re.sub(r"(?m)#.*", "", text)))


def pythons(text: str) -> set[str]:
    return set(re.findall(r"(?:--python |FROM python:)(\d[\d.]+)", text))


@pytest.mark.parametrize("path", [ROOT / "Dockerfile", *CLUSTERS], ids=lambda path: path.name)
def test_every_version_that_is_named_is_that_of_the_requirements(path: Path) -> None:
    named = {name: version for name, version in pins(path.read_text()).items() if name not in ELSEWHERE}
    assert named
    assert named == {name: PINNED[name] for name in named}


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.name)
def test_nodes_and_image_have_the_same_python(path: Path) -> None:
    assert pythons(path.read_text()) == pythons(DOCKERFILE)
    assert len(pythons(DOCKERFILE)) == 1


def test_packages_come_by_their_hashes_from_requirements_txt() -> None:
    installs = [line for line in LINES if " pip install " in line or "pip sync" in line]
    for line in installs:
        for part in line.split("&&"):
            if "pip install" in part:
                assert "uv==" in part or "--no-deps" in part, "only uv, and our own code"
    assert any("uv pip sync" in line and "--require-hashes" in line and "requirements.txt" in line for line in installs)


def test_the_image_ends_as_a_user_that_is_not_root_and_from_a_named_version() -> None:
    users = [line.split()[1] for line in LINES if line.startswith("USER")]
    assert users[-1] not in ("root", "0")
    (base,) = [line.split()[1] for line in LINES if line.startswith("FROM")]
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", base)


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
