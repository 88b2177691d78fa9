"""The figures as files, for slides and papers; the same colours as the page."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rslwm.evals.rows import TRUTH
from rslwm.report import sprites
from rslwm.report.palette import Ink, inks
from rslwm.report.run import Run
from rslwm.types import AXES
from rslwm.verdict.axis import OVERALL

STYLE: Any = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#8a8a8a",
    "axes.labelcolor": "#333333", "xtick.color": "#555555", "ytick.color": "#333333", "axes.titleweight": "bold",
    "axes.titlesize": 10, "svg.hashsalt": "rslwm", "savefig.dpi": 160, "figure.facecolor": "white",
}  # fmt: skip


def draw_all(run: Run, folder: Path) -> list[Path]:
    """Write every figure that the run has data for, each as SVG and PNG, in place of earlier ones."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ink = dict(zip(run.spaces, inks(run.verdict["families"]), strict=True))
    with matplotlib.rc_context(STYLE):
        drawn = {"scores": _scores(run, ink), "horizons": _horizons(run, ink), "tradeoff": _tradeoff(run, ink)}
        drawn["summary"] = _summary(run, ink)
        return [path for name, figure in drawn.items() if figure for path in _save(figure, folder / name)]


def _save(figure: Figure, stem: Path) -> Iterable[Path]:
    for suffix in (".svg", ".png"):
        path = stem.with_suffix(suffix)
        # No date, so that the same run gives the same file.
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None} if suffix == ".svg" else None)
        yield path


def _shown(run: Run) -> list[str]:
    return [axis for axis in (*AXES, OVERALL) if axis in run.verdict["axes"]]


def _scores(run: Run, ink: Mapping[str, Ink]) -> Figure | None:
    shown = _shown(run)
    if not shown:
        return None
    figure = Figure(figsize=(2.6 * len(shown) + 1, 0.9 + 0.32 * len(run.spaces)), layout="constrained")
    for i, (axes, name) in enumerate(zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True)):
        _dots(axes, run, name, ink, labels=i == 0)
    return figure


def _dots(axes: Axes, run: Run, name: str, ink: Mapping[str, Ink], labels: bool) -> None:
    """Scores with intervals of one axis, one line a space."""
    axis = run.verdict["axes"][name]
    standings = {s["latent"]: s for s in axis["standings"]}
    order = [s["latent"] for s in run.verdict["axes"].get(OVERALL, axis)["standings"]]
    for y, space in enumerate(reversed(order)):
        s, colour = standings[space], ink[space].light
        axes.plot([s["low"], s["high"]], [y, y], color=colour, lw=2.2, alpha=0.55, solid_capstyle="round")
        filled = space == axis["winner"]
        axes.plot(s["score"], y, ink[space].marker, color=colour, ms=7, mfc=colour if filled else "white", mew=1.6)
    axes.set_yticks(range(len(order)), list(reversed(order)) if labels else [""] * len(order))
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_title(f"{name}: {axis['winner'] or 'no winner'}", loc="left")
    axes.tick_params(length=0)
    axes.grid(axis="x", color="#e6e6e6", lw=0.8)
    axes.set_axisbelow(True)


def _horizons(run: Run, ink: Mapping[str, Ink]) -> Figure | None:
    found = [m for m in run.verdict["metrics"] if len(m["ks"]) > 1]
    if not found:
        return None
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.6 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, metric in zip(panels, found, strict=False):
        _horizon(axes, metric, ink)
    for axes in panels[len(found) :]:
        axes.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), frameon=False)
    return figure


def _horizon(axes: Axes, metric: dict[str, Any], ink: Mapping[str, Ink]) -> None:
    for bar in metric["bars"]:
        curve = {key: np.array(values, float) for key, values in bar["curve"].items()}
        style = ink[bar["latent"]]
        axes.plot(metric["ks"], curve["value"], color=style.light, marker=style.marker, ms=3.5, label=bar["latent"])
        axes.fill_between(metric["ks"], curve["low"], curve["high"], color=style.light, alpha=0.12, lw=0)
    for role, dashes in (("floor", ":"), ("ceiling", "--")):
        values = np.array([bar["curve"][role] for bar in metric["bars"]], float)
        values = values[:, np.isfinite(values).any(0)]
        if values.shape[1] == len(metric["ks"]):
            best = np.nanmax if metric["info"]["higher_is_better"] else np.nanmin
            line = np.nanmean(values, 0) if role == "floor" else best(values, 0)
            axes.plot(metric["ks"], line, dashes, color="#777777", lw=1)
    unit = "" if metric["info"]["unit"] == "1" else f" ({metric['info']['unit']})"
    axes.set_title(f"{metric['info']['name']}{unit}", loc="left")
    axes.set_xticks(metric["ks"])
    axes.set_xlabel("frames ahead")
    axes.grid(axis="y", color="#e6e6e6", lw=0.8)


