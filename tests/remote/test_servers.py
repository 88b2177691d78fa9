"""Our servers as clients that know nothing of us meet them."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import msgpack
import numpy as np
import pytest
import torch
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from policies import SPEC, Painter, shown
from rslwm.actors.base import Actor, Observation
from rslwm.actors.served import serve
from rslwm.remote.codecs import from_json, pack_openpi, pack_vla_eval, to_json, unpack_openpi
from rslwm.remote.mapping import Protocol
from rslwm.remote.server import Server
from rslwm.serialisation import ConfigError

PICTURE = (shown(1).frames[0, 0].numpy() * 255).round().astype(np.uint8)  # type: ignore[index]
WORDS = "push the red cube"
FIRST = PICTURE[0, :2].astype(float).ravel()
UNITS = [*(0.05 * (2 * FIRST[:3] / 255 - 1)), *(0.25 * (2 * FIRST[3:] / 255 - 1))]


def expected(acted: int) -> list[float]:
    """Worked out by hand from what :class:`Painter` does, in the units of the spec."""
    return [*UNITS, 0.5 + (len(WORDS) / 100 - 0.1 * acted) / 2]


@pytest.fixture
def servers() -> Iterator[Any]:
    running: list[Server] = []

    def start(protocol: Protocol, factory: Any = Painter, **options: Any) -> Server:
        running.append(serve(factory, SPEC, protocol, port=0, **options))
        return running[-1]

    yield start
    for server in running:
        server.close()


def post(url: str, body: bytes, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_act_over_http_as_openvla_has_it(servers: Any) -> None:
    address = servers("act").address
    body = to_json({"image": PICTURE, "instruction": WORDS, "unnorm_key": "bridge_orig"}).encode()
    assert post(f"{address}/act", body) == (200, pytest.approx(expected(1), abs=1e-6))
    assert post(f"{address}/act", body)[1] == pytest.approx(expected(2), abs=1e-6)
    assert post(f"{address}/reset", b"{}") == (200, {"status": "ok"})
    assert post(f"{address}/act", body)[1] == pytest.approx(expected(1), abs=1e-6)


def test_act_encoded_twice(servers: Any) -> None:
    text = to_json({"image": PICTURE, "instruction": WORDS})
    status, reply = post(f"{servers('act').address}/act", json.dumps({"encoded": text}).encode())
    assert status == 200
    assert isinstance(reply, str)
    assert from_json(reply) == pytest.approx(expected(1), abs=1e-6)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "not JSON"),
        (b"[]", "has no 'image'"),
        (b'{"encoded": 3}', "'encoded' isn't text"),
        (to_json({"image": PICTURE}).encode(), "has no 'instruction'"),
        (to_json({"instruction": WORDS}).encode(), "has no 'image'"),
        (to_json({"image": PICTURE[..., 0], "instruction": WORDS}).encode(), "is no picture"),
        (to_json({"image": PICTURE.astype(np.int32), "instruction": WORDS}).encode(), "expected uint8"),
        (to_json({"image": PICTURE, "instruction": 3}).encode(), "expected text"),
    ],
)
def test_a_request_that_isnt_one_is_status_400(servers: Any, body: bytes, reason: str) -> None:
    status, reply = post(f"{servers('act').address}/act", body)
    assert status == 400
    assert reason in reply["error"]


def test_a_body_without_an_end_is_refused_unread(servers: Any) -> None:
    server = servers("act")
    host, port = server.address.removeprefix("http://").split(":")
    with closing(socket.create_connection((host, int(port)), timeout=10)) as raw:
        raw.sendall(b"POST /act HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        assert b" 413 " in raw.makefile("rb").readline()


@pytest.mark.parametrize("protocol", ["act", "openpi", "vla-eval"])
def test_whoever_watches_it_is_told_that_it_is_there(servers: Any, protocol: Protocol) -> None:
    address = servers(protocol, token="secret").address.replace("ws://", "http://")
    assert urllib.request.urlopen(f"{address}/healthz", timeout=10).read() == b"OK\n"
    assert json.loads(urllib.request.urlopen(f"{address}/health", timeout=10).read()) == {"status": "ok"}


def test_openpi_speaks_first_and_answers_chunks_of_one(servers: Any) -> None:
    with connect(servers("openpi").address, compression=None) as it:
        metadata = msgpack.unpackb(it.recv(timeout=10))
        assert metadata == {"action_spec": SPEC.to_dict()}
        for acted in (1, 2):
            it.send(pack_openpi({"observation/image": np.moveaxis(PICTURE, 2, 0), "prompt": WORDS, "state": [1.0]}))
            reply = unpack_openpi(it.recv(timeout=10))
            assert reply["actions"].shape == (1, 7)
            assert reply["actions"][0] == pytest.approx(expected(acted), abs=1e-6)
            assert reply["server_timing"]["infer_ms"] > 0


def test_openpi_tells_what_is_wrong_in_text_and_ends(servers: Any) -> None:
    with connect(servers("openpi").address, compression=None) as it:
        it.recv(timeout=10)
        it.send(pack_openpi({"prompt": WORDS}))
        assert it.recv(timeout=10) == "ProtocolError: the observation has no 'observation/image'; it has 'prompt'"
        with pytest.raises(ConnectionClosedError) as closed:
            it.recv(timeout=10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011


def test_vla_eval_stays_open_after_an_error(servers: Any) -> None:
    def say(kind: str, payload: dict, number: int) -> None:
        it.send(msgpack.packb({"type": kind, "payload": payload, "seq": number, "timestamp": 1.0}))

    raw = {"__image__": True, "format": "raw", "data": PICTURE.tobytes(), "dtype": "|u1", "shape": [16, 16, 3]}
    with connect(servers("vla-eval").address, compression=None) as it:
        say("hello", {"harness_version": "0.8.0", "protocol_version": 1}, 4)
        hello = msgpack.unpackb(it.recv(timeout=10))
        assert (hello["type"], hello["seq"], hello["payload"]["protocol_version"]) == ("hello", 4, 1)
        assert hello["payload"]["action_spec"]["gripper"]["format"] == "binary_close_positive"
        say("episode_start", {"task": {"name": WORDS}}, 5)
        say("observation", {"task_description": WORDS}, 6)
        error = msgpack.unpackb(it.recv(timeout=10))
        assert (error["type"], error["seq"]) == ("error", 6)
        assert error["payload"]["error"].startswith(
            "observation_failed: ProtocolError: the observation has no 'images'"
        )
        for acted in (1, 2, 1):
            if acted == 1:
                say("episode_start", {"task": {"name": WORDS}}, 7)
            say("observation", {"images": {"front": raw}, "task_description": WORDS}, 8)
            action = msgpack.unpackb(it.recv(timeout=10))
            found = np.frombuffer(action["payload"]["actions"]["data"], "<f4")
            opened = expected(acted)[6]
            assert found == pytest.approx([*UNITS, 1 - 2 * opened], abs=1e-6)
        say("episode_end", {"success": False}, 9)


def test_several_pictures_are_views_side_by_side(servers: Any) -> None:
    server = servers("act", Wide, images=("left", "wrist.right"), prompt="words")
    body = to_json({"left": PICTURE, "wrist": {"right": PICTURE}, "words": WORDS}).encode()
    assert post(f"{server.address}/act", body)[1][0] == pytest.approx(0.05 * 0.32)
    other = to_json({"left": PICTURE, "wrist": {"right": PICTURE[:4]}, "words": WORDS}).encode()
    assert "differ in shape" in post(f"{server.address}/act", other)[1]["error"]


class Wide(Actor):
    """Says how wide its frames are."""

    def act(self, observation: Observation) -> torch.Tensor:
        assert observation.frames is not None
        return torch.full((1, 7), observation.frames.shape[3] / 100)


class Broken(Painter):
    def act(self, observation: Observation) -> torch.Tensor:
        raise RuntimeError("no memory")


def test_a_defect_of_the_policy_is_told_and_the_server_goes_on(servers: Any) -> None:
    body = to_json({"image": PICTURE, "instruction": WORDS}).encode()
    address = servers("act", Broken).address
    for _ in range(2):
        assert post(f"{address}/act", body) == (500, {"error": "RuntimeError: no memory"})


@pytest.mark.parametrize("header", ["Bearer secret", "Api-Key secret"])
def test_with_a_token_only_who_has_it_may_ask(servers: Any, header: str) -> None:
    body = to_json({"image": PICTURE, "instruction": WORDS}).encode()
    address = servers("act", token="secret").address
    assert post(f"{address}/act", body)[0] == 401
    assert post(f"{address}/act", body, Authorization="Bearer secre")[0] == 401
    assert post(f"{address}/act", body, Authorization="Basic secret")[0] == 401
    assert post(f"{address}/act", body, Authorization=header)[0] == 200
    address = servers("openpi", token="secret").address
    with pytest.raises(InvalidStatus, match="401"):
        connect(address)
    with connect(address, additional_headers={"Authorization": header}) as it:
        assert it.recv(timeout=10)


def test_a_page_in_a_browser_may_not_ask(servers: Any) -> None:
    body = to_json({"image": PICTURE, "instruction": WORDS}).encode()
    status, _ = post(f"{servers('act').address}/act", body, Origin="http://example.org")
    assert status == 403
    with pytest.raises(InvalidStatus, match="403"):
        connect(servers("openpi").address, origin="http://example.org")  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org", "192.168.1.1"])
def test_nobody_else_can_connect_without_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match="give a token"):
        serve(Painter, SPEC, "openpi", host=host, port=0)


def mutations(whole: bytes, count: int) -> Iterator[bytes]:
    rng = np.random.default_rng(2)
    for _ in range(count):
        data, place = bytearray(whole), int(rng.integers(len(whole)))
        data[place : place + int(rng.integers(0, 9))] = rng.bytes(int(rng.integers(0, 9)))
        yield bytes(data)


@pytest.mark.parametrize("protocol", ["act", "openpi", "vla-eval"])
def test_a_server_outlives_whatever_is_sent_to_it(servers: Any, protocol: Protocol) -> None:
    server = servers(protocol)
    if protocol == "act":
        whole = to_json({"image": PICTURE, "instruction": WORDS}).encode()
        found = {post(f"{server.address}/act", data)[0] for data in mutations(whole, 60)}
        assert found <= {200, 400}
        assert post(f"{server.address}/act", whole)[0] == 200
        return
    if protocol == "vla-eval":
        payload = {"images": {"a": PICTURE}, "task_description": WORDS}
        whole = pack_vla_eval({"type": "observation", "payload": payload, "seq": 1, "timestamp": 1.0})
    else:
        whole = pack_openpi({"observation/image": PICTURE, "prompt": WORDS})
    for data in [*mutations(whole, 60), b"", "text", whole]:
        with connect(server.address, compression=None) as it:
            if protocol == "openpi":
                it.recv(timeout=10)
            it.send(data)
            reply: Any = b"silence"
            with suppress(TimeoutError):
                reply = it.recv(timeout=0.5)
    assert isinstance(reply, bytes)
    assert b"actions" in reply
