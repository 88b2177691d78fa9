"""How things lie and what touches, read out of latents; and how much of it survives generation, near contact and far
from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy
import torch
import torch.nn.functional as F
from torch import Tensor

from rslwm.data.corpus import Corpus
from rslwm.data.store import Readable
from rslwm.evals.aggregates import AVERAGE_PRECISION, RATIO
from rslwm.evals.base import METRICS, ROLLOUTS, Load, Metric, MetricInfo, Need, NotAvailable
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.probe import Draw, Probe, TrainedProbe
from rslwm.evals.readout import GRIPPER, GRIPPER_GENERATED, StateProbe, StateTargets, Targets, distance
from rslwm.evals.rollouts import Rollouts, RolloutsConfig
from rslwm.evals.rows import Rows
from rslwm.types import Role

TOUCHES = ("contact", "held")
"""What is so or isn't: the last outputs of the probe, as logits."""


def _error(part: str, unit: str, text: str) -> MetricInfo:
    mean = "predict the training episodes' mean"
    return replace(GRIPPER, name=f"{part}_error", unit=unit, floor=mean, scored=False, description=text)


def _precision(part: str, text: str, scored: bool) -> MetricInfo:
    return replace(
        GRIPPER,
        name=f"{part}_precision",
        higher_is_better=True,
        unit="average precision",
        aggregate=AVERAGE_PRECISION,
        floor="the same score for every frame: the share of frames where it is so",
        ceiling_value=1.0,
        scored=scored,
        description=f"{text}, told from encoder latents: precision, averaged over recall.",
    )


ENCODER = {
    "yaw": _error(
        "yaw",
        "degrees",
        "Angle between the boxes' rotation about the vertical, read out of encoder latents, and the true one, up to "
        "quarter turns; mean over the boxes that stand upright.",
    ),
    "opening": _error("opening", "mm", "Error of the gap between the fingers, read out of encoder latents."),
    "drawer": _error("drawer", "mm", "Error of the drawer's opening, read out of encoder latents where there is one."),
    "contact": _precision("contact", "Whether the hand touches anything", scored=True),
    "held": _precision("held", "Whether both fingers touch the same thing", scored=False),
}
GENERATED = {
    part: replace(
        info,
        name=f"{info.name}_generated",
        floor=GRIPPER_GENERATED.floor,
        description=f"The same read-out as in {info.name} on generated latents, against what really happened.",
    )
    for part, info in ENCODER.items()
}
KEPT = replace(
    GRIPPER,
    name="geometry_kept",
    higher_is_better=True,
    unit="x truth",
    aggregate=RATIO,
    floor="hold the last context frame still and read that",
    ceiling="generated latents are read as well as the encoder's of the same frames",
    ceiling_value=1.0,
    scored=False,
    description="How much of what can be read out of encoder latents survives generation: the error of their read-out "
    "over that of generated latents of the same frames, by what is read, near contact and far from it.",
)


@dataclass
class GeometryTargets(Targets):
    """Sine and cosine of four times each object's yaw (a quarter turn leaves a box as it is), the gripper's and the
    drawer's opening in metres, whether anything is touched, and held: (T, 2n + 4)."""

    @classmethod
    def of(cls, corpus: Corpus) -> GeometryTargets:
        """Raises :class:`NotAvailable` if the data record none of them."""
        names = corpus.dataset.state_names
        turns = {"object_yaw", "object_square"} <= names.keys()
        recorded = ("gripper_opening", "drawer_opening", "contact", "held")
        if not turns and not {*recorded} & names.keys():
            raise NotAvailable(f"the data record none of object_yaw, {', '.join(recorded)}")
        values, masks = [], []
        for length, states in zip(corpus.dataset.lengths, corpus.states, strict=True):
            nothing = np.zeros((length, 0))
            yaw, square = (states[f"object_{name}"] if turns else nothing for name in ("yaw", "square"))
            there = {name: name in states for name in recorded}
            # A drawer is never closed to the last bit; where there is none, zeros are recorded.
            there["drawer_opening"] = bool(np.any(states.get("drawer_opening", nothing)))
            columns = [states.get(name, np.zeros((length, 1))) for name in recorded]
            known = [np.full((length, 1), float(there[name])) for name in recorded]
            turned = np.stack([np.sin(4 * yaw), np.cos(4 * yaw)], 2).reshape(length, -1)
            values.append(np.concatenate([turned, *columns], 1).astype(np.float32))
            masks.append(np.concatenate([np.repeat(square, 2, axis=1), *known], 1).astype(np.float32))
        return cls(values, masks)

    def near_contact(self, steps: int) -> list[np.ndarray]:
        """For each episode (T,) bool: something is touched at most so many recorded steps before or after."""
        return [
            scipy.ndimage.maximum_filter1d(values[:, -2], 2 * steps + 1, mode="nearest") > 0.5 for values in self.values
        ]


