"""How things lie and what touches, for right read-outs and with planted defects."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from measured import Row, Subject, measure, select, summary, with_noise
from point_world import PointWorldModel
from rslwm.data.corpus import Corpus
from rslwm.evals.base import NotAvailable
from rslwm.evals.geometry import ENCODER, GENERATED, GeometryProbe, GeometryTargets, unit, yaw_error
from rslwm.evals.probe import TrainedProbe, train_probe

STILL = PointWorldModel(gain=0)
METRICS = {info.name for info in (*ENCODER.values(), *GENERATED.values())}


class Off(nn.Module):
    """The right read-out with numbers added, in the units of the probe's outputs."""

    def __init__(self, right: nn.Module, by: Tensor) -> None:
        super().__init__()
        self.right, self.by = right, by

    def forward(self, z: Tensor) -> Tensor:
        return self.right(z) + self.by


class Nothing(nn.Module):
    """Reads nothing: its output stands for the mean, and for the same score everywhere."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.zeros(len(z), 8)


def off(evaluation: Subject, **metres: float) -> Subject:
    """The same with a probe that reads openings wrongly."""
    _, std = unit(GeometryTargets.of(evaluation.corpus), evaluation.corpus)
    by = torch.zeros(8)
    by[4], by[5] = metres.get("opening", 0), metres.get("drawer", 0)
    evaluation.probes["geometry"] = Off(evaluation.probes["geometry"], by / std)  # type: ignore[arg-type]
    return evaluation


def lacking(corpus: Corpus, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """These states were never recorded."""
    kept = {name: dims for name, dims in corpus.dataset.state_names.items() if name not in names}
    states = [{name: s[name] for name in kept} for s in corpus.states]
    monkeypatch.setattr(corpus.dataset, "state_names", kept)
    monkeypatch.setitem(vars(corpus), "states", states)  # a cached property


def by_dim(rows: list[Row], role: str = "value") -> dict[str, float]:
    kept = select(rows, "geometry_kept", role)
    return {dim: summary([r for r in kept if r.dim == dim], "geometry_kept", role) for dim in {r.dim for r in kept}}


def test_the_right_read_out_has_no_error(evaluation: Subject) -> None:
    rows = measure("geometry", evaluation)
    for part, most in (("yaw", 1.0), ("opening", 1.0), ("drawer", 0.5)):
        for infos in (ENCODER, GENERATED):
            assert summary(rows, infos[part].name) < most  # stored latents are rounded
        assert summary(rows, ENCODER[part].name, "floor") > 2 * most
    for part in ("contact", "held"):
        assert summary(rows, ENCODER[part].name) == 1
        assert summary(rows, GENERATED[part].name) > 0.95


def test_a_read_out_of_nothing_is_the_floor(evaluation: Subject) -> None:
    evaluation.probes["geometry"] = Nothing()
    rows = measure("geometry", evaluation)
    for metric in METRICS:
        assert summary(rows, metric) == pytest.approx(summary(rows, metric, "floor"))


def test_a_frozen_rollout_is_the_floor(evaluation: Subject) -> None:
    rows = measure("geometry", replace(evaluation, world_model=STILL))
    for info in GENERATED.values():
        assert [r.value for r in select(rows, info.name)] == [r.value for r in select(rows, info.name, "floor")]
    assert by_dim(rows) == by_dim(rows, "floor")


def test_openings_are_off_by_the_millimetres_that_they_are_off_by(evaluation: Subject) -> None:
    rows = measure("geometry", off(evaluation, opening=0.2, drawer=-0.3))
    assert summary(rows, "opening_error") == pytest.approx(200, abs=1)
    assert summary(rows, "drawer_error") == pytest.approx(300, abs=1)
    assert summary(rows, "yaw_error") < 1


def test_a_drawer_is_read_only_where_there_is_one(evaluation: Subject) -> None:
    units = {row.unit for row in select(measure("geometry", evaluation), "drawer_error")}
    assert units
    assert all(int(unit.removeprefix("point-")) % 3 == 1 for unit in units)


def test_yaws_differ_by_the_smallest_turn_that_shows() -> None:
    """A box looks the same after a quarter turn, a cylinder (the second object) after any."""
    true = torch.deg2rad(torch.tensor([0.0, 10, 80, -40, 30]))
    found = torch.deg2rad(torch.tensor([90.0, 15, 0, 45, 30]))

    def turned(yaw: Tensor) -> Tensor:
        return torch.stack([torch.sin(4 * yaw), torch.cos(4 * yaw)], 1)

    first, second = turned(found), torch.randn(5, 2)
    degrees, there = yaw_error(
        torch.cat([3 * first, second], 1),
        torch.cat([turned(true), torch.zeros(5, 2)], 1),
        torch.tensor([[1.0, 0], [1, 0], [1, 0], [1, 0], [0, 0]]),
    )
    torch.testing.assert_close(degrees[:4], torch.tensor([0.0, 5, 10, 5]), atol=1e-4, rtol=0)
    assert there.tolist() == [True] * 4 + [False]


def test_labels_of_other_episodes_are_hit_by_chance(evaluation: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contact is recorded in the episodes in another order."""
    evaluation.set("rollouts", clips=60)
    states = [dict(s) for s in evaluation.corpus.states]
    for split in (evaluation.corpus.train, evaluation.corpus.test):
        for mine, other in zip(split, np.roll(split, 1), strict=True):
            contact = evaluation.corpus.states[other]["contact"]
            states[mine]["contact"] = np.resize(contact[::-1], states[mine]["contact"].shape)
    monkeypatch.setitem(vars(evaluation.corpus), "states", states)
    rows = measure("geometry[windows=200]", evaluation)
    chance, right = summary(rows, "contact_precision", "floor"), summary(rows, "contact_precision")
    assert right < chance + 0.5 * (1 - chance)


