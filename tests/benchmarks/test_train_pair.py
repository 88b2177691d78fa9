"""Both trainings compute the same; what is compared, where time goes, and the command at a tiny size."""

import json
import sys
from pathlib import Path

import pytest
import torch
from benchmarks.comparison import main
from benchmarks.profile import BETWEEN, OPTIMISER, shares
from benchmarks.train import PairedTrainings, Train

from tiny_video import TINY, flags

BENCH = Train(**TINY, size="demo", batch=2, accumulate=2, rounds=2)


@pytest.fixture
def pair(tmp_path: Path) -> PairedTrainings:
    return PairedTrainings(BENCH, tmp_path)


def test_both_trainings_have_the_same_loss_and_gradient(pair: PairedTrainings):
    loss = pair.model.loss(*pair.batch(3))
    loss.backward()
    same = pair.published.loss(*pair.batch(3))
    same.backward()
    torch.testing.assert_close(loss, same, rtol=1e-5, atol=0)
    gradients = {name: p.grad for name, p in pair.published.dit.named_parameters()}
    for name, parameter in pair.model.dit.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-6)


def test_encoding_at_every_step_sees_the_clips_and_noises_that_the_store_gives(pair: PairedTrainings):
    stored, actions, noise = pair.batch(5)
    pair.encode = True
    encoded, same, drawn = pair.batch(5)
    assert encoded.shape == stored.shape == (2, 3, 4, 4, 6)
    assert not torch.equal(encoded, stored)
    torch.testing.assert_close(actions, same)
    assert torch.equal(torch.rand(9, generator=noise), torch.rand(9, generator=drawn))


@pytest.mark.parametrize("side", ["ours", "baseline"])
def test_a_step_moves_weights_and_average(pair: PairedTrainings, side: str):
    module, average = {
        "ours": (pair.model.dit, pair.training.average),
        "baseline": (pair.published.dit, pair.published.average),
    }[side]
    before = [[p.clone() for p in x.parameters()] for x in (module, average)]
    pair.ours(BENCH.compute) if side == "ours" else pair.baseline(encode=False)
    for then, now in zip(before, (module, average), strict=True):
        assert any(not torch.equal(old, new) for old, new in zip(then, now.parameters(), strict=True))


def test_a_step_of_either_takes_the_batches_that_it_accumulates(pair: PairedTrainings):
    taken: list[tuple[bool, int]] = []
    draw = pair.batch
    pair.batch = lambda number: (taken.append((pair.encode, number)), draw(number))[1]
    pair.ours(BENCH.compute)
    pair.ours(BENCH.compute)
    assert taken == [(False, 0), (False, 1), (False, 2), (False, 3)]
    taken.clear()
    pair.baseline(encode=True)
    assert taken == [(True, 0), (True, 1)]


def test_the_bound_counts_what_encoding_adds(tmp_path: Path):
    whole, alone = BENCH.compare(tmp_path)
    assert whole.bound == whole.baseline.flops / whole.ours.flops > 1
    assert alone.bound is None
    assert alone.baseline.flops == alone.ours.flops == whole.ours.flops
    assert whole.ours.items == whole.baseline.items == 4


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


def test_the_command_writes_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    words = ["--size", "demo", "--dtype", "bfloat16", "--profile", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["train", *flags(rounds=1, threads=1), *words])
    main(Train)
    printed = capsys.readouterr().out
    assert "decode and encode" in printed
    assert "matrix products" in printed
    comparisons = json.loads((tmp_path / "train.json").read_text())["comparisons"]
    assert [c["title"] for c in comparisons] == ["training, DiT-demo", "step alone, DiT-demo", "precision, DiT-demo"]
    assert comparisons[2]["baseline"]["name"] == "ours, float32"
    assert comparisons[2]["baseline"]["peak"] != comparisons[2]["ours"]["peak"]
    shown = json.loads((tmp_path / "train-profile.json").read_text())
    assert sum(share["share"] for share in shown) == pytest.approx(1)
