"""Charts of the page as inline SVG; colours come from the page's style sheet, so they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

Point = tuple[float, float]


def number(value: float | None, spread: float) -> str:
    """A value with as many decimals as a hundredth of the spread of its kind needs."""
    if value is None:
        return "–"
    decimals = min(max(2 - math.floor(math.log10(spread)), 0), 5) if spread > 0 else 2
    text = f"{value:,.{decimals}f}".replace("-", "−")
    return text.lstrip("−") if not any(c in "123456789" for c in text) else text


@dataclass(frozen=True)
class Track:
    """A horizontal scale on which better is to the right; positions are percentages of its width."""

    worst: float
    best: float

    @classmethod
    def around(cls, values: Sequence[float | None], higher_is_better: bool) -> Track:
        """A scale that holds all values, with a margin of 4 %."""
        known = [v for v in values if v is not None]
        low, high = min(known), max(known)
        margin = 0.04 * (high - low or abs(high) or 1.0)
        low, high = low - margin, high + margin
        return cls(low, high) if higher_is_better else cls(high, low)

    def at(self, value: float) -> float:
        return round(100 * (value - self.worst) / (self.best - self.worst), 2)

    def span(self, low: float, high: float) -> Point:
        """Left edge and width of an interval."""
        left, right = sorted((self.at(low), self.at(high)))
        return left, round(right - left, 2)


def marker(family: str, x: float, y: float, size: float = 4.5) -> str:
    """A circle for semantic spaces, a square for reconstruction, a triangle for controls."""
    if family == "semantic":
        return f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="{size}"/>'
    if family == "reconstruction":
        side = 1.8 * size
        corner = f'x="{x - side / 2:.1f}" y="{y - side / 2:.1f}"'
        return f'<rect class="mark" {corner} width="{side:.1f}" height="{side:.1f}"/>'
    top = f"{x:.1f},{y - 1.2 * size:.1f} {x - 1.1 * size:.1f},{y + size:.1f} {x + 1.1 * size:.1f},{y + size:.1f}"
    return f'<polygon class="mark" points="{top}"/>'


@dataclass(frozen=True)
class Frame:
    """The plotting area of a chart: data ranges mapped to the viewBox."""

    x_range: Point
    y_range: Point
    width: float = 380
    height: float = 230
    left: float = 46
    right: float = 12
    top: float = 12
    bottom: float = 36

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.height - self.bottom - (value - low) / (high - low) * (self.height - self.top - self.bottom)

    def axes(self, x_ticks: Sequence[float], x_label: str, y_label: str, whole: bool = False) -> str:
        """Grid lines, tick labels and titles."""
        parts = []
        spread = self.y_range[1] - self.y_range[0]
        for tick in ticks(*self.y_range):
            y, end = self.y(tick), self.width - self.right
            parts.append(f'<line class="grid" x1="{self.left}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(_text(self.left - 6, y + 3.5, number(tick, 10 * spread), "end"))
        for tick in x_ticks:
            label = f"{tick:g}" if whole else number(tick, 10 * (self.x_range[1] - self.x_range[0]))
            parts.append(_text(self.x(tick), self.height - self.bottom + 15, label, "middle"))
        parts.append(_text((self.left + self.width - self.right) / 2, self.height - 5, x_label, "middle", "title"))
        parts.append(_text(self.left - 40, 10, y_label, "start", "title"))
        return "".join(parts)


def _text(x: float, y: float, text: str, anchor: str, style: str = "tick") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers within [low, high]."""
    raw = (high - low) / about
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _padded(values: Sequence[float], share: float = 0.06) -> Point:
    low, high = min(values), max(values)
    margin = share * (high - low or abs(high) or 1.0)
    return low - margin, high + margin


def _path(points: Sequence[Point | None]) -> str:
    """An SVG path through the points; None breaks it."""
    commands: list[str] = []
    pen = "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        commands.append(f"{pen}{point[0]:.1f} {point[1]:.1f}")
        pen = "L"
    return " ".join(commands)


