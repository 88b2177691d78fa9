"""Places of a world as environments of Gymnasium: many as a vector, or a single one."""

from __future__ import annotations

import copy
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rslwm.envs.trials import ACTIONS
from rslwm.envs.worlds import Moment, World
from rslwm.serialisation import ConfigError
from rslwm.types import ActionSpec, DataError

_LONGEST = 256  # characters of an instruction, unless one is known to be longer

Observed = dict[str, Any]
Outcome = tuple[Observed, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]


@dataclass(frozen=True)
class Saved:
    """Everything that B places consist of: where they are, which of them are over, and what chance has in store."""

    moments: tuple[Moment, ...]
    over: tuple[bool, ...]
    draws: tuple[Any, ...]


class Places(VectorEnv[Observed, np.ndarray, np.ndarray]):
    """B places of one world, which step together; a place that is over begins anew with the step after.

    Observations are the last ``frames`` and the ``instruction``, a string: policies that read have tokenisers of their
    own. The reward is 1 for the action with which the task is done, which ends the episode, and 0 for any other; a
    world where nobody says what a success is ends episodes after ``max_steps`` only. Place b is seeded with
    ``seed + b``, as in Gymnasium's own vectors.

    Args:
        world: where the places are.
        history: the last T frames are observed (T, H, W, 3), the first one repeated where there are fewer; a single one
            without the axis.
        units: actions are in those of the spec, not normalised. Either are clipped to their bounds.
        max_steps: actions until an episode is truncated.
    """

    def __init__(
        self,
        num_envs: int,
        world: World,
        history: int = 1,
        units: bool = False,
        max_steps: int = ACTIONS,
        render_mode: str | None = None,
    ) -> None:
        for name, value in {"num_envs": num_envs, "history": history, "max_steps": max_steps}.items():
            if value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1")
        self.world, self.history, self.max_steps, self.render_mode = world, history, max_steps, render_mode
        self.units = units
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": world.spec.hz,
            "autoreset_mode": AutoresetMode.NEXT_STEP,
        }
        self.single_observation_space = _observation_space(world, history)
        self.single_action_space = _action_space(world.spec, units)
        self._moments: list[Moment] = []
        self._draws: list[np.random.Generator] = []
        self._over = np.zeros(num_envs, bool)
        self._number(num_envs)

    def _number(self, places: int) -> None:
        self.num_envs = places
        self.observation_space = batch_space(self.single_observation_space, places)
        self.action_space = batch_space(self.single_action_space, places)

    @property
    def action_spec(self) -> ActionSpec:
        """What actions mean."""
        return self.world.spec

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        """Begin everywhere; ``options={"starts": [...]}`` are the starts, one a place, as the world takes them. Raises
        ConfigError: another number of these."""
        super().reset(seed=seed)
        if seed is not None or not self._draws:
            first = int(self.np_random.integers(2**31)) if seed is None else seed
            self._draws = [seeding.np_random(first + place)[0] for place in range(self.num_envs)]
        return self.begin(self._draws, (options or {}).get("starts"))

    def begin(
        self, draws: list[np.random.Generator], starts: Sequence[Any] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        """Begin everywhere with these random streams, which stay the places' own. Raises what :meth:`reset` raises."""
        if starts is not None and len(starts) != self.num_envs:
            raise ConfigError(f"options['starts']: {len(starts)} starts for {self.num_envs} places; give one each")
        self._draws = draws
        self._moments, self._over = self.world.begin(draws, starts), np.zeros(self.num_envs, bool)
        return self._seen()

    def step(self, actions: np.ndarray) -> Outcome:
        """Do an action (B, A) everywhere but where a new episode begins. Raises ResetNeeded: before the first
        :meth:`reset`. Raises DataError: the actions are of another shape, or one isn't finite."""
        self._begun()
        wanted, over = self._normalised(actions), self._over.tolist()
        going = [b for b in range(self.num_envs) if not over[b]]
        stepped = iter(self.world.step([self._moments[b] for b in going], wanted[going]) if going else [])
        begun = iter(self.world.begin([self._draws[b] for b in range(self.num_envs) if over[b]]) if any(over) else [])
        self._moments = [next(begun if over[b] else stepped) for b in range(self.num_envs)]
        success = np.array([moment.success for moment in self._moments])
        late = np.array([moment.steps >= self.max_steps for moment in self._moments])
        self._over = success | late
        observed, infos = self._seen()
        return observed, success.astype(np.float64), success, late & ~success, infos

    def _begun(self) -> None:
        if not self._moments:
            raise ResetNeeded("call reset() first")

    def _normalised(self, actions: np.ndarray) -> torch.Tensor:
        given, shape = np.asarray(actions, np.float32), self.action_space.shape
        if given.shape != shape:
            names = ", ".join(self.action_spec.names)
            raise DataError(f"actions: of shape {given.shape}; {shape} is needed, of each place {names}")
        if not np.isfinite(given).all():
            place, dim = np.argwhere(~np.isfinite(given))[0]
            what = f"actions: {self.action_spec.names[dim]!r} of place {place} is {given[place, dim]}"
            raise DataError(f"{what}; all numbers must be finite")
        given = self.action_spec.normalise(given) if self.units else given
        return torch.from_numpy(given.clip(-1, 1))

    def _seen(self) -> tuple[Observed, dict[str, Any]]:
        moments = self._moments
        frames = np.stack([self._last_frames(moment) for moment in moments])
        infos: dict[str, Any] = {}
        everywhere = np.ones(self.num_envs, bool)
        if self.world.judges:
            infos |= {"success": np.array([moment.success for moment in moments]), "_success": everywhere.copy()}
        if names := moments[0].truth:
            truth: dict[str, Any] = {name: np.stack([moment.truth[name] for moment in moments]) for name in names}
            infos |= {"truth": truth | {f"_{name}": everywhere.copy() for name in names}, "_truth": everywhere.copy()}
        return {"frames": frames, "instruction": tuple(moment.instruction for moment in moments)}, infos

    def _last_frames(self, moment: Moment) -> np.ndarray:
        if self.history == 1:
            return moment.frames[-1]
        shown = moment.frames[-self.history :]
        return np.stack([shown[0]] * (self.history - len(shown)) + [*shown])

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The frame (H, W, 3) uint8 of every place."""
        return None if self.render_mode is None else tuple(moment.frames[-1].copy() for moment in self._moments)

    def save(self) -> Saved:
        """Where everything stands: from there, the same actions lead to the same frames, bit for bit."""
        self._begun()
        draws = tuple(copy.deepcopy(draw.bit_generator.state) for draw in self._draws)
        return Saved(tuple(self._moments), tuple(self._over.tolist()), draws)

    def load(self, saved: Saved) -> tuple[Observed, dict[str, Any]]:
        """Go back there; what :meth:`reset` returns. Raises DataError: it is of another number of places."""
        if len(saved.moments) != self.num_envs:
            raise DataError(f"load: a state of {len(saved.moments)} places, but here are {self.num_envs}")
        self._moments, self._over = [*saved.moments], np.array(saved.over)
        self._draws = [seeding.np_random(0)[0] for _ in saved.draws]
        for draw, state in zip(self._draws, saved.draws, strict=True):
            draw.bit_generator.state = copy.deepcopy(state)
        return self._seen()

    def fork(self, futures: int, seed: int | None = None) -> Places:
        """K futures of every place, as an environment of its own in the same world: place b becomes those from b * K
        on. Without a ``seed`` chance is the same in all of them, so that they differ by their actions only; with one
        it is another in each."""
        self._begun()
        forked = copy.copy(self)
        forked._number(self.num_envs * futures)
        forked._moments = self.world.fork(self._moments, futures, seed)
        forked._over = self._over.repeat(futures)
        draws = [copy.deepcopy(draw) for draw in self._draws for _ in range(futures)]
        forked._draws = draws if seed is None else [seeding.np_random(seed + b)[0] for b in range(len(draws))]
        return forked

    def close_extras(self, **kwargs: Any) -> None:
        self.world.close()


class Place(gymnasium.Env[Observed, np.ndarray]):
    """A single place of :class:`Places`, whose ``world``, ``action_spec`` and rules it has."""

    def __init__(self, places: Places) -> None:
        self.places, self.render_mode = places, places.render_mode
        self.metadata = {name: value for name, value in places.metadata.items() if name != "autoreset_mode"}
        self.observation_space, self.action_space = places.single_observation_space, places.single_action_space
        self._open = False

    @property
    def action_spec(self) -> ActionSpec:
        return self.places.action_spec

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        """Begin; ``options={"start": ...}`` is where."""
        super().reset(seed=seed)
        start = (options or {}).get("start")
        self._open = True
        return _single(self.places.begin([self.np_random], None if start is None else [start]))

    def step(self, action: np.ndarray) -> tuple[Observed, float, bool, bool, dict[str, Any]]:
        """Raises ResetNeeded: the episode is over. Raises DataError: an action (A,) is needed, all of it finite."""
        if not self._open:
            raise ResetNeeded("the episode is over, or hasn't begun: call reset() first")
        shape = np.shape(action)
        if shape != self.action_space.shape:
            names = ", ".join(self.action_spec.names)
            raise DataError(f"action: of shape {shape}; {self.action_space.shape} is needed: {names}")
        observed, rewards, terminated, truncated, infos = self.places.step(np.asarray(action)[None])
        self._open = not (terminated[0] or truncated[0])
        return *_single((observed, {}))[:1], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), _info(infos)

    def render(self) -> np.ndarray | None:
        """The frame (H, W, 3) uint8."""
        frames = self.places.render()
        return frames[0] if frames else None

    def save(self) -> Saved:
        """See :meth:`Places.save`."""
        return self.places.save()

    def load(self, saved: Saved) -> tuple[Observed, dict[str, Any]]:
        """See :meth:`Places.load`."""
        seen = self.places.load(saved)
        self._np_random, self._open = self.places._draws[0], not saved.over[0]
        return _single(seen)

    def fork(self, futures: int, seed: int | None = None) -> Places:
        """K futures of this place, see :meth:`Places.fork`."""
        return self.places.fork(futures, seed)

    def close(self) -> None:
        self.places.close()


def _single(seen: tuple[Observed, dict[str, Any]]) -> tuple[Observed, dict[str, Any]]:
    observed, infos = seen
    return {"frames": observed["frames"][0], "instruction": observed["instruction"][0]}, _info(infos)


def _info(infos: dict[str, Any]) -> dict[str, Any]:
    """Of a single place, without the masks that say which places have what."""
    own = {name: value for name, value in infos.items() if not name.startswith("_")}
    return {
        name: _info(value) if isinstance(value, dict) else value[0].item() if value.ndim == 1 else value[0]
        for name, value in own.items()
    }


def _observation_space(world: World, history: int) -> spaces.Dict:
    shape = world.shape if history == 1 else (history, *world.shape)
    characters = {*string.printable, *"".join(world.instructions)}
    longest = max([_LONGEST, *map(len, world.instructions)])
    return spaces.Dict(
        frames=spaces.Box(0, 255, shape, np.uint8),
        instruction=spaces.Text(longest, min_length=0, charset=frozenset(characters)),
    )


def _action_space(spec: ActionSpec, units: bool) -> spaces.Box:
    if not units:
        return spaces.Box(-1.0, 1.0, (spec.dims,), np.float32)
    return spaces.Box(np.array(spec.low, np.float32), np.array(spec.high, np.float32), dtype=np.float32)
