"""Probes learn from training episodes, are saved and loaded strictly, and know what they can't learn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rslwm.evals.probes import Probes, StateTargets, balanced, final_windows, spread

from measured import measure, summary
from rslwm.compute import ComputeConfig
from rslwm.data.corpus import Corpus
from rslwm.data.store import TensorStore
from rslwm.evals.base import NotAvailable
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.grid_probe import GridProbe, ProbeConfig
from rslwm.types import DataError


def quiet(done: int, total: int, message: str) -> None:
    pass


@pytest.fixture
def probes(corpus: Corpus, point_latents: TensorStore, evaluation: Evaluation) -> Probes:
    return Probes(corpus, point_latents, evaluation.config.probe)


def test_all_probes_learn(probes: Probes, evaluation: Evaluation, compute: ComputeConfig, tmp_path: Path) -> None:
    probes.config = replace(probes.config, optim=replace(probes.config.optim, steps=150))
    probes.train(tmp_path, compute, quiet)
    evaluation.probes = probes
    readout = measure("gripper_readout", evaluation)
    assert summary(readout, "gripper_error") < 0.6 * summary(readout, "gripper_error", "floor")
    assert summary(measure("inverse_dynamics", evaluation), "idm_r") > 0.6
    clips = evaluation.clips(probes.config.success_frames)
    windows = final_windows(clips, probes.corpus.train)
    scores = probes.apply("success", spread(clips.batch(windows).x), compute)[:, 0] > 0
    assert scores.tolist() == [probes.corpus.dataset.success[e] for e in windows[:, 0]]


def test_training_repeats_and_reports_all_probes_as_one(
    probes: Probes, corpus: Corpus, point_latents: TensorStore, compute: ComputeConfig, tmp_path: Path
) -> None:
    again, calls = Probes(corpus, point_latents, probes.config), []
    probes.train(tmp_path / "a", compute, lambda done, total, _: calls.append((done, total)))
    again.train(tmp_path / "b", compute, quiet)
    assert calls == [(n, 120) for n in range(1, 121)]
    for name, probe in probes.modules.items():
        for key, value in probe.state_dict().items():
            assert torch.equal(value, again.modules[name].state_dict()[key])


def test_probes_begin_where_their_seed_says(probes: Probes, corpus: Corpus, point_latents: TensorStore) -> None:
    same, other = (Probes(corpus, point_latents, probes.config, seed) for seed in (0, 1))
    for name, probe in probes.modules.items():
        assert torch.equal(probe.embed.weight, same.modules[name].embed.weight)
        assert not torch.equal(probe.embed.weight, other.modules[name].embed.weight)


def test_saved_probes_read_the_same(
    probes: Probes, corpus: Corpus, point_latents: TensorStore, compute: ComputeConfig, tmp_path: Path
) -> None:
    with torch.no_grad():
        for probe in probes.modules.values():
            for parameter in probe.parameters():
                parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    probes.save(tmp_path)
    loaded = Probes(corpus, point_latents, probes.config).load(tmp_path)
    z = torch.randn(3, 1, 4, 4, 4)
    assert torch.equal(loaded.positions(z, compute), probes.positions(z, compute))
    with pytest.raises(DataError, match=r"inverse-1\.safetensors: tensor 'embed\.weight' is"):
        Probes(corpus, point_latents, replace(probes.config, width=16)).load(tmp_path)


def test_a_horizon_longer_than_every_episode_is_absent(corpus: Corpus, point_latents: TensorStore) -> None:
    probes = Probes(corpus, point_latents, ProbeConfig(width=8, horizons=(1, 40)))
    assert "inverse-1" in probes.modules
    with pytest.raises(NotAvailable, match="no training episode holds 41 frames"):
        probes.require("inverse-40")


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
    corpus: Corpus, point_latents: TensorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus.dataset, "state_names", {"joint_position": ["a"]})
    probes = Probes(corpus, point_latents, ProbeConfig(width=8, horizons=(1,)))
    with pytest.raises(NotAvailable, match="no gripper_position and no object_position"):
        probes.require("state")


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
