"""Starting from another world model's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.tensors import take_weights
from rslwm.types import DataError

FREE = {"views", "view_order", "max_frames", "temporal"}
"""Fields of DiTConfig that no weight depends on and that training can adapt to."""


def start_from(checkpoint: Path, model: WorldModel) -> str:
    """Give the transformer of ``model`` the weights of a checkpoint; returns a line for the log.

    Views, window, attention over time and the settings of training may be others. So may latent space and data, if
    their sizes agree: the weights are where training starts from.

    Raises:
        DataError: the checkpoint can't be loaded, a field of its ``config.yaml`` differs that the weights depend on, or
            a tensor is missing, left over or of another shape.
    """
    donor = WorldModel.load(checkpoint)
    theirs, ours = _binding(donor.config), _binding(model.config)
    for field, value in theirs.items():
        if ours[field] != value:
            raise DataError(
                f"{checkpoint / 'config.yaml'}: world_model.{field} is {value}, but the model that is to start from "
                f"these weights has {ours[field]}; set world_model.{field} to {value}, or leave out world_model.init"
            )
    take_weights(model.dit, donor.dit.state_dict(), checkpoint / "model.safetensors")
    spec, actions = donor.space.spec, "the same" if donor.action_spec == model.action_spec else "other"
    return f"weights of {checkpoint}, trained on {spec.name} ({donor.config.dit.views} view(s), {actions} actions)"


def _binding(config: WorldModelConfig) -> dict[str, Any]:
    """What weights depend on, by the name of the field."""
    dit = {f"dit.{name}": value for name, value in vars(config.dit).items() if name not in FREE}
    return {"objective": config.objective, "alignment": config.alignment, **dit}
