"""A run's numbers beside the paper's: what corresponds, how far both rank the spaces alike, and what differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rslwm.evals.rates import Estimate
from rslwm.reproduce.paper import Cell, printed
from rslwm.reproduce.protocol import differences
from rslwm.reproduce.quantities import QUANTITIES, Quantity, gathered, measuring
from rslwm.reproduce.readings import read
from rslwm.reproduce.spaces import native, stands_for
from rslwm.serialisation import load
from rslwm.study.config import StudyConfig
from rslwm.study.entry import parse_entries
from rslwm.verdict.decide import Agreement, Verdict, agreement

SIZES = ("S", "B", "L")
EXACT = 7
"""Spaces up to which :func:`agreement` counts every order of them; beyond, it samples orders."""


@dataclass(frozen=True)
class Pair:
    """A space of ours, our number, the paper's name of what it stands for, and the printed number."""

    latent: str
    ours: Estimate
    space: str
    cell: Cell
    table: str
    bare: bool = False
    """Whether the paper prints it only of the space without its adapter."""

    @property
    def printed(self) -> str:
        return f"{self.cell} (native)" if self.bare else str(self.cell)


@dataclass(frozen=True)
class Comparison:
    """One quantity of all spaces that both have."""

    quantity: Quantity
    pairs: tuple[Pair, ...]
    agreement: Agreement | None
    """Of both rankings of the spaces; None of fewer than four."""

    def __getitem__(self, latent: str) -> Pair | None:
        return next((pair for pair in self.pairs if pair.latent == latent), None)

    @property
    def tables(self) -> str:
        return ", ".join(dict.fromkeys(pair.table for pair in self.pairs))


@dataclass(frozen=True)
class Beside:
    """A run beside the paper: ``spaces`` is the paper's name by ours, ``size`` that of its transformer, ``absent`` says
    which metric would give more."""

    size: str
    spaces: dict[str, str]
    comparisons: tuple[Comparison, ...]
    differences: tuple[str, ...]
    absent: tuple[str, ...]

    @property
    def definitions(self) -> list[str]:
        """What of each quantity differs, "nearest" where ours is another one that asks the same."""
        told = ((one.quantity, one.quantity.differs) for one in self.comparisons)
        return gathered((q, note if q.measured else f"nearest; {note}") for q, note in told)

    @property
    def legend(self) -> str:
        """How the table is read."""
        orders = "all orders" if len({*self.spaces.values()}) <= EXACT else "a sample of the orders"
        correlation = f"Rank correlation: Spearman's over n spaces; p is the share of {orders} that agree as strongly"
        return f"{correlation}. In brackets intervals over episodes; (native) is printed without adapter only."

    @classmethod
    def load(cls, folder: Path) -> Beside:
        """Of the folder of a finished comparison; raises :class:`rslwm.types.DataError` if it holds no verdict."""
        verdict, path = Verdict.load(folder / "verdict.json"), folder / "config.yaml"
        config = load(StudyConfig, path) if path.is_file() else StudyConfig()
        return cls.of(verdict, config, _size(config, folder))

    @classmethod
    def of(cls, verdict: Verdict, config: StudyConfig, size: str = "S") -> Beside:
        """Of a verdict and the configuration that it was made with."""
        standing = {entry.name: stands_for(entry) for entry in parse_entries(config)}
        spaces = {latent: standing[latent] for latent in verdict.spaces if standing.get(latent)}
        compared, absent = list[Comparison](), dict[str, list[str]]()
        for name, quantity in QUANTITIES.items():
            if quantity.reading is None:
                continue
            ours = read(verdict, quantity.reading)
            if pairs := _pairs(name, ours, spaces, size):
                compared.append(Comparison(quantity, pairs, _agreement(pairs)))
            elif not ours and (metric := measuring(quantity.reading)):
                absent.setdefault(metric, []).append(quantity.label)
        told = differences(config, spaces, size)
        lacking = tuple(f"{metric} for {', '.join(labels)}" for metric, labels in absent.items())
        return cls(size, spaces, tuple(compared), tuple(told), lacking)


def _size(config: StudyConfig, folder: Path) -> str:
    """Of the paper's transformers, the one whose numbers are nearest to a run's: that of its own size, else the
    smallest."""
    here = folder.name if folder.name in config.sizes else next(iter(config.sizes), "")
    return here if here in SIZES else SIZES[0]


def _pairs(name: str, ours: Mapping[str, Estimate], spaces: Mapping[str, str], size: str) -> tuple[Pair, ...]:
    """A number that has no world model is printed without a size, and of probes only those of native spaces."""
    found = []
    for latent, space in spaces.items():
        names = dict.fromkeys((space, native(space)))
        known = [(shown, at) for shown in names for of in (size, "") if (at := printed(shown, of, name))]
        if known and latent in ours:
            shown, (table, cell) = known[0]
            found.append(Pair(latent, ours[latent], shown, cell, table.name, shown != space))
    return tuple(found)


def _agreement(pairs: tuple[Pair, ...]) -> Agreement | None:
    first = {pair.space: pair for pair in reversed(pairs)}  # two spaces of ours may stand for one of the paper's
    x, y = (np.array(side) for side in ([p.ours.value for p in first.values()], [p.cell.value for p in first.values()]))
    return agreement(x, y)
