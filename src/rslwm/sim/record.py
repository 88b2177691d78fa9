"""Recording episodes: a scripted expert with noise on its actions, one process per core."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

import numpy as np

from rslwm.config import SimConfig
from rslwm.processes import cores, spread
from rslwm.serialisation import ConfigError
from rslwm.sim.experts import expert_action
from rslwm.sim.tabletop import SPEC, Tabletop, random_stream
from rslwm.types import Episode

_LINGER = 6
"""Control steps that an episode goes on for after success."""
_ROTATION_NOISE = 0.4
"""Noise on rotations relative to that on translations: a tilted hand topples what it touches."""


def record_episode(config: SimConfig, index: int) -> Episode:
    """Episode ``index`` of a recording, a pure function of the arguments.

    Families take turns, then noise levels. The actions are the executed ones, noise included; the last one follows the
    last frame. ``success`` is what the rule of the task says of the last frame.

    Raises:
        ConfigError: an unknown family or camera, or more distractors than fit.
    """
    if not config.families or not config.noise:
        raise ConfigError("sim.families and sim.noise: each needs at least one entry")
    family = config.families[index % len(config.families)]
    noise = config.noise[index // len(config.families) % len(config.noise)]
    seed = (config.seed, index)
    table = _tabletop(config.image_size, config.shadows, config.dynamics_noise)
    state = table.reset(seed, family, config.distractors, config.appearance)
    draw = random_stream(seed, "expert")
    frames: dict[str, list[np.ndarray]] = {camera: [] for camera in config.cameras}
    actions, states = [], []
    linger = _LINGER
    while True:
        for camera, video in frames.items():
            video.append(table.render(camera))
        actions.append(_noisy(expert_action(table.task, state), noise, draw))
        states.append(state.vectors())
        linger -= table.success
        if len(actions) == config.max_steps or linger < 0:
            break
        state = table.step(actions[-1])
    return Episode(
        id=f"{family}-{index:06d}",
        frames={camera: np.stack(video) for camera, video in frames.items()},
        actions=np.stack(actions).astype(np.float32),
        instruction=table.task.instruction,
        success=table.success,
        states={name: np.stack([s[name] for s in states]) for name in states[0]},
        info=_facts(table, noise, list(seed)),
    )


def _noisy(action: np.ndarray, noise: float, draw: np.random.Generator) -> np.ndarray:
    """Gaussian noise with a standard deviation of ``noise`` times the bounds on the six deltas, clipped to them."""
    bound = np.array(SPEC.high[:6])
    scale = np.array([1.0, 1.0, 1.0, *[_ROTATION_NOISE] * 3])
    delta = action[:6] + noise * scale * bound * draw.normal(size=6)
    return np.concatenate([np.clip(delta, -bound, bound), action[6:]])


def _facts(table: Tabletop, noise: float, seed: list[int]) -> dict[str, Any]:
    task = table.task
    return {
        "family": task.family,
        "target": task.target,
        "goal": task.goal,
        "noise": noise,
        "seed": seed,
        "held_out_phrasing": task.held_out_phrasing,
        "objects": {colour: placed.shape for colour, placed in table.objects.items()},
    }


@lru_cache(maxsize=2)
def _tabletop(image_size: int, shadows: bool, dynamics_noise: float) -> Tabletop:
    """One simulator a process: building it takes longer than an episode's reset, which leaves nothing of the last."""
    return Tabletop(image_size, shadows, dynamics_noise)


def record(config: SimConfig, processes: int | None = None) -> Iterator[Episode]:
    """All episodes in order, the same whatever the number of processes.

    Args:
        processes: workers; None is one per core that this process may use, 1 records in this process.
    """
    return spread(partial(record_episode, config), range(config.episodes), processes or cores())
