"""rslwm report"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from rslwm.cli.output import console


@dataclass
class Report:
    """Write the report of a run again from its rows: one HTML file, and every figure as SVG and PNG.

    For instance:
      rslwm report runs/demo
    """

    run_folder: tyro.conf.Positional[Path]
    """What `rslwm compare` was given as --out."""

    def run(self) -> None:
        from rslwm.report.page import build_report
        from rslwm.study.compare import comparisons

        for folder in comparisons(self.run_folder):
            console().print(f"report: {build_report(folder)}", markup=False, soft_wrap=True)
