"""Servers of policies that answer whatever a test wants them to."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as listen

from policies import shown
from rslwm.actors.base import Observation
from rslwm.actors.remote import RemotePolicy
from rslwm.remote.codecs import pack_vla_eval, unpack_vla_eval

FINE = np.full((1, 7), 0.05, np.float32)
AFTER_FINE = [1.0, 1.0, 1.0, 0.2, 0.2, 0.2, -0.9]
STILL = torch.tensor([0.0] * 6 + [-0.2])


def moving(places: int = 1) -> Observation:
    """After an action that left the gripper a little closed: standing still keeps it so."""
    return shown(places, done=STILL.expand(places, 1, 7).clone())


@contextmanager
def http(answer: Callable[[bytes], bytes | None]) -> Iterator[str]:
    """A server of raw bytes: what it answers to a request's first line; None is nothing at all, ever."""
    listener = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            held.append(connection)
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    def talk(connection: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(2**16)
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += connection.recv(2**16)
        reply = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n" if b"/reset" in head else answer(head)
        if reply is None:
            return
        try:
            connection.sendall(reply)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            return

    threading.Thread(target=run, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()
        for connection in held:
            connection.close()


def ok(body: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@contextmanager
def websocket(talk: Callable[[ServerConnection], object]) -> Iterator[str]:
    with listen(talk, "127.0.0.1", 0, compression=None, max_size=None, close_timeout=0.2) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()


def act_once(policy: RemotePolicy, observation: Observation) -> list[float]:
    policy.start(observation)
    return policy.act(observation)[0].tolist()


def head(status: str = "200 OK", **headers: str) -> bytes:
    return "\r\n".join(
        [f"HTTP/1.1 {status}", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()), "", ""]
    ).encode()


def vla_eval(reply: Callable[[dict], bytes | str], hello: dict | None = None) -> Callable[[ServerConnection], object]:
    def talk(connection: ServerConnection) -> None:
        for data in connection:
            message = unpack_vla_eval(data)  # type: ignore[arg-type]
            if message["type"] == "hello":
                connection.send(answer("hello", hello or {"protocol_version": 1}, message["seq"]))
            elif message["type"] == "observation":
                connection.send(reply(message))

    return talk


def answer(kind: str, payload: Any, number: int) -> bytes:
    return pack_vla_eval({"type": kind, "payload": payload, "seq": number, "timestamp": 1.0})
