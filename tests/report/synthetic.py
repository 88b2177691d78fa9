"""A run's folder with made-up measurements, for tests of the report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from rslwm.evals.aggregates import AUC, MEAN, PEARSON, RATIO
from rslwm.evals.base import MetricInfo
from rslwm.evals.rows import Rows
from rslwm.serialisation import dump
from rslwm.study.config import FROM_SCRATCH
from rslwm.study.record import RunRecord, SpaceRecord, Timing
from rslwm.types import LatentSpec, Unavailable

SPACES = {
    "small-vae": ("reconstruction", 0.62, 0.30, 0.50),
    "small-vavae": ("reconstruction", 0.60, 0.36, 0.58),
    "small-cosmos": ("reconstruction", 0.66, 0.28, 0.48),
    "small-vjepa+16": ("semantic", 0.50, 0.66, 0.72),
    "small-dino+16": ("semantic", 0.48, 0.40, 0.66),
    "small-siglip+16": ("semantic", 0.42, 0.38, 0.60),
}
"""Family and true skill on each axis."""

METRICS = [
    MetricInfo(
        "psnr", "fidelity", True, "dB", MEAN, "copy the last frame", "encode and decode",
        "Peak signal-to-noise ratio of decoded rollouts.",
    ),
    MetricInfo(
        "ssim", "fidelity", True, "1", MEAN, "copy the last frame", "encode and decode",
        "Structural similarity of decoded rollouts.",
    ),
    MetricInfo(
        "cem_error", "planning", False, "1", MEAN, "do nothing", "the recorded action",
        "Distance between the planned and the recorded action, in normalised units.",
        floor_value=0.8, ceiling_value=0.0,
    ),
    MetricInfo(
        "plan_success", "planning", True, "1", AUC, "chance", "perfect ranking",
        "Does the predicted cost rank plans by whether they succeed?", floor_value=0.5, ceiling_value=1.0,
    ),
    MetricInfo(
        "latent_error", "representation", False, "1", RATIO, "copy the last latents", "no error",
        "Error of generated latents relative to copying the last ones.", floor_value=1.0, ceiling_value=0.0,
    ),
    MetricInfo(
        "inverse_dynamics", "representation", True, "r", PEARSON, "no correlation", "perfect correlation",
        "Correlation of actions read out of generated latents with the recorded ones.",
        floor_value=0.0, ceiling_value=1.0,
    ),
    MetricInfo(
        "object_position", "representation", False, "cm", MEAN, "predict the mean", "true latents",
        "Read-out error of object positions.", scored=False, floor_value=10.0, ceiling_value=0.0,
    ),
]  # fmt: skip


def measurements(episodes: int = 32, horizon: int = 8, seeds: int = 1, skills: dict = SPACES) -> Rows:
    """Rows of every metric with the planted skills."""
    rng = np.random.default_rng(7)
    hard = rng.normal(0, 1, (len(METRICS), episodes))
    signal = rng.normal(0, 1, (episodes, 3))
    rows = []
    for latent, (family, *skill) in skills.items():
        level = dict(zip(("fidelity", "planning", "representation"), skill, strict=True))
        for m, metric in enumerate(METRICS):
            for seed, e in np.ndindex(seeds, episodes):

                def add(
                    value,
                    k=1,
                    target=np.nan,
                    dim="",
                    role="value",
                    *,
                    metric=metric,
                    latent=latent,
                    family=family,
                    seed=seed,
                    e=e,
                ):
                    rows.append(
                        (latent, family, "S", seed, metric.name, metric.axis, "test", f"episode_{e:03d}", k,
                         value, metric.higher_is_better, target, 0, dim, role)
                    )  # fmt: skip

                s, noise = level[metric.axis], rng.normal(0, 1, (3, horizon))
                for i, k in enumerate(range(1, horizon + 1) if metric.aggregate in (MEAN, RATIO) else ()):
                    fade = 1 - 0.05 * k
                    if metric.name == "psnr":
                        add(14 + 12 * s * fade + 1.5 * hard[m, e] + 0.5 * noise[0, i], k)
                        add(14 - 0.2 * k + 1.5 * hard[m, e], k, role="floor")
                        add(22 + 6 * s + 1.5 * hard[m, e], k, role="ceiling")
                    elif metric.name == "ssim":
                        add(0.4 + 0.5 * s * fade + 0.05 * hard[m, e] + 0.02 * noise[0, i], k)
                        add(0.4 + 0.05 * hard[m, e], k, role="floor")
                        add(0.92 + 0.02 * hard[m, e], k, role="ceiling")
                    elif metric.name == "latent_error":
                        target = np.exp(0.2 * hard[m, e])
                        add(target * (1 - s * fade) + 0.05 * noise[0, i], k, target)
                    elif k in (1, 4) and metric.name == "cem_error":
                        add(0.8 * (1 - s) + 0.02 * k + 0.06 * hard[m, e] + 0.04 * noise[0, i], k)
                    elif k == 1 and metric.name == "object_position":
                        add(10 - 4 * s + 2 * hard[m, e] + noise[0, i])
                if metric.aggregate == AUC:
                    success = float(e % 3 > 0)
                    add(success * s * 4 + noise[0, 0], target=success)
                if metric.aggregate == PEARSON:
                    for d, dim in enumerate("xyz"):
                        add(signal[e, d] + noise[d, 0] * (1.2 - s), target=signal[e, d], dim=dim)
    names = ("latent", "family", "size", "seed", "metric", "axis", "split", "unit", "k", "value", "higher_is_better",
             "target", "window", "dim", "role")  # fmt: skip
    return Rows.broadcast(**dict(zip(names, zip(*rows, strict=True), strict=True)))


def clips(folder: Path, count: int = 3, frames: int = 10, context: int = 2, size: int = 48) -> None:
    """A square that crosses a table; spaces draw it blurred, late and in the wrong place."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)

    def draw(lag: float, noise: float) -> np.ndarray:
        video = np.zeros((count, frames, size, size, 3))
        y, x = np.mgrid[:size, :size]
        for n, t in np.ndindex(count, frames):
            moved = t - max(t - context + 1, 0) * lag
            cx, cy = 8 + 3.4 * moved, 12 + 9 * n + 1.2 * moved
            video[n, t] = np.stack([0.78 - 0.2 * y / size, 0.72 - 0.2 * y / size, 0.62 - 0.2 * y / size], -1)
            inside = (abs(x - cx) < 6) & (abs(y - cy) < 6)
            video[n, t][inside] = ((0.8, 0.25, 0.2), (0.2, 0.4, 0.75), (0.2, 0.6, 0.4))[n % 3]
            if t >= context:
                video[n, t] += rng.normal(0, noise, (size, size, 1))
        return (video.clip(0, 1) * 255).astype(np.uint8)

    note = {"context": str(context), "ids": json.dumps([f"episode_{i:03d}" for i in range(count)])}
    save_file({"frames": draw(0, 0)}, folder / "truth.safetensors", note)
    for i, name in enumerate(SPACES):
        save_file({"frames": draw(0.08 * i, 0.02 + 0.02 * i)}, folder / f"{name}.safetensors", note)


