"""What is imagined under other actions beside what they really do, for models of known worth."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from measured import Subject, measure, select, summary
from point_world import PointWorldModel
from rslwm.compute import generator
from rslwm.evals.base import NotAvailable, named
from rslwm.evals.branches import RECORDED, STILL, Branches
from rslwm.evals.counterfactuals import identified, matched
from rslwm.evals.probe import TrainedProbe

NAME = "counterfactuals"
METRIC = named(NAME)
SIZES = ("0.1", "0.2", "0.4", "0.8")


class Model(PointWorldModel):
    """Knows of the gripper's command as little as the frames show. ``distort`` turns the future's true moves
    (B, F, 4), of which every eight plus four belong to one moment, into those that it imagines."""

    def __init__(self, distort: Callable[[Tensor], Tensor] = lambda moves: moves) -> None:
        super().__init__()
        self.distort = distort

    def _move(self, z: Tensor, actions: Tensor) -> Tensor:
        moved = self.distort(actions.cumsum(1))[:, :, None, None]
        future = z[:, None] + moved
        future[..., 3] = 0
        return future


def with_model(evaluation: Subject, distort: Callable[[Tensor], Tensor]) -> Subject:
    evaluation.world_model = Model(distort)  # type: ignore[assignment]
    return evaluation


def by_step(evaluation: Subject, metric: str) -> dict[int, float]:
    """The metric of every horizon."""
    rows = measure(NAME, evaluation)
    steps = sorted({row.k for row in select(rows, metric)})
    return {k: summary([row for row in rows if row.k == k], metric) for k in steps}


def by_size(evaluation: Subject, metric: str) -> list[float]:
    rows = measure(NAME, evaluation)
    return [summary([row for row in rows if row.dim == size], metric) for size in SIZES]


def among_branches(order: Callable[[int], list[int]]) -> Callable[[Tensor], Tensor]:
    """Of twelve futures of a moment in a batch each gets another's moves."""

    def distort(moves: Tensor) -> Tensor:
        ways = moves.unflatten(0, (-1, 12))
        return ways[:, order(12)].flatten(0, 1)

    return distort


def true_branches(evaluation: Subject) -> Branches:
    found = evaluation.given(METRIC.needs["branches"])
    assert isinstance(found, Branches)
    return found


def probe_of(evaluation: Subject) -> TrainedProbe:
    found = evaluation.given(METRIC.needs["probe"])
    assert isinstance(found, TrainedProbe)
    return found


# ------------------------------------------------------------------------------------------------- known worth


def test_the_exact_model_follows_every_action(evaluation: Subject) -> None:
    rows = measure(NAME, with_model(evaluation, lambda moves: moves))
    assert summary(rows, "branch_matching") == summary(rows, "branch_identification") == 1
    assert summary(rows, "near_miss_matching") > 0.95
    assert summary(rows, "branch_regret") == 0
    for metric in ("effect_error", "effect_error_gripper", "effect_error_objects"):
        assert summary(rows, metric) < 0.02
    assert all(row.target > 0 for row in select(rows, "branch_regret"))


def test_a_model_that_ignores_actions_is_the_floor_exactly(evaluation: Subject) -> None:
    evaluation.world_model = PointWorldModel(gain=0)  # type: ignore[assignment]
    rows = measure(NAME, evaluation)
    values, floors = (select(rows, "branch_identification", role) for role in ("value", "floor"))
    assert [row.value for row in values] == pytest.approx([row.value for row in floors])
    for metric in ("branch_matching", "near_miss_matching"):
        assert {row.value for row in select(rows, metric)} == {0.5}
    for metric in ("effect_error", "effect_error_gripper", "effect_error_objects", "near_miss_effect_error"):
        assert summary(rows, metric) == pytest.approx(1)
    assert summary(rows, "branch_regret") == pytest.approx(1)


def test_the_floor_is_one_of_the_branches(evaluation: Subject) -> None:
    rows = measure(f"{NAME}[branches=4]", evaluation)
    floors = [row.value for row in select(rows, "branch_identification", "floor")]
    assert min(floors) == pytest.approx(1 / 4)
    assert all(1 / floor == pytest.approx(round(1 / floor)) for floor in floors)


