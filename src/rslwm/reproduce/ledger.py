"""The paper's rows as a ledger: the command of each, how far it is, and what this machine lacks for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from rslwm.reproduce.machine import BRIDGE, SOAR, Machine
from rslwm.reproduce.paper import Cell, Row, Table
from rslwm.reproduce.quantities import QUANTITIES, Quantity, measuring
from rslwm.reproduce.results import Key, Result, committed, key_of
from rslwm.reproduce.spaces import SPACES
from rslwm.study.config import PRESETS
from rslwm.study.entry import Entry

State = Literal["reproduced", "integrated", "planned"]
STATES: dict[State, str] = {
    "reproduced": "a result of ours that the package ships agrees with the printed number",
    "integrated": "encoder and metric are here, and the command would run with what is missing; no result agrees yet",
    "planned": "nothing here measures it",
}
VIEWS = "image_0,image_1,image_2"
"""BridgeData's cameras of Table 15, whose world models train on for 20 of 100 epochs."""


@dataclass(frozen=True)
class Standing:
    """How far one printed number is. ``metric`` names the registered metric that measures it, ``why`` says what a
    planned one lacks."""

    cell: Cell
    state: State
    metric: str
    result: Result | None
    why: str

    @property
    def quantity(self) -> Quantity:
        return QUANTITIES[self.cell.quantity]


@dataclass(frozen=True)
class Line:
    """A row of a table with its command, empty if all of it is planned."""

    table: Table
    row: Row
    standings: tuple[Standing, ...]
    command: str

    @property
    def states(self) -> dict[State, int]:
        """Numbers by state, in the order of :data:`STATES`."""
        count = Counter(standing.state for standing in self.standings)
        return {state: count[state] for state in STATES if count[state]}

    @property
    def open(self) -> tuple[Standing, ...]:
        """What a run has still to give."""
        return tuple(s for s in self.standings if s.state == "integrated" and not s.quantity.computed)

    def missing(self, machine: Machine) -> list[str]:
        """What the machine lacks for the numbers that are integrated."""
        if not self.open:
            return []
        config = PRESETS["bridge"]
        networks = {s.quantity.needs for s in self.open if s.quantity.needs}
        asked = [machine.data("bridge")]
        if any(s.quantity.data == "soar" for s in self.open):
            asked.append(machine.data("soar"))
        for name in [SPACES[self.row.space].published] if self.row.space else config.latents:
            entry = Entry.parse(name)
            asked.append(machine.encoder(entry.reference))
            if not entry.encoder.decodes:  # its pixel decoder is trained
                networks.add(config.decoder.perceptual)
        asked += [*map(machine.network, sorted(networks)), machine.gpu()]
        return [*dict.fromkeys(filter(None, asked))]


def lines(table: Table, results: Mapping[Key, Result] | None = None) -> list[Line]:
    """A table's ledger by these results of ours, those that the package ships if none are given."""
    known = committed() if results is None else results
    found = []
    for row in table.rows:
        standings = tuple(_standing(row, cell, known.get(key_of(row, cell))) for cell in row.cells)
        found.append(Line(table, row, standings, _command(table, row, standings)))
    return found


def _standing(row: Row, cell: Cell, result: Result | None) -> Standing:
    quantity = QUANTITIES[cell.quantity]
    metric = measuring(quantity.measured) if quantity.measured else ""
    if result and result.agrees(cell):
        return Standing(cell, "reproduced", metric, result, "")
    if metric or quantity.computed or quantity.kept:
        return Standing(cell, "integrated", metric, result, "")
    gone = f"a metric {quantity.measured.metric}, which is not registered" if quantity.measured else ""
    return Standing(cell, "planned", "", result, quantity.lacks or gone)


def _command(table: Table, row: Row, standings: tuple[Standing, ...]) -> str:
    """What gives all of a row that isn't planned."""
    if all(s.state == "planned" for s in standings):
        return ""
    if all(s.quantity.computed for s in standings):
        return f"rslwm reproduce --run --table {table.name}"
    return " && ".join(_runs(row, standings))


def _runs(row: Row, standings: tuple[Standing, ...]) -> Iterator[str]:
    size, space = row.size or "S", SPACES[row.space].published if row.space else ""
    trust = " --trust" if Entry.parse(space or "va-vae").reference == "cosmos-ci16" else ""
    which = f" --latents {space}" if space else ""
    views = row.setting == "multi view"
    out = "runs/bridge-views" if views else "runs/bridge"
    here = {s.metric: s.quantity.data for s in standings if s.metric}
    on_bridge = sorted(metric for metric, data in here.items() if data == "bridge")
    measured = f" --metrics {','.join(on_bridge)}" if on_bridge else ""
    cameras = f" --data.camera {VIEWS} --world-model.init runs/bridge/checkpoints/{space}-{size}" if views else ""
    cameras += f" --world-model.optim.steps {PRESETS['bridge'].world_model.optim.steps // 5}" if views else ""
    if on_bridge or not here:
        yield f"rslwm compare bridge --data {BRIDGE}{cameras}{which} --sizes {size}{measured}{trust} --out {out}"
    else:  # the world model that is measured on other data
        yield f"rslwm train bridge --data {BRIDGE}{which} --sizes {size}{trust} --out {out}"
    for metric in sorted(metric for metric, data in here.items() if data == "soar"):
        checkpoint = f"{out}/checkpoints/{space}-{size}"
        yield f"rslwm eval {checkpoint} --data {SOAR} --metrics {metric}{trust} --out runs/soar/{space}-{size}"
