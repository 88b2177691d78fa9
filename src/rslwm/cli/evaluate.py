"""rslwm eval"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.table import Table

from rslwm.cli.checkpoint import CheckpointCommand
from rslwm.cli.output import console, report_failures
from rslwm.compute import ComputeConfig
from rslwm.evals.config import EvalConfig
from rslwm.serialisation import ConfigError
from rslwm.study.config import StudyConfig
from rslwm.verdict.decide import Verdict, VerdictConfig, decide


@dataclass
class Evaluate(CheckpointCommand):
    """Measure one world model with every metric, on any data whose actions mean the same.

    Probes are trained on the training episodes, everything is measured on held-out ones; each value stands between what
    knows nothing (floor) and what loses nothing (ceiling), with its interval over episodes. Writes rows.parquet.

    For instance:
      rslwm eval runs/demo/checkpoints/small-vae --out runs/eval
      rslwm eval runs/demo/checkpoints/small-vae --data lerobot:my_robot --evaluation.rollouts.clips 128 --out runs/eval
    """

    seen: bool = False
    """Measure also on held-out episodes that the model was trained on, which tells what it remembers; without it they
    are left out."""
    stream_above_kb: float = StudyConfig.stream_above_kb
    """Latents of which a frame takes more aren't stored, but encoded anew whenever they are read; 0 stores all."""
    jobs: int = 0
    """Stages that run side by side; 0 is as many as fit the cores."""
    metrics: tuple[str, ...] = StudyConfig.metrics
    """Metrics: all (that are installed), NAME, path/to/file.py:Class, each optionally as NAME[FIELD=VALUE,...]."""
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)

    def run(self) -> None:
        from rslwm.model.world_model import WorldModel
        from rslwm.study.checkpoint import evaluate

        if (self.out / "study.json").is_file():
            raise ConfigError(f"{self.out} holds a comparison, whose rows this would overwrite; give another --out")
        model = WorldModel.load(self.checkpoint)
        data, stages = self.source(model)
        measured, seen = evaluate(
            self.checkpoint, data, self.evaluation, self.compute, stages, self.jobs, self.stream_above_kb, self.seen,
            self.metrics,
        )  # fmt: skip
        self.out.mkdir(parents=True, exist_ok=True)
        measured.rows.save(self.out / "rows.parquet")
        screen = console()
        screen.print(_table(decide(measured.rows, measured.infos, self.verdict)))
        for metric in measured.unavailable:
            screen.print(f"not available: {metric.metric}: {metric.reason}", markup=False)
        if model.seen is None:
            screen.print("The checkpoint doesn't say which episodes it was trained on: some may be among these.")
        elif seen:
            screen.print(_said(seen, self.seen), markup=False)
        screen.print(f"\nrows: {self.out / 'rows.parquet'}", markup=False, soft_wrap=True)
        if measured.failed:
            report_failures(measured.failed)


def _said(seen: Sequence[str], measured: bool) -> str:
    what = "are measured, too (--seen)" if measured else "are left out; --seen measures them, too"
    return f"{len(seen)} held-out episodes that the model was trained on {what}: {seen[0]}{', ...' * (len(seen) > 1)}"


def _table(verdict: Verdict) -> Table:
    table = Table("axis", "metric", "value", "interval", "floor", "ceiling", "unit", "better", "units", box=None)
    for summary in verdict.metrics:
        info, bar = summary.info, summary.bars[0]
        better = "higher" if info.higher_is_better else "lower"
        numbers = (_number(bar.value), f"[{_number(bar.low)} {_number(bar.high)}]")
        # An analytic floor or ceiling, such as r = 0, has no rows.
        floor, ceiling = (
            _number(measured if known is None else known)
            for measured, known in ((bar.floor, info.floor_value), (bar.ceiling, info.ceiling_value))
        )
        unit = "" if info.unit == "1" else info.unit
        table.add_row(info.axis, info.name, *numbers, floor, ceiling, unit, better, str(summary.units))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
