"""A study, whole: the configurations of its parts, each of which stands beside what it configures.

The command line is generated from these classes, a run dumps them next to its results, and the part of them that a
stage reads is hashed into that stage's key, but for fields that change no result: those are marked ``OPERATIONAL``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rslwm.compute import ComputeConfig
from rslwm.data.config import DataConfig
from rslwm.evals.config import EvalConfig
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.base import EncoderConfig
from rslwm.latents.decoder import DecoderConfig
from rslwm.model.world_model import WorldModelConfig
from rslwm.study.stages.world_model import ScalingConfig
from rslwm.verdict.decide import VerdictConfig


@dataclass(frozen=True)
class DataSizeConfig:
    """How much there is of data that aren't at hand yet. Only ``--estimate`` reads it."""

    episodes: int = 0
    """Number of episodes; 0 takes as many as the simulator records."""
    steps: int = 0
    """Mean number of steps of an episode; 0 takes as many as the simulator's longest has."""


DEMO_LATENTS = ("small-vae", "small-vavae", "small-cosmos", "small-vjepa+16", "small-dino+16", "small-siglip+16")


@dataclass(frozen=True)
class StudyConfig:
    """A comparison of latent spaces, whole."""

    latents: tuple[str, ...] = DEMO_LATENTS
    """Latent spaces: NAME, NAME+D (behind an S-VAE adapter to D channels), path/to/file.py:Class, each optionally as
    ALIAS=... and with @SEED behind it."""
    seeds: int = 1
    """How often every space is trained; encoders, world models and probes all change with the seed."""
    stream_above_kb: float = 0.0
    """Latents that take more than this for a frame aren't stored, but encoded whenever they are read; 0 stores all."""
    sizes: tuple[str, ...] = ()
    """Sizes of the transformer (S, B, L, XL), each compared by itself; without any it is as world_model.dit says."""
    metrics: tuple[str, ...] = ("all",)
    """What is measured: all (that are installed), NAME or path/to/file.py:Class, each optionally with settings behind
    it, NAME[FIELD=VALUE,...]."""
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    data_size: DataSizeConfig = field(default_factory=DataSizeConfig)
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    note: str = ""
    """A sentence that the report prints above the verdict."""
