"""Positions read out of latents, in centimetres, over the objects that are there."""

import pytest
import torch
from torch import Tensor, nn

from measured import Subject, measure, select, summary, with_constant_rollouts
from rslwm.data.corpus import Corpus
from rslwm.evals.base import NotAvailable
from rslwm.evals.readout import StateTargets


class MeanOnly(nn.Module):
    """Reads nothing: its output stands for the mean position."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.zeros(len(z), 9)


class OffBy(nn.Module):
    """The right read-out, moved by ``metres`` along x for chosen objects (the gripper is 0)."""

    def __init__(self, right: nn.Module, std: Tensor, metres: dict[int, float]) -> None:
        super().__init__()
        self.right, self.move = right, torch.zeros(9)
        for number, distance in metres.items():
            self.move[3 * number] = distance / std[3 * number]

    def forward(self, z: Tensor) -> Tensor:
        return self.right(z) + self.move


def spread(evaluation: Subject) -> Tensor:
    """The standard deviation that the read-out is in units of."""
    return StateTargets.of(evaluation.corpus).moments(evaluation.corpus.train)[1]


def test_the_right_read_out_has_no_error(evaluation: Subject) -> None:
    for name, metric in (("gripper_readout", "gripper_error"), ("object_readout", "object_error")):
        rows = measure(name, evaluation)
        assert summary(rows, metric) < 0.15  # cm: stored latents are rounded
        assert summary(rows, f"{metric}_generated") < 0.3
        assert summary(rows, metric, "floor") > 1


@pytest.mark.parametrize("name", ["gripper_readout", "object_readout"])
def test_a_read_out_of_nothing_is_the_floor(name: str, evaluation: Subject) -> None:
    evaluation.probes["state"] = MeanOnly()
    rows = measure(name, evaluation)
    for info in {row.metric for row in rows}:
        values, floors = select(rows, info), select(rows, info, "floor")
        assert [row.value for row in values] == pytest.approx([row.value for row in floors])


def test_constant_rollouts_lose_the_gripper(evaluation: Subject) -> None:
    rows = measure("gripper_readout", with_constant_rollouts(evaluation))
    assert summary(rows, "gripper_error") < 0.15
    assert summary(rows, "gripper_error_generated") > 3


def test_errors_are_centimetres_of_what_they_name(evaluation: Subject) -> None:
    evaluation.probes["state"] = OffBy(evaluation.probes["state"], spread(evaluation), {0: 0.03})
    assert summary(measure("gripper_readout", evaluation), "gripper_error") == pytest.approx(3, abs=0.1)
    assert summary(measure("object_readout", evaluation), "object_error") < 0.15


def test_an_object_that_is_not_there_does_not_count(evaluation: Subject) -> None:
    """The second object is in every other episode; moved by 8 cm it costs 4 where both are and nothing elsewhere."""
    evaluation.probes["state"] = OffBy(evaluation.probes["state"], spread(evaluation), {2: 0.08})
    for row in select(measure("object_readout", evaluation), "object_error"):
        both = int(row.unit.removeprefix("point-")) % 2
        assert row.value == pytest.approx(4 if both else 0, abs=0.15)


def test_a_broken_read_out_is_not_taken_for_an_absent_object(evaluation: Subject) -> None:
    evaluation.probes["state"] = OffBy(MeanOnly(), spread(evaluation), {1: float("nan")})
    values = select(measure("object_readout", evaluation), "object_error")
    assert len(values) == evaluation.config.readout.windows
    assert all(row.value != row.value for row in values)


def test_positions_that_were_not_recorded_are_not_measured(
    evaluation: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = StateTargets.of

    def gripper_only(corpus: Corpus) -> StateTargets:
        targets = of(corpus)
        for mask in targets.mask:
            mask[:, 3:] = 0
        return targets

    monkeypatch.setattr(StateTargets, "of", gripper_only)
    with pytest.raises(NotAvailable, match="the data record no object positions"):
        measure("object_readout", evaluation)
    assert measure("gripper_readout", evaluation)
