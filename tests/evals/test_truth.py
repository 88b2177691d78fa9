"""The true world that metrics act in: the recorded one, from any recorded moment, under any actions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from measured import Subject
from point_world import METRES, RandomPointSource
from rslwm.actors.blind import Recorded
from rslwm.data.sources.base import Source
from rslwm.envs.base import play
from rslwm.evals.base import NotAvailable

FRAMES = 4


def positions(evaluation: Subject, actions: torch.Tensor, windows: np.ndarray) -> torch.Tensor:
    truth = evaluation.truth
    seen = play(Recorded(actions), truth.environment, truth.state(windows), FRAMES - 1).seen
    return seen.truth["gripper_position"]


def test_what_was_done_leads_to_what_was_recorded(evaluation: Subject) -> None:
    windows = evaluation.windows(FRAMES, 8, "branches")
    batch = evaluation.clips(FRAMES).batch(windows)
    found = positions(evaluation, batch.actions, windows)
    assert torch.allclose(found, METRES * batch.x[:, 1:, 0, 0, :3].float(), atol=2e-3)  # stored in bfloat16


def test_something_else_leads_elsewhere(evaluation: Subject) -> None:
    windows = evaluation.windows(FRAMES, 8, "branches")
    actions = evaluation.truth.actions(windows, FRAMES)
    there, back = positions(evaluation, actions, windows), positions(evaluation, -actions, windows)
    start = evaluation.truth.environment.reset(evaluation.truth.state(windows)).truth["gripper_position"]
    assert torch.allclose(there - start, start - back, atol=1e-5)


def test_chance_takes_another_course_after_reseeding(evaluation: Subject) -> None:
    chancy = replace(evaluation, source=RandomPointSource("", evaluation.corpus.config))
    world, windows = chancy.truth.environment, evaluation.windows(FRAMES, 8, "branches")
    state, actions = chancy.truth.state(windows), chancy.truth.actions(windows, FRAMES)
    once, again, other = (
        play(Recorded(actions), world, world.reseeded(state, seed), FRAMES - 1).seen.truth["gripper_position"]
        for seed in (0, 0, 1)
    )
    assert torch.equal(once, again)
    assert ((once - other).std(0) > 0.005).all()


@pytest.mark.parametrize("source", [None, Source("", None)])
def test_a_recording_has_no_other_course(evaluation: Subject, source: Source | None) -> None:
    with pytest.raises(NotAvailable, match="are a recording"):
        _ = replace(evaluation, source=source).truth.environment


def test_actions_that_the_world_doesn_t_take_are_refused(evaluation: Subject) -> None:
    corpus = replace(evaluation.corpus, config=replace(evaluation.corpus.config, frame_skip=3))
    with pytest.raises(NotAvailable, match="isn't one that the simulator takes"):
        _ = replace(evaluation, corpus=corpus).truth.environment
