"""The papers' tables say what their numbers are of."""

from __future__ import annotations

import math

import pandas as pd

from sweeper.report import papers
from sweeper.results.results import UNCONVERGED


def rows(**dfr: float | bool) -> pd.DataFrame:
    plain = {"model": "vit", "accuracy": 0.9, "worst_accuracy_by_cell": 0.5, "n": 600.0, "converged": True}
    return pd.DataFrame([plain | {"method": "lora"}, plain | {"method": "lora-dfr"} | dfr])


def test_a_method_that_is_measured_on_fewer_examples_has_its_n_and_a_note() -> None:
    (table,) = papers.tables(rows(n=300.0), "Caption.")
    assert table.head[:3] == ("model", "method", "n")
    assert [row[2] for row in table.rows] == ["600", "300"]
    assert (
        "n is the examples measured: lora-dfr on 300 of 600; the others have refitted its last layer" in table.caption
    )
    (alike,) = papers.tables(rows(), "Caption.")
    assert "n" not in alike.head
    assert "examples measured" not in alike.caption


def test_a_refit_that_did_not_converge_is_told() -> None:
    (table,) = papers.tables(rows(converged=False), "Caption.")
    assert f"lora-dfr: {UNCONVERGED}." in table.caption
    assert "lora: " not in table.caption


def test_there_is_no_table_by_attribute_for_data_without_one() -> None:
    assert len(papers.tables(rows(worst_accuracy_by_attribute=math.nan), "Caption.")) == 1
    by_attribute = papers.tables(rows(worst_accuracy_by_attribute=0.7), "Caption.")[1]
    assert by_attribute.head[2:] == ("worst accuracy by attribute (↑)", "worst accuracy by cell (↑)")
