"""Tiny models with random weights everywhere, and what to feed them."""

import torch
from torch import Tensor

from rslwm.config import DiTConfig
from rslwm.model.dit import DiT

TINY = {"width": 32, "depth": 2, "heads": 2, "patch": 2, "max_frames": 4}
CHANNELS, ACTIONS = 3, 7


def tiny_dit(spread: float = 0.1, **changes: object) -> DiT:
    """The zero weights of the initialisation would hide every mistake."""
    g = torch.Generator().manual_seed(0)
    dit = DiT(DiTConfig(**{**TINY, **changes}), CHANNELS, ACTIONS, g)
    for parameter in dit.parameters():
        parameter.data += spread * torch.randn(parameter.shape, generator=g)
    return dit.requires_grad_(False)


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def same(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> bool:
    """Relative to the largest value; false where one of them is not finite."""
    return bool((ours - theirs).abs().max() <= tolerance * theirs.abs().max())
