import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rslwm.model.dit import DiTConfig
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModelConfig
from rslwm.plan.base import MEGABYTE, PlanConfig, row_bytes, rows_at_once

MODEL = WorldModelConfig(dit=DiTConfig(width=128, depth=4, heads=2, patch=1, max_frames=6))
LATENT = (8, 8, 16)
FUTURES = 40
PLAN = """
import sys
from test_memory import LATENT, MODEL, peak_bytes
import torch
from torch import nn
from rslwm.plan.base import PlanConfig
from rslwm.model.world_model import WorldModel
from rslwm.plan.base import plan
from rslwm.types import LatentSpec, end_effector_spec

class Space(nn.Module):
    spec = LatentSpec("toy", "reconstruction", LATENT[:2], LATENT[2])

torch.set_num_threads(1)
model = WorldModel(Space(), end_effector_spec(0.05, 0.25), MODEL, torch.Generator().manual_seed(0))
horizon, futures = map(int, sys.argv[1:])

def search(candidates):
    config = PlanConfig(horizon=horizon, candidates=candidates, iterations=2, elites=1, memory_mb=10_000)
    context, past, goals = torch.zeros(1, 3, *LATENT), torch.zeros(1, 2, 7), torch.zeros(1, horizon, *LATENT)
    plan(model, context, past, goals, config, torch.Generator().manual_seed(0))

search(1)
before = peak_bytes()
search(1 + futures)
print(peak_bytes() - before)
"""


def peak_bytes() -> int:
    """The most resident memory that this process has had (a child's resource usage would start at its parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
@pytest.mark.parametrize("horizon", [1, 4])
def test_a_process_grows_by_what_the_formula_says(horizon: int) -> None:
    command = [sys.executable, "-c", PLAN, str(horizon), str(FUTURES)]
    grown = int(subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, check=True, text=True).stdout)
    expected = FUTURES * row_bytes(MODEL, LATENT, PlanConfig(horizon=horizon), torch.float32)
    assert expected / 2 < grown < expected * 2


def test_half_the_precision_makes_room_for_nearly_twice_as_many() -> None:
    config = PlanConfig(memory_mb=1000)
    full, half = (rows_at_once(MODEL, LATENT, config, dtype) for dtype in (torch.float32, torch.bfloat16))
    assert 1.8 * full < half <= 2 * full + 1


def test_at_least_one_future_is_imagined() -> None:
    assert rows_at_once(MODEL, LATENT, PlanConfig(memory_mb=1e-6), torch.float32) == 1


@pytest.mark.parametrize(
    ("config", "model"),
    [
        (PlanConfig(horizon=2), MODEL),
        (PlanConfig(sampling=SamplingConfig(full_window=True)), MODEL),
        (PlanConfig(), replace(MODEL, alignment="outgoing")),
        (PlanConfig(), replace(MODEL, dit=replace(MODEL.dit, temporal="joint"))),
        (PlanConfig(), replace(MODEL, dit=replace(MODEL.dit, wide_head=2048))),
    ],
    ids=["horizon", "full window", "outgoing", "joint", "wide head"],
)
def test_what_costs_memory_is_counted(config: PlanConfig, model: WorldModelConfig) -> None:
    assert row_bytes(model, LATENT, config, torch.float32) > 1.2 * row_bytes(MODEL, LATENT, PlanConfig(), torch.float32)


def test_a_window_of_the_default_world_model_fits_the_default_memory() -> None:
    needed = row_bytes(WorldModelConfig(), LATENT, PlanConfig(), torch.float32)
    assert needed * PlanConfig().candidates < PlanConfig().memory_mb * MEGABYTE
