"""Recording episodes, one process a core, and the truth behind a recorded one.

An expert acts that may misjudge its goal or give up, and that goes on whatever came of it. How an episode ends must not
tell how its task went, or a probe of success reads where the hand is, and a rollout is told by its actions. So its
length, what follows on the work and when the work is broken off at the latest are drawn before it starts, and most
failures do what successes do: only the place that they take for the goal is another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np

from rslwm.processes import cores, spread
from rslwm.serialisation import ConfigError
from rslwm.sim.config import SimConfig
from rslwm.sim.experts import CLOSED, OPEN, expert_action, retreat, towards
from rslwm.sim.scene import HALF
from rslwm.sim.tabletop import HOLD, SPEC, Snapshot, Tabletop, random_stream
from rslwm.sim.tasks import FAMILIES, WORKSPACE, Circle, TableState, Task
from rslwm.types import Episode

_tabletop = lru_cache(maxsize=2)(Tabletop)
"""One simulator a process: building it takes longer than an episode's reset, which leaves nothing of the last."""

AFTERWARDS = {"hold": 0.15, "retreat": 0.15, "wander": 0.3, "next": 0.4}
"""What follows on the work, and how often: stay, go back above the table, move about at random, or put other objects
elsewhere."""

# In control steps:
_SPARE = (5, 9)  # fewest and most that the shortest episode has left when work is broken off
_SOONEST = 10  # of work before one gives up
_STAY = 4  # after which a wandering hand heads elsewhere
# Noise:
_ROTATION_NOISE = 0.4  # on rotations relative to that on translations: a tilted hand topples what it touches
_RESTLESS = 0.8  # while moving about at random, whatever that of the work
# In metres:
_AIR = ((0.20, -0.12, 0.12), (0.36, 0.12, 0.20))  # lowest and highest place of a hand that is in nobody's way
_CLEAR = 0.1  # height from which a hand sets out for the next object
_AWAY = 0.090  # least distance of a misjudged goal from the true one
_ROOM = 0.075  # least distance of an object that is put down from any other
_HALFWAY = (0.030, 0.045)  # how far a drawer stops short of where it has to go


Change = Callable[[Tabletop, np.random.Generator], None]
"""Changes what is on the table or how it looks, with a random stream of its own."""


def record_episode(config: SimConfig, index: int, change: Change | None = None) -> Episode:
    """Episode ``index`` of a recording, a pure function of the arguments; with a ``change``, its actions replayed in
    another scene, see :func:`replay`.

    The actions are the executed ones; the last one follows the last frame, of which ``success`` is told: what was
    reached can be undone. Raises ConfigError: an unknown family or camera, an episode without steps, or more
    distractors than fit.
    """
    frames: dict[str, list[np.ndarray]] = {camera: [] for camera in config.cameras}
    actions, states = [], []
    reached: int | None = None
    moments = replay(config, index, change) if change else demonstration(config, index)
    for table, actor, state, action in moments:  # noqa: B007
        for camera, video in frames.items():
            video.append(table.render(camera))
        actions.append(action)
        states.append(state.vectors())
        if reached is None and table.success:
            reached = table.steps
    task = table.task
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
            "misjudged": actor.misjudged is not None,
            "gives_up": actor.gives_up,
            "afterwards": actor.afterwards,
            "turned": actor.turned,
            "reached": reached,
        },
    )


Moment = tuple[Tabletop, "Demonstrator", TableState, np.ndarray]
"""The simulator, who acts, what is true, and the action (7,) that follows on it."""


def demonstration(config: SimConfig, index: int) -> Iterator[Moment]:
    """An episode as it happens."""
    table, state = _begin(config, index)
    actor = Demonstrator(table.save(), config)
    while True:
        action = actor.act(state)
        yield table, actor, state, action
        if table.steps == actor.length - 1:
            return
        state = table.step(action)


