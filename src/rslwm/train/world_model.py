"""Training of a world model on a study's latents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rslwm.compute import ComputeConfig, autocast, device, generator
from rslwm.data.clips import ClipBatch
from rslwm.data.corpus import Corpus
from rslwm.data.store import Readable
from rslwm.model.world_model import WorldModel
from rslwm.train.loop import Trained, fit
from rslwm.types import Progress


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

    def draw(count: int, number: int) -> ClipBatch:
        return clips.sample(places, count, generator(seed, "world model batch", number))

    def loss_of(batch: ClipBatch, number: int) -> Tensor:
        noise = generator(seed, "world model noise", number)
        return model.loss(batch.x.to(where).float(), batch.actions.to(where), noise)

    def loss(number: int) -> tuple[Tensor, dict[str, Tensor]]:
        return loss_of(draw(config.optim.batch_size, number), number), {}

    one = draw(1, 0)
    flops = _flops(model, lambda: loss_of(one, 0), compute) * config.optim.batch_size * config.optim.accumulate
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
