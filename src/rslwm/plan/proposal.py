"""Where a planner looks next: a diagonal Gaussian over plans, inside the action bounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rslwm.serialisation import ConfigError

if TYPE_CHECKING:
    from rslwm.plan.base import PlanConfig


@dataclass(frozen=True)
class Proposal:
    """A Gaussian over normalised actions (B, k, A), the bounds at -1 and 1."""

    mean: Tensor
    """(B, k, A)"""
    std: Tensor
    """(B, k, A), zero where nothing is searched"""
    searched: Tensor
    """(A,) bool; the other dimensions keep their mean"""
    min_std: float

    @classmethod
    def start(cls, start: Tensor, config: PlanConfig, searched: tuple[int, ...] | None) -> Proposal:
        """Around ``start`` (B, k, A) in the ``searched`` dimensions (all by default), and nowhere else in the others.

        Raises:
            ConfigError: settings with which no planner could search.
        """
        for name in ("candidates", "iterations"):
            if getattr(config, name) < 1:
                raise ConfigError(f"plan.{name} is {getattr(config, name)}; a search needs at least 1")
        mask = torch.zeros(start.shape[-1], dtype=torch.bool, device=start.device)
        mask[list(range(start.shape[-1]) if searched is None else searched)] = True
        start = start.float()
        mean = torch.where(mask, start.clamp(-1, 1), start)
        return cls(mean, mask * torch.full_like(start, config.std), mask, config.min_std)

    def sample(self, candidates: int, generator: torch.Generator) -> Tensor:
        """Candidates (B, K, k, A).

        Clamped rather than redrawn: the mass beyond a bound lies on it, so that a full-speed action is found.
        """
        shape = (len(self.mean), candidates, *self.mean.shape[1:])
        draws = torch.randn(shape, generator=generator, device=generator.device).to(self.mean.device)
        mean = self.mean[:, None]
        return torch.where(self.searched, (mean + self.std[:, None] * draws).clamp(-1, 1), mean)

    def moved(self, mean: Tensor, std: Tensor) -> Proposal:
        """Around another mean (B, k, A), no narrower than ``min_std``."""
        mean = torch.where(self.searched, mean, self.mean)
        return replace(self, mean=mean, std=self.searched * std.clamp_min(self.min_std))
