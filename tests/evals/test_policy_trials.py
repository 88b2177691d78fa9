"""Trials of policies in the true world: the same beginnings for all, outcomes by action, failures that are no failures
of the task."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from rslwm.actors import policies
from rslwm.actors.base import Actor, Observation
from rslwm.actors.blind import Still
from rslwm.actors.expert import Expert
from rslwm.envs.base import play
from rslwm.envs.tabletop import SimulatedTabletop
from rslwm.evals.aggregates import BIAS, RATES_PEARSON
from rslwm.evals.judges.base import Footage
from rslwm.evals.judges.rule import Tolerance
from rslwm.evals.judges.seen import SeenJudge
from rslwm.evals.policies import look
from rslwm.evals.trials import (
    FAILED,
    Beginnings,
    Kind,
    TrialsConfig,
    as_kind,
    begin,
    everyone,
    first,
    outcomes,
    seen_before,
)
from rslwm.sim.config import SimConfig
from rslwm.sim.sight import WIDTH, facts

SETTINGS = TrialsConfig(families=("drawer",), trials=2, filmed=1, actions=12)


@pytest.fixture(scope="module")
def table() -> SimulatedTabletop:
    return SimulatedTabletop(SimConfig(), frame_skip=2)


def test_the_first_time_counts_and_who_fails_to_answer_is_no_failure():
    success = torch.tensor([[0, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0], [0, 1, 1, 1]]).bool()
    done = first(success, {3: "the server stalls"})
    assert done.tolist() == [2, 0, -1, FAILED]
    assert outcomes(done[None])[0].tolist()[:3] == [1, 1, 0]
    assert outcomes(done[None], 1)[0].tolist()[:3] == [0, 1, 0]
    assert outcomes(done[None])[0, 3].isnan()


def test_an_expert_gets_it_done_and_doing_nothing_does_not(table: SimulatedTabletop, tmp_path: Path):
    expert = as_kind(Expert(table.spec), table, "drawer", SETTINGS)
    still = as_kind(Still(), table, "drawer", SETTINGS)
    assert (expert.done > 0).all()
    assert (still.done == -1).all()
    assert expert.films.shape == (1, 2 + 12, 64, 64, 3)
    torch.testing.assert_close(expert.films[:, :2], still.films[:, :2])  # the same beginning
    expert.save(tmp_path / "drawer.safetensors")
    again = Kind.load(tmp_path / "drawer.safetensors")
    assert torch.equal(again.done, expert.done)
    assert torch.equal(again.films, expert.films)


class _Failing(Actor):
    """Stands for a policy at an address one of whose places has gone."""

    failures = {1: "action 3: the server closed the connection"}  # noqa: RUF012

    def act(self, observation: Observation) -> torch.Tensor:
        return torch.zeros(len(observation.actions), 7)


def test_trials_that_a_policy_did_not_answer_in_have_no_outcome(table: SimulatedTabletop):
    kind = as_kind(_Failing(), table, "push", replace(SETTINGS, actions=1))
    assert kind.done.tolist() == [-1, FAILED, -1]
    assert kind.failures == _Failing.failures


def test_beginnings_are_kept_as_they_are(tmp_path: Path, table: SimulatedTabletop):
    seen = seen_before(begin(table, SETTINGS, "drawer", 2))
    assert seen.frames is not None
    tasks = tuple(place.task for place in seen.state)
    frames = (255 * seen.frames).round().to(torch.uint8)
    Beginnings(frames[None], seen.actions.float()[None], (seen.instructions,), (tasks,)).save(tmp_path)
    again = Beginnings.load(tmp_path)
    assert torch.equal(again.frames[0], frames)
    assert again.tasks == (tasks,)
    assert again.instructions == (seen.instructions,)


def test_a_judge_that_reads_the_truth_says_when_it_was_done(table: SimulatedTabletop):
    """Frames are two control steps apart, so that the rule's three of them are two frames."""
    seen = seen_before(begin(table, SETTINGS, "drawer", 3))
    state, truths, success = seen.state, [], []
    expert = Expert(table.spec)
    for _ in range(12):
        step = play(expert, table, state, 1).seen
        state = step.state
        assert step.success is not None
        truths.append([facts(place.task, place.state) for place in state])
        success.append(step.success[:, 0])
    read = np.stack(truths, 1)
    words, tasks = seen.instructions, tuple(place.task for place in state)
    footage = Footage(words, np.zeros((3, 12, 4, 4, 3), np.uint8), tasks=tasks)
    judge = SeenJudge(lambda frames, instructions: read, hold=2, ever=True)
    true = first(torch.stack(success, 1), {}).numpy()
    assert np.abs(judge.when(footage) - true).max() <= 1
    assert judge.judge(footage).success.tolist() == (true >= 0).tolist() == [True] * 3
    strict = replace(judge, tolerances={"drawer": Tolerance(short=-1.0)})
    assert (strict.when(footage) == -1).all()
    assert not strict.judge(footage).success.any()


