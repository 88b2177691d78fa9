"""Reaching goals in the true world: who knows the world does, who doesn't is no better than blind."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from measured import Row, Subject, select, summary
from point_world import METRES, PointSource, PointWorldModel, RandomPointEnvironment, RandomPointSource, ReadGoal
from rslwm.data.config import DataConfig
from rslwm.data.corpus import Corpus
from rslwm.data.frames import build_frame_store
from rslwm.data.lerobot import write_lerobot
from rslwm.data.sources.sim import Simulator
from rslwm.data.store import TensorStore
from rslwm.evals.base import NotAvailable
from rslwm.evals.base import measure as rows_of
from rslwm.evals.closed_loop import ClosedLoop, ClosedLoopConfig, GoalProbe
from rslwm.evals.goals import KINDS, GoalRecording, Goals, GoalsConfig
from rslwm.evals.probe import TrainedProbe
from rslwm.evals.reaching import TruePlanner
from rslwm.evals.rows import DTYPES
from rslwm.evals.truth import Truth
from rslwm.plan.base import Evaluate
from rslwm.sim.config import SimConfig

SETTINGS = GoalsConfig(windows=8)
CHEAP = replace(
    SETTINGS, search=replace(SETTINGS.search, plan=replace(SETTINGS.search.plan, candidates=4, iterations=1))
)
"""Where the oracle doesn't matter."""


def recorded(corpus: Corpus, folder: Path, settings: GoalsConfig, source: Any = PointSource) -> Goals:
    recording = GoalRecording(settings)
    recording.make(Truth(corpus, source("", corpus.config), 1234), folder)
    return recording.open(folder)


