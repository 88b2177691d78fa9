"""The baselines of the S-VAE: an MLP that sees single tokens, and principal components in closed form."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rslwm.compute import generator, seeded
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.adapters.kinds import MLP, PCA, ROWS, SVAE
from rslwm.latents.base import EncoderConfig
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.space import LatentSpace, SpaceConfig, TwinDecoder, open_adapter
from rslwm.types import DataError

KINDS = {"svae": SVAE, "mlp": MLP, "pca": PCA}
FEATURES = torch.randn(2, 3, 4, 4, 12, generator=generator(0, "features"))


def correlated(count: int, seed: int = 0) -> Tensor:
    """Episodes (count, 5, 2, 3, 12) whose channels have a mean and are mixtures of one another."""
    g = generator(seed, "correlated")
    mixing = torch.randn(12, 12, generator=generator(0, "mixing")) * torch.linspace(2, 0.1, 12)[:, None]
    return torch.randn(count, 5, 2, 3, 12, generator=g) @ mixing + torch.arange(12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_space_opens_the_configured_kind(kind: str, tmp_path: Path) -> None:
    config = SpaceConfig(
        "small-dino",
        32,
        4,
        adapter=AdapterConfig(kind=kind, heads=2),  # type: ignore[arg-type]
        encoder=EncoderConfig(width=16, depth=1, heads=2),
    )
    with seeded(0, "weights"):
        space = LatentSpace(config).eval()
    assert isinstance(space.adapter, KINDS[kind])
    assert (space.spec.name, space.spec.channels) == ("small-dino+4", 4)
    assert space.spec.preprocessing["adapter"] == f"{space.adapter.label} to 4 channels"
    space.save(tmp_path)
    frames = torch.rand(1, 2, 32, 32, 3, generator=generator(0, "frames"))
    assert torch.equal(LatentSpace.load(tmp_path).encode(frames), space.encode(frames))


@torch.no_grad()
def test_native_latents_are_decoded_through_the_configured_kind() -> None:
    config = SpaceConfig(
        "small-dino",
        32,
        decode=True,
        decoder_channels=3,
        adapter=AdapterConfig(kind="pca"),
        encoder=EncoderConfig(width=16, depth=1, heads=2),
        decoder=DecoderConfig(width=16),
    )
    space = LatentSpace(config).eval()
    assert isinstance(space.pixels, TwinDecoder)
    assert isinstance(space.pixels.adapter, PCA)
    assert space.spec.channels == 16
    assert space.decode(torch.zeros(1, 2, *space.spec.grid, 16)).shape == (1, 2, 32, 32, 3)


def test_a_space_of_another_kind_is_refused(tmp_path: Path) -> None:
    config = SpaceConfig("small-dino", 32, 4, encoder=EncoderConfig(width=16, depth=1, heads=2))
    LatentSpace(replace(config, adapter=AdapterConfig(kind="pca"))).save(tmp_path)
    written = (tmp_path / "space.yaml").read_text()
    (tmp_path / "space.yaml").write_text(written.replace("kind: pca", "kind: mlp"))
    with pytest.raises(DataError, match=r"space\.safetensors: tensor 'adapter\.encoder\.0\.weight' is missing"):
        LatentSpace.load(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_there_and_back(kind: str) -> None:
    with seeded(0, "weights"):
        adapter = open_adapter(AdapterConfig(kind=kind, heads=2), 12, 4)  # type: ignore[arg-type]
    z = adapter.encode(FEATURES)
    assert z.shape == (2, 3, 4, 4, 4)
    assert adapter.decode(z).shape == FEATURES.shape
    alone = torch.stack([adapter.encode(FEATURES[:, t : t + 1])[:, 0] for t in range(3)], 1)
    torch.testing.assert_close(z, alone)


@pytest.mark.parametrize(("hidden", "expected"), [(0, 12), (20, 20)])
def test_the_mlp_is_as_wide_as_configured(hidden: int, expected: int) -> None:
    mlp = MLP(AdapterConfig(hidden=hidden), 12, 4)
    assert [tuple(p.shape) for p in mlp.encoder.parameters()] == [(expected, 12), (expected,), (4, expected), (4,)]


def test_the_mlp_sees_each_token_alone_and_adds_no_noise() -> None:
    with seeded(0, "weights"):
        mlp = MLP(AdapterConfig(), 12, 4)
    changed = FEATURES.clone()
    changed[..., 0, 0, :] += 1
    same = (mlp.encode(changed) == mlp.encode(FEATURES)).all(-1)
    assert not same[..., 0, 0].any()
    assert same.sum() == same.numel() - 6
    losses = [mlp.loss(FEATURES, 0.5, generator(seed, "noise"))[0] for seed in (0, 1)]
    assert torch.equal(*losses)


def test_the_mlps_losses_are_the_svaes_without_the_divergence() -> None:
    terms = MLP(AdapterConfig(), 12, 4).loss(FEATURES, 1.0, generator(0, "noise"))[1]
    expected = SVAE(AdapterConfig(heads=2), 12, 4).loss(FEATURES, 1.0, generator(0, "noise"))[1]
    assert [*terms, "kl"] == [*expected]


def test_principal_components_are_those_of_a_singular_value_decomposition() -> None:
    episodes = correlated(40)
    pca = PCA(AdapterConfig(), 12, 3)
    terms = pca.fit(episodes)
    flat = episodes.flatten(0, -2).double()
    centred = flat - flat.mean(0)
    _, values, directions = torch.linalg.svd(centred, full_matrices=False)
    cosines = (pca.components.double() * directions[:3]).sum(1).abs()
    torch.testing.assert_close(cosines, torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(pca.mean.double(), flat.mean(0))
    lost = values[3:].square().sum() / values.square().sum()
    assert terms["explained"] == pytest.approx(1 - float(lost))
    back = pca.decode(pca.encode(episodes))
    assert terms["mse"] == pytest.approx(float((back - episodes).square().mean()), rel=1e-4)


def test_all_components_lose_nothing() -> None:
    pca = PCA(AdapterConfig(), 12, 12)
    assert pca.fit(correlated(10))["explained"] == 1
    other = correlated(2, seed=1)
    torch.testing.assert_close(pca.decode(pca.encode(other)), other, rtol=0, atol=1e-4)


def test_components_do_not_depend_on_how_features_are_streamed() -> None:
    episodes = correlated(40)
    whole, parts = PCA(AdapterConfig(), 12, 3), PCA(AdapterConfig(), 12, 3)
    whole.fit([episodes])
    parts.fit(reversed(list(episodes.split(7))))
    torch.testing.assert_close(whole.components, parts.components)


def test_long_episodes_are_streamed_in_parts() -> None:
    long = torch.randn(2 * ROWS + 5, 1, 1, 2, generator=generator(0, "long")) + 1000
    pca = PCA(AdapterConfig(), 2, 1)
    pca.fit([long])
    torch.testing.assert_close(pca.mean.double(), long.double().mean((0, 1, 2)), rtol=1e-6, atol=0)


def test_components_are_exact_under_autocast() -> None:
    pca = PCA(AdapterConfig(), 12, 3)
    pca.fit(correlated(10))
    features = correlated(2, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(pca.encode(features), pca.encode(features.float()))
        inside = pca.encode(features)
    assert torch.equal(inside, pca.encode(features))


def test_more_components_than_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"PCA can't make 13 channels of the 12 channels"):
        PCA(AdapterConfig(), 12, 13)
