"""Recording episodes, one process a core, and the truth behind a recorded one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial

import numpy as np

from rslwm.processes import cores, spread
from rslwm.serialisation import ConfigError
from rslwm.sim.config import SimConfig
from rslwm.sim.demonstrator import Demonstrator
from rslwm.sim.state import TableState
from rslwm.sim.tabletop import Snapshot, Tabletop
from rslwm.types import Episode

_tabletop = lru_cache(maxsize=2)(Tabletop)
"""One simulator a process: building it takes longer than an episode's reset, which leaves nothing of the last."""


def record_episode(config: SimConfig, index: int) -> Episode:
    """Episode ``index`` of a recording, a pure function of the arguments.

    The actions are the executed ones, noise included; the last one follows the last frame. ``success`` is what the rule
    of the task says of the last frame: what was reached can be undone.

    Raises:
        ConfigError: an unknown family or camera, an episode without steps, or more distractors than fit.
    """
    frames: dict[str, list[np.ndarray]] = {camera: [] for camera in config.cameras}
    actions, states = [], []
    reached: int | None = None
    for table, actor, state, action in demonstration(config, index):  # noqa: B007
        for camera, video in frames.items():
            video.append(table.render(camera))
        actions.append(action)
        states.append(state.vectors())
        if reached is None and table.success:
            reached = table.steps
    task, course = table.task, actor.course
    return Episode(
        id=f"{task.family}-{index:06d}",
        frames={camera: np.stack(video) for camera, video in frames.items()},
        actions=np.stack(actions).astype(np.float32),
        instruction=task.instruction,
        success=table.success,
        states={name: np.stack([s[name] for s in states]) for name in states[0]},
        info={
            "family": task.family,
            "target": task.target,
            "goal": task.goal,
            "noise": actor.noise,
            "seed": [config.seed, index],
            "held_out_phrasing": task.held_out_phrasing,
            "objects": {colour: placed.shape for colour, placed in table.objects.items()},
            "misjudged": course.misjudged is not None,
            "gives_up": course.gives_up,
            "afterwards": course.afterwards,
            "turned": actor.turned,
            "reached": reached,
        },
    )


def demonstration(config: SimConfig, index: int) -> Iterator[tuple[Tabletop, Demonstrator, TableState, np.ndarray]]:
    """An episode as it happens: the simulator, who acts, what is true, and the action (7,) that follows on it."""
    if not config.families or not config.noise:
        raise ConfigError("sim.families and sim.noise: each needs at least one entry")
    if min(config.min_steps, config.max_steps) < 1:
        raise ConfigError(
            f"sim.min_steps and sim.max_steps: {config.min_steps} and {config.max_steps} aren't 1 or more"
        )
    family = config.families[index % len(config.families)]
    table = _tabletop(config.image_size, config.shadows, config.dynamics_noise)
    state = table.reset((config.seed, index), family, config.distractors, config.appearance)
    actor = Demonstrator(table.save(), config)
    while True:
        action = actor.act(state)
        yield table, actor, state, action
        if table.steps == actor.course.length - 1:
            return
        state = table.step(action)


def restore(config: SimConfig, episode: int, step: int = 0) -> Snapshot:
    """The moment of frame ``step`` of episode ``episode`` of the recording that ``config`` describes, simulated again.

    It is exact. Recorded actions are not quite those that were executed, which weren't rounded to float32: played from
    here they drift from the recorded states by 1e-5 as a rule, and more where a contact is made or missed by it.

    Raises:
        ConfigError: ``config`` describes no recording.
        IndexError: the episode is over by then.
    """
    for table, *_ in demonstration(config, episode):
        if table.steps == step:
            return table.save()
    raise IndexError(f"episode {episode} has {table.steps + 1} steps and no step {step}")


def record(config: SimConfig, processes: int | None = None) -> Iterator[Episode]:
    """All episodes in order, the same whatever the number of processes: None is one a core, 1 records in this one."""
    return spread(partial(record_episode, config), range(config.episodes), processes or cores())
