"""In what a study differs from the paper's, said of its configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rslwm.model.dit import size_of
from rslwm.study.config import PRESETS, StudyConfig

ALWAYS = (
    "encoder: the means of the autoencoders' posteriors here, draws from them in the paper's code",
    "held out: a share of all episodes here, the published validation split there",
    "metrics: ours, where a definition differs it is named",
)
"""Also where a study is the preset ``bridge``."""
FIELDS: dict[str, Callable[[StudyConfig], object]] = {
    "pixels of a frame's side": lambda c: c.data.image_size,
    "frame skip": lambda c: c.data.frame_skip,
    "action of skipped frames": lambda c: c.data.actions,
    "frames of a training clip": lambda c: c.world_model.dit.max_frames,
    "clips seen in training": lambda c: f"{c.world_model.optim.samples:,}",
    "noise of the history": lambda c: f"{c.world_model.flow.history_noise:g}",
    "tokens x channels without time shift": lambda c: f"{c.world_model.flow.shift_base:g}",
    "generated frames": lambda c: c.evaluation.rollouts.future,
    "denoising steps": lambda c: c.evaluation.rollouts.sampling.steps,
    "clips rolled out": lambda c: f"{c.evaluation.rollouts.clips:,}",
    "windows planned in": lambda c: c.evaluation.planning.windows,
    "candidates of a plan": lambda c: c.evaluation.planning.plan.candidates,
    "pixel decoder": lambda c: c.decoder.kind,
    "trainings of a space": lambda c: c.seeds,
}
"""What is compared, with the preset ``bridge`` for the paper."""


def differences(config: StudyConfig, spaces: Iterable[str], size: str = "S") -> list[str]:
    """Sentences for people. ``spaces`` are those compared, as a study writes them; ``size`` is that of the transformer
    whose printed numbers stand beside ours."""
    paper, found = PRESETS["bridge"], list[str]()
    if "bridge" not in config.data.uri:
        recorded = f", {config.data.sim.episodes:,} episodes" if config.data.uri.startswith("sim:") else ""
        theirs = f"BridgeData V2, about {paper.data_size.episodes:,} demonstrations (SOAR for the success probe)"
        found.append(f"data: {config.data.uri}{recorded} here, {theirs} there")
    if small := [name for name in spaces if name.startswith("small-")]:
        found.append(f"encoders: {', '.join(small)} stand for the ideas of the paper's encoders, and are none of them")
    ours = size_of(config.world_model.dit)
    if not config.sizes and ours != f"DiT-{size}":
        found.append(f"transformer: {ours} (width x depth) here, DiT-{size} there")
    for name, value in FIELDS.items():
        here, there = value(config), value(paper)
        if here != there:
            found.append(f"{name}: {here} here, {there} there")
    return [*found, *ALWAYS]
