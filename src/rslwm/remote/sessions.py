"""Clients: one connection to a policy, anew in every episode, with an end to every wait."""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit

import numpy as np

from rslwm.remote.arrays import MAX_BYTES, ProtocolError, numbers
from rslwm.remote.codecs import (
    from_json,
    needs,
    pack_openpi,
    pack_vla_eval,
    to_json,
    unpack_openpi,
    unpack_vla_eval,
)  # fmt: skip
from rslwm.remote.mapping import PolicyMapping
from rslwm.remote.vla_eval import HARNESS, VERSION
from rslwm.serialisation import ConfigError

_SCHEMES = {"act": ("http", "https"), "openpi": ("ws", "wss"), "vla-eval": ("ws", "wss")}
_AUTHORIZATION = {"act": "Bearer", "openpi": "Api-Key", "vla-eval": "Bearer"}


class Session(ABC):
    """One place's connection. Everything raises ProtocolError when the server fails, naming the address and how."""

    def __init__(self, mapping: PolicyMapping) -> None:
        self.mapping = mapping
        self.url = _address(mapping)

    @abstractmethod
    def begin(self, instruction: str) -> dict[str, Any]:
        """Connect, as an episode begins; what the server says of itself."""

    @abstractmethod
    def ask(self, observation: dict[str, Any]) -> np.ndarray:
        """The reply to an observation: finite numbers (D,) or (n, D)."""

    @abstractmethod
    def close(self) -> None:
        """Leave."""

    @property
    def headers(self) -> dict[str, str]:
        """With the token, where the mapping names one. Raises ConfigError: it isn't set."""
        if not (name := self.mapping.token_env):
            return {}
        if not (token := os.environ.get(name)):
            raise ConfigError(f"token_env: the environment variable {name} isn't set; it holds the server's token")
        return {"Authorization": f"{_AUTHORIZATION[self.mapping.protocol]} {token}"}

    @contextmanager
    def named(self, what: str) -> Iterator[None]:
        """What fails is a ProtocolError that says where and at what."""
        try:
            yield
        except _failures() as error:
            raise ProtocolError(f"{self.mapping.address}: {what}: {error or type(error).__name__}") from None

    @contextmanager
    def in_time(self, seconds: float, what: str, cut: Callable[[], None] = lambda: None) -> Iterator[None]:
        """:meth:`named`, and cut when the time is up, however slowly a server goes on sending."""
        late = threading.Event()

        def end() -> None:
            late.set()
            cut()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        with self.named(what):
            timer.start()
            try:
                yield
                if late.is_set():  # what was cut short may look whole
                    raise TimeoutError
            except _failures() as error:
                if late.is_set() or isinstance(error, TimeoutError):
                    raise TimeoutError(f"not done within {seconds:g} s") from None
                raise
            finally:
                timer.cancel()


class ActSession(Session):
    """``POST /act`` as OpenVLA's deploy script and AutoEval's servers have it, in both variants.

    Every request has its own connection: servers close idle ones, and a world model may take long for a frame.
    """

    def begin(self, instruction: str) -> dict[str, Any]:
        """404 means that the server remembers nothing."""
        self._post("/reset", {}, self.mapping.connect_s, (200, 204, 404, 405))
        return {}

    def ask(self, observation: dict[str, Any]) -> np.ndarray:
        sent = {"encoded": to_json(observation)} if self.mapping.double_encoded else observation
        text = self._post("/act", sent, self.mapping.timeout_s, (200,))
        with self.named("its reply"):
            return _reply(text)

    def _post(self, path: str, content: dict[str, Any], seconds: float, fine: tuple[int, ...]) -> bytes:
        assert self.url.hostname
        kind = http.client.HTTPSConnection if self.url.scheme == "https" else http.client.HTTPConnection
        connection = kind(self.url.hostname, self.url.port, timeout=seconds)
        base = self.url.path.rstrip("/").removesuffix("/act")
        body, headers = to_json(content), {"Content-Type": "application/json", "Connection": "close", **self.headers}
        held: list[Any] = []  # the connection forgets its socket before the reply is read
        with self.in_time(seconds, f"POST {base}{path}", lambda: _cut(*held)):
            try:
                connection.connect()
                held.append(connection.sock)
                connection.request("POST", f"{base}{path}", body, headers)
                response = connection.getresponse()
                text = response.read(MAX_BYTES + 1)
            finally:
                connection.close()
            if len(text) > MAX_BYTES:
                raise ProtocolError(f"a reply of more than {MAX_BYTES} bytes, which is the limit")
            if response.length:  # of which nobody is told when only so many bytes are asked for
                raise ProtocolError(f"the reply ends {response.length} bytes early")
            if response.status not in fine:
                raise ProtocolError(f"status {response.status}: {text[:300].decode(errors='replace')}")
        return text

    def close(self) -> None:
        """Nothing is open."""


class _Websocket(Session):
    """What openpi and vla-eval have in common."""

    _socket: Any = None

    def __init__(self, mapping: PolicyMapping) -> None:
        super().__init__(mapping)
        self._open = ExitStack()

    def connect(self) -> None:
        self.close()
        connect = needs("websockets.sync.client").connect
        with self.in_time(self.mapping.connect_s, "connecting"):
            self._socket = self._open.enter_context(
                connect(
                    self.mapping.address, compression=None, max_size=MAX_BYTES, additional_headers=self.headers,
                    open_timeout=self.mapping.connect_s, close_timeout=1, ping_interval=None, proxy=None,
                )
            )  # fmt: skip

    def send(self, data: bytes) -> None:
        with self.in_time(self.mapping.timeout_s, "sending", lambda: _cut(self._socket.socket)):
            self._socket.send(data)

    def receive(self, what: str, seconds: float) -> bytes:
        with self.in_time(seconds, what, lambda: _cut(self._socket.socket)):
            message = self._socket.recv()
            if isinstance(message, str):
                raise ProtocolError(f"text instead of a binary message: {_last_line(message)}")
        return message

    def close(self) -> None:
        with suppress(*_failures()):
            self._open.close()


