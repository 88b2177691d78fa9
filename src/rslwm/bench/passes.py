"""Frame passes: how often a rollout sends a frame through the transformer. Their ratio bounds what a cache can save."""

from __future__ import annotations


def windows(frames: int, context: int, max_frames: int) -> list[int]:
    """Frames in the window of each new frame, itself included; the window slides."""
    return [min(context + frame + 1, max_frames) for frame in range(frames)]


def recomputed(frames: int, context: int, steps: int, max_frames: int) -> int:
    """Every window at every denoising step."""
    return steps * sum(windows(frames, context, max_frames))


def cached(frames: int, context: int, steps: int, max_frames: int, futures: int = 1) -> float:
    """The context once for all the futures that share it, each new frame at every denoising step, and once more for
    its keys and values if another one follows. A future's share, where there are several."""
    return min(context, max_frames - 1) / futures + frames * steps + frames - 1
