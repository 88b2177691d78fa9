"""Who drives when nobody does."""

from pathlib import Path

import numpy as np
import pytest
import torch

from grounds import drawn, ground
from rslwm.actors.planner import PlannerConfig
from rslwm.model.sampler import SamplingConfig
from rslwm.plan.base import PlanConfig
from rslwm.play import drivers, link
from rslwm.play.beginnings import Beginning
from rslwm.play.drivers import Candidates
from rslwm.play.session import Session
from rslwm.serialisation import ConfigError

SEARCH = PlannerConfig(PlanConfig(horizon=2, candidates=8, iterations=3, elites=2, sampling=SamplingConfig(steps=1)))


@pytest.fixture
def session(plugin: Path) -> Session:
    return Session(ground(plugin))


def test_settled_actions_are_done_and_then_nobody_drives(session: Session) -> None:
    actions = drawn(3)
    session.drive(drivers.replay(actions, "truth"))
    depths = [node.depth for node in iter(session.auto, None)]
    assert depths == [1, 2, 3]
    assert session.driver is None
    assert np.array_equal(session.actions(), link.quantised(actions))


def test_a_recorded_episode_s_actions_are_at_hand(plugin: Path) -> None:
    session = Session(ground(plugin), Beginning(episode=0))
    course = session.begun.course
    assert course is not None
    session.drive(drivers.replay(course[:2], "truth"))
    session.auto()
    assert np.array_equal(session.actions()[0], link.quantised(course[0]))


@pytest.mark.parametrize("looks", ["tiny-0", "truth"])
def test_a_plan_s_candidates_are_shown_iteration_by_iteration(session: Session, looks: str) -> None:
    told: list[Candidates] = []
    session.step(drawn(1)[0])
    session.set_goal(session.here.number)
    session.go(0)
    session.drive(drivers.planner(session, "tiny-0", looks, SEARCH, told.append))
    node = session.auto()
    assert node is not None
    assert [found.iteration for found in told] == [0, 1, 2]
    assert all(found.frames.shape == (4, 32, 32, 3) for found in told)
    assert all((np.diff(found.costs) >= 0).all() for found in told)


def test_a_plan_starts_from_what_was_seen_last(session: Session) -> None:
    session.step(drawn(1)[0])
    session.set_goal(1)
    session.step(drawn(2)[1])
    driver = drivers.planner(session, "tiny-0", "tiny-0", SEARCH, lambda found: None)
    session.drive(driver)
    session.auto()
    latents = driver.actor._latents
    wanted = [session.history.nodes[number].shown[1].latents for number in (1, 2)]
    assert torch.equal(latents[0, -2:], torch.stack(wanted))


def test_planning_without_a_goal_is_refused(session: Session) -> None:
    with pytest.raises(ConfigError, match="no goal"):
        drivers.planner(session, "tiny-0", "truth", SEARCH, lambda found: None)


def test_planning_over_the_truth_is_refused(session: Session) -> None:
    with pytest.raises(ConfigError, match="needs a world model"):
        drivers.planner(session, "truth", "truth", SEARCH, lambda found: None)


def test_the_end_of_a_fresh_table_is_no_goal(session: Session) -> None:
    with pytest.raises(ConfigError, match="no recorded end"):
        session.set_goal()
