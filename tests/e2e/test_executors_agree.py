"""Where stages run changes no row."""

from pathlib import Path

import pytest

from clusters import SUBMITIT, needs_ray, needs_submitit
from rslwm.evals.rows import DTYPES, Rows
from terminal import Run, rslwm


def rows_of(folder: Path, latents: tuple[str, ...]) -> dict[str, list | bytes]:
    """Every column of some spaces' rows; numbers as their bytes."""
    rows = Rows.load(folder / "rows.parquet")
    kept = [rows.where(rows["latent"] == latent) for latent in latents]
    return {
        f"{name} {i}": part[name].tobytes() if name in ("value", "target") else part[name].tolist()
        for i, part in enumerate(kept)
        for name in DTYPES
    }


@pytest.mark.parametrize(
    ("executor", "jobs", "latents"),
    [
        ("local", 1, ("small-vae",)),
        ("local", 2, ("small-vae", "small-dino+16")),
        pytest.param("ray[address=local]", 2, ("small-vae", "small-dino+16"), marks=needs_ray),
        pytest.param(SUBMITIT, 2, ("small-vae",), marks=needs_submitit),
    ],
)
def test_rows_are_the_same_to_the_last_bit(
    smoke: Run, tmp_path: Path, executor: str, jobs: int, latents: tuple[str, ...]
):
    words = ("compare", "smoke", "--latents", ",".join(latents), "--executor", executor, "--jobs", str(jobs))
    run = rslwm(*words, out=tmp_path)
    assert any(name.startswith("world-model") for name in run.made)
    assert rows_of(tmp_path, latents) == rows_of(smoke.folder, latents)
