"""A policy at an address: the same actions as in this process, and every way in which a server can fail."""

import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as listen

from policies import SPEC, Painter, mapping, shown
from rslwm.actors.base import ACTORS, Observation
from rslwm.actors.remote import RemotePolicy
from rslwm.actors.served import serve
from rslwm.envs.base import play
from rslwm.remote.arrays import MAX_BYTES, ProtocolError
from rslwm.remote.codecs import pack_openpi, pack_vla_eval, unpack_openpi, unpack_vla_eval
from rslwm.remote.mapping import PolicyMapping, Protocol
from rslwm.serialisation import ConfigError

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


# ------------------------------------------------------------------------------------------------------ as it should be


@pytest.mark.parametrize("protocol", ["act", "openpi", "vla-eval"])
def test_the_same_actions_as_in_this_process(protocol: Protocol) -> None:
    """Over HTTP nothing tells places from each other, so there is one."""
    places = 1 if protocol == "act" else 3
    with serve(Painter, SPEC, protocol, port=0) as server:
        remote, here = RemotePolicy(mapping(protocol, server.address), SPEC), Painter()
        for episode in range(2):
            observation = shown(places, seed=episode)
            remote.start(observation)
            here.start(observation)
            for step in range(3):
                observation = shown(places, seed=10 * episode + step)
                assert torch.allclose(remote.act(observation), here.act(observation).clamp(-1, 1), atol=1e-6)
        assert remote.failures == {}
        assert remote.clipped == [0] * places
        remote.close()


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize(
    "body",
    [
        json.dumps(FINE[0].tolist()),
        json.dumps({"action": FINE[0].tolist()}),
        json.dumps(FINE.tolist()),
        json.dumps(json.dumps(FINE[0].tolist())),
    ],
)
def test_every_published_way_to_answer_act(body: str, encoded: bool) -> None:
    seen: list[bytes] = []
    with http(lambda head: seen.append(head) or ok(body)) as address:
        policy = RemotePolicy(mapping("act", address, double_encoded=encoded), SPEC)
        assert act_once(policy, moving()) == pytest.approx(AFTER_FINE, abs=1e-5)
    assert seen[0].startswith(b"POST /act HTTP/1.1")


def test_an_address_may_have_a_path_and_servers_may_know_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    monkeypatch.setenv("TOKEN", "secret")
    with http(lambda head: seen.append(head) or ok(json.dumps(FINE[0].tolist()))) as address:
        act_once(RemotePolicy(mapping("act", f"{address}/v1/act", token_env="TOKEN"), SPEC), moving())
    assert seen[0].startswith(b"POST /v1/act HTTP/1.1")
    assert b"Authorization: Bearer secret" in seen[0]
    monkeypatch.delenv("TOKEN")
    with pytest.raises(ConfigError, match="TOKEN isn't set"):
        act_once(RemotePolicy(mapping("act", address, token_env="TOKEN"), SPEC), moving())


def chunks(asked: list[int], size: int) -> Callable[[ServerConnection], object]:
    """A server of openpi whose n-th reply is a chunk of n hundredths, counted over its actions."""

    def talk(connection: ServerConnection) -> None:
        connection.send(pack_openpi({}))
        asked.append(0)
        for _ in connection:
            asked[-1] += 1
            rows = np.zeros((size, 7))
            rows[:, 0] = 0.01 * (10 * asked[-1] + np.arange(size)) / 10
            connection.send(pack_openpi({"actions": rows, "policy_timing": {}, "state": None}))

    return talk


def test_so_many_of_a_chunk_are_done_before_it_is_asked_again() -> None:
    asked: list[int] = []
    with websocket(chunks(asked, 5)) as address:
        file = mapping("openpi", address)
        policy = RemotePolicy(replace(file, actions=replace(file.actions, execute=3)), SPEC)
        policy.start(moving())
        found = [policy.act(moving())[0, 0].item() for _ in range(5)]
        policy.start(moving())
        policy.act(moving())
        policy.close()
    assert found == pytest.approx([0.2, 0.22, 0.24, 0.4, 0.42])  # hundredths over bounds of 0.05
    assert asked == [2, 1]  # what was left is forgotten, and every episode has its connection


def test_one_action_of_a_world_that_skips_frames_is_several_of_the_policys() -> None:
    asked: list[int] = []
    with websocket(chunks(asked, 1)) as address:
        policy = RemotePolicy(mapping("openpi", address), SPEC.composed(2))
        assert act_once(policy, moving())[0] == pytest.approx(0.3)  # (0.01 + 0.02) over 0.1
        policy.close()
    assert asked == [2]


