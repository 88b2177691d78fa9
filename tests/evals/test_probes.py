"""Probes learn from training episodes, are saved and loaded strictly, and know what they can't learn."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from measured import Subject, measure, summary
from rslwm.compute import ComputeConfig
from rslwm.data.corpus import Corpus
from rslwm.data.store import TensorStore
from rslwm.evals.base import NotAvailable
from rslwm.evals.inverse_dynamics import InverseProbe
from rslwm.evals.probe import GridProbe, Probe, ProbeConfig, TrainedProbe, train_probe
from rslwm.evals.readout import StateProbe, StateTargets, balanced
from rslwm.evals.success import SuccessProbe, final_windows, spread
from rslwm.types import DataError

PROBES = [InverseProbe(1), StateProbe(), SuccessProbe(7, noise=1.0)]
Train = Callable[..., TrainedProbe]


@pytest.fixture
def train(corpus: Corpus, point_latents: TensorStore, evaluation: Subject, compute: ComputeConfig) -> Train:
    """A probe of the point world's latents, trained for 40 steps."""

    def trained(probe: Probe, folder: Path, seed: int = 0, steps: int = 40, **more: Any) -> TrainedProbe:
        config = evaluation.config.probe
        config = replace(config, optim=replace(config.optim, steps=steps))
        return train_probe(probe, corpus, point_latents, config, seed, folder, compute, **more)

    return trained


def test_all_probes_learn(train: Train, evaluation: Subject, compute: ComputeConfig, tmp_path: Path) -> None:
    evaluation.probes = {probe.name: train(probe, tmp_path / probe.name, steps=150) for probe in PROBES}
    readout = measure("gripper_readout", evaluation)
    assert summary(readout, "gripper_error") < 0.6 * summary(readout, "gripper_error", "floor")
    assert summary(measure("inverse_dynamics", evaluation), "idm_r") > 0.6
    clips = evaluation.clips(7)
    windows = final_windows(clips, evaluation.corpus.train)
    success = evaluation.probes["success"]
    assert isinstance(success, TrainedProbe)
    scores = success.apply(spread(clips.batch(windows).x), compute)[:, 0] > 0
    assert scores.tolist() == [evaluation.corpus.dataset.success[e] for e in windows[:, 0]]


