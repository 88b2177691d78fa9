"""The simulator as a world model: its latents are true states, its imagination is what happens.

Metrics get no more of it than of any other world model, so what they say of it is the best that they can say.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from rslwm.data.clips import Clips
from rslwm.data.store import Places
from rslwm.evals.base import NotAvailable
from rslwm.evals.truth import Truth
from rslwm.latents.space import EXTERNAL, ExternalConfig, LatentSpace, SpaceConfig
from rslwm.model.reference import Reference
from rslwm.types import REFERENCE, DataError

CHANNELS = 64
"""Of a latent: the state's numbers, zeros, and an address in the last few."""
FAINT = 2.0**-40
"""Unit of an address: distances and probes don't see it, and float32 keeps it exactly up to 2^24."""
KEPT = 20_000
"""Moments that are remembered, some 5 kB each; the oldest are forgotten."""
AT_ONCE = 64
"""Frames that are rendered in one go."""


class Address(NamedTuple):
    """Which moment a latent shows: recorded step ``step`` of an episode, or what came of that after ``since`` recorded
    actions of a clip, with chance ``chance`` if there is any. Any process can simulate that again.

    Whatever else was done leads to moment number ``step`` of episode -1, which only this process knows.
    """

    episode: int
    step: int
    since: int = 0
    chance: int = 0


NOWHERE = Address(-1, -1)
"""Of a state that was given without a moment."""
STATE = CHANNELS - len(NOWHERE)


class States:
    """The true states of all frames as latents (T, 1, 1, C) float32; a :class:`rslwm.data.store.Readable`.

    ``names`` are the state vectors that the data record and the world tells. Each is centred, and divided by the
    deviation of its dimensions over the training episodes, all by the same: were every dimension divided by its own, a
    joint that hardly moves in the data would outweigh all others in the distances that planners look at.

    Raises:
        DataError: there are none, or more numbers than fit.
        NotAvailable: there is no such world.
    """

    def __init__(self, truth: Truth) -> None:
        corpus = truth.corpus
        self.keys, self.meta = [*corpus.dataset.ids], {"states of": corpus.dataset.fingerprint}
        told = truth.blind.reset(truth.state(np.array([[corpus.train[0], 0]]))).truth or {}
        self.names = sorted(told.keys() & corpus.states[0])
        vectors = [np.concatenate([states[name] for name in self.names], 1) for states in corpus.states if self.names]
        width = vectors[0].shape[1] if vectors else 0
        if not 0 < width <= STATE:
            raise DataError(f"{corpus.dataset.root} records {width} numbers of state; the oracle needs 1 to {STATE}")
        seen = torch.from_numpy(np.concatenate([vectors[e] for e in corpus.train])).double()
        self._widths = [corpus.states[0][name].shape[1] for name in self.names]
        self._mean, deviations = seen.mean(0), seen.std(0, correction=0).split(self._widths)
        scales = (x.square().mean().sqrt().expand(len(x)) for x in deviations)
        self._std = torch.cat([torch.where(scale > 1e-6, scale, 1.0) for scale in scales])
        self._latents = {
            key: self._latent(torch.from_numpy(vector), [Address(e, t) for t in range(len(vector))])
            for e, (key, vector) in enumerate(zip(self.keys, vectors, strict=True))
        }

    def __str__(self) -> str:
        return "true states"

    def __getitem__(self, key: str) -> Tensor:
        return self._latents[key]

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self._latents[key].shape)

    def read(self, places: Places) -> Tensor:
        return torch.stack([self._latents[key][rows.start : rows.stop : rows.step] for key, rows in places])

    def latent(self, truth: Mapping[str, Tensor], addresses: Sequence[Address]) -> Tensor:
        """(N, 1, 1, C) of state vectors (N, n) by name."""
        return self._latent(torch.cat([truth[name].cpu() for name in self.names], 1), addresses)

    def _latent(self, vectors: Tensor, addresses: Sequence[Address]) -> Tensor:
        latent = torch.zeros(len(vectors), CHANNELS)
        latent[:, : vectors.shape[1]] = (vectors.double() - self._mean) / self._std
        latent[:, STATE:] = torch.tensor(addresses, dtype=torch.float64).reshape(-1, len(NOWHERE)) * FAINT
        return latent[:, None, None]

    def vectors(self, latents: Tensor) -> dict[str, Tensor]:
        """State vectors (..., n) by name of latents (..., 1, 1, C), in their units."""
        numbers = latents[..., 0, 0, : len(self._mean)].double() * self._std + self._mean
        return dict(zip(self.names, numbers.float().split(self._widths, -1), strict=True))


def addresses(latents: Tensor) -> list[Address]:
    """Of latents (..., 1, 1, C), in order."""
    numbers = (latents[..., STATE:].double() / FAINT).round().long().flatten(0, -2)
    return [Address(*row) for row in numbers.tolist()]


