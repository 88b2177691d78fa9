"""The cross-entropy method: fit a Gaussian to the best candidates, again and again (arXiv 2605.06388 section 6.1).

Unlike the paper's search, which starts at the true action, this one starts from standing still and never leaves the
bounds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rslwm.plan.base import PLANNERS, Evaluate, PlanConfig, PlanResult
from rslwm.plan.proposal import Proposal
from rslwm.serialisation import ConfigError


@PLANNERS.register("cem")
def cem(
    evaluate: Evaluate,
    start: Tensor,
    config: PlanConfig,
    generator: torch.Generator,
    searched: tuple[int, ...] | None = None,
) -> PlanResult:
    """The mean of the last ``config.elites`` candidates; :data:`rslwm.plan.base.Search` has the arguments.

    Raises:
        ConfigError: no elites, or more than there are candidates.
    """
    proposal = Proposal.start(start, config, searched)
    if not 0 < config.elites <= config.candidates:
        raise ConfigError(f"plan.elites is {config.elites}; choose 1 to plan.candidates ({config.candidates})")
    history = []
    for _ in range(config.iterations):
        candidates = proposal.sample(config.candidates, generator)
        costs, best = evaluate(candidates).topk(config.elites, largest=False)
        elites = candidates.take_along_dim(best[:, :, None, None], 1)
        proposal = proposal.moved(elites.mean(1), elites.std(1, correction=0))
        history.append(costs.mean(1))
    return PlanResult(proposal.mean, torch.stack(history, 1), proposal.std)
