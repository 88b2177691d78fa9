"""AdamW and its learning-rate schedule."""

from __future__ import annotations

import math

import torch
from torch import nn

from rslwm.config import OptimConfig
from rslwm.serialisation import ConfigError


def build(module: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over the parameters that want a gradient.

    Raises:
        ConfigError: the configuration asks for steps without a batch, or for no checkpoint.
    """
    for name in ("batch_size", "accumulate", "keep"):
        if (value := getattr(config, name)) < 1:
            raise ConfigError(f"optim.{name} is {value}; at least 1")
    parameters = [p for p in module.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        parameters, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, eps=1e-8, fused=True
    )


def learning_rate(config: OptimConfig, step: int) -> float:
    """Linear warm-up over ``warmup`` steps, then a cosine that falls from ``lr`` to ``final_lr * lr`` at ``steps``."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.lr * (config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * done)))
