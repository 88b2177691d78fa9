"""Who has a minute is told who wins, how sure that is, and what to run next."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from rslwm.report.advice import answers, steps
from rslwm.verdict.axis import AxisVerdict, Needed, Noise, Standing
from rslwm.verdict.bootstrap import Difference

LEAD = Difference(0.1, 0.02, 0.2, 0.01)


def axis(needed: Needed | None = None, winner: str = "", origin: str = "measured", units: int = 40) -> AxisVerdict:
    standings = tuple(
        Standing(name, "semantic", score, score - 0.1, score + 0.1, best)
        for name, score, best in (("a", 0.6, 0.8), ("b", 0.5, 0.2))
    )
    noise = Noise(origin, None if origin == "unknown" else 0.01, 4)
    contenders = ("a",) if winner else ("a", "b")
    return AxisVerdict("planning", standings, winner, contenders, LEAD, "", units, needed, noise, (), None)


def verdict(one: AxisVerdict, seeds: int = 2) -> SimpleNamespace:
    return SimpleNamespace(axes={"planning": one}, spaces=("a", "b"), ranking=("a", "b"), seeds=seeds)


@pytest.mark.parametrize(
    ("one", "state", "sure"),
    [
        (axis(winner="a"), "wins", "80 % chance of being best; ahead of b by 0.10 [0.02, 0.20]."),
        (axis(), "leads, undecided", "80 % chance of being best; it could still be b."),
        (axis(units=3), "undecided", "3 held-out episodes are too few"),
        (axis(origin="unknown"), "leads, undecided", "with one training each nothing is ruled out"),
        (replace(axis(origin="record"), contenders=("a",)), "leads, undecided", "every other space is ruled out"),
    ],
)
def test_an_answer_says_who_and_how_sure(one, state, sure):
    (answer,) = answers(verdict(one))
    assert (answer.first, answer.state) == ("a", state)
    assert sure in answer.sure


@pytest.mark.parametrize(
    ("one", "why", "command"),
    [
        (axis(origin="unknown"), "under two more seeds", "--first-seed 2"),
        (axis(Needed(40, 4)), "about 40 episodes and 4 trainings", "--seeds 2"),
        (axis(Needed(80, 2)), "that is 2.0 times the held-out episodes", "--data.sim.episodes MORE"),
        (
            axis(Needed(400, 40)),
            "planning, the nearest, would take about 200 times this study",
            "--data lerobot:FOLDER",
        ),
        (axis(Needed(None, None)), "not even a hundred times this study", "--latents a,b"),
        (axis(winner="a"), "Every question is decided here", "--data lerobot:FOLDER"),
    ],
)
def test_what_to_run_next_is_what_would_tell_most(one, why, command):
    (step,) = steps(verdict(one), (0, 1), simulated=True)
    assert why in step.why
    assert command in step.commands[0]


def test_data_that_were_recorded_can_only_be_replaced_by_more():
    (step,) = steps(verdict(axis(Needed(80, 2))), (0, 1), simulated=False)
    assert "--data LARGER" in step.commands[0]