class OpenPiSession(_Websocket):
    """openpi's websocket: the server speaks first, then one reply a request; an episode is a connection."""

    def begin(self, instruction: str) -> dict[str, Any]:
        self.connect()
        metadata = self.receive("its metadata", self.mapping.connect_s)
        with self.named("its metadata"):
            return _map(unpack_openpi(metadata), "it")

    def ask(self, observation: dict[str, Any]) -> np.ndarray:
        self.send(pack_openpi(observation))
        message = self.receive("its reply", self.mapping.timeout_s)
        with self.named("its reply"):
            reply = _map(unpack_openpi(message), "it")
            if "actions" not in reply:
                raise ProtocolError(f"it has no 'actions'; it has {', '.join(map(repr, reply)) or 'nothing'}")
            return numbers(reply["actions"], "'actions'")


class VlaEvalSession(_Websocket):
    """vla-eval's websocket, protocol version 1: the client speaks first, and what servers say of themselves counts."""

    _number = 0

    def begin(self, instruction: str) -> dict[str, Any]:
        self.connect()
        self._number = 0
        self._say("hello", {"harness_version": HARNESS, "protocol_version": VERSION})
        hello = self._hear("hello", "its hello", self.mapping.connect_s)
        self._say("episode_start", {"task": {"name": instruction}})
        return hello

    def ask(self, observation: dict[str, Any]) -> np.ndarray:
        self._say("observation", observation)
        payload = self._hear("action", "its reply", self.mapping.timeout_s)
        with self.named("its reply"):
            if "actions" not in payload:
                raise ProtocolError(f"it has no 'actions'; it has {', '.join(map(repr, payload)) or 'nothing'}")
            return numbers(payload["actions"], "'actions'")

    def _say(self, kind: str, payload: dict[str, Any]) -> None:
        self._number += 1
        self.send(pack_vla_eval({"type": kind, "payload": payload, "seq": self._number, "timestamp": time.time()}))

    def _hear(self, kind: str, what: str, seconds: float) -> dict[str, Any]:
        """The payload of the next message, which must be of this kind and answer the last one."""
        data = self.receive(what, seconds)
        with self.named(what):
            message = read_message(data)
            if message["type"] == "error":
                raise ProtocolError(f"an error: {_last_line(str(message['payload'].get('error')))}")
            if message["type"] != kind or message["seq"] != self._number:
                expected = f"expected {kind!r} to message {self._number}"
                raise ProtocolError(f"{message['type']!r} to message {message['seq']}; {expected}")
            return message["payload"]


SESSIONS: dict[str, type[Session]] = {"act": ActSession, "openpi": OpenPiSession, "vla-eval": VlaEvalSession}


def read_message(data: bytes) -> dict[str, Any]:
    """A message of vla-eval with its four keys. Raises ProtocolError."""
    message = _map(unpack_vla_eval(data), "a message")
    types = {"type": str, "payload": dict, "seq": int, "timestamp": (int, float)}
    for key, kind in types.items():
        if not isinstance(message.get(key), kind):  # type: ignore[arg-type]
            raise ProtocolError(f"a message's {key!r} is {message.get(key)!r:.100}")
    return message


def _reply(text: bytes) -> np.ndarray:
    """What ``/act`` answers: an array, a list, a map with one, or any of these as a text of its own."""
    reply = from_json(text)
    if isinstance(reply, str):
        try:
            reply = from_json(reply)
        except ProtocolError:
            raise ProtocolError(f"text instead of an action: {_last_line(reply)}") from None
    if isinstance(reply, dict):
        found = [reply[key] for key in ("action", "actions") if key in reply]
        if len(found) != 1:
            raise ProtocolError(f"a map without an action; it has {', '.join(map(repr, reply)) or 'nothing'}")
        reply = found[0]
    return numbers(reply)


def _address(mapping: PolicyMapping) -> SplitResult:
    """Its parts. Raises ConfigError: it can't be one of this protocol."""
    schemes = _SCHEMES[mapping.protocol]
    try:
        url = urlsplit(mapping.address)
        fine = url.scheme in schemes and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        fine = False
    if not fine:
        example = f"{schemes[0]}://127.0.0.1:8000"
        raise ConfigError(f"address: {mapping.address!r} isn't one of {mapping.protocol}, such as {example}")
    return url


def _map(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ProtocolError(f"{what} is {type(value).__name__}; expected a map")
    return value


def _last_line(text: str) -> str:
    """Of a traceback what matters."""
    lines = text.strip().splitlines() or [""]
    return lines[-1][:300]


def _cut(*sockets: Any) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


def _failures() -> tuple[type[Exception], ...]:
    """What is raised when a server fails."""
    found = (ProtocolError, OSError, EOFError, http.client.HTTPException)
    try:
        return (*found, needs("websockets.exceptions").WebSocketException)
    except ConfigError:  # the HTTP protocol needs no such package
        return found
