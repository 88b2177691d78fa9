"""The disagreement of rollouts with their actions: what it is, and what it finds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from measured import Subject, measure, select, summary, table
from point_world import METRES, AstrayWorldModel, PointWorldModel
from rslwm.evals.agreement import limit_for, running
from rslwm.evals.base import NotAvailable
from rslwm.evals.probe import TrainedProbe
from rslwm.evals.readout import StateTargets
from rslwm.evals.rows import Rows


@pytest.fixture
def many(evaluation: Subject) -> Subject:
    """As many rollouts as there are."""
    evaluation.set("rollouts", clips=60, future=3)
    return evaluation


def with_model(evaluation: Subject, model: PointWorldModel) -> Subject:
    return replace(evaluation, world_model=model)


class LateWorldModel(PointWorldModel):
    """Does everything a frame late."""

    def start(self, context, actions, full_window=False):  # type: ignore[no-untyped-def]
        self.late = None
        return super().start(context, actions, full_window)

    def step(self, state, action, sampling, noise, following):  # type: ignore[no-untyped-def]
        late, self.late = self.late, action
        return super().step(state, 0 * action if late is None else late, sampling, noise, following)


class MirroredWorldModel(PointWorldModel):
    """Moves to the other side."""

    def step(self, state, action, sampling, noise, following):  # type: ignore[no-untyped-def]
        return super().step(state, action * torch.tensor([-1.0, 1, 1, 1]), sampling, noise, following)


def test_a_world_that_obeys_agrees(many: Subject) -> None:
    rows = measure("trust", many)
    assert summary(rows, "trust_error") < 0.01
    assert summary(rows, "trust_error", "ceiling") < 0.01  # true latents are stored in half precision
    assert summary(rows, "trust_error", "floor") > 0.2
    assert not any(row.target for row in select(rows, "trust_auc"))


@pytest.mark.parametrize("model", [PointWorldModel(gain=0.0), MirroredWorldModel(), LateWorldModel()])
def test_a_world_that_doesn_t_obey_disagrees(model: PointWorldModel, many: Subject) -> None:
    rows = measure("trust", with_model(many, model))
    assert summary(rows, "trust_error") > 10 * summary(rows, "trust_error", "ceiling")


def test_ignored_actions_are_at_the_floor(many: Subject) -> None:
    rows = measure("trust", with_model(many, PointWorldModel(gain=0.0)))
    for metric in ("trust_error", "trust_auc"):
        assert summary(rows, metric) == pytest.approx(summary(rows, metric, "floor"))


def test_shuffled_actions_are_found(many: Subject) -> None:
    rollouts = many.main
    many.main = replace(rollouts, actions=rollouts.actions.roll(1, 0))
    assert summary(measure("trust", many), "trust_error") > 0.2


def test_rollouts_that_leave_the_truth_are_told_from_others(many: Subject) -> None:
    rows = measure("trust", with_model(many, AstrayWorldModel()))
    assert summary(rows, "trust_auc") == 1
    assert summary(rows, "trust_auc", "floor") < 0.75
    for role in ("value", "floor"):
        assert [r.target for r in select(rows, "trust_auc", role)] == [r.target for r in select(rows, "trust_auc")]


def test_a_signal_of_other_rollouts_is_at_chance(many: Subject) -> None:
    """Swapped labels."""
    astray = with_model(many, AstrayWorldModel())
    rows = [row for row in select(measure("trust", astray), "trust_auc") if row.k == 3]
    swapped = [row._replace(target=other.target) for row, other in zip(rows, rows[-7:] + rows[:-7], strict=True)]
    assert abs(summary(swapped, "trust_auc") - 0.5) < 0.3


def test_what_has_left_is_as_far_as_was_set(many: Subject) -> None:
    """From where the gripper truly is, in the order of the horizons."""
    still = with_model(many, PointWorldModel(gain=0.0))
    targets, rollouts = StateTargets.of(many.corpus), still.main
    for left_at in (1.0, 4.0):
        rows = select(measure(f"trust[left_at={left_at}]", still), "trust_auc")
        for i, row in enumerate(rows):
            window = rollouts.windows[i // 3]
            assert row.unit == many.corpus.dataset.ids[window[0]]
            last, now = (targets.at(window[None] + [[0, 2 * t]])[0][0, :3] for t in (1, 1 + row.k))
            away = 100 * float((now - last).norm())
            assert row.target == (away > left_at) or abs(away - left_at) < 0.1


def test_disagreements_are_means_up_to_each_step() -> None:
    read, requested = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    each = ((read - requested) ** 2).mean(2) ** 0.5
    expected = torch.stack([each[:, : k + 1].mean(1) for k in range(3)], 1)
    assert torch.allclose(running(read, requested), expected)


def test_as_many_actions_are_read_as_were_requested_however_many_dimensions() -> None:
    one: Tensor = torch.ones(1, 1, 1)
    assert running(one, 0 * one) == running(one.expand(1, 1, 7), 0 * one.expand(1, 1, 7)) == 1


def test_data_without_a_gripper_don_t_know_what_left(many: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    states = [{k: v for k, v in s.items() if k != "gripper_position"} for s in many.corpus.states]
    monkeypatch.setitem(vars(many.corpus), "states", states)
    monkeypatch.delitem(many.corpus.dataset.state_names, "gripper_position")
    with pytest.raises(NotAvailable, match="no gripper positions"):
        measure("trust", many)


def test_a_missing_probe_says_why(many: Subject) -> None:
    many.probes["inverse-1"] = TrainedProbe(None, "no training episode holds 2 frames")
    with pytest.raises(NotAvailable, match="no training episode holds 2 frames"):
        measure("trust", many)


def rows_of(disagreements: list[list[float]], left: list[list[float]], windows: list[int]) -> Rows:
    columns = {"latent": "x", "family": "floor", "size": "", "seed": 0, "metric": "trust_auc", "axis": "planning"}
    shape = np.shape(disagreements)
    return Rows.broadcast(
        **columns,
        unit="e",
        window=np.array(windows)[:, None],
        k=np.arange(1, shape[1] + 1),
        value=disagreements,
        target=left,
        higher_is_better=True,
    )


def test_a_limit_keeps_a_share_of_the_good_rollouts_to_their_end() -> None:
    good = [[0.1, 0.1 + 0.01 * n] for n in range(9)] + [[0.5, 0.2]]  # the last is highest at its start
    bad = [[0.9, 0.01]]
    rows = rows_of(good + bad, [[0, 0]] * 10 + [[0, 1]], [*range(11)])
    assert limit_for(rows, 1.0) == 0.5
    assert limit_for(rows, 0.9) == pytest.approx(0.18)
    assert limit_for(rows, 0.5) < limit_for(rows, 0.9)
    with pytest.raises(NotAvailable, match="every rollout left the truth"):
        limit_for(rows_of([[0.1]], [[1.0]], [0]))


def test_a_limit_parts_good_from_bad(many: Subject) -> None:
    rows = table("trust", with_model(many, AstrayWorldModel()))
    rows = rows.where((rows["metric"] == "trust_auc") & (rows["role"] == "value"))
    assert ((rows["value"] > limit_for(rows, 1.0)) == (rows["target"] > 0)).all()
    assert METRES * AstrayWorldModel.drift > 0.03
