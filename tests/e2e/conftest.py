"""One run of the smoke preset for all end-to-end tests."""

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
    return rslwm("compare", "smoke", out=tmp_path_factory.mktemp("run") / "smoke")
