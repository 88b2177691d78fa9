"""Every way in which a policy's server can fail, with real servers, and what is left alone then."""

import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from websockets.sync.server import ServerConnection

from policies import SPEC, mapping, shown
from policy_servers import AFTER_FINE, FINE, STILL, act_once, answer, head, http, moving, ok, vla_eval, websocket
from rslwm.actors.remote import RemotePolicy
from rslwm.remote.arrays import MAX_BYTES, ProtocolError
from rslwm.remote.codecs import pack_openpi, pack_vla_eval
from rslwm.serialisation import ConfigError


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


def test_a_server_of_vla_eval_that_means_something_else_is_an_error_of_the_whole() -> None:
    spec = {"position": {"dims": 3, "format": "absolute_xyz"}, "rest": {"dims": 4, "format": "raw"}}
    with websocket(vla_eval(lambda m: b"", {"protocol_version": 1, "action_spec": spec})) as address:
        policy = RemotePolicy(mapping("vla-eval", address), SPEC)
        with pytest.raises(ConfigError, match=f"says 'delta', {address} says 'absolute'"):
            policy.start(moving(2))
        policy.close()


def test_where_no_connection_is_required_all_places_fail_and_stand_still() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    policy = RemotePolicy(mapping("openpi", f"ws://127.0.0.1:{port}"), SPEC, required=False)
    seen = moving(2)
    policy.start(seen)
    assert sorted(policy.failures) == [0, 1]
    assert policy.act(seen).shape == (2, SPEC.dims)
    assert all("refused" in why for why in policy.failures.values())
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
