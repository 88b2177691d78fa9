"""What is true on the table, and the families of tasks: where things start, instructions, and the rules of success."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from rslwm.serialisation import ConfigError
from rslwm.sim.scene import CABINET_HALF, COLOURS, HALF, HANDLE_HEIGHT, HANDLE_OFFSET, PLATE_HEIGHT, SHAPES

Area = tuple[tuple[float, float], tuple[float, float]]
"""Bounds of x and y in metres."""

WORKSPACE: Area = ((0.215, 0.360), (-0.120, 0.120))  # of the places of objects' centres
IN_SIGHT: Area = ((0.200, 0.390), (-0.170, 0.170))  # of what the front camera sees of the table, a little less
_HALF_OPEN = 0.041  # metres, in the middle between an open and a closed drawer
HELD_OUT_SHARE = 0.15  # of the episodes have an instruction whose phrasing the others never use
DRAWER_OPEN, DRAWER_CLOSED = 0.070, 0.012  # openings in metres above and below which the drawer counts as such

Spot = tuple[float, float]
Circle = tuple[float, float, float]


DRAWER = "drawer"  # among the things that the hand can hold or touch

STATE_NAMES: dict[str, list[str]] = {
    "gripper_position": ["x", "y", "z"],
    "gripper_opening": ["gap"],
    "object_position": [f"{colour}_{axis}" for colour in COLOURS for axis in "xyz"],
    "object_yaw": list(COLOURS),
    "object_present": list(COLOURS),
    "object_square": list(COLOURS),
    "goal_position": ["x", "y", "z"],
    "contact": ["contact"],
    "held": ["held"],
    "drawer_opening": ["opening"],
    "joint_position": [f"joint{j}" for j in range(6)],
}
"""The recorded state vectors and the name of each of their dimensions; lengths in metres, angles in radians."""


@dataclass(frozen=True)
class Pose:
    """Where an object is: position (3,) in metres and rotation about the vertical in radians.

    ``square`` says whether that rotation can be seen, up to quarter turns: it is a box, and hasn't toppled.
    """

    position: np.ndarray
    yaw: float
    square: bool = False


@dataclass(frozen=True)
class TableState:
    """Positions (3,) in metres in the base frame, rotations (3, 3).

    ``target_position`` and ``target_rotation`` are the pose that the controller was last asked for; actions are deltas
    to it. ``touched`` names what the fingers or the palm touch, ``held`` what both fingers touch.
    """

    gripper_position: np.ndarray
    gripper_rotation: np.ndarray
    gripper_gap: float
    target_position: np.ndarray
    target_rotation: np.ndarray
    joint_position: np.ndarray
    objects: dict[str, Pose]
    goal_position: np.ndarray
    drawer_opening: float
    handle_position: np.ndarray
    touched: frozenset[str]
    held: frozenset[str]

    def vectors(self) -> dict[str, np.ndarray]:
        """The recorded ground truth, one float32 vector for every entry of ``STATE_NAMES``."""
        absent = Pose(np.zeros(3), 0.0)
        poses = [self.objects.get(colour, absent) for colour in COLOURS]
        values = vars(self) | {
            "gripper_opening": self.gripper_gap,
            "object_position": np.concatenate([pose.position for pose in poses]),
            "object_yaw": [pose.yaw for pose in poses],
            "object_present": [colour in self.objects for colour in COLOURS],
            "object_square": [pose.square for pose in poses],
            "contact": bool(self.touched),
            "held": bool(self.held),
        }
        return {name: np.atleast_1d(np.asarray(values[name], np.float32)) for name in STATE_NAMES}


@dataclass(frozen=True)
class Placed:
    """An object on the table: its shape, the place of its centre in metres, its rotation in radians."""

    shape: str
    x: float
    y: float
    yaw: float


@dataclass(frozen=True)
class Layout:
    """Where a task starts. ``keep_clear`` are circles (x, y, radius) that no distractor's centre may be in."""

    objects: dict[str, Placed] = field(default_factory=dict)
    zone: Spot | None = None
    plate: Spot | None = None
    cabinet: Spot | None = None
    opening: float = 0.0
    keep_clear: tuple[Circle, ...] = ()


@dataclass(frozen=True)
class Task:
    """What to do with what. ``target`` is the colour of the object to move, or ``drawer``; ``goal`` is the colour of
    the zone or of the cube to stack on, ``plate``, ``open`` or ``closed``."""

    family: str
    target: str
    goal: str
    instruction: str = ""
    held_out_phrasing: bool = False


@dataclass(frozen=True)
class Family:
    """A family of tasks. Phrasings are templates over {target}, {shape} and {goal}."""

    draw: Callable[[np.random.Generator], tuple[Task, Layout]]
    reached: Callable[[Task, TableState], bool]
    phrasings: tuple[str, ...]
    held_out: tuple[str, ...]


