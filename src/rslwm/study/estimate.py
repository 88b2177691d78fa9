"""What a study would take, stage by stage, without running anything and without any weights."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from rslwm.data.sources.opening import open_source
from rslwm.evals.evaluation import EvalConfig
from rslwm.evals.grid_probe import ProbeConfig
from rslwm.evals.one_step import DRAWS
from rslwm.evals.probes import SUCCESS_FRAMES
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.base import TrainableEncoder
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.flops import encoder_flops
from rslwm.latents.space import LatentSpace, SpaceConfig, describe
from rslwm.model.dit import DiTConfig
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModelConfig
from rslwm.optim import OptimConfig
from rslwm.run.stage import Stage, closure
from rslwm.serialisation import ConfigError, content_hash
from rslwm.study import counting, stages
from rslwm.study.config import StudyConfig
from rslwm.study.counting import Pass
from rslwm.study.graph import Study
from rslwm.train.latents import budget
from rslwm.train.normaliser import SAMPLE
from rslwm.types import DataError, LatentSpec

KINDS = ("data", "frames", "encoder", "features", "adapter", "latents", "decoder", "probes", "world-model", "rows")
"""In the order of work."""
LOOK = 256
"""Frames that a frozen encoder is looked at with."""


@dataclass(frozen=True)
class DataSize:
    """How much there is to encode, and where the numbers come from."""

    episodes: int
    frames: int
    source: str


def data_size(config: StudyConfig, data: Path | None) -> DataSize:
    """What a finished data stage or the source itself says of the episodes, or what the study assumes of them.

    Raises:
        ConfigError: nobody knows.
    """
    if data is not None:
        facts = stages.read_facts(data)
        return DataSize(facts["episodes"], facts["frames"], "counted")
    unknown, assumed = "", config.data_size
    try:
        known = open_source(config.data).size()
    except DataError as error:
        known, unknown = None, f" ({error})"
    if known and known.counted:
        return DataSize(known.episodes, known.frames, "counted")
    episodes = assumed.episodes or (known.episodes if known else 0)
    steps = assumed.steps or (known.steps if known else 0)
    if not episodes * steps:
        raise ConfigError(
            f"nobody knows yet how much data {config.data.uri!r} holds{unknown}; say so with --data-size.episodes N "
            "and --data-size.steps N (of an episode)"
        )
    return DataSize(episodes, episodes * steps, "assumed, see --data-size.episodes and --data-size.steps")


@dataclass(frozen=True)
class Demand:
    """What one stage takes: FLOPs, bytes that it leaves behind, and bytes on its device.

    A training holds weights, gradients, two moments and the moving average in float32, and in bfloat16 the weights once
    more and what autograd keeps of a batch; everything else its weights in bfloat16, and planning the memory that it is
    given. Not counted: activations of encoders and perceptual networks, metrics, the recording and decoding of videos.
    """

    flops: float = 0.0
    disk: float = 0.0
    memory: float = 0.0


@dataclass(frozen=True)
class Line:
    """One kind of stage of a space and size, all seeds together; the memory is one job's."""

    kind: str
    space: str
    size: str
    jobs: int = 0
    finished: int = 0
    flops: float = 0.0
    disk: float = 0.0
    memory: float = 0.0


@dataclass(frozen=True)
class FrameCost:
    """FLOPs of one frame, as in Table 4 of the paper: encoded, compressed, predicted once, decoded."""

    encoder: float
    adapter: float
    transformer: float
    decoder: float

    @property
    def total(self) -> float:
        return self.encoder + self.adapter + self.transformer + self.decoder