@pytest.mark.parametrize(("gain", "error"), [(0.5, 0.25), (2.0, 1.0), (-1.0, 4.0)])
def test_a_wrong_gain_is_a_squared_effect_error(gain: float, error: float, evaluation: Subject) -> None:
    rows = measure(NAME, with_model(evaluation, lambda moves: gain * moves))
    for metric in ("effect_error", "effect_error_gripper", "effect_error_objects"):
        assert summary(rows, metric) == pytest.approx(error, rel=0.1)


def test_mirrored_actions_are_worse_than_none(evaluation: Subject) -> None:
    rows = measure(NAME, with_model(evaluation, lambda moves: -moves))
    assert summary(rows, "branch_identification") < summary(rows, "branch_identification", "floor")
    assert summary(rows, "branch_matching") == 0
    assert summary(rows, "branch_regret") > 0.3
    assert by_size(evaluation, "near_miss_matching")[-1] < 0.5


def test_one_mirrored_direction_is_found(evaluation: Subject) -> None:
    rows = measure(NAME, with_model(evaluation, lambda moves: moves * torch.tensor([1.0, -1, 1, 1])))
    assert 0.8 < summary(rows, "effect_error_gripper") < 2.2  # four thirds if all directions matter alike
    assert summary(rows, "branch_identification") < 0.8
    assert summary(rows, "branch_matching") < 0.9


def test_shuffled_branches_are_found(evaluation: Subject) -> None:
    rolled = among_branches(lambda ways: [*range(1, ways), 0])
    rows = measure(NAME, with_model(evaluation, rolled))
    assert summary(rows, "branch_identification") < 0.05
    assert summary(rows, "branch_matching") == pytest.approx(0.5, abs=0.15)  # those that aren't swapped still fit
    assert summary(rows, "effect_error_gripper") > 1
    assert summary(rows, "branch_regret") > 0.5


def test_a_frozen_rollout_is_found_after_its_first_step(evaluation: Subject) -> None:
    frozen = with_model(evaluation, lambda moves: moves[:, :1].expand_as(moves))
    found, error = (by_step(frozen, metric) for metric in ("branch_identification", "effect_error_gripper"))
    assert found[1] == 1 > 0.9 > found[4]
    assert error[1] < 0.01 < 0.2 < error[4]


def test_a_future_that_is_one_step_late_is_found(evaluation: Subject) -> None:
    late = with_model(evaluation, lambda moves: torch.cat([0 * moves[:, :1], moves[:, :-1]], 1))
    assert by_step(late, "effect_error_gripper")[1] == pytest.approx(1)
    floor = summary([row for row in measure(NAME, late) if row.k == 1], "branch_identification", "floor")
    assert by_step(late, "branch_identification")[1] == pytest.approx(floor)
    assert by_step(late, "branch_matching")[1] == 0.5


def test_a_model_that_is_blind_to_small_differences_shows_from_which_size_on_it_sees(evaluation: Subject) -> None:
    """It rounds what it is told to do to halves of the bounds."""
    coarse = with_model(evaluation, lambda moves: (moves / 2).round() * 2)
    found = by_size(coarse, "near_miss_matching")
    assert found[0] < 0.75 < 0.9 < found[-1]


@pytest.mark.parametrize("gain", [0.2, 0.5])
def test_small_effects_are_still_told_apart(gain: float, evaluation: Subject) -> None:
    """Nearest to what is imagined would be, of all true futures, mostly standing still."""
    rows = measure(NAME, with_model(evaluation, lambda moves: gain * moves))
    assert summary(rows, "branch_matching") == 1
    assert summary(rows, "branch_identification") > 0.5
    assert summary(rows, "near_miss_matching") > 0.95


def test_what_is_imagined_wrongly_in_every_branch_alike_is_no_effect(evaluation: Subject) -> None:
    drifting = measure(NAME, with_model(evaluation, lambda moves: moves + 0.4))
    for metric in ("effect_error", "effect_error_gripper", "near_miss_effect_error"):
        assert summary(drifting, metric) < 0.05


def test_chance_in_what_is_imagined_is_common_to_all_branches(evaluation: Subject) -> None:
    class Chancy(Model):
        def unroll(self, state, actions, sampling, noise=None):  # type: ignore[no-untyped-def]
            return super().unroll(state, actions, sampling, noise) + 3 * noise

    evaluation.world_model = Chancy()  # type: ignore[assignment]
    rows = measure(NAME, evaluation)
    for metric in ("effect_error", "effect_error_gripper", "near_miss_effect_error"):
        assert summary(rows, metric) < 0.05


