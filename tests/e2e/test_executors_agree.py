"""Where stages run changes no row."""

from pathlib import Path

import numpy as np
import pytest

from clusters import SUBMITIT, needs_ray, needs_submitit
from rslwm.evals.rows import DTYPES, Rows
from terminal import Run, rslwm


def same_to_the_last_bit(some: Rows, others: Rows) -> bool:
    """Whether every column is, numbers by their bytes."""
    numbers = [name for name, dtype in DTYPES.items() if dtype is float]
    names = [name for name in DTYPES if name not in numbers]
    return all(some[name].tobytes() == others[name].tobytes() for name in numbers) and all(
        some[name].tolist() == others[name].tolist() for name in names
    )


@pytest.mark.parametrize(
    ("executor", "jobs"),
    [
        ("local", 1),
        pytest.param("ray[address=local]", 2, marks=needs_ray),
        pytest.param(SUBMITIT, 2, marks=needs_submitit),
    ],
)
def test_rows_are_those_of_two_processes(smoke: Run, tmp_path: Path, executor: str, jobs: int):
    words = ("compare", "smoke", "--latents", "small-vae", "--metrics", "gripper_readout,visual")
    run = rslwm(*words, "--executor", executor, "--jobs", str(jobs), out=tmp_path)
    assert any(name.startswith("world-model") for name in run.made)
    found, known = (Rows.load(folder / "rows.parquet") for folder in (tmp_path, smoke.folder))
    known = known.where((known["latent"] == "small-vae") & np.isin(known["metric"], found.distinct("metric")))
    assert same_to_the_last_bit(found, known)
