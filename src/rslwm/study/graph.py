"""Which stages a study consists of, and how they hang together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from rslwm.compute import ComputeConfig, resolved
from rslwm.data.config import DataConfig
from rslwm.data.fingerprint import files_key
from rslwm.data.sources.opening import URIS, open_source
from rslwm.evals.evaluation import EvalConfig, Label
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.space import LatentSpace
from rslwm.model.dit import DiTConfig, size_of
from rslwm.run.stage import Stage, closure
from rslwm.serialisation import ConfigError
from rslwm.study import stages
from rslwm.study.config import StudyConfig
from rslwm.study.entry import Entry, parse_entries
from rslwm.study.measuring import metric_versions, planner_code
from rslwm.study.scaling import scaled, sizes
from rslwm.study.stored import too_wide
from rslwm.train.latents import budget
from rslwm.train.pixel_loss import PixelLoss


@dataclass(frozen=True)
class SpaceStages:
    """The stages of one latent space, seed and size of the transformer."""

    entry: Entry
    seed: int
    size: str
    """Empty if the study doesn't name sizes."""
    encoder: Stage
    adapter: Stage | None
    """Of the space, or of the one that it decodes through."""
    latents: Stage
    decoder: Stage
    probes: Stage
    world_model: Stage
    rows: Stage


@dataclass(frozen=True)
class Study:
    """A study's graph."""

    config: StudyConfig
    data: Stage
    frames: Stage
    spaces: tuple[SpaceStages, ...]

    @property
    def targets(self) -> list[Stage]:
        """What a study's results are put together from: a folder among them that was deleted is made again."""
        parts = [[s.encoder, s.adapter, s.latents, s.decoder, s.probes, s.world_model] for s in self.spaces]
        described = [stage for part in parts for stage in part if stage]
        return [*(space.rows for space in self.spaces), self.data, *described]

    def check(self, finished: Callable[[Stage], bool]) -> None:
        """Refuse, before anything runs, a study without data, networks without their weights, and encoders that aren't
        what they say.

        Raises:
            ConfigError, DataError: see :meth:`Entry.check` and :class:`PixelLoss`.
        """
        if not self.config.data.uri:
            raise ConfigError(f"data.uri is empty: this study brings no data; give --data {URIS}")
        for stage, space in {space.encoder: space for space in self.spaces}.items():
            if not finished(stage):
                space.entry.check(self.config)
        if any(isinstance(s.config, stages.DecoderStage) and not finished(s) for s in closure(self.targets)):
            config = self.config.decoder
            PixelLoss(config, budget(config.optim), torch.device("cpu"))

    def by_size(self) -> dict[str, Study]:
        """One comparison a size: models of different sizes are never compared with each other."""
        found = dict.fromkeys(space.size for space in self.spaces)
        return {size: replace(self, spaces=tuple(s for s in self.spaces if s.size == size)) for size in found}


