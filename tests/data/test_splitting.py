"""Cuts by hash: anybody gets the same, order is nothing, a newcomer moves nobody."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.data.splitting import SHARES, fraction, keyed, stratified

KEYS = st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=60)


def test_a_key_falls_where_it_fell_when_the_first_sweeps_were_run() -> None:
    # Computed with sha256sum of 'sweeper-split-1:KEY', its first 12 digits over 16**12. A change here moves
    # images between the splits of every user.
    assert [f"{fraction(key):.6f}" for key in ("", "a", "001.bag/Nigeria_bag_1.jpg")] == FROZEN


FROZEN = ["0.160666", "0.578882", "0.070208"]


def test_many_keys_fall_into_parts_of_their_shares() -> None:
    counts = Counter(keyed(str(i)) for i in range(10_000))
    for part, share in SHARES.items():
        assert counts[part] / 10_000 == pytest.approx(share, abs=4 * (share * (1 - share) / 10_000) ** 0.5)


@given(KEYS, st.text(min_size=9, max_size=9))
def test_a_stratum_is_cut_to_the_nearest_record_and_its_order_is_nothing(keys: list[str], newcomer: str) -> None:
    part_of = stratified(keys, ["s"] * len(keys))
    counts = Counter(part_of.values())
    assert [counts[part] for part in ("val", "test")] == [round(0.1 * len(keys)), round(0.2 * len(keys))]
    assert part_of == stratified(keys[::-1], ["s"] * len(keys))
    later = stratified([*keys, newcomer], ["s"] * (len(keys) + 1))
    assert sum(later[key] != part_of[key] for key in keys) <= 2  # one over each of two borders


def test_who_is_held_out_follows_the_hashes_and_not_the_names() -> None:
    part_of = stratified("abcdefghij", [0] * 10)
    held_out = {part: {key for key in part_of if part_of[key] == part} for part in ("val", "test")}
    assert held_out == {"val": {"f"}, "test": {"d", "e"}}
    assert sorted("abcdefghij", key=fraction)[0] == "f"


@given(KEYS)
def test_one_stratum_knows_nothing_of_the_others(keys: list[str]) -> None:
    strata = [len(key) % 2 for key in keys]
    whole = stratified(keys, strata)
    for stratum in (0, 1):
        own = [key for key, s in zip(keys, strata, strict=True) if s == stratum]
        assert {key: whole[key] for key in own} == stratified(own, [stratum] * len(own))
