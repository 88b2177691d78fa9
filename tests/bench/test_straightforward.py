"""The straightforward implementation computes the published function, and what ours computes."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from rslwm.bench.config import PlanBenchConfig, RolloutBenchConfig
from rslwm.bench.passes import cached, recomputed
from rslwm.bench.plan import Plans
from rslwm.bench.rollout import Rollouts
from rslwm.bench.straightforward.dit import StraightforwardDiT
from rslwm.bench.straightforward.sampler import StraightforwardSampler
from rslwm.model.dit import DiTConfig

GOLDEN = Path(__file__).parents[1] / "golden"
ROLLOUT = RolloutBenchConfig(size="demo", grid=4, channels=3, frames=(3,), batch=2, steps=3)
PLAN = PlanBenchConfig(size="demo", grid=4, channels=3, steps=3, candidates=12, iterations=2, elites=3, horizon=2)
MAX_FRAMES = DiTConfig().max_frames


def difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("name", ["dit_wide_p1", "dit_plain_p2"])
def test_equals_the_published_one_with_its_weights(name: str) -> None:
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        config, sampling = (json.loads(file.metadata()[key]) for key in ("config", "sampler"))
    architecture = DiTConfig(
        width=config["dim"],
        depth=config["num_layers"],
        heads=config["num_heads"],
        patch=config["patch_size"],
        wide_head=config["decoder_dim"] if config["wide_head"] else 0,
        max_frames=config["max_frames"],
    )
    dit = StraightforwardDiT(architecture, config["in_channels"], config["action_dim"])
    dit.load_state_dict({key.removeprefix("weights."): x for key, x in tensors.items() if key.startswith("weights.")})
    with torch.no_grad():
        assert difference(dit(tensors["x"], tensors["t"], tensors["actions"]), tensors["y"]) < 1e-5

    context, noise = tensors["rollout_context"], tensors["rollout_noise"].squeeze(2).transpose(0, 1)
    sampler = StraightforwardSampler(dit, sampling["shift"], sampling["context_t"])
    future = sampler.rollout(context, tensors["rollout_actions"], noise, sampling["steps"])
    assert difference(future, tensors["rollout"][:, context.shape[1] :]) < 1e-4


def test_rolls_out_what_ours_does_until_the_window_slides(compute) -> None:
    rollouts = Rollouts(ROLLOUT, compute)
    ours, theirs = rollouts.ours(3, ROLLOUT.steps), rollouts.baseline(3, ROLLOUT.steps)
    before = MAX_FRAMES - ROLLOUT.context
    assert difference(ours[:, :before], theirs[:, :before]) < 1e-5
    assert difference(ours[:, before:], theirs[:, before:]) > 1e-5


def test_plans_what_ours_does(compute) -> None:
    plans = Plans(PLAN, compute)
    ours = plans.ours(plans.search)
    assert ours.shape == (1, PLAN.horizon, 7)
    assert ours.abs().max() > 0.05
    assert torch.allclose(ours, plans.baseline(plans.search), atol=1e-5)


def test_views_and_joint_attention_are_refused() -> None:
    with pytest.raises(ValueError, match="not joint"):
        StraightforwardDiT(DiTConfig(temporal="joint"), 3, 7)


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch):
    """Counts the frames that pass through a transformer."""

    def watch(dit: torch.nn.Module, method: str) -> list[int]:
        seen: list[int] = []
        original = getattr(dit, method)
        monkeypatch.setattr(dit, method, lambda x, *rest: seen.append(x.shape[0] * x.shape[1]) or original(x, *rest))
        return seen

    return watch


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_passes_of_a_rollout(frames: int, compute, count) -> None:
    rollouts = Rollouts(RolloutBenchConfig(size="demo", grid=2, channels=3, frames=(5,), steps=3), compute)
    ours, theirs = count(rollouts.model.dit, "extend"), count(rollouts.published.dit, "forward")
    rollouts.ours(frames, 3)
    rollouts.baseline(frames, 3)
    assert sum(ours) == cached(frames, 2, 3, MAX_FRAMES)
    assert sum(theirs) == recomputed(frames, 2, 3, MAX_FRAMES)


def test_passes_of_a_plan(compute, count) -> None:
    plans, futures = Plans(PLAN, compute), PLAN.candidates * PLAN.iterations
    ours, theirs = count(plans.model.dit, "extend"), count(plans.published.dit, "forward")
    plans.ours(plans.search)
    plans.baseline(plans.search)
    assert sum(ours) == pytest.approx(futures * cached(PLAN.horizon, PLAN.context, PLAN.steps, MAX_FRAMES, futures))
    assert sum(theirs) == futures * recomputed(PLAN.horizon, PLAN.context, PLAN.steps, MAX_FRAMES)


def test_bounds_are_those_of_counting_by_hand() -> None:
    bounds = {frames: recomputed(frames, 2, 10, 10) / cached(frames, 2, 10, 10) for frames in (8, 40)}
    assert bounds == {8: 520 / 89, 40: 3720 / 441}
    assert recomputed(4, 2, 10, 10) / cached(4, 2, 10, 10, futures=2000) == pytest.approx(180 / 43, rel=1e-4)