def replay(config: SimConfig, index: int, change: Change) -> Iterator[Moment]:
    """The same actions, to the last bit, in a scene that is changed before the first of them.

    Where only the look changes, so do only the pixels. An object that is added isn't among those that states tell of:
    what was true of the episode is still what is asked.
    """
    course = [(actor, action) for _, actor, _, action in demonstration(config, index)]
    table, state = _begin(config, index)
    told = [*state.objects]
    change(table, random_stream((config.seed, index), "perturbation"))
    state = table.state()
    for actor, action in course:
        yield table, actor, replace(state, objects={colour: state.objects[colour] for colour in told}), action
        if table.steps < len(course) - 1:
            state = table.step(action)


def _begin(config: SimConfig, index: int) -> tuple[Tabletop, TableState]:
    if not config.families or not config.noise:
        raise ConfigError("sim.families and sim.noise: each needs at least one entry")
    fewest, most = config.min_steps, config.max_steps
    if min(fewest, most) < 1:
        raise ConfigError(f"sim.min_steps and sim.max_steps: {fewest} and {most} aren't 1 or more")
    family = config.families[index % len(config.families)]
    table = _tabletop(config.image_size, config.shadows, config.dynamics_noise)
    return table, table.reset((config.seed, index), family, config.distractors, config.appearance)


def restore(config: SimConfig, episode: int, step: int = 0) -> Snapshot:
    """The moment of frame ``step`` of episode ``episode`` of the recording that ``config`` describes, simulated again.

    It is exact. Recorded actions are not quite those that were executed, which weren't rounded to float32: played from
    here they drift from the recorded states by 1e-5 as a rule, and more where a contact is made or missed by it. Raises
    ConfigError: ``config`` describes no recording. Raises IndexError: the episode is over by then.
    """
    for table, *_ in demonstration(config, episode):
        if table.steps == step:
            return table.save()
    raise IndexError(f"episode {episode} has {table.steps + 1} steps and no step {step}")


def moments(config: SimConfig, episode: int) -> list[Snapshot]:
    """Of every frame of an episode what :func:`restore` gives, simulated once; raises ConfigError like it."""
    return [table.save() for table, *_ in demonstration(config, episode)]


def record(config: SimConfig, processes: int | None = None, first: int = 0) -> Iterator[Episode]:
    """All episodes from number ``first`` on, in order, the same whatever the number of processes: None is one a core, 1
    records in this one."""
    return spread(partial(record_episode, config), range(first, config.episodes), processes or cores())


