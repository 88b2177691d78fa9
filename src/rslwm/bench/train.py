"""How fast a world model trains from stored latents, against decoding and encoding at every step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from rslwm import optim
from rslwm.bench.config import ModelBenchConfig, TrainBenchConfig
from rslwm.bench.footage import SEED, Footage, write_footage
from rslwm.bench.profile import Share, shares
from rslwm.bench.result import Comparison, Measurement
from rslwm.bench.straightforward.dit import StraightforwardDiT
from rslwm.bench.straightforward.encoder import ViT
from rslwm.bench.straightforward.training import StraightforwardTraining
from rslwm.bench.timing import Work, interleaved
from rslwm.bench.world import world_model
from rslwm.compute import ComputeConfig, generator, peak_flops, precision, seeded
from rslwm.model.dit import forward_flops
from rslwm.model.flow import FlowMatching
from rslwm.model.world_model import WorldModelConfig
from rslwm.train import loop
from rslwm.train.checkpoint import Training


class Trainings:
    """Ours and the straightforward one, from the same weights, on the same clips with the same noise."""

    def __init__(self, footage: Footage, config: TrainBenchConfig, compute: ComputeConfig) -> None:
        self.footage, self.config, self.compute = footage, config, compute
        self.optim = replace(WorldModelConfig().optim, batch_size=config.batch, accumulate=config.accumulate)
        self.model = world_model(ModelBenchConfig(config.size, config.grid, config.channels), compute).train()
        dit = self.model.dit
        assert isinstance(self.model.objective, FlowMatching)
        published = StraightforwardDiT(dit.config, config.channels, self.model.action_spec.dims).to(self.model.device)
        published.load_state_dict(dit.state_dict())
        self.published = StraightforwardTraining(published, self.model.objective, self.optim, compute)
        average = copy.deepcopy(dit).eval().requires_grad_(False)
        self.training, self.steps = Training(dit, optim.build(dit, self.optim), average), 0
        dit.checkpoint_activations = compute.checkpoint_activations
        if compute.compile:
            dit.compile()
        with seeded(SEED, "bench encoder"):
            self.encoder = ViT(config, precision(compute)).to(self.model.device)

    def batch(self, encode: bool, number: int) -> tuple[Tensor, Tensor, torch.Generator]:
        """Latents, actions and where noise comes from; the latents are stored ones, or decoded and encoded now."""
        places = generator(SEED, "bench batch", number)
        clips, where = self.footage.clips.sample(self.footage.windows, self.config.batch, places), self.model.device
        latents = self.footage.videos.latents(clips.windows, self.encoder) if encode else clips.x.to(where).float()
        return latents, clips.actions.to(where), generator(SEED, "bench noise", number)

    def ours(self, compute: ComputeConfig) -> None:
        """One step of the training loop from stored latents."""

        def loss(number: int) -> tuple[Tensor, dict[str, Tensor]]:
            return self.model.loss(*self.batch(False, number)), {}

        loop.train_step(self.training, loss, self.steps, self.optim, compute)
        self.steps += 1

    def straightforward(self, encode: bool) -> None:
        """One step of the straightforward one."""
        self.published.step(partial(self.batch, encode))

    @property
    def clips(self) -> int:
        """Of a step."""
        return self.config.batch * self.config.accumulate

    @property
    def flops(self) -> float:
        """Of a step: forward and twice as much backward, products of matrices only."""
        grid = (self.config.grid, self.config.grid)
        return 3 * self.clips * forward_flops(self.model.dit, grid, self.config.frames)


def measure(
    config: TrainBenchConfig, compute: ComputeConfig, progress: Callable[[int], None] = lambda done: None
) -> tuple[list[Comparison], list[Share]]:
    """Comparisons of a training step; and, with ``config.profile``, where the time of ours goes.

    Args:
        progress: told the number of episodes of footage that are in a temporary folder.
    """
    with TemporaryDirectory(prefix="rslwm-bench-") as folder:
        trainings = Trainings(write_footage(config, Path(folder), progress), config, compute)
        return _compare(trainings), shares(partial(trainings.ours, compute)) if config.profile else []


def _compare(trainings: Trainings) -> list[Comparison]:
    """All of the same rounds: against encoding at every step, against the same step from stored latents, and, where
    ours computes in bfloat16, against itself in float32."""
    config, compute = trainings.config, trainings.compute
    where, dtype = trainings.model.device, str(precision(compute)).removeprefix("torch.")
    encoding = trainings.clips * trainings.encoder.clip_flops
    whole = replace(compute, dtype="float32")
    baselines: dict[str, tuple[Work, str, float]] = {
        "training": (partial(trainings.straightforward, True), "decode and encode, step", encoding),
        "step alone": (partial(trainings.straightforward, False), "straightforward step", 0),
    }
    if precision(compute) == torch.bfloat16:
        baselines["precision"] = (partial(trainings.ours, whole), "ours, float32", 0)
    works: list[Work] = [partial(trainings.ours, compute), *(work for work, _, _ in baselines.values())]
    ours, *others = interleaved(works, config.rounds, label="training steps")
    measured = Measurement(f"ours, {dtype}", ours, trainings.clips, "clips", trainings.flops)
    settings = {**asdict(config), **asdict(compute), "dtype": dtype, "threads": torch.get_num_threads()}
    return [
        Comparison(
            f"{title}, DiT-{config.size}",
            settings,
            measured,
            Measurement(name, seconds, trainings.clips, "clips", trainings.flops + extra),
            bound=(trainings.flops + extra) / trainings.flops if extra else None,
            peak=peak_flops(where, precision(compute)),
            baseline_peak=peak_flops(where, torch.float32) if title == "precision" else None,
        )
        for (title, (_, name, extra)), seconds in zip(baselines.items(), others, strict=True)
    ]
