"""Every default of a study, each in exactly one dataclass, one dataclass a stage; presets are entries of a dict.

The command line is generated from these classes, a run dumps them next to its results, and the part of them that a
stage reads is hashed into that stage's key.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

C = TypeVar("C")


class ConfigError(ValueError):
    """A configuration that can't be run; the message names the field, the value and the remedy."""


@dataclass(frozen=True)
class ComputeConfig:
    """Where and in which precision a run computes. All of it can change the last digits of a result."""

    device: str = "auto"
    """auto (cuda where there is one, else cpu), cpu, cuda, cuda:1, mps."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Precision of matrix products in training and rollouts; auto is bfloat16 where the hardware is faster at it."""
    compile: bool = False
    """Compile models with torch.compile (pays off from minutes of training upwards)."""
    threads: int = 1
    """CPU threads of one stage; stages run side by side on the cores. Fixed, so that results repeat exactly."""


@dataclass(frozen=True)
class SimConfig:
    """Recording of the embedded tabletop simulator."""

    episodes: int = 320
    """Episodes to record."""
    families: tuple[str, ...] = ("push", "pick", "stack", "drawer")
    """Task families, in turn."""
    cameras: tuple[str, ...] = ("front",)
    """Cameras to record: front, side, wrist."""
    image_size: int = 64
    """Height and width of a frame in pixels."""
    noise: tuple[float, ...] = (0.0, 0.3, 0.6, 1.0)
    """Action noise levels of the expert, as shares of the action bounds, in turn; the larger ones fail naturally."""
    distractors: int = 2
    """Objects beside those that the task needs."""
    max_steps: int = 44
    """Longest episode in control steps."""
    shadows: bool = False
    """Draw shadows (four times the rendering time)."""
    appearance: float = 0.0
    """Strength of the random changes to light, table colour and camera places from episode to episode; 1 is a lot."""
    dynamics_noise: float = 0.0
    """Standard deviation, as a share of the action bounds, of what the robot does beside its action."""
    seed: int = 0


@dataclass(frozen=True)
class DataConfig:
    """Where episodes come from and how clips are cut from them."""

    uri: str = "sim:tabletop"
    """sim:tabletop, lerobot:FOLDER or rlds:FOLDER."""
    sim: SimConfig = field(default_factory=SimConfig)
    camera: str = ""
    """The camera to learn from; empty takes the data set's first."""
    image_size: int = 64
    """Frames are resized to this many pixels."""
    frame_skip: int = 2
    """Recorded steps between two frames of a clip."""
    actions: Literal["compose", "first"] = "compose"
    """With a frame skip: compose the skipped actions, or take the first one as the paper's code does."""
    test_fraction: float = 0.2
    """Share of the episodes held out for every metric."""
    split_seed: int = 0


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with linear warm-up and cosine decay; the same loop trains everything."""

    steps: int = 400
    batch_size: int = 64
    lr: float = 1e-3
    final_lr: float = 0.05
    """Learning rate at the end, as a share of ``lr``."""
    warmup: int = 30
    """Warm-up steps."""
    weight_decay: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    ema: float = 0.0
    """Decay of the exponential moving average of the weights; 0 keeps none."""
    checkpoint_every: int = 200
    """Steps between two checkpoints; a killed run loses at most these."""
    log_every: int = 20
    monitor_every: int = 100
    """Steps between two looks at figures that cost a forward pass, such as the effective rank of an encoder; a
    multiple of ``log_every``."""


@dataclass(frozen=True)
class EncoderConfig:
    """The small encoders: one backbone, so that nothing but the objective differs."""

    width: int = 128
    depth: int = 5
    heads: int = 4
    patch: int = 8
    channels: int = 16
    """Latent channels of the reconstruction encoders."""
    pair_gap: tuple[int, ...] = (2, 6)
    """Training frames come in pairs of one episode, this many recorded steps apart (from, to)."""
    min_rank: float = 4.0
    """Effective rank of the latents below which training counts as collapsed."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(steps=200, lr=1e-3, weight_decay=0.02))


@dataclass(frozen=True)
class AdapterConfig:
    """S-VAE adapter: a wide semantic space compressed to a few channels (paper section 5)."""

    blocks: int = 1
    heads: int = 4
    mlp_ratio: float = 1.0
    kl_weight: float = 1e-4
    cosine_weight: float = 1.0
    spectral_weight: float = 0.01
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(steps=150, lr=1e-3))