def test_a_reference_may_name_several_policies():
    assert everyone(("random still", "still")) == ("random", "still")
    assert everyone(()) == everyone(("ladder",))


def test_the_correlation_of_rates_is_that_of_the_units_means():
    random = np.random.default_rng(0)
    unit = np.repeat(np.arange(6), 10)
    value, target = random.random(60) < unit / 6, random.random(60) < (unit + 1) / 8
    rates = [np.array([x[unit == u].mean() for u in range(6)]) for x in (value, target)]
    weights = np.vstack([np.ones(6), [2, 0, 1, 1, 1, 1]])
    found = RATES_PEARSON.evaluate(value.astype(float), target.astype(float), np.zeros(60, int), unit, weights)
    drawn = [0, 0, 2, 3, 4, 5]
    expected = [stats.pearsonr(*rates)[0], stats.pearsonr(rates[0][drawn], rates[1][drawn])[0]]
    np.testing.assert_allclose(found[:, 0], expected)


def test_a_model_that_ignores_policies_tells_nothing_of_them_and_an_optimist_keeps_their_order():
    unit, ones = np.repeat(np.arange(5), 20), np.ones((1, 5))
    within = np.tile(np.arange(20), 5)
    true = (within < 3 * unit).astype(float)

    def measured(aggregate, imagined):
        return aggregate.evaluate(imagined, true, np.zeros(100, int), unit, ones)[0, 0]

    ignoring, optimistic = (within < 7).astype(float), (within < 3 * unit + 5).astype(float)
    assert measured(RATES_PEARSON, ignoring) == 0
    assert measured(RATES_PEARSON, optimistic) == pytest.approx(1)
    assert measured(BIAS, optimistic) == pytest.approx(0.25)
    assert measured(BIAS, true) == 0


def test_a_judge_of_no_trials_has_nothing_to_say():
    assert look(np.zeros((0, 3, 64, 64, 3), np.uint8), ()).shape == (0, 3, WIDTH)


@pytest.mark.slow
def test_the_shipped_judge_knows_success_when_it_sees_it(table: SimulatedTabletop):
    """On films of trials of a policy that succeeds about every second time."""
    trials = TrialsConfig(trials=0, filmed=8, seed=5)
    says, truth = [], []
    for family in ("pick", "drawer"):
        seen = seen_before(begin(table, trials, family, trials.filmed))
        kind = as_kind(policies.load("sees-points-300"), table, family, trials)
        film = Footage(seen.instructions, kind.films.numpy(), tasks=tuple(place.task for place in seen.state))
        says += SeenJudge(look, hold=2, ever=True).judge(film).success.tolist()
        truth += (kind.done >= 0).tolist()
    assert 4 <= sum(truth) <= 12
    assert sum(a == b for a, b in zip(says, truth, strict=True)) >= 15
