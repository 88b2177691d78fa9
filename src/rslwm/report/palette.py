"""How a latent space is drawn, the same everywhere: warm for reconstruction, cool for semantic, grey for controls.

The first three of either family are Okabe and Ito's colour-blind-safe colours, darkened a little for white paper. The
shape of a marker repeats the family, so nothing hangs on colour alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

TEXT, SOFT, FAINT, RULE = "#222222", "#555555", "#8a8a8a", "#e6e6e6"

STYLE: Any = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": FAINT,
    "axes.labelcolor": SOFT, "xtick.color": SOFT, "ytick.color": SOFT, "axes.titleweight": "bold", "grid.color": RULE,
    "axes.titlesize": 10, "text.color": TEXT, "axes.titlecolor": TEXT, "svg.hashsalt": "rslwm", "savefig.dpi": 160,
    "figure.facecolor": "white",
}  # fmt: skip
"""Of every figure, for matplotlib."""

COLOURS: dict[str, tuple[tuple[str, str], ...]] = {
    "reconstruction": (("#c85200", "#ef7d3c"), ("#d18f00", "#f0b429"), ("#b8588d", "#dd8fb9"), ("#8a6a3f", "#bd9a6b")),
    "semantic": (
        ("#0068a8", "#4aa3df"),
        ("#3a9bd1", "#8ccbf0"),
        ("#008c66", "#35bd95"),
        ("#6257a8", "#a197e0"),
        ("#1f3a5f", "#c3d3ea"),
        ("#6aa84f", "#a9d98f"),
    ),
    "floor": (("#6f6f6f", "#a8a8a8"), ("#999999", "#787878")),
}
MARKERS: dict[str, tuple[str, str]] = {
    "reconstruction": ("s", '<rect class="mark" x="1.9" y="1.9" width="8.2" height="8.2"/>'),
    "semantic": ("o", '<circle class="mark" cx="6" cy="6" r="4.6"/>'),
    "floor": ("^", '<polygon class="mark" points="6,0.5 0.9,10.6 11.1,10.6"/>'),
}


@dataclass(frozen=True)
class Ink:
    """How a space is drawn: its place in the study, its colour on light and on dark ground, matplotlib's letter for its
    marker, and the marker as SVG."""

    index: int = field(compare=False)
    name: str = field(compare=False)
    family: str = field(compare=False)
    light: str
    dark: str
    marker: str
    mark: Markup


def inks(spaces: Iterable[str], families: Iterable[str]) -> dict[str, Ink]:
    """The ink of every space, in order; a family that has used up its colours starts over."""
    used: Counter[str] = Counter()
    result = {}
    for index, (name, family) in enumerate(zip(spaces, families, strict=True)):
        key = family if family in COLOURS else "floor"
        (light, dark), (marker, shape) = COLOURS[key][used[key] % len(COLOURS[key])], MARKERS[key]
        mark = Markup(f'<svg class="swatch" viewBox="0 0 12 12" aria-hidden="true">{shape}</svg>')
        result[name] = Ink(index, name, family, light, dark, marker, mark)
        used[key] += 1
    return result
