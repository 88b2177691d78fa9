from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rslwm.data.actions import compose
from rslwm.data.clips import Clips, split_episodes, windows
from rslwm.data.store import TensorStore
from rslwm.serialisation import ConfigError
from rslwm.types import GRIPPERS, DataError, end_effector_spec

SPEC = end_effector_spec(0.05, 0.25)
LENGTHS = (12, 5, 9)


@pytest.fixture
def clips(tmp_path: Path) -> Clips:
    """Frame t of episode e holds the number 100 e + t, so that a clip tells where it comes from."""
    rng = np.random.default_rng(0)
    ids = [f"e{i}" for i in range(len(LENGTHS))]
    values = [torch.arange(n)[:, None].add(100 * e).to(torch.int32) for e, n in enumerate(LENGTHS)]
    actions = [SPEC.denormalise(rng.uniform(-1, 1, (n, 7))) for n in LENGTHS]
    store = TensorStore.write(tmp_path / "store", zip(ids, values, strict=True), {})
    return Clips(store, ids, actions, SPEC, frames=3, skip=2)


def test_windows_are_exactly_those_that_fit() -> None:
    # 3 frames 2 apart span 5 steps: 12 - 5 + 1 = 8, 1 and 5 places.
    found = windows(LENGTHS, [0, 1, 2], frames=3, skip=2)
    assert np.bincount(found[:, 0]).tolist() == [8, 1, 5]
    assert found[:8, 1].tolist() == list(range(8))


def test_windows_keep_to_the_asked_episodes() -> None:
    assert windows(LENGTHS, [2], frames=3, skip=2)[:2].tolist() == [[2, 0], [2, 1]]
    assert windows(LENGTHS, [1], frames=4, skip=2).shape == (0, 2)


def test_a_batch_holds_the_frames_of_its_windows(clips: Clips) -> None:
    batch = clips.batch(np.array([[0, 7], [2, 1]]))
    assert batch.x[..., 0].tolist() == [[7, 9, 11], [201, 203, 205]]


def test_actions_between_frames_are_composed_then_normalised(clips: Clips) -> None:
    batch = clips.batch(np.array([[2, 3]]))
    between = compose(clips.actions[2][5:7], SPEC)
    np.testing.assert_allclose(batch.actions[0, 1], SPEC.composed(2).normalise(between), atol=1e-6)
    assert batch.actions.shape == (1, 2, 7)
    assert batch.actions.dtype == torch.float32
    assert clips.step_spec == SPEC.composed(2)


def test_actions_are_those_that_another_spec_means(clips: Clips) -> None:
    """A metre is a metre, whatever the bounds; the gripper is turned round."""
    target = replace(end_effector_spec(0.2, 1.0, hz=2.5), gripper=GRIPPERS[1])
    batch, ours = replace(clips, target=target).batch(np.array([[2, 3]])), clips.batch(np.array([[2, 3]]))
    metres = target.denormalise(batch.actions.numpy())
    expected = clips.step_spec.denormalise(ours.actions.numpy())
    np.testing.assert_allclose(metres[..., :6], expected[..., :6], atol=1e-6)
    np.testing.assert_allclose(metres[..., 6], 1 - expected[..., 6], atol=1e-6)


def test_first_keeps_the_bounds_of_one_step(clips: Clips) -> None:
    published = Clips(clips.store, clips.ids, clips.actions, SPEC, frames=3, skip=2, composition="first")
    batch = published.batch(np.array([[0, 0]]))
    np.testing.assert_allclose(batch.actions[0], SPEC.normalise(clips.actions[0][[0, 2]]), atol=1e-6)
    assert published.step_spec.low == SPEC.low
    assert published.step_spec.hz == SPEC.hz / 2


def test_single_frames_are_clips_too(clips: Clips) -> None:
    frames = Clips(clips.store, clips.ids, clips.actions, SPEC, frames=1)
    batch = frames.batch(frames.windows([0])[-2:])
    assert batch.x[..., 0].tolist() == [[10], [11]]
    assert batch.actions.shape == (2, 0, 7)


