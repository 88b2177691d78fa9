"""Ground truth read out of latents: where the gripper and the objects are, in centimetres."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from rslwm.data.corpus import Corpus
from rslwm.data.store import Readable
from rslwm.evals.aggregates import MEAN
from rslwm.evals.base import METRICS, ROLLOUTS, Load, Metric, MetricInfo, Need, NotAvailable
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.probe import Draw, Probe, TrainedProbe
from rslwm.evals.rollouts import Rollouts, RolloutsConfig
from rslwm.evals.rows import Rows
from rslwm.types import Role

GRIPPER = MetricInfo(
    name="gripper_error",
    axis="representation",
    higher_is_better=False,
    unit="cm",
    aggregate=MEAN,
    floor="predict the training episodes' mean position",
    ceiling="the true state",
    question="Where are things, and what touches?",
    rung=3,
    description="Distance between the gripper's position read out of encoder latents and the true one.",
    ceiling_value=0.0,
)
GRIPPER_GENERATED = replace(
    GRIPPER,
    name="gripper_error_generated",
    floor="hold the last context frame still and read that",
    description="The same read-out on generated latents, against where the gripper really went.",
)
OBJECT = replace(
    GRIPPER,
    name="object_error",
    description="Distance between the objects' positions read out of encoder latents and the true ones, mean over the "
    "objects that are there.",
)
OBJECT_GENERATED = replace(
    GRIPPER_GENERATED,
    name="object_error_generated",
    description="The same read-out on generated latents, against where the objects really went.",
)


@dataclass
class Targets:
    """What a read-out predicts: lists over episodes of (T, out), and a mask that is 0 where the data record nothing or
    a thing isn't there."""

    values: list[np.ndarray]
    mask: list[np.ndarray]

    def at(self, frames: np.ndarray) -> tuple[Tensor, Tensor]:
        """Values and mask, each (N, out), at these places (N, 2) of (episode, frame)."""
        values, mask = (np.stack([part[e][t] for e, t in frames]) for part in (self.values, self.mask))
        return torch.from_numpy(values), torch.from_numpy(mask)

    def moments(self, episodes: list[int]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each number over these episodes, where it is there."""
        values, mask = (np.concatenate([part[e] for e in episodes]) for part in (self.values, self.mask))
        count = np.maximum(mask.sum(0), 1)
        mean = (values * mask).sum(0) / count
        std = np.sqrt((np.square(values - mean) * mask).sum(0) / count)
        return torch.from_numpy(mean), torch.from_numpy(np.maximum(std, 1e-3))


@dataclass
class StateTargets(Targets):
    """The gripper's position, then each object's, in metres: (T, 3 + 3n)."""

    @classmethod
    def of(cls, corpus: Corpus) -> StateTargets:
        """Raises :class:`NotAvailable` if the data record neither gripper nor objects."""
        names = corpus.dataset.state_names
        # Real robots record the end effector's pose as the first numbers of one state vector.
        source = "state" if names.get("state", [])[:3] == ["x", "y", "z"] else "gripper_position"
        if source not in names and "object_position" not in names:
            raise NotAvailable("the data record no gripper_position and no object_position")
        values, masks = [], []
        for length, states in zip(corpus.dataset.lengths, corpus.states, strict=True):
            gripper = states[source][:, :3] if source in states else None
            objects = states.get("object_position", np.zeros((length, 0)))
            present = states.get("object_present", np.ones((length, objects.shape[1] // 3)))
            known = np.full((length, 3), float(gripper is not None))
            gripper = np.zeros((length, 3)) if gripper is None else gripper
            values.append(np.concatenate([gripper, objects], 1).astype(np.float32))
            masks.append(np.concatenate([known, np.repeat(present, 3, axis=1)], 1).astype(np.float32))
        return cls(values, masks)

    def records(self, what: str) -> bool:
        """Whether the data record positions of the gripper, or of any object."""
        part = slice(0, 3) if what == "gripper" else slice(3, None)
        return any(mask[:, part].any() for mask in self.mask)


@dataclass(frozen=True)
class StateProbe(Probe):
    """Reads one frame and predicts, standardised, where the gripper and the objects are."""

    name = "state"
    about = 3

    def out(self, corpus: Corpus) -> int:
        return StateTargets.of(corpus).values[0].shape[1]

    def batches(self, corpus: Corpus, latents: Readable, batch_size: int) -> Draw:
        targets = StateTargets.of(corpus)
        mean, std = targets.moments(corpus.train)
        clips = corpus.clips(latents, 1)
        places = clips.windows(corpus.train)

        def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
            batch = clips.sample(places, batch_size, g)
            target, mask = targets.at(batch.windows)
            return batch.x.float(), (target - mean) / std, balanced(mask)

        return draw


def balanced(mask: Tensor) -> Tensor:
    """Weights (B, 3 + 3n) of what is there (the mask): the gripper weighs as much as its frame's objects together."""
    parts = mask[:, :3], mask[:, 3:]
    return torch.cat([part / part.sum(1, keepdim=True).clamp_min(1) for part in parts], 1)


def distance(found: Tensor, truth: Tensor, mask: Tensor, part: slice) -> tuple[Tensor, np.ndarray]:
    """Centimetres (N,) between positions (N, 3 + 3n), mean over those of a ``part`` of the gripper and then the objects
    that are there, and where anything is (N,)."""
    there = mask[:, ::3][:, part]
    apart = 100 * (found - truth).unflatten(1, (-1, 3)).norm(dim=-1)[:, part]
    return (apart * there).sum(1) / there.sum(1).clamp_min(1), there.any(1).numpy()


@dataclass(frozen=True)
class ReadOutConfig:
    """Positions read out of single frames."""

    windows: int = 256
    """Held-out frames that they are read from, of encoder latents."""


class ReadOut(Metric):
    """The state probe on encoder latents, and frozen on generated ones against what really happened."""

    Config = ReadOutConfig
    config: ReadOutConfig
    what: ClassVar[str]
    part: ClassVar[slice]
    """The positions that count, among the gripper's and then the objects'."""

    @property
    def needs(self) -> Mapping[str, Need]:
        return {"rollouts": ROLLOUTS, "probe": StateProbe()}

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        return Load(read=self.config.windows)

    def measure(self, evaluation: Evaluation, rollouts: Rollouts, probe: TrainedProbe) -> Iterator[Rows]:
        targets = StateTargets.of(evaluation.corpus)
        mean, std = targets.moments(evaluation.corpus.train)
        if not targets.records(self.what):
            raise NotAvailable(f"the data record no {self.what} positions")

        def read(latents: Tensor) -> Tensor:
            """Positions (N, 3 + 3n) in metres of single frames (N, 1, h, w, C)."""
            return probe.apply(latents, evaluation.compute) * std + mean

        def rows(info: MetricInfo, windows: np.ndarray, frames: np.ndarray, k: int, role: Role, found: Tensor) -> Rows:
            """Of positions whose truth stands at ``frames`` (episode, frame)."""
            error, counts = distance(found, *targets.at(frames), self.part)
            return evaluation.rows(info, windows[counts], error[counts], k=k, role=role)

        encoder, generated = self.infos
        batch = evaluation.batch(1, self.config.windows, "read-out")
        found = read(batch.x)
        yield rows(encoder, batch.windows, batch.windows, 0, "value", found)
        yield rows(encoder, batch.windows, batch.windows, 0, "floor", mean.expand_as(found))
        context, skip = rollouts.context.shape[1], evaluation.corpus.config.frame_skip
        still = read(rollouts.context[:, -1:])
        for k in range(1, rollouts.future + 1):
            frames = rollouts.windows + np.array([0, (context - 1 + k) * skip])
            found = read(rollouts.generated[:, k - 1 : k])
            yield rows(generated, rollouts.windows, frames, k, "value", found)
            yield rows(generated, rollouts.windows, frames, k, "floor", still)


@METRICS.register("gripper_readout")
class GripperReadOut(ReadOut):
    what, part = "gripper", slice(0, 1)
    infos = (GRIPPER, GRIPPER_GENERATED)


@METRICS.register("object_readout")
class ObjectReadOut(ReadOut):
    what, part = "object", slice(1, None)
    infos = (OBJECT, OBJECT_GENERATED)
