"""Training of what makes a latent space: encoder, adapter, pixel decoder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rslwm.compute import ComputeConfig, autocast, device, generator, seeded
from rslwm.data.clips import windows
from rslwm.data.corpus import Corpus
from rslwm.data.frames import evenly_spaced
from rslwm.data.store import Readable
from rslwm.latents.adapters.base import Adapter, AdapterConfig
from rslwm.latents.base import Encoder, FrameBatch
from rslwm.latents.decoder import DecoderConfig, PixelDecoder
from rslwm.latents.normaliser import deviation, effective_rank
from rslwm.latents.space import LatentSpace, open_adapter
from rslwm.latents.views import apart, one_view_each, to_float
from rslwm.serialisation import ConfigError
from rslwm.train.loop import LOG, Trained, TrainingFailed, fit
from rslwm.train.pixel_loss import PixelLoss
from rslwm.types import DataError, Progress

NORMALISED = 2048
"""Frames of one view that a normaliser's statistics are taken over."""


class FramePairs:
    """Batches of frame pairs from the training episodes; a function of (seed, number), the same for every encoder.

    With several cameras, both frames of a pair are one camera's, drawn anew for each.
    """

    def __init__(self, corpus: Corpus, gap: tuple[int, ...], seed: int, features: Readable | None = None) -> None:
        self.corpus, self.gap, self.seed, self.features = corpus, gap, seed, features
        if len(gap) != 2 or not 0 < gap[0] <= gap[1]:
            raise ConfigError(f"encoder.pair_gap is {list(gap)}; it needs two numbers of steps, 0 < from <= to")
        lengths = corpus.dataset.lengths
        self.starts = windows(lengths, corpus.train, 2, gap[1])
        if not len(self.starts):
            short = f"no training episode is longer than {gap[1]} steps, the largest encoder.pair_gap"
            raise DataError(f"{short}; the longest has {max(lengths[corpus.train])}. Lower encoder.pair_gap.")

    def __call__(self, number: int, pairs: int) -> FrameBatch:
        """``pairs`` pairs, twice as many frames."""
        g = generator(self.seed, "encoder batch", number)
        drawn = self.starts[torch.randint(len(self.starts), (pairs,), generator=g).numpy()]
        gaps = torch.randint(self.gap[0], self.gap[1] + 1, (pairs,), generator=g).tolist()
        views = torch.randint(self.corpus.views, (pairs,), generator=g).tolist()
        ids = [self.corpus.dataset.ids[e] for e in drawn[:, 0]]
        rows = [range(start, start + gap + 1, gap) for start, gap in zip(drawn[:, 1].tolist(), gaps, strict=True)]

        def read(store: Readable) -> Tensor:
            return one_view_each(store.read([*zip(ids, rows, strict=True)]), views, self.corpus.views)

        features = read(self.features) if self.features else None
        instructions = [self.corpus.dataset.instructions[e] for e in drawn[:, 0]]
        return FrameBatch(to_float(read(self.corpus.frames)), instructions, features)


