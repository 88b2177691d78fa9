"""What is recorded of the true world under other actions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from measured import Subject
from point_world import METRES, RandomPointSource
from rslwm.data.config import DataConfig
from rslwm.data.corpus import Corpus
from rslwm.data.frames import build_frame_store
from rslwm.data.sources.sim import Simulator
from rslwm.evals.branches import RECORDED, STILL, VISIBLE, Branches, BranchRecording, told_apart
from rslwm.evals.truth import Truth
from rslwm.sim.config import SimConfig

RECORDING = BranchRecording(windows=6, branches=5, context=2, future=3, sizes=(0.1, 0.4))


@pytest.fixture
def branches(evaluation: Subject) -> Branches:
    found = evaluation.given(RECORDING)
    assert isinstance(found, Branches)
    return found


def test_the_recorded_branch_is_what_was_recorded(branches: Branches, evaluation: Subject) -> None:
    batch = evaluation.clips(5).batch(branches.windows)
    assert torch.equal(branches.actions[:, RECORDED], batch.actions[:, 1:])
    assert torch.equal(branches.past, batch.actions[:, :1])
    expected = METRES * batch.x[:, 2:, 0, 0, :3].float()
    assert torch.allclose(branches.gripper[:, RECORDED], expected, atol=2e-3)  # stored in bfloat16
    frames = evaluation.pixels(branches.windows, 5)[:, 2:]
    assert (branches.frames[:, RECORDED] / 255 - frames).abs().mean() < 0.02  # the codec


def test_the_null_action_stays_where_the_context_ended_and_keeps_the_gripper(
    branches: Branches, evaluation: Subject
) -> None:
    context = evaluation.clips(2).batch(branches.windows)
    here = METRES * context.x[:, 1:, 0, 0, :3].float()
    assert torch.allclose(branches.gripper[:, STILL], here.expand(-1, 3, -1), atol=2e-3)
    assert torch.equal(branches.actions[:, STILL, :, 3], branches.past[:, :, 3].expand(-1, 3))


def test_the_others_are_recorded_actions_of_other_episodes(branches: Branches) -> None:
    recorded = branches.actions[:, RECORDED]
    for n, ways in enumerate(branches.actions[:, 2 : branches.count]):
        for way in ways:
            (found,) = [m for m in range(len(recorded)) if torch.equal(recorded[m], way)]
            assert found != n
    assert branches.count == 5
    assert branches.actions.shape[1] == 7


def test_near_misses_are_off_by_their_size_in_one_direction_of_what_moves(branches: Branches) -> None:
    recorded, (small, large) = branches.actions[:, RECORDED], branches.actions[:, 5:].unbind(1)
    inside = (large.abs() < 1).all(2)
    off = small - recorded
    assert inside.sum() > 4
    assert torch.allclose(off.norm(dim=2), torch.full(off.shape[:2], 0.1), atol=1e-5)
    assert torch.allclose((large - recorded)[inside], 4 * off[inside], atol=1e-5)
    assert not off[..., 3].any()


def test_near_misses_stay_within_the_bounds(evaluation: Subject) -> None:
    branches = evaluation.given(replace(RECORDING, sizes=(3.0,)))
    assert branches.actions.abs().max() == 1


def test_all_branches_of_a_moment_meet_the_same_chance(evaluation: Subject) -> None:
    evaluation.source = RandomPointSource("", evaluation.corpus.config)
    branches = evaluation.given(RECORDING)
    drift = branches.gripper - METRES * branches.actions[..., :3].cumsum(2)
    assert torch.allclose(drift[:, :1].expand_as(drift), drift, atol=1e-5)
    assert (drift[:, 0, 1] - drift[:, 0, 0]).abs().max() > 1e-3


def test_it_opens_as_it_was_made(branches: Branches, tmp_path: Path) -> None:
    branches.save(tmp_path)
    again = Branches.load(tmp_path)
    assert again.sizes == RECORDING.sizes
    assert np.array_equal(again.windows, branches.windows)
    for name in ("past", "actions", "frames", "gripper", "objects", "present"):
        assert torch.equal(getattr(again, name), getattr(branches, name))


def test_positions_are_the_gripper_s_and_then_the_objects_in_centimetres(branches: Branches) -> None:
    assert branches.positions.shape == (6, 7, 3, 3, 3)
    assert torch.allclose(branches.positions[..., 0, :], 100 * branches.gripper)
    assert torch.allclose(branches.positions[..., 1, :], 100 * (branches.gripper + 0.1), atol=1e-4)
    second = torch.from_numpy(branches.windows[:, 0] % 2).float()  # every other episode has one
    assert torch.equal(branches.there[:, 0, 0], torch.stack([torch.ones(6), torch.ones(6), second], 1))


def test_a_branch_that_looks_like_an_earlier_one_is_left_out() -> None:
    frames = torch.zeros(1, 4, 2, 8, 8, 3, dtype=torch.uint8)
    frames[0, 1, :, 0, 0] = VISIBLE  # too faint a difference
    frames[0, 2, :, 0, 0] = VISIBLE + 1  # one pixel is enough; from branch 1 it can't be told, but that is out
    frames[0, 3, 1] = 200
    assert told_apart(frames)[0].T.tolist() == [[True, False, True, False], [True, False, True, True]]


@pytest.mark.slow
@pytest.mark.parametrize(("frame_skip", "tolerance"), [(1, 1e-3), (2, 1e-2)])
def test_the_simulator_s_recorded_branch_is_the_recorded_episode(
    frame_skip: int, tolerance: float, tmp_path: Path
) -> None:
    """In metres. With a frame skip the two actions between frames are done in equal parts, which they weren't."""
    sim = SimConfig(episodes=4, image_size=32, min_steps=12, max_steps=12)
    config = DataConfig(sim=sim, image_size=32, frame_skip=frame_skip, test_fraction=0.5)
    source = Simulator("tabletop", config)
    dataset = source.write(tmp_path / "set")
    corpus = Corpus(dataset, build_frame_store(dataset, "", 32, tmp_path / "frames"), config)
    BranchRecording(windows=2, branches=3, context=2, future=3, sizes=(0.4,)).make(Truth(corpus, source, 0), tmp_path)
    branches = Branches.load(tmp_path)
    for n, (episode, start) in enumerate(branches.windows):
        states = dataset.states(int(episode))
        steps = start + frame_skip * np.arange(2, 5)
        for found, name in ((branches.gripper, "gripper_position"), (branches.objects, "object_position")):
            np.testing.assert_allclose(found[n, RECORDED], states[name][steps], atol=tolerance)
        frames = torch.from_numpy(dataset.frames(int(episode), dataset.camera("front")))[steps]
        assert (branches.frames[n, RECORDED].float() - frames.float()).abs().mean() < 8
    assert (branches.gripper[:, STILL, -1] - branches.gripper[:, STILL, 0]).abs().max() < 5e-3


def test_a_recording_that_is_stopped_goes_on_after_its_last_moment(evaluation: Subject, tmp_path: Path) -> None:
    def stop(done: int, total: int, message: str) -> None:
        if done == 4:
            raise KeyboardInterrupt

    truth = Truth(evaluation.corpus, evaluation.source, 0)
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    RECORDING.make(truth, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        RECORDING.make(truth, tmp_path / "stopped", stop)
    (known := tmp_path / "stopped/moment-00000.safetensors").write_bytes(
        (tmp_path / "stopped/moment-00001.safetensors").read_bytes()
    )
    RECORDING.make(truth, tmp_path / "stopped")
    whole, again = (RECORDING.open(tmp_path / name) for name in ("whole", "stopped"))
    assert torch.equal(again.frames[1:], whole.frames[1:])
    assert torch.equal(again.gripper[0], whole.gripper[1])  # it took what was there
    assert not known.exists()