class Oracle(Reference):
    """Acts in the true world, from the moments that latents show.

    Args:
        truth: the true world, and the corpus with its episodes.
        states: the latents of these episodes.
        max_frames: as of :class:`Reference`.

    Raises:
        NotAvailable: there is no such world.
    """

    def __init__(self, truth: Truth, states: States, max_frames: int) -> None:
        external = ExternalConfig("oracle", REFERENCE, (1, 1), CHANNELS)
        space = LatentSpace(SpaceConfig(EXTERNAL, truth.corpus.config.image_size, external=external))
        super().__init__(space, truth.blind.spec, max_frames)
        self.truth, self.states = truth, states
        self._moments: OrderedDict[Address, Any] = OrderedDict()
        self._actions: dict[tuple[int, int], Tensor] = {}
        self._numbers = 0

    @cached_property
    def _clips(self) -> Clips:
        return self.truth.corpus.clips(self.states, 2)

    def outcome(self, frame: Tensor, action: Tensor, noise: Tensor) -> Tensor:
        places, world = addresses(frame), self.truth.blind
        chances = [self._chance(place, drawn) for place, drawn in zip(places, noise, strict=True)]
        moments = [self._from(place, chance) for place, chance in zip(places, chances, strict=True)]
        world.reset(world.gathered(moments))
        seen = world.step(action.float().cpu())
        assert seen.truth is not None
        reached = [*map(self._after, places, chances, action.float().cpu())]
        for address, moment in zip(reached, seen.state, strict=True):
            self._remember(address, moment)
        return self.states.latent({name: x[:, 0] for name, x in seen.truth.items()}, reached).to(frame.device)

    def decode(self, latents: Tensor) -> Tensor:
        """What the simulator shows of moments (B, T, 1, 1, C), of recorded ones, too: (B, T, H, W, 3) in [0, 1].

        Raises:
            NotAvailable: a latent shows no moment, or one that only another process knew.
        """
        places = addresses(latents)
        wanted = list(dict.fromkeys(places))
        shown = torch.cat([self._render(wanted[i : i + AT_ONCE]) for i in range(0, len(wanted), AT_ONCE)])
        number = {place: i for i, place in enumerate(wanted)}
        return shown[[number[place] for place in places]].unflatten(0, latents.shape[:2]).to(latents.device)

    def encode(self, frames: Tensor) -> Tensor:
        """Raises :class:`NotAvailable`: what is true can't be seen; see :meth:`look`."""
        raise NotAvailable("the oracle knows true states, and frames alone don't tell them")

    def look(self, truth: Mapping[str, Tensor]) -> Tensor:
        """The latents (N, T, 1, 1, C) of state vectors (N, T, n) by name, from which nothing goes on."""
        shape = next(iter(truth.values())).shape[:2]
        flat = {name: x.flatten(0, 1) for name, x in truth.items()}
        return self.states.latent(flat, [NOWHERE] * (shape[0] * shape[1])).unflatten(0, shape)

    # ------------------------------------------------------------------------------------------------------- moments

    def _chance(self, place: Address, noise: Tensor) -> int:
        """The course of chance from here on: that of the moment, or the noise's if it is a recorded one, whose own is
        what came of it."""
        if not self.truth.blind.random or place.episode < 0 or place.since:
            return place.chance
        return 1 + crc32(noise.float().cpu().numpy().tobytes()) % (2**24 - 1)

    def _after(self, place: Address, chance: int, action: Tensor) -> Address:
        """The address of what an action (A,) leads to."""
        if place.episode >= 0 and torch.equal(action, self._recorded(place)):
            return place._replace(since=place.since + 1, chance=chance)
        self._numbers += 1
        return Address(-1, self._numbers)

    def _recorded(self, place: Address) -> Tensor:
        """The action (A,) of a clip that was recorded there; NaN after the last."""
        clips, step = self._clips, place.step + place.since * self._clips.skip
        at = place.episode, step
        if step + clips.skip >= clips.lengths[place.episode]:
            return torch.full((self.action_spec.dims,), torch.nan)
        if at not in self._actions:
            self._actions[at] = clips.batch(np.array([at])).actions[0, 0]
        return self._actions[at]

    def _moment(self, place: Address) -> Any:
        if place not in self._moments:
            if place.episode < 0:
                raise NotAvailable("the oracle no longer knows the moment that a latent shows")
            if place.since:
                self._act_again(place)
            else:
                course = self.truth.course(place.episode)
                self._moments |= {Address(place.episode, step): moment for step, moment in enumerate(course)}
        self._moments.move_to_end(place)
        return self._moments[place]

    def _act_again(self, place: Address) -> None:
        before = place._replace(since=place.since - 1, chance=place.chance if place.since > 1 else 0)
        world = self.truth.blind
        world.reset(world.gathered([self._from(before, place.chance)]))
        (moment,) = world.step(self._recorded(before)[None]).state
        self._remember(place, moment)

    def _from(self, place: Address, chance: int) -> Any:
        """The moment to act from: a recorded one takes another course of chance."""
        moment, world = self._moment(place), self.truth.blind
        if not chance or place.since or place.episode < 0:
            return moment
        (moment,) = world.reseeded(world.gathered([moment]), chance)
        return moment

    def _remember(self, place: Address, moment: Any) -> None:
        self._moments[place] = moment
        while len(self._moments) > KEPT:
            self._moments.popitem(last=False)

    def _render(self, places: Sequence[Address]) -> Tensor:
        world = self.truth.environment
        frames = world.reset(world.gathered([self._moment(place) for place in places])).frames
        assert frames is not None
        return frames[:, 0]
