"""Numbers, costs, pictures and sentences as the page shows them."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from PIL import Image


def data_uri(image: np.ndarray) -> str:
    """(H, W, 3) uint8 as a PNG inside a URI."""
    return _uri(image, "png", optimize=True)


def lossy_uri(image: np.ndarray) -> str:
    """(H, W, 3) uint8 as a WebP inside a URI, a tenth of the size."""
    return _uri(image, "webp", quality=80)


def _uri(image: np.ndarray, kind: str, **options: bool | int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


@dataclass(frozen=True)
class Track:
    """A horizontal scale on which better is to the right; positions are percentages of its width."""

    worst: float
    best: float

    @classmethod
    def around(cls, values: Iterable[float | None], higher_is_better: bool = True) -> Track:
        """A scale that holds all values, with a margin of 4 %."""
        known = [v for v in values if v is not None]
        low, high = min(known), max(known)
        margin = 0.04 * (high - low or abs(high) or 1.0)
        low, high = low - margin, high + margin
        return cls(low, high) if higher_is_better else cls(high, low)

    @property
    def width(self) -> float:
        return abs(self.best - self.worst)

    def at(self, value: float) -> float:
        return round(100 * (value - self.worst) / (self.best - self.worst), 2)

    def span(self, low: float, high: float) -> tuple[float, float]:
        """Left edge and width of an interval."""
        left, right = sorted((self.at(low), self.at(high)))
        return left, round(right - left, 2)


def number(value: float | None, spread: float) -> str:
    """A value with as many decimals as a hundredth of the spread of its kind needs."""
    if value is None:
        return "–"
    decimals = min(max(2 - math.floor(math.log10(spread)), 0), 5) if spread > 0 else 2
    text = f"{value:,.{decimals}f}".replace("-", "−")
    return text.lstrip("−") if not any(c in "123456789" for c in text) else text


def format_cost(value: float | None, kind: str) -> str:
    """A count as 1.2 M, bytes as 2.0 kB, seconds as 3 min 20 s."""
    if value is None:
        return "–"
    if kind == "seconds":
        if value >= 100:
            return f"{int(value // 60)} min {int(value % 60)} s"
        return f"{value:.1f} s" if value >= 1 else f"{1000 * value:.0f} ms"
    if kind in ("count", "bytes"):
        unit = "B" if kind == "bytes" else ""
        for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
            if value >= factor:
                return f"{value / factor:.3g} {prefix}{unit}"
        return f"{value:.3g} {unit}".strip()
    return f"{value:,.4g}"


def mean_of(rates: Sequence[float | None]) -> str:
    """Of rates that are known."""
    known = [rate for rate in rates if rate is not None]
    return f"{sum(known) / len(known):.2f}" if known else "–"


def listed(names: Sequence[str], word: str = "and") -> str:
    """In a sentence."""
    return f" {word} ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def prose(text: str) -> Markup:
    """Escaped text in which `backticks` set code."""
    parts = str(escape(text)).split("`")
    if len(parts) % 2 == 0:  # an odd number of backticks: leave them alone
        return escape(text)
    return Markup("".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts)))