def _tradeoff(run: Run, ink: Mapping[str, Ink]) -> Figure | None:
    axes = run.verdict["axes"]
    if "fidelity" not in axes or "planning" not in axes:
        return None
    figure = Figure(figsize=(5, 4), layout="constrained")
    panel = figure.subplots()
    fidelity, planning = ({s["latent"]: s for s in axes[name]["standings"]} for name in ("fidelity", "planning"))
    for space, style in ink.items():
        x, y = fidelity[space], planning[space]
        panel.errorbar(
            x["score"], y["score"], _error(y), _error(x), style.marker, color=style.light, elinewidth=1, label=space
        )
    panel.set_xlabel("fidelity")
    panel.set_ylabel("planning")
    panel.grid(color="#eeeeee", lw=0.8)
    panel.legend(frameon=False, fontsize=8)
    return figure


def _error(standing: dict[str, Any]) -> list[list[float]]:
    return [[standing["score"] - standing["low"]], [standing["high"] - standing["score"]]]


def _summary(run: Run, ink: Mapping[str, Ink]) -> Figure | None:
    """The picture for a README: a film strip of the truth and every space, scores beside it."""
    shown = [axis for axis in AXES if axis in run.verdict["axes"]]
    if not shown or run.clips is None:
        return None
    ranked = run.verdict["axes"].get(OVERALL, run.verdict["axes"][shown[0]])
    order = [s["latent"] for s in ranked["standings"] if s["latent"] in run.clips.frames]
    strip = sprites.sheet(run.clips, _liveliest(run), order)
    (length, high, wide), rows = run.clips.frames[TRUTH].shape[1:4], len(order) + 1
    frame, panel, names, margin = 0.44, 1.55, 1.5, 0.42  # inches
    film = frame * length * wide / high
    width, height = names + film + panel * len(shown), frame * rows + 2 * margin
    figure = Figure(figsize=(width, height))

    def place(left: float, wide: float) -> Axes:
        return figure.add_axes((left / width, margin / height, wide / width, frame * rows / height))

    _film(place(names, film), strip, [TRUTH, *order], length, run.clips.context)
    for i, name in enumerate(shown):
        left = names + film + panel * i + 0.15
        _summary_scores(place(left, panel - 0.52), run, name, order, ink)
    key = "square: reconstruction    circle: semantic    bar: interval    0: knows nothing    1: loses nothing"
    figure.text((names + film + 0.15) / width, 0.02 / height, key, fontsize=6.5, color="#555555", va="bottom")
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


def _summary_scores(axes: Axes, run: Run, name: str, order: list[str], ink: Mapping[str, Ink]) -> None:
    axis = run.verdict["axes"][name]
    standings = {s["latent"]: s for s in axis["standings"]}
    for i, space in enumerate(order):
        s, y, colour = standings[space], i + 1.5, ink[space].light
        axes.plot([s["low"], s["high"]], [y, y], color=colour, lw=5, alpha=0.3, solid_capstyle="round")
        axes.plot(s["score"], y, ink[space].marker, color=colour, ms=6)
        weight = "bold" if space == axis["winner"] else "normal"
        number = f"{s['score']:.2f}"
        axes.text(1.04, y, number, transform=axes.get_yaxis_transform(), va="center", fontweight=weight)
    axes.set_ylim(len(order) + 1, 0)
    axes.set_yticks([])
    axes.set_xlim(*_limits(run))
    axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    axes.vlines([0, 0.5, 1], 1, len(order) + 1, color="#e6e6e6", lw=0.8, zorder=0)
    axes.spines["left"].set_visible(False)
    axes.text(0.5, 0.5, name, transform=axes.get_yaxis_transform(), ha="center", va="center", fontweight="bold")


def _limits(run: Run) -> tuple[float, float]:
    standings = [s for axis in AXES if axis in run.verdict["axes"] for s in run.verdict["axes"][axis]["standings"]]
    return min(-0.05, *(s["low"] for s in standings)), max(1.05, *(s["high"] for s in standings))


def _liveliest(run: Run) -> int:
    """The clip in which most moves: a still one shows nothing."""
    assert run.clips is not None
    truth = run.clips.frames[TRUTH].astype(np.float32)
    return int(np.abs(np.diff(truth, axis=1)).mean((1, 2, 3, 4)).argmax())
