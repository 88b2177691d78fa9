"""rslwm ship says what it wrote, how large it is, and what packing cost."""

from dataclasses import replace
from pathlib import Path

import pytest

from rslwm.cli import ship as command
from rslwm.cli.main import main
from rslwm.shipping import Card, Check
from rslwm.study.ship import Packed

CARD = Card("small-vae", "points", "rslwm compare points", {}, 0, {}, 1, {}, {}, {}, {})
CHECK = Check(24, 16, 18.25, 17.0, 22.125, rollout_before=18.5, decoded_before=22.25)


def test_it_prints_folders_sizes_and_what_packing_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []
    for name in ("checked", "unchecked"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(bytes(1_500_000))

    def ship(*words: object) -> list[Packed]:
        asked.append(words)
        checked = replace(CARD, check=CHECK)
        return [Packed(tmp_path / "checked", checked), Packed(tmp_path / "unchecked", replace(CARD, name="mine"))]

    monkeypatch.setattr(command, "ship", ship)
    assert main(["ship", str(tmp_path), "--as", "points", "--seed", "1"]) == 0
    assert asked == [(tmp_path, "points", tmp_path / "shipped", 1)]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [f"{tmp_path / 'checked'}:", "1.5", "MB"] in lines
    assert ["small-vae", "1.5", "MB", "18.250", "18.500", "22.125", "22.250", "17.000"] in lines
    assert any(line[:5] == ["mine", "1.5", "MB", "not", "measured:"] for line in lines)
    assert ["all", "together:", "3.0", "MB"] in lines
