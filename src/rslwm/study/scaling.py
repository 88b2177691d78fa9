"""How a world model follows from the latent space that it is of and from its size."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import isqrt
from typing import TYPE_CHECKING

from rslwm.model.dit import SIZES
from rslwm.model.world_model import WorldModelConfig
from rslwm.optim import OptimConfig
from rslwm.serialisation import ConfigError
from rslwm.types import LatentSpec

if TYPE_CHECKING:
    from rslwm.study.config import StudyConfig


@dataclass(frozen=True)
class ScalingConfig:
    """What of a world model follows from its latent space and its size, where a study has several of either."""

    tokens: int = 0
    """Tokens of a frame and view: dit.patch follows from the latent grid, so that every space has as many; 0 takes
    dit.patch as it is."""
    wide_from: int = 0
    """Latents of fewer channels do without dit.wide_head."""
    optim: dict[str, OptimConfig] = field(default_factory=dict)
    """Training of a size, by its name, where that isn't world_model.optim."""


def scaled(config: StudyConfig, spec: LatentSpec, size: str = "") -> WorldModelConfig:
    """The world model of a size (of ``world_model.dit`` itself if it is empty) over a space, ``spec`` of one view.

    Raises:
        ConfigError: the grid can't be cut into ``scaling.tokens`` patches.
    """
    model, scaling = config.world_model, config.scaling
    dit = model.dit
    if size:
        shape = SIZES[size]
        dit = replace(dit, width=shape.width, depth=shape.depth, heads=shape.heads)
    if scaling.tokens:
        dit = replace(dit, patch=_patch(spec, scaling.tokens))
    if spec.channels < scaling.wide_from:
        dit = replace(dit, wide_head=0)
    return replace(model, dit=dit, optim=scaling.optim.get(size, model.optim))


def _patch(spec: LatentSpec, tokens: int) -> int:
    h, w = spec.grid
    patch = isqrt(h * w // tokens)
    if patch == 0 or patch**2 * tokens != h * w or h % patch or w % patch:
        raise ConfigError(
            f"scaling.tokens is {tokens}, but the {h}x{w} grid of {spec.name} can't be cut into so many square "
            "patches; choose another number, or 0 to take world_model.dit.patch for every space"
        )
    return patch


def sizes(config: StudyConfig) -> tuple[str, ...]:
    """Of a study; one without a name if it has only ``world_model.dit``.

    Raises:
        ConfigError: an unknown size, or one that is named twice.
    """
    for where, names in (("sizes", config.sizes), ("scaling.optim", tuple(config.scaling.optim))):
        for name in names:
            if name not in SIZES:
                raise ConfigError(f"{where}: there is no size {name!r}; sizes: {', '.join(SIZES)}")
            if names.count(name) > 1:
                raise ConfigError(f"{where}: {name!r} occurs twice")
    return config.sizes or ("",)
