"""What a sweep looks like to whoever reads its stores, without times: equal for a broken and an unbroken life."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TIMES = ("time_ms", "seconds", "evaluate_s", "prepared_s")


def portrait(root: Path, name: str) -> dict[str, Any]:
    """Tables, results, weights, held-out numbers, and what MLflow shows; without times."""
    return numbers(root / name) | _shown(root / "mlflow.db")


def numbers(folder: Path) -> dict[str, Any]:
    """The same of the sweep's folder alone: its record may be on a server."""
    seen: dict[str, Any] = {}
    for path in [folder / "trials.csv", folder / "front.csv", *sorted(folder.rglob("*.safetensors"))]:
        seen[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
    for path in sorted([*folder.rglob("result.json"), *folder.glob("held-out/*/*.json")]):
        try:
            seen[str(path.relative_to(folder))] = _timeless(json.loads(json.loads(path.read_text())["body"]))
        except ValueError as fault:
            seen[str(path.relative_to(folder))] = str(fault)
    return seen


def asked(folder: Path) -> dict[str, Any]:
    """What people asked of the sweep, as its own database has it, and what waits still."""
    with sqlite3.connect(folder / "study.db") as connection:
        rows = (
            "select t.number, a.key, a.value_json from trials t join trial_user_attributes a on a.trial_id = t.trial_id"
        )
        told = [(number, json.loads(text)) for number, key, text in connection.execute(rows) if key == "proposal"]
        every = connection.execute("select value_json from study_user_attributes where key = 'narrowed'")
        listed = [each["narrowing"] | {"ms": 0} for (text,) in every for each in json.loads(text)["listed"]]
    by_hand = [(number, body["params"]) for number, body in told if body.get("asked") == "asked for by hand"]
    return {"by hand": by_hand, "narrowed": listed, "waiting": sorted(p.name for p in folder.glob("asked/[0-9]*"))}


def _timeless(body: Any) -> Any:
    if isinstance(body, dict):
        return {key: _timeless(value) for key, value in body.items() if key not in TIMES}
    return [_timeless(item) for item in body] if isinstance(body, list) else body


def _shown(store: Path) -> dict[str, Any]:
    """Status, params, tags of a trial's own, and every metric's newest value and number of rows, by trial."""
    per, of = "group by g.value, m.key order by m.step", "r on r.run_uuid"
    trial = "join tags g on g.run_uuid = r.run_uuid and g.key = 'sweeper.trial' where r.lifecycle_stage = 'active'"
    queries = {
        "status": f"select g.value, r.status from runs r {trial}",
        "param": f"select g.value || ' ' || p.key, p.value from params p join runs {of} = p.run_uuid {trial}",
        "tag": f"select g.value || ' ' || t.key, t.value from tags t join runs {of} = t.run_uuid {trial}"
        " and t.key in ('pareto', 'state', 'method', 'baseline', 'reason')",
        "metric": f"select g.value || ' ' || m.key, m.value || ' x' || count(*) from metrics m "
        f"join runs {of} = m.run_uuid {trial} and m.key not like '%seconds' and m.key not like '%evaluate_s' {per}",
    }
    with sqlite3.connect(store) as connection:
        return {f"MLflow {kind} {k}": v for kind, query in queries.items() for k, v in connection.execute(query)}


def differences(whole: Mapping[str, Any], seen: Mapping[str, Any]) -> list[str]:
    keys = dict.fromkeys([*whole, *seen])
    return [f"{k}: unbroken {whole.get(k)}, now {seen.get(k)}" for k in keys if whole.get(k) != seen.get(k)]
