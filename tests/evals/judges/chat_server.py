"""A real HTTP server on this machine that answers chat completions as it is told to, well or badly."""

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[["Handler"], None]


@dataclass
class Chat:
    """Where it is, what it was asked, and how it answers: once by each of ``script``, then always by ``usual``."""

    url: str
    usual: Reply
    script: list[Reply] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    chat: Chat
    lock: threading.Lock

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.lock:
            self.chat.asked.append(json.loads(body))
            self.chat.headers.append(dict(self.headers))
            self.chat.paths.append(self.path)
            reply = self.chat.script.pop(0) if self.chat.script else self.chat.usual
        self.request_body = self.chat.asked[-1]
        reply(self)

    def do_GET(self) -> None:
        """Nobody should: what follows a redirection does."""
        self.chat.paths.append(f"GET {self.path}")
        self.send(200, completion("Final Score: 1"))

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving(usual: Reply) -> Iterator[Chat]:
    chat = Chat("", usual)
    handler = type("TheHandler", (Handler,), {"chat": chat, "lock": threading.Lock()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    chat.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield chat
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def completion(text: Any, tokens: list[dict] | None = None, model: str = "judge-1-2026-01-01") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    choice["logprobs"] = {"content": tokens} if tokens else None
    usage = {"prompt_tokens": 1000, "completion_tokens": 50}
    return json.dumps({"id": "1", "model": model, "choices": [choice], "usage": usage}).encode()


def says(text: Any, tokens: list[dict] | None = None, model: str = "judge-1-2026-01-01") -> Reply:
    return lambda handler: handler.send(200, completion(text, tokens, model))


def fails(status: int, body: str = "", **headers: str) -> Reply:
    return lambda handler: handler.send(status, body.encode(), **headers)


def body(text: bytes) -> Reply:
    """A reply of status 200 that is no completion."""
    return lambda handler: handler.send(200, text)


def hangs_up(handler: Handler) -> None:
    handler.close_connection = True
    handler.connection.close()


def breaks_off(handler: Handler) -> None:
    whole = completion("Final Score: 1")
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(whole)))
    handler.end_headers()
    handler.wfile.write(whole[:40])
    handler.wfile.flush()
    hangs_up(handler)


def sleeps(seconds: float, text: str = "Final Score: 1") -> Reply:
    def reply(handler: Handler) -> None:
        time.sleep(seconds)
        try:
            handler.send(200, completion(text))
        except OSError:  # the client has gone
            handler.close_connection = True

    return reply


def drips(seconds: float, text: str = "Final Score: 1") -> Reply:
    """Never silent for long, and never done."""

    def reply(handler: Handler) -> None:
        whole = completion(text)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(whole)))
        handler.end_headers()
        try:
            for i in range(len(whole)):
                handler.wfile.write(whole[i : i + 1])
                handler.wfile.flush()
                time.sleep(seconds / len(whole))
        except OSError:
            handler.close_connection = True

    return reply


def token(text: str, **others: float) -> dict[str, Any]:
    """A token of an answer, and what could have stood there, by probability; the rest is its own."""
    listed = {text: 1 - sum(others.values()), **{key.replace("_dot_", "."): p for key, p in others.items()}}
    entries = [{"token": key, "logprob": math.log(p)} for key, p in listed.items()]
    return {**entries[0], "top_logprobs": entries}
