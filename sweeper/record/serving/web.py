"""MLflow's own web application for `sweeper ui`, without its assistant; uvicorn calls `app` in a process of its own.

`mlflow server` would import MLflow once for its command line and once more for the server, which doubles the wait. The
assistant opens by itself over a quarter of a new visitor's window, and runs programs of this machine; MLflow has no
setting for it.

Source: `_run_server`, the assistant's routes and its page's keys in the browser's storage, of MLflow 3.17.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from sweeper.record.serving.server import SHOWN
from sweeper.record.store import whereabouts

_ASSISTANT = "/mlflow/assistant"
_WITHOUT = (
    "<script>"
    'localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");'
    'localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");'
    "</script><style>[data-assistant-ui] { display: none !important }</style>"
)
_Message = MutableMapping[str, Any]
_Send = Callable[[_Message], Awaitable[None]]
_Application = Callable[[_Message, Callable[[], Awaitable[_Message]], _Send], Awaitable[None]]


def app() -> _Application:
    """The application over MLFLOW_BACKEND_STORE_URI, with files in MLFLOW_ARTIFACTS_DESTINATION, as MLflow names them.

    It prints, as one line of JSON, `whereabouts` of the sweep that SHOWN names: whoever starts it need not import
    MLflow to know that.
    """
    from mlflow.server import app as pages
    from mlflow.server import constants, handlers
    from mlflow.server.fastapi_app import app as whole

    uri, artifacts = os.environ["MLFLOW_BACKEND_STORE_URI"], os.environ["MLFLOW_ARTIFACTS_DESTINATION"]
    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: uri,
        constants.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        constants.ARTIFACTS_DESTINATION_ENV_VAR: artifacts,
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
    }
    handlers.initialize_backend_stores(uri, uri, "mlflow-artifacts:/")
    print(json.dumps(whereabouts(uri, *json.loads(os.environ[SHOWN]))), flush=True)
    first = (Path(str(pages.static_folder)) / "index.html").read_text(encoding="utf-8")
    first = first.replace("<head>", f"<head>{_WITHOUT}", 1)
    pages.view_functions["serve"] = lambda: first

    async def without_assistant(scope: _Message, receive: Callable[[], Awaitable[_Message]], send: _Send) -> None:
        if scope["type"] == "http" and _ASSISTANT in scope["path"]:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await whole(scope, receive, send)

    return without_assistant
