"""A drive: worlds under the same actions, everything that happened in them, and how to go back to any of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rslwm.actors.base import Observation
from rslwm.envs.imagined_world import ImaginedWorld, Start
from rslwm.envs.worlds import Moment
from rslwm.play import link
from rslwm.play.beginnings import Beginning, Begun, still
from rslwm.play.drivers import Driver
from rslwm.play.history import History, Node
from rslwm.play.playground import Pane, Playground, encoded
from rslwm.play.readings import Moments, Shown, read
from rslwm.serialisation import ConfigError
from rslwm.types import DataError


@dataclass(frozen=True)
class Goal:
    """What a plan is to lead to: the frame (H, W, 3) uint8, and its latents (h, w, C) in the panes' spaces."""

    frame: np.ndarray
    latents: dict[str, Tensor]


class Session:
    """One visitor's worlds. Where a drive begins, its noise and its actions decide every frame of it, bit for bit:
    undone, gone on from elsewhere, or done again from a link.

    Raises what :meth:`begin` raises.
    """

    def __init__(self, ground: Playground, beginning: Beginning | None = None) -> None:
        self.ground = ground
        self.driver: Driver | None = None
        self.begin(beginning or Beginning())

    @property
    def here(self) -> Node:
        """Where one stands."""
        return self.history.here

    def begin(self, beginning: Beginning) -> Node:
        """Start anew. Raises ConfigError: there is no such beginning."""
        self.begun = self.ground.beginnings.begin(beginning)
        self.drive(None)
        self.beginning, self.history = beginning, History()
        self.goal: Goal | None = None
        moments, seconds, self.context = [], [], {}
        for pane in self.ground.panes:
            started = time.perf_counter()
            moment = self._begun(pane, self.begun)
            if isinstance(pane.world, ImaginedWorld):
                self.context[pane.name] = pane.world.latents(moment).cpu()
            moments.append(moment)
            seconds.append(time.perf_counter() - started)
        shown = self._read(tuple(moments), seconds)
        return self.history.add(np.zeros(0, np.int16), shown, tuple(moments))

    def _begun(self, pane: Pane, begun: Begun) -> Moment:
        if pane.model is None:
            start: object = begun.snapshot
        else:
            start = Start(begun.frames, begun.actions, begun.instruction)
        (moment,) = pane.world.begin([np.random.default_rng(self.beginning.noise)], [start])
        return _short(moment)

    def step(self, action: np.ndarray) -> Node:
        """Do a normalised action (A,) in all worlds, clipped to the bounds. Raises DataError: it is of another shape,
        or not finite. Raises ConfigError: the session is full."""
        given, spec = np.asarray(action, np.float64), self.ground.spec
        if given.shape != (spec.dims,) or not np.isfinite(given).all():
            names = ", ".join(spec.names)
            raise DataError(f"action: {given.tolist()}; {spec.dims} finite numbers are needed: {names}")
        return self._step(link.quantised(given))

    def _step(self, action: np.ndarray) -> Node:
        self.history.room()
        before, seconds, moments = self._moments(), [], []
        for pane, moment in zip(self.ground.panes, before, strict=True):
            started = time.perf_counter()
            moments.append(self._moved(pane, moment, action))
            seconds.append(time.perf_counter() - started)
        shown = self._read(tuple(moments), seconds, self.here.shown, link.meant(action))
        return self.history.add(action, shown, tuple(moments))

    def _moved(self, pane: Pane, moment: Moment, action: np.ndarray) -> Moment:
        (now,) = pane.world.step([moment], torch.from_numpy(link.meant(action))[None])
        return _short(now)

    def _moments(self) -> Moments:
        """Where all worlds stand, made again where that isn't kept."""

        def again(state: Moments, node: Node) -> Moments:
            return tuple(
                self._moved(pane, moment, node.action) for pane, moment in zip(self.ground.panes, state, strict=True)
            )

        return self.history.state(again)

    def _read(
        self, moments: Moments, seconds: list[float], before: tuple[Shown, ...] = (), action: np.ndarray | None = None
    ) -> tuple[Shown, ...]:
        latents = [
            pane.world.latents(moment)[-1].float().cpu() if isinstance(pane.world, ImaginedWorld) else None
            for pane, moment in zip(self.ground.panes, moments, strict=True)
        ]
        return read(self.ground, moments, self.begun.asked, seconds, latents, before, action)

    # ------------------------------------------------------------------------------------------ going elsewhere

    def undo(self) -> Node:
        """Go back by one action; at the beginning there is none."""
        return self.history.go(max(self.here.parent, 0))

    def go(self, number: int) -> Node:
        """Go to any frame that was ever seen; what is done from there on is another branch. Raises ConfigError: there
        is no such frame."""
        return self.history.go(number)

    def actions(self) -> np.ndarray:
        """Those that led from the beginning to where one stands (F, A) int16."""
        done = [node.action for node in self.history.path()[1:]]
        return np.stack(done) if done else np.zeros((0, self.ground.spec.dims), np.int16)

    @property
    def link(self) -> str:
        """What repeats this drive up to where one stands."""
        return link.encode(self.beginning, self.actions())

    def open(self, text: str) -> np.ndarray:
        """Begin where a link does; its actions (F, A), normalised, aren't done yet. Raises DataError: it is none, or
        of other actions."""
        beginning, actions = link.decode(text)
        if actions.shape[1] != self.ground.spec.dims:
            raise DataError(f"link: its actions have {actions.shape[1]} dimensions; here are {self.ground.spec.dims}")
        self.begin(beginning)
        return link.meant(actions)

    def still(self) -> np.ndarray:
        """The normalised action (A,) that keeps the robot where it is."""
        done = self.actions()
        last = link.meant(done[-1]) if len(done) else self.begun.actions[-1] if len(self.begun.actions) else None
        return still(self.ground.spec, last)

    # ------------------------------------------------------------------------------------------- being driven

    def observation(self, name: str, frames: int = 1) -> Observation:
        """What an actor sees that looks at one pane: so many last frames, or as many as there are, and the actions that
        led to them, but for the first where they are several."""
        pane = self.ground.pane(name)
        number = self.ground.panes.index(pane)
        path = self.history.path()
        seen = [node.shown[number] for node in path]
        pictures = np.stack([*self.begun.frames[:-1], *(one.frame for one in seen)])[-frames:]
        done = np.concatenate([self.begun.actions, link.meant(self.actions())])
        done = done[max(0, len(done) - (frames - 1 if frames > 1 else 1)) :]
        latents = None
        if pane.model is not None:
            own = [one.latents for one in seen[1:]]
            latents = torch.cat([self.context[name], *(x[None] for x in own)])[None, -frames:].to(pane.model.device)
        moment = self._moments()[number]
        truth = {key: torch.from_numpy(value)[None, None] for key, value in moment.truth.items()}
        shown = torch.from_numpy(pictures)[None].float() / 255
        return Observation(
            torch.from_numpy(done)[None], latents, shown, truth, instructions=(self.begun.instruction,), state=None
        )

    def drive(self, driver: Driver | None) -> None:
        """Let somebody else act, or nobody."""
        if self.driver:
            self.driver.close()
        self.driver = driver

    def auto(self) -> Node | None:
        """Let the driver act once; None where there is none, or it has nothing left to do."""
        action = self.driver.act(self) if self.driver else None
        if action is None or self.driver is None:
            self.drive(None)
            return None
        node = self.step(action)
        self.driver.left_at = node.number
        return node

    def set_goal(self, number: int | None = None) -> Goal:
        """Plan towards a frame that was seen, by default to the end of the recorded episode. Raises ConfigError: there
        is no such frame."""
        panes = self.ground.panes
        if number is not None:
            shown = self.history.node(number).shown
            latents = [one.latents if one.true_latents is None else one.true_latents for one in shown]
            self.goal = Goal(shown[0].frame, {p.name: x for p, x in zip(panes, latents, strict=True) if x is not None})
            return self.goal
        picture = self.begun.end
        if picture is None:
            raise ConfigError("goal: a fresh table has no recorded end; drive somewhere and take what is seen there")
        self.goal = Goal(picture, {p.name: encoded(p, picture[None])[0].cpu() for p in panes if p.model is not None})
        return self.goal

    def close(self) -> None:
        """Leave whatever drives."""
        self.drive(None)


def _short(moment: Moment) -> Moment:
    """With its last frame only: the others are in the history."""
    return replace(moment, frames=moment.frames[-1:])