def test_requests_of_all_places_go_out_at_once() -> None:
    everybody = threading.Barrier(4, timeout=10)

    def talk(connection: ServerConnection) -> None:
        connection.send(pack_openpi({}))
        for _ in connection:
            everybody.wait()
            connection.send(pack_openpi({"actions": FINE}))

    with websocket(talk) as address:
        policy = RemotePolicy(mapping("openpi", address), SPEC)
        act_once(policy, moving(4))
        policy.close()
    assert policy.failures == {}


def test_so_many_requests_at_a_time_as_allowed() -> None:
    busy, most, lock = [0], [0], threading.Lock()

    def talk(connection: ServerConnection) -> None:
        connection.send(pack_openpi({}))
        for _ in connection:
            with lock:
                busy[0] += 1
                most[0] = max(most[0], busy[0])
            time.sleep(0.05)
            with lock:
                busy[0] -= 1
            connection.send(pack_openpi({"actions": FINE}))

    with websocket(talk) as address:
        policy = RemotePolicy(mapping("openpi", address), SPEC, sessions=2)
        act_once(policy, moving(5))
        policy.close()
    assert most == [2]
    assert policy.failures == {}


def test_it_is_shown_no_more_than_the_mapping_names() -> None:
    seen: list[dict] = []

    def talk(connection: ServerConnection) -> None:
        connection.send(pack_openpi({}))
        for data in connection:
            seen.append(unpack_openpi(data))  # type: ignore[arg-type]
            connection.send(pack_openpi({"actions": FINE}))

    truth = {"gripper_position": torch.tensor([[[1.0, 2.0, 3.0]]]), "object_position": torch.ones(1, 1, 3)}
    with websocket(talk) as address:
        file = mapping("openpi", address)
        act_once(RemotePolicy(file, SPEC), replace(moving(), truth=truth))
        states = replace(file, observation=replace(file.observation, states={"state": "gripper_position"}))
        act_once(RemotePolicy(states, SPEC), replace(moving(), truth=truth))
        with pytest.raises(ConfigError, match="no state 'gripper_position'"):
            act_once(RemotePolicy(states, SPEC), moving())
    assert [*seen[0]] == ["observation/image", "prompt"]
    assert seen[1]["state"].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("package", ["msgpack", "websockets"])
def test_a_missing_package_is_named_with_the_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {package, *(name for name in sys.modules if name.partition(".")[0] == package)}:
        monkeypatch.setitem(sys.modules, name, None)
    remote = RemotePolicy(mapping("openpi", "ws://127.0.0.1:1"), SPEC)
    with serve(Painter, SPEC, "act", port=0) as server:  # which needs neither
        act_once(RemotePolicy(mapping("act", server.address), SPEC), shown(1))
    asked = partial(pack_openpi, {}) if package == "msgpack" else partial(remote.start, shown(1))
    with pytest.raises(ConfigError, match=rf"the package '{package}': pip install 'rslwm\[policies\]'"):
        asked()


# ----------------------------------------------------------------------------------------------------- as it should not


def stall(connection: ServerConnection) -> None:
    time.sleep(3)


OPENPI: dict[str, tuple[Callable[[ServerConnection], object], str]] = {
    "stall": (stall, "not done within 1 s"),
    "closed": (lambda c: c.close(1011, "no memory"), "1011"),
    "cut": (lambda c: c.socket.shutdown(socket.SHUT_RDWR), "no close frame"),
    "traceback": (lambda c: c.send("Traceback:\n  File\nKeyError: 'state'"), "text instead .* KeyError: 'state'"),
    "no msgpack": (lambda c: c.send(b"\xc1"), "not msgpack"),
    "no map": (lambda c: c.send(pack_openpi([1])), "expected a map"),
    "no actions": (lambda c: c.send(pack_openpi({"action": FINE})), "no 'actions'; it has 'action'"),
    "NaN": (lambda c: c.send(pack_openpi({"actions": FINE * np.nan})), "isn't finite"),
    "infinite": (lambda c: c.send(pack_openpi({"actions": FINE / 0})), "isn't finite"),
    "width": (lambda c: c.send(pack_openpi({"actions": FINE[:, :6]})), "6 numbers, the mapping says 7"),
    "batch": (lambda c: c.send(pack_openpi({"actions": FINE[None]})), "shape .1, 1, 7."),
    "none": (lambda c: c.send(pack_openpi({"actions": FINE[:0]})), "shape .0, 7."),
    "too large": (lambda c: c.send(bytes(MAX_BYTES + 1)), "1009"),
    "object": (
        lambda c: c.send(pack_openpi({"actions": {b"__ndarray__": True, b"dtype": "O", b"data": b""}})),
        "plain numbers",
    ),
}