def weights(probe: TrainedProbe) -> list[torch.Tensor]:
    return [*probe.require().state_dict().values()]


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_training_repeats_reports_and_begins_where_its_seed_says(probe: Probe, train: Train, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    one = train(probe, tmp_path / "a", steps=5, progress=lambda done, total, _: calls.append((done, total)))
    again, other = train(probe, tmp_path / "b", steps=5), train(probe, tmp_path / "c", seed=1, steps=5)
    assert calls == [(n, 5) for n in range(1, 6)]
    assert all(torch.equal(x, y) for x, y in zip(weights(one), weights(again), strict=True))
    assert not torch.equal(weights(one)[0], weights(other)[0])


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_a_saved_probe_reads_the_same(probe: Probe, train: Train, compute: ComputeConfig, tmp_path: Path) -> None:
    found = train(probe, tmp_path / "training", steps=2)
    found.save(tmp_path)
    z = torch.randn(3, probe.reads, 4, 4, 4)
    assert torch.equal(TrainedProbe.load(tmp_path).apply(z, compute), found.apply(z, compute))
    (tmp_path / "probe.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match=r"probe\.safetensors is truncated"):
        TrainedProbe.load(tmp_path)


def test_an_absent_probe_is_kept_with_its_reason(train: Train, tmp_path: Path) -> None:
    train(InverseProbe(40), tmp_path / "training").save(tmp_path)
    with pytest.raises(NotAvailable, match="no training episode holds 41 frames"):
        TrainedProbe.load(tmp_path).require()


def test_moments_are_of_the_objects_that_are_there(corpus: Corpus) -> None:
    targets = StateTargets.of(corpus)
    mean, std = targets.moments(corpus.train)
    gripper = np.concatenate([corpus.states[e]["gripper_position"] for e in corpus.train])
    np.testing.assert_allclose(mean[:3], gripper.mean(0), atol=1e-5)
    np.testing.assert_allclose(std[:3], gripper.std(0), atol=1e-5)
    np.testing.assert_allclose(mean[6:], 0.2, atol=1e-6)  # absent ones don't pull it towards zero
    np.testing.assert_allclose(std[6:], 1e-3, atol=1e-6)
    assert targets.records("gripper")
    assert targets.records("object")


def test_states_and_masks_stand_where_they_were_recorded(corpus: Corpus) -> None:
    targets = StateTargets.of(corpus)
    values, mask = targets.at(np.array([[1, 0], [2, 3]]))
    np.testing.assert_array_equal(values[1, :3], corpus.states[2]["gripper_position"][3])
    np.testing.assert_array_equal(mask[:, ::3], [[1, 1, 1], [1, 1, 0]])


def test_objects_without_a_presence_column_are_all_there(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    states = [{"object_position": s["object_position"]} for s in corpus.states]
    monkeypatch.setitem(vars(corpus), "states", states)  # a cached property
    monkeypatch.setattr(corpus.dataset, "state_names", {"object_position": []})
    targets = StateTargets.of(corpus)
    assert (targets.records("gripper"), targets.records("object")) == (False, True)
    assert all(mask[:, 3:].all() and not mask[:, :3].any() for mask in targets.mask)


def test_data_without_positions_have_no_state_probe(
    corpus: Corpus, train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(corpus.dataset, "state_names", {"joint_position": ["a"]})
    with pytest.raises(NotAvailable, match="no gripper_position and no object_position"):
        train(StateProbe(), tmp_path).require()


def parameters(grid: tuple[int, int], channels: int, width: int = 48) -> int:
    return sum(p.numel() for p in GridProbe(3, channels, grid, 1, ProbeConfig(width=width)).parameters())


@pytest.mark.parametrize("grid", [(2, 2), (8, 8), (14, 14), (27, 27), (32, 32), (8, 16)])
@pytest.mark.parametrize("channels", [3, 16, 300, 1024])
def test_a_probe_has_as_many_parameters_for_every_space(grid: tuple[int, int], channels: int) -> None:
    assert parameters(grid, channels) == parameters((8, 8), 16)
    probe = GridProbe(2, channels, grid, 5, ProbeConfig())
    assert probe(torch.randn(3, 2, *grid, channels)).shape == (3, 5)


def test_the_width_sets_the_capacity() -> None:
    half, one, double = (parameters((8, 8), 16, width) for width in (24, 48, 96))
    assert half < 0.5 * one < one < 0.5 * double


@pytest.mark.parametrize("grid", [(8, 8), (16, 16), (32, 32), (16, 8)])
def test_every_cell_of_every_channel_reaches_the_probe(grid: tuple[int, int]) -> None:
    probe = GridProbe(1, 16, grid, 5, ProbeConfig())
    x = torch.randn(1, 1, *grid, 16, requires_grad=True)
    probe(x).sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).all()


def test_a_probe_of_wide_latents_keeps_its_mixtures_on_disk(tmp_path: Path) -> None:
    """They are drawn once: a probe that drew others after it was trained would read noise."""
    torch.manual_seed(0)
    one = GridProbe(1, 400, (8, 8), 5, ProbeConfig())
    torch.manual_seed(1)
    other = GridProbe(1, 400, (8, 8), 5, ProbeConfig())
    x = torch.randn(2, 1, 8, 8, 400)
    assert not torch.equal(one(x), other(x))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x), other(x))
    assert "mixing" not in dict(one.named_parameters())


@pytest.mark.parametrize("present", [0, 1, 2, 5])
def test_the_gripper_weighs_as_much_as_the_objects_that_are_there(present: int) -> None:
    mask = torch.zeros(1, 3 + 3 * 6)
    mask[:, : 3 + 3 * present] = 1
    weights = balanced(mask)
    assert weights[:, :3].sum() == 1
    assert weights[:, 3:].sum() == pytest.approx(float(present > 0))
    assert (weights[mask == 0] == 0).all()


def test_objects_weigh_as_much_where_no_gripper_is_recorded() -> None:
    mask = torch.tensor([[0.0, 0, 0, 1, 1, 1]])
    assert balanced(mask)[0].tolist() == pytest.approx([0, 0, 0, 1 / 3, 1 / 3, 1 / 3])
