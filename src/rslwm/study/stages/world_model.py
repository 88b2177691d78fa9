"""The world model of a space, trained here or taken from elsewhere."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from functools import cache
from math import isqrt, prod
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from rslwm.compute import ComputeConfig, generator, redrawn
from rslwm.data.corpus import Corpus, SeenEpisodes, require_held_out
from rslwm.data.fingerprint import files_key
from rslwm.flops import PRECISION, Pass, blank, count
from rslwm.latents.space import LatentSpace
from rslwm.model.dit import SIZES, DiT, DiTConfig, forward_flops
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.optim import OptimConfig
from rslwm.run.stage import Demand, Stage, Workspace
from rslwm.serialisation import OPERATIONAL, ConfigError
from rslwm.shipping import located
from rslwm.study.stages.base import OnEpisodes, Sizes, on_episodes, training
from rslwm.study.stages.decoder import DecoderStage
from rslwm.study.stages.latents import SPACE, LatentsStage
from rslwm.study.stages.taken import TakenSpaceStage
from rslwm.train.world_model import start_from, train_world_model
from rslwm.types import LatentSpec

if TYPE_CHECKING:
    from rslwm.study.subjects import Variant


CHECKPOINT = "checkpoint"
ACTION_DIMS = 7
"""Of an arm's end effector; they hardly count."""


@dataclass(frozen=True, eq=False, kw_only=True)
class WorldModelStage(OnEpisodes[WorldModel]):
    """Train a world model; it opens ready for inference."""

    kind = "world-model"

    latents: LatentsStage
    decoder: DecoderStage | TakenSpaceStage
    settings: WorldModelConfig
    seed: int
    init: str
    """Changes when the files of the checkpoint do that the weights start from."""

    @classmethod
    def of(cls, variant: Variant) -> WorldModelStage:
        return cls(
            **on_episodes(variant),
            label=variant.sized,
            latents=variant.pull(LatentsStage),
            decoder=variant.pull(DecoderStage),
            settings=variant.world_model,
            seed=redrawn(variant.seed, variant.world_model.redraw),
            init=variant.study.init,
        )

    @property
    def seconds(self) -> float:
        return self.settings.optim.steps * 0.13

    @property
    def one(self) -> Pass:
        """A training clip through the transformer."""
        spec = self.latents.spec
        return denoising(self.settings.dit, spec.grid, spec.channels, self.compute.checkpoint_activations)

    @property
    def predict_flops(self) -> float:
        """Of one velocity of a new frame."""
        spec = self.latents.spec
        return predicting(self.settings.dit, spec.grid, spec.channels)

    @property
    def processes(self) -> int:
        return self.sharing(self.settings.optim)

    def demand(self, sizes: Sizes) -> Demand:
        optim, decoder = self.settings.optim, Demand(disk=self.decoder.disk)
        return self.reading(optim.samples * self.settings.dit.max_frames, training(optim, self.one) + decoder)

    def run(self, work: Workspace) -> None:
        corpus, init = self.corpus(work), self.settings.init
        seen = _seen_before(init, corpus)
        space = LatentSpace.load(work.folder(self.decoder) / SPACE)  # a copy to move about
        weights, fingerprint = generator(self.seed, "world model weights"), corpus.dataset.fingerprint
        model = WorldModel(space, corpus.action_spec, self.settings, weights, fingerprint, self.cut)
        start = start_from(init, model) if init else "random weights"
        print(f"starts from {start}")
        latents = work.open(self.latents)
        trained = train_world_model(model, corpus, latents, self.seed, work.out, self.compute, work.progress)
        model.seen = SeenEpisodes.of(corpus, seen, SeenEpisodes.read(work.folder(self.decoder) / SPACE))
        model.cpu().save(work.out / CHECKPOINT)
        parameters = sum(p.numel() for p in model.dit.parameters())
        work.write_facts(parameters=parameters, start=start, **trained.facts)

    def open(self, work: Workspace) -> WorldModel:
        return WorldModel.load(work.out / CHECKPOINT).for_inference(self.compute)


def _seen_before(init: str, corpus: Corpus) -> SeenEpisodes | None:
    """What the model ``init`` was trained on; raises :class:`DataError` if some of it is held out here."""
    seen = SeenEpisodes.read(located(init)) if init else None
    if seen:
        require_held_out(corpus, seen, f"world_model.init: {init}", "leave world_model.init out")
    return seen


