"""A world model as a world whose places begin and end one by one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from rslwm.compute import ComputeConfig, autocast, generator
from rslwm.envs.imagined import Imagination, Imagined
from rslwm.envs.worlds import SEEDS, Moment, World, after, pictures
from rslwm.latents.views import to_float
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel
from rslwm.types import DataError

Judge: TypeAlias = Callable[[np.ndarray, tuple[str, ...]], Any]
"""Success (B,) bool of what episodes showed from their start until now, (B, T, H, W, 3) uint8, and what was asked."""


@dataclass(frozen=True)
class Start:
    """Real frames that an imagined episode begins with."""

    frames: np.ndarray
    """(T, H, W, 3) uint8"""
    actions: np.ndarray | None = None
    """Those between the frames, normalised (T-1, A); none of a single frame."""
    instruction: str = ""


@dataclass(frozen=True)
class _Row:
    """A place among those that are imagined together, and the number that all its noise follows from."""

    together: Imagination
    number: int
    seed: int


class ImaginedWorld(World):
    """A world model, which begins where one of the :class:`Start` does.

    Places that began together are sampled together. Every frame's noise is a function of the episode's seed and the
    number of the step, so that a moment holds all that decides its future. Only a ``judge``, asked after every action,
    says of a moment that the task is done.
    """

    def __init__(
        self,
        model: WorldModel,
        starts: Sequence[Start],
        sampling: SamplingConfig,
        compute: ComputeConfig,
        judge: Judge | None = None,
    ) -> None:
        if not len(starts):
            raise DataError("starts: there are none; a world model imagines how given frames go on")
        self.model, self.starts, self.judge, self.compute = model.for_inference(compute), starts, judge, compute
        self._world = _Noted(self.model, sampling, torch.Generator(), decode=True)
        self.spec, self.judges = model.action_spec, judge is not None
        side = model.space.config.image_size
        self.shape = (side, side * model.space.config.views, 3)
        self.instructions = getattr(starts, "instructions", None) or [start.instruction for start in starts]

    @torch.inference_mode()
    def begin(self, draws: Sequence[np.random.Generator], starts: Sequence[Any] | None = None) -> list[Moment]:
        seeds = [int(draw.integers(SEEDS)) for draw in draws]
        starts = starts or [self.starts[int(draw.integers(len(self.starts)))] for draw in draws]
        moments: dict[int, Moment] = {}
        for group in _alike([len(start.frames) for start in starts]):
            frames, actions = zip(*(self._checked(starts[b]) for b in group), strict=True)
            where = self.model.device
            with autocast(self.compute):
                latents = self.model.encode(to_float(torch.from_numpy(np.stack(frames)).to(where))).float()
                done = torch.from_numpy(np.stack(actions)).to(where)
                words = tuple(starts[b].instruction for b in group)
                seen = self._world.reset(Imagination(latents, done, instructions=words))
            for row, shown in enumerate(pictures(seen)):
                place = _Row(seen.state, row, seeds[group[row]])
                moments[group[row]] = Moment(place, tuple(shown), words[row])
        return [moments[b] for b in range(len(starts))]

    def _checked(self, start: Start) -> tuple[np.ndarray, np.ndarray]:
        """Its frames and actions. Raises DataError: they aren't what the model takes."""
        frames, dims = np.asarray(start.frames), self.spec.dims
        actions = np.zeros((0, dims)) if start.actions is None else np.asarray(start.actions)
        if frames.ndim != 4 or frames.shape[1:] != self.shape or frames.dtype != np.uint8:
            found = f"Start.frames: {frames.shape} of {frames.dtype}"
            raise DataError(f"{found}; the model takes (T, {', '.join(map(str, self.shape))}) of uint8")
        if actions.shape != (len(frames) - 1, dims):
            raise DataError(
                f"Start.actions: {actions.shape}; between {len(frames)} frames are {len(frames) - 1}, {dims}"
            )
        return frames, actions.astype(np.float32)

    @torch.inference_mode()
    def step(self, moments: Sequence[Moment], actions: Tensor) -> list[Moment]:
        moved: dict[int, Moment] = {}
        for group in _alike([id(moment.state.together) for moment in moments]):
            places = [moments[b].state for b in group]
            together, rows = places[0].together, torch.tensor([place.number for place in places])
            if rows.tolist() != [*range(len(together.latents))]:
                together = together.rows(rows)
            self._world.go(together)
            self._world.noises = [(place.seed, moments[b].steps) for place, b in zip(places, group, strict=True)]
            with autocast(self.compute):
                seen = self._world.step(actions[group].to(self.model.device))
            for row, shown in enumerate(pictures(seen)):
                before = moments[group[row]]
                now = Moment(_Row(seen.state, row, places[row].seed), (shown[-1],), before.instruction)
                moved[group[row]] = after(before, now)
        return self._judged([moved[b] for b in range(len(moments))])

    @staticmethod
    def latents(moment: Moment) -> Tensor:
        """The frames (T, h, w, C) that a moment consists of: those that it began with, later a single one."""
        return moment.state.together.latents[moment.state.number]

    def _judged(self, moments: list[Moment]) -> list[Moment]:
        """With success as the judge says. Raises DataError: that isn't one answer for each."""
        if self.judge is None:
            return moments
        judged = [*moments]
        for group in _alike([len(moment.frames) for moment in moments]):
            frames = np.stack([moments[b].frames for b in group])
            said = np.asarray(self.judge(frames, tuple(moments[b].instruction for b in group)))
            if said.shape != (len(group),) or not np.isin(said, (0, 1)).all():
                raise DataError(f"judge: said {said} of {len(group)} episodes; it must say true or false of each")
            for b, success in zip(group, said.astype(bool), strict=True):
                judged[b] = replace(moments[b], success=bool(success))
        return judged

    def fork(self, moments: Sequence[Moment], futures: int, seed: int | None = None) -> list[Moment]:
        """The contexts aren't copied."""
        forked = {id(together): self._world.fork(together, futures) for together in (m.state.together for m in moments)}
        places = []
        for number, (moment, k) in enumerate((moment, k) for moment in moments for k in range(futures)):
            old = moment.state
            noise = old.seed if seed is None else generator(seed, "a future", number).initial_seed()
            place = _Row(forked[id(old.together)], old.number * futures + k, noise)
            places.append(replace(moment, state=place))
        return places


class _Noted(Imagined):
    """Draws the noise of every place by numbers: the episode's seed, and the step."""

    noises: Sequence[tuple[int, int]] = ()

    def _drawn(self, places: int) -> Tensor:
        drawn = (torch.randn(self._latent, generator=generator(seed, "gymnasium", step)) for seed, step in self.noises)
        return torch.stack([*drawn])


def _alike(keys: Sequence[Hashable]) -> list[list[int]]:
    """Places in their order, those of the same key together."""
    groups = defaultdict(list)
    for place, key in enumerate(keys):
        groups[key].append(place)
    return [*groups.values()]
