"""Which code runs: nothing of the folder one stands in is imported, and other code is known by its files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper import running_code
from sweeper.engine import driver, machines
from sweeper.errors import UserError
from sweeper.results import provenance
from sweeper.running_code import RunningCode
from sweeper.spec import loading
from sweeper.state import migrations
from sweeper.state.atomic import read_json, write_json
from sweeper.state.sweep_folder import SweepFolder
from tests import plugins
from tests.faults import tiny

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _looked_at_anew() -> Iterator[None]:
    running_code.found.cache_clear()
    yield
    running_code.found.cache_clear()


# --- the folder one stands in


def path_after(words: list[str], folder: Path, **environment: str) -> list[str]:
    """`sys.path` of a program that stands in `folder`, after `leave_folder`."""
    program = "import sys; from sweeper.running_code import leave_folder; leave_folder(); print(*sys.path, sep='\\n')"
    done = subprocess.run(
        [*words, "-c", program], cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("entries", [f":{ROOT}", f"{ROOT}:", f"{ROOT}::/plug-ins", f"/plug-ins:{ROOT}"])
def test_an_empty_entry_of_pythonpath_is_not_the_folder_and_the_others_stay(entries: str, tmp_path: Path) -> None:
    path = path_after(running_code.python(), tmp_path, PYTHONPATH=entries)
    assert not {"", str(tmp_path)} & set(path)
    named = [entry for entry in entries.split(":") if entry]
    assert [entry for entry in path if entry in named] == named


def test_a_folder_that_pythonpath_names_is_meant(tmp_path: Path) -> None:
    assert str(tmp_path) in path_after(running_code.python(), tmp_path, PYTHONPATH=f"{tmp_path}::{ROOT}")


@given(st.lists(st.sampled_from(["", "/a", "/b", "relative", "."]), max_size=5))
def test_programs_that_are_started_get_every_entry_with_a_name_in_its_order(entries: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(entries))
        patch.setattr(sys, "path", list(sys.path))
        running_code.leave_folder()
        kept = os.environ["PYTHONPATH"].split(os.pathsep)
        assert [entry for entry in kept if entry] == [entry for entry in entries if entry]
        assert "" not in kept or kept == [""]


def test_python_m_sweeper_imports_nothing_of_the_folder_it_stands_in(tmp_path: Path) -> None:
    for name in ("trainables", "numpy", "pydantic", "dashboards"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the folder one stands in')\n")
    done = subprocess.run(
        [sys.executable, "-m", "sweeper", "schema"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_rays_workers_get_none_of_the_drivers_folders() -> None:
    """It is Ray's own rule for a job that brings a folder; what comes of it: tests/engine/test_sweep.py."""
    assert machines._own_path()._runtime_env_has_working_dir()
    assert machines._own_path()._py_driver_sys_path == []


# --- what code it is


def test_every_file_of_ours_counts_and_the_libraries_have_their_versions() -> None:
    import peft

    code = running_code.found()
    assert {"sweeper/running_code.py", "sweeper/engine/actor.py", "trainables/__init__.py"} <= set(code.parts)
    assert code.parts["peft"] == peft.__version__
    assert Path(code.places["sweeper"]) == ROOT / "sweeper"
    assert RunningCode.from_json(code.to_json()) == code


