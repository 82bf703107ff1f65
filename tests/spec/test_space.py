"""The space: shorthand, conditions, grid, baselines, and what it says of slips."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.spec.faults import Faults
from sweeper.spec.space import Choice, Dimension, Fixed, Range, Space
from trainables.methods import METHODS
from trainables.params import PARAMS, Params, exists

FAIR = [name for name, method in METHODS.items() if method.fair]


def faults(written: object) -> list[str]:
    with pytest.raises(Faults) as caught:
        Space.parse(written)
    return str(caught.value).splitlines()


def middle(name: str, axis: Dimension) -> Any:
    """A draw without chance: the first choice, the low end."""
    return axis.values[0] if isinstance(axis, Choice) else axis.low


methods = st.lists(st.sampled_from(sorted(METHODS)), min_size=1, unique=True)
finite = st.fixed_dictionaries(
    {
        "method": methods,
        "epochs": st.lists(st.integers(1, 5), min_size=1, max_size=3, unique=True),
        "learning_rate": st.builds(lambda n: {"low": 1e-4, "high": 1e-2, "points": n}, st.integers(2, 4)),
    },
    optional={"batch_size": st.sampled_from([16, 32])},
)


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Finite spaces over any methods; lambda and rank are listed where some method has them."""
    written = draw(finite)
    for name, values in (("lambda", [0.1, 1.0, 10.0]), ("rank", [4, 8])):
        if any(exists(name, method) for method in written["method"]):
            written[name] = draw(st.lists(st.sampled_from(values), min_size=1, unique=True))
    return Space.parse(written)


def test_left_alone_the_space_searches_lambda_and_rank_with_both_ends_and_fixes_the_rest() -> None:
    dimensions = Space.of({}).dimensions
    assert dimensions["method"] == Fixed("fairlora")
    assert dimensions["lambda"] == Range(0.01, 100.0, log=True)
    assert dimensions["rank"] == Range(4, 128, log=True, integer=True)
    assert all(dimensions["rank"].contains(end) for end in (4, 128))
    rest = {name: axis for name, axis in dimensions.items() if name not in ("method", "lambda", "rank")}
    assert rest == {name: Fixed(PARAMS[name].default) for name in rest}
    assert set(dimensions) == {name for name in PARAMS if exists(name, "fairlora")} - {"blocks"}


def test_a_scalar_is_fixed_a_list_is_a_choice_a_mapping_is_a_range() -> None:
    dimensions = Space.parse({"rank": 16, "epochs": [2, 4], "lambda": {"low": 0.1}, "dropout": {}}).dimensions
    assert dimensions["rank"] == Fixed(16)
    assert dimensions["epochs"] == Choice((2, 4))
    assert dimensions["lambda"] == Range(0.1, 100.0, log=True)
    assert dimensions["dropout"] == Range(0.0, 0.5)


def test_blocks_are_part_of_a_point_only_where_the_space_says_them() -> None:
    """So that the points of sweeps that began before there were blocks are what they were."""
    assert "blocks" not in Space.parse({}).baseline("fairlora")
    space = Space.parse({"method": ["lora", "fft"], "blocks": [2, 6, 4], "epochs": 2})
    assert space.dimensions["blocks"] == Choice((2, 6, 4))
    assert space.baseline("lora")["blocks"] == 6  # the most: without a word it would be all
    assert "blocks" not in space.baseline("fft")
    wide = Space.parse({"method": "lora", "blocks": {"low": 1, "high": 12}})
    assert wide.dimensions["blocks"] == Range(1, 12, integer=True)
    assert wide.baseline("lora")["blocks"] == 12


def test_blocks_are_for_methods_with_an_adapter() -> None:
    assert "space.blocks has no meaning for fft" in faults({"method": "fft", "blocks": 4})[0]
    assert "space.blocks is 0" in faults({"blocks": 0})[0]
    assert "space.blocks has no usual range. Give both low and high" in faults({"blocks": {}})[0]


def test_a_list_of_one_is_fixed_and_values_in_a_mapping_are_a_list() -> None:
    dimensions = Space.parse({"rank": [8], "epochs": {"values": [1, 2]}, "batch_size": {}}).dimensions
    assert dimensions["rank"] == Fixed(8)
    assert dimensions["epochs"] == Choice((1, 2))
    assert dimensions["batch_size"] == Choice(PARAMS["batch_size"].choices)


def test_values_take_the_type_of_their_parameter() -> None:
    dimensions = Space.parse({"lambda": "1e-3", "alpha": 16, "rank": [4.0, 8]}).dimensions
    assert dimensions["lambda"] == Fixed(0.001)
    assert dimensions["alpha"] == Fixed("16")
    assert dimensions["rank"].plain() == [4, 8]
    assert all(type(value) is int for value in dimensions["rank"].plain())


