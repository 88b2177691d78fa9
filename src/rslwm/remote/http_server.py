"""``POST /act`` and ``POST /reset``, as OpenVLA's deploy script and AutoEval's servers have them."""

from __future__ import annotations

import json
import logging
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from rslwm.remote.arrays import MAX_BYTES, ProtocolError
from rslwm.remote.codecs import from_json, to_json
from rslwm.types import DataError

if TYPE_CHECKING:
    from rslwm.remote.server import Served


log = logging.getLogger(__name__)


class ActServer(ThreadingHTTPServer):
    """One episode at a time: requests say neither whose they are nor which episode they belong to."""

    daemon_threads = True

    def __init__(self, served: Served, host: str, port: int) -> None:
        self.served = served
        self.policy = served.factory()
        self.policy.start()
        self.episode = threading.Lock()
        super().__init__((host, port), _Handler)

    def serve_forever(self, poll_interval: float = 0.05) -> None:
        super().serve_forever(poll_interval)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves in the middle is nothing to report; a defect is."""
        if not isinstance(sys.exception(), OSError):
            log.exception("a request failed")


class _Handler(BaseHTTPRequestHandler):
    server: ActServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two packets, and the second wouldn't wait for the first
    timeout = 60  # seconds of silence after which a connection is dropped

    def do_GET(self) -> None:
        if self.path in ("/health", "/healthz"):
            self._answer(HTTPStatus.OK, '{"status": "ok"}' if self.path == "/health" else "OK\n")
        else:
            self._answer(HTTPStatus.NOT_FOUND, '{"error": "there are POST /act and POST /reset"}')

    def do_POST(self) -> None:
        if self.headers.get("Origin") is not None:
            return self._fail(HTTPStatus.FORBIDDEN, "a page in a browser may not ask")
        if not self.server.served.allows(self.headers.get("Authorization")):
            return self._fail(HTTPStatus.UNAUTHORIZED, "a token is needed")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BYTES:
            return self._fail(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"Content-Length must be {MAX_BYTES} at most")
        body = self.rfile.read(int(length))
        if self.path == "/reset":
            with self.server.episode:
                self.server.policy.start()
            return self._answer(HTTPStatus.OK, '{"status": "ok"}')
        if self.path != "/act":
            return self._fail(HTTPStatus.NOT_FOUND, "there are POST /act and POST /reset")
        try:
            self._answer(HTTPStatus.OK, self._act(body))
        except DataError as error:
            self._fail(HTTPStatus.BAD_REQUEST, str(error))
        except Exception as error:
            self._fail(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error}")
            raise  # a defect of the policy: its traceback belongs into this server's log

    def _act(self, body: bytes) -> str:
        """The action as a list of numbers, which every client reads; encoded twice where the request was."""
        request = from_json(body)
        if twice := isinstance(request, dict) and "encoded" in request:
            if not isinstance(request["encoded"], str):
                raise ProtocolError("'encoded' isn't text")
            request = from_json(request["encoded"])
        with self.server.episode:
            action = self.server.served.answer(self.server.policy, request)
        return json.dumps(to_json(action)) if twice else json.dumps(action.tolist())

    def _fail(self, status: HTTPStatus, message: str) -> None:
        self.close_connection = True  # what is left of the request is not read
        self._answer(status, json.dumps({"error": message}))

    def _answer(self, status: HTTPStatus, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Nothing: a line a step would bury what matters."""
