"""The space of a frozen encoder, fitted to a data set without a study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rslwm.compute import ComputeConfig, device, seeded
from rslwm.data.clips import split_episodes
from rslwm.data.config import DataConfig
from rslwm.data.dataset import open_folder
from rslwm.data.frames import DecodedFrames, spread_frames
from rslwm.latents.pixels import OwnDecoder
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.latents.store import to_float
from rslwm.latents.stored import SPACE
from rslwm.run.stage import Stage, Workspace, versioned
from rslwm.serialisation import ConfigError
from rslwm.study import stages
from rslwm.study.config import StudyConfig
from rslwm.study.entry import Entry
from rslwm.study.graph import Builder
from rslwm.train.normaliser import SAMPLE, fit_normaliser


@dataclass(frozen=True)
class SpaceStage:
    space: SpaceConfig
    data: DataConfig
    compute: ComputeConfig
    source: str


@versioned(1)
def make_space(work: Workspace) -> None:
    """A frozen encoder's native space, its normaliser fitted to the training episodes. Input: data."""
    config: SpaceStage = work.config
    data, dataset = config.data, open_folder(stages.dataset_root(work.inputs[0], config.data.uri), config.data)
    frames = DecodedFrames(dataset, data.camera, data.image_size)
    train, _ = split_episodes(dataset.ids, data.test_fraction, data.split_seed)
    with seeded(0, f"encoder weights {Path(config.space.reference).name}"):  # as a study draws them
        space = LatentSpace(config.space)
    if space.encoder.decodes:
        space.set_pixels(OwnDecoder())
    space = space.to(device(config.compute)).eval()
    sample = spread_frames(dataset, frames, train, SAMPLE // data.views)
    fit_normaliser(space, to_float(sample), config.compute)
    space.save(work.out / SPACE)


def native_space(entry: Entry, config: StudyConfig) -> tuple[Stage, Stage]:
    """The stages that find the episodes, and that fit the space of a frozen encoder to them.

    Raises:
        ConfigError: the space has something to train, or isn't what its spec says.
        DataError: its weights are missing.
    """
    if entry.channels or entry.encoder.trainable:
        part = f"its adapter to {entry.channels} channels" if entry.channels else "its encoder"
        raise ConfigError(
            f"{entry.name} has to be trained first, {part}: `rslwm latents train {entry.name} --data "
            f"{config.data.uri}`, then encode with the folder that it names"
        )
    entry.check(config)
    builder = Builder(config)
    source = entry.source() + builder.opened(entry).spec.revision
    stage = SpaceStage(entry.space(config), builder.framewise, config.compute, source)
    return builder.data, Stage("space", entry.name, make_space, stage, (builder.data,), cost=60.0)
