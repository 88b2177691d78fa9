"""The built-in planners: both draw candidates from a Gaussian, fit it to what these cost, and draw again.

They start from standing still and never leave the bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rslwm.plan.base import PLANNERS, Evaluate, PlanConfig, PlanResult
from rslwm.serialisation import ConfigError

Fit = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""Candidates (B, K, k, A) and their costs (B, K) -> mean and standard deviation of the next ones, (B, k, A) each, and
the mean cost (B,) of those that they were fitted to."""


@dataclass(frozen=True)
class Proposal:
    """Where a planner looks next: a diagonal Gaussian over normalised actions (B, k, A), the bounds at -1 and 1."""

    mean: Tensor
    """(B, k, A)"""
    std: Tensor
    """(B, k, A), zero where nothing is searched"""
    searched: Tensor
    """(A,) bool; the other dimensions keep their mean"""
    min_std: float

    @classmethod
    def start(cls, start: Tensor, config: PlanConfig, searched: tuple[int, ...] | None) -> Proposal:
        """Around ``start`` (B, k, A) in the ``searched`` dimensions (all by default), and nowhere else in the others;
        raises :class:`ConfigError` for settings with which no planner could search."""
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

    def refined(self, fit: Fit, evaluate: Evaluate, config: PlanConfig, generator: torch.Generator) -> PlanResult:
        """The mean after all iterations, each fitted to what candidates of the one before cost."""
        proposal, history = self, []
        for _ in range(config.iterations):
            candidates = proposal.sample(config.candidates, generator)
            mean, std, cost = fit(candidates, evaluate(candidates))
            proposal = proposal.moved(mean, std)
            history.append(cost)
        return PlanResult(proposal.mean, torch.stack(history, 1), proposal.std)


@PLANNERS.register("cem")
def cem(
    evaluate: Evaluate,
    start: Tensor,
    config: PlanConfig,
    generator: torch.Generator,
    searched: tuple[int, ...] | None = None,
) -> PlanResult:
    """The cross-entropy method: fits to the best ``config.elites`` candidates, again and again (arXiv 2605.06388
    section 6.1; the paper's starts at the true action). :data:`rslwm.plan.base.Search` has the arguments. Raises
    :class:`ConfigError` if there are no elites, or more than candidates."""
    proposal = Proposal.start(start, config, searched)
    if not 0 < config.elites <= config.candidates:
        raise ConfigError(f"plan.elites is {config.elites}; choose 1 to plan.candidates ({config.candidates})")

    def fit(candidates: Tensor, costs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        least, best = costs.topk(config.elites, largest=False)
        elites = candidates.take_along_dim(best[:, :, None, None], 1)
        return elites.mean(1), elites.std(1, correction=0), least.mean(1)

    return proposal.refined(fit, evaluate, config, generator)


@PLANNERS.register("mppi")
def mppi(
    evaluate: Evaluate,
    start: Tensor,
    config: PlanConfig,
    generator: torch.Generator,
    searched: tuple[int, ...] | None = None,
) -> PlanResult:
    """Model predictive path integral control: fits to all candidates, weighted exponentially by their costs.

    Weights are those of Williams et al., "Information theoretic MPC" (ICRA 2017), exp(-(cost - least cost) /
    temperature), without its price on the actions. As in TD-MPC2 (arXiv 2310.16828) the spread is fitted too, with a
    floor, where Williams et al. keep it. Latent distances have no natural unit, so the temperature is given in standard
    deviations of an iteration's costs: the plan is the same whatever the scale of the latent space. A low one takes the
    best candidate, a high one the plain mean. :data:`rslwm.plan.base.Search` has the arguments. Raises
    :class:`ConfigError` if the temperature isn't above zero.
    """
    proposal = Proposal.start(start, config, searched)
    if not config.temperature > 0:
        raise ConfigError(f"plan.temperature is {config.temperature}; mppi needs one above 0")

    def fit(candidates: Tensor, costs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weights = exponential_weights(costs, config.temperature)
        spread = weights[:, :, None, None]
        mean = (spread * candidates).sum(1)
        variance = (spread * (candidates - mean[:, None]).square()).sum(1)
        return mean, variance.sqrt(), (weights * costs).sum(1)

    return proposal.refined(fit, evaluate, config, generator)


def exponential_weights(costs: Tensor, temperature: float) -> Tensor:
    """Costs (B, K) -> weights (B, K) that add up to 1; equal costs weigh the same."""
    above = costs - costs.min(1, keepdim=True).values
    scale = temperature * costs.std(1, correction=0, keepdim=True)
    return (-above / scale.clamp_min(torch.finfo(costs.dtype).tiny)).softmax(1)
