"""A drive is what its beginning and its actions make it, however one came there."""

from pathlib import Path

import numpy as np
import pytest
import torch

from grounds import drawn, ground
from rslwm.envs.imagined_world import ImaginedWorld
from rslwm.play import history
from rslwm.play.beginnings import Beginning
from rslwm.play.drivers import policy, replay
from rslwm.play.history import Node
from rslwm.play.session import Session
from rslwm.serialisation import ConfigError
from rslwm.types import DataError

BEGINNING = Beginning("pick", seed=3, noise=5)


@pytest.fixture
def session(plugin: Path) -> Session:
    return Session(ground(plugin), BEGINNING)


def drive(session: Session, actions: np.ndarray) -> list[Node]:
    return [session.step(action) for action in actions]


def same(one: Node, other: Node) -> bool:
    return all(np.array_equal(a.frame, b.frame) for a, b in zip(one.shown, other.shown, strict=True))


def test_every_world_does_the_same_action(session: Session) -> None:
    before = session.here
    after = session.step(drawn(1)[0])
    assert [len(node.shown) for node in (before, after)] == [2, 2]
    assert not any(np.array_equal(a.frame, b.frame) for a, b in zip(before.shown, after.shown, strict=True))


def test_undone_and_done_again_is_the_same(session: Session) -> None:
    actions = drawn(3)
    first = drive(session, actions)
    for _ in range(2):
        session.undo()
    assert session.here is first[0]
    assert same(drive(session, actions[1:])[-1], first[-1])


def test_another_branch_leaves_the_first_as_it_was(session: Session) -> None:
    first = drive(session, drawn(3))
    session.go(first[0].number)
    other = drive(session, drawn(2, seed=1))
    assert other[0].parent == first[0].number
    assert not same(other[-1], first[-1])
    assert session.go(first[-1].number) is first[-1]


def test_a_fork_shows_what_a_drive_without_the_other_branch_shows(session: Session, plugin: Path) -> None:
    actions = drawn(4)
    drive(session, actions)
    session.go(2)
    drive(session, drawn(3, seed=1))
    alone = Session(ground(plugin), BEGINNING)
    wanted = drive(alone, np.concatenate([actions[:2], drawn(3, seed=1)]))
    assert same(session.here, wanted[-1])


def test_states_that_were_let_go_are_made_again(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "RECENT", 1)
    monkeypatch.setattr(history, "MILESTONE", 4)
    actions = drawn(7)
    first = drive(session, actions)
    session.go(first[5].number)
    assert first[5].number not in session.history.kept
    assert same(session.step(actions[6]), first[6])


def test_a_link_repeats_a_drive(session: Session, plugin: Path) -> None:
    first = drive(session, drawn(3))
    other = Session(ground(plugin))
    actions = other.open(session.link)
    other.drive(replay(actions, "truth"))
    while other.auto():
        pass
    assert same(other.here, first[-1])
    assert other.link == session.link


def test_noise_is_part_of_the_beginning(plugin: Path) -> None:
    one, other = (Session(ground(plugin), Beginning(noise=noise)) for noise in (0, 1))
    action = drawn(1)[0]
    truth, imagined = zip(one.step(action).shown, other.step(action).shown, strict=True)
    assert np.array_equal(*(shown.frame for shown in truth))
    assert not np.array_equal(*(shown.frame for shown in imagined))


def test_visitors_don_t_meet(plugin: Path) -> None:
    shared = ground(plugin)
    one, other = Session(shared, BEGINNING), Session(shared, Beginning("drawer"))
    alone = Session(ground(plugin), BEGINNING)
    for action in drawn(3):
        one.step(action)
        other.step(-action)
        alone.step(action)
    assert same(one.here, alone.here)


def test_actions_are_clipped_to_their_bounds(session: Session) -> None:
    session.step(np.full(7, 3.0))
    assert session.actions().max() == 2**15 - 1


@pytest.mark.parametrize("action", [[0.0] * 6, [0.0] * 6 + [np.nan]])
def test_an_action_that_is_none_is_refused(session: Session, action: list[float]) -> None:
    with pytest.raises(DataError, match="7 finite numbers"):
        session.step(np.array(action))
    assert len(session.history.nodes) == 1


def test_the_reader_s_error_on_the_true_frame_stands_beside_the_divergence(session: Session) -> None:
    truth, imagined = (shown.reading for shown in session.step(drawn(1)[0]).shown)
    assert truth.latent is None
    assert truth.hand_cm is not None
    assert imagined.latent > 0
    assert imagined.hand_cm > 0
    assert imagined.done is None


def test_latents_diverge_by_nothing_where_a_world_shows_the_truth(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands for the imagined frame is the true one, encoded."""
    pane = session.ground.panes[1]
    session.step(drawn(1)[0])
    true = session.here.shown[1].true_latents
    monkeypatch.setattr(ImaginedWorld, "latents", staticmethod(lambda moment: true[None]))
    shown = session._read(session._moments(), [0.0, 0.0])
    assert pane.model is not None
    assert shown[1].reading.latent == 0


def test_a_policy_s_actions_move_all_worlds(session: Session) -> None:
    session.drive(policy(session.ground, "sees-points-1000", "truth"))
    first = session.auto()
    assert first is not None
    assert np.abs(first.action).max() > 0
    assert all(
        not np.array_equal(a.frame, b.frame) for a, b in zip(first.shown, session.history.nodes[0].shown, strict=True)
    )


def test_a_policy_begins_anew_where_somebody_went_elsewhere(session: Session) -> None:
    session.drive(policy(session.ground, "sees-points-1000", "tiny-0"))
    first = session.auto()
    session.auto()
    session.go(0)
    again = session.auto()
    assert first is not None
    assert again is not None
    assert same(first, again)


def test_only_policies_that_are_offered_are_run(session: Session) -> None:
    with pytest.raises(ConfigError, match="somebody"):
        policy(session.ground, "somebody.py:Evil", "truth")


def test_actors_see_the_recent_past(session: Session) -> None:
    actions = drawn(3)
    drive(session, actions)
    seen = session.observation("tiny-0", 3)
    assert seen.latents.shape[:2] == seen.frames.shape[:2] == (1, 3)
    assert torch.allclose(seen.actions[0], torch.from_numpy(actions[1:]).float(), atol=1e-4)


def test_a_session_that_is_full_says_so(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST", 2)
    session.step(drawn(1)[0])
    with pytest.raises(ConfigError, match="begin anew"):
        session.step(drawn(1)[0])


def test_the_robot_stands_still_with_the_gripper_as_it_was(session: Session) -> None:
    action = np.zeros(7)
    action[6] = 1
    session.step(action)
    assert session.still().tolist() == pytest.approx([0] * 6 + [1])
