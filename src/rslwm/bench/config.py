"""What the benchmarks measure; the flags of their commands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rslwm.compute import ComputeConfig
from rslwm.plan.base import PlanConfig

Size = Literal["S", "B", "L", "XL", "demo"]
"""Of the transformer: the paper's, or the one that the demo trains."""


@dataclass(frozen=True)
class ViTConfig:
    """A frozen encoder; the defaults are ViT-L/16, 304 M parameters, the size of the published ones."""

    width: int = 1024
    depth: int = 24
    heads: int = 16
    patch: int = 16


@dataclass(frozen=True)
class FootageConfig:
    """Made-up episodes of about BridgeData's length, and the published latents."""

    grid: int = 16
    """Rows and columns of the latent grid."""
    channels: int = 96
    """Latent channels."""
    frames: int = 10
    """Frames of a clip."""
    image_size: int = 256
    """Pixels of a side of the video, a multiple of the grid's."""
    episodes: int = 24
    length: int = 40
    """Frames of an episode."""
    encoder: ViTConfig = field(default_factory=ViTConfig)

    @property
    def clip_bytes(self) -> int:
        """Stored bytes of a clip's latents, bfloat16."""
        return 2 * self.frames * self.grid**2 * self.channels


@dataclass(frozen=True)
class DataBenchConfig(FootageConfig):
    batch: int = 16
    """Clips that the store is asked for at once."""
    batches: int = 32
    """Such batches in a round."""
    encoded: int = 1
    """Clips that are decoded and encoded in a round."""
    rounds: int = 3
    """Runs of each; the ratio is the median over their pairs."""


@dataclass(frozen=True)
class ModelBenchConfig:
    """A world model with random weights over made-up latents: speed depends on neither."""

    size: Size = "S"
    """Of the transformer: the paper's sizes, or the one that the demo trains."""
    grid: int = 16
    """Rows and columns of the latent grid."""
    channels: int = 96
    """Latent channels."""
    context: int = 2
    """Frames given."""
    steps: int = 10
    """Denoising steps of a frame."""
    dtype: Literal["auto", "float32", "bfloat16", "both"] = "auto"
    """Precision of matrix products; auto is bfloat16 where the hardware is faster at it, both measures one by one."""
    seed: int = 0
    """Of weights, latents and noise."""

    def precisions(self, device: str) -> list[ComputeConfig]:
        """How to compute, once for every precision."""
        return [
            ComputeConfig(device, dtype)
            for dtype in (("float32", "bfloat16") if self.dtype == "both" else (self.dtype,))
        ]


@dataclass(frozen=True)
class RolloutBenchConfig(ModelBenchConfig):
    frames: tuple[int, ...] = (8,)
    """Frames to generate; several numbers are measured one by one."""
    batch: int = 1
    """Rollouts at once."""
    few_steps: int = 3
    """Also measure ours with this many denoising steps against the baseline's; 0 doesn't."""
    rounds: int = 3
    """Runs of each implementation; the ratio is the median over their pairs."""

    @property
    def fewer(self) -> bool:
        """Whether few steps are measured, too."""
        return self.few_steps not in (0, self.steps)


@dataclass(frozen=True)
class PlanBenchConfig(ModelBenchConfig):
    grid: int = 4
    """Rows and columns of the latent grid."""
    candidates: int = 400
    iterations: int = 1
    """Of the search; each costs the same again, on both sides."""
    elites: int = 40
    horizon: int = 4
    """Actions of a plan."""
    memory_mb: float = PlanConfig.memory_mb
    """Memory that ours may take for imagined futures."""
    rounds: int = 1
    """Plans of each implementation; the ratio is the median over their pairs."""


@dataclass(frozen=True)
class TrainBenchConfig(FootageConfig):
    size: Size = "S"
    """Of the transformer: the paper's sizes, or the one that the demo trains."""
    batch: int = 1
    """Clips at once."""
    accumulate: int = 1
    """Such batches in a step."""
    rounds: int = 5
    """Steps of each implementation; the ratio is the median over their pairs."""
    profile: bool = False
    """Also say where the time of a step goes, by kind of operation."""


@dataclass(frozen=True)
class DecodeBenchConfig(ModelBenchConfig):
    decoders: tuple[str, ...] = ("sub-pixel", "ldm")
    """Pixel decoders: the small one that comparisons train, and the paper's."""
    image_size: int = 256
    """Pixels of a side of a frame."""
    frames: int = 8
    """Frames to generate and decode."""
    batch: int = 1
    """Rollouts at once."""
    rounds: int = 3
    """Runs of each; the ratio is the median over their pairs."""


@dataclass(frozen=True)
class EncodeBenchConfig:
    batch: int = 8
    """Frames of an episode, encoded at once."""
    episodes: int = 2
    """Of a round."""
    rounds: int = 5
    """Runs of each; the ratio is the median over their pairs."""
