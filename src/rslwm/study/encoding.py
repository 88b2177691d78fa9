"""The latents of a whole data set, straight from its videos, made by as many processes as asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rslwm.compute import ComputeConfig, device, seeded
from rslwm.data.clips import split_episodes
from rslwm.data.config import DataConfig
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.frames import DecodedFrames, evenly_spaced
from rslwm.data.sources.opening import located, open_source
from rslwm.data.store import Tensors, TensorStore
from rslwm.latents.base import TrainableEncoder
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.latents.store import Progress, encode_episode, to_float, write_latents
from rslwm.processes import number, spread
from rslwm.run.stage import Stage, Workspace, versioned
from rslwm.serialisation import ConfigError
from rslwm.study.config import StudyConfig
from rslwm.study.entry import Entry
from rslwm.study.graph import Builder
from rslwm.study.stored import SPACE, require_room
from rslwm.train.normaliser import SAMPLE, fit_normaliser
from rslwm.types import LatentSpec


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
    data, dataset = config.data, located(work.inputs[0], config.data)
    frames = DecodedFrames(dataset, data.camera, data.image_size)
    train, _ = split_episodes(dataset.ids, data.test_fraction, data.split_seed)
    with seeded(0, f"encoder weights {Path(config.space.reference).name}"):  # as a study draws them
        space = LatentSpace(config.space)
    if space.encoder.decodes:
        space = space.with_own_decoder()
    space = space.to(device(config.compute)).eval()
    sample = evenly_spaced(dataset, frames, train, SAMPLE // data.views)
    fit_normaliser(space, to_float(sample), config.compute)
    space.save(work.out / SPACE)


def native_space(entry: Entry, config: StudyConfig) -> tuple[Stage, Stage]:
    """The stages that find the episodes, and that fit the space of a frozen encoder to them.

    Raises:
        ConfigError: the space has something to train, or isn't what its spec says.
        DataError: its weights are missing.
    """
    if entry.channels or issubclass(entry.encoder, TrainableEncoder):
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


@dataclass(frozen=True)
class Encoding:
    """What any process needs to know to encode any episode."""

    space: Path
    dataset: Path
    cameras: str
    compute: ComputeConfig
    data: DataConfig = field(default_factory=DataConfig)
    """Of its features and actions."""

    def open(self) -> tuple[LatentSpace, DecodedFrames]:
        """The space, on this process's device, and the frames; loaded once a process."""
        return _open(self)

    def write(
        self, root: Path, processes: int = 1, progress: Progress = lambda done, total, message: None
    ) -> TensorStore:
        """Write what is missing of the store; its bytes don't depend on the number of processes.

        Raises:
            DataError: the store doesn't fit on the disk, or is one of something else.
        """
        space, frames = self.open()
        require_room(root, disk_needed(frames.dataset, space.spec))
        meta = latents_meta(space, frames)

        def latents(keys: list[str]) -> Iterator[Tensor]:
            # As integers, for NumPy has no bfloat16; tensors would need shared memory, which containers are short of.
            return (torch.from_numpy(x).view(torch.bfloat16) for x in spread(partial(_encode, self), keys, processes))

        return write_latents(latents, frames.keys, root, meta, progress)


@lru_cache(maxsize=1)
def _open(job: Encoding) -> tuple[LatentSpace, DecodedFrames]:
    torch.set_num_threads(job.compute.threads)  # as many in every process: the number changes last digits
    space = LatentSpace.load(job.space)
    frames = DecodedFrames(open_source(job.data).reopen(job.dataset), job.cameras, space.config.image_size)
    return space.to(device(_own_device(job.compute))), frames


def _own_device(compute: ComputeConfig) -> ComputeConfig:
    """On a machine of several GPUs, they are taken in turns."""
    gpus = torch.cuda.device_count()
    return replace(compute, device=f"cuda:{number() % gpus}") if compute.device == "auto" and gpus > 1 else compute


def _encode(job: Encoding, key: str) -> np.ndarray:
    space, frames = job.open()

    def encode(stored: Tensor) -> Tensor:
        return space.encode(to_float(stored))

    return encode_episode(encode, frames[key], _own_device(job.compute)).view(torch.int16).numpy()


def latents_meta(space: LatentSpace, frames: Tensors) -> dict[str, Any]:
    """What identifies the latents of these frames in that space."""
    return {"latents of": frames.meta, **space.spec.to_dict()}


def disk_needed(dataset: EpisodeDataset, spec: LatentSpec) -> int:
    """Bytes of the latents of a data set."""
    return int(dataset.lengths.sum()) * spec.bytes_per_frame
