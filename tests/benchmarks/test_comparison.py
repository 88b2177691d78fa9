"""Pairs of measurements, and the commands that make them at a tiny size."""

import json
import sys
from pathlib import Path

import pytest
from benchmarks.comparison import Comparison, Paired, main

from benchmarks import encode, plan, rollout
from rslwm.bench.measure import Measurement

OURS = Measurement("ours", [1.0, 2.0, 1.0], 8, "frames", flops=3e9, peak=12e9)
BASELINE = Measurement("window recomputed", [5.0, 6.0, 7.0], 4, "frames")
MODEL = ["--size", "demo", "--grid", "2", "--channels", "3", "--dtype", "float32"]


class Made(Paired):
    """Nothing is measured."""

    def compare(self, folder: Path) -> list[Comparison]:
        quality = {"latent error": {"10 steps": 0.25, "clips": 4}}
        return [Comparison("8 frames", OURS, BASELINE, 12.0, quality), Comparison("40 frames", OURS, BASELINE)]


def run(benchmark: type[Paired], words: list[str], out: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """The comparisons that a command line writes to its file."""
    words = [*words, "--device", "cpu", "--threads", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["benchmark", *words])
    main(benchmark)
    return json.loads((out / f"{benchmark.__name__.lower()}.json").read_text())["comparisons"]


def test_ratio_is_the_median_of_the_pairs_in_items_a_second():
    comparison = Comparison("8 frames", OURS, BASELINE)
    assert comparison.ratios == pytest.approx([10.0, 6.0, 14.0])
    assert comparison.ratio == pytest.approx(10.0)


def test_runs_without_a_partner_are_refused():
    with pytest.raises(ValueError, match="8 frames: 1 runs against 3"):
        Comparison("8 frames", Measurement("ours", [1.0], 8, "frames"), BASELINE)


def test_table_and_file_hold_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    first, _ = run(Made, [], tmp_path, monkeypatch)
    assert first["ratio_range"] == pytest.approx([6.0, 14.0])
    assert first["ours"]["share_of_peak"] == 0.25
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("8 frames", "10.00x", "6.00 to 14.00", "12.00x", "25%", "0.6667 frames"))
    assert "latent error: 10 steps 0.25, clips 4" in printed


def test_rollouts_are_compared_with_all_steps_and_with_few(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    asked = ["--frames", "3", "--rounds", "2", "--steps", "3", "--few-steps", "2"]
    full, few = run(rollout.Rollout, [*MODEL, *asked], tmp_path, monkeypatch)
    assert (full["title"], few["title"]) == ("3 frames", "3 frames, 2 steps")
    assert full["baseline"] == few["baseline"]
    assert full["bound"] == pytest.approx(3 * (3 + 4 + 4) / (2 + 3 * 3 + 2))
    assert full["quality"]["largest relative difference over 2 frames"] < 1e-5
    assert "--checkpoint" in capsys.readouterr().out


@pytest.mark.slow
def test_plans_are_compared_in_time_memory_and_agreement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = ["--candidates", "40", "--elites", "4", "--iterations", "2", "--horizon", "2", "--steps", "2"]
    (comparison,) = run(plan.Plan, [*MODEL, *asked], tmp_path, monkeypatch)
    assert comparison["bound"] == pytest.approx(2 * (3 + 4) / (2 * 2 + 1), rel=0.01)
    assert comparison["quality"]["largest difference of the plans"] < 1e-5
    assert comparison["ours"]["peak_bytes"] is not None
    assert comparison["baseline"]["name"] == "context for every candidate"


def test_encoding_is_compared_with_the_network_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = ["effnet-lite0", "--image-size", "32", "--batch", "3", "--rounds", "2"]
    alone, stored = run(encode.Encode, asked, tmp_path, monkeypatch)
    assert alone["baseline"] == stored["baseline"]
    assert alone["ours"]["items"] == alone["baseline"]["items"] == 6
    assert alone["ours"]["flops"] == alone["baseline"]["flops"]
    assert (alone["title"], len(stored["ours"]["seconds"])) == ("effnet-lite0, from frames", 2)


def test_what_cannot_be_measured_is_one_message(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["benchmark", *MODEL, "--context", "4"])
    with pytest.raises(SystemExit, match=r"benchmarks\.rollout: context is 4; size demo takes 1 to 3 frames"):
        main(rollout.Rollout)
