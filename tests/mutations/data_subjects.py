"""Data sets, as small as they can be, and their true readers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from foreign import Foreign
from recordings import SPEC, episode, whole
from rslwm.cli.data import describe
from rslwm.data.check import check
from rslwm.data.config import DataConfig
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.lerobot import write_lerobot
from rslwm.data.sources.opening import open_source


def read_dataset(folder: Path, out: Path) -> None:
    """What `rslwm data check` and `rslwm data show` do, and every frame."""
    dataset = EpisodeDataset(folder)
    check(dataset)
    describe(dataset)
    for i in range(len(dataset)):
        whole(dataset, i)


def imports(scheme: str, name: str = "") -> Callable[[Path, Path], None]:
    """`rslwm data import`: a whole LeRobot folder, or nothing."""

    def read(folder: Path, out: Path) -> None:
        read_dataset(open_source(DataConfig(f"{scheme}:{folder / name}")).open(out).root, out)

    return read


def foreign(**changes: Any) -> Callable[[Path], object]:
    return lambda folder: Foreign(lengths=(4, 3), **changes).write(folder)


def own(folder: Path) -> None:
    write_lerobot((episode(i, 5, ("front", "wrist")) for i in range(2)), folder / "set", SPEC)


def tfds(folder: Path) -> None:
    from tfds_folder import robot, tensor

    folder.rmdir()
    robot(folder, {"steps/observation/state": (tensor(2), np.ones(12, np.float32))})


def bridge(folder: Path) -> None:
    from tfds_folder import example
    from tfds_folder import tfds as write

    folder.rmdir()
    write(folder, [[example(i, 1.0, f"/{i}") for i in range(2)], [example(2)]])


def hdf5(folder: Path) -> None:
    from demonstrations import demo, written

    written(folder / "lift.hdf5", {f"demo_{i}": demo(i) for i in range(2)})
