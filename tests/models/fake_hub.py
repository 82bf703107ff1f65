"""A model hub on 127.0.0.1: of the real one's interface what creating a repository and uploading a folder asks for."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeHub(ThreadingHTTPServer):
    """Repositories by name: whether each is private, and its files. It takes one token."""

    daemon_threads = True

    def __init__(self, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.token = token
        self.private: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.broken = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def running(token: str) -> Iterator[FakeHub]:
    """One that answers until the end of the context."""
    hub = FakeHub(token)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def _answer(self, code: int, body: Any = None) -> None:
        data = json.dumps(body if body is not None else {}).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _allowed(self) -> bool:
        self.server.asked.append(f"{self.command} {self.path.partition('?')[0]}")
        if self.headers.get("Authorization") == f"Bearer {self.server.token}":
            return True
        self._body()
        self._answer(401, {"error": "Invalid username or password."})
        return False

    def do_GET(self) -> None:
        if not self._allowed():
            return
        name = self.path.partition("?")[0].removeprefix("/api/models/")
        if name in self.server.private:
            self._answer(200, {"id": name, "private": self.server.private[name], "sha": "0" * 40, "siblings": []})
        else:
            self._answer(404, {"error": "Repository not found"})

    def do_PUT(self) -> None:  # of an object: its address is the permit
        self.server.objects[self.path.rpartition("/")[2]] = self._body()
        self._answer(200)

    def do_POST(self) -> None:
        if not self._allowed():
            return
        hub, path, body = self.server, self.path.partition("?")[0], self._body()
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            known = name in hub.private
            hub.private.setdefault(name, asked.get("private", asked.get("visibility") == "private"))
            self._answer(409 if known else 200, {"url": f"{hub.url}/{name}", "error": "You already created this"})
        elif hub.broken and path.startswith("/api/models/"):
            self._answer(400, {"error": f"no, {hub.token}"})
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            modes = [(file["path"], "lfs" if file["path"].endswith(".safetensors") else "regular") for file in files]
            self._answer(200, {"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes]})
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**each, "actions": {"upload": {"href": f"{hub.url}/objects/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            self._answer(200, {"transfer": "basic", "objects": objects})
        elif "/commit/" in path:
            name = "/".join(path.split("/")[3:5])
            self._commit(name, [json.loads(row) for row in body.splitlines()])
            self._answer(200, {"commitUrl": f"{hub.url}/{name}/commit/1", "commitOid": "1" * 40})
        else:
            self._answer(200, {})

    def _commit(self, name: str, rows: list[dict[str, Any]]) -> None:
        files = self.server.files.setdefault(name, {})
        for row in rows:
            if row["key"] == "file":
                files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
            elif row["key"] == "lfsFile":
                files[row["value"]["path"]] = self.server.objects[row["value"]["oid"]]

    def log_message(self, *_: object) -> None:
        """Nothing."""
