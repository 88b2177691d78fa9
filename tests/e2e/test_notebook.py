"""The notebook runs from its first cell to its last, with little to do."""

import json
import os
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs/notebooks/own_encoder.ipynb"
MOST = 30
"""Lines of code."""
SMALL = [
    *("--metrics", "visual", "--jobs", "1", "--data.sim.episodes", "6", "--world-model.optim.steps", "2"),
    *("--decoder.optim.steps", "2", "--compute.device", "cpu"),
]


def cells() -> list[str]:
    found = json.loads(NOTEBOOK.read_text())["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]


def test_it_is_short_and_holds_no_output() -> None:
    lines = [line for cell in cells() for line in cell.splitlines() if line.strip()]
    assert len(lines) <= MOST
    assert all(not cell.get("outputs") for cell in json.loads(NOTEBOOK.read_text())["cells"])


@pytest.mark.slow
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.chdir(tmp_path)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source = (
        f'DATA, PRESET, OUT = "sim:tabletop", "smoke", "mine"\nSPACES, MORE = ["small-vae@tabletop"], {SMALL}'
    )
    done = nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    printed = [output.get("text", "") for cell in done.cells for output in cell.get("outputs", [])]
    assert "Mine" in "".join(printed)
    assert (tmp_path / "mine/report/index.html").is_file()
