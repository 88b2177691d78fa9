"""One colour a latent space, the same in every chart: warm for reconstruction, cool for semantic, grey for controls.

The first three of either family are Okabe and Ito's colour-blind-safe colours, darkened a little for white paper. The
shape of a marker repeats the family, so nothing hangs on colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rslwm.types import Family


@dataclass(frozen=True)
class Ink:
    """How a space is drawn on light and on dark ground; ``marker`` is matplotlib's letter for it."""

    light: str
    dark: str
    marker: str


COLOURS: dict[str, tuple[tuple[str, str], ...]] = {
    "reconstruction": (
        ("#c85200", "#ef7d3c"),
        ("#d18f00", "#f0b429"),
        ("#b8588d", "#dd8fb9"),
        ("#8a6a3f", "#bd9a6b"),
    ),
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
MARKERS: dict[str, str] = {"reconstruction": "s", "semantic": "o", "floor": "^"}


def inks(families: Sequence[Family | str]) -> list[Ink]:
    """The ink of every space, in order; a family that has used up its colours starts over."""
    used: dict[str, int] = {}
    result = []
    for family in families:
        key = family if family in COLOURS else "floor"
        position = used.get(key, 0)
        used[key] = position + 1
        light, dark = COLOURS[key][position % len(COLOURS[key])]
        result.append(Ink(light, dark, MARKERS[key]))
    return result
