"""The tables: built-in lines and those of installed packages, loaded when they are used, and no name for two things."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sweeper.spec.samplers import SAMPLERS
from tests.plugins import install
from trainables import table
from trainables.audits import AUDITS
from trainables.backbones import BACKBONES
from trainables.data import DATASETS
from trainables.errors import UserError
from trainables.methods import METHODS
from trainables.table import Entry, Table, UnknownName

Install = Callable[..., None]
LINE = "from trainables.table import Entry\nFACES = Entry('faces_code:load', 'faces', 'a test')\n"
POINTS = {"sweeper.things": {"faces": "faces:FACES"}}
TABLES = (AUDITS, BACKBONES, DATASETS, SAMPLERS)
CODE = [entry for each in TABLES for entry in (*each.values(), *each.families.values())]
CODE += [part for method in METHODS.values() for part in (method.objective, method.refit) if part is not None]


def things(families: Mapping[str, Entry] | None = None) -> Table[Entry]:
    """A table with two lines; the code of neither exists."""
    lines = {name: Entry(f"no_such_{name}:load", name, "a test") for name in ("birds", "cats")}
    return Table("things", Entry, lines, place="thing", families=families or {})


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts made-up distributions on sys.path."""

    def put(name: str, points: Mapping[str, Mapping[str, str]] = POINTS, **modules: str) -> None:
        monkeypatch.syspath_prepend(install(tmp_path / name, name, points, modules or {"faces": LINE}))
        table._installed.cache_clear()

    yield put
    monkeypatch.undo()
    sys.modules.pop("faces", None)
    table._installed.cache_clear()


@pytest.mark.parametrize("code", CODE, ids=lambda code: code.code)
def test_the_code_of_every_line_is_where_the_line_says(code: table.Code) -> None:
    assert callable(code.load())


def test_a_name_that_is_not_there_is_told_with_the_nearest_and_all_others() -> None:
    with pytest.raises(UnknownName) as caught:
        things()["brids"]
    assert str(caught.value) == "thing 'brids' is unknown. Did you mean 'birds'? Known: birds, cats."
    assert isinstance(caught.value, UserError)
    assert things().get("brids") is None
    assert 3 not in things()


def test_a_family_answers_for_its_names_and_is_listed_only_where_help_is_needed() -> None:
    family = Entry("no_such_family:load", "any of them", "a test")
    each = things({"timm": family})
    assert each["timm:vit"] is family
    assert "timm:vit" in each
    assert list(each) == ["birds", "cats"]
    assert "timm:" not in each
    with pytest.raises(UnknownName, match="Known: birds, cats, timm:NAME"):
        each["tim:vit"]


def test_a_package_adds_a_line_whose_module_is_loaded_when_the_line_is_asked_for(packages: Install) -> None:
    packages("my-faces")
    each = things()
    assert list(each) == ["birds", "cats", "faces"]
    assert len(each) == 3
    assert "faces" in each
    assert "faces" not in sys.modules
    assert each["faces"].doc == "faces"
    assert "faces" in sys.modules
    assert "faces" in each.hint("x")
    assert (each.origin("faces"), each.origin("birds")) == ("my-faces 1.0", "sweeper")
    assert list(each.sound) == list(each)
    assert each.broken == {}


def test_a_name_that_is_built_in_names_both_distributions(packages: Install) -> None:
    packages("my-birds", {"sweeper.things": {"birds": "faces:FACES"}})
    with pytest.raises(UserError, match=r"^things: 'birds' is given by sweeper and by my-birds 1.0. Uninstall one"):
        things()["birds"]


def test_a_name_of_two_packages_names_both(packages: Install) -> None:
    packages("my-faces")
    packages("your-faces")
    with pytest.raises(UserError, match=r"given by (my|your)-faces 1.0 and by (my|your)-faces 1.0\."):
        list(things())


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import no_such_module", "cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "cannot be loaded: ZeroDivisionError"),
        ("", "cannot be loaded: AttributeError"),
        ("FACES = 'faces'", "is a str. It must be a Entry"),
    ],
)
def test_a_line_that_cannot_be_loaded_names_its_package_and_leaves_the_others(
    packages: Install, code: str, said: str
) -> None:
    packages("my-faces", faces=code)
    with pytest.raises(UserError, match=r"^things: 'faces' of my-faces 1.0 \(faces:FACES\) ") as caught:
        things()["faces"]
    assert said in str(caught.value)
    assert things()["birds"].doc == "birds"
    assert list(things().sound) == ["birds", "cats"]
    assert things().broken == {"faces": str(caught.value)}


PLUGIN = """
from sweeper.spec.samplers import Sampler
from trainables.backbones import BackboneEntry
from trainables.data import DatasetEntry
from trainables.methods import ERM, Method
from trainables.metrics.base import Metric, Value
from trainables.table import Entry

DATASET = DatasetEntry("everything_code:load", "mine", "a test")
BACKBONE = BackboneEntry("everything_code:load", "mine", "a test")
METHOD = Method("head", ERM, "a test")
METRIC = Metric("max", "groups", lambda predictions: Value(0.5), "mine", "a test")
SAMPLER = Sampler("everything_code:sampler", "mine", "a test")
AUDIT = Entry("everything_code:audit", "mine", "a test")
"""
SPEC = """
name: x
data: {name: my-data}
backbone: {name: my-backbone}
space: {method: my-method}
objectives: {accuracy: max, my-metric: max}
search: {sampler: my-sampler, trials: 1}
"""


def test_each_table_has_a_door_and_a_spec_goes_through_them(tmp_path: Path) -> None:
    """In a process of its own, as it is where a package is installed."""
    kinds = {"dataset": "data", **{kind: kind for kind in ("backbone", "method", "metric", "sampler", "audit")}}
    points = {f"sweeper.{kind}s": {f"my-{name}": f"everything:{kind.upper()}"} for kind, name in kinds.items()}
    place = install(tmp_path, "my-everything", points, {"everything": PLUGIN})
    program = (
        "import json, sys; from sweeper.spec import loading; from trainables.audits import AUDITS\n"
        f"spec = loading.parse({SPEC!r})\n"
        "print(json.dumps([spec.data.name, spec.space.methods, spec.search.sampler, list(AUDITS),\n"
        "    'my-sampler' in json.dumps(loading.schema()), 'everything_code' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(place), str(Path(__file__).parent.parent)])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = ["my-data", ["my-method"], "my-sampler", ["membership", "my-audit"], True, False]
    assert json.loads(done.stdout) == expected
