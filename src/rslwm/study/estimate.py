"""What a study would take: the sum of what its stages demand, without running anything and without any weights."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

from rslwm.data.sources.base import Size
from rslwm.run.stage import Demand, Stage, closure
from rslwm.serialisation import ConfigError
from rslwm.study.graph import Study
from rslwm.study.stages.base import Sizes
from rslwm.study.stages.latents import SpaceStage
from rslwm.study.stages.world_model import WorldModelStage
from rslwm.types import DataError, LatentSpec

GPUS = {
    "B200": 2250e12, "H200": 989e12, "H100": 989e12, "MI300X": 1307e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12,
    "4090": 165e12, "3090": 71e12,
}  # fmt: skip
"""FLOP/s of dense matrix products in bfloat16, summed in float32, from the makers' data sheets."""


def data_size(study: Study, facts: dict[str, int] | None = None) -> Size:
    """What a finished data stage says of the episodes (``facts``), or their source, or what the study assumes of them;
    :class:`ConfigError` if nobody knows."""
    if facts:
        return Size(facts["episodes"], facts["frames"])
    assumed, unknown = study.config.data_size, ""
    known = Size(0, 0, counted=False)
    try:
        known = study.source.size() or known
    except DataError as error:
        unknown = f" ({error})"
    if known.counted:
        return known
    episodes, steps = assumed.episodes or known.episodes, assumed.steps or known.frames // max(known.episodes, 1)
    if not episodes * steps:
        raise ConfigError(
            f"nobody knows yet how much data {study.config.data.uri!r} holds{unknown}; say so with "
            "--data-size.episodes N and --data-size.steps N (of an episode)"
        )
    return Size(episodes, episodes * steps, counted=False)


def demanding(study: Study) -> Callable[[Stage], Demand]:
    """What a stage of this study takes; of data that nobody knows the size of, what doesn't depend on it."""

    @cache
    def sizes() -> Sizes:
        try:
            return Sizes(data_size(study).frames)
        except ConfigError:
            return Sizes(0)

    return lambda stage: stage.demand(sizes())


@dataclass(frozen=True)
class Line:
    """One kind of stage of a space and size, all seeds together; the memory is one job's."""

    kind: str
    space: str
    size: str
    jobs: int = 0
    finished: int = 0
    demand: Demand = field(default_factory=Demand)


def lines(study: Study, frames: int, finished: Callable[[Stage], bool]) -> list[Line]:
    """One for each kind of stage, space and size, kinds in the order of work. Equal stages are one job."""
    found: dict[tuple[str, str, str], Line] = {}
    depth: dict[Stage, int] = {}
    order: dict[str, int] = {}
    sizes = {stage: variant.size for variant in study.variants for stage in variant.of_a_size}
    for stage in closure(study.targets):
        depth[stage] = 1 + max((depth[need] for need in stage.needs.values()), default=0)
        order[stage.kind] = min(depth[stage], order.get(stage.kind, depth[stage]))
        size = sizes.get(stage, "")
        place = stage.kind, re.sub(rf"( {size})? seed \d+.*$", "", stage.label), size
        line = found.get(place, Line(*place))
        demand = line.demand + stage.demand(Sizes(frames))
        found[place] = replace(line, jobs=line.jobs + 1, finished=line.finished + finished(stage), demand=demand)
    return sorted(found.values(), key=lambda line: order[line.kind])


@dataclass(frozen=True)
class FrameCost:
    """FLOPs of one frame, as in Table 4 of the paper: encoded, compressed, predicted once, decoded."""

    spec: LatentSpec
    encoder: float
    adapter: float
    transformer: float
    decoder: float

    @property
    def total(self) -> float:
        return self.encoder + self.adapter + self.transformer + self.decoder


def frame_costs(study: Study) -> dict[tuple[str, str], FrameCost]:
    """By space and size."""
    found = {}
    for variant in study.compared:
        space, model = variant.pull(SpaceStage), variant.pull(WorldModelStage)
        flops = space.encode_flops, space.compress_flops, model.predict_flops, model.decoder.decode_flops
        found[variant.entry.name, variant.size] = FrameCost(space.spec, *flops)
    return found
