"""The simulator's rule on states that were read: the same as the simulator's where reading is exact, and forgiving of
reading errors where it was fitted."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from rslwm.evals.judges.base import Calibration, Footage
from rslwm.evals.judges.rule import Read, RuleJudge, Tolerance, shortfall
from rslwm.sim.config import SimConfig
from rslwm.sim.record import moments
from rslwm.sim.scene import COLOURS
from rslwm.sim.tabletop import Snapshot
from rslwm.sim.tasks import FAMILIES, STATE_NAMES, Task
from rslwm.types import DataError

READ = ("object_position", "goal_position", "gripper_position", "drawer_opening")
TARGET, BASE = [*COLOURS][:2]
GOAL = np.array([0.3, 0.0, 0.025])
AWAY = np.array([0.0, 0.0, 0.2])


def packed(**states: np.ndarray) -> torch.Tensor:
    """State vectors (B, T, n) as latents of one cell."""
    return torch.from_numpy(np.concatenate([states[name] for name in READ], -1))[:, :, None, None]


def reader(noise: float = 0.0, seed: int = 0) -> Read:
    """Reads such latents with an error of so many metres."""

    def read(latents: torch.Tensor) -> dict[str, np.ndarray]:
        values = latents[:, :, 0, 0].numpy()
        values = values + noise * np.random.default_rng(seed).normal(size=values.shape)
        ends = np.cumsum([len(STATE_NAMES[name]) for name in READ])
        return dict(zip(READ, np.split(values, ends[:-1], -1), strict=True))

    return read


def trials(family: str, offset: np.ndarray, hand: np.ndarray = AWAY, frames: int = 4) -> Footage:
    """The target so far from its goal, and the hand so far from the target: (B, 3) in metres."""
    B = len(offset)
    objects = np.zeros((B, frames, len(COLOURS), 3))
    goal = np.broadcast_to(GOAL, (B, frames, 3))
    objects[:, :, 0] = goal + offset[:, None]
    objects[:, :, 1] = GOAL - [0, 0, 0.05]  # of the cube to stack on
    gripper = objects[:, :, 0] + np.broadcast_to(hand, (B, 3))[:, None]
    latents = packed(
        object_position=objects.reshape(B, frames, -1),
        goal_position=goal,
        gripper_position=gripper,
        drawer_opening=np.zeros((B, frames, 1)),
    )
    task = Task(family, TARGET, BASE if family == "stack" else "plate")
    return Footage(("do it",) * B, latents=latents, tasks=(task,) * B)


def drawers(openings: list[float], goal: str) -> Footage:
    B = len(openings)
    states = {name: np.zeros((B, 3, len(STATE_NAMES[name]))) for name in READ}
    states["drawer_opening"] += np.array(openings)[:, None, None]
    return Footage(("move it",) * B, latents=packed(**states), tasks=(Task("drawer", "drawer", goal),) * B)


@pytest.fixture(scope="module")
def played() -> list[list[Snapshot]]:
    """Episodes of all families as they went in the simulator."""
    return [moments(SimConfig(cameras=()), episode) for episode in range(12)]


def test_read_without_error_it_is_the_simulator_s_rule(played: list[list[Snapshot]]) -> None:
    states = [[moment.state.vectors() for moment in episode[-12:]] for episode in played]
    latents = packed(**{name: np.array([[v[name] for v in e] for e in states], float) for name in READ})
    tasks = tuple(episode[0].task for episode in played)
    footage = Footage(tuple(task.instruction for task in tasks), latents=latents, tasks=tasks)
    truth = np.array([episode[-1].success for episode in played])
    assert 0 < truth.sum() < len(truth)
    verdicts = RuleJudge(reader()).judge(footage)
    assert (verdicts.success == truth).all()
    assert (verdicts.success == (verdicts.score >= 0.5)).all()
    assert (verdicts.progress[truth] == 1).all()
    assert verdicts.progress[~truth].mean() < 0.7


def test_a_shortfall_is_what_the_rule_still_asks_for(played: list[list[Snapshot]]) -> None:
    for episode in played:
        task = episode[0].task
        for moment in episode[::4]:
            missing = shortfall(task, moment.state)
            reached = FAMILIES[task.family].reached(task, moment.state)
            assert (missing <= 5e-4) >= reached
            if missing > 5e-4:
                assert not reached


@pytest.mark.parametrize(
    ("footage", "metres"),
    [
        (trials("push", np.array([[0.05, 0, 0], [0.03, 0.07, 0], [0.01, 0.01, 0.02]])), [0.020, 0.0438, 0.012]),
        (trials("pick", np.array([[0.03, 0.04, 0], [0.0, 0.0, -0.05]])), [0.020, 0.042]),
        (trials("stack", np.array([[0.06, 0, -0.05]])), [0.042]),
        (drawers([0.050, 0.090], "open"), [0.020, -0.020]),
        (drawers([0.032, 0.002], "closed"), [0.020, -0.010]),
    ],
)
def test_distances_of_known_states(footage: Footage, metres: list[float]) -> None:
    """Tolerances at which their verdicts change."""
    found = []
    for short in np.arange(-0.03, 0.06, 0.001):
        judge = RuleJudge(reader(), {footage.tasks[0].family: Tolerance(short)})
        found.append(judge.judge(footage).success)
    assert found[0].any() == (min(metres) < -0.03)
    first = np.arange(-0.03, 0.06, 0.001)[np.array(found).argmax(0)]
    assert first == pytest.approx(metres, abs=0.0016)


def noisy_pushes(count: int, seed: int) -> tuple[Footage, np.ndarray]:
    random = np.random.default_rng(seed)
    done = random.random(count) < 0.5
    way = np.where(done, random.uniform(0, 0.025, count), random.uniform(0.06, 0.15, count))
    angle = random.uniform(0, 2 * np.pi, count)
    offset = np.stack([way * np.cos(angle), way * np.sin(angle), 0 * way], 1)
    return trials("push", offset), done


def balanced(judge: RuleJudge, footage: Footage, truth: np.ndarray) -> float:
    found = Calibration.of(judge.judge(footage), truth)
    return (found.sensitivity.value + found.specificity.value) / 2


def test_a_fitted_tolerance_makes_up_for_reading_errors() -> None:
    judge = RuleJudge.fitted(reader(0.01), *noisy_pushes(80, 0))
    footage, truth = noisy_pushes(200, 1)
    exact = RuleJudge(reader(0.01, seed=1))
    fitted = RuleJudge(reader(0.01, seed=1), judge.tolerances)
    assert balanced(exact, footage, truth) < 0.7
    assert balanced(fitted, footage, truth) > 0.95


def test_nothing_is_forgiven_where_nothing_has_to_be() -> None:
    assert RuleJudge.fitted(reader(), *noisy_pushes(80, 0)).tolerances == {"push": Tolerance()}


def test_far_failures_are_no_reason_to_forgive_much() -> None:
    offset = np.array([[0.0, 0, 0.02]] * 5 + [[0.4, 0, 0]] * 5)  # read 2 cm too high, where 8 mm are the rule's
    tolerance = RuleJudge.fitted(reader(), trials("push", offset), np.repeat([True, False], 5)).tolerances["push"]
    assert 0.012 <= tolerance.short < 0.025


def test_a_hand_that_hasn_t_let_go_is_no_success_where_that_was_learned() -> None:
    """All objects are at the goal; in half of the trials the hand still is, too."""
    hand = np.repeat([[0.0, 0.0, 0.01], [0.0, 0.0, 0.12]], 20, axis=0)
    footage, truth = trials("pick", np.zeros((40, 3)), hand), np.repeat([False, True], 20)
    judge = RuleJudge.fitted(reader(0.004), footage, truth)
    assert 0.02 <= judge.tolerances["pick"].clear <= 0.08
    assert balanced(judge, footage, truth) == 1
    assert RuleJudge(reader()).judge(footage).success.all()


def test_a_family_of_one_outcome_keeps_the_simulator_s_rule() -> None:
    footage = trials("push", np.full((6, 3), 0.05))
    assert RuleJudge.fitted(reader(), footage, np.zeros(6, bool)).tolerances == {"push": Tolerance()}


def test_the_rule_has_to_hold_to_the_end() -> None:
    """The object is at the goal in the middle of the trial and in its last frame only."""
    footage = trials("push", np.zeros((1, 3)), frames=8)
    assert footage.latents is not None
    footage.latents[0, [0, 1, 5, 6], 0, 0, :3] += 0.1
    assert not RuleJudge(reader()).judge(footage).success[0]
    assert RuleJudge(reader()).judge(footage).progress[0] == 1
    assert RuleJudge(reader(), hold=1).judge(footage).success[0]


def test_what_can_t_be_read_is_unjudged() -> None:
    footage = trials("push", np.zeros((2, 3)))
    assert footage.latents is not None
    footage.latents[0, -1] = np.nan
    verdicts = RuleJudge(reader()).judge(footage)
    assert verdicts.judged.tolist() == [False, True]
    assert verdicts.rate.trials == 1


def without(name: str) -> Callable:
    return lambda latents: {key: value for key, value in reader()(latents).items() if key != name}


def test_what_the_reader_leaves_out_is_named() -> None:
    for name, footage in (
        ("goal_position", trials("push", np.zeros((1, 3)))),
        ("gripper_position", trials("stack", np.zeros((1, 3)))),
        ("drawer_opening", drawers([0.1], "open")),
    ):
        with pytest.raises(DataError, match=f"no '{name}'"):
            RuleJudge(without(name)).judge(footage)
    with pytest.raises(DataError, match="lacks latents or tasks"):
        RuleJudge(reader()).judge(Footage(("push it",)))
    with pytest.raises(DataError, match="3 labels of 1 trials"):
        RuleJudge.fitted(reader(), trials("push", np.zeros((1, 3))), [True] * 3)