class Estimator:
    """Counts the stages of a study.

    Args:
        frames: recorded frames of one camera.
    """

    def __init__(self, study: Study, frames: int) -> None:
        self.study, self.frames = study, frames
        self._spaces: dict[str, LatentSpace] = {}
        self._encoders: dict[str, tuple[int, int]] = {}

    def lines(self, finished: Callable[[Stage], bool]) -> list[Line]:
        """One for each kind of stage, space and size, kinds in the order of work. Equal stages are one job."""
        sizes = {stage: space.size for space in self.study.spaces for stage in (space.world_model, space.rows)}
        lines: dict[tuple[str, str, str], Line] = {}
        for stage in sorted(closure(self.study.targets), key=lambda stage: KINDS.index(stage.kind)):
            size = sizes.get(stage, "")
            place = stage.kind, re.sub(rf"( {size})? seed \d+$", "", stage.name), size
            line, demand = lines.get(place, Line(*place)), self.demand(stage)
            lines[place] = replace(
                line,
                jobs=line.jobs + 1,
                finished=line.finished + finished(stage),
                flops=line.flops + demand.flops,
                disk=line.disk + demand.disk,
                memory=max(line.memory, demand.memory),
            )
        return list(lines.values())

    @property
    def specs(self) -> dict[str, LatentSpec]:
        """Of the rows' latents."""
        return {parts.entry.name: self._space(parts.latents.config.space).spec for parts in self.study.spaces}

    def frame_costs(self) -> dict[tuple[str, str], FrameCost]:
        """By space and size."""
        costs = {}
        for parts in self.study.spaces:
            space, dit = self._space(parts.latents.config.space), parts.world_model.config.world_model.dit
            costs[parts.entry.name, parts.size] = FrameCost(
                encoder=self._encode(space),
                adapter=self._compress(space),
                transformer=counting.predicting(dit, *_shape(space.spec)),
                decoder=self._decode(parts.decoder),
            )
        return costs

    def demand(self, stage: Stage) -> Demand:
        """What a stage takes."""
        match stage.config:
            case stages.EncoderStage(space=config):
                return self._features(stage, config) if stage.kind == "features" else self._encoder(stage, config)
            case stages.AdapterStage(adapter=config, channels=channels):
                return self._adapter(stage, config, channels)
            case stages.LatentsStage(space=config):
                return self._latents(stage, self._space(config))
            case stages.DecoderStage(decoder=config):
                training = _training(config.optim, self._pixels(stage))
                flops = training.flops + _comparing(config, stage.config.data.image_size)
                training = replace(training, flops=flops, disk=training.disk + _bytes(self._space_of(stage)))
                return self._reading(stage, budget(config.optim), training)
            case DecoderConfig():
                return Demand(disk=self._completed(stage))
            case stages.WorldModelStage(world_model=config):
                training = self._world_model(self._space_of(stage), config)
                training = replace(training, disk=training.disk + self._completed(_input(stage, "decoder")))
                return self._reading(stage, budget(config.optim) * config.dit.max_frames, training)
            case stages.ProbesStage(probe=config):
                return self._probes(stage, config)
            case stages.EvaluateStage():
                return self._evaluate(stage)
        data = self.study.config.data
        pixels = self.frames * data.views * 3 * data.image_size**2
        return Demand(disk=pixels) if stage.kind == "frames" else Demand()

    # ------------------------------------------------------------------------------------------- what a stage reads

    def _space(self, config: SpaceConfig) -> LatentSpace:
        key = content_hash(config)
        if key not in self._spaces:
            self._spaces[key] = describe(config)
        return self._spaces[key]

    def _space_of(self, stage: Stage) -> LatentSpace:
        """The space whose latents a stage reads."""
        return self._space(_input(stage, "latents").config.space)

    def _native_of(self, stage: Stage) -> LatentSpace:
        """The native space whose features a stage reads."""
        return self._space(_input(stage, "features").config.space)

    # ------------------------------------------------------------------------------------------- FLOPs of one frame

    def _own(self, space: LatentSpace) -> tuple[int, int]:
        """What the encoder's own networks take to encode and to decode one view of a frame."""
        key = content_hash(replace(space.config, channels=0, adapter=AdapterConfig()))
        if key not in self._encoders:
            self._encoders[key] = encoder_flops(space.encoder)
        return self._encoders[key]

    def _encode(self, space: LatentSpace) -> float:
        return space.config.views * self._own(space)[0]

    def _compress(self, space: LatentSpace) -> float:
        config = space.config
        if not config.channels:
            return 0.0
        return config.views * counting.compressing(config.adapter, *_tokens(space.encoder.spec), config.channels).flops

    def _decode(self, stage: Stage) -> float:
        """Of a decoder stage's result."""
        if isinstance(stage.config, stages.DecoderStage):
            return self.study.config.data.views * self._pixels(stage).flops
        if stage.config.through:  # behind the adapter of the space that it was trained for
            twin = _input(stage, "decoder")
            return self._decode(twin) + self._compress(self._space_of(twin))
        space = self._space_of(stage)
        return space.config.views * self._own(space)[1]

    def _completed(self, stage: Stage) -> float:
        """Bytes of the space that a decoder stage leaves, which is saved again beside every world model of it."""
        if isinstance(stage.config, stages.DecoderStage):
            return 4 * self._pixels(stage).parameters + _bytes(self._space_of(stage))
        if stage.config.through:
            return self._completed(_input(stage, "decoder"))
        return _bytes(self._space_of(stage))

    def _pixels(self, stage: Stage) -> Pass:
        """One view through the pixel decoder that a stage trains."""
        read = self._space_of(stage).view_spec
        return counting.decoding(stage.config.decoder, *_shape(read), stage.config.data.image_size)

    # ------------------------------------------------------------------------------------------- demands

    def _reading(self, stage: Stage, frames: float, demand: Demand) -> Demand:
        """With the encoding of so many frames whose features or latents aren't stored where the stage reads them."""
        for source in stage.inputs:
            if getattr(source.config, "streamed", False):
                space = self._space(source.config.space)
                flops = frames * (self._encode(space) + self._compress(space))
                memory = 2 * space.spec.parameters
                demand = replace(demand, flops=demand.flops + flops, memory=demand.memory + memory)
        return demand

    def _encoder(self, stage: Stage, config: SpaceConfig) -> Demand:
        space = self._space(config)
        parameters, optim = space.encoder.spec.parameters, config.encoder.optim
        if not isinstance(space.encoder, TrainableEncoder):
            return Demand(flops=LOOK * self._encode(space), memory=2 * parameters)
        return self._reading(stage, budget(optim), _training(optim, Pass(self._own(space)[0], parameters, 0.0)))

    def _features(self, stage: Stage, config: SpaceConfig) -> Demand:
        space = self._space(config)
        if stage.config.streamed:
            return Demand(disk=_bytes(space))
        return Demand(
            flops=self.frames * self._encode(space),
            disk=self.frames * space.spec.bytes_per_frame,
            memory=2 * space.spec.parameters,
        )

    def _adapter(self, stage: Stage, config: AdapterConfig, channels: int) -> Demand:
        native = self._native_of(stage)
        spec = native.encoder.spec
        if config.kind == "pca":  # one covariance
            tokens = self.frames * prod(native.spec.grid)
            fitted = Demand(flops=2 * tokens * spec.channels**2, memory=8 * spec.channels**2)
            return self._reading(stage, self.frames, fitted)
        training = _training(config.optim, counting.restoring(config, *_tokens(spec), channels))
        return self._reading(stage, budget(config.optim), training)

    def _latents(self, stage: Stage, space: LatentSpace) -> Demand:
        compress, encode = self._compress(space), self._encode(space)
        fitted = Demand(SAMPLE * (encode + compress), disk=_bytes(space), memory=2 * space.spec.parameters)
        if stage.config.streamed:
            return fitted
        every = compress or encode  # an adapted space is made of the features
        flops, disk = fitted.flops + self.frames * every, fitted.disk + self.frames * space.spec.bytes_per_frame
        return self._reading(stage, self.frames, replace(fitted, flops=flops, disk=disk))

    def _world_model(self, space: LatentSpace, config: WorldModelConfig) -> Demand:
        checkpointed = self.study.config.compute.checkpoint_activations
        return _training(config.optim, counting.denoising(config.dit, *_shape(space.spec), checkpointed))

    def _probes(self, stage: Stage, config: ProbeConfig) -> Demand:
        """As if the data had states and labels for all of them."""
        space = self._space_of(stage)
        read = budget(config.optim) * (sum(k + 1 for k in config.horizons) + 1 + config.success_frames)
        shapes = [(2, k * counting.ACTION_DIMS) for k in config.horizons] + [(1, 3), (SUCCESS_FRAMES, 1)]
        demands = [
            _training(config.optim, counting.probing(*_shape(space.spec), frames, out, config))
            for frames, out in shapes
        ]
        disk, memory = sum(d.disk for d in demands), max(d.memory for d in demands)
        return self._reading(stage, read, Demand(sum(d.flops for d in demands), disk, memory))

    def _evaluate(self, stage: Stage) -> Demand:
        config: EvalConfig = stage.config.evaluation
        spec, model, plans = self._space_of(stage).spec, _input(stage, "world-model"), config.plan
        dit: DiTConfig = model.config.world_model.dit
        history, one_step = dit.max_frames - 1, SamplingConfig(steps=1)
        imagined, horizons = plans.candidates * plans.iterations, config.plan_horizons or (plans.horizon,)
        passes = config.clips * counting.generating(config.sampling, config.context, config.future)
        passes += DRAWS * config.one_step_windows * counting.generating(one_step, history, 1)
        told_apart = (1 + config.other_actions) * counting.generating(one_step, 0, 1)
        passes += config.one_step_windows * (history + told_apart)
        for horizon in horizons:  # candidates share the context
            passes += plans.windows * (history + imagined * counting.generating(plans.sampling, 0, horizon))
        # The generated frames, and the true ones as a ceiling.
        decoded = 2 * config.clips * config.future * self._decode(_input(model, "decoder"))
        measured = Demand(
            flops=passes * counting.predicting(dit, *_shape(spec)) + decoded,
            memory=2 * counting.denoising(dit, *_shape(spec), False).parameters + plans.memory_mb * 2**20,
        )
        read = config.clips * (config.context + config.future) + config.one_step_windows * dit.max_frames
        read += plans.windows * sum(history + horizon for horizon in horizons)
        read += config.encoder_windows * (1 + sum(k + 1 for k in config.probe.horizons))
        return self._reading(stage, read, measured)


def _input(stage: Stage, kind: str) -> Stage:
    return next(source for source in stage.inputs if source.kind == kind)


def _bytes(space: LatentSpace) -> float:
    """Of a space on disk, without pixels and without published weights."""
    return sum(x.nbytes for x in space.state_dict().values())


def _shape(spec: LatentSpec) -> tuple[tuple[int, int], int]:
    return spec.grid, spec.channels


def _tokens(spec: LatentSpec) -> tuple[int, int]:
    return prod(spec.grid), spec.channels


def _comparing(config: DecoderConfig, image_size: int) -> float:
    """FLOPs of the perceptual distance in a decoder's training: image, target, and the image's gradient."""
    if config.perceptual == "none":
        return 0.0
    frames = max(0, budget(config.optim) - config.perceptual_after)
    return 3 * frames * counting.looking(config.perceptual, image_size)


def _training(optim: OptimConfig, one: Pass) -> Demand:
    return Demand(
        flops=budget(optim) * counting.training_flops(one.flops),
        disk=counting.training_disk(optim, one.parameters),
        memory=counting.training_memory(optim, one),
    )
