"""The straightforward implementation computes the published function, and what ours computes."""

import json
from pathlib import Path

import pytest
import torch
from benchmarks.plan import Plan, WholeContexts
from benchmarks.rollout import PairedRollouts, Rollout, passes
from benchmarks.straightforward.dit import StraightforwardDiT
from benchmarks.straightforward.sampler import StraightforwardSampler
from safetensors import safe_open
from torch import Tensor

from rslwm.bench.generation import Plans
from rslwm.model.dit import DiTConfig

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL = {"size": "demo", "grid": 2, "channels": 3, "steps": 3, "device": "cpu", "dtype": "float32"}
ROLLOUT = Rollout(**MODEL, frames=3, batch=2)
PLAN = Plan(**MODEL, candidates=12, iterations=2, elites=3, horizon=2)


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


def test_rolls_out_what_ours_does_until_the_window_slides() -> None:
    pair = PairedRollouts(ROLLOUT)
    ours, theirs = pair.ours(3, ROLLOUT.steps), pair.baseline(3, ROLLOUT.steps)
    before = pair.window - ROLLOUT.context
    assert difference(ours[:, :before], theirs[:, :before]) < 1e-5
    assert difference(ours[:, before:], theirs[:, before:]) > 1e-5
    (found,) = pair.difference().values()
    assert found < 1e-5


def test_plans_what_ours_does() -> None:
    ours = Plans(PLAN).plan(PLAN.search)
    assert ours.shape == (1, PLAN.horizon, 7)
    assert ours.abs().max() > 0.05
    assert torch.allclose(ours, WholeContexts(PLAN).plan(PLAN.search), atol=1e-5)


def test_views_and_joint_attention_are_refused() -> None:
    with pytest.raises(ValueError, match="not joint"):
        StraightforwardDiT(DiTConfig(temporal="joint"), 3, 7)


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch):
    """Counts the frames that pass through a straightforward transformer."""

    def watch(dit: torch.nn.Module) -> list[int]:
        seen: list[int] = []
        forward = dit.forward
        monkeypatch.setattr(dit, "forward", lambda x, *rest: seen.append(x.shape[0] * x.shape[1]) or forward(x, *rest))
        return seen

    return watch


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_passes_of_a_rollout(frames: int, count) -> None:
    pair = PairedRollouts(Rollout(**MODEL, frames=frames))
    seen = count(pair.published.dit)
    pair.baseline(frames, 3)
    assert sum(seen) == pair.anew == passes(frames, 2, 3, DiTConfig().max_frames)


def test_passes_of_a_plan(count) -> None:
    plans = WholeContexts(PLAN)
    seen = count(plans.published.dit)
    plans.plan(PLAN.search)
    assert sum(seen) == plans.passes


@pytest.mark.parametrize(("frames", "by_hand"), [(8, 520), (40, 3720)])
def test_passes_are_those_of_counting_by_hand(frames: int, by_hand: int) -> None:
    assert passes(frames, context=2, steps=10, max_frames=10) == by_hand