@pytest.mark.parametrize("shift", [1, 2])
def test_time_shifted_is_found_out(shift: int, evaluation: Subject) -> None:
    evaluation.set("rollouts", clips=60)
    right = measure("geometry", evaluation)
    late = torch.cat([evaluation.main.context, evaluation.main.generated], 1)[:, -shift - 4 : -shift]
    evaluation.main = replace(evaluation.main, generated=late)
    rows = measure("geometry", evaluation)
    for metric in ("contact_precision_generated", "held_precision_generated"):
        assert summary(rows, metric) < summary(right, metric)
    for metric in ("yaw_error_generated", "opening_error_generated", "drawer_error_generated"):
        assert summary(rows, metric) > 2 * summary(right, metric)


def test_contact_is_near_some_steps_before_and_after(evaluation: Subject) -> None:
    targets = GeometryTargets.of(evaluation.corpus)
    contact = np.zeros(12)
    contact[5:7] = 1
    targets.values[0] = np.zeros((12, 8), np.float32)
    targets.values[0][:, -2] = contact
    assert np.flatnonzero(targets.near_contact(3)[0]).tolist() == [2, 3, 4, 5, 6, 7, 8, 9]
    assert np.flatnonzero(targets.near_contact(0)[0]).tolist() == [5, 6]


def test_what_survives_is_told_near_contact_and_far_from_it(evaluation: Subject) -> None:
    """A world model whose pictures are off only where something is touched."""
    evaluation.set("rollouts", clips=60)
    made = evaluation.main.generated.clone()
    made[..., 1] += 2.0 * (made[..., 0] > 0)  # y: the drawer's opening
    evaluation.main = replace(evaluation.main, generated=made)
    kept = by_dim(measure("geometry[near=0]", evaluation))
    assert {dim.split()[0] for dim in kept} == {"near", "far"}
    assert {dim.split()[1] for dim in kept} == {"gripper", "object", "yaw", "opening", "drawer"}
    assert kept["near drawer"] < 0.1
    assert kept["far drawer"] > 3 * kept["near drawer"]


def test_an_encoder_that_reads_badly_keeps_all_that_it_has(evaluation: Subject) -> None:
    """What generation loses is told apart from what the latents never held."""
    kept = by_dim(measure("geometry", off(evaluation, opening=0.2)))
    assert kept["near opening"] == pytest.approx(1, abs=0.02)
    assert kept["far opening"] == pytest.approx(1, abs=0.02)


def test_noise_loses_geometry(evaluation: Subject) -> None:
    kept = by_dim(measure("geometry", with_noise(off(evaluation, opening=0.01), 6.0)))
    assert max(kept.values()) < 0.7


@pytest.mark.parametrize(
    ("lacks", "missing"),
    [
        (["contact"], {"contact_precision", "contact_precision_generated", "geometry_kept"}),
        (["held"], {"held_precision", "held_precision_generated"}),
        (["object_square"], {"yaw_error", "yaw_error_generated"}),
        (["gripper_opening"], {"opening_error", "opening_error_generated"}),
        (["drawer_opening"], {"drawer_error", "drawer_error_generated"}),
    ],
)
def test_what_is_not_recorded_is_not_measured(
    lacks: list[str], missing: set[str], evaluation: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking(evaluation.corpus, monkeypatch, *lacks)
    evaluation.probes["geometry"] = Fitting(GeometryTargets.of(evaluation.corpus).values[0].shape[1])
    assert {row.metric for row in measure("geometry", evaluation)} == {*METRICS, "geometry_kept"} - missing


class Fitting(nn.Module):
    def __init__(self, out: int) -> None:
        super().__init__()
        self.out = out

    def forward(self, z: Tensor) -> Tensor:
        return z.flatten(1)[:, : self.out]


def train(evaluation: Subject, folder: Any, steps: int = 150) -> TrainedProbe:
    settings = evaluation.config.probe
    settings = replace(settings, optim=replace(settings.optim, steps=steps))
    return train_probe(
        GeometryProbe(), evaluation.corpus, evaluation.latents, settings, 0, folder, evaluation.compute
    )  # fmt: skip


def test_data_without_geometry_have_no_probe(
    evaluation: Subject, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    lacking(evaluation.corpus, monkeypatch, "object_yaw", "gripper_opening", "drawer_opening", "contact", "held")
    evaluation.probes["geometry"] = train(evaluation, tmp_path)
    with pytest.raises(NotAvailable, match="none of object_yaw, gripper_opening"):
        measure("geometry", evaluation)


def test_positions_need_not_be_recorded(evaluation: Subject) -> None:
    evaluation.probes["state"] = TrainedProbe(None, "no positions")
    assert {dim.split()[1] for dim in by_dim(measure("geometry", evaluation))} == {"yaw", "opening", "drawer"}


def test_the_probe_learns(evaluation: Subject, tmp_path: Any) -> None:
    evaluation.probes["geometry"] = train(evaluation, tmp_path)
    rows = measure("geometry", evaluation)
    assert summary(rows, "contact_precision") > 0.5 * (1 + summary(rows, "contact_precision", "floor"))
    for metric in ("yaw_error", "opening_error"):
        assert summary(rows, metric) < 0.8 * summary(rows, metric, "floor")
