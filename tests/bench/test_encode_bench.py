"""`rslwm bench encode` at a tiny size."""

from pathlib import Path

import pytest

from rslwm.bench.result import load
from rslwm.cli.main import FAILED, main

ASKED = ["--batch", "3", "--episodes", "2", "--rounds", "2", "--threads", "1", "--device", "cpu"]


def test_encoding_is_compared_with_the_network_alone(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["bench", "encode", "effnet-lite0", "--image-size", "32", *ASKED, "--out", str(tmp_path)]) == 0
    alone, stored = load(tmp_path / "encode.json")
    assert (alone.title, stored.title) == ("effnet-lite0, from frames", "effnet-lite0, from store to store")
    assert alone.baseline == stored.baseline
    assert alone.ours.items == alone.baseline.items == 6
    assert alone.ours.flops == alone.baseline.flops
    assert len(stored.ours.seconds) == 2
    assert alone.settings["encoder"]["preprocessing"]["size"] == 128
    assert "bare network" in capsys.readouterr().out


def test_an_encoder_of_ones_own_is_compared_with_itself(plugin: Path, tmp_path: Path):
    assert main(["bench", "encode", f"{plugin}:PatchMean", *ASKED, "--out", str(tmp_path)]) == 0
    alone, _ = load(tmp_path / "encode.json")
    assert alone.title == "patch-mean, from frames"


def test_an_unknown_encoder_is_named(capsys: pytest.CaptureFixture):
    assert main(["bench", "encode", "small-nothing", *ASKED]) == FAILED
    assert "small-nothing" in capsys.readouterr().err
