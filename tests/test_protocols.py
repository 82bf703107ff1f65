"""The papers' presets: one table of what each paper states, held against every file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from sweeper.spec import presets
from sweeper.spec.dimensions import Choice, Fixed, Range
from sweeper.spec.loading import load
from sweeper.spec.model import SweepSpec
from trainables.backbones import BACKBONES
from trainables.data import DATASETS


@dataclass(frozen=True)
class Protocol:
    """What a paper fixes; `grid` is what its grid lists, `points` how many of them each method has."""

    dataset: str
    backbone: str
    groups: str
    seeds: int
    objectives: tuple[str, ...]
    grid: dict[str, tuple[Any, ...]]
    points: dict[str, int]
    options: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 32
    warmup: float = 0.01
    flip: bool = True

    @property
    def fits(self) -> int:
        return sum(self.points.values()) * self.seeds


# FairLoRA, section 6.1: lambda "in the range of [0.01, 100], in multiples of 10", ranks "[8, 128]", 3 seeds. It
# searched rates and did not print them: those of the other paper, for every method.
RATES = (1e-5, 5e-5, 1e-4, 3e-4)
LAMBDAS = (0.01, 0.1, 1.0, 10.0, 100.0)
RANKS = (8, 16, 32, 64, 128)
FAIRLORA = {
    "seeds": 3,
    "groups": "class",
    "objectives": ("accuracy", "delta_f1"),
    "grid": {"lambda": LAMBDAS, "rank": RANKS, "learning_rate": RATES},
    "points": {"lora": 20, "fairlora": 100, "fft": 4, "fairfft": 20},
}
DATA: dict[str, dict[str, Any]] = {
    "waterbirds": {},
    "geode": {},
    "aircraft": {"validation": "from-trainval", "crop_banner": True},
}
BACKBONE = {
    "clip": "vit_base_patch32_clip_224.laion2b",
    "dino": "vit_base_patch16_224.dino",
    "vit": "vit_base_patch16_224.augreg2_in21k_ft_in1k",
}
# On Fairness of LoRA, section 5.1: rates, and epochs that differ between the methods.
UTKFACE = {
    "dataset": "utkface",
    "groups": "attribute",
    "seeds": 5,
    "objectives": ("accuracy", "accuracy_spread_by_attribute"),
    "grid": {
        "learning_rate": RATES,
        "epochs[fft]": (1, 2, 3, 4, 6, 8),
        "epochs[lora]": (2, 4, 6, 8, 12),
        "rank": (8,),
    },
    "points": {"lora": 20, "fft": 24},
    "options": {"task": "gender"},
}
DLAB = UTKFACE | {
    "dataset": "dlab-hate-speech",
    "groups": "overlapping",
    "objectives": ("accuracy", "accuracy_spread_by_attribute/overlapping"),
    "options": {"subset": "race"},
    "flip": False,
}
PROTOCOLS: dict[str, Protocol] = {
    f"fairlora-{dataset}-{short}": Protocol(dataset=dataset, backbone=backbone, options=options, **FAIRLORA)
    for dataset, options in DATA.items()
    for short, backbone in BACKBONE.items()
} | {
    "lora-fairness-utkface-vit": Protocol(backbone="vit_base_patch16_224.orig_in21k", **UTKFACE),
    "lora-fairness-utkface-swinv2": Protocol(backbone="swinv2_large_window12_192.ms_in22k", **UTKFACE),
    "lora-fairness-dlab-llama2": Protocol(backbone="transformers:meta-llama/Llama-2-7b-hf", **DLAB),
    "lora-fairness-dlab-mistral": Protocol(backbone="transformers:mistralai/Mistral-7B-v0.1", **DLAB),
}
FILES = [name + ending for name in PROTOCOLS for ending in ("", "-search")]


def spec_of(name: str) -> SweepSpec:
    return load(presets.path(name))


def words(name: str) -> str:
    """The comment at the top, as one line."""
    lines = presets.path(name).read_text().split("name:")[0].splitlines()[1:]
    return " ".join(line.removeprefix("#").strip() for line in lines)


def test_each_protocol_is_a_preset_and_each_preset_a_protocol() -> None:
    assert set(presets.names()) - {"tiny", "digits-demo", "waterbirds-dry"} == set(FILES)
    assert len(FILES) == 26


@pytest.mark.parametrize("name", FILES)
def test_a_file_asks_for_the_data_the_model_and_the_training_that_the_paper_states(name: str) -> None:
    spec, protocol = spec_of(name), PROTOCOLS[name.removesuffix("-search")]
    assert (spec.data.name, spec.backbone.name, spec.groups) == (protocol.dataset, protocol.backbone, protocol.groups)
    assert spec.data.name in DATASETS
    assert spec.backbone.name in BACKBONES
    assert spec.backbone.weights == "pretrained"
    assert {option: getattr(spec.data, option) for option in protocol.options} == protocol.options
    assert len(spec.search.seed_list) == protocol.seeds
    assert tuple(spec.objectives) == protocol.objectives
    assert spec.space.dimensions["batch_size"] == Fixed(protocol.batch_size)
    assert spec.space.dimensions["method"].grid() == tuple(protocol.points)
    assert (spec.train.warmup, spec.train.flip, spec.train.reduction) == (protocol.warmup, protocol.flip, "sum")


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_grid_holds_exactly_the_points_of_the_paper(name: str) -> None:
    spec, protocol = spec_of(name), PROTOCOLS[name]
    assert spec.search.sampler == "grid"
    for parameter, values in protocol.grid.items():
        assert spec.space.axes[parameter].grid() == values
    grid = spec.space.grid()
    assert Counter(point["method"] for point in grid) == protocol.points
    assert spec.budget == len(grid) == spec.search.trials
    others = spec.space.axes.keys() - protocol.grid.keys() - {"method"}
    assert all(isinstance(spec.space.axes[other], Fixed) for other in others)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_searching_version_covers_the_grid_and_costs_no_more(name: str) -> None:
    grid, search = spec_of(name), spec_of(f"{name}-search")
    assert search.search.sampler != "grid"
    assert search.search.baselines == ("lora", "fft")
    assert search.budget * len(search.search.seed_list) <= PROTOCOLS[name].fits
    assert all(search.space.contains(point) for point in grid.space.grid())
    for parameter in PROTOCOLS[name].grid.keys() - {"rank"}:
        found = search.space.dimensions[parameter.partition("[")[0]]
        assert isinstance(found, Range)
        assert found.log
    same = ("data", "backbone", "groups", "objectives", "train")
    assert all(getattr(grid, part) == getattr(search, part) for part in same)


@pytest.mark.parametrize("name", FILES)
def test_the_comment_says_what_it_reproduces_how_it_chooses_and_what_it_costs(name: str) -> None:
    spec, text = spec_of(name), words(name)
    assert ("FairLoRA, section 6" if name.startswith("fairlora") else "On Fairness of Low-Rank Adaptation") in text
    assert "Choosing: the paper chose" in text
    assert "test comes after the choice" in text
    assert "Unstated" in text
    if name in PROTOCOLS and name.startswith("fairlora"):
        assert 'Searched in the paper for each method ("a comprehensive hyperparameter search") and not printed' in text
    seeds = len(spec.search.seed_list)
    assert f"Cost: {spec.budget} configurations x {seeds} seeds = {spec.budget * seeds} fits" in text


def test_the_choice_of_a_listed_parameter_is_a_list_in_the_paper_s_order() -> None:
    assert spec_of("fairlora-geode-dino").space.dimensions["lambda"] == Choice(LAMBDAS)
