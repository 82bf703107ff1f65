"""The README tells the truth: its spec is good, and each command in it does what its comment says."""

from __future__ import annotations

import ast
import re
import signal
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

from sweeper.cli import main
from sweeper.cluster.ray_cli import free_port
from sweeper.engine.machines import Machines
from sweeper.spec import loading
from tests.plugins import install, sweeper
from trainables.data.datasets import digits

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SPEC = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)[1]
CLUSTER = re.search(r"## On a cluster\n.*?(?=\n## )", README, re.DOTALL)[0]


def typed(text: str) -> list[list[str]]:
    """The words of every line that a text shows as typed."""
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [line.split("#")[0].split() for block in blocks for line in block.splitlines()]


CONSOLE = typed(README.replace(CLUSTER, ""))
SWEEPER = [words[1:] for words in CONSOLE if words and words[0] == "sweeper"]
THERE = [words[1:] for words in typed(CLUSTER) if words and words[0] == "sweeper"]
ELSEWHERE = {
    "demo",  # minutes long: tests/cli/test_demo.py, marked slow, and `make demo` itself
    "compare",  # needs a second sweep: tests/report/test_comparison.py
    "pull",  # tests/models/test_folder.py, and so predict
    "predict",
    "audit",  # sixteen trainings: tests/models/test_folder.py, tests/audits
    "rebuild-record",  # tests/record/test_rebuilt.py
    "plugins test",  # below, where the package is installed
    "confirm",  # trains ten fits: tests/engine/test_confirm.py, and for real in tests/engine/test_sweep.py
}


def test_the_first_two_commands_are_make_demo_and_make_test() -> None:
    assert CONSOLE[:2] == [["make", "demo"], ["make", "test"]]
    makefile = (Path(__file__).parent.parent / "Makefile").read_text(encoding="utf-8")
    assert {"demo:", "test:"} <= set(re.findall(r"^\w+:", makefile, re.MULTILINE))


def test_the_spec_fits_on_a_page_and_is_good() -> None:
    assert len(SPEC.splitlines()) <= 12
    assert loading.parse(SPEC).name == "my-first-sweep"


def test_every_command_of_the_tool_is_in_the_readme() -> None:
    done = subprocess.run([sys.executable, "-m", "sweeper", "--help"], capture_output=True, text=True, check=True)
    commands = set(re.findall(r"^    (\w+) ", done.stdout, re.MULTILINE))
    assert commands <= {words[0] for words in SWEEPER + THERE}


@pytest.mark.parametrize("words", THERE, ids=" ".join)
def test_every_command_for_a_cluster_is_one_that_the_tool_takes(words: list[str]) -> None:
    """What they do there: tests/cluster/test_jobs.py and tests/cluster."""
    assert main._parser().parse_args(words).command is not None


def test_every_file_that_the_readme_names_exists() -> None:
    root = Path(__file__).parent.parent
    named = re.findall(r"`((?:sweeper|trainables|dashboards|tests|benchmarks)/[\w./-]+)`|\]\((docs/[^)]+)\)", README)
    missing = [a or b for a, b in named if not (root / (a or b)).exists()]
    assert missing == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with the README's spec, cut down to what a test can wait for."""
    made = tmp_path_factory.mktemp("user")
    small = loading.changed(loading.parse(SPEC), {"search.trials": 3, "search.seeds": 1, "space.epochs": 1})
    (made / "sweep.yaml").write_text(loading.dump(small))
    digits.build(made / "my-birds")
    for name in ("trainables", "numpy", "mlflow", "uvicorn", "fastapi", "asgiref", "sqlalchemy"):
        (made / f"{name}.py").write_text("raise ImportError('imported from the folder one stands in')\n")
    return made


def command(words: Sequence[str]) -> str:
    """`data check`, `plugins test`, else the first word."""
    return " ".join(words[:2] if words[0] in ("data", "plugins") else words[:1])