def test_what_no_method_has_is_not_in_the_space() -> None:
    assert not {"lambda", "rank"} & set(Space.parse({"method": "fft"}).dimensions)
    assert "lambda" not in Space.parse({"method": ["lora", "fft"]}).dimensions


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ({"rank": 0}, "space.rank is 0. Use 1 or more."),
        ({"rank": 1.5}, "space.rank is 1.5. Use a whole number."),
        ({"lambda": -1}, "space.lambda is -1. Use 0 or more."),
        ({"lambda": float("nan")}, "space.lambda is nan. Use a finite number."),
        ({"epochs": "ten"}, "space.epochs is 'ten'. Use a whole number."),
        ({"epochs": True}, "space.epochs is true. Use a finite number."),
        ({"epochs": None}, "space.epochs is empty. Use a whole number."),
        ({"epochs": [2, 2]}, "space.epochs[1] is 2. The list has it already: keep one."),
        ({"epochs": []}, "space.epochs is []. Give a list with at least one value."),
        ({"lambda": {"low": 3, "high": 2}}, "space.lambda has low 3 above high 2. Exchange or widen them."),
        ({"lambda": {"low": 3, "high": 3}}, "space.lambda has low 3 = high. For one value write `lambda: 3`."),
        ({"lambda": {"low": 0}}, "space.lambda has low 0 on a log axis. Use a low above 0, or log: false."),
        ({"lambda": {"points": 1}}, "space.lambda.points is 1. Use a whole number, 2 or more."),
        ({"lambda": {"log": 1}}, "space.lambda.log is 1. Use true or false."),
        ({"batch_size": {"low": 8}}, "space.batch_size has no usual range. Give both low and high, or a list."),
        (
            {"layers": {"low": 1}},
            "space.layers is {'low': 1}. Use a value or a list, of qkv, attention, attention+mlp.",
        ),
        (["lambda"], "space is ['lambda']. Use a mapping such as `lambda: {low: 0.01, high: 100}`."),
    ],
)
def test_a_slip_is_told_with_place_given_and_mend(written: object, sentence: str) -> None:
    assert faults(written) == [sentence]


@pytest.mark.parametrize(
    ("written", "start"),
    [
        ({"lamda": 1}, "space.lamda is unknown. Did you mean 'lambda'? Known: alpha, batch_size,"),
        ({"rank": {"lo": 4}}, "space.rank.lo is unknown. Did you mean 'low'? Known: high, log, low, points, values."),
        ({"method": "fairlra"}, "space.method is 'fairlra'. Did you mean 'fairlora'? Known: fairfft, fairlora,"),
        ({"alpha": "2 rank"}, "space.alpha: '2 rank' is not an alpha rule. Use a number such as 16, or '2*rank'."),
        ({"method": "lora", "lambda": 1}, "space.lambda has no meaning for lora. Remove it, or let space.method have"),
    ],
)
def test_a_wrong_name_is_told_with_the_nearest_and_the_known(written: object, start: str) -> None:
    (told,) = faults(written)
    assert told.startswith(start)


def test_all_slips_of_the_section_are_told_at_once() -> None:
    told = faults({"lamda": 1, "rank": 0, "epochs": [1, "x", True], "lambda": {"low": -1, "points": 0}})
    assert len(told) == 6


@given(spaces(), st.randoms(use_true_random=False))
def test_a_walk_draws_the_method_first_and_only_what_it_has(space: Space, chance: random.Random) -> None:
    asked = []

    def draw(name: str, axis: Dimension) -> Any:
        asked.append(name)
        return chance.choice(axis.grid())

    point = space.walk(draw)
    assert next(iter(point)) == "method"
    assert set(point) == {name for name in space.dimensions if exists(name, point["method"])}
    assert asked == [name for name in point if not isinstance(space.dimensions[name], Fixed)]
    assert space.contains(point)
    assert Params.from_flat(point).to_flat() == point


@given(spaces())
def test_a_grid_has_every_point_once_and_is_as_long_as_its_size(space: Space) -> None:
    grid = space.grid()
    assert len(grid) == space.size()
    assert len({tuple(sorted(point.items())) for point in grid}) == len(grid)
    assert all(space.contains(point) for point in grid)
    assert grid == space.grid()


def test_a_grid_of_plain_and_fair_counts_lambda_only_for_the_fair() -> None:
    space = Space.parse({"method": ["lora", "fairlora", "fft"], "lambda": {"points": 5}, "rank": [8, 16]})
    grid = space.grid()
    assert [sum(point["method"] == method for point in grid) for method in ("lora", "fairlora", "fft")] == [2, 10, 1]
    assert [point["lambda"] for point in grid if point.get("rank") == 8 and "lambda" in point] == [
        0.01,
        0.1,
        1,
        10,
        100,
    ]


def test_points_are_evenly_spaced_with_both_ends_and_whole_where_the_parameter_is() -> None:
    assert Range(0, 1, points=3).grid() == (0, 0.5, 1)
    assert Range(4, 128, log=True, integer=True, points=6).grid() == (4, 8, 16, 32, 64, 128)
    assert Range(1, 3, integer=True, points=9).grid() == (1, 2, 3)


