"""The verdict on the terminal."""

import numpy as np
from rich.console import Console

from planted import INFOS, study
from rslwm.verdict.decide import VerdictConfig, decide
from rslwm.verdict.table import render


def test_the_terminal_table_shows_scores_intervals_and_relative_cost():
    verdict = decide(
        study({"good": 0.6, "small-vae": 0.3}, np.random.default_rng(0), seeds=3), INFOS, VerdictConfig(resamples=400)
    )
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(verdict, {"good": 30.0, "small-vae": 20.0}))
    lines = console.export_text().splitlines()
    assert lines[0].split() == [
        "latent",
        "space",
        "family",
        "fidelity",
        "planning",
        "representation",
        "overall",
        "cost",
    ]
    assert lines[1].startswith("good")
    assert lines[1].rstrip().endswith("1.5x")
    assert "reconstruction" in lines[2]
    assert "planning: good (chance of being best over 99 %), ahead of small-vae" in "\n".join(lines)
