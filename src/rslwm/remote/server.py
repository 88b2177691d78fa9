"""Servers: any policy that acts on pictures and words, at an address, in each of the three protocols."""

from __future__ import annotations

import hmac
import http
import ipaddress
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from rslwm.remote.arrays import MAX_BYTES, ProtocolError
from rslwm.remote.codecs import needs, pack_openpi, pack_vla_eval, unpack_openpi
from rslwm.remote.http_server import ActServer
from rslwm.remote.mapping import Protocol as ProtocolName
from rslwm.remote.sessions import read_message
from rslwm.remote.vla_eval import HARNESS, VERSION, action_spec, outgoing
from rslwm.serialisation import ConfigError
from rslwm.types import ActionSpec, DataError

log = logging.getLogger(__name__)

KEYS: dict[str, tuple[tuple[str, ...], str]] = {
    "act": (("image",), "instruction"),
    "openpi": (("observation/image",), "prompt"),
    "vla-eval": (("images",), "task_description"),
}
"""Of each protocol where pictures and the instruction are, unless somebody says otherwise."""


class Policy(Protocol):
    """What is served: one robot, episode after episode."""

    def start(self) -> None:
        """An episode begins."""

    def act(self, picture: np.ndarray, instruction: str) -> np.ndarray:
        """The next action (A,) in units, at what a picture (H, V W, 3) uint8 shows."""


@dataclass(frozen=True)
class Served:
    """A policy with everything that its clients may know and must say."""

    factory: Callable[[], Policy]
    """A policy of its own for every connection."""
    spec: ActionSpec
    protocol: ProtocolName
    images: tuple[str, ...] = ()
    """Keys of the pictures that are views, in their order; of the protocol by default."""
    prompt: str = ""
    token: str = field(default="", repr=False)
    """What clients have to send; needed where others than this machine can connect."""
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def observed(self, observation: Any) -> tuple[np.ndarray, str]:
        """The picture (H, V W, 3) uint8 and the instruction of a request. Raises ProtocolError: one is missing."""
        images, prompt = KEYS[self.protocol]
        views = [_picture(_found(observation, key), key) for key in self.images or images]
        if len({view.shape for view in views}) > 1:
            raise ProtocolError(f"the pictures differ in shape: {', '.join(str(view.shape) for view in views)}")
        instruction = _found(observation, self.prompt or prompt)
        if not isinstance(instruction, str):
            raise ProtocolError(f"the instruction is {type(instruction).__name__}; expected text")
        return np.concatenate(views, axis=1), instruction

    def answer(self, policy: Policy, observation: Any) -> np.ndarray:
        """The action (A,), float32 in units. One policy acts at a time: they may share what they think with."""
        seen = self.observed(observation)
        with self._turn:
            return np.asarray(policy.act(*seen), np.float32)

    def allows(self, authorization: str | None) -> bool:
        """Whether a header holds the token, if there is one."""
        word, _, given = (authorization or "").partition(" ")
        fits = hmac.compare_digest(given.strip().encode(), self.token.encode())
        return not self.token or (word.lower() in ("bearer", "api-key") and fits)


class Server:
    """Listens until it is closed. Raises ConfigError: others could connect, and there is no token."""

    def __init__(self, served: Served, host: str = "127.0.0.1", port: int = 8000) -> None:
        if not served.token and not _loopback(host):
            raise ConfigError(f"host {host!r} lets others connect; give a token that they have to send")
        self.served, self._host = served, host
        self._listener = _listener(served, host, port)
        self._thread = threading.Thread(target=self._listener.serve_forever, daemon=True)
        self._thread.start()

    @cached_property
    def address(self) -> str:
        """What clients connect to."""
        port = self._listener.socket.getsockname()[1]
        return f"{'http' if self.served.protocol == 'act' else 'ws'}://{self._host}:{port}"

    def wait(self) -> None:
        """Until somebody interrupts."""
        while self._thread.is_alive():
            self._thread.join(1.0)

    def close(self) -> None:
        self._listener.shutdown()
        self._thread.join()
        getattr(self._listener, "server_close", lambda: None)()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _listener(served: Served, host: str, port: int) -> Any:
    if served.protocol == "act":
        return ActServer(served, host, port)
    needs("msgpack")  # said now, and not to the first client
    talk = {"openpi": _openpi, "vla-eval": _vla_eval}[served.protocol]

    def handle(connection: Any) -> None:
        closed = needs("websockets.exceptions").ConnectionClosed
        try:
            talk(served, connection)
        except closed:
            log.info("a client left")

    return needs("websockets.sync.server").serve(
        handle, host, port, origins=[None],  # no page in a browser
        compression=None, max_size=MAX_BYTES, ping_interval=None, close_timeout=1,
        process_request=lambda connection, request: _http(served, connection, request), server_header=None,
    )  # fmt: skip


