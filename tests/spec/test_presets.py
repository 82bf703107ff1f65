"""Every shipped sweep is valid, small where it says so, and points editors to the schema that is true."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml

from sweeper.errors import UserError
from sweeper.spec import presets
from sweeper.spec.loading import load, parse, schema
from sweeper.spec.yaml_text import read

VALIDATOR = jsonschema.Draft202012Validator(schema())
NAMES = presets.names()


def editor(text: str) -> list[str]:
    """What an editor underlines in a text."""
    return [error.message for error in VALIDATOR.iter_errors(read(text, "sweep.yaml").values)]


def test_the_shipped_presets_are_listed_the_smallest_first() -> None:
    assert NAMES[:3] == ["tiny", "digits-demo", "waterbirds-dry"]
    assert {path.stem for path in presets.FOLDER.glob("*.yaml")} == set(NAMES)


def test_an_unknown_preset_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"preset 'digit-demo' is unknown. Did you mean 'digits-demo'"):
        presets.path("digit-demo")


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_a_spec_of_its_own_name(name: str) -> None:
    assert load(presets.path(name)).name == name


@pytest.mark.parametrize("name", NAMES)
def test_an_editor_finds_nothing_wrong_with_a_preset(name: str) -> None:
    assert editor(presets.path(name).read_text()) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_begins_with_the_line_that_points_to_the_schema(name: str) -> None:
    first = presets.path(name).read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=./sweep.schema.json"


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_means_the_same_to_yaml_1_1_but_for_numbers_with_an_exponent(name: str) -> None:
    text = presets.path(name).read_text()
    assert read(text, name).values == _numbers(yaml.safe_load(text))


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if isinstance(value, str) and value[:1].isdigit() and "e-" in value else value


def test_the_committed_schema_is_the_one_that_the_code_gives() -> None:
    committed = json.loads(presets.JSON_SCHEMA.read_text())
    assert committed == schema(), "write it anew: sweeper schema > sweeper/spec/presets/sweep.schema.json"


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


def test_the_demo_asks_what_its_documentation_promises() -> None:
    spec = load(presets.path("digits-demo"))
    assert spec.search.trials >= 16
    assert len(spec.search.seed_list) == 8
    assert spec.search.baselines == ("lora",)
    assert spec.groups == "cell"


def test_the_tiny_sweep_is_four_fits_of_two_epochs() -> None:
    spec = load(presets.path("tiny"))
    assert spec.budget * len(spec.search.seed_list) == 4
    assert spec.space.baseline("lora")["epochs"] == 2


GOOD = [
    "name: x",
    "name: x\nspace: {lambda: {points: 2}, rank: 8, epochs: [2, 4], learning_rate: {low: 1e-4, points: 3}}\n"
    "search: {sampler: grid}",
    "name: x\nspace: {layers: 'attn.qkv,mlp.fc1', variant: [lora, dora]}",
    "name: x\nspace: {lambda: {}, layers: {}, batch_size: {low: 16, high: 64, log: true}}",
    "name: x\nspace: {lambda: {values: [0.1, 1]}, alpha: 16, method: [lora, fairlora]}",
    "name: x\nconstraints: {accuracy: '>= 0.8', delta_f1: {max: 0.2}}",
    "name: x\nsearch: {seeds: [3, 4], baselines: [fft]}\nresources: {gpus: 0.5, cpus: auto}",
    "name: x\nbackbone: {name: 'timm:vit_tiny_patch16_224'}",
    "name: x\nobjectives: {worst_group_accuracy: max}\nstorage: {study: null}",
]


@pytest.mark.parametrize("text", GOOD)
def test_the_editor_accepts_what_the_parser_accepts(text: str) -> None:
    assert editor(text) == []
    assert parse(text).name == "x"


SLIPS = [
    "data: {}",
    "name: Upper",
    "name: x\nserch: {}",
    "name: x\nspace: {lamda: 1}",
    "name: x\nspace: {rank: 0}",
    "name: x\nspace: {rank: [8, eight]}",
    "name: x\nspace: {rank: []}",
    "name: x\nspace: {rank: {lo: 4}}",
    "name: x\nspace: {layers: {low: 1}}",
    "name: x\nspace: {method: lroa}",
    "name: x\nspace: {variant: dra}",
    "name: x\nspace: {alpha: 2 rank}",
    "name: x\nobjectives: {acuracy: max}",
    "name: x\nobjectives: {delta_f1: minimise}",
    "name: x\nobjectives: {delta_f1: max}",
    "name: x\nconstraints: {accuracy: '> 0.8'}",
    "name: x\nconstraints: {accuracy: {}}",
    "name: x\nsearch: {sampler: tpee}",
    "name: x\nsearch: {trials: 0}",
    "name: x\nsearch: {trials: true}",
    "name: x\nsearch: {baselines: [lroa]}",
    "name: x\nsearch: {reference: {acuracy: 1}}",
    "name: x\nresources: {gpus: -1}",
    "name: x\nbackbone: {name: smal-vit}",
    "name: x\ndata: {name: digit}",
    "name: x\nstorage: {keep_weights: none}",
]


@pytest.mark.parametrize("text", SLIPS)
def test_the_editor_and_the_parser_both_refuse_a_slip(text: str) -> None:
    assert editor(text)
    with pytest.raises(UserError):
        parse(text)


def test_every_parameter_and_metric_is_completed_and_explained_by_the_editor() -> None:
    properties = schema()["properties"]
    for section in ("space", "objectives", "constraints"):
        assert all(entry["description"] for entry in properties[section]["properties"].values())
    assert properties["space"]["properties"]["lambda"]["description"].endswith(
        "Default: searched from 0.01 to 100 on a log axis."
    )