def draw_task(family: str, layout: np.random.Generator, language: np.random.Generator) -> tuple[Task, Layout]:
    """A task of a family and where its things start. Raises ConfigError: there is no such family."""
    if family not in FAMILIES:
        raise ConfigError(f"sim.families: there is no task family {family!r}; known: {', '.join(FAMILIES)}")
    rules = FAMILIES[family]
    task, start = rules.draw(layout)
    return instructed(task, start.objects, language), start


def instructed(task: Task, objects: Mapping[str, Placed], language: np.random.Generator) -> Task:
    """The task with an instruction that says it, where these objects are on the table."""
    rules = FAMILIES[task.family]
    held_out = bool(language.random() < HELD_OUT_SHARE)
    phrasing = str(language.choice(rules.held_out if held_out else rules.phrasings))
    words = {"target": task.target, "goal": task.goal, "verb": "close" if task.goal == "closed" else "open"}
    if task.target in objects:
        words["shape"] = "cube" if objects[task.target].shape == "box" else "cylinder"
    return replace(task, instruction=phrasing.format(**words), held_out_phrasing=held_out)


def another_task(
    task: Task, layout: Layout, objects: Mapping[str, Placed], draw: np.random.Generator
) -> tuple[Task, Layout]:
    """Another task of the same family on the same table: another object goes to the same place, or the object onto
    another cube; a drawer, half open then, has to be moved the other way. Raises ConfigError: nothing else is there."""
    if task.family == "drawer":
        other = replace(task, goal="closed" if task.goal == "open" else "open")
        return instructed(other, objects, draw), replace(layout, opening=_HALF_OPEN)
    free = [colour for colour in objects if colour not in (task.target, task.goal)]
    choices = [replace(task, target=colour) for colour in free]
    if task.family == "stack":
        choices += [replace(task, goal=colour) for colour in free if objects[colour].shape == "box"]
    if not choices:
        raise ConfigError(f"another {task.family!r} task needs another object; ask for 1 distractor or more")
    return instructed(choices[int(draw.integers(len(choices)))], objects, draw), layout


def goal_position(task: Task, layout: Layout, objects: dict[str, Pose]) -> np.ndarray:
    """Where the centre of the target, or the drawer's handle, has to go: (3,) in metres."""
    if task.family == "stack":
        return objects[task.goal].position + np.array([0, 0, 2 * HALF])
    if layout.cabinet:
        return handle_position(layout, DRAWER_OPEN + 0.012 if task.goal == "open" else 0.0)
    place = layout.zone or layout.plate
    assert place is not None
    return np.array([*place, HALF + (PLATE_HEIGHT if layout.plate else 0.0)])


def handle_position(layout: Layout, opening: float) -> np.ndarray:
    """The middle of the drawer's handle (3,) in metres; zeros where the scene has no drawer."""
    if layout.cabinet is None:
        return np.zeros(3)
    x, y = layout.cabinet
    return np.array([x + CABINET_HALF[0] + HANDLE_OFFSET + opening, y, HANDLE_HEIGHT])


def draw_distractors(
    task: Task, layout: Layout, count: int, rng: np.random.Generator, area: Area = WORKSPACE
) -> dict[str, Placed]:
    """Objects of other colours, clear of the task's things and of the way between them. Raises ConfigError: more
    distractors than there are colours left, or than the table has room for."""
    free = [colour for colour in COLOURS if colour not in (task.target, task.goal, *layout.objects)]
    if count > len(free):
        raise ConfigError(f"sim.distractors: {count} asked for, but {task.family!r} leaves only {len(free)} colours")
    colours = [str(colour) for colour in rng.permutation(free)[:count]]
    avoid = (*layout.keep_clear, *((placed.x, placed.y, 3 * HALF) for placed in layout.objects.values()))
    for _ in range(50):
        spots = _scatter(rng, count, _DISTRACTOR_GAP, avoid, area)
        if spots is not None:
            return {colour: _placed(rng, spot) for colour, spot in zip(colours, spots, strict=True)}
    raise ConfigError(f"sim.distractors: no room for {count} beside a {task.family!r} task; ask for fewer")


_DISTRACTOR_GAP = 0.072
_CLEAR = 0.090  # between two centres: an object's half, an open finger's outside, and some air


def _scatter(
    rng: np.random.Generator, count: int, gap: float, avoid: Sequence[Circle] = (), area: Area = WORKSPACE
) -> list[Spot] | None:
    """Points in an area, ``gap`` apart and outside the circles; None if the table turned out too crowded."""
    (x0, x1), (y0, y1) = area
    spots: list[Spot] = []
    for _ in range(60 * count):
        if len(spots) == count:
            break
        x, y = rng.uniform((x0, y0), (x1, y1)).tolist()
        far = all(np.linalg.norm(np.subtract((x, y), other)) > gap for other in spots)
        if far and all(np.hypot(x - cx, y - cy) > radius for cx, cy, radius in avoid):
            spots.append((x, y))
    return spots if len(spots) == count else None


