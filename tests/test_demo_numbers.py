"""What the README says of the demo is what the demo measured; `tests/cli/test_demo.py` runs it again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import demo
from sweeper.results.results import Results
from sweeper.spec import loading, presets
from sweeper.state.sweep_folder import SweepFolder
from tests import finished

ROOT = Path(__file__).parent.parent
NUMBERS = json.loads((ROOT / "docs" / "demo.json").read_text(encoding="utf-8"))


def test_the_readme_says_under_the_picture_what_the_demo_measured() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    below = re.search(r"\(docs/front\.png\)\n+\*(.*?)\*\n\n", readme, re.DOTALL)[1]
    assert " ".join(below.split()) == demo.caption(NUMBERS), "write it anew: make picture, then benchmarks.demo.caption"


def test_the_numbers_are_of_the_demo_as_it_is() -> None:
    spec = loading.load(presets.path("digits-demo"))
    epochs = spec.space.axes["epochs"].value
    kept = tuple(NUMBERS[name] for name in ("sweep_seed", "trials", "seeds", "epochs"))
    assert kept == (spec.search.seed, spec.search.trials, len(spec.search.seed_list), epochs)


def test_the_points_are_those_of_the_sweep_and_a_sure_one_is_ahead_in_every_case(tmp_path: Path) -> None:
    finished.sweep(tmp_path / "birds")
    results = Results.open(SweepFolder(tmp_path / "birds"))
    found = demo.measured(results)
    assert found["lora"]["number"] == 0
    assert found["recommended"]["number"] == results.named["knee"] == 2
    # 29 then 28 of 30, 4 then 5 of 10: accuracy .825 with either seed
    assert found["lora"]["accuracy"] == [0.825, 0.0]
    low, high = found["recommended"]["less"]
    assert low < found["recommended"]["delta_f1"][0] - found["lora"]["delta_f1"][0] < high
    sure = found["fairest_sure"]
    assert sure is None or sure["less"][1] < 0
    demo.draw(results, tmp_path / "front.png")
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("fair", [None, NUMBERS["lora"] | {"less": [-0.2, -0.1]}])
def test_a_sweep_without_a_sure_member_says_so(fair: dict[str, object] | None) -> None:
    said = demo.caption(NUMBERS | {"fairest_sure": fair})
    assert ("Of no member is delta F1 lower" in said) is (fair is None)
    assert (", lower by 0.100 to 0.200" in said) is (fair is not None)