BY_METHOD = {"method": ["lora", "fft"], "rank": 8, "epochs": {"lora": [2, 12], "fft": [1, 2, 3]}}


def test_a_parameter_may_have_a_dimension_for_each_method() -> None:
    space = Space.parse(BY_METHOD)
    epochs = Counter((point["method"], point["epochs"]) for point in space.grid())
    assert epochs == {("lora", 2): 1, ("lora", 12): 1, ("fft", 1): 1, ("fft", 2): 1, ("fft", 3): 1}
    assert space.size() == 5
    assert all(space.contains(point) for point in space.grid())
    assert not space.contains({**space.grid()[0], "epochs": 1})  # which only fft has
    assert Space.parse(space.plain()) == space
    assert space.baseline("fft")["epochs"] in (1, 2, 3)


def test_an_axis_that_only_one_method_has_goes_under_a_label_of_its_own() -> None:
    space = Space.parse(BY_METHOD)
    asked: list[str] = []
    point = space.walk(lambda label, axis: (asked.append(label), middle(label, axis))[1])
    assert asked == ["method", "epochs[lora]"]
    assert (point["method"], point["epochs"]) == ("lora", 2)
    assert space.coordinates(point)["epochs[lora]"] == 2


@pytest.mark.parametrize(
    ("epochs", "sentence"),
    [
        ({"lora": [2, 4]}, "space.epochs has no dimension for fft. Add it, or write one for all methods."),
        ({"lora": 2, "fft": 2, "probe": 3}, "space.epochs.probe is for a method that this sweep does not have"),
        ({"lora": 2, "ftt": 2}, "Did you mean 'fft'?"),
        ({"lora": 2, "fft": [1, "two"]}, "space.epochs.fft[1] is 'two'."),
    ],
)
def test_a_slip_in_one_method_s_dimension_is_told_at_its_place(epochs: object, sentence: str) -> None:
    assert sentence in " ".join(faults(BY_METHOD | {"epochs": epochs}))


def test_a_grid_without_points_is_refused_with_its_mend() -> None:
    space = Space.parse({"rank": 8})
    assert space.continuous == ["lambda"]
    assert space.size() is None
    with pytest.raises(Faults, match=r"space.lambda is a range without points.* Use a list, or add `points: 5`"):
        space.grid()


def test_the_space_of_a_method_alone_has_what_the_space_gives_it_and_the_usual_where_that_gives_nothing() -> None:
    written = {"method": ["fairlora", "fft"], "rank": [4, 8], "epochs": {"fairlora": 4, "fft": [1, 2]}}
    space = Space.parse(written)
    assert space.alone("lora").plain()["rank"] == [4, 8]
    assert "lambda" not in space.alone("lora").dimensions
    assert space.alone("fft").dimensions["epochs"] == Choice((1, 2))
    assert space.alone("lora").dimensions["epochs"] == Fixed(8)
    assert Space.parse({"method": "fft"}).alone("lora") == Space.parse({"method": "lora"})
    for method in ("lora", "fft", "fairlora"):
        assert space.alone(method).contains(space.baseline(method))


def test_a_baseline_keeps_what_is_fixed_and_has_no_lambda() -> None:
    space = Space.parse({"epochs": 3, "rank": {"low": 16, "high": 64}, "learning_rate": [1e-3, 1e-2]})
    lora = space.baseline("lora")
    assert "lambda" not in lora
    assert (lora["method"], lora["epochs"], lora["rank"], lora["learning_rate"]) == ("lora", 3, 16, 1e-3)
    assert "rank" not in space.baseline("fft")


@given(spaces(), st.sampled_from(sorted(METHODS)))
def test_every_baseline_is_a_complete_point_of_its_method(space: Space, method: str) -> None:
    point = space.baseline(method)
    assert Params.from_flat(point).to_flat() == point
    assert space.contains(point) or not space.dimensions["method"].contains(method)


def test_a_point_outside_or_with_a_name_too_many_or_too_few_is_not_contained() -> None:
    space = Space.of({})
    point = space.walk(middle)
    assert space.contains(point)
    assert not space.contains({**point, "rank": 129})
    assert not space.contains({**point, "rank": 8.5})
    assert not space.contains({**point, "rank": True})
    assert not space.contains({**point, "method": "lora"})
    assert not space.contains({name: value for name, value in point.items() if name != "lambda"})
    assert not space.contains({})


@given(spaces())
def test_the_shorthand_that_a_space_writes_reads_back_equal(space: Space) -> None:
    assert Space.parse(space.plain()) == space


@pytest.mark.parametrize("name", [name for name in PARAMS if name not in ("method", "blocks")])
def test_an_empty_mapping_means_the_usual_range_of_every_parameter(name: str) -> None:
    axis = Space.parse({"method": list(METHODS), name: {}}).dimensions[name]
    assert not isinstance(axis, Fixed)
    assert axis.contains(PARAMS[name].default)
