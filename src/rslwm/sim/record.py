"""Recording episodes: a scripted expert with noise on its actions, one process per core."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

import numpy as np

from rslwm.processes import cores, spread
from rslwm.serialisation import ConfigError
from rslwm.sim.config import SimConfig
from rslwm.sim.demonstrator import Demonstrator
from rslwm.sim.tabletop import Tabletop
from rslwm.types import Episode


def record_episode(config: SimConfig, index: int) -> Episode:
    """Episode ``index`` of a recording, a pure function of the arguments.

    Families take turns, then noise levels. The actions are the executed ones, noise included; the last one follows the
    last frame. ``success`` is what the rule of the task says of the last frame: what was reached can be undone.

    Raises:
        ConfigError: an unknown family or camera, an episode without steps, or more distractors than fit.
    """
    if not config.families or not config.noise:
        raise ConfigError("sim.families and sim.noise: each needs at least one entry")
    if min(config.min_steps, config.max_steps) < 1:
        raise ConfigError(
            f"sim.min_steps and sim.max_steps: {config.min_steps} and {config.max_steps} aren't 1 or more"
        )
    family = config.families[index % len(config.families)]
    noise = config.noise[index // len(config.families) % len(config.noise)]
    seed = (config.seed, index)
    table = _tabletop(config.image_size, config.shadows, config.dynamics_noise)
    state = table.reset(seed, family, config.distractors, config.appearance)
    actor = Demonstrator(table, config, noise)
    frames: dict[str, list[np.ndarray]] = {camera: [] for camera in config.cameras}
    actions, states = [], []
    reached: int | None = None
    while True:
        for camera, video in frames.items():
            video.append(table.render(camera))
        actions.append(actor.act(state))
        states.append(state.vectors())
        if reached is None and table.success:
            reached = table.steps
        if len(actions) == actor.course.length:
            break
        state = table.step(actions[-1])
    return Episode(
        id=f"{family}-{index:06d}",
        frames={camera: np.stack(video) for camera, video in frames.items()},
        actions=np.stack(actions).astype(np.float32),
        instruction=table.task.instruction,
        success=table.success,
        states={name: np.stack([s[name] for s in states]) for name in states[0]},
        info=_facts(table, noise, list(seed)) | actor.facts() | {"reached": reached},
    )


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
