"""One run of the smoke preset for all end-to-end tests, whichever of pytest's processes needs it first."""

import json
import os
from pathlib import Path

import pytest

from terminal import Run, rslwm


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """``rslwm compare smoke``, finished. Tests must leave its folder as it is."""
    ours = tmp_path_factory.getbasetemp()
    shared = ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours
    kept, folder = shared / "smoke.json", shared / "smoke"
    with Run(folder, "", "").undisturbed:
        if not kept.is_file():
            run = rslwm("compare", "smoke", out=folder)
            kept.write_text(json.dumps([run.output, run.progress]))
    return Run(folder, *json.loads(kept.read_text()))
