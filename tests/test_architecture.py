"""The shape of the code: imports go one way, importing is cheap and does nothing, files are short."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("sweeper", "trainables", "dashboards")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LIGHT = [
    "sweeper",
    "sweeper.cli.main",
    "sweeper.spec.model",
    "sweeper.front.pareto",
    "sweeper.spec.presets",
    "trainables",
    "trainables.task",
    "trainables.params",
    "trainables.methods",
    "trainables.metrics",
    "trainables.data",
    "trainables.backbones",
    "dashboards",
]
HEAVY = ("torch", "ray", "mlflow", "optuna", "timm", "peft", "sklearn", "pandas", "matplotlib", "plotly")
# What commands import that train nothing: the study with Optuna, and nothing else that takes a part of a second.
LOOKING = ["sweeper.results.results", "sweeper.engine.driver"]
UNSEEN = (*(name for name in HEAVY if name != "optuna"), "scipy.special", "sweeper.record.record")
LONGEST = 400
LONGER: dict[str, int] = {}  # path: lines allowed, each with the reason beside it


UNSAFE = {"eval", "exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "pd.read_pickle"}
UNSAFE_MODULES = {"cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
SAFE_OF_PICKLE = {"pickle.UnpicklingError", "pickle.PicklingError"}  # what a refusal is called


def unsafe(tree: ast.AST) -> Iterator[int]:
    """The lines that could make code of data."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            weights = called == "torch.load" and options.get("weights_only") != "True"
            if called in UNSAFE or weights or options.get("allow_pickle") == "True":
                yield node.lineno
        elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith("pickle."):
            if ast.unparse(node) not in SAFE_OF_PICKLE:
                yield node.lineno
        elif isinstance(node, ast.Import):
            if {alias.name.split(".")[0] for alias in node.names} & UNSAFE_MODULES:
                yield node.lineno
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNSAFE_MODULES | {"pickle"}:
            yield node.lineno


def test_imports_keep_to_the_layers_and_the_doors() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_package_that_is_imported_is_declared() -> None:
    """Ours in `dependencies` or an extra for users; those of tests there or in `dev`.

    What comes with something else may leave with it.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    dev = {_distribution(requirement) for requirement in extras.pop("dev")}
    users = [requirement for extra in extras.values() for requirement in extra]
    needed = {_distribution(requirement) for requirement in [*project["dependencies"], *users]}
    tests = sorted((ROOT / "tests").rglob("*.py"))
    local = {*PACKAGES, *sys.stdlib_module_names, "tests", "benchmarks", *(path.stem for path in tests)}
    owners = metadata.packages_distributions()
    undeclared = []
    for paths, declared in ((FILES, needed), (tests, needed | dev)):
        for path in paths:
            for package in sorted(_imported(path) - local):
                if not declared & {_distribution(owner) for owner in owners.get(package, ())}:
                    undeclared.append(f"{path.relative_to(ROOT)}: {package}")
    assert undeclared == []


def _distribution(requirement: str) -> str:
    """`open_clip_torch>=3.2` as registries call it."""
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def _imported(path: Path) -> set[str]:
    """The packages that a file imports, at its top or anywhere inside."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.append(node.module or "")
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    ("module", "heavy"), [*((light, HEAVY) for light in LIGHT), *((look, UNSEEN) for look in LOOKING)]
)
def test_importing_loads_nothing_heavy(module: str, heavy: tuple[str, ...]) -> None:
    program = f"import sys, {module}; print(*sorted(set({heavy!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_a_file_is_short_unless_it_is_listed_with_its_reason() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    long = {name: count for name, count in lines.items() if count > LONGER.get(name, LONGEST)}
    assert long == {}, "split it, or list it in LONGER with its reason"
    assert [name for name in LONGER if lines.get(name, 0) <= LONGEST] == [], "short again: take it off the list"


def test_no_input_can_become_code() -> None:
    met = [f"{path}:{line}" for path in FILES for line in unsafe(ast.parse(path.read_text(encoding="utf-8")))]
    assert met == []


@pytest.mark.parametrize(
    "line",
    [
        "eval('1')",
        "pickle.loads(b'')",
        "from pickle import loads",
        "import joblib",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f, allow_pickle=True)",
        "yaml.load(f, Loader=yaml.Loader)",
    ],
)
def test_the_check_for_code_in_data_sees_each_way(line: str) -> None:
    assert list(unsafe(ast.parse(line))) == [1]


def test_every_module_says_what_it_is() -> None:
    silent = [path for path in FILES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert silent == []


def test_the_packages_are_the_ones_of_this_checkout() -> None:
    for package in PACKAGES:
        spec = util.find_spec(package)
        assert spec is not None
        assert spec.origin == str(ROOT / package / "__init__.py")
