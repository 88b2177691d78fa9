"""The protocols' own libraries against ours: their clients at our servers, our clients at their servers, our world in
their harness. The actions are those of this process."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import environments as theirs
import numpy as np
import pytest
import torch
from PIL import Image

from policies import SPEC, Painter, mapping, shown
from rslwm.actors.base import Actor, Observation
from rslwm.actors.remote import RemotePolicy
from rslwm.actors.served import serve
from rslwm.envs.base import play
from rslwm.envs.tabletop import SimulatedTabletop
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.remote.adapter import padded
from rslwm.sim.config import SimConfig
from rslwm.sim.record import restore

pytestmark = pytest.mark.slow
WORDS = "push the red cube"


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    for requirement in (theirs.OPENPI, theirs.VLA_EVAL):
        try:
            theirs.python(requirement)
        except theirs.Unbuilt as reason:
            pytest.skip(f"{requirement} can't be had: {reason}")


@contextmanager
def their_server(requirement: str, script: str, *arguments: str) -> Iterator[str]:
    command, environment = theirs.started(requirement, script, arguments)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"ws://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()


def steps(count: int) -> np.ndarray:
    """(F, H, W, 3) uint8"""
    frames = [shown(1, seed=seed).frames for seed in range(count)]
    return np.stack([(f[0, 0].numpy() * 255).round().astype(np.uint8) for f in frames if f is not None])


def seen(frame: np.ndarray, words: str = WORDS) -> Observation:
    frames = torch.from_numpy(frame).float()[None, None] / 255
    return Observation(torch.zeros(1, 0, 7), frames=frames, instructions=(words,))


def here(frames: np.ndarray) -> np.ndarray:
    """What :class:`Painter` does in this process, in units."""
    actor = Painter()
    actor.start(seen(frames[0]))
    return np.stack([SPEC.denormalise(actor.act(seen(frame))[0].numpy()) for frame in frames])


def test_their_openpi_client_at_our_server(tmp_path: Path) -> None:
    frames, odd = steps(3), np.random.default_rng(5).integers(0, 256, (33, 50, 3), dtype=np.uint8)
    np.savez(tmp_path / "told.npz", frames=frames, words=WORDS, odd=odd)
    with serve(Painter, SPEC, "openpi", port=0) as server:
        script = "their_openpi_client.py", server.address, str(tmp_path / "told.npz")
        actions, metadata, error, resized = theirs.run(theirs.OPENPI, *script)
    assert np.array(actions).shape == (3, 1, 7)
    assert np.allclose(np.array(actions)[:, 0], here(frames), atol=1e-7)
    assert metadata == {"action_spec": SPEC.to_dict()}
    assert "ProtocolError: the observation has no 'prompt'" in error
    assert np.array_equal(np.array(resized), np.asarray(padded(Image.fromarray(odd), 24, 20)))


def test_our_client_at_an_openpi_server() -> None:
    with their_server(theirs.OPENPI, "their_openpi_server.py") as address:
        file = mapping("openpi", address)
        policy = RemotePolicy(replace(file, actions=replace(file.actions, execute=2)), SPEC)
        chunk_acts_as_here(policy, [1, -1], len(WORDS) / 100)
        policy.start(seen(np.zeros((16, 16, 3), np.uint8)))
        wrong = replace(file, observation=replace(file.observation, prompt="text"))
        failing = RemotePolicy(wrong, SPEC)
        failing.start(seen(np.zeros((16, 16, 3), np.uint8)))
        failing.act(seen(np.zeros((16, 16, 3), np.uint8)))
        assert failing.failures[0].endswith("text instead of a binary message: KeyError: 'prompt'")


def chunk_acts_as_here(policy: RemotePolicy, signs: list[int], gripper: float) -> None:
    """Two episodes of a server that answers the first row's pixels and its negative."""
    for seed in (0, 1):
        frames = steps(4)[seed : seed + 3]
        policy.start(seen(frames[0]))
        for number, sign in enumerate([*signs, *signs][:3]):
            row = 2 * frames[number - number % len(signs)][0, :2].ravel() / 255 - 1
            found = policy.act(seen(frames[number]))[0].numpy()
            assert np.allclose(found[:6], sign * row, atol=1e-5)
            assert found[6] == pytest.approx(np.clip(2 * sign * gripper - 1, -1, 1), abs=1e-5)
    assert policy.failures == {}
    policy.close()