@dataclass(frozen=True)
class DecoderConfig:
    """Pixel decoder, trained on detached latents, the same for every space."""

    width: int = 128
    noise: float = 0.05
    """Standard deviation of the noise added to the (normalised) latents, so that generated ones decode well."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(steps=180, lr=2e-3))


@dataclass(frozen=True)
class DiTConfig:
    """Architecture of the action-conditioned diffusion transformer (paper section 4)."""

    width: int = 96
    depth: int = 3
    heads: int = 3
    patch: int = 2
    wide_head: int = 0
    """Width of the wide readout head for wide latents; 0 is the plain head."""
    max_frames: int = 4
    """Frames that temporal attention sees; the sampling window slides over them."""


@dataclass(frozen=True)
class FlowConfig:
    """Flow matching: linear path, target noise minus data, diffusion forcing over the future frames."""

    history: int = 2
    """Clean context frames of a training clip."""
    history_noise: float = 0.1
    """Largest standard deviation of the noise that augments them."""
    context_level: float = 0.0
    """Noise level that context frames are declared to have when sampling."""
    time_shift: Literal["dimension", "none"] = "dimension"
    """Shift of the noise levels by the square root of tokens x channels (paper section 4), or none."""
    shift_base: float = 16.0
    """Tokens x channels at which the shift is 1 (the paper: 4096). Small grids are learned from nearly clean frames in
    no time, actions only from noisy ones: a strong shift is what makes a small model heed them."""


@dataclass(frozen=True)
class WorldModelConfig:
    """One world model, the same budget for every latent space."""

    dit: DiTConfig = field(default_factory=DiTConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(steps=450, batch_size=30, lr=3e-3, final_lr=0.02, ema=0.995)
    )


@dataclass(frozen=True)
class CEMConfig:
    """Cross-entropy method over the world model, started from zero inside the action bounds."""

    horizon: int = 1
    candidates: int = 64
    iterations: int = 4
    elites: int = 8
    std: float = 0.4
    """Initial standard deviation in normalised action units (the bounds are at -1 and 1)."""
    min_std: float = 0.02
    euler_steps: int = 1
    """Euler steps of an imagined frame; 1 is the model's mean prediction, whose distances carry no sampling noise."""
    windows: int = 48
    rows: int = 512
    """Candidates rolled out at once, over all windows; bounds the memory and doesn't change the result."""


