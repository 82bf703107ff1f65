"""Commands that run on the head and bring their files home: what is sent, what may land, and where."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper.cli import clusters, main
from sweeper.cluster import ray_cli
from sweeper.cluster.errand import MODULE, Errand, Place
from sweeper.cluster.homecoming import Homecoming
from sweeper.errors import UserError
from tests import finished


def errand(*typed: str) -> Errand:
    asked = main._parser().parse_args(typed)
    asked.words = list(typed)
    return clusters._errand(asked)


@pytest.mark.parametrize(
    ("typed", "there"),
    [
        (["status", "a", "--cluster=c.yaml"], ["status", "a"]),
        (["status", "--clus", "c.yaml", "a", "--js"], ["status", "a", "--json"]),
        (["pareto", "a", "--at-l", "f=1", "--at-least=g=2"], ["pareto", "a", "--at-least=f=1", "--at-least=g=2"]),
        (["audit", "a", "--matched", "lora", "fft", "--cluster", "c"], ["audit", "a", "--matched", "lora", "fft"]),
        (["data", "check", "/x", "--columns", "image=f,label=y"], ["data", "check", "/x", "--columns=image=f,label=y"]),
    ],
)  # fmt: skip
def test_the_command_on_the_head_is_the_one_that_was_typed_without_the_way_there(
    typed: list[str], there: list[str]
) -> None:
    assert errand(*typed).words == there


def test_a_file_that_is_read_is_sent_and_one_that_is_not_there_is_said_here(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("name: a\n")
    sent = errand("resume", "a", "--with", f"{tmp_path}/more.yaml", "--cluster", "c")
    assert (sent.words, sent.stdin) == (["resume", "a", "--with=-"], "name: a\n")
    with pytest.raises(UserError, match=r"none\.yaml cannot be read"):
        errand("resume", "a", "--with", f"{tmp_path}/none.yaml")


# --- the whole way, but for the wire


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sweeps of a head that is a process; one stands in a folder of one's own."""
    root = tmp_path / "head" / "sweeps"
    finished.sweep(root / "birds")

    def carry(where: str, errand: Errand, hear: Callable[[str], None]) -> None:
        said = subprocess.run(
            [sys.executable, "-P", "-m", MODULE],
            input=errand.line(attended=False),
            env=os.environ | {"SWEEPER_ROOT": str(root)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for cut in range(0, len(said), 1000):  # as it may come
            hear(said[cut : cut + 1000])

    monkeypatch.setattr(ray_cli, "_carry", carry)
    (tmp_path / "desk").mkdir()
    monkeypatch.chdir(tmp_path / "desk")
    return root


def test_files_land_where_the_command_line_says_and_are_counted(head: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("tables ü").mkdir()
    assert main.main(["export", "birds", "-o", "tables ü/all.csv", "--json", "--cluster", "c"]) == 0
    told = capsys.readouterr()
    names = ["all.csv", *(f"all.{name}.csv" for name in ("fits", "groups", "epochs"))]
    assert json.loads(told.out) == [f"tables ü/{name}" for name in names]
    assert sorted(path.name for path in Path("tables ü").iterdir()) == sorted(names)
    assert "4 files, " in told.err
    assert "came from the cluster" in told.err
    assert main.main(["export", "birds", "--format", "json", "--cluster", "c"]) == 0
    assert json.loads(Path("birds.json").read_text())
    assert "wrote birds.json" in capsys.readouterr().out
    assert main.main(["export", "birds", "-o", "none/all.csv", "--cluster", "c"]) == 2
    assert "none is no folder. Make it first" in capsys.readouterr().err
    assert sorted(os.listdir()) == ["birds.json", "tables ü"]


def test_what_the_command_refuses_here_it_refuses_there(head: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("more.yaml").write_text("mine")
    assert main.main(["clone", "birds", "-o", f"{Path.cwd()}/more.yaml", "--cluster", "c"]) == 2
    assert f"{Path.cwd()}/more.yaml is there already" in capsys.readouterr().err
    assert Path("more.yaml").read_text() == "mine"


# --- a head that is not to be trusted


def answer(errand: Errand, *files: tuple[str, bytes], announced: int | None = None, digest: str = "") -> str:
    told: list[dict] = [{"files": len(files), "bytes": announced or sum(len(content) for _, content in files)}]
    for name, content in files:
        told += [{"file": name, "bytes": len(content)}, {"data": base64.b64encode(content).decode()}]
        told += [{"sha256": digest or hashlib.sha256(content).hexdigest()}]
    return "".join(f"{errand.key} {json.dumps(each)}\n" for each in [*told, {"exit": 0}])


def come_home(errand: Errand, said: str) -> int:
    with Homecoming(errand, lambda text: None, lambda text: None) as home:
        home.hear(said)
        return home.land()


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/evil",
        ".bashrc",
        "birds.yaml",
        "birds/../../evil.csv",
        "there-0/other",
        "there-0/../evil",
        "there-0/knee/../../evil",
        "there-0//knee",
        "there-0",
        "there-1/knee",
        "there-0/knee/a\nb",
        "there-0/knee.sh",
    ],
)
def test_no_file_lands_that_was_not_asked_for(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    asked = Errand(["pull"], places=[Place("knee", "there-0")], names=["birds"])
    with pytest.raises(UserError, match="nobody asked for"):
        come_home(asked, answer(asked, (name, b"x")))
    assert [*tmp_path.rglob("*")] == [tmp_path / "here"]


@pytest.mark.parametrize("wrong", [{"announced": 1}, {"announced": 9}, {"digest": "0" * 64}])
def test_what_is_not_whole_does_not_land(wrong: dict, tmp_path: Path) -> None:
    asked = Errand(["pull"], places=[Place(f"{tmp_path}/knee", "there-0")])
    with pytest.raises(UserError, match=r"[Nn]othing of it was kept|Nothing was kept"):
        come_home(asked, answer(asked, ("there-0/knee/a", b"two"), ("there-0/knee/b/c", b"one"), **wrong))
    assert [*tmp_path.iterdir()] == []
    said = answer(asked, ("there-0/knee/a", b"two"))
    with pytest.raises(UserError, match="did not come to its end"):
        come_home(asked, said[: said.index(f'{asked.key} {{"exit"')] + "bash: sweeper: not found\n")
    assert come_home(asked, "noise\n" + said) == 0
    assert (tmp_path / "knee" / "a").read_bytes() == b"two"


def test_no_link_leads_out_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "papers" / "link").symlink_to(tmp_path / "elsewhere")
    asked = Errand(["paper"], places=[Place(f"{tmp_path}/papers", "there-0")])
    with pytest.raises(UserError, match="leads out of"):
        come_home(asked, answer(asked, ("there-0/papers/link/x", b"x")))
    assert not [*(tmp_path / "elsewhere").iterdir()]
