"""rslwm bench train"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rslwm.bench.config import TrainBenchConfig
from rslwm.cli.output import console, counting
from rslwm.compute import ComputeConfig


@dataclass
class Train:
    """Measure training from stored latents, against clips that are decoded and encoded at every step.

    Same random weights, clips and noise on both sides, in turns, in one process; the encoder has the size of a ViT-L.
    Also measures the step alone, bfloat16 against float32, and the share of the machine's matrix-product peak.

    For instance:
      rslwm bench train
      rslwm bench train --profile --rounds 10 --out runs/bench
      rslwm bench train --size B --batch 4 --accumulate 2 --checkpoint-activations
    """

    bench: Annotated[TrainBenchConfig, tyro.conf.arg(name="")] = field(default_factory=TrainBenchConfig)
    device: str = ComputeConfig.device
    """auto, cpu, cuda, cuda:1, mps."""
    dtype: Literal["auto", "bfloat16", "float32"] = ComputeConfig.dtype
    """Precision of matrix products; auto is bfloat16 where the hardware is faster at it."""
    compile: bool = ComputeConfig.compile
    """Compile our transformer with torch.compile."""
    checkpoint_activations: bool = ComputeConfig.checkpoint_activations
    """Recompute our transformer's activations in the backward pass."""
    threads: int = 0
    """CPU threads; 0 is one a core."""
    out: Path | None = None
    """Folder for the JSON file; without it, there is only the table."""

    def run(self) -> None:
        from rslwm.bench.machine import facts, use_threads
        from rslwm.bench.profile import publish as show_profile
        from rslwm.bench.result import publish
        from rslwm.bench.train import measure

        use_threads(self.threads)
        compute = ComputeConfig(self.device, self.dtype, self.compile, self.checkpoint_activations)
        with counting("episodes of footage", self.bench.episodes) as progress:
            comparisons, profile = measure(self.bench, compute, progress)
        publish("train", comparisons, facts(compute), console(), self.out)
        if profile:
            show_profile("train-profile", profile, console(), self.out)
