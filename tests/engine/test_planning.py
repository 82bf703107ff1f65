"""What a plan says of what is frozen, before anything of it is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.engine import planning
from sweeper.engine.planning import Plan
from sweeper.spec import loading
from trainables import packing
from trainables.contracts.bench import drawn
from trainables.finetuning import FineTuning
from trainables.params import Params

SPEC = """
name: birds
backbone: {weights: none}
groups: cell
space: {method: [lora, fft], blocks: [2, 1, 3], rank: 4, batch_size: 4}
resources: {prefix: %s}
search: {trials: 4, baselines: []}
"""
EACH = "what is frozen is computed once for each number of blocks"
SIZE = "6.96e-05 GB"  # 8 images to train and 8 to validate, each 17 tokens of 64 numbers of 4 bytes


@pytest.mark.parametrize(
    ("prefix", "of_two", "of_all"),
    [
        ("auto", f"computed once: {SIZE}; {EACH}: {SIZE} for blocks 1", SIZE),
        ("off", "computed in every step: resources.prefix is off", ""),
    ],
)
def test_a_plan_tells_the_size_of_what_is_frozen_for_each_number_of_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str, of_two: str, of_all: str
) -> None:
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    spec = loading.parse(SPEC % prefix)
    tuning = FineTuning(spec.task(), device="cpu", threads=1, prefix=spec.resources.prefix)
    tuning.prepare(drawn(tmp_path))
    two = Params.from_flat(spec.space.baseline("lora") | {"blocks": 2})
    tuning.aim(two, seed=0)
    assert planning.frozen_note(tuning, spec, two) == f"1 of 3 blocks are frozen, and {of_two}"
    most = Params.from_flat(spec.space.baseline("lora"))
    tuning.aim(most, seed=0)
    assert planning.frozen_note(tuning, spec, most).count(f"{of_all} for blocks") == (2 if of_all else 0)
    full = Params.from_flat(spec.space.baseline("fft"))
    tuning.aim(full, seed=0)
    assert planning.frozen_note(tuning, spec, full) == ""
    wide = loading.parse(SPEC.replace("[2, 1, 3]", "{low: 1, high: 3}") % prefix)
    tuning.aim(most, seed=0)
    assert (planning.frozen_note(tuning, wide, most) == f"{EACH}: {SIZE} for blocks 1") is (prefix == "auto")


@pytest.mark.parametrize(
    ("pack", "found"),
    [
        ("off", (1, 1.0, "")),
        ("auto", (4, 1.5, "packing: 4 fits at once. Measured, times as fast as one by one: 1.20 with 2, 1.50 with 4.")),
        (3, (3, 0.9, "packing: 3 fits at once. Measured, times as fast as one by one: 0.90 with 3.")),
    ],
)
def test_a_plan_measures_what_packs_gain(
    monkeypatch: pytest.MonkeyPatch, pack: object, found: tuple[int, float, str]
) -> None:
    ratios = {2: 1.2, 3: 0.9, 4: 1.5, 8: 1.4}
    monkeypatch.setattr(packing, "gain", lambda tuning, params: ratios[len(params)])
    spec = loading.changed(loading.parse(SPEC % "auto"), {"resources.pack": pack})
    told = planning._packs(FineTuning(spec.task(), device="cpu", threads=1), spec, ["fft", "lora"])
    assert told == (*found[:2], found[2].replace("1.50 with 4", "1.50 with 4, 1.40 with 8"))


def test_fits_that_a_worker_trains_at_once_take_its_time_together() -> None:
    alone = Plan("s", 24, {}, 1, 2, "cpu", ("lora",), 4, {"lora": 10.0}, 0.0, False)
    packed = Plan("s", 24, {}, 1, 2, "cpu", ("lora",), 4, {"lora": 10.0}, 0.0, False, at_once=4, faster=2.0)
    assert (alone.waves, alone.total_s) == (12, 12 * 40)
    assert (packed.waves, packed.total_s) == (3, 3 * 4 * 20)
    assert "24 fits, 8 at once on cpu: 3 waves" in str(packed)
