"""The learning-rate schedule in closed form."""

import math

import pytest
import torch
from torch import nn

from rslwm.optim import OptimConfig, build, learning_rate
from rslwm.serialisation import ConfigError

CONFIG = OptimConfig(steps=110, lr=2.0, final_lr=0.1, warmup=10)


def test_warm_up_is_linear_and_reaches_the_rate_at_its_last_step() -> None:
    assert [learning_rate(CONFIG, step) for step in range(10)] == pytest.approx([0.2 * n for n in range(1, 11)])


def test_the_cosine_starts_at_the_rate_and_is_halfway_in_the_middle() -> None:
    assert learning_rate(CONFIG, 10) == pytest.approx(2.0)
    assert learning_rate(CONFIG, 60) == pytest.approx((2.0 + 0.2) / 2)
    assert learning_rate(CONFIG, 35) == pytest.approx(0.2 + 1.8 * (1 + math.cos(math.pi / 4)) / 2)


def test_the_cosine_ends_at_the_final_share() -> None:
    assert learning_rate(CONFIG, 110) == pytest.approx(0.2)
    assert learning_rate(CONFIG, 109) == pytest.approx(0.2, abs=1e-3)


def test_the_rate_never_rises_after_warm_up() -> None:
    rates = [learning_rate(CONFIG, step) for step in range(10, 110)]
    assert rates == sorted(rates, reverse=True)


def test_training_shorter_than_its_warm_up_only_warms_up() -> None:
    assert learning_rate(OptimConfig(steps=4, lr=1.0, warmup=8), 3) == 0.5


def test_frozen_parameters_are_left_alone() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    frozen = module[1].weight.clone()
    optimizer = build(module, OptimConfig(lr=0.1, weight_decay=0.5))
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert torch.equal(module[1].weight, frozen)
    assert len(optimizer.param_groups[0]["params"]) == 2


@pytest.mark.parametrize("name", ["batch_size", "accumulate", "keep"])
def test_a_step_without_batches_and_a_training_without_checkpoints_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"optim\.{name} is 0; at least 1"):
        build(nn.Linear(1, 1), OptimConfig(**{name: 0}))