def _http(served: Served, connection: Any, request: Any) -> Any:
    """The answer to what isn't a websocket; None goes on as one."""
    if request.path == "/healthz":
        return connection.respond(http.HTTPStatus.OK, "OK\n")
    if request.path == "/health":
        found = connection.respond(http.HTTPStatus.OK, '{"status": "ok"}\n')
        del found.headers["Content-Type"]
        found.headers["Content-Type"] = "application/json"
        return found
    if not served.allows(request.headers.get("Authorization")):
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, "a token is needed\n")
    return None


def _openpi(served: Served, connection: Any) -> None:
    """The server speaks first; an episode is a connection. Whatever goes wrong is a text, and the end."""
    connection.send(pack_openpi({"action_spec": served.spec.to_dict()}))
    policy = served.factory()
    policy.start()
    for message in connection:
        began = time.perf_counter()
        try:
            if isinstance(message, str):
                raise ProtocolError("text instead of a binary message")
            action = served.answer(policy, unpack_openpi(message))
        except Exception as error:
            connection.send(f"{type(error).__name__}: {error}")
            connection.close(1011, "the policy failed")
            if not isinstance(error, DataError):
                raise  # a defect of the policy: its traceback belongs into this server's log
            return
        timing = {"infer_ms": 1000 * (time.perf_counter() - began)}
        connection.send(pack_openpi({"actions": action[None], "policy_timing": timing, "server_timing": timing}))


def _vla_eval(served: Served, connection: Any) -> None:
    """The client speaks first; episodes begin with a message; errors leave the connection open."""
    policy: Policy | None = None

    def say(kind: str, payload: dict[str, Any], number: int) -> None:
        connection.send(pack_vla_eval({"type": kind, "payload": payload, "seq": number, "timestamp": time.time()}))

    for data in connection:
        number = 0
        try:
            if isinstance(data, str):
                raise ProtocolError("text instead of a binary message")
            message = read_message(data)
            kind, number = message["type"], message["seq"]
            if kind == "hello":
                say("hello", _hello(served), number)
            elif kind == "episode_start" or (kind == "observation" and policy is None):
                policy = served.factory()
                policy.start()
            if kind == "observation":
                assert policy is not None
                action = served.answer(policy, message["payload"])
                say("action", {"actions": outgoing(action, served.spec)}, number)
        except DataError as error:
            say("error", {"error": f"observation_failed: {type(error).__name__}: {error}"}, number)
        except Exception as error:
            say("error", {"error": f"observation_failed: {type(error).__name__}: {error}"}, number)
            raise  # a defect of the policy


def _hello(served: Served) -> dict[str, Any]:
    views = served.images or ("image",)
    images = {key: {"name": "image", "dims": 0, "format": "rgb_hwc_uint8"} for key in views}
    return {
        "harness_version": HARNESS,
        "protocol_version": VERSION,
        "model_server": "rslwm",
        "capabilities": {},
        "action_spec": action_spec(served.spec),
        "observation_spec": images | {"language": {"name": "language", "dims": 0, "format": "language"}},
    }


def _found(observation: Any, key: str) -> Any:
    """What is at a key, or at a path of keys. Raises ProtocolError: nothing."""
    whole = observation
    if isinstance(observation, dict) and key not in observation:
        for part in key.split("."):
            observation = observation.get(part) if isinstance(observation, dict) else None
    else:
        observation = observation[key] if isinstance(observation, dict) else None
    if observation is None:
        has = ", ".join(map(repr, whole)) if isinstance(whole, dict) else type(whole).__name__
        raise ProtocolError(f"the observation has no {key!r}; it has {has or 'nothing'}")
    return observation


def _picture(value: Any, key: str) -> np.ndarray:
    """(H, W, 3) uint8, of that or (3, H, W), or floats in [0, 1], or the first of a map of cameras."""
    if isinstance(value, dict) and value:
        value = next(iter(value.values()))
    if not isinstance(value, np.ndarray) or value.ndim != 3 or 3 not in (value.shape[2], value.shape[0]):
        shape = value.shape if isinstance(value, np.ndarray) else type(value).__name__
        raise ProtocolError(f"{key!r} is no picture (H, W, 3): {shape}")
    if value.shape[2] != 3:
        value = np.moveaxis(value, 0, 2)
    if value.dtype.kind == "f" and np.isfinite(value).all():
        value = (value.clip(0, 1) * 255).round().astype(np.uint8)
    if value.dtype != np.uint8 or not value.size:
        raise ProtocolError(f"{key!r} is of {value.dtype}, shape {value.shape}; expected uint8, or floats in [0, 1]")
    return value


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
