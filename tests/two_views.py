"""The point world seen by two cameras: the second sees the first one's picture upside down, red and blue swapped."""

from dataclasses import replace
from pathlib import Path

import numpy as np

import point_world
from rslwm.data.config import DataConfig
from rslwm.data.corpus import Corpus
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.frames import build_frame_store
from rslwm.data.lerobot import write_lerobot
from rslwm.types import Episode

SIZE = point_world.SIZE


def episode(i: int) -> Episode:
    front = point_world.episode(i, success=bool(i % 2))
    side = np.ascontiguousarray(front.frames["front"][:, ::-1, :, ::-1])
    return replace(front, frames={**front.frames, "side": side})


def write_dataset(root: Path, episodes: int = 12) -> EpisodeDataset:
    return write_lerobot(map(episode, range(episodes)), root, point_world.SPEC, state_names=point_world.STATE_NAMES)


def open_corpus(dataset: EpisodeDataset, cameras: str, frames: Path) -> Corpus:
    """Its frames decoded to ``frames``, a third of the episodes held out."""
    config = DataConfig(uri=f"lerobot:{dataset.root}", camera=cameras, image_size=SIZE, **point_world.SPLIT)
    return Corpus(dataset, build_frame_store(dataset, cameras, SIZE, frames), config)
