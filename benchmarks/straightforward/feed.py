"""Clips as training without stored latents reads them: decoded from mp4 and encoded at every step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.straightforward.encoder import ViT
from rslwm.data.video import read_video


@dataclass(frozen=True)
class VideoFeed:
    """Clips of ``frames`` frames from one mp4 an episode, at places drawn as :class:`rslwm.data.clips.Clips` does."""

    videos: list[Path]
    fps: float
    length: int
    """Frames of an episode."""
    frames: int

    @property
    def clip_bytes(self) -> float:
        """Bytes of mp4 that a clip takes, on average. Decoding starts at a key frame, so more are read."""
        stored = sum(video.stat().st_size for video in self.videos)
        return stored / len(self.videos) / self.length * self.frames

    def decode(self, windows: np.ndarray) -> Tensor:
        """Places (B, 2), rows of (episode, start), -> uint8 (B, T, H, W, 3); only these frames are decoded."""
        clips = [self._read(self.videos[episode], start) for episode, start in windows.tolist()]
        return torch.from_numpy(np.stack(clips))

    def latents(self, windows: np.ndarray, encoder: ViT) -> Tensor:
        """Places (B, 2) -> latents (B, T, h, w, C) float32."""
        return encoder.encode(self.decode(windows).to(encoder.position.device))

    def _read(self, video: Path, start: int) -> np.ndarray:
        return read_video(video, (start + np.arange(self.frames)) / self.fps, self.fps, video.stem)