@pytest.mark.filterwarnings("ignore:.*divide by zero")
@pytest.mark.parametrize("fault", OPENPI)
def test_a_failing_server_leaves_the_other_places_alone(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    """The second of three episodes fails with its second action."""
    fails, reason = OPENPI[fault]

    def talk(connection: ServerConnection) -> None:
        connection.send(pack_openpi({}))
        for number, message in enumerate(connection):
            if number and b"cube!" in message and b"cube!!" not in message:
                fails(connection)
                return
            connection.send(pack_openpi({"actions": FINE}))

    with websocket(talk) as address:
        policy = RemotePolicy(mapping("openpi", address, timeout_s=1.0), SPEC)
        policy.start(moving(3))
        assert torch.allclose(policy.act(moving(3)), torch.tensor([AFTER_FINE] * 3), atol=1e-5)
        for _ in range(2):
            actions = policy.act(moving(3))
            assert torch.allclose(actions[[0, 2]], torch.tensor([AFTER_FINE] * 2), atol=1e-5)
            assert torch.allclose(actions[1], STILL, atol=1e-6)
        policy.close()
    assert [*policy.failures] == [1]
    assert policy.failures[1].startswith("action 2: ")
    assert re.search(reason, policy.failures[1]), policy.failures[1]
    assert "place 1 stands still from action 2 on" in caplog.text


def head(status: str = "200 OK", **headers: str) -> bytes:
    return "\r\n".join(
        [f"HTTP/1.1 {status}", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()), "", ""]
    ).encode()


ACT: dict[str, tuple[bytes | None, str]] = {
    "stall": (None, "not done within 1 s"),
    "refused": (head("400 Bad Request", Content_Length="9") + b"no image!", "status 400: no image!"),
    "error": (ok('"error"'), "text instead of an action: error"),
    "message": (ok('{"error": "no memory"}'), "a map without an action; it has 'error'"),
    "no JSON": (ok("<html>"), "not JSON"),
    "NaN": (ok("[0, 0, 0, 0, 0, 0, NaN]"), "isn't finite"),
    "width": (ok("[0, 0, 0]"), "3 numbers, the mapping says 7"),
    "text": (ok('[0, 0, 0, 0, 0, 0, "open"]'), "isn't made of numbers"),
    "short": (head(Content_Length="100") + b"[0", "ends 98 bytes early"),
    "no HTTP": (b"hello\r\n", "hello"),
    "closed": (b"", "closed connection without response"),
    "too large": (head(Content_Length=str(MAX_BYTES + 9)) + b" " * (MAX_BYTES + 9), "which is the limit"),
}


@pytest.mark.parametrize("fault", ACT)
def test_every_fault_over_http_is_named(fault: str) -> None:
    reply, reason = ACT[fault]
    with http(lambda head: reply) as address:
        policy = RemotePolicy(mapping("act", address, timeout_s=1.0), SPEC)
        assert act_once(policy, moving()) == pytest.approx(STILL.tolist(), abs=1e-6)
    assert reason in policy.failures[0]


def test_a_server_that_goes_on_sending_is_cut_off_in_time() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def talk() -> None:
        reset, _ = listener.accept()
        reset.recv(2**16)
        reset.sendall(head(Content_Length="2") + b"{}")
        connection, _ = listener.accept()
        connection.sendall(head()[:-2])
        try:
            for _ in range(100):
                connection.sendall(b"X: y\r\n")
                time.sleep(0.05)
        except OSError:
            return

    threading.Thread(target=talk, daemon=True).start()
    policy = RemotePolicy(mapping("act", f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=1.0), SPEC)
    began = time.monotonic()
    act_once(policy, moving())
    listener.close()
    assert time.monotonic() - began < 3
    assert "not done within 1 s" in policy.failures[0]


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


VLA_EVAL: dict[str, tuple[Callable[[dict], bytes | str], str]] = {
    "error": (lambda m: answer("error", {"error": "failed: KeyError: 'state'"}, m["seq"]), "KeyError: 'state'"),
    "other number": (lambda m: answer("action", {"actions": FINE[0]}, m["seq"] - 1), "expected 'action' to message 3"),
    "other kind": (lambda m: answer("hello", {}, m["seq"]), "expected 'action' to message 3"),
    "unknown": (lambda m: pack_vla_eval({"type": "action", "payload": {}}), "'seq' is None"),
    "no actions": (lambda m: answer("action", {}, m["seq"]), "no 'actions'; it has nothing"),
    "text": (lambda m: "busy", "text instead of a binary message: busy"),
    "NaN": (lambda m: answer("action", {"actions": [float("nan")] * 7}, m["seq"]), "isn't finite"),
}  # fmt: skip


