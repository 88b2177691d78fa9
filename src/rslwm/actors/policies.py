"""The ladder: policies of every quality, each from a training of its own on lessons of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from rslwm.actors.behaviour_cloning import BehaviourCloning
from rslwm.actors.lessons import Lessons
from rslwm.actors.perceiving_expert import PerceivingExpert
from rslwm.actors.policy import Policy
from rslwm.actors.sight import SightConfig, misplaced
from rslwm.compute import ComputeConfig, generator, seeded
from rslwm.files import read_json, write_whole
from rslwm.optim import OptimConfig
from rslwm.registry import UnknownName
from rslwm.serialisation import from_dict, shown, to_dict
from rslwm.sim.lessons import LessonConfig
from rslwm.tensors import load_weights, write_tensors
from rslwm.train.loop import Trained, fit
from rslwm.types import DataError, Progress, silent

SHIPPED = Path(__file__).parent / "ladder"
"""The folder of the policies that come with the package."""

COMPUTE = ComputeConfig(device="cpu", dtype="float32")
"""What policies are trained with: small networks, and the same weights everywhere."""

_PLACING = 0.05  # weight of the maps' loss

KINDS: dict[str, type[Policy]] = {"cloning": BehaviourCloning, "perceiving": PerceivingExpert}


@dataclass(frozen=True)
class PolicyConfig:
    """How a policy comes about."""

    kind: Literal["cloning", "perceiving"] = "cloning"
    """cloning: a network says what to do. perceiving: a network says what is on the table, the expert what to do."""
    sight: SightConfig = field(default_factory=SightConfig)
    lessons: LessonConfig = field(default_factory=LessonConfig)
    first: int = 0
    """The number of its first lesson."""
    episodes: int = 1000
    """How many lessons it has."""
    seed: int = 0
    """Of its initial weights and of the order in which it sees things."""
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(steps=1000, lr=4e-3, warmup=50, ema=0.99, checkpoint_every=500)
    )


def learn(config: PolicyConfig, folder: Path, lessons: Path, progress: Progress = silent) -> tuple[Policy, Trained]:
    """Train a policy; resumes from ``folder``, and takes or records its lessons in another one. The weights are the
    moving average's, rounded to half precision, as they are saved. Raises what :func:`rslwm.train.loop.fit` raises."""
    seen = Lessons.recorded(config.lessons, range(config.first, config.first + config.episodes), lessons, progress)
    with seeded(config.seed, "policy"):
        policy = KINDS[config.kind](config.sight)
    network = policy.network

    def loss(batch: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        draw = generator(config.seed, "policy", batch)
        shown = seen.sample(config.optim.batch_size, config.sight.frames, draw)
        numbers, maps = network(shown.frames, network.read(shown.words))
        acting = policy.loss(numbers, shown.actions, shown.facts)
        if maps is None:
            return acting, {"acting": acting}
        placing = misplaced(maps, shown.places)
        return acting + _PLACING * placing, {"acting": acting, "placing": placing}

    trained = fit(network, loss, config.optim, folder, COMPUTE, progress)
    network.load_state_dict({name: x.half().float() for name, x in trained.weights.items()})
    network.eval().requires_grad_(False)
    return policy, trained


def save(policy: Policy, name: str, config: PolicyConfig, card: dict[str, Any], folder: Path) -> None:
    """Write NAME.safetensors in half precision, and the card NAME.json: how it came about and what else is known."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors({key: x.half() for key, x in policy.network.state_dict().items()}, folder / f"{name}.safetensors")
    write_whole(folder / f"{name}.json", json.dumps({"name": name, "config": to_dict(config), **card}, indent=1) + "\n")


def load(name: str, folder: Path = SHIPPED) -> Policy:
    """A policy of the ladder, or one that :func:`save` wrote to a folder. Raises UnknownName: there is none of that
    name. Raises DataError: its files are damaged."""
    config = from_dict(PolicyConfig, card(name, folder)["config"], f"{folder / name}.json")
    policy = KINDS[config.kind](config.sight)
    load_weights(policy.network, folder / f"{name}.safetensors")
    policy.network.eval().requires_grad_(False)
    return policy


def card(name: str, folder: Path = SHIPPED) -> dict[str, Any]:
    """What is known of a policy: its configuration, the command that trained it, its success in the simulator. Raises
    what :func:`load` raises."""
    path = folder / f"{name}.json"
    if not path.exists():
        known = sorted(found.stem for found in folder.glob("*.json"))
        raise UnknownName(f"no policy called {name!r} in {folder}. Known: {', '.join(known) or 'none'}.")
    found = read_json(path)
    if not isinstance(found.get("config"), dict):
        raise DataError(f"{path}: field 'config' is {shown(found.get('config'))}, which describes no policy")
    return found


def names(folder: Path = SHIPPED) -> list[str]:
    """The policies in a folder, the least successful first."""
    found: Iterable[str] = (path.stem for path in folder.glob("*.safetensors"))
    return sorted(found, key=lambda name: (_rate(name, folder), name))


def _rate(name: str, folder: Path) -> float:
    """Its share of true successes."""
    found = card(name, folder)
    try:
        return float(found["success"]["all"]["rate"])
    except (LookupError, TypeError, ValueError):
        raise DataError(f"{folder / name}.json lacks success.all.rate; `rslwm policy train` counts it") from None


def _policy(
    kind: Literal["cloning", "perceiving"], sight: SightConfig, lessons: tuple[int, int], steps: int, seed: int
) -> PolicyConfig:
    optim = replace(PolicyConfig().optim, steps=steps)
    return PolicyConfig(kind, sight, first=lessons[0], episodes=lessons[1], seed=seed, optim=optim)


_POINTS, _BOTH, _PATCHES = SightConfig("points", 40), SightConfig("points", 40, 2), SightConfig("patches", 48)

LADDER: dict[str, PolicyConfig] = {
    "sees-points-1000": _policy("perceiving", _POINTS, (0, 1000), 1500, 1),
    "clones-points-1000": _policy("cloning", _POINTS, (500, 1000), 700, 2),
    "sees-points-300": _policy("perceiving", _POINTS, (1000, 300), 350, 3),
    "clones-both-600": _policy("cloning", _BOTH, (900, 600), 550, 4),
    "clones-points-400": _policy("cloning", _POINTS, (0, 400), 400, 5),
    "sees-points-100": _policy("perceiving", _POINTS, (300, 100), 200, 6),
    "sees-points-600": _policy("perceiving", _POINTS, (1100, 600), 550, 9),
    "sees-points-700": _policy("perceiving", _POINTS, (400, 700), 700, 13),
    "sees-points-800": _policy("perceiving", _POINTS, (600, 800), 900, 10),
    "sees-both-400": _policy("perceiving", _BOTH, (200, 400), 450, 11),
    "clones-points-150": _policy("cloning", _POINTS, (1450, 150), 250, 12),
    "sees-patches-800": _policy("perceiving", _PATCHES, (0, 800), 500, 7),
    "clones-patches-800": _policy("cloning", _PATCHES, (800, 800), 350, 8),
}
"""The policies that are shipped, by name: what acts, what looks, and the number of its lessons."""

JUDGE = "judge"
EYES = _policy("perceiving", SightConfig("points", 48), (20_000, 1200), 1500, 77)
"""Whose network judges read frames with, in a folder of its own: no policy has its lessons."""
