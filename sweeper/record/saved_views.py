"""Saved views of MLflow's own page: a ready-made scatter of the front whose points lead to their runs.

A view is a tag of the experiment; `record` writes it. The format belongs to MLflow's page and is undocumented. So this
is best effort, and only for releases from the one that it was read from.

Source: the saved-view envelope and chart cards of MLflow 3.17's experiment page.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sweeper.record.content import LOG_LAMBDA

FRONT, ALL = "front", "all"
SINCE = (3, 17)
_TAG = "mlflow.sharedViewState."
_MOST_RUNS = 1000


def key(uuid: str, view: str) -> str:
    """The name of a view of the sweep in links: `viewStateShareKey=<key>`."""
    return f"{uuid[:12]}-{view}"


def understood(version: str) -> bool:
    """Whether MLflow `version` reads these views.

    >>> understood("3.17.2"), understood("3.9.0")
    (True, False)
    """
    numbers = version.split(".")[:2]
    return all(number.isdecimal() for number in numbers) and tuple(map(int, numbers)) >= SINCE


def tags(
    name: str,
    uuid: str,
    objectives: Mapping[str, Literal["min", "max"]],
    searched: Sequence[str],
    folded: Sequence[str],
    born_ms: int,
) -> dict[str, str]:
    """The two views of a sweep as tags of its experiment.

    `searched` are the numeric params that are metrics too. MLflow adds a chart for every metric; those whose prefix is
    in `folded` are folded away.
    """
    ours = f"tags.`sweeper.uuid` = '{uuid}' AND tags.`sweeper.role` = 'trial'"
    shown = {
        FRONT: (f"{name}: Pareto front and baselines", f"{ours} AND tags.shown = 'true'"),
        ALL: (f"{name}: all trials", ours),
    }
    return {
        f"{_TAG}{key(uuid, view)}": json.dumps(
            {
                "name": title,
                "createdAt": born_ms,
                "updatedAt": born_ms,
                "state": json.dumps(_state(wanted, objectives, searched, folded)),
            }
        )
        for view, (title, wanted) in shown.items()
    }


def _state(
    wanted: str, objectives: Mapping[str, Literal["min", "max"]], searched: Sequence[str], folded: Sequence[str]
) -> dict[str, Any]:
    (first, sense), names = next(iter(objectives.items())), list(objectives)
    axes = [LOG_LAMBDA if name == "lambda" else name for name in searched]  # these charts have no log axes
    columns = [f"tags.`{name}`" for name in ("state", "baseline", "pareto")] + ["params.`method`"]
    columns += [f"metrics.`{name}`" for name in (*searched, *axes, *names, *(f"{name}_std" for name in names))]
    pairs = [*itertools.combinations(names, 2), *((LOG_LAMBDA, name) for name in names if LOG_LAMBDA in axes)]
    return {
        "searchFilter": wanted,
        "orderByKey": f"metrics.`{first}`",
        "orderByAsc": sense == "min",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "selectedColumns": list(dict.fromkeys(columns)),
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": [
            *(
                _card("SCATTER", f"{x}-{y}", xaxis={"key": x, "type": "METRIC"}, yaxis={"key": y, "type": "METRIC"})
                for x, y in pairs
            ),
            _card("PARALLEL", "parallel", selectedParams=[], selectedMetrics=[*axes, *names], showAllRuns=True),
        ],
        "compareRunSections": [
            _section("sweeper", "Sweep", display=True, columns=2, cardHeight=480),
            *(_section(f"folded-{name}", name, display=False) for name in ("Model metrics", *folded)),
        ],
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
    }


def _section(uuid: str, name: str, **more: Any) -> dict[str, Any]:
    return {"uuid": uuid, "name": name, "isReordered": True, "deleted": False, "isGenerated": False} | more


def _card(kind: str, name: str, **more: Any) -> dict[str, Any]:
    card = {"type": kind, "uuid": f"sweeper-{name}", "metricSectionId": "sweeper", "deleted": False}
    return card | {"isGenerated": False, "runsCountToCompare": _MOST_RUNS} | more
