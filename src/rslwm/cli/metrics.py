"""rslwm metrics list."""

from __future__ import annotations

from dataclasses import dataclass

import tyro
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rslwm.cli.output import console
from rslwm.evals.base import METRICS, ROLLOUTS, Metric, MetricInfo, named
from rslwm.evals.probe import Probe
from rslwm.evals.rollouts import RolloutsConfig
from rslwm.evals.truth import Recording
from rslwm.study.config import StudyConfig

HISTORY = StudyConfig().world_model.dit.max_frames - 1


@dataclass
class List:
    """List what can be measured: the built-in metrics and those of installed plug-ins.

    The rung is that of the ladder of arXiv 2606.15032: 0 to 3 look and read out, 4 intervenes, 5 to 7 decide with the
    model. Cost is in frames that go through the transformer, that are decoded, and whose latents are read, for one
    space; recordings of the simulator are made once a study.

    For instance:
      rslwm metrics list
      rslwm metrics list counterfactuals          floor, ceiling and description of each of its numbers
      rslwm compare smoke --metrics core,counterfactuals
    """

    name: tyro.conf.Positional[str] = ""
    """Say all about this one, a name or path/to/file.py:Class."""

    def run(self) -> None:
        settings = StudyConfig().evaluation.settings
        screen = console()
        if self.name:
            metric = named(self.name, settings)
            screen.print(Text(f"{self.name}: needs {_needs(metric)}; costs {_cost(metric)}"))
            for info in metric.infos:
                screen.print("", Text(_title(info), "bold"), Text(f"  {info.description}"))
                screen.print(Text(f"  floor: {info.floor}\n  ceiling: {info.ceiling}"))
            return
        table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0))
        for heading in ("metric", "core", "axis", "rung", "numbers (scored with *)", "needs", "cost"):
            table.add_column(heading)
        for name in sorted(METRICS):
            metric = named(name, settings)
            axes = ", ".join(dict.fromkeys(info.axis for info in metric.infos))
            rungs = ", ".join(dict.fromkeys("–" if i.rung is None else str(i.rung) for i in metric.infos))
            numbers = " ".join(f"{info.name}{'*' * info.scored}" for info in metric.infos)
            core = "core" if metric.core else ""
            table.add_row(*map(escape, (name, core, axes, rungs, numbers, _needs(metric), _cost(metric))))
        screen.print(table)


def _title(info: MetricInfo) -> str:
    better = "higher" if info.higher_is_better else "lower"
    rung = "" if info.rung is None else f", rung {info.rung}"
    scored = "scored" if info.scored else "shown"
    return f"{info.name} ({info.axis}{rung}, {scored}, in {info.unit}, {better} is better): {info.question}"


def _needs(metric: Metric) -> str:
    """In words; nothing but the world model itself is a dash."""
    found = []
    for need in metric.needs.values():
        if need == ROLLOUTS:
            found.append("rollouts")
        elif isinstance(need, Probe):
            found.append(f"probe {need.name}")
        elif isinstance(need, Recording):
            found.append(f"simulator ({need.name})")
        else:
            found.append(need.__name__)
    return ", ".join(found) or "–"


def _cost(metric: Metric) -> str:
    load = metric.load(HISTORY, RolloutsConfig())
    parts = {"passes": load.passes, "decoded": load.decoded, "read": load.read}
    return ", ".join(f"{count:,.0f} {name}" for name, count in parts.items() if count) or "–"