def sample_frames(corpus: Corpus, count: int) -> Tensor:
    """``count`` views of frames spread evenly over the training episodes: (count / V, H, V W, 3) float in [0, 1]."""
    return to_float(evenly_spaced(corpus.dataset, corpus.frames, corpus.train, count // corpus.views))


def train_encoder(
    encoder: Encoder,
    corpus: Corpus,
    seed: int,
    folder: Path,
    compute: ComputeConfig,
    progress: Progress,
    features: Readable | None = None,
) -> Trained | None:
    """Train an encoder in place; a frozen one is only looked at. None if there was nothing to train.

    Raises:
        TrainingFailed: the latents collapsed: their effective rank is below ``encoder.min_rank``, or below half of the
            channels where these are few; of a floor, they are constant or not finite.
    """
    config = encoder.config
    where = device(compute)
    encoder.to(where)
    probe = apart(sample_frames(corpus, 256)[:, None], corpus.views).to(where)

    def monitor() -> dict[str, float]:
        training = encoder.training
        encoder.eval()  # a look must not move the running statistics of a batch norm
        with torch.no_grad(), autocast(compute):
            latents = encoder.encode(probe)[:, 0].float()
        encoder.train(training)
        return {"effective_rank": effective_rank(latents), "deviation": deviation(latents)}

    trained = None
    if encoder.trainable:
        pairs = FramePairs(corpus, config.pair_gap, seed, features)

        def loss(number: int) -> tuple[Tensor, dict[str, Tensor]]:
            batch = pairs(number, config.optim.batch_size // 2).to(where)
            return encoder.loss(batch, generator(seed, "encoder noise", number))

        trained = fit(encoder, loss, config.optim, folder, compute, progress, encoder.update, monitor)
    figures, spec = trained.terms if trained else monitor(), encoder.spec
    found = figures["effective_rank"] if figures["deviation"] > 0 else 0.0
    # A floor may be poor, but it isn't constant.
    least = min(config.min_rank, 0.5 if spec.family == "floor" else spec.channels / 2)
    if found < least:
        rank = f"effective rank {found:.2f} of {spec.channels}, the least is {least:g} (encoder.min_rank)"
        remedy = f"see {folder / LOG}. Train longer, or strengthen the objective's guard against collapse"
        raise TrainingFailed(f"{spec.name} collapsed: its latents have {rank}; {remedy}")
    return trained


@torch.no_grad()
def fit_normaliser(space: LatentSpace, corpus: Corpus, compute: ComputeConfig) -> None:
    """Fit the normaliser of a space to what it makes of training frames."""
    where, frames = device(compute), sample_frames(corpus, NORMALISED)
    with autocast(compute):
        parts = [space.compress(space.features(x[:, None].to(where))).float() for x in frames.split(256)]
    space.normaliser.fit(torch.cat(parts))


class StoredFrames:
    """Latents (and, if asked, pixels) of one view of single training frames, drawn by (seed, number)."""

    def __init__(self, corpus: Corpus, store: Readable, seed: int, concern: str) -> None:
        self.corpus, self.store, self.seed, self.concern = corpus, store, seed, concern
        self.places = windows(corpus.dataset.lengths, corpus.train, 1, 1)

    def __call__(self, number: int, count: int) -> tuple[Tensor, np.ndarray]:
        """``count`` latents (count, 1, h, w, C) float and their (count, 3) places (episode, frame, view)."""
        g = generator(self.seed, self.concern, number)
        frames = self.places[torch.randint(len(self.places), (count,), generator=g).numpy()]
        views = torch.randint(self.corpus.views, (count,), generator=g).numpy()
        places = np.column_stack([frames, views])
        return self._read(self.store, places).float(), places

    def pixels(self, places: np.ndarray) -> Tensor:
        """Frames (count, 1, H, W, 3) float in [0, 1] at these places."""
        return to_float(self._read(self.corpus.frames, places))

    def _read(self, store: Readable, places: np.ndarray) -> Tensor:
        ids = self.corpus.dataset.ids
        rows = store.read([(ids[e], range(t, t + 1)) for e, t, _ in places])
        return one_view_each(rows, places[:, 2], self.corpus.views)


def train_adapter(
    corpus: Corpus,
    features: Readable,
    channels: int,
    config: AdapterConfig,
    seed: int,
    folder: Path,
    compute: ComputeConfig,
    progress: Progress,
) -> tuple[Adapter, Trained]:
    """Train an adapter on the native features of the training episodes; principal components take no steps."""
    with seeded(seed, "adapter weights"):
        adapter = open_adapter(config, features.shape(features.keys[0])[-1], channels)
    if not adapter.trainable:
        return adapter, _fit_in_closed_form(adapter, corpus, features, progress)
    where, optim = device(compute), adapter.config.optim
    stored = StoredFrames(corpus, features, seed, "adapter batch")

    def loss(number: int) -> tuple[Tensor, dict[str, Tensor]]:
        latents, _ = stored(number, optim.batch_size)
        done = number / (optim.steps * optim.accumulate)
        return adapter.loss(latents.to(where), done, generator(seed, "adapter noise", number))

    return adapter, fit(adapter.to(where), loss, optim, folder, compute, progress)


def _fit_in_closed_form(adapter: Adapter, corpus: Corpus, features: Readable, progress: Progress) -> Trained:
    def episodes() -> Iterator[Tensor]:
        for number, episode in enumerate(corpus.train):
            progress(number, len(corpus.train), "episodes")
            yield features[corpus.dataset.ids[episode]]

    started = time.perf_counter()
    terms = adapter.fit(episodes())
    return Trained(0, round(time.perf_counter() - started, 3), 0.0, terms, adapter.state_dict())


def train_decoder(
    corpus: Corpus,
    latents: Readable,
    decoder: PixelDecoder,
    config: DecoderConfig,
    seed: int,
    folder: Path,
    compute: ComputeConfig,
    progress: Progress,
) -> Trained:
    """Train a pixel decoder in place, on detached normalised latents with a little noise; raises what
    :class:`PixelLoss` raises."""
    where = device(compute)
    stored = StoredFrames(corpus, latents, seed, "decoder batch")
    decoder.to(where)
    pixel_loss = PixelLoss(config, config.optim.samples, where)

    def loss(number: int) -> tuple[Tensor, dict[str, Tensor]]:
        z, places = stored(number, config.optim.batch_size)
        z = z + config.noise * torch.randn(z.shape, generator=generator(seed, "decoder noise", number))
        image, target = decoder(z.to(where)), stored.pixels(places).to(where)
        terms = pixel_loss(image, target, number * config.optim.batch_size)
        return torch.stack(list(terms.values())).sum(), terms

    return fit(decoder, loss, config.optim, folder, compute, progress)