@dataclass(frozen=True)
class GeometryProbe(Probe):
    """Reads one frame and predicts :class:`GeometryTargets`: lengths and angles standardised, what is so as logits."""

    name = "geometry"
    about = 16

    def out(self, corpus: Corpus) -> int:
        return GeometryTargets.of(corpus).values[0].shape[1]

    def batches(self, corpus: Corpus, latents: Readable, batch_size: int) -> Draw:
        targets = GeometryTargets.of(corpus)
        mean, std = unit(targets, corpus)
        clips = corpus.clips(latents, 1)
        places = clips.windows(corpus.train)

        def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
            batch = clips.sample(places, batch_size, g)
            target, mask = targets.at(batch.windows)
            turned = mask[:, :-4] / mask[:, :-4].sum(1, keepdim=True).clamp_min(1)
            return batch.x.float(), (target - mean) / std, torch.cat([turned, mask[:, -4:]], 1)

        return draw

    def loss(self, guess: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        sizes = F.smooth_l1_loss(guess[:, :-2], target[:, :-2], beta=0.3, reduction="none")
        touches = F.binary_cross_entropy_with_logits(guess[:, -2:], target[:, -2:], reduction="none")
        return (torch.cat([sizes, touches], 1) * weight).sum() / weight.sum().clamp_min(1)


def unit(targets: GeometryTargets, corpus: Corpus) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation that the probe's outputs are in units of; what is so or isn't stays as it is."""
    mean, std = targets.moments(corpus.train)
    mean[-2:], std[-2:] = 0.0, 1.0
    return mean, std


@dataclass(frozen=True)
class Read:
    """What was read out of N frames: geometry (N, 2n + 4) in the units of its targets, and positions (N, 3 + 3n) in
    metres, unless the data record none."""

    geometry: Tensor
    positions: Tensor | None


@dataclass(frozen=True)
class Reader:
    """The geometry and the state probe, which may be absent, and the truth that they are held against."""

    evaluation: Evaluation
    geometry: TrainedProbe
    state: TrainedProbe

    @cached_property
    def targets(self) -> tuple[GeometryTargets, Tensor, Tensor]:
        """With the mean and standard deviation that the probe's outputs are in units of."""
        targets = GeometryTargets.of(self.evaluation.corpus)
        return targets, *unit(targets, self.evaluation.corpus)

    @cached_property
    def places(self) -> tuple[StateTargets, Tensor, Tensor]:
        targets = StateTargets.of(self.evaluation.corpus)
        return targets, *targets.moments(self.evaluation.corpus.train)

    def read(self, latents: Tensor) -> Read:
        """Of frames (N, 1, h, w, C)."""
        _, mean, std = self.targets
        geometry, positions = self.geometry.apply(latents, self.evaluation.compute) * std + mean, None
        if not self.state.absent:
            _, mean, std = self.places
            positions = self.state.apply(latents, self.evaluation.compute) * std + mean
        return Read(geometry, positions)

    def errors(self, found: Read, frames: np.ndarray) -> dict[str, tuple[Tensor, np.ndarray]]:
        """By what is read, whose truth stands at ``frames`` (N, 2): errors (N,), and where there is something (N,)."""
        truth, mask = self.targets[0].at(frames)
        apart = 1000 * (found.geometry - truth).abs()[:, -4:-2]
        known = mask[:, -4:].bool().numpy()
        errors = {
            "yaw": yaw_error(found.geometry[:, :-4], truth[:, :-4], mask[:, :-4:2]),
            "opening": (apart[:, 0], known[:, 0]),
            "drawer": (apart[:, 1], known[:, 1]),
        }
        if found.positions is not None:
            positions = found.positions, *self.places[0].at(frames)
            errors["gripper"] = distance(*positions, slice(0, 1))
            errors["object"] = distance(*positions, slice(1, None))
        return errors


def yaw_error(found: Tensor, truth: Tensor, square: Tensor) -> tuple[Tensor, np.ndarray]:
    """Degrees (N,) between yaws, as sine and cosine of four times each (N, 2n), mean over the ``square`` objects
    (N, n), and where there is any (N,)."""
    angles = [torch.atan2(x[:, ::2], x[:, 1::2]) for x in (found, truth)]
    apart = torch.remainder(angles[0] - angles[1] + np.pi, 2 * np.pi) - np.pi
    degrees = torch.rad2deg(apart).abs() / 4
    return (degrees * square).sum(1) / square.sum(1).clamp_min(1), square.any(1).numpy()


@dataclass(frozen=True)
class GeometryConfig:
    """How things lie and what touches, read out of single frames."""

    windows: int = 256
    """Held-out frames that it is read from, of encoder latents."""
    near: int = 3
    """Recorded steps before and after a step in which something is touched that count as near contact."""


@METRICS.register("geometry")
class Geometry(Metric):
    """The geometry probe on encoder latents, and frozen on generated ones against what really happened."""

    infos = (*ENCODER.values(), *GENERATED.values(), KEPT)
    core = False
    Config = GeometryConfig
    config: GeometryConfig

    @property
    def needs(self) -> Mapping[str, Need]:
        return {"rollouts": ROLLOUTS, "geometry": GeometryProbe(), "state": StateProbe()}

    def load(self, history: int, rollouts: RolloutsConfig) -> Load:
        return Load(read=self.config.windows)

    def measure(
        self, evaluation: Evaluation, rollouts: Rollouts, geometry: TrainedProbe, state: TrainedProbe
    ) -> Iterator[Rows]:
        geometry.require()
        reader = Reader(evaluation, geometry, state)
        batch = evaluation.batch(1, self.config.windows, "read-out")
        found, (_, mean, _) = reader.read(batch.x), reader.targets
        places = Places(batch.windows, batch.windows, 0)
        yield from rows(reader, ENCODER, places, "value", found)
        yield from rows(reader, ENCODER, places, "floor", replace(found, geometry=mean.expand_as(found.geometry)))
        near = self.near(reader)
        context, skip = rollouts.context.shape[1], evaluation.corpus.config.frame_skip
        still = reader.read(rollouts.context[:, -1:])
        for k in range(1, rollouts.future + 1):
            places = Places(rollouts.windows, rollouts.windows + np.array([0, (context - 1 + k) * skip]), k)
            best, generated = (reader.read(x[:, k - 1 : k]) for x in (rollouts.true, rollouts.generated))
            guesses: tuple[tuple[Role, Read], ...] = ("value", generated), ("floor", still)
            for role, found in guesses:
                yield from rows(reader, GENERATED, places, role, found)
                if near is not None:
                    yield from kept(reader, near, places, role, best, found)

    def near(self, reader: Reader) -> list[np.ndarray] | None:
        """Where something is touched soon or was just now, (T,) of each episode; None if the data don't tell."""
        if "contact" not in reader.evaluation.corpus.dataset.state_names:
            return None
        return reader.targets[0].near_contact(self.config.near)


@dataclass(frozen=True)
class Places:
    """Windows (N, 2), and the frames (N, 2) of (episode, frame), k steps of the horizon on, where the truth stands."""

    windows: np.ndarray
    frames: np.ndarray
    k: int


def rows(reader: Reader, infos: Mapping[str, MetricInfo], places: Places, role: Role, found: Read) -> Iterator[Rows]:
    """Of what was read at these places."""
    for part, (error, counts) in reader.errors(found, places.frames).items():
        if part in infos:
            yield reader.evaluation.rows(infos[part], places.windows[counts], error[counts], k=places.k, role=role)
    truth, mask = reader.targets[0].at(places.frames)
    for column, part in zip((-2, -1), TOUCHES, strict=True):
        counts = mask[:, column].bool().numpy()
        logit, target = found.geometry[counts, column], truth[counts, column]
        yield reader.evaluation.rows(infos[part], places.windows[counts], logit, k=places.k, role=role, target=target)


def kept(reader: Reader, near: list[np.ndarray], places: Places, role: Role, best: Read, found: Read) -> Iterator[Rows]:
    """Errors of what was found, beside those of the ``best`` that the same frames' encoder latents allow."""
    close = np.array([near[episode][step] for episode, step in places.frames])
    least = reader.errors(best, places.frames)
    for part, (error, counts) in reader.errors(found, places.frames).items():
        for stratum, inside in (("near", close), ("far", ~close)):
            here = counts & inside
            value, target, dim = least[part][0][here], error[here], f"{stratum} {part}"
            yield reader.evaluation.rows(KEPT, places.windows[here], value, places.k, dim, role, target)
