"""`data.limit`: a smaller dataset for a first try, of the same proportions, the same everywhere."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from sweeper.spec.loading import completed, difference, parse
from tests.data.trees import home, picture, table
from trainables import data
from trainables.data import DataConfig
from trainables.data.base import SPLITS, Dataset, Split
from trainables.data.splitting import limited
from trainables.errors import UserError

CELLS = (60, 30, 9, 1)  # of each split: three quarters of the first class, one example of the last cell


def whole(attribute: bool = True) -> Dataset:
    """300 examples in three splits."""
    labels_N, values_N = np.repeat([0, 0, 1, 1], CELLS), np.repeat([0, 1, 0, 1], CELLS)
    splits = {
        name: Split(
            name, tuple(Path(f"/x/{name}/{i}.png") for i in range(100)), labels_N, values_N if attribute else None
        )
        for name in SPLITS
    }
    return Dataset("made", Path("/x"), ("a", "b"), ("p", "q") if attribute else (), splits)


def counts(dataset: Dataset) -> list[list[int]]:
    kind = "cell" if dataset.attributes else "class"
    return [dataset.groups(split, kind).counts_G.tolist() for split in SPLITS]


def test_each_cell_of_each_split_keeps_its_share_and_at_least_one() -> None:
    assert counts(limited(whole(), 150)) == [[29, 15, 5, 1]] * 3
    assert counts(limited(whole(), 12)) == [[1, 1, 1, 1]] * 3
    for limit in (30, 75, 150, 299):
        kept = np.array(counts(limited(whole(), limit)))
        assert kept.sum() == limit
        assert kept.min() == 1
        assert np.abs(kept - np.array(CELLS) * limit / 300).max() <= 1
    assert counts(limited(whole(), 1000)) == [list(CELLS)] * 3


def test_without_an_attribute_the_classes_keep_their_shares() -> None:
    assert counts(limited(whole(attribute=False), 30)) == [[9, 1]] * 3


def test_a_larger_limit_keeps_all_that_a_smaller_one_does() -> None:
    kept = [set(home(limited(whole(), limit))) for limit in range(12, 301)]
    assert all(smaller < larger for smaller, larger in itertools.pairwise(kept))


KEPT = {"train": ["49", "60", "94", "99"], "val": ["54", "65", "93", "99"], "test": ["47", "66", "95", "99"]}


def test_which_stay_is_decided_by_their_names_alone() -> None:
    """The numbers are what SHA-256 gives, on any machine."""
    kept = limited(whole(), 12)
    assert {split: [Path(name).stem for name in kept.ids(split)] for split in SPLITS} == KEPT
    dataset = whole()
    shuffled = {name: part.part(np.random.default_rng(0).permutation(100)) for name, part in dataset.splits.items()}
    again = limited(Dataset("made", Path("/x"), ("a", "b"), ("p", "q"), shuffled), 12)
    assert set(home(again)) == set(home(kept))


def test_fewer_than_there_are_cells_are_refused_with_the_least_number() -> None:
    with pytest.raises(UserError, match=r"data\.limit is 11, and the three splits have 12 cells\. Use 12 or more"):
        limited(whole(), 11)


def test_a_spec_s_limit_is_of_the_data_that_is_loaded_and_it_is_said(tmp_path: Path) -> None:
    rows = [(f"{i}.png", "ab"[i % 2], SPLITS[i // 2 % 3]) for i in range(24)]
    path = table(tmp_path / "t.csv", ("image", "label", "split"), rows)
    for name, *_ in rows:
        picture(tmp_path / name)
    dataset = data.load(DataConfig(name="csv", root=path, limit=12))
    assert counts(dataset) == [[2, 2]] * 3
    assert dataset.notes == ("data.limit: 12 of 24 examples, each class of each split by its share",)
    assert dataset.split_hash != data.load(DataConfig(name="csv", root=path)).split_hash


def test_a_sweep_of_a_release_that_knew_no_limit_is_the_same_sweep() -> None:
    identity = parse("name: x").identity()
    older = {**identity, "data": {key: value for key, value in identity["data"].items() if key != "limit"}}
    assert difference(completed(older), identity) == []
    assert difference(completed(older), parse("name: x\ndata: {limit: 50}").identity()) == [
        "data.limit: was None, is now 50"
    ]