@pytest.fixture(scope="module")
def goals(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Goals:
    return recorded(corpus, tmp_path_factory.mktemp("goals"), SETTINGS)


def measure(evaluation: Subject, goals: Goals, planner: str = "cem", settings: GoalsConfig = SETTINGS) -> list[Row]:
    metric = ClosedLoop(ClosedLoopConfig(settings, (planner,)))
    probe = {"probe": TrainedProbe(evaluation.probes["goal"])} if planner == "inverse" else {}
    rows = rows_of(metric, evaluation, {"goals": goals, **probe})
    return [Row(*values) for values in zip(*(rows[column].tolist() for column in DTYPES), strict=True)]


@pytest.mark.parametrize("planner", ["cem", "mppi"])
def test_a_planner_that_knows_the_world_reaches_goals(planner: str, evaluation: Subject, goals: Goals) -> None:
    rows = measure(evaluation, goals, planner)
    assert summary(rows, "goal_success") > 0.85
    assert summary(rows, "goal_success", "ceiling") > 0.85
    assert summary(rows, "goal_success", "floor") < 0.2
    assert summary(rows, "goal_distance") < 3 < 5 < summary(rows, "goal_distance", "floor")


def test_a_model_that_ignores_actions_is_no_better_than_blind(evaluation: Subject, goals: Goals) -> None:
    evaluation.world_model = PointWorldModel(gain=0)  # type: ignore[assignment]
    rows = measure(evaluation, goals)
    assert summary(rows, "goal_success") <= summary(rows, "goal_success", "floor") + 0.1


def test_a_model_that_mirrors_actions_leads_away(evaluation: Subject, goals: Goals) -> None:
    evaluation.world_model = PointWorldModel(gain=-1)  # type: ignore[assignment]
    rows = measure(evaluation, goals)
    assert summary(rows, "goal_success") <= summary(rows, "goal_success", "floor")
    assert summary(rows, "goal_distance") > 1.5 * summary(rows, "goal_distance", "floor")


@pytest.mark.parametrize("most", [0.1, 0.3])
def test_inverse_dynamics_takes_as_many_steps_as_the_way_is_long(
    most: float, evaluation: Subject, goals: Goals
) -> None:
    evaluation.probes["goal"] = ReadGoal(most)
    starts = evaluation.truth.environment.reset(evaluation.truth.state(goals.windows + np.array([0, 2])))
    way = (goals.positions[:, 0] - starts.truth["gripper_position"][:, 0]).numpy() / METRES
    rows = measure(evaluation, goals, "inverse")
    took = {(row.unit, row.window, row.dim, row.k): row.value for row in select(rows, "goal_steps")}
    assert len(took) == (~goals.solved).sum() == len(select(rows, "goal_success_inverse"))
    for place in np.flatnonzero(~goals.solved):
        budget = 2 * int(goals.distance[place])
        left = [np.linalg.norm(np.maximum(np.abs(way[place]) - most * n, 0)) for n in range(budget + 1)]
        expected = next((n for n, far in enumerate(left) if far <= 0.2), budget)
        episode, start = goals.windows[place]
        key = evaluation.corpus.dataset.ids[episode], start, f"inverse, {goals.names[place]}", goals.distance[place]
        assert took[(*key[:3], int(key[3]))] == expected


def test_who_does_nothing_has_the_whole_way_left(evaluation: Subject, goals: Goals) -> None:
    starts = evaluation.truth.environment.reset(evaluation.truth.state(goals.windows + np.array([0, 2])))
    way = 100 * (goals.positions[:, 0] - starts.truth["gripper_position"][:, 0]).norm(dim=1)
    assert torch.allclose(goals.attempts("still").left, way, atol=1e-3)


def test_random_actions_reach_as_many_goals_as_a_random_walk(corpus: Corpus, tmp_path: Path) -> None:
    found = recorded(corpus, tmp_path, replace(CHEAP, windows=100, distances=(2,), tolerance=6.0))
    rng = np.random.default_rng(0)
    goal = rng.uniform(-1, 1, (20_000, 2, 3)).sum(1)
    goal = goal[np.linalg.norm(goal, axis=1) > 0.6]
    walks = rng.uniform(-1, 1, (len(goal), 4, 3)).cumsum(1)
    share = (np.linalg.norm(walks - goal[:, None], axis=2).min(1) <= 0.6).mean()
    these = found.of(2)
    reached = these.attempts("random").steps[these.kind == KINDS.index("play")] > 0
    assert len(reached) > 25
    assert abs(float(reached.float().mean()) - share) < 3 * np.sqrt(share * (1 - share) / len(reached))


def test_the_floor_is_the_best_blind_actor_of_each_kind(goals: Goals) -> None:
    blank = torch.full_like(goals.steps, -1)
    blank[1, goals.kind == 0] = 2  # acting at random reaches the expert's goals
    blank[2, goals.kind == 1] = 1  # repeating the last action those of play
    floor = replace(goals, steps=blank).floor()
    assert torch.equal(floor.steps, torch.where(goals.kind == 0, 2, 1))


def test_starts_at_the_goal_are_left_out_and_counted(evaluation: Subject, tmp_path: Path) -> None:
    settings = replace(CHEAP, tolerance=6.0)
    found = recorded(evaluation.corpus, tmp_path, settings)
    solved, every = int(found.solved.sum()), len(found.windows)
    assert 0 < solved < every
    rows = measure(evaluation, found, settings=settings)
    counted = select(rows, "goal_solved_at_start")
    assert (len(counted), sum(row.value for row in counted)) == (every, solved)
    for role in ("value", "floor", "ceiling"):
        assert len(select(rows, "goal_success", role)) == every - solved


def test_goals_that_are_all_reached_before_are_not_measured(evaluation: Subject, tmp_path: Path) -> None:
    settings = replace(CHEAP, tolerance=1000.0)
    with pytest.raises(NotAvailable, match="every start is within 1000 cm of its goal"):
        measure(evaluation, recorded(evaluation.corpus, tmp_path, settings), settings=settings)


def test_a_recording_has_no_goals(evaluation: Subject, tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match="are a recording"):
        GoalRecording(SETTINGS).make(replace(evaluation, source=None).truth, tmp_path)


def test_all_spaces_have_the_same_goals(corpus: Corpus, goals: Goals, tmp_path: Path) -> None:
    again = recorded(corpus, tmp_path, SETTINGS)
    assert np.array_equal(again.windows, goals.windows)
    for name in ("frames", "positions", "steps", "left"):
        assert torch.equal(getattr(again, name), getattr(goals, name))


class Foreseeing(TruePlanner):
    """Tries its candidates in the very course that chance will take."""

    def _costs(self, state: Any) -> Evaluate:
        self.world.reseeded = lambda state, seed: state  # type: ignore[method-assign]
        return super()._costs(state)


def test_the_oracle_does_not_foresee_chance(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RandomPointEnvironment, "sigma", 0.3)
    endless, left = replace(SETTINGS, windows=6, distances=(2,), tolerance=0.0), []
    for name, oracle in (("blind", TruePlanner), ("foreseeing", Foreseeing)):
        monkeypatch.setattr("rslwm.evals.goals.TruePlanner", oracle)
        (tmp_path / name).mkdir()
        left.append(recorded(corpus, tmp_path / name, endless, RandomPointSource).attempts("oracle").left.mean())
    assert left[0] > 1.5 * left[1]


def test_the_probe_learns_the_first_of_several_actions(corpus: Corpus, point_latents: TensorStore) -> None:
    pair, target, _ = GoalProbe(4).batches(corpus, point_latents, 400)(torch.Generator().manual_seed(0))
    moved = (pair[:, 1] - pair[:, 0]).mean((1, 2))[:, :3]
    one_step = (moved - target[:, :3]).abs().amax(1) < 0.02  # stored latents are rounded
    assert one_step.float().mean() == pytest.approx(0.25, abs=0.08)
    later = ~one_step
    r = np.corrcoef(moved[later].flatten().numpy(), target[later, :3].flatten().numpy())[0, 1]
    assert 0.3 < r < 0.9  # on the way, beside other actions


@pytest.mark.slow
def test_perfect_predictions_reach_more_goals_in_the_simulator_than_blind_actors(tmp_path: Path) -> None:
    from rslwm.sim.record import record
    from rslwm.sim.tabletop import SPEC
    from rslwm.sim.tasks import STATE_NAMES

    sim = SimConfig(episodes=4, image_size=32, min_steps=16, max_steps=16)
    config = DataConfig(sim=sim, image_size=32, test_fraction=0.5)
    source = Simulator("tabletop", config)
    dataset = write_lerobot(record(sim, 1), tmp_path / "set", SPEC, state_names=STATE_NAMES)
    corpus = Corpus(dataset, build_frame_store(dataset, "", 32, tmp_path / "frames"), config)
    recording = GoalRecording(replace(SETTINGS, windows=3, distances=(2,)))
    recording.make(Truth(corpus, source, 0), tmp_path)
    found = recording.open(tmp_path).of(2)
    oracle, floor = found.attempts("oracle"), found.floor()
    assert (oracle.steps > 0).sum() > (floor.steps > 0).sum()
    assert oracle.left.mean() < 0.7 * floor.left.mean()
