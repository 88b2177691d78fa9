"""What networks compute and hold, against closed forms and against networks that really run."""

import pytest
import torch
from torch import Tensor, nn

from rslwm.evals.rollouts import evaluations, generating
from rslwm.flops import PRECISION, Pass, blank, count, training_disk, training_memory
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.model.dit import DiT, DiTConfig, forward_flops
from rslwm.model.flow import FlowConfig, FlowMatching
from rslwm.model.sampler import Sampler, SamplingConfig
from rslwm.optim import OptimConfig
from rslwm.study.stages.latents import compressing, restoring
from rslwm.study.stages.world_model import ACTION_DIMS, denoising, predicting

DIT = DiTConfig(width=24, depth=5, heads=2, patch=1, max_frames=3, wide_head=32)
GRID, CHANNELS = (4, 4), 6


def test_a_linear_layer_is_counted_in_closed_form() -> None:
    found = count(lambda: nn.Linear(5, 7), lambda layer: layer(blank(3, 5)))
    assert found == Pass(flops=2 * 3 * 5 * 7, parameters=5 * 7 + 7, kept=3 * 5 * PRECISION.itemsize)


def test_what_several_layers_need_is_kept_once_and_weights_are_not() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight + x @ self.weight.T

    assert count(Twice, lambda layer: layer(blank(3, 4))).kept == 3 * 4 * PRECISION.itemsize


def test_a_transformers_depth_is_extrapolated_exactly() -> None:
    found = denoising(DIT, GRID, CHANNELS, False)
    dit = DiT(DIT, CHANNELS, ACTION_DIMS)
    assert found.parameters == sum(p.numel() for p in dit.parameters())
    assert found.flops == forward_flops(dit, GRID, frames=3)
    assert predicting(DIT, GRID, CHANNELS) == forward_flops(dit, GRID, frames=1, past=2)


def test_what_a_backward_pass_keeps_is_what_autograd_keeps_of_a_real_one() -> None:
    dit = DiT(DIT, CHANNELS, ACTION_DIMS).to(PRECISION)
    weights = {p.untyped_storage().data_ptr() for p in dit.parameters()}
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        result = dit(blank(1, 3, *GRID, CHANNELS), blank(1, 3), blank(1, 3, ACTION_DIMS))
    assert result.requires_grad
    # On the CPU attention isn't fused, so that its weights are kept, too.
    assert denoising(DIT, GRID, CHANNELS, False).kept == pytest.approx(sum(kept.values()), rel=0.15)


def test_checkpointed_activations_hardly_grow_with_depth() -> None:
    whole, checkpointed = (denoising(DIT, GRID, CHANNELS, flag) for flag in (False, True))
    assert checkpointed.flops == whole.flops
    assert checkpointed.kept < whole.kept / 2


def test_an_adapters_halves_make_a_whole() -> None:
    config = AdapterConfig(blocks=2, heads=2)
    half, whole = compressing(config, 16, 32, 8), restoring(config, 16, 32, 8)
    projections = 2 * 16 * 32 * 8  # the encoder's is twice as wide
    assert whole.flops - half.flops == half.flops - projections


@pytest.mark.parametrize(
    ("sampling", "passes"),
    [
        (SamplingConfig(steps=10), 10),
        (SamplingConfig(steps=10, method="heun"), 19),
        (SamplingConfig(steps=4, guidance=2.0), 8),
    ],
)
def test_velocities_of_a_frame(sampling: SamplingConfig, passes: int) -> None:
    assert evaluations(sampling) == passes


@pytest.mark.parametrize("candidates", [1, 3])
def test_frames_of_a_rollout_are_those_that_the_transformer_really_sees(
    candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dit, sampling, seen = DiT(DIT, CHANNELS, 7), SamplingConfig(steps=3), []
    extend = dit.extend
    monkeypatch.setattr(dit, "extend", lambda x, *rest: seen.append(len(x) * x.shape[1]) or extend(x, *rest))
    with torch.no_grad():
        sampler = Sampler(dit, FlowMatching(FlowConfig()))
        state = sampler.start(torch.zeros(2, 2, *GRID, CHANNELS), torch.zeros(2, 1, 7)).fork(candidates)
        for _ in range(4):
            rows = 2 * candidates
            state, _ = sampler.step(state, torch.zeros(rows, 7), torch.zeros(rows, *GRID, CHANNELS), sampling)
    assert sum(seen) == 2 * (2 + candidates * generating(sampling, 0, 4))


def test_memory_and_disk_of_a_training() -> None:
    one = Pass(flops=0.0, parameters=1000, kept=50.0)
    plain, averaged = OptimConfig(batch_size=8), OptimConfig(batch_size=8, ema=0.9, keep=2)
    assert training_memory(plain, one) == (4 * 4 + 2) * 1000 + 8 * 50
    assert training_memory(averaged, one) == (4 * 5 + 2) * 1000 + 8 * 50
    assert training_disk(plain, 1000) == 4 * 1000 * (3 + 1)
    assert training_disk(averaged, 1000) == 4 * 1000 * (2 * 4 + 1)