def test_effects_are_measured_against_standing_still_and_near_misses_against_what_was_recorded(
    evaluation: Subject,
) -> None:
    rows, branches = measure(NAME, with_model(evaluation, lambda moves: moves)), true_branches(evaluation)
    true = torch.stack([evaluation.encode(frames.float() / 255) for frames in branches.frames.unbind(1)], 1)

    def apart(way: int, base: int) -> Tensor:
        return (true[:, way] - true[:, base]).square().mean((-3, -2, -1))

    targets = [row.target for row in select(rows, "effect_error")]
    assert targets == pytest.approx(sum(apart(way, STILL) for way in range(8)).flatten().tolist())  # type: ignore[union-attr]
    ends = {row.window: row.target for row in select(rows, "near_miss_effect_error") if row.dim == "0.8"}
    assert len(ends) > 4
    known = apart(11, RECORDED)[:, -1].numpy()
    assert all(np.isclose(known, end, rtol=1e-5).any() for end in ends.values())


def test_noise_in_the_latents_never_looks_like_following(evaluation: Subject) -> None:
    """Encodings that are off at random push what is scored in latents to chance and their ratio to 1, not beyond."""
    encode, g = PointWorldModel.encode, generator(0, "planted")

    class Noisy(Model):
        def encode(self, frames: Tensor) -> Tensor:
            z = encode(self, frames)
            return z + 20 * torch.randn(z.shape, generator=g)

    evaluation.world_model = Noisy()  # type: ignore[assignment]
    rows = measure(NAME, evaluation)
    assert 0.4 < summary(rows, "branch_matching") < 0.9
    assert summary(rows, "effect_error") == pytest.approx(1, abs=0.02)
    assert summary(rows, "effect_error_gripper") < 0.02  # the truth is the simulator's


# --------------------------------------------------------------------------------------------- what can't be had


def test_without_a_state_probe_the_rest_is_measured(evaluation: Subject) -> None:
    evaluation.probes["state"] = TrainedProbe(None, "no positions")
    found = {row.metric for row in measure(NAME, evaluation)}
    assert "effect_error_gripper" not in found
    assert {"branch_identification", "effect_error", "branch_regret", "near_miss_matching"} <= found


def test_a_recording_has_no_branches(evaluation: Subject) -> None:
    with pytest.raises(NotAvailable, match="the data are a recording"):
        measure(NAME, replace(evaluation, source=None))


def test_objects_that_no_branch_moves_have_no_effect_to_miss(evaluation: Subject) -> None:
    branches = true_branches(evaluation)
    unmoved = replace(branches, objects=torch.zeros_like(branches.objects))
    tables = METRIC.measure(evaluation, branches=unmoved, probe=probe_of(evaluation))
    found = {table["metric"][0] for table in tables}
    assert "effect_error_gripper" in found
    assert "effect_error_objects" not in found


def test_futures_that_look_alike_are_not_told_apart(evaluation: Subject) -> None:
    branches = true_branches(evaluation)
    dark = replace(branches, frames=torch.zeros_like(branches.frames))
    with pytest.raises(NotAvailable, match="whatever is done looks the same"):
        [*METRIC.measure(evaluation, branches=dark, probe=probe_of(evaluation))]


def test_a_model_with_other_bounds_gets_the_same_actions(evaluation: Subject) -> None:
    """Its bounds are twice as wide, so that its normalised actions are half as large and move it twice as far."""
    spec = evaluation.corpus.action_spec
    wide = replace(spec, low=tuple(2 * x for x in spec.low), high=tuple(2 * x for x in spec.high))
    branches = true_branches(evaluation)
    evaluation.corpus = replace(evaluation.corpus, target=wide)
    with_model(evaluation, lambda moves: 2 * moves)
    tables = METRIC.measure(evaluation, branches=branches, probe=probe_of(evaluation))
    gripper = next(table for table in tables if table["metric"][0] == "effect_error_gripper")
    assert gripper["value"].sum() < 0.02 * gripper["target"].sum()


