"""The picture for a README: a film strip of the truth and every space, with its scores beside it."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rslwm.evals.rows import TRUTH
from rslwm.report.drawing import Inks
from rslwm.report.palette import RULE, SOFT, STYLE
from rslwm.report.run import Clips, Run
from rslwm.types import AXES
from rslwm.verdict.axis import OVERALL, AxisVerdict


def draw(run: Run, folder: Path) -> None:
    """Write it as SVG and PNG; nothing where the run kept no clips or has no score."""
    axes = run.verdict.axes
    scored = [axes[name] for name in AXES if name in axes]
    if not scored or not run.clips:
        return
    with matplotlib.rc_context(STYLE):
        figure = _summary(scored, axes.get(OVERALL, scored[0]), run.clips, run.inks)
        # No date, so that the same run gives the same file.
        figure.savefig(folder / "summary.svg", metadata={"Date": None})
        figure.savefig(folder / "summary.png")


def _summary(scored: list[AxisVerdict], ranked: AxisVerdict, clips: Clips, inks: Inks) -> Figure:
    """A film strip of the truth and every space, the best on top, with its scores beside it."""
    order = [s.latent for s in ranked.standings if s.latent in clips.frames]
    (length, high, wide), rows = clips.frames[TRUTH].shape[1:4], len(order) + 1
    frame, panel, names, margin = 0.44, 1.55, 1.5, 0.42  # inches
    film = frame * length * wide / high
    width, height = names + film + panel * len(scored), frame * rows + 2 * margin
    figure = Figure(figsize=(width, height))

    def place(left: float, wide: float) -> Axes:
        return figure.add_axes((left / width, margin / height, wide / width, frame * rows / height))

    strip = clips.sheet(_liveliest(clips), order)
    _film(place(names, film), strip, [TRUTH, *order], length, clips.context)
    standings = [s for axis in scored for s in axis.standings]
    limits = min(-0.05, *(s.low for s in standings)), max(1.05, *(s.high for s in standings))
    for i, axis in enumerate(scored):
        _summary_scores(place(names + film + panel * i + 0.15, panel - 0.52), axis, order, limits, inks)
    key = "square: reconstruction    circle: semantic    bar: interval    0: knows nothing    1: loses nothing"
    figure.text((names + film + 0.15) / width, 0.02 / height, key, fontsize=6.5, color=SOFT, va="bottom")
    return figure


def _film(axes: Axes, strip: np.ndarray, labels: list[str], columns: int, context: int) -> None:
    """A sprite sheet with its rows named and the end of the given frames marked."""
    rows = len(labels)
    axes.imshow(strip, aspect="auto", extent=(0, columns, rows, 0), interpolation="nearest")
    for y in range(1, rows):
        axes.axhline(y, color="white", lw=1)
    for x in range(1, columns):
        axes.axvline(x, color="white", lw=4 if x == context else 1)
    axes.set_yticks(np.arange(rows) + 0.5, labels)
    axes.set_xticks([context / 2, (context + columns) / 2], ["given", "predicted"])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _summary_scores(axes: Axes, axis: AxisVerdict, order: list[str], limits: tuple[float, float], inks: Inks) -> None:
    standings = {standing.latent: standing for standing in axis.standings}
    beside = axes.get_yaxis_transform()
    for i, space in enumerate(order):
        s, y, ink = standings[space], i + 1.5, inks[space]
        axes.plot([s.low, s.high], [y, y], color=ink.light, lw=5, alpha=0.3, solid_capstyle="round")
        axes.plot(s.score, y, ink.marker, color=ink.light, ms=6)
        weight = "bold" if space == axis.winner else "normal"
        axes.text(1.04, y, f"{s.score:.2f}", transform=beside, va="center", fontweight=weight)
    axes.set_ylim(len(order) + 1, 0)
    axes.set_yticks([])
    axes.set_xlim(*limits)
    axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    axes.vlines([0, 0.5, 1], 1, len(order) + 1, color=RULE, lw=0.8, zorder=0)
    axes.spines["left"].set_visible(False)
    axes.text(0.5, 0.5, axis.axis, transform=beside, ha="center", va="center", fontweight="bold")


def _liveliest(clips: Clips) -> int:
    """The clip in which most moves: a still one shows nothing."""
    truth = clips.frames[TRUTH].astype(np.float32)
    return int(np.abs(np.diff(truth, axis=1)).mean((1, 2, 3, 4)).argmax())
