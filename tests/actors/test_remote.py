"""A policy at an address: the same actions as in this process."""

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from websockets.sync.server import ServerConnection

from policies import SPEC, Painter, mapping, shown
from policy_servers import AFTER_FINE, FINE, act_once, answer, http, moving, ok, vla_eval, websocket
from rslwm.actors.base import ACTORS
from rslwm.actors.remote import RemotePolicy
from rslwm.actors.served import serve
from rslwm.envs.base import play
from rslwm.remote.codecs import pack_openpi, unpack_openpi
from rslwm.remote.mapping import PolicyMapping, Protocol
from rslwm.serialisation import ConfigError


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


def test_vla_eval_may_answer_steps_or_chunks() -> None:
    for rows in (FINE[0], FINE, np.concatenate([FINE, FINE])):
        with websocket(vla_eval(lambda m, rows=rows: answer("action", {"actions": rows}, m["seq"]))) as address:
            policy = RemotePolicy(mapping("vla-eval", address), SPEC)
            assert act_once(policy, moving())[:6] == pytest.approx(AFTER_FINE[:6], abs=1e-5)
            policy.close()


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