def _placed(rng: np.random.Generator, spot: Spot, shape: str | None = None) -> Placed:
    drawn = str(rng.choice(SHAPES))
    return Placed(shape or drawn, *spot, float(rng.uniform(-0.7, 0.7)))


def _draw_target(rng: np.random.Generator, apart: float) -> tuple[str, str, dict[str, Placed], Spot, Spot]:
    """Its colour and another one, the object, where it starts and where it has to go, so many metres apart at least."""
    colour, other = (str(colour) for colour in rng.permutation(list(COLOURS))[:2])
    while (spots := _scatter(rng, 2, apart)) is None:
        pass
    start, goal = spots
    return colour, other, {colour: _placed(rng, start)}, start, goal


def _circles(points: Iterable[Iterable[float]], radius: float) -> tuple[Circle, ...]:
    return tuple((float(x), float(y), radius) for x, y in points)


def _draw_push(rng: np.random.Generator) -> tuple[Task, Layout]:
    colour, zone, objects, start, goal = _draw_target(rng, 0.10)
    # The hand comes down behind the object and pushes it along this line.
    way = np.subtract(goal, start)
    line = np.linspace(start - 0.06 * way / np.linalg.norm(way), goal, 6)
    return Task("push", colour, zone), Layout(objects, zone=goal, keep_clear=_circles(line, 0.065))


def _draw_pick(rng: np.random.Generator) -> tuple[Task, Layout]:
    colour, _, objects, *places = _draw_target(rng, 0.11)
    return Task("pick", colour, "plate"), Layout(objects, plate=places[1], keep_clear=_circles(places, _CLEAR))


def _draw_stack(rng: np.random.Generator) -> tuple[Task, Layout]:
    colour, base, objects, *places = _draw_target(rng, 0.10)
    objects[base] = _placed(rng, places[1], shape="box")
    return Task("stack", colour, base), Layout(objects, keep_clear=_circles(places, _CLEAR))


def _draw_drawer(rng: np.random.Generator) -> tuple[Task, Layout]:
    goal = str(rng.choice(["open", "closed"]))
    x, y = 0.185, float(rng.uniform(0.02, 0.075) * rng.choice([-1, 1]))
    opening = float(rng.uniform(0.0, 0.01) if goal == "open" else rng.uniform(0.060, 0.085))
    clear = _circles(np.linspace((x, y), (x + 0.22, y), 6), 0.095)
    return Task("drawer", "drawer", goal), Layout(cabinet=(x, y), opening=opening, keep_clear=clear)


def _pushed(task: Task, state: TableState) -> bool:
    offset = state.objects[task.target].position - state.goal_position
    return bool(np.abs(offset[:2]).max() < 0.030 and abs(offset[2]) < 0.008)


def _placed_at_goal(task: Task, state: TableState) -> bool:
    """At rest at the goal and let go."""
    offset = state.objects[task.target].position - state.goal_position
    return bool(np.linalg.norm(offset[:2]) < 0.030 and abs(offset[2]) < 0.008 and task.target not in state.touched)


def _slid(task: Task, state: TableState) -> bool:
    return state.drawer_opening > DRAWER_OPEN if task.goal == "open" else state.drawer_opening < DRAWER_CLOSED


FAMILIES: dict[str, Family] = {
    "push": Family(
        _draw_push,
        _pushed,
        (
            "push the {target} {shape} to the {goal} square",
            "push the {target} {shape} onto the {goal} square",
            "slide the {target} {shape} to the {goal} square",
            "move the {target} {shape} across the table to the {goal} square",
        ),
        ("shove the {target} {shape} over to the {goal} patch", "the {target} {shape} belongs on the {goal} square"),
    ),
    "pick": Family(
        _draw_pick,
        _placed_at_goal,
        (
            "put the {target} {shape} on the plate",
            "pick up the {target} {shape} and place it on the plate",
            "place the {target} {shape} on the plate",
            "lift the {target} {shape} and set it down on the plate",
        ),
        ("serve the {target} {shape} on the dish", "the {target} {shape} belongs on the plate"),
    ),
    "stack": Family(
        _draw_stack,
        _placed_at_goal,
        (
            "stack the {target} {shape} on the {goal} cube",
            "put the {target} {shape} on top of the {goal} cube",
            "place the {target} {shape} on the {goal} cube",
            "pick up the {target} {shape} and set it on the {goal} cube",
        ),
        ("build a tower: {target} {shape} above the {goal} cube", "the {target} {shape} goes on top of {goal}"),
    ),
    "drawer": Family(
        _draw_drawer,
        _slid,
        (
            "{verb} the drawer",
            "slide the drawer {goal}",
            "grasp the handle and {verb} the drawer",
            "{verb} the cabinet",
        ),
        ("leave the drawer {goal}", "make sure that the drawer is {goal}"),
    ),
}
