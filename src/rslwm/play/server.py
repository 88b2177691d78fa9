"""The page and its websocket, for this machine alone unless there is a token."""

from __future__ import annotations

import asyncio
import hmac
import importlib
import ipaddress
import json
import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from rslwm.play.messages import Conversation
from rslwm.play.playground import Playground
from rslwm.serialisation import ConfigError

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
STYLE = Path(importlib.import_module("rslwm.report").__path__[0]) / "templates" / "style.css"
VISITORS = 8
"""Worlds of their own at a time; each holds frames and states."""
LARGEST = 2**20
"""Bytes of a message from the page."""
REFUSED, FULL = 4401, 4429
"""Codes with which a connection is closed: no token or another page's, and too many visitors."""
POLICY = "default-src 'self'; img-src 'self' blob: data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
"""What the page may load: nothing that isn't of this server."""


def needs(module: str) -> ModuleType:
    """A module of the extra ``play``. Raises ConfigError: it isn't installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(
            f"the page needs the package {module.partition('.')[0]!r}: pip install 'rslwm[play]'"
        ) from None


def loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Doors:
    """Who may come in: pages of this server, with the token where there is one."""

    def __init__(self, token: str = "") -> None:
        self.token = token

    def lets(self, host: str, origin: str | None) -> bool:
        """Whether a page of ``origin`` may connect to what it calls ``host``: another site's may not, nor, without a
        token, one that has this machine called by a name of its own."""
        name = urlsplit(f"//{host}").hostname or ""
        return origin is not None and urlsplit(origin).netloc == host and (bool(self.token) or loopback(name))

    def knows(self, given: object) -> bool:
        """Whether that is the token; true where none is needed."""
        return hmac.compare_digest(str(given).encode(), self.token.encode())


class Visits:
    """All visitors' conversations. One thread does all their work: world models and the renderer are shared, and the
    renderer belongs to the thread that made it."""

    def __init__(self, ground: Playground, doors: Doors) -> None:
        self.ground, self.doors = ground, doors
        self.pool = ThreadPoolExecutor(1, "worlds")
        self.open: set[Conversation] = set()
        self._coming = 0

    def close(self) -> None:
        """End all work."""
        self.pool.submit(self.ground.close).result()
        self.pool.shutdown()

    async def visit(self, websocket: Any) -> None:
        """From the first message, which holds the token, until the page is closed."""
        disconnected = needs("starlette.websockets").WebSocketDisconnect
        if not self.doors.lets(websocket.headers.get("host", ""), websocket.headers.get("origin")):
            await websocket.close(REFUSED)
            return
        await websocket.accept()
        try:
            first = json.loads(await websocket.receive_text())
            if not (isinstance(first, dict) and self.doors.knows(first.get("token", ""))):
                await websocket.close(REFUSED)
            elif len(self.open) + self._coming >= VISITORS:
                await websocket.close(FULL)
            else:
                await self._converse(websocket)
        except disconnected:
            log.info("a visitor left")
        except (json.JSONDecodeError, KeyError):
            await websocket.close(REFUSED)

    async def _converse(self, websocket: Any) -> None:
        disconnected = needs("starlette.websockets").WebSocketDisconnect
        loop, waiting = asyncio.get_running_loop(), asyncio.Queue[bytes]()

        def say(part: bytes) -> None:
            loop.call_soon_threadsafe(waiting.put_nowait, part)

        async def send() -> None:
            with suppress(disconnected):
                while True:
                    await websocket.send_bytes(await waiting.get())

        self._coming += 1
        try:
            conversation = await loop.run_in_executor(self.pool, Conversation, self.ground, say)
        finally:
            self._coming -= 1
        self.open.add(conversation)
        sending = asyncio.create_task(send())
        try:
            for part in await loop.run_in_executor(self.pool, conversation.greet):
                waiting.put_nowait(part)
            while True:
                message = await websocket.receive_text()
                waiting.put_nowait(await loop.run_in_executor(self.pool, conversation.answer, message))
        finally:
            sending.cancel()
            self.open.discard(conversation)
            loop.run_in_executor(self.pool, conversation.close)


def application(ground: Playground, token: str = "") -> Any:
    """The ASGI application; its ``state.visits`` are the :class:`Visits`."""
    routing, answers = needs("starlette.routing"), needs("starlette.responses")
    visits = Visits(ground, Doors(token))

    def file(path: Path, kind: str) -> Any:
        async def serve(request: Any) -> Any:
            headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache", "Referrer-Policy": "no-referrer"}
            return answers.Response(path.read_bytes(), media_type=kind, headers=headers)

        return serve

    kinds = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
    pages = {"/": STATIC / "index.html", "/report.css": STYLE}
    pages |= {f"/{path.name}": path for path in STATIC.iterdir() if path.suffix in kinds}
    routes = [routing.Route(url, file(path, kinds[path.suffix])) for url, path in pages.items()]
    app = needs("starlette.applications").Starlette(routes=[*routes, routing.WebSocketRoute("/drive", visits.visit)])
    app.state.visits = visits
    return app


def listener(host: str, port: int, token: str) -> socket.socket:
    """A socket to serve on. Raises ConfigError: others could connect, and there is no token."""
    if not token and not loopback(host):
        raise ConfigError(f"host {host!r} lets others connect; set the environment variable RSLWM_TOKEN to a token")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((host, port))
    found.listen()  # who comes before the server runs waits
    return found


def server(ground: Playground, token: str = "") -> Any:
    """What serves a listening socket: ``server.run(sockets=[...])``, until ``should_exit``."""
    uvicorn = needs("uvicorn")
    config = uvicorn.Config(
        application(ground, token), log_level="warning", ws="websockets-sansio", ws_max_size=LARGEST,
        ws_per_message_deflate=False, lifespan="off", timeout_graceful_shutdown=1, server_header=False,
    )  # fmt: skip
    return uvicorn.Server(config)


def address(listening: socket.socket, host: str, token: str) -> str:
    """What to open in a browser; the token stands behind the #, which browsers keep to themselves."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listening.getsockname()[1]}/{f'#token={token}' if token else ''}"


@contextmanager
def serving(ground: Playground, token: str = "") -> Iterator[tuple[str, Visits]]:
    """A server of this process, at any free port of this machine: its ``host:port``, and who is there.

    Meanwhile the playground belongs to the server's own thread; who drew in it before must be the caller."""
    ground.close()
    listening, found = listener("127.0.0.1", 0, token), server(ground, token)
    thread = threading.Thread(target=found.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    visits = found.config.app.state.visits
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}", visits
    finally:
        found.should_exit = True
        thread.join()
        visits.close()
        listening.close()
