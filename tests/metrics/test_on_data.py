"""What a dataset cannot give is told before a fit is paid for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sweeper.errors import UserError
from sweeper.spec import on_data
from sweeper.spec.loading import parse
from trainables import data
from trainables.data.base import Dataset, Split


def faces(cell: int, attribute: bool = True) -> Dataset:
    """Two classes and two values of the attribute; in every split 20 of each cell, but `cell` of the last."""
    counts = [20, 20, 20, cell]
    labels_N, values_N = np.repeat([0, 0, 1, 1], counts), np.repeat([0, 1, 0, 1], counts)
    paths = tuple(Path(f"/{i}.png") for i in range(sum(counts)))
    splits = {name: Split(name, paths, labels_N, values_N if attribute else None) for name in ("train", "val", "test")}
    return Dataset("faces", Path("/"), ("no", "yes"), ("a", "b") if attribute else (), splits)


def undefined(dataset: Dataset, *lines: str) -> list[str]:
    return on_data.undefined(parse("\n".join(["name: x", *lines])), dataset)


def test_an_objective_over_too_small_a_group_is_told_with_its_mend() -> None:
    objective = "objectives: {accuracy: max, accuracy_spread_by_cell: min}"
    assert undefined(faces(9), objective) == [
        "objectives.accuracy_spread_by_cell would be undefined on faces's validation split: "
        "group yes|b has 9 examples, fewer than min_group 10. "
        "Use another metric, more examples, or a lower metrics.min_group."
    ]
    assert undefined(faces(10), objective) == []
    assert undefined(faces(9), objective, "metrics: {min_group: 9}") == []
    assert undefined(faces(9), "objectives: {accuracy: max, accuracy_spread_by_attribute: min}") == []


def test_a_constraint_counts_too_and_so_does_a_metric_that_the_data_can_never_have() -> None:
    asked = ("objectives: {accuracy: max, eod: min}", "constraints: {worst_accuracy_by_attribute: '>= 0.5'}")
    found = undefined(faces(20, attribute=False), *asked)
    assert [sentence.split(" would")[0] for sentence in found] == [
        "constraints.worst_accuracy_by_attribute", "objectives.eod",
    ]  # fmt: skip
    assert all("the data has no sensitive attribute. Use another metric." in sentence for sentence in found)


def test_a_method_that_is_measured_on_half_of_validation_needs_twice_the_examples() -> None:
    asked = ("groups: cell", "objectives: {worst_accuracy_by_cell: max}", "space: {method: [lora, lora-dfr]}")
    assert undefined(faces(20), *asked) == []
    (sentence,) = undefined(faces(18), *asked)
    assert "split (lora-dfr is measured on half of it): group yes|b has 9 examples" in sentence


def test_every_metric_is_defined_for_the_data_that_it_is_about() -> None:
    assert undefined(faces(20), "objectives: {accuracy: max, loss: min, ece: min, adjusted_accuracy: max}") == []


def test_data_that_is_not_here_is_not_looked_at_and_data_that_is_may_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = parse(
        f"name: x\ndata: {{name: waterbirds, root: {tmp_path / 'away'}}}\nobjectives: {{worst_accuracy_by_cell: max}}"
    )
    assert on_data.check(spec) == (
        f"Its data was not looked at: data.root is '{tmp_path / 'away'}', which is not a folder. "
        "Fetch waterbird_complete95_forest2water2 (group_DRO) or waterbirds_v1.0 (WILDS), unpack it, "
        "and set data.root to that folder or to its parent; metadata.csv must be in it."
    )
    (tmp_path / "away").mkdir()
    with pytest.raises(UserError, match=r"none of these is in it: metadata\.csv"):
        on_data.check(spec)
    monkeypatch.setattr(data, "load", lambda config: faces(3))
    with pytest.raises(UserError, match=r"objectives.worst_accuracy_by_cell would be undefined"):
        on_data.check(spec)


def test_groups_that_the_data_has_not_are_refused_with_what_it_has() -> None:
    (sentence,) = undefined(faces(20, attribute=False), "groups: attribute")
    assert sentence == (
        "groups is 'attribute': dataset faces has no attribute, so groups by attribute do not exist. Use 'class'."
    )
