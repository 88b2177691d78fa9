from dataclasses import replace

import pytest
import torch

from push_world import CONFIGS, push, truths
from rslwm.plan.search import cem
from rslwm.serialisation import ConfigError

CONFIG = CONFIGS["cem"]


def test_answers_with_the_mean_of_the_elites() -> None:
    seen = []

    def evaluate(candidates: torch.Tensor) -> torch.Tensor:
        seen.append(candidates)
        return candidates.square().sum((2, 3))

    config = replace(CONFIG, iterations=1, elites=2)
    result = cem(evaluate, torch.zeros(1, 2, 3), config, torch.Generator().manual_seed(0))
    best = seen[0][0][seen[0][0].square().sum((1, 2)).argsort()[:2]]
    assert torch.allclose(result.actions[0], best.mean(0))
    assert torch.allclose(result.std[0], ((best[0] - best[1]) / 2).abs().clamp_min(config.min_std))
    assert float(result.cost) == pytest.approx(float(best.square().sum((1, 2)).mean()))


@pytest.mark.parametrize("elites", [0, 65])
def test_as_many_elites_as_there_can_be(elites: int) -> None:
    with pytest.raises(ConfigError, match=rf"plan\.elites is {elites}; choose 1 to plan\.candidates \(64\)"):
        push(truths(), replace(CONFIG, elites=elites))
