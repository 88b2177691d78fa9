"""Windows, rollouts and rows: the same for every space, of held-out episodes only."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from measured import Subject, measure, metric_infos
from point_world import PointWorldModel
from rslwm.evals.base import METRICS, NotAvailable
from rslwm.evals.rows import DTYPES
from rslwm.evals.windows import choose, strangers
from rslwm.types import AXES, DataError


def test_windows_depend_on_the_evaluation_seed_and_concern_alone(evaluation: Subject) -> None:
    windows = evaluation.windows(3, 10, "clips")
    other = replace(evaluation, world_model=PointWorldModel(gain=0), label=replace(evaluation.label, seed=7))
    assert np.array_equal(windows, other.windows(3, 10, "clips"))
    assert not np.array_equal(windows, evaluation.windows(3, 10, "cem"))
    reseeded = replace(evaluation, seed=5)
    assert not np.array_equal(windows, reseeded.windows(3, 10, "clips"))


def test_windows_are_distinct_held_out_and_in_order(evaluation: Subject) -> None:
    windows = evaluation.windows(3, 20, "clips")
    assert len(np.unique(windows, axis=0)) == 20
    assert set(windows[:, 0]) <= set(evaluation.corpus.test)
    assert windows.tolist() == sorted(windows.tolist())


def test_fewer_windows_than_asked_for_are_all_taken() -> None:
    windows = np.arange(10).reshape(5, 2)
    assert np.array_equal(choose(windows, 100, 0, "clips"), windows)


def test_held_out_episodes_that_hold_no_window_are_said_so(evaluation: Subject) -> None:
    with pytest.raises(NotAvailable, match="no held-out episode holds 30 frames 2 steps apart"):
        evaluation.windows(30, 4, "clips")


@pytest.mark.parametrize("counts", [[1, 1], [5, 5], [1, 2, 3, 4], [1] * 20, [9, 1, 1, 1]])
@pytest.mark.parametrize("seed", range(6))
def test_shuffled_actions_are_of_another_episode(counts: list[int], seed: int) -> None:
    windows = np.array([(episode, start) for episode, count in enumerate(counts) for start in range(count)])
    places = strangers(windows, 1, seed)[:, 0].numpy()
    assert sorted(places) == list(range(len(windows)))
    assert (places != np.arange(len(windows))).all()
    if max(counts) <= len(windows) / 2:
        assert (windows[places, 0] != windows[:, 0]).all()


def test_rollouts_start_from_real_frames_and_are_compared_with_the_right_ones(evaluation: Subject) -> None:
    rollouts = evaluation.main
    (episode, start), store = rollouts.windows[0], evaluation.latents
    stored = store[evaluation.corpus.dataset.ids[episode]].float()
    assert torch.equal(rollouts.context[0], stored[start : start + 3 : 2])
    assert torch.equal(rollouts.true[0], stored[start + 4 : start + 12 : 2])
    assert torch.equal(rollouts.clip[:, :2], rollouts.context)
    assert rollouts.actions.shape == (6, 5, 4)
    torch.testing.assert_close(rollouts.generated, rollouts.true, rtol=0, atol=0.05)
    assert rollouts.seconds > 0


def test_the_horizon_shrinks_to_what_half_of_the_episodes_hold(evaluation: Subject) -> None:
    evaluation.set("rollouts", future=50)
    typical = int(np.median(evaluation.corpus.dataset.lengths[evaluation.corpus.test]))
    assert evaluation.main.future == (typical - 1) // 2 + 1 - 2


def test_episodes_too_short_for_any_future_are_refused(evaluation: Subject) -> None:
    evaluation.set("rollouts", context=9)
    with pytest.raises(DataError, match=r"no future frame after 9 context frames 2 steps apart\. Lower"):
        _ = evaluation.main


def test_pixels_are_the_frames_of_the_windows(evaluation: Subject) -> None:
    windows = evaluation.main.windows
    frames = evaluation.pixels(windows, 6)
    torch.testing.assert_close(evaluation.decode(evaluation.main.true), frames[:, 2:], rtol=0, atol=0.06)


HERE = sorted({*METRICS} - {"lpips", "policies", "improvement"})
"""What can be measured without a download and without the simulator, whose tasks the shipped policies know."""


def test_every_metric_yields_rows_of_what_it_declares(evaluation: Subject) -> None:
    infos = metric_infos()
    for name in HERE:
        rows = measure(name, evaluation)
        declared = {info.name for info in METRICS.get(name).infos}
        assert rows
        assert {row.metric for row in rows} <= declared
        for row in rows:
            info = infos[row.metric]
            assert (row.axis, row.higher_is_better, row.split) == (info.axis, info.higher_is_better, "test")
            assert (row.latent, row.family, row.size, row.seed) == ("point", "floor", "exact", 0)
            assert np.isfinite(row.value)
            assert isinstance(row.window, int)
        columns = [name for name in DTYPES if name not in ("value", "target")]
        keys = [tuple(getattr(row, column) for column in columns) for row in rows]
        if name not in ("inverse_dynamics", "success_instructed", "attribution"):  # several of a kind a window
            assert len(set(keys)) == len(keys)


def test_every_scored_metric_has_a_floor_and_a_ceiling(evaluation: Subject) -> None:
    infos = metric_infos()
    assert {info.axis for info in infos.values() if info.scored} == set(AXES)
    measured = {(row.metric, row.role) for name in HERE for row in measure(name, evaluation)}
    for info in infos.values():
        if info.scored:
            assert info.floor_value is not None or (info.name, "floor") in measured
            assert info.ceiling_value is not None or (info.name, "ceiling") in measured
            assert info.floor
            assert info.ceiling
