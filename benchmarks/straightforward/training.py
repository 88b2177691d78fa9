"""A training step the published way: the straightforward transformer, AdamW and its average tensor by tensor."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.straightforward.dit import StraightforwardDiT
from benchmarks.straightforward.sampler import led_here
from rslwm.compute import ComputeConfig, autocast
from rslwm.model.flow import FlowMatching
from rslwm.optim import OptimConfig

Batch = Callable[[int], tuple[Tensor, Tensor, torch.Generator]]
"""Number of a micro-batch -> latents (B, T, h, w, C), normalised actions (B, T-1, A), and where noise comes from."""


class StraightforwardTraining:
    """What :func:`rslwm.train.loop.fit` does in a step, written as one would without measuring."""

    def __init__(
        self, dit: StraightforwardDiT, objective: FlowMatching, config: OptimConfig, compute: ComputeConfig
    ) -> None:
        self.dit, self.objective, self.config, self.compute = dit, objective, config, compute
        self.average = copy.deepcopy(dit).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            dit.parameters(), lr=config.lr, betas=config.betas, weight_decay=config.weight_decay
        )

    def loss(self, latents: Tensor, actions: Tensor, generator: torch.Generator) -> Tensor:
        """Of clips (B, T, h, w, C) with normalised actions (B, T-1, A); a frame is conditioned on what led to it."""
        clip = self.objective.corrupt(latents, generator)
        with autocast(self.compute):
            return clip.loss(self.dit(clip.x, clip.levels, led_here(actions)))

    def step(self, batch: Batch) -> None:
        """One step of the optimiser, over ``config.accumulate`` batches."""
        self.optimizer.zero_grad()
        for micro in range(self.config.accumulate):
            (self.loss(*batch(micro)) / self.config.accumulate).backward()
        nn.utils.clip_grad_norm_(self.dit.parameters(), self.config.clip_norm)
        self.optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.dit.parameters(), strict=True):
                slow.lerp_(fast, 1 - self.config.ema)