class Demonstrator:
    """Acts in the one episode that begins with ``start``, the first moment of one that the configuration describes.

    Families take turns from episode to episode, then levels of noise. ``length`` is the episode's in control steps.
    """

    def __init__(self, start: Snapshot, config: SimConfig) -> None:
        self.task = start.task
        self.noise = config.noise[start.seed[1] // len(config.families) % len(config.noise)]
        draw = random_stream(start.seed, "course")  # nothing in it depends on how the task will go
        shortest = min(config.min_steps, config.max_steps)
        self.length = int(draw.integers(shortest, config.max_steps + 1))
        # Counted from the shortest episode: in a longer one there is no more time to succeed.
        latest = max(1, shortest - int(draw.integers(_SPARE[0], _SPARE[1] + 1)))
        early = int(draw.integers(min(_SOONEST, latest), latest + 1))
        self.afterwards = str(draw.choice(list(AFTERWARDS), p=list(AFTERWARDS.values())))
        mistaken, self.gives_up = (bool(x) for x in draw.random(2) < (config.mistakes, config.giving_up))
        self.patience = early if self.gives_up else latest  # steps of work after which the arm turns to something else
        # The way (3,) in metres from the goal to the place that is taken for it.
        self.misjudged = _misjudged(start, draw) if mistaken else None
        self.turned: int | None = None  # the step from which the work was over
        self._tremble = random_stream(start.seed, "expert")
        self._other = _Afterwards(self.afterwards, start, random_stream(start.seed, "afterwards"))
        self._steps = self._content = 0

    def act(self, state: TableState) -> np.ndarray:
        """The action (7,) that follows on this state; called once a control step."""
        if self.turned is None and (self._content >= HOLD or self._steps >= self.patience):
            self.turned = self._steps
        if self.turned is None:
            seen = self._as_seen(state)
            self._content = self._content + 1 if FAMILIES[self.task.family].reached(self.task, seen) else 0
            action, noise = expert_action(self.task, seen), self.noise
        elif self._steps - self.turned + self._content < HOLD:  # what was finished has been let go by now
            action, noise = retreat(self.task, state), self.noise
        else:
            action, noise = self._other.intend(state), max(self.noise, self._other.restlessness)
        self._steps += 1
        return _noisy(action, noise, self._tremble)

    def _as_seen(self, state: TableState) -> TableState:
        """The state with the goal where it is taken to be."""
        if self.misjudged is None:
            return state
        opening = state.drawer_opening - (self.misjudged[0] if self.task.family == "drawer" else 0.0)
        return replace(state, goal_position=state.goal_position + self.misjudged, drawer_opening=opening)


def _noisy(action: np.ndarray, noise: float, draw: np.random.Generator) -> np.ndarray:
    """Gaussian noise with a standard deviation of ``noise`` times the bounds on the six deltas, clipped to them."""
    bound = np.array(SPEC.high[:6])
    scale = np.array([1.0, 1.0, 1.0, *[_ROTATION_NOISE] * 3])
    delta = action[:6] + noise * scale * bound * draw.normal(size=6)
    return np.concatenate([np.clip(delta, -bound, bound), action[6:]])


def _misjudged(start: Snapshot, draw: np.random.Generator) -> np.ndarray | None:
    """A way from the goal to a place where the target comes to rest as well; None if there is no room for it."""
    task, state = start.task, start.state
    if task.family == "drawer":
        short = draw.uniform(*_HALFWAY)
        return np.array([-short if task.goal == "open" else short, 0.0, 0.0])
    goal = state.goal_position
    for spot, room in _spots(draw, state, ()):
        if room > 0 and np.linalg.norm(spot - goal[:2]) > _AWAY:
            return np.array([*spot, HALF]) - goal
    return None


def _spots(draw: np.random.Generator, state: TableState, avoid: Sequence[Circle]) -> Iterator[tuple[np.ndarray, float]]:
    """Some places (2,) for an object, and how far each is from being in the way of objects and of these circles."""
    circles = [*avoid, *((*pose.position[:2], _ROOM) for pose in state.objects.values())]
    (x0, x1), (y0, y1) = WORKSPACE
    for spot in draw.uniform((x0, y0), (x1, y1), (60, 2)):
        yield spot, min(np.hypot(spot[0] - x, spot[1] - y) - radius for x, y, radius in circles)


class _Afterwards:
    """What the arm does once the work is over, one of :data:`AFTERWARDS`; it knows nothing of how it went."""

    def __init__(self, kind: str, start: Snapshot, draw: np.random.Generator) -> None:
        self.kind, self.start, self.draw = kind, start, draw
        self.restlessness = _RESTLESS if kind == "wander" else 0.0
        self.errand: Task | None = None
        self.steps = 0

    def intend(self, state: TableState) -> np.ndarray:
        """An action (7,) without noise."""
        if not self.steps or self._errand_done(state):
            self._begin(state)
        elif self.kind == "wander" and self.steps % _STAY == 0:
            self._head_for(self.draw.uniform(*_AIR))
        self.steps += 1
        if self.errand:
            return expert_action(self.errand, replace(state, goal_position=self.place))
        return towards(state, self.place, self.place[2], None, self.grip)

    def _begin(self, state: TableState) -> None:
        place, task = self.draw.uniform(*_AIR), self.start.task
        self._head_for(np.array([*state.target_position[:2], place[2]]) if self.kind == "hold" else place)
        others = [colour for colour in self.start.objects if colour not in (task.target, task.goal)]
        if self.kind == "next" and others:
            # The best there is: were none taken where the table is full, the hand would tell where the target lies.
            spot, _ = max(_spots(self.draw, state, self.start.layout.keep_clear), key=lambda found: found[1])
            self.errand, self.place = Task("pick", str(self.draw.choice(others)), "elsewhere"), np.array([*spot, HALF])

    def _errand_done(self, state: TableState) -> bool:
        if self.errand is None or state.gripper_position[2] < _CLEAR:
            return False
        return FAMILIES[self.errand.family].reached(self.errand, replace(state, goal_position=self.place))

    def _head_for(self, place: np.ndarray) -> None:
        self.place, self.grip = place, OPEN if self.draw.random() < 0.5 else CLOSED