def test_sampling_follows_the_generator_alone(clips: Clips) -> None:
    places = clips.windows([0, 1, 2])
    draw = [clips.sample(places, 20, torch.Generator().manual_seed(seed)).windows for seed in (0, 0, 1)]
    np.testing.assert_array_equal(draw[0], draw[1])
    assert (draw[0] != draw[2]).any()


def test_sampling_draws_from_the_given_windows_only(clips: Clips) -> None:
    batch = clips.sample(clips.windows([2]), 50, torch.Generator().manual_seed(0))
    assert set(batch.windows[:, 0]) == {2}
    assert batch.x.min() >= 200


def test_too_short_episodes_say_so(clips: Clips) -> None:
    with pytest.raises(DataError, match="longest episode has 12"):
        clips.sample(np.empty((0, 2), np.int64), 4, torch.Generator())


def test_a_window_outside_its_episode_is_refused(clips: Clips) -> None:
    with pytest.raises(DataError, match=r"'e1' of 5 frames has no clip 1\.\.5"):
        clips.batch(np.array([[1, 1]]))


def test_a_store_that_does_not_fit_its_actions_is_refused(clips: Clips) -> None:
    with pytest.raises(DataError, match="'e0' has 12 frames for actions of shape"):
        Clips(clips.store, clips.ids, [a[1:] for a in clips.actions], SPEC, frames=3)


IDS = [f"episode {i}" for i in range(20)]


def test_every_episode_is_on_one_side_and_about_the_share_is_held_out() -> None:
    ids = [f"episode {i}" for i in range(2000)]
    train, test = split_episodes(ids, 0.25, seed=0)
    assert sorted(train + test) == list(range(2000))
    assert len(test) == pytest.approx(500, abs=4 * 19.4)  # four standard deviations


@pytest.mark.parametrize("fraction", [0.1, 0.34, 0.9])
def test_episodes_that_are_added_move_none_to_the_other_side(fraction: float) -> None:
    """But one: a side that would have been empty gives back what it borrowed."""
    rng = np.random.default_rng(0)
    for seed in range(50):
        ids = [f"e{i}" for i in rng.permutation(60)]
        few = int(rng.integers(2, 30))
        small, grown = (split_episodes(part, fraction, seed) for part in (ids[:few], ids))
        sides = [{ids[i] for i in side} for side in grown]
        moved = [{ids[i] for i in side} - there for side, there in zip(small, sides, strict=True)]
        assert sum(map(len, moved)) <= (min(map(len, small)) == 1)


def test_removing_episodes_moves_none_to_the_other_side() -> None:
    _, test = split_episodes(IDS, 0.4, seed=0)
    _, fewer = split_episodes(IDS[3:], 0.4, seed=0)
    assert {IDS[3:][i] for i in fewer} == {IDS[i] for i in test if i >= 3}


def test_a_single_episode_is_trained_on() -> None:
    assert split_episodes(["a"], 0.9, seed=0) == ([0], [])


def test_the_split_does_not_depend_on_the_order_of_the_ids() -> None:
    _, test = split_episodes(IDS, 0.25, seed=0)
    backwards = IDS[::-1]
    _, again = split_episodes(backwards, 0.25, seed=0)
    assert {IDS[i] for i in test} == {backwards[i] for i in again}


def test_seeds_split_differently() -> None:
    assert split_episodes(IDS, 0.5, seed=0) != split_episodes(IDS, 0.5, seed=1)


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_no_side_is_empty(fraction: float) -> None:
    train, test = split_episodes(["a", "b"], fraction, seed=0)
    assert len(train) == len(test) == 1


def test_a_repeated_id_is_refused() -> None:
    with pytest.raises(DataError, match="'a' occurs twice"):
        split_episodes(["a", "b", "a"], 0.5, seed=0)


def test_a_fraction_outside_zero_to_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="test_fraction: 1"):
        split_episodes(IDS, 1.0, seed=0)
