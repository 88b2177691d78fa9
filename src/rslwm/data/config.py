"""Where episodes come from, and how clips are cut from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rslwm.serialisation import OPERATIONAL, known_by
from rslwm.sim.config import SimConfig


def split_uri(uri: str) -> tuple[str, str]:
    """Scheme and location; the scheme may be a class of a file, ``path/to/file.py:Class``, or nothing."""
    scheme, colon, location = uri.partition(":")
    if scheme.endswith(".py"):
        name, colon, location = location.partition(":")
        scheme = f"{scheme}:{name}"
    return (scheme, location) if colon else ("", uri)


@dataclass(frozen=True)
class DataConfig:
    """Where episodes come from and how clips are cut from them."""

    # How the data are read is a part of the key; what the URI leads to is known by its content.
    uri: str = field(default="sim:tabletop", metadata=known_by(lambda uri: Path(split_uri(uri)[0]).name))
    """Where the episodes are: sim:tabletop (the embedded simulator records them), lerobot:FOLDER,
    hf://datasets/OWNER/NAME, rlds:FOLDER, hdf5:FILE, or file.py:Class:LOCATION for a data source of your own."""
    sim: SimConfig = field(default_factory=SimConfig)
    camera: str = ""
    """The camera to learn from. Several, as in front,side, are learned from together, their views side by side; empty
    takes the data set's first."""
    image_size: int = 64
    """Every frame is resized to a square of this many pixels a side."""
    frame_skip: int = 2
    """A clip shows every n-th recorded frame; the actions in between become one, see actions."""
    actions: Literal["compose", "first"] = "compose"
    """What the action between two frames of a clip is, if several were recorded: compose makes the one that has the
    effect of them all, first takes the first of them, as the paper's code does."""
    features: tuple[str, ...] = ()
    """Features that the data call otherwise than this program, each as OURS=THEIRS, for instance
    action=actions,observation.images.front=image."""
    action_spec: str = field(default="", metadata=OPERATIONAL)
    """YAML or JSON file that says what the dimensions of an action mean, for data that don't. The error that asks for
    it holds a draft."""
    test_fraction: float = 0.2
    """About this share of the episodes is held out: nothing is trained on it, and every metric is measured on it."""
    split_seed: int = 0
    """Another number holds out other episodes."""

    @property
    def views(self) -> int:
        """V, the cameras side by side in a frame."""
        return self.camera.count(",") + 1
