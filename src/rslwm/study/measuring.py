"""The metrics of a space, each by itself: one that fails takes nothing with it but its own rows."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rslwm.evals.base import METRICS, Metric, NotAvailable, metric_infos
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.rows import Rows
from rslwm.plan.base import PLANNERS
from rslwm.registry import code_of
from rslwm.train.loop import Progress
from rslwm.types import DataError, Unavailable

COSTS = "costs.json"


def metric_versions() -> dict[str, str]:
    """The version of every metric by its name: of ours the number that it declares, of a plug-in's its code, too.

    Raises:
        ConfigError: two metrics can't be told apart.
    """
    metric_infos()
    return {name: f"{METRICS.get(name).version}{code_of(METRICS.get(name))}" for name in sorted(METRICS)}


def planner_code(name: str) -> str:
    """Changes with a planner of the user's own; empty for ours, which are part of their metric's version."""
    return code_of(PLANNERS.get(name))


@dataclass
class Measured:
    """Rows of what could be measured, and by name why the others couldn't: because the data lack what they need
    (``unavailable``), or because of an error that nobody expected (``failed``)."""

    tables: list[Rows] = field(default_factory=list)
    unavailable: list[Unavailable] = field(default_factory=list)
    failed: list[Unavailable] = field(default_factory=list)
    seen: tuple[str, ...] = ()
    """Ids of held-out episodes that a model from elsewhere was trained on."""

    @property
    def rows(self) -> Rows:
        return Rows.concatenate([Rows.of([]), *self.tables])


def measure_each(evaluation: Evaluation, names: Iterable[str], folder: Path, progress: Progress) -> Measured:
    """Measure these metrics, in the order of their names. What is in ``folder`` isn't measured again: neither after a
    kill nor after another metric's failure."""
    folder.mkdir(exist_ok=True)
    names, measured = sorted(names), Measured()
    if (folder / COSTS).is_file():
        evaluation.costs |= json.loads((folder / COSTS).read_text())
    for number, name in enumerate(names):
        progress(number, len(names), name)
        kept, metric = folder / f"{number:02d}.parquet", METRICS.get(name)
        try:
            rows = Rows.load(kept) if kept.is_file() else _checked(Rows.of(metric().measure(evaluation)), metric)
        except NotAvailable as reason:
            measured.unavailable += [Unavailable(info.name, str(reason)) for info in metric.infos]
            continue
        except Exception as error:  # whatever a plug-in raises, the others' rows are none the worse
            traceback.print_exc()
            why = "".join(traceback.format_exception_only(error)).strip()
            measured.failed += [Unavailable(info.name, why) for info in metric.infos]
            continue
        rows.save(kept)
        (folder / COSTS).write_text(json.dumps(evaluation.costs))
        measured.tables.append(rows)
        lacking = [info for info in metric.infos if info.scored and info.source not in rows["metric"]]
        measured.unavailable += [Unavailable(info.name, "its metric returned no rows") for info in lacking]
    return measured


def _checked(rows: Rows, metric: type[Metric]) -> Rows:
    """Raises :class:`DataError` if a metric returned rows that it doesn't declare: no verdict could be made of them."""
    declared = {info.source for info in metric.infos}
    if unknown := sorted(set(rows.distinct("metric")) - declared):
        raise DataError(
            f"{metric.__name__} returned rows of {unknown[0]!r}, which isn't among its infos: {', '.join(declared)}"
        )
    return rows
