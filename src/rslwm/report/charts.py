"""What a figure shows, told once: :mod:`rslwm.report.drawing` draws it, the page lets it be pointed at, and its numbers
are a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Numbers: TypeAlias = Sequence[float | None]
COLUMNS = ("panel", "series", "point", "x", "x_low", "x_high", "y", "low", "high")
"""Of a figure's table; those that it has nothing for are left out."""


@dataclass(frozen=True)
class Series:
    """Points (x, y), with intervals ``low`` to ``high`` of y and ``left`` to ``right`` of x where they are given.

    ``space`` is whose colour and mark it has, empty for none; ``line`` is matplotlib's style, empty for points alone;
    ``points`` name them one by one. Intervals are a band about a line, and bars elsewhere.
    """

    name: str
    x: Numbers
    y: Numbers
    low: Numbers = ()
    high: Numbers = ()
    left: Numbers = ()
    right: Numbers = ()
    space: str = ""
    line: str = ""
    marked: bool = True
    small: bool = False
    points: Sequence[str] = ()
    banded: bool = True


@dataclass(frozen=True)
class Panel:
    """Axes. ``names`` stand on y at 0, 1, ... from the top; ``square`` is from 0 to 1 both ways with a diagonal;
    ``ticks`` are those of x; ``span`` is what y goes over; ``zero`` draws a line at x = 0."""

    series: tuple[Series, ...]
    title: str = ""
    x: str = ""
    y: str = ""
    names: tuple[str, ...] = ()
    ticks: tuple[float, ...] = ()
    span: tuple[float, float] | None = None
    log: bool = False
    square: bool = False
    zero: bool = False

    def cells(self) -> Iterator[tuple[float | None, ...]]:
        """The places of :meth:`Chart.table`'s rows."""
        for one in self.series:
            yield from zip(one.x, one.y, strict=True)

    def table(self) -> Iterator[list[str | float | None]]:
        for one in self.series:
            for i, (x, y) in enumerate(zip(one.x, one.y, strict=True)):
                point = one.points[i] if one.points else self.names[int(y)] if self.names and y is not None else ""
                left, right, low, high = (_at(side, i) for side in (one.left, one.right, one.low, one.high))
                yield [self.title, one.name, point, x, left, right, None if self.names else y, low, high]

    @property
    def owners(self) -> list[str]:
        """The spaces that :meth:`table`'s rows belong to, empty for none."""
        return [one.space for one in self.series for _ in one.x]


@dataclass(frozen=True)
class Matrix:
    """Numbers by row, a latent space each, and column: the fuller a cell, the nearer to ``best`` it is, from
    ``worst``. ``labelled`` writes them into their cells."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[Numbers, ...]
    low: tuple[Numbers, ...]
    high: tuple[Numbers, ...]
    worst: float
    best: float
    title: str = ""
    x: str = ""
    y: str = ""
    names: tuple[str, ...] = ()
    labelled: bool = True

    def cells(self) -> Iterator[tuple[float, float]]:
        for row in range(len(self.rows)):
            for column in range(len(self.columns)):
                yield column + 0.5, row + 0.5

    def table(self) -> Iterator[list[str | float | None]]:
        for name, *numbers in zip(self.rows, self.values, self.low, self.high, strict=True):
            for column, value, low, high in zip(self.columns, *numbers, strict=True):
                yield [self.title, name, column, None, None, None, value, low, high]

    @property
    def owners(self) -> list[str]:
        return [row for row in self.rows for _ in self.columns]


@dataclass(frozen=True)
class Grid:
    """Numbers by place of one space's grid, on a scale from 0 to ``most``."""

    space: str
    values: tuple[Numbers, ...]
    most: float
    title: str = ""
    x: str = ""
    y: str = ""
    names: tuple[str, ...] = ()

    def cells(self) -> Iterator[tuple[float, float]]:
        for row, numbers in enumerate(self.values):
            for column in range(len(numbers)):
                yield column + 0.5, row + 0.5

    def table(self) -> Iterator[list[str | float | None]]:
        for row, numbers in enumerate(self.values):
            for column, value in enumerate(numbers):
                yield [
                    self.title,
                    self.space,
                    f"row {row + 1}, column {column + 1}",
                    None,
                    None,
                    None,
                    value,
                    None,
                    None,
                ]

    @property
    def owners(self) -> list[str]:
        return [self.space for row in self.values for _ in row]


Axes: TypeAlias = Panel | Matrix | Grid


@dataclass(frozen=True)
class Chart:
    """A figure: panels in lines of ``across``, what it is called, and what is to be seen in it. ``metrics`` are those
    that it shows, by which the page finds the command that measures them."""

    name: str
    title: str
    panels: tuple[Axes, ...]
    caption: str = ""
    across: int = 3
    metrics: tuple[str, ...] = ()
    height: float = 2.5
    """Of a panel, in inches."""

    @property
    def columns(self) -> int:
        return min(self.across, len(self.panels))

    @property
    def spaces(self) -> list[str]:
        """Whose series it has, each once."""
        return [*dict.fromkeys(filter(None, self.owners))]

    @property
    def owners(self) -> list[str]:
        """The spaces that :meth:`table`'s rows belong to, empty for none."""
        return [space for panel in self.panels for space in panel.owners]

    def table(self) -> tuple[list[str], list[list[str | float | None]]]:
        """Its numbers, a row a point: names of the columns that hold any, and the rows."""
        rows = [row for panel in self.panels for row in panel.table()]
        held = [i for i in range(len(COLUMNS)) if any(row[i] not in (None, "") for row in rows)]
        return [COLUMNS[i] for i in held], [[row[i] for i in held] for row in rows]

    def csv(self) -> str:
        columns, rows = self.table()
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([columns, *rows])
        return text.getvalue()


def _at(numbers: Numbers, i: int) -> float | None:
    return numbers[i] if numbers else None
