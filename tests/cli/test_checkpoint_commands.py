"""rslwm rollout and eval on data of the user's own."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rslwm import shipping
from rslwm.cli import checkpoint
from rslwm.cli.main import FAILED, main
from rslwm.data.config import DataConfig
from rslwm.model.world_model import WorldModel
from rslwm.shipping import Card
from rslwm.study.config import StudyConfig
from rslwm.types import DataError


@pytest.mark.parametrize("command", ["rollout", "eval"])
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], ("lerobot:trained", ("action=actions",), "a.yaml")),
        (["--data", "lerobot:other"], ("lerobot:other", (), "")),
        (
            ["--data", "lerobot:other", "--data.features", "action=act", "--data.action-spec", "b.yaml"],
            ("lerobot:other", ("action=act",), "b.yaml"),
        ),
    ],
)
def test_other_data_have_names_and_a_spec_of_their_own(
    command: str, flags: list[str], expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = DataConfig("lerobot:trained", features=("action=actions",), action_spec="a.yaml")
    asked: list[DataConfig] = []

    def stop(*given: Any, **more: Any) -> None:
        read = (each.data if isinstance(each, StudyConfig) else each for each in given)
        asked.extend(each for each in read if isinstance(each, DataConfig))
        raise DataError("enough")

    monkeypatch.setattr(WorldModel, "load", lambda folder: SimpleNamespace(data=trained, seen=None))
    monkeypatch.setattr(checkpoint, "open_corpus", stop)
    monkeypatch.setattr(checkpoint, "evaluate", stop)
    assert main([command, str(tmp_path / "a"), "--out", str(tmp_path / "out"), *flags]) == FAILED
    assert [(data.uri, data.features, data.action_spec) for data in asked] == [expected]


@pytest.mark.parametrize("command", ["rollout", "eval"])
def test_a_shipped_world_model_goes_by_name_on_as_few_episodes_as_are_asked_for(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shipped/points/small-vae"
    folder.mkdir(parents=True)
    Card("small-vae", "points", "", {}, 0, {}, 1, {}, {}, {}, {}).save(folder)
    monkeypatch.setattr(shipping, "SHIPPED", tmp_path / "shipped")
    asked: list[Any] = []

    def load(named: Path) -> SimpleNamespace:
        asked[:] = [named]
        return SimpleNamespace(data=DataConfig(frame_skip=3), seen=None)

    def stop(*given: Any, **more: Any) -> None:
        asked.extend(given)
        raise DataError("enough")

    monkeypatch.setattr(WorldModel, "load", load)
    monkeypatch.setattr(checkpoint, "open_corpus", stop)
    monkeypatch.setattr(checkpoint, "evaluate", stop)
    assert main([command, "small-vae@points", "--episodes", "40", "--out", str(tmp_path / "out")]) == FAILED
    assert asked[0] == folder
    data = next(each for each in (getattr(x, "data", x) for x in asked[1:]) if isinstance(each, DataConfig))
    assert (data.frame_skip, data.sim.episodes) == (3, 40)
