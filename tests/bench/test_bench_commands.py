"""Every `rslwm bench` command at a tiny size."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rslwm.bench.generation import Plan, Plans, Rollout, Rollouts
from rslwm.bench.training import Data, Train, Trainings
from rslwm.cli.main import FAILED, main

MODEL = "--size demo --grid 2 --channels 3 --dtype float32"
CLIPS = "--grid 4 --channels 6 --frames 3 --episodes 2 --length 7"
COMMANDS = {
    "rollout": (f"{MODEL} --frames 3 --steps 2", ["3 frames at 2 steps"], "frames"),
    "plan": (f"{MODEL} --candidates 8 --elites 2 --horizon 2 --steps 2", ["context shared"], "plans"),
    "train": (f"{CLIPS} --size demo --dtype bfloat16", ["step of a DiT-demo, bfloat16"], "clips"),
    "data": (f"{CLIPS} --batches 2", ["clips of 0.000576 MB from the store, one core"], "clips"),
    "decode": ("--grid 2 --channels 6 --image-size 16 --decoders sub-pixel", ["sub-pixel decoder"], "frames"),
    "encode": (
        "effnet-lite0 --image-size 32 --batch 3",
        ["effnet-lite0, from frames", "effnet-lite0, from store to store"],
        "frames",
    ),
    "sim": ("--max-steps 3", ["expert and physics", "rendering", "recorded steps"], "steps"),
}
SMALL = {"device": "cpu", "dtype": "float32", "size": "demo", "grid": 2, "channels": 3}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "plan")) for name in COMMANDS])
def test_the_command_prints_and_writes_what_it_measured(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    asked, expected, unit = COMMANDS[name]
    words = ["bench", name, *asked.split(), "--rounds", "2", "--threads", "1", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    record = json.loads((tmp_path / f"{name}.json").read_text())
    found = record["measurements"]
    assert [measurement["name"] for measurement in found] == expected
    assert all(measurement["name"] in printed and measurement["unit"] == unit for measurement in found)
    assert all(len(measurement["seconds"]) == 2 and measurement["rate"] > 0 for measurement in found)
    assert record["settings"]["rounds"] == 2
    if name not in ("data", "sim"):
        slow = "bfloat16" in asked and not torch.ops.mkldnn._is_mkldnn_bf16_supported()  # a peak of large products only
        assert all(0 < measurement["share_of_peak"] < (math.inf if slow else 2) for measurement in found)
    if name == "plan":
        assert found[0]["peak_bytes"] is not None


def test_an_encoder_of_ones_own_is_measured(plugin: Path, capsys: pytest.CaptureFixture[str]):
    words = ["--batch", "3", "--rounds", "1", "--threads", "1", "--device", "cpu"]
    assert main(["bench", "encode", f"{plugin}:PatchMean", *words]) == 0
    assert "patch-mean, from frames" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("encode small-nothing", "small-nothing"),
        ("decode --decoders nope", "'nope' is not one of 'sub-pixel', 'ldm'"),
        ("rollout --size demo --context 4", "context is 4; size demo takes 1 to 3 frames"),
        ("data --rounds 0", "rounds is 0"),
    ],
)
def test_what_cannot_be_measured_is_named(asked: str, message: str, capsys: pytest.CaptureFixture[str]):
    assert main(["bench", *asked.split(), "--threads", "1"]) == FAILED
    assert message in capsys.readouterr().err


def test_measuring_leaves_the_number_of_threads_alone(tmp_path: Path):
    before = torch.get_num_threads()
    (feed,) = Data(grid=4, channels=6, frames=3, episodes=2, length=7).cases(tmp_path)
    feed.work()
    assert torch.get_num_threads() == before


def test_clips_have_the_size_that_is_told(tmp_path: Path):
    bench = Data(grid=4, channels=6, frames=3, episodes=2, length=7)
    clips = bench.clips(tmp_path)
    assert clips.store.nbytes == bench.clip_bytes / bench.frames * bench.episodes * bench.length


def test_the_flops_of_a_training_step_are_those_that_it_executes(tmp_path: Path):
    bench = Train(**{**SMALL, "grid": 4}, frames=3, episodes=2, length=7, batch=2, accumulate=2)
    trainings = Trainings(bench, bench.clips(tmp_path))
    with FlopCounterMode(display=False) as counter:
        trainings.ours(bench.compute)
    # A step needs no gradient of the latents: less than a hundredth.
    assert trainings.case(bench.compute).flops == pytest.approx(counter.get_total_flops(), rel=0.03)


def count_frames(dit: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The frames that pass through a transformer from now on."""
    seen: list[int] = []
    extend = dit.extend
    monkeypatch.setattr(dit, "extend", lambda x, *rest: seen.append(x.shape[0] * x.shape[1]) or extend(x, *rest))
    return seen


def test_frames_of_a_rollout_are_counted(monkeypatch: pytest.MonkeyPatch):
    rollouts = Rollouts(Rollout(**SMALL, frames=5, batch=2))
    seen = count_frames(rollouts.model.dit, monkeypatch)
    rollouts.ours(5, 3)
    assert sum(seen) == 2 * rollouts.passes(3)


def test_frames_of_a_plan_are_counted(monkeypatch: pytest.MonkeyPatch):
    bench = Plan(**SMALL, steps=3, candidates=12, iterations=2, elites=3, horizon=2)
    plans = Plans(bench)
    seen = count_frames(plans.model.dit, monkeypatch)
    plans.plan(bench.search)
    assert sum(seen) == plans.passes
