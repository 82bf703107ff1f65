"""The shape of the code in numbers: modules a folder, floors, upward imports, cycles, lines, doubled names.

    python -m benchmarks.structure                 # this checkout
    python -m benchmarks.structure OTHER [OTHER]   # other checkouts, for before and after side by side

A *room* is a folder of a package, or a module beside the folders. Imports for type checking alone do not count.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

PACKAGES = ("sweeper", "trainables", "dashboards")
LAYERS = """cli/screen/cluster engine/record/report/models/results/state/front spec/errors trial"""  # top to bottom
_GRAPH = """
import grimp, json, sys
graph = grimp.build_graph(*sys.argv[1:], cache_dir=None, exclude_type_checking_imports=True)
print(json.dumps({name: sorted(graph.find_modules_directly_imported_by(name)) for name in graph.modules}))
"""


def imports(root: Path) -> dict[str, set[str]]:
    """Module -> the modules of the three packages that it imports. Read by a program that stands in the checkout."""
    done = subprocess.run(
        [sys.executable, "-c", _GRAPH, *PACKAGES], cwd=root, capture_output=True, text=True, check=True
    )
    return {name: set(others) for name, others in json.loads(done.stdout).items()}


def room(module: str) -> str:
    """`sweeper.engine.queue` and `sweeper.engine` are in `sweeper.engine`, `sweeper.trial` is a room of its own."""
    return ".".join(module.split(".")[:2])


def between(graph: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    """Room -> the other rooms that its modules import."""
    rooms: dict[str, set[str]] = {room(module): set() for module in graph}
    for module, others in graph.items():
        rooms[room(module)] |= {room(other) for other in others} - {room(module)}
    return rooms


def circles(graph: Mapping[str, Iterable[str]]) -> list[set[str]]:
    """The sets of nodes that import each other, directly or on a way round."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting += graph.get(node, ())
        reached[start] = seen
    sets = [frozenset(b for b in reached if b in reached[a] and a in reached[b]) for a in reached if a in reached[a]]
    return [set(circle) for circle in dict.fromkeys(sets)]


def floors(graph: Mapping[str, Iterable[str]]) -> int:
    """Nodes on the longest way down; nodes on a circle share a floor."""
    home = {node: min(circle) for circle in circles(graph) for node in circle}
    below = {home.get(node, node): set[str]() for node in graph}
    for node, others in graph.items():
        below[home.get(node, node)] |= {home.get(other, other) for other in others} - {home.get(node, node)}
    depth: dict[str, int] = {}

    def down(node: str) -> int:
        if node not in depth:
            depth[node] = 1 + max((down(other) for other in below[node]), default=0)
        return depth[node]

    return max(map(down, below))


def upward(graph: Mapping[str, Iterable[str]]) -> int:
    """Imports from a layer of `sweeper` into one above it, or beside it on the same layer."""
    height = {f"sweeper.{name}": -n for n, layer in enumerate(LAYERS.split("/")) for name in layer.split()}
    pairs = ((room(a), room(b)) for a, others in graph.items() for b in others)
    return sum(a != b and height.get(a, 0) <= height.get(b, -99) for a, b in pairs if a in height and b in height)


def measures(root: Path) -> dict[str, object]:
    """Everything that is printed of one checkout."""
    files = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in files}
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    functions = sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes)
    classes = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    folders = Counter(str(path.parent.relative_to(root)) for path in files if path.name != "__init__.py")
    graph = imports(root)
    rooms = between(graph)
    return {
        "modules": len(files),
        "modules in the fullest folder": "{1} ({0})".format(*folders.most_common(1)[0]),
        "rooms": len(rooms),
        "arrows between rooms": sum(map(len, rooms.values())),
        "floors of rooms": floors(rooms),
        "circles of rooms": "; ".join(" ".join(sorted(circle)) for circle in circles(rooms)) or "none",
        "circles of modules": "; ".join(" ".join(sorted(circle)) for circle in circles(graph)) or "none",
        "upward imports in sweeper": upward(graph),
        "lines": lines,
        "functions per 1,000 lines": round(1000 * functions / lines, 1),
        "files above 400 lines": sum(len(path.read_text(encoding="utf-8").splitlines()) > 400 for path in files),
        "class names that occur twice": ", ".join(sorted(name for name, n in classes.items() if n > 1)) or "none",
    }


def main() -> None:
    """Print one column for each checkout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[Path(__file__).parent.parent])
    columns = [measures(path.resolve()) for path in parser.parse_args().checkouts]
    for name in columns[0]:
        print(f"{name:32}", *(f"{column[name]!s:>28}" for column in columns))


if __name__ == "__main__":
    main()