def write_run(path: Path, seeds: int = 1, with_clips: bool = True) -> Path:
    """A complete run's folder."""
    path.mkdir(parents=True)
    measurements(seeds=seeds).save(path / "rows.parquet")
    demo = FROM_SCRATCH["demo"]  # with fewer episodes, so that a shipped record of training noise isn't this run's
    sim = replace(demo.data.sim, episodes=200)
    dump(replace(demo, data=replace(demo.data, sim=sim)), path / "config.yaml")
    spaces = tuple(
        SpaceRecord(
            name,
            LatentSpec(name, family, (8, 8), 16, 1_020_000, "1f3a9c0d2b41"),
            cost={
                "encoder_parameters": 1_020_000, "encoder_flops_per_frame": 1.3e8, "training_seconds": 61.0 + 9 * i,
                "world_model_parameters": 812_000, "peak_memory_mb": 912.0 + i, "latent_bytes_per_frame": 2048,
                "rollout_seconds": 0.031 + 0.004 * i, "plan_seconds": 0.94,
            },
        )
        for i, (name, (family, *_)) in enumerate(SPACES.items())
    )  # fmt: skip
    RunRecord(
        metrics=tuple(METRICS),
        spaces=spaces,
        unavailable=(Unavailable("lpips", "needs the extra `metrics` and a download"),),
        notes=("Rollouts have 8 generated frames instead of 12.",),
        versions={"rslwm": "0.1.0", "torch": "2.13.0", "python": "3.12"},
        command="rslwm compare demo --out runs/demo",
        data={"uri": "sim:tabletop", "episodes": 200, "held_out": 40, "fingerprint": "a61c0ffee123"},
        timings=tuple(Timing("encoder", name, 24.0, 640.0) for name in SPACES),
    ).save(path)
    if with_clips:
        clips(path / "clips")
    return path
