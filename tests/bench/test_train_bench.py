"""Both trainings compute the same; what is counted, where time goes, and `rslwm bench train` at a tiny size."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rslwm.bench.config import TrainBenchConfig
from rslwm.bench.footage import write_footage
from rslwm.bench.profile import BETWEEN, OPTIMISER, shares
from rslwm.bench.train import Trainings, measure
from rslwm.cli.main import main
from rslwm.compute import ComputeConfig
from tiny_footage import TINY, flags

CONFIG = TrainBenchConfig(**vars(TINY), size="demo", batch=2, accumulate=2, rounds=2)


@pytest.fixture
def trainings(tmp_path: Path, compute: ComputeConfig) -> Trainings:
    return Trainings(write_footage(CONFIG, tmp_path), CONFIG, compute)


def test_both_trainings_have_the_same_loss_and_gradient(trainings: Trainings):
    ours, theirs = trainings.model.dit, trainings.published.dit
    loss = trainings.model.loss(*trainings.batch(False, 3))
    loss.backward()
    same = trainings.published.loss(*trainings.batch(False, 3))
    same.backward()
    torch.testing.assert_close(loss, same, rtol=1e-5, atol=0)
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-6)


def test_encoding_at_every_step_sees_the_clips_and_noises_that_the_store_gives(trainings: Trainings):
    (stored, actions, noise), (encoded, same, drawn) = (trainings.batch(encode, 5) for encode in (False, True))
    assert encoded.shape == stored.shape == (2, 3, 4, 4, 6)
    torch.testing.assert_close(actions, same)
    assert torch.equal(torch.rand(9, generator=noise), torch.rand(9, generator=drawn))


@pytest.mark.parametrize("side", ["ours", "straightforward"])
def test_a_step_moves_weights_and_average(trainings: Trainings, side: str, compute: ComputeConfig):
    training = trainings.training if side == "ours" else trainings.published
    module: nn.Module = trainings.model.dit if side == "ours" else trainings.published.dit
    before = [[p.clone() for p in x.parameters()] for x in (module, training.average)]
    trainings.ours(compute) if side == "ours" else trainings.straightforward(encode=False)
    for then, now in zip(before, (module, training.average), strict=True):
        assert any(not torch.equal(old, new) for old, new in zip(then, now.parameters(), strict=True))


def test_a_step_of_either_takes_the_batches_that_it_accumulates(trainings: Trainings, compute: ComputeConfig):
    taken: list[tuple[bool, int]] = []
    draw = trainings.batch
    trainings.batch = lambda encode, number: (taken.append((encode, number)), draw(encode, number))[1]
    trainings.ours(compute)
    trainings.ours(compute)
    assert taken == [(False, 0), (False, 1), (False, 2), (False, 3)]
    taken.clear()
    trainings.straightforward(encode=True)
    assert [encode for encode, _ in taken] == [True, True]


def test_the_flops_of_a_step_are_those_that_it_executes(trainings: Trainings, compute: ComputeConfig):
    with FlopCounterMode(display=False) as counter:
        trainings.ours(compute)
    # A step needs no gradient of the latents: less than a hundredth.
    assert trainings.flops == pytest.approx(counter.get_total_flops(), rel=0.03)


def test_the_bound_counts_what_encoding_adds(compute: ComputeConfig):
    (whole, alone), profile = measure(CONFIG, compute)
    assert whole.bound == whole.baseline.flops / whole.ours.flops > 1
    assert alone.bound is None
    assert alone.baseline.flops == alone.ours.flops == whole.ours.flops
    assert whole.ours.items == CONFIG.batch * CONFIG.accumulate
    assert profile == []


def test_bfloat16_is_compared_with_float32(compute: ComputeConfig):
    *_, precision = measure(replace(CONFIG, rounds=1), replace(compute, dtype="bfloat16"))[0]
    assert (precision.ours.name, precision.baseline.name) == ("ours, bfloat16", "ours, float32")


def test_time_goes_where_the_work_is():
    weight = torch.rand(400, 400, generator=torch.Generator().manual_seed(0), requires_grad=True)
    optimizer = torch.optim.AdamW([weight], fused=True)

    def work() -> None:
        for _ in range(20):
            product = weight.detach() @ weight.detach()
        product.to(torch.bfloat16)
        weight.square().sum().backward()
        optimizer.step()

    found = {share.kind: share for share in shares(work)}
    assert found["matrix products"].share == max(share.share for share in found.values())
    assert found["matrix products"].costliest == "mm"
    assert found["matrix products"].calls == 20
    assert "_fused_adamw_" in found[OPTIMISER].costliest
    assert {"casts and copies", "elementwise and sums", BETWEEN} <= found.keys()
    assert sum(share.share for share in found.values()) == pytest.approx(1)


def test_the_command_writes_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["--size", "demo", "--dtype", "bfloat16", "--profile", "--out", str(tmp_path)]
    assert main(["bench", "train", *flags(rounds=1, threads=1), *words]) == 0
    printed = capsys.readouterr().out
    assert "decode and encode" in printed
    assert "matrix products" in printed
    record = json.loads((tmp_path / "train.json").read_text())
    assert [c["baseline"]["unit"] for c in record["comparisons"]] == ["clips"] * 3
    shown = json.loads((tmp_path / "train-profile.json").read_text())
    assert sum(share["share"] for share in shown) == pytest.approx(1)
