"""What we got of the paper's numbers: the committed results, and whether they agree with what is printed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from rslwm.reproduce.paper import Cell, Row
from rslwm.reproduce.quantities import QUANTITIES
from rslwm.serialisation import from_dict, to_dict

Key = tuple[str, str, str, str]
"""Space, size, setting and quantity."""


@dataclass(frozen=True)
class Result:
    """Our number of a printed one. ``low`` and ``high`` are its 95 % interval, None for what is computed from sizes."""

    space: str
    quantity: str
    value: float
    command: str
    size: str = ""
    setting: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def key(self) -> Key:
        return self.space, self.size, self.setting, self.quantity

    def agrees(self, cell: Cell) -> bool:
        """Within the tolerance of what is computed; of what is measured, whether the 95 % intervals overlap, of which
        the printed one is its value alone where none is printed."""
        if QUANTITIES[cell.quantity].computed:
            return abs(self.value - cell.value) <= tolerance(cell)
        if self.low is None or self.high is None:
            return False
        low, high = cell.bounds
        return self.low <= high and low <= self.high


def tolerance(cell: Cell) -> float:
    """How far a computed number may be from a printed one, in its unit."""
    quantity = QUANTITIES[cell.quantity]
    return quantity.rounding + quantity.relative * abs(cell.value)


def key_of(row: Row, cell: Cell) -> Key:
    """Where the results say what ours is. What depends on sizes alone has no setting."""
    setting = "" if QUANTITIES[cell.quantity].computed else row.setting
    return row.space, row.size, setting, cell.quantity


@cache
def committed() -> dict[Key, Result]:
    """The results that the package ships."""
    content = json.loads((files("rslwm.reproduce") / "results.json").read_text("utf-8"))
    return {result.key: result for result in (from_dict(Result, entry) for entry in content["results"])}


def write(results: Iterable[Result], path: Path) -> None:
    """Write results as the package ships them, one a line."""
    lines = [json.dumps({k: v for k, v in to_dict(result).items() if v not in ("", None)}) for result in results]
    path.write_text('{\n "results": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n")
