"""Which stages a study consists of, and how they hang together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rslwm.config import DataConfig, DiTConfig, SimConfig, StudyConfig
from rslwm.evals.base import METRICS
from rslwm.evals.evaluation import Label
from rslwm.latents.space import LatentSpace
from rslwm.model.dit import size_of
from rslwm.serialisation import ConfigError
from rslwm.study import stages
from rslwm.study.entry import Entry, files_key, parse_entries
from rslwm.study.stage import Stage


@dataclass(frozen=True)
class SpaceStages:
    """The stages of one latent space and seed."""

    entry: Entry
    seed: int
    encoder: Stage
    adapter: Stage | None
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


class Builder:
    """Builds the graph; equal stages are one stage, since their keys are equal.

    ``seconds`` in the costs are rough, per step at the demo's sizes; they order the work and feed the first ETA.
    """

    def __init__(self, config: StudyConfig) -> None:
        self.config, self.compute = _with_views(config), config.compute
        self.init = _checkpoint_key(config.world_model.init)
        uri = config.data.uri
        if ":" not in uri:
            raise ConfigError(f"data.uri: {uri!r} has no scheme; write sim:tabletop, lerobot:FOLDER or rlds:FOLDER")
        location = Path(uri.partition(":")[2]).expanduser()
        simulated = uri.startswith("sim:")
        source = "" if simulated else files_key(location)
        episodes = config.data.sim.episodes
        # What doesn't change the episodes must not change their key: another frame skip needs no new recording.
        recorded = DataConfig(uri=uri, sim=config.data.sim if simulated else SimConfig())
        self.data = Stage(
            "data",
            uri,
            stages.make_data,
            stages.DataStage(recorded, source),
            cost=episodes * 0.3 if simulated else 10.0,
            exclusive=simulated,
        )
        decoded = replace(recorded, camera=config.data.camera, image_size=config.data.image_size)
        self.frames = Stage("frames", uri, stages.make_frames, decoded, (self.data,), cost=5.0)
        # Up to the latents everything works frame by frame, and how clips are cut must not change its key.
        self.framewise = replace(config.data, frame_skip=DataConfig.frame_skip, actions=DataConfig.actions)

    def build(self) -> Study:
        entries = parse_entries(self.config)
        spaces = tuple(
            self.space(entry, entry.seed + number) for entry in entries for number in range(self.config.seeds)
        )
        return Study(self.config, self.data, self.frames, spaces)

    def encoder(self, entry: Entry, seed: int) -> Stage:
        inputs = [self.data, self.frames]
        if entry.teacher:
            inputs.append(self.features(Entry.parse(entry.teacher), seed))
        stage = self._encoder_stage(entry, seed)
        cost = self.config.encoder.optim.steps * 0.2
        return Stage("encoder", f"{entry.name} seed {seed}", stages.make_encoder, stage, tuple(inputs), cost=cost)

    def _encoder_stage(self, entry: Entry, seed: int) -> stages.EncoderStage:
        native = replace(entry, channels=0).space(self.config)
        return stages.EncoderStage(native, self.framewise, self.compute, seed, entry.source())

    def features(self, entry: Entry, seed: int) -> Stage:
        stage, encoder = self._encoder_stage(entry, seed), self.encoder(entry, seed)
        return Stage(
            "features", f"{entry.name} seed {seed}", stages.make_features, stage, (self.frames, encoder), cost=15.0
        )

    def space(self, entry: Entry, seed: int) -> SpaceStages:
        config, compute, data = self.config, self.compute, self.config.data
        name = f"{entry.name} seed {seed}"
        common = (self.data, self.frames)
        encoder, adapter = self.encoder(entry, seed), None
        inputs = [*common, encoder]
        if entry.channels:
            features = self.features(entry, seed)
            adapter = Stage(
                "adapter",
                name,
                stages.make_adapter,
                stages.AdapterStage(config.adapter, entry.channels, self.framewise, compute, seed),
                (*common, features),
                cost=config.adapter.optim.steps * 0.05,
            )
            inputs += [adapter, features]
        latents = Stage(
            "latents",
            name,
            stages.make_latents,
            stages.LatentsStage(entry.space(config), self.framewise, compute),
            tuple(inputs),
            cost=15.0,
        )
        decoder = Stage(
            "decoder",
            name,
            stages.make_decoder,
            stages.DecoderStage(config.decoder, self.framewise, compute, seed),
            (*common, latents),
            cost=config.decoder.optim.steps * 0.1,
        )
        probes = Stage(
            "probes",
            name,
            stages.make_probes,
            stages.ProbesStage(config.evaluation.probe, data, compute, seed),
            (*common, latents),
            cost=config.evaluation.probe.optim.steps * 0.08,
        )
        world_model = Stage(
            "world-model",
            name,
            stages.make_world_model,
            stages.WorldModelStage(config.world_model, data, compute, seed, self.init),
            (*common, latents, decoder),
            cost=config.world_model.optim.steps * 0.13,
        )
        label = Label(entry.name, LatentSpace(entry.space(config)).spec.family, size_of(config.world_model.dit), seed)
        rows = Stage(
            "rows",
            name,
            stages.make_rows,
            stages.EvaluateStage(label, config.evaluation, data, compute, tuple(METRICS)),
            (*common, latents, probes, world_model),
            cost=20.0,
        )
        return SpaceStages(entry, seed, encoder, adapter, latents, decoder, probes, world_model, rows)


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