class Builder:
    """Builds the graph; equal stages are one stage, since their keys are equal.

    ``seconds`` in the costs are rough, per step at the demo's sizes; they order the work and feed the first ETA.
    """

    def __init__(self, config: StudyConfig) -> None:
        self.config, self.compute = _with_views(config), resolved(config.compute)
        self._opened: dict[Entry, LatentSpace] = {}
        self.init = _checkpoint_key(config.world_model.init)
        uri, source = config.data.uri, open_source(config.data)
        recorded = source.recorded
        self.data = Stage(
            "data",
            uri,
            stages.make_data,
            stages.DataStage(recorded, source.key()),
            cost=source.seconds,
            exclusive=source.exclusive,
        )
        decoded = replace(recorded, camera=config.data.camera, image_size=config.data.image_size)
        self.frames = Stage("frames", uri, stages.make_frames, decoded, (self.data,), cost=5.0)
        # Up to the latents everything works frame by frame, and how clips are cut must not change its key.
        self.framewise = replace(config.data, frame_skip=DataConfig.frame_skip, actions=DataConfig.actions)

    def build(self) -> Study:
        """The graph, without a look at any weights.

        Raises:
            ConfigError: a row or a size that can't be built.
            UnknownName: an encoder that doesn't exist.
        """
        entries, seeds = parse_entries(self.config), range(self.config.seeds)
        spaces = tuple(
            self.space(entry, entry.seed + number, size)
            for size in sizes(self.config)
            for entry in entries
            for number in seeds
        )
        return Study(self.config, self.data, self.frames, spaces)

    def opened(self, entry: Entry) -> LatentSpace:
        """What is known of a space without weights, see :meth:`Entry.open`."""
        if entry not in self._opened:
            self._opened[entry] = entry.open(self.config)
        return self._opened[entry]

    def encoder(self, entry: Entry, seed: int) -> Stage:
        inputs = [self.data, self.frames]
        if entry.teacher:
            inputs.append(self.features(Entry.parse(entry.teacher), seed))
        stage = self._encoder_stage(entry, seed)
        cost = self.config.encoder.optim.steps * 0.2
        return Stage("encoder", _name(entry, seed), stages.make_encoder, stage, tuple(inputs), cost=cost)

    def _encoder_stage(self, entry: Entry, seed: int) -> stages.EncoderStage:
        native = replace(entry, channels=0)
        source = entry.source() + self.opened(native).spec.revision
        own = 0 if entry.published else seed
        return stages.EncoderStage(native.space(self.config), self.framewise, self.compute, own, source)

    def features(self, entry: Entry, seed: int) -> Stage:
        stage = replace(self._encoder_stage(entry, seed), streamed=self._streamed(replace(entry, channels=0)))
        inputs = (self.frames, self.encoder(entry, seed))
        return Stage("features", _name(entry, seed), stages.make_features, stage, inputs, cost=15.0)

    def _streamed(self, entry: Entry) -> bool:
        """Whether a space is too wide to store, for all cameras together."""
        return too_wide(self.opened(entry).spec, self.config.stream_above_kb)

    def adapter(self, entry: Entry, seed: int) -> Stage | None:
        """None for a native space."""
        if not entry.channels:
            return None
        config = self.config.adapter
        stage = stages.AdapterStage(config, entry.channels, self.framewise, self.compute, seed)
        inputs, cost = (self.data, self.frames, self.features(entry, seed)), config.optim.steps * 0.05
        return Stage("adapter", _name(entry, seed), stages.make_adapter, stage, inputs, cost=cost)

    def latents(self, entry: Entry, seed: int) -> Stage:
        inputs = [self.data, self.frames, self.encoder(entry, seed)]
        if adapter := self.adapter(entry, seed):
            inputs += [adapter, self.features(entry, seed)]
        space, streamed = entry.space(self.config), self._streamed(entry)
        stage = stages.LatentsStage(space, self.framewise, self.compute, streamed)
        return Stage("latents", _name(entry, seed), stages.make_latents, stage, tuple(inputs), cost=15.0)

    def decoder(self, entry: Entry, seed: int) -> Stage:
        """A pixel decoder is trained, unless the encoder has one or the space decodes through its compressed twin."""
        name, latents, config = _name(entry, seed), self.latents(entry, seed), self.config.decoder
        if config.own and entry.encoder.decodes:
            return Stage("decoder", name, stages.take_own_decoder, DecoderConfig(own=True), (latents,))
        if twin := self.twin(entry):
            shared = (latents, self.decoder(twin, seed))
            return Stage("decoder", name, stages.share_decoder, DecoderConfig(through=twin.channels), shared)
        stage = stages.DecoderStage(config, self.framewise, self.compute, seed)
        inputs, cost = (self.data, self.frames, latents), config.optim.steps * 0.1
        return Stage("decoder", name, stages.make_decoder, stage, inputs, cost=cost)

    def twin(self, entry: Entry) -> Entry | None:
        """The compressed space that a native semantic one decodes through, if it does."""
        through = self.config.decoder.through
        if not through or entry.channels or self.opened(entry).spec.family != "semantic":
            return None
        return replace(entry, name=f"{entry.name}+{through}", channels=through)

    def space(self, entry: Entry, seed: int, size: str = "") -> SpaceStages:
        config, compute, data = self.config, self.compute, self.config.data
        name, sized = _name(entry, seed), _name(entry, seed, size)
        common = (self.data, self.frames)
        latents, decoder = self.latents(entry, seed), self.decoder(entry, seed)
        probe = config.evaluation.probe
        probes = Stage(
            "probes",
            name,
            stages.make_probes,
            stages.ProbesStage(probe, data, compute, seed),
            (*common, latents),
            cost=probe.optim.steps * 0.08,
        )
        opened = self.opened(entry)
        model = scaled(config, opened.view_spec, size)
        world_model = Stage(
            "world-model",
            sized,
            stages.make_world_model,
            stages.WorldModelStage(model, data, compute, seed, self.init),
            (*common, latents, decoder),
            cost=model.optim.steps * 0.13,
        )
        label = Label(entry.name, opened.spec.family, size_of(model.dit), seed)
        rows = Stage(
            "rows",
            sized,
            stages.make_rows,
            evaluate_stage(label, config.evaluation, data, compute),
            (*common, latents, probes, world_model),
            cost=20.0,
        )
        adapter = self.adapter(self.twin(entry) or entry, seed)
        encoder = self.encoder(entry, seed)
        return SpaceStages(entry, seed, size, encoder, adapter, latents, decoder, probes, world_model, rows)


def _name(entry: Entry, seed: int, size: str = "") -> str:
    return " ".join([entry.name, *([size] if size else []), f"seed {seed}"])


def evaluate_stage(label: Label, config: EvalConfig, data: DataConfig, compute: ComputeConfig) -> stages.EvaluateStage:
    """The configuration of measuring everything."""
    return stages.EvaluateStage(label, config, data, compute, metric_versions(), planner_code(config.plan.planner))


def _checkpoint_key(folder: str) -> str:
    """Changes with the files of a checkpoint; empty for none.

    Raises:
        ConfigError: the folder holds no checkpoint.
    """
    if not folder:
        return ""
    if not (Path(folder) / "model.safetensors").is_file():
        raise ConfigError(f"world_model.init: {folder} holds no model.safetensors; name the folder of a world model")
    return files_key(Path(folder))


def _with_views(config: StudyConfig) -> StudyConfig:
    """With a transformer of as many views as there are cameras.

    Raises:
        ConfigError: it is configured for another number.
    """
    model, views = config.world_model, config.data.views
    if model.dit.views not in (DiTConfig.views, views):
        raise ConfigError(
            f"world_model.dit.views is {model.dit.views}, but data.camera {config.data.camera!r} is {views} camera(s); "
            "leave dit.views out, it follows from data.camera"
        )
    return replace(config, world_model=replace(model, dit=replace(model.dit, views=views)))