def test_another_library_of_a_name_is_not_taken_for_the_installed_one(tmp_path: Path, monkeypatch) -> None:
    before = running_code.found()
    running_code.found.cache_clear()
    (tmp_path / "peft.py").write_text("VERSION = 'mine'\n")
    monkeypatch.delitem(sys.modules, "peft", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    now = running_code.found()
    assert before.differing(now) == ["peft"]
    assert now.parts["peft"].startswith("file ")
    assert running_code.shown(now, ["peft"]) == f"peft in {tmp_path}"
    assert running_code.unnamed(before, now) == ["peft"], "no version names it"


def test_the_files_of_a_plugin_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = {"sweeper.datasets": {"birds": "my_birds:LINE"}}
    monkeypatch.syspath_prepend(plugins.install(tmp_path, "my-birds", points, {"my_birds": "LINE = 1\n"}))
    before = running_code.found()
    assert before.releases["my_birds"] == "my-birds 1.0"
    running_code.found.cache_clear()
    (tmp_path / "my_birds.py").write_text("LINE = 2\n")
    assert before.differing(running_code.found()) == ["my_birds.py"]


def code(parts: dict[str, str], release: str) -> RunningCode:
    return RunningCode(parts, {}, {"trainables": release, "peft": f"peft {parts.get('peft')}", "mine": "mine 1.0"})


WAS = {"trainables/table.py": "aa", "peft": "0.21.2", "mine.py": "11"}


@pytest.mark.parametrize(
    ("now", "release", "odd"),
    [
        (WAS, "sweeper 0.1.0 c0ffee", []),
        (WAS | {"trainables/table.py": "bb"}, "sweeper 0.1.0 c0ffee", ["trainables/table.py"]),
        (WAS | {"trainables/table.py": "bb"}, "sweeper 0.1.0 c0ffee-dirty", ["trainables/table.py"]),
        (WAS | {"trainables/table.py": "bb"}, "sweeper 0.1.0 decade-dirty", ["trainables/table.py"]),
        (WAS | {"trainables/table.py": "bb"}, "sweeper 0.1.0 decade", []),
        (WAS | {"trainables/table.py": "bb"}, "sweeper 0.2.0", []),
        (WAS | {"trainables/new.py": "bb"}, "sweeper 0.1.0 c0ffee", ["trainables/new.py"]),
        (WAS | {"peft": "0.22.0"}, "sweeper 0.1.0 c0ffee", []),
        (WAS | {"peft": "file bb"}, "sweeper 0.2.0", ["peft"]),
        (WAS | {"mine.py": "22"}, "sweeper 0.2.0", ["mine.py"]),
    ],
)
def test_a_change_has_a_name_where_a_release_a_clean_commit_or_a_version_gives_it_one(
    now: dict[str, str], release: str, odd: list[str]
) -> None:
    assert running_code.unnamed(code(WAS, "sweeper 0.1.0 c0ffee"), code(now, release)) == odd


# --- a sweep goes on with the code that it began with


@pytest.fixture
def edited(tmp_path: Path) -> SweepFolder:
    """A sweep whose last attempt ran another `trainables/table.py` under the same release and commit."""
    folder = SweepFolder(tmp_path / tiny.NAME)
    folder.claim(migrations.stamped(loading.dump(tiny.spec(tmp_path))))
    kept = provenance._code(provenance._commit()).to_json()
    kept["parts"] = kept["parts"] | {"trainables/table.py": "0123456789abcdef"}
    write_json(folder.path / "provenance.json", {"code": kept, "code_changes": ["an older one"]})
    return folder


def test_a_resume_with_other_code_is_refused_in_a_sentence_and_leaves_all_as_it_was(edited: SweepFolder) -> None:
    before = (edited.path / "provenance.json").read_bytes()
    with pytest.raises(UserError) as refused:
        driver.resume(edited, tiny.Silent(), executor=tiny.in_process)
    assert str(refused.value) == (
        f"'tiny' has run other code until now under the same release and commit: trainables/table.py in "
        f"{ROOT / 'trainables'} differs. Undo that change, or go on with it, which is noted: "
        "sweeper resume tiny --new-code"
    )
    assert (edited.path / "provenance.json").read_bytes() == before


def test_it_goes_on_where_that_is_wanted_and_the_change_is_noted(edited: SweepFolder) -> None:
    (told,) = provenance.code_changes(edited.path, accept=True)
    assert told.startswith("the code has changed (digest ")
    note = provenance.describe(loading.load(edited.spec), edited.path, [told])
    assert read_json(edited.path / "provenance.json")["code_changes"] == ["an older one", told]
    assert provenance.code(edited.path).digest == running_code.found().digest == note["code"]["digest"]
    assert provenance.code_changes(edited.path, accept=False) == []


def test_a_sweep_of_a_release_that_did_not_note_its_code_goes_on(edited: SweepFolder) -> None:
    write_json(edited.path / "provenance.json", {"commit": "c0ffee"})
    assert provenance.code_changes(edited.path, accept=False) == []
