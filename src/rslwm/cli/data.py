"""rslwm data make | import | check | show"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
import yaml
from rich.table import Column, Table
from rich.text import Text

from rslwm.cli.flags import DataFlags
from rslwm.cli.output import console, counting
from rslwm.data.check import check
from rslwm.data.config import DataConfig
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.sources.opening import importer, open_source
from rslwm.sim.config import SimConfig
from rslwm.types import ActionSpec


@dataclass
class Make:
    """Record the embedded simulator as a LeRobot v3 data set, on all cores.

    For instance:
      rslwm data make data/tabletop --episodes 200
      rslwm data make data/varied --families push,stack --cameras front,wrist --appearance 1 --seed 7
    """

    folder: tyro.conf.Positional[Path]
    """A new folder."""
    sim: Annotated[SimConfig, tyro.conf.arg(name="")] = field(default_factory=SimConfig)

    def run(self) -> None:
        source = open_source(DataConfig("sim:tabletop", self.sim))
        with counting("episodes", self.sim.episodes) as progress:
            dataset = source.write(self.folder, progress)
        console().print(describe(dataset), f"\nUse it with --data lerobot:{self.folder}")


@dataclass
class Import(DataFlags):
    """Turn an RLDS/TFDS or a robomimic/LIBERO HDF5 data set into a LeRobot v3 data set.

    TensorFlow is not needed. What isn't read is listed: depth, repeated episodes, absent shards, black cameras. What
    the actions mean is known for BridgeData V2 and for robosuite's controllers; for other data the error that asks for
    it holds the lines to correct and to put into a file rslwm.yaml beside the data, or into the one of --action-spec.

    For instance:
      rslwm data import rlds/bridge_dataset/1.0.0 data/bridge
      rslwm data import libero_goal/open_the_middle_drawer_of_the_cabinet_demo.hdf5 data/drawer
      rslwm data import rlds/kitchen/1.0.0 data/kitchen --features action=steps/action_delta --action-spec kitchen.yaml
    """

    source: tyro.conf.Positional[Path]
    """A folder with features.json, dataset_info.json and the shards; an .hdf5 file, or a folder of those."""
    folder: tyro.conf.Positional[Path]
    """A new folder."""

    def run(self) -> None:
        with counting("episodes") as progress:
            dataset = importer(self.source, self.described()).write(self.folder, progress)
        console().print(describe(dataset), f"\nUse it with --data lerobot:{self.folder}")


@dataclass
class _Opened(DataFlags):
    """What `data check` and `data show` are about."""

    uri: tyro.conf.Positional[str]
    """lerobot:FOLDER, hf://datasets/OWNER/NAME[@REVISION], rlds:FOLDER, hdf5:FILE or sim:tabletop."""
    cache: Path = Path("runs/data")
    """Where an RLDS or HDF5 data set is imported to, or the simulator recorded."""

    def open(self) -> EpisodeDataset:
        """The data set, imported or recorded if need be."""
        self.cache.mkdir(parents=True, exist_ok=True)
        with counting("episodes") as progress:
            return open_source(self.described(self.uri)).open(self.cache, progress)


@dataclass
class Check(_Opened):
    """Read all of a data set, every byte and frame, and list what would spoil a study; exit code 1 for errors.

    For instance:
      rslwm data check lerobot:my_robot
    """

    def run(self) -> int:
        dataset = self.open()
        with counting("episodes", len(dataset)) as progress:
            report = check(dataset, progress)
        console().print(report)
        for draft in filter(None, (finding.draft for finding in report.findings)):
            print(f"\n{draft}")  # plainly, to be copied
        return 0 if report.ok else 1


@dataclass
class Show(_Opened):
    """Say what a data set holds: episodes, cameras, instructions, labels, what is left out, and what every action
    dimension means, as a table and as the YAML of the action spec.

    For instance:
      rslwm data show lerobot:my_robot
      rslwm data show lerobot:my_robot --picture episodes.png
    """

    picture: Path | None = None
    """Draw some episodes to this file, one a row, time from left to right."""
    rows: int = 8
    """Episodes in the picture."""
    columns: int = 8
    """Frames of each."""
    camera: str = ""
    """The camera in the picture; the first one if it isn't given."""

    def run(self) -> None:
        dataset = self.open()
        console().print(describe(dataset), "")
        if self.picture:
            from PIL import Image

            Image.fromarray(self._sheet(dataset)).save(self.picture)
            print(f"{self.picture}\n")
        console().print(_actions(dataset), "")
        print(spec_yaml(dataset.spec))  # plainly: rich would wrap it, and it is there to be copied

    def _sheet(self, dataset: EpisodeDataset) -> np.ndarray:
        """(rows * H, columns * W, 3) uint8."""
        camera, rows = dataset.camera(self.camera), []
        for episode in _spread(len(dataset), min(self.rows, len(dataset))):
            frames = dataset.frames(int(episode), camera)
            rows.append(np.concatenate(list(frames[_spread(len(frames), self.columns)]), axis=1))
        return np.concatenate(rows)


def _spread(length: int, count: int) -> np.ndarray:
    """So many places of a sequence, from its first to its last."""
    return np.linspace(0, length - 1, count).round().astype(int)


def describe(dataset: EpisodeDataset) -> Table:
    """A data set in a few lines."""
    lengths, labels, texts = dataset.lengths, Counter(dataset.success), Counter(dataset.instructions)
    sizes = (f"{name} {'x'.join(map(str, dataset.image_size(name)))}" for name in dataset.cameras)
    states = (f"{name} ({len(names)})" for name, names in dataset.state_names.items())
    spread = [f"{min(lengths)} to {max(lengths)} steps"] if len(lengths) else []
    common = "; ".join(f"{text!r} {count}x" for text, count in texts.most_common(3))
    facts = {
        "folder": str(dataset.root),
        "episodes": ", ".join([f"{len(dataset)}", *spread, f"{sum(lengths)} together"]),
        "rate": f"{dataset.fps:g} Hz",
        "cameras": ", ".join(sizes) or "none",
        "states": ", ".join(states) or "none",
        "success": f"{labels[True]} yes, {labels[False]} no, {labels[None]} unlabelled",
        "instructions": f"{len(texts)} different: {common}",
        "left out": "\n".join(dataset.left_out) or "nothing",
        "fingerprint": dataset.fingerprint,
    }
    table = Table("", Column(overflow="fold"), box=None, show_header=False)
    for name, text in facts.items():
        table.add_row(Text(name, "dim"), Text(text))
    return table


def spec_yaml(spec: ActionSpec) -> str:
    """An action spec as the YAML that :func:`rslwm.data.conventions.read_spec` reads."""
    values = {"action_spec": spec.to_dict()}
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=10**6).rstrip()


def _actions(dataset: EpisodeDataset) -> Table:
    spec = dataset.spec
    recorded = np.concatenate([dataset.actions(i) for i in range(len(dataset))])
    title = Text(f"{', '.join(dict.fromkeys(spec.modes))} actions, {spec.frame} frame; gripper: {spec.gripper}")
    table = Table("action", "kind", "unit", "bounds", "mean", "std", "recorded", title=title, box=None)
    for name, kind, unit, low, high, x in zip(
        spec.names, spec.kinds, spec.units, spec.low, spec.high, recorded.T, strict=True
    ):
        figures = f"{x.mean():.4f}", f"{x.std():.4f}", f"{x.min():.4f} to {x.max():.4f}"
        table.add_row(Text(name), kind, Text(unit), f"{low:g} to {high:g}", *figures)
    return table
