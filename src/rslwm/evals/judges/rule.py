"""The simulator's own rule as a judge, applied to what a reader finds in latents instead of to the true state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from rslwm.evals.judges.base import JUDGES, Footage, Judge, Verdicts
from rslwm.sim.scene import COLOURS, HALF
from rslwm.sim.tabletop import HOLD
from rslwm.sim.tasks import DRAWER, FAMILIES, Pose, TableState, Task
from rslwm.types import DataError

Read: TypeAlias = Callable[[Tensor], Mapping[str, np.ndarray]]
"""State vectors (B, T, n) by the names of :data:`rslwm.sim.tasks.STATE_NAMES`, in metres, of latents (B, T, h, w, C):
``object_position``, ``goal_position`` and ``gripper_position``, and ``drawer_opening`` where there is a drawer. What is
known from the start, such as a goal that doesn't move, may come from there."""

_FARTHEST, _FINE = 0.5, 5e-4  # metres: of what is looked for, and to which it is found
_SOFT = 0.01  # metres within which a score goes from nearly 1 to nearly 0
_CLEAR = (0.0, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08)


@dataclass(frozen=True)
class Tolerance:
    """What reading errors are made up for, in metres. All 0 is the simulator's rule, but for letting go, which isn't
    asked for then."""

    short: float = 0.0
    """The rule counts as met where things are read this close to where it is; below 0 they must be inside."""
    clear: float = 0.0
    """A hand that is read this close to the object still touches it."""


@JUDGES.register("rule")
@dataclass(frozen=True)
class RuleJudge(Judge):
    """Success is that the task's rule is met in each of a trial's last ``hold`` frames, or of as many in a row at any
    time, up to the family's tolerance.

    The score falls with the distance that lacks and is 0.5 at the tolerance; progress is how much of the distance at
    the start was ever made up for. Where the reader gives no number a trial is unjudged.
    """

    read: Read
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    """By family of tasks; 0 for the others."""
    hold: int = HOLD
    """Frames. The simulator asks for as many control steps; with frame skip fewer frames cover them."""
    ever: bool = False
    """Whether it is enough that the rule is met in so many frames in a row at any time."""

    @property
    def name(self) -> str:
        return "rule"

    def judge(self, footage: Footage) -> Verdicts:
        scores, successes, progress = [], [], []
        for task, states in self._trials(footage):
            tolerance = self.tolerances.get(task.family, Tolerance())
            lacking = self._lacking(task, states, tolerance.clear) - tolerance.short
            successes.append(lacking <= 0)
            scores.append(0.5 * (1 - np.tanh(lacking / _SOFT / 2)))
            way = np.array([shortfall(task, state) for state in states]) - tolerance.short
            progress.append(1 - max(np.nanmin(way), 0.0) / way[0] if way[0] > 0 else 1.0)
        judged = np.isfinite(scores)
        return Verdicts(np.array(scores), np.array(successes, bool), np.where(judged, np.clip(progress, 0, 1), np.nan))

    @classmethod
    def fitted(cls, read: Any, footage: Footage, truth: Any, hold: int = HOLD, ever: bool = False) -> Self:
        """With the tolerances that tell these trials, of training episodes, apart best by balanced accuracy.

        A family all of whose trials ended alike keeps the simulator's rule. Raises DataError as :meth:`judge`, or if
        there aren't as many labels (B,) as trials.
        """
        exact, truth = cls(read, hold=hold, ever=ever), np.asarray(truth, bool)
        if len(truth) != len(footage):
            raise DataError(f"RuleJudge.fitted: {len(truth)} labels of {len(footage)} trials; give one each")
        trials = [*exact._trials(footage)]
        families = np.array([task.family for task, _ in trials])
        tolerances = {}
        for family in np.unique(families).tolist():
            own = np.flatnonzero(families == family)
            found = {clear: np.array([exact._lacking(*trials[i], clear) for i in own]) for clear in _CLEAR}
            tolerances[family] = _tolerance(found, truth[own])
        return replace(exact, tolerances=tolerances)

    def _lacking(self, task: Task, states: list[TableState], clear: float) -> float:
        """Metres that the worst of the last frames lacks, or of the best so many in a row."""
        return float(np.min(self._rows(task, states if self.ever else states[-self.hold :], clear)))

    def _rows(self, task: Task, states: list[TableState], clear: float) -> np.ndarray:
        """Metres that the worst of every ``hold`` frames in a row lacks."""
        metres = np.array([shortfall(task, _touching(task, state, clear)) for state in states])
        return np.max(sliding_window_view(metres, min(self.hold, len(metres))), axis=1)

    def when(self, footage: Footage) -> np.ndarray:
        """The frame (B,) with which each trial has met the rule for the first time, -1 where it never did, NaN where
        the reader gives no number. Raises what :meth:`judge` raises."""
        found = []
        for task, states in self._trials(footage):
            tolerance = self.tolerances.get(task.family, Tolerance())
            lacking = self._rows(task, states, tolerance.clear) - tolerance.short
            met = np.flatnonzero(lacking <= 0)
            frame = float(met[0] + len(states) - len(lacking)) if len(met) else -1.0
            found.append(np.nan if np.isnan(lacking).any() and not len(met) else frame)
        return np.array(found)

    def _trials(self, footage: Footage) -> Iterator[tuple[Task, list[TableState]]]:
        """Of each trial the task, and the state in every frame."""
        if footage.latents is None or not footage.tasks:
            raise DataError("rule judge: the footage lacks latents or tasks; it reads the one by the rule of the other")
        read = {name: np.asarray(values, float) for name, values in self.read(footage.latents).items()}
        for b, task in enumerate(footage.tasks):
            frames = [{name: values[b, t] for name, values in read.items()} for t in range(footage.latents.shape[1])]
            yield task, [*map(partial(_state, task), frames)]