def test_their_vla_eval_client_at_our_server(tmp_path: Path) -> None:
    frames = steps(3)
    np.savez(tmp_path / "told.npz", frames=frames, words=WORDS)
    with serve(Painter, SPEC, "vla-eval", port=0) as server:
        script = "their_vla_eval_client.py", server.address, str(tmp_path / "told.npz")
        actions, hello, warnings, error = theirs.run(theirs.VLA_EVAL, *script)
    expected = here(frames)
    expected[:, 6] = 1 - 2 * expected[:, 6]
    assert np.allclose(actions[:3], expected, atol=1e-7)  # png
    assert np.allclose(actions[3:6], expected, atol=1e-7)  # raw
    assert np.allclose(actions[6:], expected, atol=0.3)  # jpeg of noise
    assert hello["protocol_version"] == 1
    assert warnings == []
    assert "ProtocolError: the observation has no 'images'" in error


@pytest.mark.parametrize("way", ["singly", "chunks"])
def test_our_client_at_a_vla_eval_server(way: str) -> None:
    """Of which nothing needs to be said but scale, frame, rate, and how much of a chunk is done."""
    with their_server(theirs.VLA_EVAL, "their_vla_eval_server.py", way) as address:
        file = mapping("vla-eval", address)
        untold = replace(file.actions, width=None, columns={}, mode=None, rotation=None, gripper=None)
        untold = replace(untold, execute=1 if way == "singly" else 2)
        policy = RemotePolicy(replace(file, actions=untold), SPEC)
        for seed in (0, 1):
            frames = steps(4)[seed : seed + 3]
            policy.start(seen(frames[0]))
            for number, sign in enumerate((1, -1, 1)):
                row = 2 * frames[number - number % 2][0, :2].ravel() / 255 - 1
                found = policy.act(seen(frames[number]))[0].numpy()
                assert np.allclose(found[:6], sign * row, atol=1e-5)
                assert found[6] == pytest.approx(sign * len(WORDS) / 100, abs=1e-5)  # half of -1 to 1, turned round
        assert policy.failures == {}
        policy.act(seen(frames[0], "fail"))
        policy.act(seen(frames[0], "fail"))
        assert policy.failures[0].endswith("an error: observation_failed: KeyError: 'state'")
        policy.close()


def harness(actor: Actor, protocol_params: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One benchmark run of theirs over our world, with our server."""
    with serve(lambda: actor, SimulatedTabletop(SimConfig()).spec, "vla-eval", port=0) as server:
        script = "their_vla_eval_benchmark.py", server.address, json.dumps(protocol_params), str(folder)
        (result,) = theirs.run(theirs.VLA_EVAL, *script, ours=True)
    return result


class Recording(Painter):
    """Remembers what it did."""

    def __init__(self) -> None:
        self.done: list[list[list[float]]] = []

    def start(self, observation: Observation) -> None:
        super().start(observation)
        self.done.append([])

    def act(self, observation: Observation) -> torch.Tensor:
        action = super().act(observation)
        self.done[-1].append(action[0].tolist())
        return action


def test_our_simulator_in_their_harness_is_the_simulator(tmp_path: Path) -> None:
    sim = SimConfig(image_size=32, families=("push", "pick"))
    actor = Recording()
    result = harness(actor, {"sim": {"image_size": 32, "families": ["push", "pick"]}, "max_steps": 3}, tmp_path)
    tasks = {task["task"]: task["episodes"] for task in result["tasks"]}
    assert [len(tasks[family]) for family in ("push", "pick")] == [2, 2]
    assert all("failure_reason" not in episode for episodes in tasks.values() for episode in episodes)
    table = SimulatedTabletop(sim)
    places = [restore(replace(sim, families=(f,)), episode) for f in ("push", "pick") for episode in range(2)]
    truth = [play(Painter(), table, (place,), 3).seen.actions[0] for place in places]
    assert np.allclose(actor.done, np.stack(truth), atol=2e-3)  # the simulator clips, and floats are rounded on the way


def test_a_world_model_in_their_harness(plugin: Path, tmp_path: Path) -> None:
    space = LatentSpace(SpaceConfig(reference=f"{plugin}:PatchMean", image_size=64, decode=True))
    WorldModel(space, SPEC, WorldModelConfig(), torch.Generator().manual_seed(0)).save(tmp_path / "model")
    params = {"checkpoint": str(tmp_path / "model"), "max_steps": 3, "sampling": {"steps": 1}}
    actor = Recording()
    result = harness(actor, {**params, "sim": {"families": ["push"]}}, tmp_path)
    assert all("failure_reason" not in episode for episode in result["tasks"][0]["episodes"]), result
    assert [len(episode) for episode in actor.done] == [3, 3]
