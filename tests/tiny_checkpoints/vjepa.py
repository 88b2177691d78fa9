"""V-JEPA 2.1 as published: state dicts in a dictionary, the encoder's names behind its training wrappers."""

from pathlib import Path

import torch
from torch import Tensor

WIDTH, DEPTH, MLP = 64, 4, 64


def layout(width: int = 1024, depth: int = 24, mlp: int = 4096, patch: int = 16) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the encoder's tensors, wrappers not counted; by default those of ViT-L."""
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (width, 3, 2, patch, patch),
        "patch_embed.proj.bias": (width,),
        "patch_embed_img.proj.weight": (width, 3, 1, patch, patch),
        "patch_embed_img.proj.bias": (width,),
        "img_mod_embed": (1, 1, width),
        "video_mod_embed": (1, 1, width),
    }
    layers = {
        "attn.qkv": (3 * width, width),
        "attn.proj": (width, width),
        "mlp.fc1": (mlp, width),
        "mlp.fc2": (width, mlp),
    }
    for i in range(depth):
        shapes |= {f"blocks.{i}.{norm}.{kind}": (width,) for norm in ("norm1", "norm2") for kind in ("weight", "bias")}
        shapes |= {f"blocks.{i}.{name}.weight": shape for name, shape in layers.items()}
        shapes |= {f"blocks.{i}.{name}.bias": shape[:1] for name, shape in layers.items()}
    shapes |= {f"norms_block.{i}.{kind}": (width,) for i in range(4) for kind in ("weight", "bias")}
    return shapes


def encoder(seed: int = 0) -> dict[str, Tensor]:
    """A tiny random encoder's state dict."""
    noise = torch.Generator().manual_seed(seed)
    return {name: random(name, shape, noise) for name, shape in layout(WIDTH, DEPTH, MLP).items()}


def random(name: str, shape: tuple[int, ...], noise: torch.Generator) -> Tensor:
    """Values under which every tensor matters and signals keep their scale."""
    x = torch.randn(shape, generator=noise)
    if name.endswith(".weight") and len(shape) > 1:
        return x * shape[0] / x.numel() * (x.numel() / shape[0]) ** 0.5
    return 0.3 * x + (1 if "norm" in name and name.endswith("weight") else 0)


def write(folder: Path) -> Path:
    """Write the checkpoint below ``folder`` and return its own folder."""
    place = folder / "vjepa2.1"
    place.mkdir(parents=True, exist_ok=True)
    checkpoint = {
        "encoder": wrapped(encoder(1)),
        "predictor": {"module.backbone.predictor_embed.weight": torch.zeros(2, WIDTH)},
        "ema_encoder": wrapped(encoder(0)),
        "epoch": 1,
    }
    torch.save(checkpoint, place / "vjepa2_1_vitl_dist_vitG_384.pt")
    return place


def wrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """With the names that training gave them."""
    return {f"module.backbone.{name}": x for name, x in tensors.items()}
