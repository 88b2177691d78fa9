"""The paper's tables as data: what arXiv 2605.06388 prints, and nothing of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

NORMAL = 1.96
"""Standard errors on either side of a 95 % interval."""
NO_INTERVAL = "no interval printed"


@dataclass(frozen=True)
class Cell:
    """A printed number. ``kind`` says what its interval is; ``error`` holds a standard error, ``low`` and ``high`` hold
    bounds, all None where the paper prints none."""

    quantity: str
    value: float
    kind: str = NO_INTERVAL
    error: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """The printed bounds or, of a standard error, those of a 95 % interval; the value twice without either."""
        if self.low is not None and self.high is not None:
            return self.low, self.high
        spread = NORMAL * (self.error or 0.0)
        return self.value - spread, self.value + spread

    def __str__(self) -> str:
        if self.error is not None:
            return f"{self.value:g} ± {self.error:g}"
        return f"{self.value:g}" if self.low is None else f"{self.value:g} [{self.low:g} {self.high:g}]"


@dataclass(frozen=True)
class Row:
    """A line of a table: a latent space by the paper's name and a size of the transformer (S, B, L), either empty where
    the line is of none, and what else tells it apart."""

    space: str
    size: str
    setting: str
    cells: tuple[Cell, ...]

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.space, f"DiT-{self.size}" if self.size else "", self.setting)))


@dataclass(frozen=True)
class Table:
    """A table or figure; ``texts`` are lines of words where it has no numbers."""

    name: str
    title: str
    note: str
    rows: tuple[Row, ...]
    texts: tuple[tuple[str, ...], ...]


@cache
def tables() -> tuple[Table, ...]:
    """All of them, in the order of the paper."""
    content = json.loads((files("rslwm.reproduce") / "paper.json").read_text("utf-8"))
    return tuple(_table(entry) for entry in content["tables"])


def _table(entry: dict[str, Any]) -> Table:
    kinds = entry.get("intervals", {})
    rows = tuple(
        Row(row["space"], row["size"], row.get("setting", ""), tuple(_cells(row["cells"], kinds)))
        for row in entry["rows"]
    )
    return Table(entry["name"], entry["title"], entry.get("note", ""), rows, tuple(map(tuple, entry.get("texts", []))))


def _cells(cells: dict[str, Any], kinds: dict[str, str]) -> Iterator[Cell]:
    """A number alone, ``[value, standard error]`` or ``[value, low, high]``."""
    for quantity, printed in cells.items():
        match printed:
            case [value, error]:
                yield Cell(quantity, value, kinds[quantity], error=error)
            case [value, low, high]:
                yield Cell(quantity, value, kinds[quantity], low=low, high=high)
            case value:
                yield Cell(quantity, value)


@cache
def printed(space: str, size: str, quantity: str) -> tuple[Table, Cell] | None:
    """The first table's number of a space and size, without any other setting; None if there is none."""
    for table in tables():
        for row in table.rows:
            if (row.space, row.size, row.setting) == (space, size, ""):
                for cell in row.cells:
                    if cell.quantity == quantity:
                        return table, cell
    return None
