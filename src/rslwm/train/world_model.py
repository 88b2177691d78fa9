"""Training of a world model on stored latents."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from rslwm.compute import device, generator
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
    if compute.compile:
        model.dit.compile()

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        batch = clips.sample(places, config.optim.batch_size, generator(seed, "world model batch", step))
        noise = generator(seed, "world model noise", step)
        return model.loss(batch.x.float().to(where), batch.actions.to(where), noise), {}

    trained = fit(model.dit, loss, config.optim, folder, compute, progress)
    if trained.average is not None:
        model.dit.load_state_dict(trained.average.state_dict())
    return trained
