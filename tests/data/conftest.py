import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recordings import SPEC, episode
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.lerobot import write_lerobot
from rslwm.types import Episode


@pytest.fixture
def episodes() -> list[Episode]:
    return [episode(i, length=6 + i) for i in range(4)]


@pytest.fixture
def dataset(episodes: list[Episode], tmp_path: Path) -> EpisodeDataset:
    return write_lerobot(episodes, tmp_path / "set", SPEC, state_names={"gripper": ["x", "y", "z"]})


@pytest.fixture
def edit_info() -> Callable[[EpisodeDataset, Callable[[dict[str, Any]], object]], EpisodeDataset]:
    """Changes ``meta/info.json`` of a data set and opens it again."""

    def edit(dataset: EpisodeDataset, change: Callable[[dict[str, Any]], object]) -> EpisodeDataset:
        info = json.loads(dataset.info_file.read_text())
        change(info)
        dataset.info_file.write_text(json.dumps(info))
        return EpisodeDataset(dataset.root)

    return edit


@pytest.fixture(scope="session")
def bridge() -> Path:
    """25 episodes of BridgeData V2 in RLDS form, which are not part of the repository."""
    folder = Path(__file__).parents[2] / "../shared/data/bridge_sample"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return folder
