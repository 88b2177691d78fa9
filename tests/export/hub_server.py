"""A hub on this machine, as far as its real client asks: repositories are made, written to and read."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    files: dict[str, dict[str, bytes]]
    """Of every repository."""

    def log_message(self, *words: object) -> None:
        pass

    def _answer(self, content: object, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_POST(self) -> None:
        body = self._body()
        if self.path == "/api/repos/create":
            about = json.loads(body)
            name = f"{about['organization']}/{about['name']}"
            self.files.setdefault(name, {})
            return self._answer({"url": f"http://{self.headers['Host']}/{name}", "name": name})
        if self.path == "/api/validate-yaml":  # of the card's head
            return self._answer({"errors": [], "warnings": []})
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main(\?.*)?", self.path)
        if found is None:
            return self._answer({"error": self.path}, 404)
        if found[2] == "preupload":
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False, "oid": None} for name in names]
            return self._answer({"files": modes})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.files[found[1]][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        self._answer({"commitUrl": f"http://{self.headers['Host']}/{found[1]}/commit/{COMMIT}", "commitOid": COMMIT})

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/]+)?", path):
            if found[1] not in self.files:
                return self._answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
            siblings = [{"rfilename": name} for name in self.files[found[1]]]
            return self._answer({"id": found[1], "sha": COMMIT, "siblings": siblings})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^/]+", path):
            files = self.files[found[1]]
            listed = [{"type": "file", "path": n, "size": len(x), "oid": _sum(x)} for n, x in files.items()]
            return self._answer(listed)
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            content = self.files[found[1]][found[2]]
            return self._answer(content, ETag=f'"{_sum(content)}"', X_Repo_Commit=COMMIT)
        self._answer({"error": self.path}, 404)

    do_HEAD = do_GET


def _sum(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def hub() -> Iterator[tuple[str, dict[str, dict[str, bytes]]]]:
    """Its address, and the files of every repository."""
    files: dict[str, dict[str, bytes]] = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneHub", (Hub,), {"files": files}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", files
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
