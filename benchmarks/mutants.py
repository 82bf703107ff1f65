"""How many mutants of the recipe of training, and of what chooses, the tests notice.

    python benchmarks/mutants.py --share 0.1 --seed 18

mutmut changes one operator, number, name or argument of a function at a time; `tool.mutmut` in pyproject.toml says of
which modules, and which tests then run. A share of each module's mutants is drawn at random; a share of 1 tries them
all and takes hours. It prints how many were noticed, and names those that were not: `mutmut show NAME` has the change.
Which of them change nothing that anybody sees is told in benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
NOTICED = {"killed", "timeout", "segfault", "suspicious"}  # suspicious: noticed, and slowly


def main() -> None:
    """Draw, try, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=18)
    asked = parser.parse_args()
    _mutmut("run", "*x_one_cycle__mutmut_1")  # one, so that all are written and it is known which test calls what
    everyone = _statuses()
    chosen = _drawn(sorted(everyone), asked.share, asked.seed)
    _mutmut("run", *chosen)
    tried = {name: status for name, status in _statuses().items() if name in set(chosen)}
    _show(Counter(map(_module, everyone)), tried)


def _mutmut(*words: str, quiet: bool = False) -> str:
    command = [sys.executable, "-m", "mutmut", *words]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE if quiet else None, text=True)
    if done.returncode:
        sys.exit(f"mutmut {words[0]} ended with {done.returncode}")
    return done.stdout or ""


def _statuses() -> dict[str, str]:
    """What became of each mutant; `not checked` where it was not tried."""
    lines = _mutmut("results", "--all", "true", quiet=True).splitlines()
    return dict(line.strip().split(": ", 1) for line in lines if "__mutmut_" in line)


def _module(name: str) -> str:
    return re.split(r"\.x[_ǁ]", name)[0]


def _drawn(names: list[str], share: float, seed: int) -> list[str]:
    """The share of each module, at least one."""
    by_module = defaultdict(list)
    for name in names:
        by_module[_module(name)].append(name)
    rng = random.Random(seed)
    return [name for own in by_module.values() for name in rng.sample(own, max(1, round(share * len(own))))]


def _show(all_of: Counter[str], tried: dict[str, str]) -> None:
    print("\n| module | mutants | tried | noticed |\n|---|---|---|---|")
    tried_of = Counter(map(_module, tried))
    noticed_of = Counter(_module(name) for name, status in tried.items() if status in NOTICED)
    for module in sorted(tried_of):
        print(f"| {module} | {all_of[module]} | {tried_of[module]} | {noticed_of[module]} |")
    print(f"| all | {all_of.total()} | {tried_of.total()} | {noticed_of.total()} |\n")
    for name, status in sorted(tried.items()):
        if status not in NOTICED:
            print(f"{status}: {name}")


if __name__ == "__main__":
    main()
