"""README and docs tell the truth: their specs are good, and each command in them does what its comment says."""

from __future__ import annotations

import ast
import functools
import re
import signal
import socket
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
from sweeper.spec import loading, yaml_text
from tests.plugins import install, sweeper
from trainables.data.datasets import digits

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {page: page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))}
SPEC = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)[1]


def section(page: str, title: str) -> str:
    """What stands below a heading of a page."""
    return re.search(rf"## {title}\n(.*?)(?=\n## |\Z)", PAGES[ROOT / page], re.DOTALL)[1]


def blocks(text: str, language: str) -> list[str]:
    """What a text shows as code of a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def typed(text: str) -> list[list[str]]:
    """The words of every line that a text shows as typed."""
    return [line.split("#")[0].split() for block in blocks(text, "console") for line in block.splitlines()]


def commands(text: str) -> list[list[str]]:
    """What a text asks of sweeper, once each."""
    return [list(words) for words in dict.fromkeys(tuple(words[1:]) for words in typed(text) if words[0] == "sweeper")]


THERE_TEXT = (
    section("README.md", "Your cluster"),
    *(section("docs/cluster.md", title) for title in ("On a cluster", "On Kubernetes")),
)
THERE = commands("".join(THERE_TEXT))
HERE = commands(functools.reduce(lambda text, there: text.replace(there, ""), THERE_TEXT, "".join(PAGES.values())))
ELSEWHERE = {
    "compare",  # needs a second sweep: tests/report/test_comparison.py
    "pull",  # tests/models/test_folder.py, and so predict
    "predict",
    "audit",  # sixteen trainings: tests/models/test_folder.py, tests/audits
    "rebuild-record",  # tests/record/test_rebuilt.py
    "delete",  # the tests below need it still: tests/cli/test_keeping.py
    "plugins test",  # below, where the package is installed
    "more",  # tests/engine/test_racing.py
    "try",  # tests/engine/test_asking.py
    "narrow",
    "confirm",  # trains ten fits: tests/engine/test_confirm.py, and for real in tests/engine/test_sweep.py
}


def test_the_first_two_commands_are_make_demo_and_make_test() -> None:
    assert typed(README)[:2] == [["make", "demo"], ["make", "test"]]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {"demo:", "test:"} <= set(re.findall(r"^\w+:", makefile, re.MULTILINE))


def test_the_spec_fits_on_a_page_and_is_good() -> None:
    assert len(SPEC.splitlines()) <= 12
    assert loading.parse(SPEC).name == "my-first-sweep"


def test_every_command_of_the_tool_is_on_a_page() -> None:
    done = subprocess.run([sys.executable, "-m", "sweeper", "--help"], capture_output=True, text=True, check=True)
    known = set(re.findall(r"^    (\w+) ", done.stdout, re.MULTILINE))
    assert known - {"demo"} <= {words[0] for words in HERE + THERE}  # `make demo` is the README's first command


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize("words", THERE, ids=" ".join)
def test_every_command_for_a_cluster_is_one_that_the_tool_takes(words: list[str]) -> None:
    """What they do there: tests/cluster/test_jobs.py and tests/cluster."""
    assert main._parser().parse_args(words).command is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_and_page_that_is_named_exists(page: Path) -> None:
    text = re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)
    named = re.findall(r"`((?:sweeper|trainables|dashboards|tests|benchmarks|docs|examples)/[\w./-]+)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []
    for link, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text):
        assert (page.parent / link).exists(), link
        titles = re.findall(r"^#+ (.*)$", (page.parent / link).read_text() if anchor else "", re.MULTILINE)
        assert not anchor or anchor in [title.lower().replace(" ", "-") for title in titles], anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_part_of_a_spec_that_is_shown_is_good(page: Path) -> None:
    for shown in blocks(PAGES[page], "yaml"):
        loading.parse(yaml_text.write(yaml_text.read(SPEC, "").values | yaml_text.read(shown, "").values))


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
    "logs": "INFO epoch 1: train_loss",
    "clone": "wrote wider.yaml",
    "completion": "_ARGCOMPLETE",
}
PRINTED = [words for words in HERE if command(words) in EXPECTED]


@pytest.mark.parametrize("words", PRINTED, ids=[" ".join(words) for words in PRINTED])
def test_the_commands_work_in_the_order_in_which_they_are_printed(folder: Path, words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "sweeper", *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert EXPECTED[command(words)] in done.stdout


def test_the_notebook_that_is_shown_runs(folder: Path) -> None:
    (shown,) = blocks(PAGES[ROOT / "docs/mlflow.md"], "python")
    done = subprocess.run([sys.executable, "-P", "-c", shown], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_metric_of_ones_own_is_fifteen_lines_keeps_the_laws_and_can_be_an_objective(tmp_path: Path) -> None:
    text = section("docs/plugins.md", "Your own metric")
    (toml,), (python,) = blocks(text, "toml"), blocks(text, "python")
    assert len((toml + python).splitlines()) <= 15
    points = tomllib.loads(toml)["project"]["entry-points"]
    package = install(tmp_path / "package", "my-metrics", points, {"my_metrics": python})
    (words,) = (words for words in typed(text) if words[1:3] == ["plugins", "test"])
    done = sweeper(*words[1:], cwd=tmp_path, paths=[package])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("  good") == done.stdout.count("\n") - 1 >= 6
    (said,) = re.findall(r"`(objectives: .*?)`", text)
    (tmp_path / "sweep.yaml").write_text(f"name: x\n{said}\n")
    assert sweeper("validate", "sweep.yaml", "--no-data", cwd=tmp_path, paths=[package]).returncode == 0


def test_eight_gpus_train_eight_fits_at_a_time() -> None:
    (shown,) = blocks(section("docs/cluster.md", "Your 8 GPUs"), "yaml")
    spec = loading.parse(SPEC + shown)
    machine = Machines(1, 64.0, 8.0)
    assert machine.fits(1.0, spec.resources.gpus) == 8
    assert machine.fits(1.0, 0.25) == 32


def test_ui_serves_the_record_on_this_machine_only_prints_four_links_and_ends_where_a_script_put_it_aside(
    folder: Path,
) -> None:
    (words,) = [words for words in HERE if words[0] == "ui"]
    port = free_port()
    command = [sys.executable, "-m", "sweeper", *words, "--port", str(port)]
    server = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as a shell's `&` in a script
    )
    try:
        printed = "".join(server.stdout.readline() for _ in range(4))
        links = dict(re.findall(rf"^(.+?): +(http://127\.0\.0\.1:{port}/#/\S+)$", printed, re.MULTILINE))
        assert list(links) == ["the front", "the trials", "the sweep", "the models"]
        assert all("workflowType=machine_learning" in link for link in links.values())
        base = f"http://127.0.0.1:{port}/"
        with urllib.request.urlopen(base, timeout=30) as page:
            assert b"<head><script>localStorage" in page.read()  # the assistant does not open by itself
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{base}ajax-api/3.0/mlflow/assistant/config", timeout=30)
        foreign = urllib.request.Request(base, headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(foreign, timeout=30)
    finally:
        server.send_signal(signal.SIGINT)
        rest = server.communicate(timeout=60)
    assert (server.returncode, *rest) == (0, "", "")
    with socket.create_server(("127.0.0.1", port)):
        pass  # nobody has the port any more


def test_no_command_of_a_page_is_left_untested() -> None:
    assert set(map(command, HERE)) == set(EXPECTED) | {"ui"} | ELSEWHERE


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
    rows = re.findall(r"^\| `([\w/]+\.py)` \| (`[^|]+`) \|", PAGES[ROOT / "docs/code.md"], re.MULTILINE)
    assert len(rows) > 10
    lines = {
        f"{file}:{name}": lengths(ROOT / file)[name] for file, names in rows for name in re.findall(r"`([^`]+)`", names)
    }
    assert sum(lines.values()) <= 900, lines