@pytest.mark.parametrize("fault", VLA_EVAL)
def test_every_fault_of_vla_eval_is_named(fault: str) -> None:
    reply, reason = VLA_EVAL[fault]
    with websocket(vla_eval(reply)) as address:
        policy = RemotePolicy(mapping("vla-eval", address, timeout_s=2.0), SPEC)
        act_once(policy, moving())
        policy.close()
    assert reason in policy.failures[0]


def test_vla_eval_may_answer_steps_or_chunks() -> None:
    for rows in (FINE[0], FINE, np.concatenate([FINE, FINE])):
        with websocket(vla_eval(lambda m, rows=rows: answer("action", {"actions": rows}, m["seq"]))) as address:
            policy = RemotePolicy(mapping("vla-eval", address), SPEC)
            assert act_once(policy, moving())[:6] == pytest.approx(AFTER_FINE[:6], abs=1e-5)
            policy.close()


def test_a_server_of_vla_eval_that_means_something_else_is_an_error_of_the_whole() -> None:
    spec = {"position": {"dims": 3, "format": "absolute_xyz"}, "rest": {"dims": 4, "format": "raw"}}
    with websocket(vla_eval(lambda m: b"", {"protocol_version": 1, "action_spec": spec})) as address:
        policy = RemotePolicy(mapping("vla-eval", address), SPEC)
        with pytest.raises(ConfigError, match=f"says 'delta', {address} says 'absolute'"):
            policy.start(moving(2))
        policy.close()


def test_an_address_where_nobody_is_fails_at_once_and_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for protocol, scheme in (("act", "http"), ("openpi", "ws"), ("vla-eval", "ws")):
        address = f"{scheme}://127.0.0.1:{port}"
        with pytest.raises(ProtocolError, match=f"no place has a policy: action 0: {address}: .*refused"):
            RemotePolicy(mapping(protocol, address), SPEC).start(shown(2))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8000", "http://127.0.0.1:8000", "ws://", "ws://127.0.0.1:port", "ws://127.0.0.1:0", ""]
)
def test_what_is_no_address_of_the_protocol_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"isn't one of openpi, such as ws://127\.0\.0\.1:8000"):
        RemotePolicy(mapping("openpi", address), SPEC).start(shown(1))


def test_it_needs_frames_and_instructions() -> None:
    policy = RemotePolicy(mapping("act", "http://127.0.0.1:1"), SPEC)
    with pytest.raises(ConfigError, match="shows none; let it decode them"):
        policy.start(replace(shown(1), frames=None))
    with pytest.raises(ConfigError, match="has no instructions"):
        policy.start(replace(shown(1), instructions=()))


def test_what_is_recorded_is_the_mapping_as_it_was_resolved() -> None:
    with serve(Painter, SPEC, "vla-eval", port=0) as server:
        file: PolicyMapping = mapping("vla-eval", server.address)
        untold = replace(file.actions, width=None, columns={}, mode=None, rotation=None, gripper=None)
        policy = RemotePolicy(replace(file, actions=untold), SPEC)
        act_once(policy, shown(1))
        assert policy.resolved.actions == file.actions
        assert json.loads(json.dumps(policy.record()))["mapping"]["actions"]["gripper"] == "-1 is open, 1 is closed"
        policy.close()


def test_it_is_an_actor_by_name() -> None:
    assert ACTORS.get("remote") is RemotePolicy


@pytest.mark.slow
def test_it_acts_in_the_simulator_as_it_would_in_this_process() -> None:
    from rslwm.envs.tabletop import SimulatedTabletop
    from rslwm.sim.config import SimConfig
    from rslwm.sim.record import restore

    config = SimConfig(image_size=16)
    table = SimulatedTabletop(config)
    start = tuple(restore(config, episode) for episode in range(2))
    with serve(Painter, table.spec, "openpi", port=0) as server:
        file = mapping("openpi", server.address)
        policy = RemotePolicy(file, table.spec)
        there = play(policy, table, start, 4)
        policy.close()
    here = play(Painter(), table, start, 4)
    assert policy.failures == {}
    assert torch.allclose(there.seen.actions, here.seen.actions.clamp(-1, 1), atol=1e-5)