EXPECTED = {
    "validate": "sweep.yaml is good",
    "plan": "one epoch, measured here",
    "run": "my-first-sweep: finished, 3/3 trials",
    "resume": "my-first-sweep: finished, 3/3 trials",
    "status": "my-first-sweep: finished, 3/3 trials",
    "list": "my-first-sweep: finished",
    "pareto": "Pareto front",
    "report": "wrote my-first-sweep-report.html",
    "paper": "begin with papers/index.html",
    "export": "wrote trials.parquet",
    "schema": '"$schema"',
    "doctor": "good  python",
    "plugins": "no plug-ins",
    "data check": "split hash",
    "data distance": "Squared Fréchet distance",
    "init": "wrote birds.yaml",
}
PRINTED = [list(words) for words in dict.fromkeys(map(tuple, SWEEPER)) if command(words) in EXPECTED]


@pytest.mark.parametrize("words", PRINTED, ids=[" ".join(words) for words in PRINTED])
def test_the_commands_work_in_the_order_in_which_they_are_printed(folder: Path, words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "sweeper", *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert EXPECTED[command(words)] in done.stdout


def section(title: str) -> str:
    return re.search(rf"## {title}\n(.*?)(?=\n## )", README, re.DOTALL)[1]


def blocks(text: str) -> dict[str, str]:
    """What a text shows as code, by language."""
    return dict(re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL))


def test_a_metric_of_ones_own_is_fifteen_lines_keeps_the_laws_and_can_be_an_objective(tmp_path: Path) -> None:
    shown = blocks(section("Your own metric"))
    assert sum(len(text.splitlines()) for text in shown.values()) <= 15
    points = tomllib.loads(shown["toml"])["project"]["entry-points"]
    package = install(tmp_path / "package", "my-metrics", points, {"my_metrics": shown["python"]})
    (words,) = typed(section("Your own metric"))
    done = sweeper(*words[1:], cwd=tmp_path, paths=[package])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("  good") == done.stdout.count("\n") - 1 >= 6
    (said,) = re.findall(r"`(objectives: .*?)`", section("Your own metric"))
    (tmp_path / "sweep.yaml").write_text(f"name: x\n{said}\n")
    assert sweeper("validate", "sweep.yaml", "--no-data", cwd=tmp_path, paths=[package]).returncode == 0


def test_eight_gpus_train_eight_fits_at_a_time() -> None:
    shown = blocks(section("Your 8 GPUs"))
    assert sum(len(text.splitlines()) for text in shown.values()) <= 10
    spec = loading.parse(SPEC + shown["yaml"])
    machine = Machines(1, 64.0, 8.0)
    assert machine.fits(1.0, spec.resources.gpus) == 8
    assert machine.fits(1.0, 0.25) == 32


def test_ui_serves_the_record_on_this_machine_only_and_prints_a_link_that_opens_it(folder: Path) -> None:
    (words,) = [words for words in SWEEPER if words[0] == "ui"]
    port = free_port()
    command = [sys.executable, "-m", "sweeper", *words, "--port", str(port)]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        printed = server.stdout.readline() + server.stdout.readline()
        (link, *_) = re.findall(rf"http://127\.0\.0\.1:{port}/\S+", printed)
        assert "workflowType=machine_learning" in link
        with urllib.request.urlopen(link.split("#")[0], timeout=30) as page:
            assert page.status == 200
        foreign = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(foreign, timeout=30)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=60)


def test_no_command_of_the_readme_is_left_untested() -> None:
    assert set(map(command, SWEEPER)) == set(EXPECTED) | {"ui"} | ELSEWHERE


def lengths(path: Path) -> dict[str, int]:
    """Lines of each function and class of a file; a method is `Class.method`."""
    lines: dict[str, int] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            lines[node.name] = node.end_lineno - node.lineno + 1
            methods = (inner for inner in node.body if isinstance(inner, ast.FunctionDef))
            lines |= {f"{node.name}.{inner.name}": inner.end_lineno - inner.lineno + 1 for inner in methods}
    return lines


def test_the_path_of_one_trial_is_there_and_at_most_900_lines() -> None:
    rows = re.findall(r"^\| `([\w/]+\.py)` \| (`[^|]+`) \|", README, re.MULTILINE)
    assert len(rows) > 10
    root = Path(__file__).parent.parent
    lines = {
        f"{file}:{name}": lengths(root / file)[name] for file, names in rows for name in re.findall(r"`([^`]+)`", names)
    }
    assert sum(lines.values()) <= 900, lines
