"""rslwm policy train."""

import json
from pathlib import Path

import pytest

from rslwm.actors import policies
from rslwm.actors.policies import PolicyConfig
from rslwm.actors.sight import SightConfig
from rslwm.cli.main import FAILED, main
from rslwm.optim import OptimConfig

TINY = PolicyConfig(sight=SightConfig(width=16), episodes=4, optim=OptimConfig(steps=2, batch_size=4))


@pytest.fixture(autouse=True)
def ladder(monkeypatch: pytest.MonkeyPatch) -> None:
    """One policy that costs nothing."""
    monkeypatch.setattr("rslwm.actors.lessons.FILE", 4)
    monkeypatch.setattr("rslwm.cli.policy_train.KNOWN", {"tiny": TINY})


def test_a_policy_is_trained_and_counted_once(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    line = ["policy", "train", "tiny,still", "--out", str(tmp_path), "--trials", "1"]
    assert main(line) == 0
    assert "tiny" in capsys.readouterr().out
    card = policies.card("tiny", tmp_path)
    assert card["command"] == "rslwm policy train tiny"
    assert card["success"]["all"]["trials"] == 4
    assert json.loads((tmp_path / "references.json").read_text())["still"]["all"]["successes"] == 0
    written = (tmp_path / "tiny.safetensors").stat().st_mtime_ns
    assert main([*line[:2], "tiny", *line[3:]]) == 0
    assert (tmp_path / "tiny.safetensors").stat().st_mtime_ns == written
    policies.load("tiny", tmp_path)


def test_an_unknown_policy_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["policy", "train", "tinny", "--out", str(tmp_path)]) == FAILED
    assert "no policy called 'tinny'" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]