# --------------------------------------------------------------------------------------------------- closed forms


def test_identification_is_a_nearest_neighbour_search() -> None:
    g = torch.Generator().manual_seed(0)
    imagined, true = torch.randn(2, 5, 6, 3, generator=g, dtype=torch.float64)  # (moments, branches, features)
    distance = torch.stack([torch.from_numpy(cdist(i, t, "sqeuclidean")) for i, t in zip(imagined, true, strict=True)])
    found = identified(distance[..., None], torch.ones(5, 6, 1, dtype=torch.bool))
    expected = (distance.argmin(1) == torch.arange(6)).float().mean(1)
    assert torch.allclose(found[:, 0], expected)


def test_ties_count_as_a_draw_among_them() -> None:
    distance = torch.tensor([[[0.0, 0, 1], [0, 0, 1], [1, 0, 0]]])[..., None]
    told = torch.ones(1, 3, 1, dtype=torch.bool)
    assert identified(distance, told).item() == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)  # asked column by column
    told[:, 1] = False  # neither asked for nor in the way
    assert identified(distance, told).item() == pytest.approx(1)


def test_two_futures_are_matched_by_the_direction_of_their_difference() -> None:
    g = torch.Generator().manual_seed(0)
    imagined, true = torch.randn(2, 200, 2, 3, generator=g)
    distance = (imagined[:, :, None] - true[:, None]).square().sum(-1)[..., None]
    along = ((imagined[:, 1] - imagined[:, 0]) * (true[:, 1] - true[:, 0])).sum(-1)
    pair = ~torch.eye(2, dtype=torch.bool)[..., None]
    assert torch.equal(matched(distance, pair)[:, 0], (along > 0).float())
    assert matched(distance[:, :1].expand(-1, 2, -1, -1), pair).unique().item() == 0.5


def test_only_pairs_that_tell_are_matched() -> None:
    distance = torch.tensor([[[0.0, 1, 1], [1, 0, 0], [1, 0, 5]]])[..., None]
    telling = torch.ones(1, 3, 3, 1, dtype=torch.bool) & ~torch.eye(3, dtype=torch.bool)[..., None]
    assert matched(distance, telling).item() == pytest.approx(1 / 3)
    telling[:, 2] = telling[:, :, 2] = False
    assert matched(distance, telling).item() == 1


def test_a_model_that_imagines_nothing_finite_isn_t_taken_for_a_bad_one() -> None:
    distance = torch.full((1, 3, 3, 1), torch.nan)
    assert identified(distance, torch.ones(1, 3, 1, dtype=torch.bool)).isnan().all()
    assert matched(distance, torch.ones(1, 3, 3, 1, dtype=torch.bool)).isnan().all()


def test_the_regret_of_a_model_that_stands_for_the_null_action(evaluation: Subject) -> None:
    """Its imagined ends are those of other branches: it takes standing still for what was recorded."""
    swapped = among_branches(lambda ways: [STILL, RECORDED, *range(2, ways)])
    rows = select(measure(NAME, with_model(evaluation, swapped)), "branch_regret")
    branches = true_branches(evaluation)
    away = (branches.positions[:, :8, -1] - branches.positions[:, :1, -1]).norm(dim=-1)
    away = (away * branches.there[:, :8, -1]).sum(-1)
    assert [row.value for row in rows] == pytest.approx(away[:, STILL].tolist(), abs=1e-4)
    assert [row.target for row in rows] == pytest.approx(away.mean(1).tolist(), abs=1e-4)


class Elsewhere(nn.Module):
    """A right read-out, moved as a whole."""

    def __init__(self, right: nn.Module) -> None:
        super().__init__()
        self.right = right

    def forward(self, z: Tensor) -> Tensor:
        return self.right(z) + 3.0


def test_a_read_out_that_is_off_by_a_constant_reads_effects_rightly(evaluation: Subject) -> None:
    right = summary(measure(NAME, with_model(evaluation, lambda moves: moves)), "effect_error_gripper")
    probe = evaluation.probes["state"]
    assert isinstance(probe, nn.Module)
    evaluation.probes["state"] = Elsewhere(probe)
    assert summary(measure(NAME, evaluation), "effect_error_gripper") == pytest.approx(right, abs=1e-5)
