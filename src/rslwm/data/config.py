"""Where episodes come from, and how clips are cut from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rslwm.serialisation import OPERATIONAL, known_by
from rslwm.sim.config import SimConfig


@dataclass(frozen=True)
class DataConfig:
    """Where episodes come from and how clips are cut from them."""

    uri: str = field(
        default="sim:tabletop",
        metadata=known_by(lambda uri: uri if uri.startswith("sim:") else uri.partition(":")[0]),
    )
    """sim:tabletop, lerobot:FOLDER, hf://datasets/OWNER/NAME, rlds:FOLDER or hdf5:FILE."""
    sim: SimConfig = field(default_factory=SimConfig)
    camera: str = ""
    """The camera to learn from, or several (front,side), whose views then lie side by side; empty takes the first."""
    image_size: int = 64
    """Frames are resized to this many pixels."""
    frame_skip: int = 2
    """Recorded steps between two frames of a clip."""
    actions: Literal["compose", "first"] = "compose"
    """With a frame skip: compose the skipped actions, or take the first one as the paper's code does."""
    features: tuple[str, ...] = ()
    """Features that the data call otherwise, each as OURS=THEIRS: action=actions,observation.images.front=image."""
    action_spec: str = field(default="", metadata=OPERATIONAL)
    """YAML or JSON file with the action spec of data that don't carry one; the error that asks for it holds a draft."""
    test_fraction: float = 0.2
    """Share of the episodes held out for every metric."""
    split_seed: int = 0

    @property
    def views(self) -> int:
        """V, the cameras side by side in a frame."""
        return self.camera.count(",") + 1
