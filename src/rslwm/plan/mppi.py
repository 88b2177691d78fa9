"""Model predictive path integral control: the mean of all candidates, weighted exponentially by their costs.

Weights are those of Williams et al., "Information theoretic MPC" (ICRA 2017), exp(-(cost - least cost) / temperature),
without its price on the actions. As in TD-MPC2 (arXiv 2310.16828) the spread is fitted to the weighted candidates too,
with a floor, where Williams et al. keep it. Latent distances have no natural unit, so the temperature is given in
standard deviations of an iteration's costs: the plan is the same whatever the scale of the latent space.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rslwm.plan.base import PLANNERS, Evaluate, PlanConfig, PlanResult
from rslwm.plan.proposal import Proposal
from rslwm.serialisation import ConfigError


@PLANNERS.register("mppi")
def mppi(
    evaluate: Evaluate,
    start: Tensor,
    config: PlanConfig,
    generator: torch.Generator,
    searched: tuple[int, ...] | None = None,
) -> PlanResult:
    """The weighted mean of the last candidates; :data:`rslwm.plan.base.Search` has the arguments.

    A low temperature takes the best candidate, a high one the plain mean.

    Raises:
        ConfigError: the temperature isn't above zero.
    """
    proposal = Proposal.start(start, config, searched)
    if not config.temperature > 0:
        raise ConfigError(f"plan.temperature is {config.temperature}; mppi needs one above 0")
    history = []
    for _ in range(config.iterations):
        candidates = proposal.sample(config.candidates, generator)
        costs = evaluate(candidates)
        weights = exponential_weights(costs, config.temperature)
        spread = weights[:, :, None, None]
        mean = (spread * candidates).sum(1)
        variance = (spread * (candidates - mean[:, None]).square()).sum(1)
        proposal = proposal.moved(mean, variance.sqrt())
        history.append((weights * costs).sum(1))
    return PlanResult(proposal.mean, torch.stack(history, 1), proposal.std)


def exponential_weights(costs: Tensor, temperature: float) -> Tensor:
    """Costs (B, K) -> weights (B, K) that add up to 1; equal costs weigh the same."""
    above = costs - costs.min(1, keepdim=True).values
    scale = temperature * costs.std(1, correction=0, keepdim=True)
    return (-above / scale.clamp_min(torch.finfo(costs.dtype).tiny)).softmax(1)
