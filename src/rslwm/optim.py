"""AdamW and its learning-rate schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import nn

from rslwm.serialisation import OPERATIONAL, ConfigError


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with linear warm-up and cosine decay; the same loop trains everything."""

    steps: int = 400
    """Number of optimiser steps of the training."""
    batch_size: int = 64
    """Samples in a batch: clips for a world model, frames for an encoder, an adapter or a decoder."""
    lr: float = 1e-3
    """The highest learning rate, which is reached after the warm-up."""
    final_lr: float = 0.05
    """The learning rate at the end of the training, as a share of ``lr``."""
    warmup: int = 30
    """Steps over which the learning rate rises to ``lr``."""
    weight_decay: float = 1e-3
    """AdamW's weight decay, which applies to all weights."""
    betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's decay of its averages of the gradient and of its square."""
    clip_norm: float = 1.0
    """A gradient of a larger norm is scaled down to this one."""
    ema: float = 0.0
    """Decay of the moving average of the weights that is kept in place of the last weights; 0 keeps the last ones."""
    checkpoint_every: int = field(default=200, metadata=OPERATIONAL)
    """Steps between two checkpoints of the training; a killed run loses at most these."""
    keep: int = field(default=1, metadata=OPERATIONAL)
    """How many checkpoints of the training are kept, the newest ones."""
    accumulate: int = 1
    """Batches whose gradients are added up for a step: the optimiser sees ``accumulate * batch_size`` samples."""
    log_every: int = field(default=20, metadata=OPERATIONAL)
    """Steps between two lines of the training's log."""
    monitor_every: int = field(default=100, metadata=OPERATIONAL)
    """Steps between two looks at figures that cost a forward pass, such as the effective rank of an encoder; it is a
    multiple of ``log_every``."""

    @property
    def samples(self) -> int:
        """Those that a whole training sees."""
        return self.steps * self.accumulate * self.batch_size


def build(module: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over the parameters that want a gradient; raises :class:`ConfigError` if a step has no batch, or no
    checkpoint is kept."""
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
