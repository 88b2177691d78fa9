from dataclasses import replace

import pytest
import torch
from torch import Tensor

from push_world import CONFIGS, push, truths
from rslwm.plan.base import PlanResult
from rslwm.plan.search import exponential_weights, mppi
from rslwm.serialisation import ConfigError

CONFIG = CONFIGS["mppi"]


def one_iteration(temperature: float) -> tuple[PlanResult, Tensor, Tensor]:
    """The answer of a single iteration, its candidates (K, k, A) and their costs (K,)."""
    seen: list[Tensor] = []

    def evaluate(candidates: Tensor) -> Tensor:
        seen.append(candidates)
        return (candidates - 0.3).square().sum((2, 3))

    config = replace(CONFIG, iterations=1, temperature=temperature)
    result = mppi(evaluate, torch.zeros(1, 2, 3), config, torch.Generator().manual_seed(0))
    return result, seen[0][0], (seen[0][0] - 0.3).square().sum((1, 2))


def test_a_temperature_of_zero_takes_the_best_sample() -> None:
    result, candidates, costs = one_iteration(1e-30)
    assert torch.equal(result.actions[0], candidates[costs.argmin()])
    assert float(result.cost) == pytest.approx(float(costs.min()))


def test_an_infinite_temperature_takes_the_plain_mean() -> None:
    result, candidates, costs = one_iteration(1e9)
    assert torch.allclose(result.actions[0], candidates.mean(0), atol=1e-6)
    assert torch.allclose(result.std[0], candidates.std(0, correction=0), atol=1e-6)
    assert float(result.cost) == pytest.approx(float(costs.mean()))


def test_weights_are_exponential_in_standard_deviations() -> None:
    costs = torch.tensor([[0.0, 2.0], [5.0, 5.0]])  # the first row's standard deviation is 1
    weights = exponential_weights(costs, 0.5)
    assert weights[0, 1] / weights[0, 0] == pytest.approx(torch.tensor(-4.0).exp().item())
    assert weights[1].tolist() == [0.5, 0.5]


def test_the_unit_of_the_costs_does_not_matter() -> None:
    costs = torch.rand(3, 20, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(exponential_weights(costs, 0.3), exponential_weights(1000 * costs + 7, 0.3), rtol=1e-3)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperatures_that_weigh_nothing_are_refused(temperature: float) -> None:
    with pytest.raises(ConfigError, match=r"plan\.temperature is .*above 0"):
        push(truths(), replace(CONFIG, temperature=temperature))
