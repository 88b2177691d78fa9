"""Rollouts as sprite sheets: one PNG a clip, rows are the truth and the spaces, columns are frames."""

from __future__ import annotations

import base64
import io

import numpy as np
from einops import rearrange
from PIL import Image

from rslwm.evals.rows import TRUTH
from rslwm.report.run import Clips

MAX_CLIPS = 6
"""Clips embedded in a page; a PNG of seven rows and ten 64-pixel frames is about 300 kB."""


def sheet(clips: Clips, index: int, names: list[str]) -> np.ndarray:
    """(rows * H, T * W, 3) uint8: the truth, then ``names``, each frame resized to the truth's pixels."""
    height, width = clips.frames[TRUTH].shape[2:4]
    rows = [_fit(clips.frames[name][index], height, width) for name in (TRUTH, *names)]
    return rearrange(np.stack(rows), "n t h w c -> (n h) (t w) c")


def _fit(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    if frames.shape[1:3] == (height, width):
        return frames
    return np.stack([np.asarray(Image.fromarray(f).resize((width, height), Image.Resampling.BOX)) for f in frames])


def data_uri(image: np.ndarray) -> str:
    """(H, W, 3) uint8 as a PNG inside a URI."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
