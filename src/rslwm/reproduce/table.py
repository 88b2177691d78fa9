"""The ledgers and the comparison with the paper as tables for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from rslwm.evals.rates import Estimate
from rslwm.reproduce.against import Beside, Comparison
from rslwm.reproduce.ledger import STATES, Line, Standing
from rslwm.reproduce.machine import Machine
from rslwm.reproduce.ours import Checked
from rslwm.reproduce.paper import Table
from rslwm.reproduce.quantities import gathered
from rslwm.reproduce.results import Result, key_of, tolerance

HUES = {"reproduced": "green", "integrated": "", "planned": "dim"}


def grid(*columns: str, right: Sequence[str] = (), title: str = "") -> Grid:
    """An empty table."""
    made = Grid(box=None, header_style="dim", padding=(0, 1, 0, 0), title=title or None, title_justify="left")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


# ------------------------------------------------------------------------------------------------- the paper's ledger


def overview(ledger: Sequence[tuple[Table, Sequence[Line]]], machine: Machine) -> Group:
    """One line a table, what the states mean, and what this machine lacks with the tables that it is needed for."""
    counts = ("rows", "numbers", *STATES)
    made, missing = grid("table", "what", *counts, right=counts), dict[str, list[str]]()
    for table, lines in ledger:
        states = Counter({state: sum(line.states.get(state, 0) for line in lines) for state in STATES})
        shown = (Text(str(states[s]) if states[s] else "-", style=HUES[s] if states[s] else "dim") for s in STATES)
        numbers = states.total()
        made.add_row(table.name, table.title, str(len(table.rows)), str(numbers) if numbers else "words", *shown)
        for what in dict.fromkeys(what for line in lines for what in line.missing(machine)):
            missing.setdefault(what, []).append(table.name)
    legend = [Text.assemble((state, HUES[state]), f": {what}") for state, what in STATES.items()]
    parts: list[RenderableType] = [made, "", *legend, ""]
    if missing:
        lacking = grid("missing on this machine", "needed for tables")
        for what, names in missing.items():
            lacking.add_row(what, ", ".join(names))
        parts += [lacking]
    else:
        parts += ["Nothing is missing on this machine."]
    return Group(*parts)


def full(table: Table, lines: Sequence[Line], machine: Machine) -> Group:
    """Every row with its command, what it lacks here, and every number with its interval and state."""
    parts: list[RenderableType] = [Text(f"table {table.name}: {table.title}", style="bold")]
    if table.note:
        parts.append(Text(table.note))
    for words in table.texts:
        parts.append(Text(f"  {words[0]} -> {', '.join(words[1:])}"))
    for line in lines:
        states = ", ".join(f"{count} {state}" for state, count in line.states.items())
        parts += ["", Text.assemble((str(line.row) or table.title, "bold"), f": {states}")]
        if line.command:
            parts.append(Text(f"  {line.command}", style="cyan"))
        if missing := line.missing(machine):
            parts.append(Text(f"  missing here: {', '.join(missing)}"))
        numbers = grid("", "expected", "interval", "state", "measured by")
        for standing in line.standings:
            ours = f" (ours {standing.result.value:.4g})" if standing.result else ""
            state = Text(standing.state + ours, style=HUES[standing.state])
            cell, by = standing.cell, _measured(standing)
            numbers.add_row(f"  {standing.quantity.label}", str(cell), cell.kind, state, by)
        parts.append(numbers)
    every = [standing for line in lines for standing in line.standings]
    for title, notes in (
        ("What differs", gathered((s.quantity, s.quantity.differs) for s in every if s.state != "planned")),
        ("What would be needed of what is planned", gathered((s.quantity, s.why) for s in every if s.why)),
    ):
        if notes:
            parts += ["", Text(title, style="bold"), *(Text(f"  {note}") for note in notes)]
    return Group(*parts)


def _measured(standing: Standing) -> str:
    if standing.quantity.computed:
        return "sizes"
    return standing.metric or standing.quantity.kept or "-"


def recomputed(ledger: Sequence[tuple[Table, Sequence[Line]]], results: Sequence[Result]) -> tuple[Grid, int]:
    """What was computed again beside what is printed, and how many numbers are out of tolerance."""
    numbers = ("printed", "ours", "difference", "tolerance")
    made, failed, known = grid("table", "row", "", *numbers, "", right=numbers), 0, {r.key: r for r in results}
    for table, lines in ledger:
        for line in lines:
            for s in line.standings:
                if not (ours := known.get(key_of(line.row, s.cell))):
                    continue
                passed, off = ours.agrees(s.cell), ours.value - s.cell.value
                failed += not passed
                share = f"{round(off / s.cell.value, 3) + 0.0:+.1%}"  # no -0.0 %
                mark = Text("pass", style="green") if passed else Text("FAIL", style="bold red")
                printed, value = f"{s.cell.value:g}", f"{ours.value:.5g}"
                made.add_row(table.name, str(line.row), s.quantity.label, printed, value, share,
                             f"{tolerance(s.cell):.2g}", mark)  # fmt: skip
    return made, failed


# ---------------------------------------------------------------------------------------------------- our own results


def checked(found: Sequence[Checked]) -> Grid:
    """What was measured again beside what is on record."""
    numbers = ("expected", "interval", "now", "tolerance")
    made = grid("results", "what", *numbers, "", right=("expected", "now", "tolerance"))
    for one in found:
        entry, name = one.expected, one.ledger.parent.name
        now = "-" if one.value is None else f"{one.value:.5g}"
        bounds = "" if entry.low is None or entry.high is None else f"[{entry.low:.4g} {entry.high:.4g}]"
        mark = Text("pass", style="green") if one.passed else Text(f"FAIL {one.why}".strip(), style="bold red")
        made.add_row(name, entry.what, f"{entry.value:.5g}", bounds, now, f"{entry.tolerance:.2g}", mark)
    return made


# ---------------------------------------------------------------------------------------------------- beside the paper


def beside(comparison: Beside) -> Group:
    """Two lines a quantity, ours and the paper's, a column a space; then what differs."""
    if not comparison.spaces:
        return Group(Text("None of these spaces stands for one of the paper's, so nothing can be put beside it."))
    title = f"beside the paper (arXiv 2605.06388, DiT-{comparison.size})"
    made = grid("", "", *(f"{ours}\n~ {theirs}" for ours, theirs in comparison.spaces.items()),
                "table\nrank correlation", title=title)  # fmt: skip
    for one in comparison.comparisons:
        label = one.quantity.label if one.quantity.measured else f"{one.quantity.label} (nearest)"
        pairs = [one[latent] for latent in comparison.spaces]
        made.add_row(label, "ours", *(number(p.ours) if p else "-" for p in pairs), f"table {one.tables}")
        made.add_row("", "paper", *(p.printed if p else "-" for p in pairs), agreement(one), style="dim")
    parts: list[RenderableType] = [made, Text(comparison.legend, style="dim"), "", Text("Differences of protocol:")]
    parts += [Text(f"  {text}") for text in comparison.differences]
    parts += [Text("Differences of definition:"), *(Text(f"  {text}") for text in comparison.definitions)]
    if comparison.absent:
        parts.append(Text(f"Not measured in this run, see --metrics: {'; '.join(comparison.absent)}."))
    return Group(*parts)


def number(estimate: Estimate) -> str:
    """With its interval over episodes, where there is one."""
    known = np.isfinite(estimate.low) and np.isfinite(estimate.high)
    return f"{estimate.value:.3g}" + (f" [{estimate.low:.3g} {estimate.high:.3g}]" if known else "")


def agreement(comparison: Comparison) -> str:
    """Spearman's correlation over the spaces with its p value, or why there is none."""
    found, n = comparison.agreement, len({pair.space for pair in comparison.pairs})
    if found is None:
        return f"none of {n} spaces" if n < 4 else "none: one side is constant"
    return f"{found.rho:+.2f} (n {n}, p {found.p:.3f})"
