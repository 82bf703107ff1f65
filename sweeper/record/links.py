"""Addresses in MLflow's own pages."""

from __future__ import annotations

from urllib.parse import quote

from sweeper.record import saved_views


def link(base_url: str, experiment_id: str, run_id: str | None = None, artifact: str | None = None) -> str:
    """The page of a sweep's runs, of one run, or of a file of a run.

    Without the workflow type MLflow opens an empty page about GenAI.
    """
    place = f"experiments/{quote(experiment_id)}/runs"
    place += f"/{quote(run_id)}" if run_id else ""
    place += f"/artifacts/{quote(artifact)}" if run_id and artifact else ""
    return f"{base_url.rstrip('/')}/#/{place}?workflowType=machine_learning"


def view_link(base_url: str, experiment_id: str, uuid: str, view: str) -> str:
    """The page of a saved view of the sweep: its charts and its runs side by side."""
    return (
        f"{link(base_url, experiment_id)}&viewStateShareKey={quote(saved_views.key(uuid, view))}&compareRunsMode=CHART"
    )


def model_link(base_url: str, name: str) -> str:
    """The page of a registered model."""
    return f"{base_url.rstrip('/')}/#/models/{quote(name)}?workflowType=machine_learning"
