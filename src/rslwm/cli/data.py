"""rslwm data make | import | check | show"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.table import Table

from rslwm.cli.output import console, counting
from rslwm.config import SimConfig
from rslwm.data.dataset import EpisodeDataset, open_dataset

CACHE = Path("runs/data")


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
        from rslwm.data.sources import record_tabletop

        with counting("episodes", self.sim.episodes) as progress:
            dataset = record_tabletop(self.sim, self.folder, progress)
        console().print(describe(dataset), f"\nUse it with --data lerobot:{self.folder}")


@dataclass
class Import:
    """Turn one version of an RLDS/TFDS data set (BridgeData V2, Open X-Embodiment) into a LeRobot v3 data set.

    TensorFlow is not needed. Repeated episodes, absent shards and black cameras are reported. What the actions mean is
    known for BridgeData; other folders say it in a file rslwm.json beside the shards.

    For instance:
      rslwm data import rlds/bridge_dataset/1.0.0 data/bridge
    """

    rlds: tyro.conf.Positional[Path]
    """Folder with features.json, dataset_info.json and the shards."""
    folder: tyro.conf.Positional[Path]
    """A new folder."""

    def run(self) -> None:
        from rslwm.data.rlds import RldsFolder
        from rslwm.data.sources import convert_rlds

        source = RldsFolder(self.rlds)
        with counting("episodes", len(source.report.episodes)) as progress:
            dataset = convert_rlds(source, self.folder, progress)
        console().print(describe(dataset), f"\nUse it with --data lerobot:{self.folder}")


@dataclass
class Check:
    """Read all of a data set, every byte and frame, and list what would spoil a study; exit code 1 for errors.

    For instance:
      rslwm data check lerobot:my_robot
    """

    uri: tyro.conf.Positional[str]
    """lerobot:FOLDER, rlds:FOLDER or sim:tabletop."""
    cache: Path = CACHE
    """Where an RLDS data set is imported to, or the simulator recorded."""

    def run(self) -> int:
        from rslwm.data.check import check

        dataset = _open(self.uri, self.cache)
        with counting("episodes", len(dataset)) as progress:
            report = check(dataset, progress)
        console().print(report)
        for draft in filter(None, (finding.draft for finding in report.findings)):
            print(f"\n{draft}")  # plainly, to be copied
        return 0 if report.ok else 1


@dataclass
class Show:
    """Say what a data set holds: episodes, cameras, instructions, labels, and what every action dimension means.

    For instance:
      rslwm data show lerobot:my_robot
      rslwm data show lerobot:my_robot --picture episodes.png
    """

    uri: tyro.conf.Positional[str]
    """lerobot:FOLDER, rlds:FOLDER or sim:tabletop."""
    picture: Path | None = None
    """Draw some episodes to this file, one a row, time from left to right."""
    rows: int = 8
    """Episodes in the picture."""
    columns: int = 8
    """Frames of each."""
    camera: str = ""
    """The camera in the picture; the first one if it isn't given."""
    cache: Path = CACHE
    """Where an RLDS data set is imported to, or the simulator recorded."""

    def run(self) -> None:
        dataset = _open(self.uri, self.cache)
        console().print(describe(dataset), "", _actions(dataset))
        if self.picture:
            from PIL import Image

            Image.fromarray(self._sheet(dataset)).save(self.picture)
            console().print(f"\n{self.picture}")

    def _sheet(self, dataset: EpisodeDataset) -> np.ndarray:
        """(rows * H, columns * W, 3) uint8."""
        episodes = np.linspace(0, len(dataset) - 1, min(self.rows, len(dataset))).round().astype(int)
        camera = dataset.camera(self.camera)
        rows = []
        for i in episodes:
            frames = dataset.frames(int(i), camera)
            places = np.linspace(0, len(frames) - 1, self.columns).round().astype(int)
            rows.append(np.concatenate(list(frames[places]), axis=1))
        return np.concatenate(rows)


def _open(uri: str, cache: Path) -> EpisodeDataset:
    cache.mkdir(parents=True, exist_ok=True)
    with counting("episodes") as progress:
        return open_dataset(uri, cache, progress)


def describe(dataset: EpisodeDataset) -> Table:
    """A data set in a few lines."""
    lengths, labels = dataset.lengths, Counter(dataset.success)
    sizes = (f"{name} {'x'.join(map(str, dataset.image_size(name)))}" for name in dataset.cameras)
    states = (f"{name} ({len(names)})" for name, names in dataset.state_names.items())
    texts = Counter(dataset.instructions)
    common = "; ".join(f"{text!r} {count}x" for text, count in texts.most_common(3))
    table = Table(box=None, show_header=False)
    facts = {
        "folder": str(dataset.root),
        "episodes": f"{len(dataset)}, {lengths.min()} to {lengths.max()} steps, {lengths.sum()} together",
        "rate": f"{dataset.fps:g} Hz",
        "cameras": ", ".join(sizes) or "none",
        "states": ", ".join(states) or "none",
        "success": f"{labels[True]} yes, {labels[False]} no, {labels[None]} unlabelled",
        "instructions": f"{len(texts)} different: {common}",
        "fingerprint": dataset.fingerprint,
    }
    for name, text in facts.items():
        table.add_row(f"[dim]{name}[/]", text)
    return table


def _actions(dataset: EpisodeDataset) -> Table:
    spec = dataset.spec
    recorded = np.concatenate([dataset.actions(i) for i in range(len(dataset))])
    title = f"{spec.mode} actions, {spec.frame} frame; gripper: {spec.gripper}"
    table = Table("action", "kind", "unit", "bounds", "mean", "std", "recorded", title=title, box=None)
    for d, name in enumerate(spec.names):
        values = recorded[:, d]
        table.add_row(
            name,
            spec.kinds[d],
            spec.units[d],
            f"{spec.low[d]:g} to {spec.high[d]:g}",
            f"{values.mean():.4f}",
            f"{values.std():.4f}",
            f"{values.min():.4f} to {values.max():.4f}",
        )
    return table