def _tolerance(lacking: Mapping[float, np.ndarray], truth: np.ndarray) -> Tolerance:
    """The best of what lacks (N,) by every distance of the hand; of equals, the one nearest to the simulator's."""
    if truth.all() or not truth.any():
        return Tolerance()
    found = []
    for clear, metres in lacking.items():
        ends = np.unique(metres[np.isfinite(metres)])
        # Failures may be far away: halfway to them would forgive more than reading errors.
        between = np.minimum(ends[:-1] + np.diff(ends) / 2, ends[:-1] + _SOFT)
        shorts = np.concatenate([[0.0], between, ends[:1] - _FINE, ends[-1:] + _FINE])
        for short in shorts.tolist():
            says = metres <= short
            accuracy = (says[truth].mean() + (~says[~truth]).mean()) / 2
            found.append((-round(accuracy, 9), abs(short), clear, short))
    _, _, clear, short = min(found)
    return Tolerance(short, clear)


def shortfall(task: Task, state: TableState) -> float:
    """By how many metres a state misses its task's rule, below 0 by how many it is inside.

    That is the shortest way that its object, or its drawer, would have to be nearer to the goal for the simulator's
    rule to hold; infinite where that isn't all it lacks, and NaN where a number is missing.
    """
    reached = FAMILIES[task.family].reached
    if task.target == DRAWER:
        missing = not np.isfinite(state.drawer_opening)
    else:
        missing = not np.isfinite(state.objects[task.target].position - state.goal_position).all()
    if missing:
        return np.nan
    low, high = -_FARTHEST, _FARTHEST
    if not reached(task, _nearer(task, state, high)):
        return np.inf
    while high - low > _FINE:
        middle = (low + high) / 2
        low, high = (low, middle) if reached(task, _nearer(task, state, middle)) else (middle, high)
    return high


def _nearer(task: Task, state: TableState, metres: float) -> TableState:
    """With what matters so much nearer to the goal, not beyond it, in the plane as well as vertically."""
    if task.target == DRAWER:
        return replace(state, drawer_opening=state.drawer_opening + metres * (1 if task.goal == "open" else -1))
    offset = state.objects[task.target].position - state.goal_position
    away = np.hypot(*offset[:2])
    way = offset[:2] / away if away > 0 else np.array([1.0, 0.0])
    plane, up = max(away - metres, 0.0), max(abs(offset[2]) - metres, 0.0)
    moved = np.array([*(plane * way), np.copysign(up, offset[2])])
    return replace(state, objects={**state.objects, task.target: Pose(state.goal_position + moved, 0.0)})


def _touching(task: Task, state: TableState, clear: float) -> TableState:
    """As seen by a hand that touches its object up to this distance."""
    if task.target == DRAWER or not clear:
        return state
    apart = np.linalg.norm(state.gripper_position - state.objects[task.target].position)
    return replace(state, touched=frozenset([task.target] if apart < clear else []))


def _state(task: Task, read: Mapping[str, np.ndarray]) -> TableState:
    """What was read of one frame, as the simulator's rules take it. Raises DataError: the reader leaves out what this
    task's rule asks for."""
    needed = {"drawer_opening"} if task.target == DRAWER else {"object_position", "gripper_position"}
    if task.family not in ("stack", "drawer"):
        needed.add("goal_position")
    if missing := sorted(needed - read.keys()):
        raise DataError(f"rule judge: the reader gives no {missing[0]!r}, which a {task.family!r} task is judged by")
    nothing, turned = np.zeros(3), np.eye(3)
    positions = read.get("object_position", np.zeros(3 * len(COLOURS))).reshape(-1, 3)
    objects = {colour: Pose(position, 0.0) for colour, position in zip(COLOURS, positions, strict=True)}
    goal = read.get("goal_position", nothing)
    if task.family == "stack":  # the cube to stack on may have moved
        goal = objects[task.goal].position + np.array([0, 0, 2 * HALF])
    return TableState(
        gripper_position=read.get("gripper_position", nothing),
        gripper_rotation=turned,
        gripper_gap=0.0,
        target_position=nothing,
        target_rotation=turned,
        joint_position=np.zeros(6),
        objects=objects,
        goal_position=goal,
        drawer_opening=float(np.squeeze(read.get("drawer_opening", 0.0))),
        handle_position=nothing,
        touched=frozenset(),
        held=frozenset(),
    )
