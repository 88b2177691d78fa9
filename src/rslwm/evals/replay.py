"""Recorded clips beside what a world model makes of their first frames and their actions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rslwm.compute import ComputeConfig, autocast, device, generator
from rslwm.data.corpus import Corpus, unseen
from rslwm.envs.imagined import imagine
from rslwm.evals.rollouts import RolloutsConfig
from rslwm.evals.visual import psnr
from rslwm.evals.windows import choose
from rslwm.latents.views import to_float
from rslwm.model.world_model import WorldModel
from rslwm.types import DataError

ROWS = 16
"""Clips rolled out at once; bounds the memory and doesn't change the result."""


@dataclass(frozen=True)
class Replay:
    """N clips of T0 context and F future frames.

    ``truth`` and ``rollout`` are (N, T0+F, H, W, 3) in [0, 1], equal in the context; ``decoded`` is the truth encoded
    and decoded; ``latents`` are the generated ones, (N, F, h, w, C). ``clips`` are (episode id, first step).
    """

    clips: list[tuple[str, int]]
    context: int
    truth: Tensor
    rollout: Tensor
    decoded: Tensor
    latents: Tensor

    def psnr(self) -> dict[str, Tensor]:
        """(N, F) in dB of the rollout, its floor (the last context frame copied) and its ceiling (encode-decode)."""
        future = self.truth[:, self.context :]
        copied = self.truth[:, self.context - 1 : self.context].expand_as(future)
        candidates = {"rollout": self.rollout, "encode-decode": self.decoded}
        values = {name: psnr(frames[:, self.context :], future) for name, frames in candidates.items()}
        return {"copy last frame": psnr(copied, future), **values}


@torch.no_grad()
def replay(
    model: WorldModel,
    corpus: Corpus,
    config: RolloutsConfig,
    compute: ComputeConfig,
    seed: int,
    draw: int = 0,
    seen: bool = False,
) -> Replay:
    """Roll out ``config.clips`` clips of episodes that the model wasn't trained on.

    Args:
        seed: of the choice of clips and of the noise.
        draw: of the noise; another one gives other futures of the same clips.
        seen: also of the others.

    Raises:
        DataError: the model has seen all of them, or none holds a clip of that many frames.
    """
    frames = config.context + config.future
    clips = corpus.clips(corpus.frames, frames)
    everything = [*range(len(corpus.dataset))]
    episodes = everything if seen else unseen(corpus, model.seen, model.fingerprint, "the model")
    places = clips.windows(episodes)
    if not len(places):
        skip, kind = corpus.config.frame_skip, "" if episodes == everything else "unseen "
        raise DataError(
            f"{corpus.dataset.root}: no {kind}episode holds {config.context} + {config.future} frames {skip} steps "
            f"apart; the longest episode has {max(corpus.dataset.lengths)} steps. Lower the future."
        )
    windows = choose(places, config.clips, seed, "clips")
    where, noise = device(compute), generator(seed, "rollout noise", draw)
    model = model.for_inference(compute)
    parts: list[tuple[Tensor, ...]] = []
    for start in range(0, len(windows), ROWS):
        batch = clips.batch(windows[start : start + ROWS])
        truth = to_float(batch.x)
        with autocast(compute):
            encoded = model.encode(truth.to(where)).float()
            past = encoded[:, : config.context]
            future = imagine(model, past, batch.actions.to(where), config.sampling, noise).float()
            generated, decoded = model.decode(future).float().cpu(), model.decode(encoded).float().cpu()
        rollout = torch.cat([truth[:, : config.context], generated], 1)
        parts.append((truth, rollout, decoded, future.cpu()))
    names = [(corpus.dataset.ids[episode], int(start)) for episode, start in windows]
    return Replay(names, config.context, *(torch.cat(part) for part in zip(*parts, strict=True)))