@dataclass(frozen=True, eq=False, kw_only=True)
class CheckpointStage(Stage[WorldModel]):
    """Take a copy of a world model's folder, so that rows stay next to the weights that they belong to."""

    kind = "checkpoint"

    path: str = field(metadata=OPERATIONAL)
    files: str
    """The content of the folder."""
    compute: ComputeConfig

    @classmethod
    def of_folder(cls, folder: Path, compute: ComputeConfig) -> CheckpointStage:
        return cls(label=str(folder), path=str(folder.absolute()), files=files_key(folder), compute=compute)

    def run(self, work: Workspace) -> None:
        copy_folder(Path(self.path), work.out / CHECKPOINT)

    def open(self, work: Workspace) -> WorldModel:
        return WorldModel.load(work.out / CHECKPOINT).for_inference(self.compute)


@dataclass(frozen=True, eq=False, kw_only=True)
class CheckpointSpace(Stage[LatentSpace]):
    """The latent space of a world model from elsewhere."""

    kind = "space"

    checkpoint: CheckpointStage

    def run(self, work: Workspace) -> None:
        WorldModel.load(work.folder(self.checkpoint) / CHECKPOINT).space.save(work.out / SPACE)

    def open(self, work: Workspace) -> LatentSpace:
        return LatentSpace.load(work.out / SPACE)


def copy_folder(source: Path, target: Path) -> Path:
    """Replace ``target`` by a copy of ``source``; a kill leaves the old one, the new one, or none."""
    new = target.with_name(f".{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(source, new)
    shutil.rmtree(target, ignore_errors=True)
    new.rename(target)
    return target


# ------------------------------------------------------------------------------------------------------------- its size


@dataclass(frozen=True)
class ScalingConfig:
    """What of a world model follows from its latent space and its size, where a study has several of either."""

    tokens: int = 0
    """Number of tokens of a frame and view: dit.patch follows from the latent grid, so that every space has as many. 0
    takes dit.patch as it is."""
    wide_from: int = 0
    """Latents of fewer channels do without dit.wide_head."""
    optim: dict[str, OptimConfig] = field(default_factory=dict)
    """How a size is trained, by its name, where that isn't as world_model.optim says."""


def scaled(model: WorldModelConfig, scaling: ScalingConfig, spec: LatentSpec, size: str = "") -> WorldModelConfig:
    """The world model of a size (of its own ``dit`` if that is empty) over a space, ``spec`` of one view. Raises
    :class:`ConfigError` if the grid can't be cut into ``scaling.tokens`` patches."""
    dit = model.dit
    if size:
        shape = SIZES[size]
        dit = replace(dit, width=shape.width, depth=shape.depth, heads=shape.heads)
    if scaling.tokens:
        dit = replace(dit, patch=_patch(spec, scaling.tokens))
    if spec.channels < scaling.wide_from:
        dit = replace(dit, wide_head=0)
    return replace(model, dit=dit, optim=scaling.optim.get(size, model.optim))


def _patch(spec: LatentSpec, tokens: int) -> int:
    h, w = spec.grid
    patch = isqrt(h * w // tokens)
    if patch == 0 or patch**2 * tokens != h * w or h % patch or w % patch:
        raise ConfigError(
            f"scaling.tokens is {tokens}, but the {h}x{w} grid of {spec.name} can't be cut into so many square "
            "patches; choose another number, or 0 to take world_model.dit.patch for every space"
        )
    return patch


# Counted once each: many spaces of a study have the same sizes.


@cache
def denoising(config: DiTConfig, grid: tuple[int, int], channels: int, checkpointed: bool) -> Pass:
    """One training clip through the transformer; of a checkpointed one, every layer's input and one layer are kept."""
    T, actions = config.max_frames, config.action_inputs or ACTION_DIMS

    def of(depth: int) -> Pass:
        return count(
            lambda: DiT(replace(config, depth=depth), channels, ACTION_DIMS),
            lambda dit: dit(blank(1, T, *grid, channels), blank(1, T), blank(1, T, actions)),
        )

    one, two = of(1), of(2)
    inputs = config.depth * T * prod(grid) // config.patch**2 * config.width * PRECISION.itemsize
    return Pass(
        flops=_of_layers(config.depth, one.flops, two.flops),
        parameters=round(_of_layers(config.depth, one.parameters, two.parameters)),
        kept=one.kept + inputs if checkpointed else _of_layers(config.depth, one.kept, two.kept),
    )


@cache
def predicting(config: DiTConfig, grid: tuple[int, int], channels: int) -> float:
    """FLOPs of one velocity of a new frame, the window's others being cached."""

    def of(depth: int) -> float:
        with torch.device("meta"):
            dit = DiT(replace(config, depth=depth), channels, ACTION_DIMS)
        return forward_flops(dit, grid, frames=1, past=config.max_frames - 1)

    return _of_layers(config.depth, of(1), of(2))


def _of_layers(layers: int, one: float, two: float) -> float:
    """A quantity of a network of any depth, whose layers are alike, from those of one and of two layers."""
    return one + (layers - 1) * (two - one)
