"""What the commands that put a world model to data have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from rslwm.data.config import DataConfig
    from rslwm.model.world_model import WorldModel


@dataclass
class CheckpointCommand:
    """A command that puts a world model to its own data or to others."""

    checkpoint: tyro.conf.Positional[Path]
    """Folder of a world model."""
    out: Path
    """Folder to write to."""
    data: str = ""
    """sim:tabletop, lerobot:FOLDER, hf://datasets/OWNER/NAME, rlds:FOLDER or hdf5:FILE; the episodes that the model was
    trained on if it isn't given."""
    camera: str = ""
    """Of these data; several, comma separated, for a model of several. The name in training if it isn't given."""
    features: Annotated[tuple[str, ...], tyro.conf.arg(name="data.features")] = ()
    """With --data: features that these call otherwise, each as OURS=THEIRS, such as action=actions."""
    action_spec: Annotated[str, tyro.conf.arg(name="data.action-spec")] = ""
    """With --data: YAML or JSON file with their action spec, where they don't carry one."""

    def source(self, model: WorldModel) -> tuple[DataConfig, Path]:
        """The data, and the folder of the stages that make them ready."""
        from rslwm.study.checkpoint import clip_settings, run_folder

        data = clip_settings(model, self.checkpoint, self.data, self.camera)
        if not self.data:
            return data, run_folder(self.checkpoint, self.out)
        return replace(data, features=self.features, action_spec=self.action_spec), self.out  # other data, other names