@dataclass(frozen=True)
class ProbeConfig:
    """Probes: trained on encoder latents of the training episodes, applied frozen to generated ones."""

    width: int = 48
    noise: float = 0.05
    horizons: tuple[int, ...] = (1, 4)
    """Inverse dynamics over this many kept frames."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(steps=400, batch_size=96, lr=4e-3))


@dataclass(frozen=True)
class EvalConfig:
    """What is measured on the held-out episodes."""

    clips: int = 48
    context: int = 2
    """Real frames that a rollout starts from."""
    future: int = 8
    """Generated frames."""
    euler_steps: int = 4
    encoder_windows: int = 256
    """Held-out windows (or frames) for metrics on encoder latents."""
    one_step_windows: int = 128
    """Held-out windows for the one-step error."""
    cem: CEMConfig = field(default_factory=CEMConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    seed: int = 1234


@dataclass(frozen=True)
class VerdictConfig:
    """When a difference counts."""

    resamples: int = 2000
    confidence: float = 0.95
    training_sd: dict[str, float] = field(
        default_factory=lambda: {"fidelity": 0.04, "planning": 0.06, "representation": 0.025}
    )
    """Standard deviation of an axis score from one training of a space to the next, used while a run has a single
    seed and can't measure it. The values were measured at the demo's size, see LOG.md."""
    seed: int = 99


DEMO_LATENTS = ("small-vae", "small-vavae", "small-cosmos", "small-vjepa+16", "small-dino+16", "small-siglip+16")


@dataclass(frozen=True)
class StudyConfig:
    """A comparison of latent spaces, whole."""

    latents: tuple[str, ...] = DEMO_LATENTS
    """Latent spaces: NAME, NAME+D (behind an S-VAE adapter to D channels), path/to/file.py:Class, each optionally as
    ALIAS=... and with @SEED behind it."""
    seeds: int = 1
    """Trainings of every space; encoders, world models and probes all change with the seed."""
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


# ------------------------------------------------------------------------------------------- presets and serialisation


def _quick(optim: OptimConfig) -> OptimConfig:
    return replace(optim, steps=4, warmup=1, batch_size=16)


def _smoke() -> StudyConfig:
    base = StudyConfig()
    sim = replace(base.data.sim, episodes=16, noise=(0.0, 1.0), max_steps=24)
    evaluation = replace(base.evaluation, clips=6, future=3, euler_steps=2, encoder_windows=32, one_step_windows=16)
    cem = replace(evaluation.cem, candidates=8, iterations=2, elites=2, euler_steps=2, windows=6)
    probe = replace(evaluation.probe, optim=_quick(evaluation.probe.optim))
    return replace(
        base,
        data=replace(base.data, sim=sim),
        encoder=replace(base.encoder, min_rank=0.0, optim=_quick(base.encoder.optim)),
        adapter=replace(base.adapter, optim=_quick(base.adapter.optim)),
        decoder=replace(base.decoder, optim=_quick(base.decoder.optim)),
        world_model=replace(base.world_model, optim=_quick(base.world_model.optim)),
        evaluation=replace(evaluation, cem=cem, probe=probe),
        verdict=replace(base.verdict, resamples=200),
        note="Smoke preset: every stage at a size where nothing can be learned. It shows that the pipeline runs.",
    )


DEMO_NOTE = (
    "A ranking made in ten minutes on two cores is a demonstration, not evidence: encoders of a million parameters, "
    "one training each, a few dozen held-out clips. Train longer, on several seeds and on your own data, before you "
    "decide."
)

PRESETS: dict[str, StudyConfig] = {
    "smoke": _smoke(),
    "demo": replace(StudyConfig(), note=DEMO_NOTE),
}


def to_dict(config: Any) -> Any:
    """A dataclass as plain JSON/YAML types."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, tuple | list):
        return [to_dict(v) for v in config]
    if isinstance(config, dict):
        return {k: to_dict(v) for k, v in config.items()}
    return config


def from_dict(cls: type[C], values: dict[str, Any], where: str = "") -> C:
    """The inverse of :func:`to_dict`; strict.

    Raises:
        ConfigError: an unknown field (with the known ones), a missing one, or a value of the wrong type.
    """
    hints = typing.get_type_hints(cls)
    unknown = set(values) - set(hints)
    if unknown:
        raise ConfigError(
            f"{where or cls.__name__}: unknown field {sorted(unknown)[0]!r}; known: {', '.join(sorted(hints))}"
        )
    for f in dataclasses.fields(typing.cast(Any, cls)):
        if f.name not in values and f.default is f.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{where or cls.__name__}: field {f.name!r} is missing; it has no default")
    return cls(**{name: _parse(hints[name], value, f"{where}.{name}".lstrip(".")) for name, value in values.items()})


def _parse(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected a mapping, got {value!r}")
        return from_dict(typing.cast(type, hint), value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        members = (args[0],) * len(value) if args[1:] == (...,) else args
        if len(members) != len(value):
            raise ConfigError(f"{where}: expected {len(members)} values, got {value!r}")
        return tuple(_parse(hint, v, f"{where}[{i}]") for i, (hint, v) in enumerate(zip(members, value, strict=True)))
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected a mapping, got {value!r}")
        return {k: _parse(args[1], v, f"{where}.{k}") for k, v in value.items()}
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{where}: {value!r} is not one of {', '.join(map(repr, args))}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        remedy = " (YAML reads 1e-3 as text; write 1.0e-3)" if hint is float and isinstance(value, str) else ""
        raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r}{remedy}")
    return value


def dump(config: Any, path: Path) -> None:
    """Write a configuration as YAML."""
    path.write_text(yaml.safe_dump(to_dict(config), sort_keys=False, width=120))


def load(cls: type[C], path: Path) -> C:
    """Read a configuration written by :func:`dump` (fields left out keep their defaults).

    Raises:
        ConfigError: the file is missing or isn't a mapping, or a field is unknown or has the wrong type.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping, got {type(values).__name__}")
    return from_dict(cls, values)


def content_hash(*parts: Any) -> str:
    """A 12-digit key of anything :func:`to_dict` can write; equal content gives equal keys in every process."""
    text = json.dumps([to_dict(p) for p in parts], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
