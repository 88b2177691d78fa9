"""What the page shows of trials of policies."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from rslwm.report import charts
from rslwm.report.run import Run

FRAME_MS = 250


def policies(run: Run) -> list[dict[str, Any]]:
    """Of every space a chart of success in its world model against true success, and what is to be said of it."""
    found, inks = [], run.inks
    for name, report in run.verdict.policies.items():
        ink = inks.get(name)
        if ink is None:
            continue  # a sanity row's
        figure = Figure(figsize=(3.6, 3.4), layout="constrained")
        charts.agreement(figure.subplots(), report, ink)
        title = f"{name}: success inside the world model against true success, a mark for every policy"
        films = [{"caption": film.caption, "shown": moving(film.frames.numpy())} for film in run.films.get(name, [])]
        found.append({"ink": ink, "report": report, "chart": charts.inline(figure, title, inks), "films": films})
    return found


def moving(frames: np.ndarray) -> str:
    """(T, H, W, 3) uint8 as an animated WebP inside a URI."""
    first, *others = (Image.fromarray(frame) for frame in frames)
    buffer = io.BytesIO()
    first.save(buffer, "webp", save_all=True, append_images=others, duration=FRAME_MS, loop=0, quality=80)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def mean_of(rates: Sequence[float | None]) -> str:
    """Of rates that are known."""
    known = [rate for rate in rates if rate is not None]
    return f"{sum(known) / len(known):.2f}" if known else "–"
