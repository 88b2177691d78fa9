"""Lessons for policies: what a trembling arm came to see, and what the expert would have done there.

An expert without memory can be asked in any state, so that the arm need not do what it says: noise and a lost start
lead it to where a policy of mistakes would be (DART, Laskey et al. 2017; DAgger, Ross et al. 2011).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from rslwm.processes import cores, spread
from rslwm.sim.experts import expert_action
from rslwm.sim.sight import as_seen, facts
from rslwm.sim.tabletop import SPEC, Tabletop, random_stream

_tabletop = lru_cache(maxsize=1)(Tabletop)
_LESSONS = 2  # the third number of the seeds of lessons: neither those of recordings nor those of trials
_AFTER = 1  # actions for which a lesson goes on when the task is done: a policy learns to leave it
_SLIP = 0.1  # of the noise, how often the gripper does the opposite


@dataclass(frozen=True)
class LessonConfig:
    """What lessons are made of."""

    frame_skip: int = 2
    """Control steps of one action."""
    actions: int = 20
    """Actions of a lesson whose task isn't done before."""
    families: tuple[str, ...] = ("push", "pick", "stack", "drawer")
    """Families of tasks, which take turns."""
    noise: tuple[float, ...] = (0.0, 0.15, 0.3, 0.5)
    """How much noise is added to the expert's actions, as a share of their bounds: one level a lesson, in turn."""
    lost: float = 0.3
    """In this share of the lessons the arm does something at random for the first few actions."""
    distractors: int = 2
    """How many objects lie on the table that the task doesn't need."""
    image_size: int = 64
    """Height and width in pixels of a frame."""
    camera: str = "front"
    """The camera."""
    seed: int = 0
    """Another number makes other lessons."""


@dataclass(frozen=True)
class Lesson:
    """``frames`` (T, H, W, 3) uint8; ``actions`` (T, 7) float32, what the expert does there, normalised; ``facts``
    (T, WIDTH) float32, see :data:`rslwm.sim.sight.FACTS`."""

    instruction: str
    frames: np.ndarray
    actions: np.ndarray
    facts: np.ndarray


def lesson(config: LessonConfig, index: int) -> Lesson:
    """Lesson ``index``, a pure function of the arguments. Raises ConfigError: an unknown family or camera."""
    table = _tabletop(config.image_size)
    seed = (config.seed, index, _LESSONS)
    state = table.reset(seed, config.families[index % len(config.families)], config.distractors)
    draw = random_stream(seed, "course")
    noise = config.noise[index // len(config.families) % len(config.noise)]
    lost = int(draw.integers(1, 6)) if draw.random() < config.lost else 0
    astray = _anywhere(draw, config.frame_skip)
    frames, actions, known, after = [], [], [], 0
    for number in range(config.actions):
        frames.append(table.render(config.camera))
        known.append(facts(table.task, state))
        actions.append(expert_action(*as_seen(known[-1]), config.frame_skip))
        after += table.success
        if after > _AFTER:
            break
        action = astray if number < lost else _trembling(actions[-1], noise, config.frame_skip, draw)
        for part in _parts(action, config.frame_skip):
            state = table.step(part)
    spec = SPEC.composed(config.frame_skip)
    done = spec.normalise(np.stack(actions)).astype(np.float32)
    return Lesson(table.task.instruction, np.stack(frames), done, np.stack(known))


def lessons(config: LessonConfig, indices: Sequence[int], processes: int | None = None) -> Iterator[Lesson]:
    """These lessons in order, the same whatever the number of processes: None is one a core."""
    return spread(partial(lesson, config), indices, processes or cores())


def _anywhere(draw: np.random.Generator, steps: int) -> np.ndarray:
    return draw.uniform(SPEC.low, SPEC.high) * [steps, steps, steps, 0, 0, steps, 1]


def _trembling(action: np.ndarray, noise: float, steps: int, draw: np.random.Generator) -> np.ndarray:
    """Gaussian noise on the position and on the turn about the vertical; now and then the gripper slips."""
    shaken = action.copy()
    shaken[[0, 1, 2, 5]] += noise * steps * np.array(SPEC.high)[[0, 1, 2, 5]] * draw.normal(size=4)
    if draw.random() < _SLIP * noise:
        shaken[6] = 1 - shaken[6]
    return shaken


def _parts(action: np.ndarray, steps: int) -> Iterator[np.ndarray]:
    """The control steps of an action, as :class:`rslwm.envs.tabletop.SimulatedTabletop` does them."""
    delta = [mode == "delta" for mode in SPEC.modes]
    yield from [np.where(delta, action / steps, action)] * steps
