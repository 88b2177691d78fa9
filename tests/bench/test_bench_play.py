"""`rslwm bench play`, whose numbers are those of a session and of a real connection."""

import json
from pathlib import Path

import pytest

from grounds import ground
from rslwm.bench.play import Play
from rslwm.cli.main import FAILED, main
from rslwm.play.playground import Playground

pytest.importorskip("uvicorn", reason="needs the extra play")


class Tiny(Play):
    """Of tiny models."""

    def grounds(self) -> dict[str, Playground]:
        return {"one space": self.tiny}  # type: ignore[attr-defined]


def test_frames_and_keys_are_timed(plugin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Tiny(rounds=2, actions=2, keys=3, device="cpu", dtype="float32", out=tmp_path)
    bench.tiny = ground(plugin)  # type: ignore[attr-defined]
    bench.run()
    record = json.loads((tmp_path / "tiny.json").read_text())
    (found,) = record["measurements"]
    assert (found["name"], found["unit"], len(found["seconds"])) == ("one space", "frames", 2)
    assert [len(lags) for lags in record["key_to_frame_seconds"].values()] == [2]
    assert "p95" in capsys.readouterr().out


def test_what_cannot_be_timed_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "play", "--keys", "0"]) == FAILED
    assert "keys is 0" in capsys.readouterr().err