def curves(metric: dict, families: Sequence[str]) -> str:
    """A metric against the horizon: a line and band a space, the mean floor dotted, the best ceiling dashed."""
    ks, bars = metric["ks"], metric["bars"]
    drawn = [v for bar in bars for v in (*bar["curve"]["low"], *bar["curve"]["high"]) if v is not None]
    floors = [_mean([bar["curve"]["floor"][i] for bar in bars]) for i in range(len(ks))]
    best = max if metric["info"]["higher_is_better"] else min
    known = [[c for bar in bars if (c := bar["curve"]["ceiling"][i]) is not None] for i in range(len(ks))]
    ceilings = [best(values) if values else None for values in known]
    everything = drawn + [v for v in (*floors, *ceilings) if v is not None]
    frame = Frame((ks[0], ks[-1]), _padded(everything), top=28)
    better = f"{metric['info']['unit_label']} · {'up' if metric['info']['higher_is_better'] else 'down'} is better"
    parts = [frame.axes(_thinned(ks), "frames ahead", better.removeprefix(" · "), whole=True)]
    for kind, values in (("floor", floors), ("ceiling", ceilings)):
        line = [None if v is None else (frame.x(k), frame.y(v)) for k, v in zip(ks, values, strict=True)]
        parts.append(f'<path class="bound {kind}" d="{_path(line)}"/>')
    for i, bar in enumerate(bars):
        parts.append(_curve(frame, i, ks, bar["curve"], families[i]))
    title = f"{metric['info']['name']} against the number of frames ahead, one line for each latent space"
    return _svg(frame, title, parts)


def _curve(frame: Frame, index: int, ks: Sequence[int], curve: dict, family: str) -> str:
    """Line, band and markers of one space."""
    rows = zip(ks, curve["value"], curve["low"], curve["high"], strict=True)
    found = [(frame.x(k), frame.y(v), frame.y(low), frame.y(high)) for k, v, low, high in rows if v is not None]
    band = [(x, low) for x, _, low, _ in found] + [(x, high) for x, _, _, high in reversed(found)]
    line = [(x, y) for x, y, _, _ in found]
    marks = "".join(marker(family, x, y, 2.6) for x, y in line)
    shapes = f'<path class="band" d="{_path(band)}Z"/><path class="line" d="{_path(line)}"/>{marks}'
    return f'<g class="s{index}" data-space="{index}">{shapes}</g>'


def scatter(x_axis: dict, y_axis: dict, spaces: Sequence[str], families: Sequence[str]) -> str:
    """Two axis scores against each other with their intervals; spaces at the top right have both."""
    xs, ys = ({s["latent"]: s for s in axis["standings"]} for axis in (x_axis, y_axis))
    limits = [[v for s in side.values() for v in (s["low"], s["high"])] for side in (xs, ys)]
    frame = Frame(_padded(limits[0]), _padded(limits[1]), width=460, height=300, right=118, top=26)
    parts = [frame.axes(ticks(*frame.x_range), f"{x_axis['axis']} →", f"↑ {y_axis['axis']}")]
    heights = spread([frame.y(ys[space]["score"]) for space in spaces], 14)
    edge = frame.width - frame.right
    for i, (space, height) in enumerate(zip(spaces, heights, strict=True)):
        sx, sy = xs[space], ys[space]
        x, y = frame.x(sx["score"]), frame.y(sy["score"])
        cross = (
            f'<path class="cross" d="M{frame.x(sx["low"]):.1f} {y:.1f} H{frame.x(sx["high"]):.1f} '
            f'M{x:.1f} {frame.y(sy["low"]):.1f} V{frame.y(sy["high"]):.1f}"/>'
        )
        leader = f'<path class="leader" d="M{x:.1f} {y:.1f} L{edge:.1f} {height:.1f} h4"/>'
        label = _text(edge + 7, height + 3.5, space, "start", "label")
        parts.append(f'<g class="s{i}" data-space="{i}">{leader}{cross}{marker(families[i], x, y)}{label}</g>')
    return _svg(frame, f"{y_axis['axis']} against {x_axis['axis']}, with intervals", parts)


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights pushed ``gap`` apart in the same order, about the same mean."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed = list(heights)
    for above, below in pairwise(order):
        placed[below] = max(placed[below], placed[above] + gap)
    drift = sum(placed) / len(placed) - sum(heights) / len(heights)
    return [height - drift for height in placed]


def _svg(frame: Frame, title: str, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {frame.width:g} {frame.height:g}" role="img" aria-label="{escape(title)}">'
    return f"{head}<title>{escape(title)}</title>{''.join(parts)}</svg>"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def _thinned(ks: Sequence[int]) -> Sequence[int]:
    step = math.ceil(len(ks) / 8)
    return ks[::step]
