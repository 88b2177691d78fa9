"""Training of a world model on stored latents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rslwm.compute import autocast, device, generator
from rslwm.config import ComputeConfig
from rslwm.data.corpus import Corpus
from rslwm.data.store import TensorStore
from rslwm.model.world_model import WorldModel
from rslwm.train.loop import Progress, Trained, fit


def train_world_model(
    model: WorldModel,
    corpus: Corpus,
    latents: TensorStore,
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
    trained = fit(model.dit, loss, config.optim, folder, compute, progress, flops_per_step=flops)
    if trained.average is not None:
        model.dit.load_state_dict(trained.average.state_dict())
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
