"""Training of a world model on a study's latents."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rslwm.compute import ComputeConfig, autocast, device, generator
from rslwm.data.corpus import Corpus
from rslwm.data.store import Readable
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.shipping import located
from rslwm.tensors import take_weights
from rslwm.train.loop import Trained, fit
from rslwm.types import DataError, Progress

FREE = {"views", "view_order", "max_frames", "temporal"}
"""Fields of DiTConfig that no weight depends on and that training can adapt to."""


def train_world_model(
    model: WorldModel,
    corpus: Corpus,
    latents: Readable,
    seed: int,
    folder: Path,
    compute: ComputeConfig,
    progress: Progress,
) -> Trained:
    """Train the transformer in place, on clips of ``max_frames`` frames; ends with the averaged weights.

    The clips and noises of a step depend on the seed and the step only, so every latent space sees the same clips.
    """
    config, where = model.config, device(compute)
    clips = corpus.clips(latents, config.dit.max_frames)
    places = clips.windows(corpus.train)
    model.to(where)

    def loss_of(count: int, number: int) -> Tensor:
        batch = clips.sample(places, count, generator(seed, "world model batch", number))
        noise = generator(seed, "world model noise", number)
        return model.loss(batch.x.to(where).float(), batch.actions.to(where), noise)

    def loss(number: int) -> tuple[Tensor, dict[str, Tensor]]:
        return loss_of(config.optim.batch_size, number), {}

    flops = _flops(model, lambda: loss_of(1, 0), compute) * config.optim.batch_size * config.optim.accumulate
    model.dit.checkpoint_activations = compute.checkpoint_activations
    if compute.compile:
        model.dit.compile()
    dit = model.dit
    if compute.shard:
        model.dit = copy.deepcopy(dit)  # cut to pieces for good
    trained = fit(model.dit, loss, config.optim, folder, compute, progress, flops_per_step=flops, shard=compute.shard)
    model.dit = dit
    dit.load_state_dict(trained.weights)
    return trained


def _flops(model: WorldModel, loss: Callable[[], Tensor], compute: ComputeConfig) -> float:
    """FLOPs of a loss and its gradient. To be asked of one clip, before compiling and checkpointing of activations are
    switched on: a compiled model can't be counted, and recomputed activations are no work of the model's."""
    with FlopCounterMode(display=False) as counter:
        with autocast(compute):
            value = loss()
        value.backward()
    model.dit.zero_grad()
    return float(counter.get_total_flops())


def start_from(checkpoint: Path | str, model: WorldModel) -> str:
    """Give the transformer of ``model`` the weights of a checkpoint, a path or a shipped name; returns a line for the
    log.

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
            differ = f"world_model.{field} is {value}, but the model to start has {ours[field]}"
            remedy = f"set world_model.{field} to {value}, or leave out world_model.init"
            raise DataError(f"{located(checkpoint) / 'config.yaml'}: {differ}; {remedy}")
    take_weights(model.dit, donor.dit.state_dict(), located(checkpoint) / "model.safetensors")
    spec, actions = donor.space.spec, "the same" if donor.action_spec == model.action_spec else "other"
    return f"weights of {checkpoint}, trained on {spec.name} ({donor.config.dit.views} view(s), {actions} actions)"


def _binding(config: WorldModelConfig) -> dict[str, Any]:
    """What weights depend on, by the name of the field."""
    dit = {f"dit.{name}": value for name, value in vars(config.dit).items() if name not in FREE}
    return {"objective": config.objective, "alignment": config.alignment, **dit}
