"""Statistics of a data set's features, in the names and shapes that LeRobot keeps them."""

from __future__ import annotations

import numpy as np

QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)

Statistics = dict[str, np.ndarray]
"""``min``, ``max``, ``mean``, ``std``, ``count`` and ``q01`` to ``q99``, (d,) each; (3, 1, 1) for a camera."""


def describe(rows: np.ndarray) -> Statistics:
    """Statistics over the rows of (n, d); ``min`` and ``max`` keep the type, the others are float64."""
    moments = {"min": rows.min(axis=0), "max": rows.max(axis=0)}
    values = rows.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinite actions are for the data check to report
        moments |= {"mean": values.mean(axis=0), "std": values.std(axis=0), "count": np.array([len(rows)])}
        quantiles = np.quantile(values, QUANTILES, axis=0)
    return moments | {f"q{100 * q:02.0f}": value for q, value in zip(QUANTILES, quantiles, strict=True)}


def describe_pixels(frames: np.ndarray) -> Statistics:
    """Statistics of the channels of (T, H, W, 3) uint8 in [0, 1], over every fourth pixel; ``count`` is of frames."""
    pixels = describe(frames[:, ::4, ::4].reshape(-1, frames.shape[-1]))
    return {name: value[:, None, None] / 255 for name, value in pixels.items()} | {"count": np.array([len(frames)])}


def combine(one: Statistics, other: Statistics) -> Statistics:
    """Statistics of the rows of both: exact, but for the quantiles, which LeRobot averages by count."""
    counts = np.array([one["count"][0], other["count"][0]], np.float64)
    share = counts / counts.sum()

    def average(name: str) -> np.ndarray:
        return share[0] * one[name] + share[1] * other[name]

    with np.errstate(invalid="ignore"):
        apart = share.prod() * (one["mean"] - other["mean"]) ** 2
        std = np.sqrt(share[0] * one["std"] ** 2 + share[1] * other["std"] ** 2 + apart)
        combined = {name: average(name) for name in one if name.startswith("q") or name == "mean"}
    extremes = {"min": np.minimum(one["min"], other["min"]), "max": np.maximum(one["max"], other["max"])}
    return {**one, **combined, **extremes, "std": std, "count": one["count"] + other["count"]}
