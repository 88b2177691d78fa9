"""VA-VAE as published: a Lightning checkpoint of latent diffusion's autoencoder and of all that it was trained with."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

WIDTHS, CHANNELS = (32, 32, 32, 32, 64), 4
FILE = "vavae-imagenet256-f16d32-dinov2.pt"

Shapes = dict[str, tuple[int, ...]]


def layout(widths: Sequence[int], channels: int) -> Shapes:
    """Names and shapes of the autoencoder's tensors, for ``channels`` latent channels."""
    first, last, coarsest = widths[0], widths[-1], len(widths) - 1
    shapes = _conv("encoder.conv_in", 3, first)
    width = first
    for i, wider in enumerate(widths):
        for j in range(2):
            shapes |= _block(f"encoder.down.{i}.block.{j}", width, wider)
            shapes |= _attention(f"encoder.down.{i}.attn.{j}", wider) if i == coarsest else {}
            width = wider
        shapes |= _conv(f"encoder.down.{i}.downsample.conv", width, width) if i < coarsest else {}
    shapes |= _middle("encoder", last) | _norm("encoder.norm_out", last) | _conv("encoder.conv_out", last, 2 * channels)
    shapes |= _conv("decoder.conv_in", channels, last) | _middle("decoder", last)
    for i, narrower in reversed(list(enumerate(widths))):
        for j in range(3):
            shapes |= _block(f"decoder.up.{i}.block.{j}", width, narrower)
            shapes |= _attention(f"decoder.up.{i}.attn.{j}", narrower) if i == coarsest else {}
            width = narrower
        shapes |= _conv(f"decoder.up.{i}.upsample.conv", width, width) if i > 0 else {}
    shapes |= _norm("decoder.norm_out", first) | _conv("decoder.conv_out", first, 3)
    return shapes | _conv("quant_conv", *2 * [2 * channels], 1) | _conv("post_quant_conv", channels, channels, 1)


def _conv(name: str, into: int, out: int, kernel: int = 3) -> Shapes:
    return {f"{name}.weight": (out, into, kernel, kernel), f"{name}.bias": (out,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _block(name: str, into: int, out: int) -> Shapes:
    shapes = _norm(f"{name}.norm1", into) | _conv(f"{name}.conv1", into, out)
    shapes |= _norm(f"{name}.norm2", out) | _conv(f"{name}.conv2", out, out)
    return shapes | (_conv(f"{name}.nin_shortcut", into, out, 1) if into != out else {})


def _attention(name: str, width: int) -> Shapes:
    shapes = _norm(f"{name}.norm", width)
    for part in ("q", "k", "v", "proj_out"):
        shapes |= _conv(f"{name}.{part}", width, width, 1)
    return shapes


def _middle(name: str, width: int) -> Shapes:
    shapes = _block(f"{name}.mid.block_1", width, width) | _attention(f"{name}.mid.attn_1", width)
    return shapes | _block(f"{name}.mid.block_2", width, width)


def autoencoder() -> dict[str, Tensor]:
    """A tiny random state dict, of values under which every tensor matters and signals keep their scale."""
    noise = torch.Generator().manual_seed(0)
    return {name: _random(name, shape, noise) for name, shape in layout(WIDTHS, CHANNELS).items()}


def _random(name: str, shape: tuple[int, ...], noise: torch.Generator) -> Tensor:
    x = torch.randn(shape, generator=noise)
    if len(shape) > 1:
        return x / x[0].numel() ** 0.5
    return 1 + 0.1 * x if name.endswith("weight") else 0.1 * x


def write(folder: Path) -> Path:
    """A tiny random checkpoint, with the statistics of its latents, below ``folder``/va-vae/."""
    place = folder / "va-vae"
    place.mkdir(parents=True, exist_ok=True)
    others = {
        "foundation_model.model.norm.weight": torch.ones(8),
        "linear_proj.weight": torch.ones(8, CHANNELS, 1, 1),
        "loss.discriminator.main.3.num_batches_tracked": torch.tensor(1),
    }
    state = {"state_dict": autoencoder() | others, "epoch": 1, "pytorch-lightning_version": "2.0.0"}
    torch.save(state, place / FILE)
    statistics = {"mean": torch.linspace(-1, 1, CHANNELS), "std": torch.linspace(0.5, 2, CHANNELS)}
    torch.save({name: x[None, :, None, None] for name, x in statistics.items()}, place / "latents_stats.pt")
    return place
