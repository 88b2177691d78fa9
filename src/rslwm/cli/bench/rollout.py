"""rslwm bench rollout"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from rslwm.bench.config import RolloutBenchConfig
from rslwm.cli.output import console
from rslwm.compute import ComputeConfig
from rslwm.evals.config import EvalConfig

MOVED = Path("runs/bench")
"""Where the episodes of a checkpoint are recorded anew that has left its run."""


@dataclass
class Rollout:
    """Measure rollouts: keys and values of past frames cached, against the whole window recomputed at every step.

    Same random weights, noise and precision on both sides, in turns, in one process. Prints frames a second, the ratio
    with its range, what counting frame passes would allow, and FLOP/s beside the machine's matrix-product peak.

    For instance:
      rslwm bench rollout --grid 8
      rslwm bench rollout --frames 8,40 --dtype both --out runs/bench
      rslwm bench rollout --size demo --grid 8 --channels 16 --checkpoint runs/demo/checkpoints/small-vae
    """

    bench: Annotated[RolloutBenchConfig, tyro.conf.arg(name="")] = field(default_factory=RolloutBenchConfig)
    checkpoint: Path | None = None
    """A trained world model: what few steps cost is measured on held-out clips of its own data."""
    clips: int = EvalConfig.clips
    """Of those clips, how many."""
    device: str = ComputeConfig.device
    """auto, cpu, cuda, cuda:1, mps."""
    threads: int = 0
    """CPU threads; 0 is one a core."""
    out: Path | None = None
    """Folder for the JSON file; without it, there is only the table."""

    def run(self) -> None:
        from rslwm.bench.machine import facts, use_threads
        from rslwm.bench.result import publish
        from rslwm.bench.rollout import measure

        use_threads(self.threads)
        machine = facts(ComputeConfig(self.device))
        comparisons = []
        for compute in self.bench.precisions(self.device):
            comparisons += measure(self.bench, compute, self._quality(compute))
        publish("rollout", comparisons, machine, console(), self.out)

    def _quality(self, compute: ComputeConfig) -> dict[str, Any]:
        """What few steps cost."""
        from rslwm.bench.quality import few_steps
        from rslwm.model.world_model import WorldModel
        from rslwm.study.checkpoint import clip_settings, open_corpus, run_folder

        if not self.bench.fewer:
            return {}
        if self.checkpoint is None:
            return {"quality": "not measured; that takes a trained world model: --checkpoint"}
        model = WorldModel.load(self.checkpoint)
        corpus = open_corpus(
            clip_settings(model, self.checkpoint), model, run_folder(self.checkpoint, self.out or MOVED)
        )
        clips = EvalConfig(clips=self.clips, context=self.bench.context, future=max(self.bench.frames))
        found = few_steps(model, corpus, self.bench.steps, self.bench.few_steps, clips, compute)
        return {f"{name} of {self.checkpoint.name}": values for name, values in found.items()}
