"""The oracle on the point world: what it imagines is what happens."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from measured import Subject, measure, select, summary
from point_world import PointSource, RandomPointSource
from rslwm.evals.base import NotAvailable
from rslwm.evals.oracle import STATE, Address, Oracle, States, addresses
from rslwm.evals.truth import Truth

FRAMES = 6


def oracle(evaluation: Subject, source: type[PointSource] = PointSource) -> Subject:
    """The same evaluation of the oracle."""
    corpus, origin = evaluation.corpus, source("", evaluation.corpus.config)
    states = States(truth := Truth(corpus, origin, 0))
    model = Oracle(truth, states, evaluation.world_model.config.dit.max_frames)
    return replace(evaluation, latents=states, world_model=model, source=origin)


@pytest.fixture
def known(evaluation: Subject) -> Subject:
    return oracle(evaluation)


def states(evaluation: Subject) -> States:
    assert isinstance(evaluation.latents, States)
    return evaluation.latents


def test_a_latent_holds_the_recorded_state_and_where_it_was_recorded(known: Subject) -> None:
    batch = known.batch(FRAMES, 8, "any")
    recorded = known.corpus.states[batch.windows[3, 0]]["gripper_position"]
    steps = batch.windows[3, 1] + 2 * np.arange(FRAMES)
    assert torch.allclose(states(known).vectors(batch.x)["gripper_position"][3], torch.tensor(recorded[steps]))
    assert addresses(batch.x[3]) == [Address(batch.windows[3, 0], step) for step in steps]


def test_addresses_are_too_faint_for_any_distance(known: Subject) -> None:
    x = known.batch(FRAMES, 8, "any").x
    assert (x[..., STATE:] != 0).any()
    assert x[..., STATE:].square().sum() < 1e-12 * x[..., :STATE].square().sum()


def test_recorded_actions_lead_to_recorded_states(known: Subject) -> None:
    error = known.main.generated - known.main.true
    assert error[..., :STATE].abs().max() < 1e-3


def test_another_action_leads_elsewhere_and_on_from_there(known: Subject) -> None:
    batch, sampling = known.batch(FRAMES, 8, "any"), known.config.rollouts.sampling
    moved = -batch.actions
    end = known.generate(batch.x[:, :1], moved, "there", sampling)[:, -1:]
    back = known.generate(end, batch.actions, "back", sampling)[:, -1]
    there, start = (states(known).vectors(x)["gripper_position"] for x in (back, batch.x[:, 0]))
    assert torch.allclose(there, start, atol=1e-4)


@pytest.mark.parametrize("other", ["generated", "true"])
def test_frames_of_a_rollout_are_those_of_its_moments_in_another_process_too(known: Subject, other: str) -> None:
    context = known.main.context.shape[1]
    latents = getattr(known.main, other)
    shown = oracle(known).decode(latents)  # an oracle that has seen none of it
    true = known.pixels(known.main.windows, context + known.main.future)[:, context:]
    assert torch.equal(shown, known.decode(latents))
    assert (shown - true).abs().mean() < 0.02  # stored as video


def test_what_another_process_tried_out_is_not_available(known: Subject) -> None:
    batch = known.batch(FRAMES, 4, "any")
    tried = known.generate(batch.x[:, :1], -batch.actions, "there", known.config.rollouts.sampling)
    assert known.decode(tried).shape[:2] == tried.shape[:2]
    with pytest.raises(NotAvailable, match="no longer knows"):
        oracle(known).decode(tried)


def test_chance_follows_the_noise_and_can_be_replayed(evaluation: Subject) -> None:
    chancy = oracle(evaluation, RandomPointSource)
    batch, sampling = chancy.batch(FRAMES, 8, "any"), chancy.config.rollouts.sampling
    once, again, other = (
        chancy.generate(batch.x[:, :1], batch.actions, concern, sampling) for concern in ("a", "a", "b")
    )
    assert torch.equal(once, again)
    assert (once - other)[..., :STATE].abs().mean() > 0.01
    assert torch.equal(chancy.decode(once), oracle(chancy, RandomPointSource).decode(once))


def test_states_are_looked_at_and_frames_are_not_enough(known: Subject) -> None:
    batch = known.batch(FRAMES, 4, "any")
    frames, vectors = known.pixels(batch.windows, FRAMES), states(known).vectors(batch.x)
    assert torch.allclose(known.encode(frames, vectors)[..., :STATE], batch.x[..., :STATE], atol=1e-5)
    with pytest.raises(NotAvailable, match="frames alone"):
        known.encode(frames)


@pytest.mark.parametrize(
    ("metric", "name", "ceiling", "within"),
    [
        ("one_step", "one_step_error", 0.0, 1e-6),
        ("rollout_error", "rollout_error", 0.0, 1e-6),
        ("action_identification", "action_identification", 1.0, 1e-6),
        ("planning", "cem_error", None, 0.05),
        ("visual", "psnr", None, 0.1),
    ],
)
def test_it_reaches_the_ceiling(known: Subject, metric: str, name: str, ceiling: float | None, within: float) -> None:
    rows = measure(metric, known)
    assert summary(rows, name) == pytest.approx(
        summary(rows, name, "ceiling") if ceiling is None else ceiling, abs=within
    )
    if select(rows, name, "floor"):
        assert abs(summary(rows, name, "floor") - summary(rows, name)) > 3 * within
