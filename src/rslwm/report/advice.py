"""What a verdict says to whoever has a minute: by question the answer and how sure it is, and what to run next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from rslwm.report.formats import listed
from rslwm.types import AXES
from rslwm.verdict.axis import MIN_UNITS, OVERALL, AxisVerdict
from rslwm.verdict.decide import Verdict

QUESTIONS = {
    "fidelity": "Do decoded rollouts look like what really happened?",
    "planning": "Can actions be chosen by imagining their outcome?",
    "representation": "Can what matters be read out of latents, encoded and generated?",
    OVERALL: "The three axes together.",
}
AFFORDABLE = 12
"""A study that takes up to so many times the present one is advice."""


@dataclass(frozen=True)
class Answer:
    """To what an axis asks. ``best`` are the chances of being best."""

    axis: AxisVerdict
    question: str
    first: str
    state: str
    sure: str
    best: Mapping[str, float]


@dataclass(frozen=True)
class Step:
    """What to run next and why."""

    why: str
    commands: tuple[str, ...]


def answers(verdict: Verdict) -> list[Answer]:
    """Overall first, then the axes that have a score."""
    axes = [verdict.axes[name] for name in (OVERALL, *AXES) if name in verdict.axes]
    return [
        Answer(axis, QUESTIONS[axis.axis], axis.standings[0].latent, _state(axis), _sure(axis),
               {s.latent: s.best for s in axis.standings})
        for axis in axes
    ]  # fmt: skip


def leads(axis: AxisVerdict) -> bool:
    """Is the first space of an axis ahead, but with one training each and therefore no winner?"""
    return axis.noise.origin != "measured" and axis.units >= MIN_UNITS and len(axis.standings) > 1


def _state(axis: AxisVerdict) -> str:
    if len(axis.standings) == 1:
        return "alone"
    if axis.winner:
        return "wins"
    return "leads, undecided" if axis.units >= MIN_UNITS else "undecided"


def _sure(axis: AxisVerdict) -> str:
    if axis.lead is None:
        return "The only latent space here: nothing to decide."
    chance = f"{_percent(axis.standings[0].best)} chance of being best"
    if axis.winner:
        second = axis.standings[1].latent
        return f"{chance}; ahead of {second} by {axis.lead.value:.2f} [{axis.lead.low:.2f}, {axis.lead.high:.2f}]."
    if axis.units < MIN_UNITS:
        return f"{axis.units} held-out episodes are too few for a decision; it takes at least {MIN_UNITS}."
    rest = axis.contenders[1:]
    if not rest:
        return f"{chance}; every other space is ruled out, but one training each names no winner."
    if axis.noise.origin == "unknown":
        return f"{chance} over episodes alone; with one training each nothing is ruled out."
    others = f"any of the other {len(rest)}" if len(axis.contenders) == len(axis.standings) > 4 else listed(rest, "or")
    return f"{chance}; it could still be {others}."


def steps(verdict: Verdict, seeds: tuple[int, ...], simulated: bool) -> list[Step]:
    """The one thing that would tell most. ``seeds`` are those trained; ``simulated`` data can be made as many as asked
    for. Commands are for the run's folder."""
    axes = verdict.axes
    if not axes:
        return [Step("No metric could be scored. Measure more episodes, or other metrics.", ())]
    if len(verdict.spaces) < 2:
        rivals = _compare("--latents", f"{verdict.spaces[0]},small-vae,small-dino+16", "--out", "more")
        return [Step("One space has no rival. Compare it with others, the same in all else.", (rivals,))]
    open_ = [axis for axis in axes.values() if not axis.winner]
    if not open_:
        return [_elsewhere(verdict, "Every question is decided here. See whether it holds on data of your own.")]
    if any(axis.noise.origin != "measured" for axis in open_):
        first = max(seeds, default=0) + 1
        return [
            Step(
                "Train every space under two more seeds. Only that tells a difference from the luck of a training.",
                (
                    _compare("--first-seed", str(first), "--seeds", "2", "--out", "more"),
                    "rslwm join .,more --out joined",
                ),
            )
        ]
    return [_more(verdict, open_, max(seeds, default=0) + 1, simulated)]


def _more(verdict: Verdict, open_: list[AxisVerdict], seed: int, simulated: bool) -> Step:
    """The nearest decision, if it can be paid."""
    reachable = [(times, axis) for axis in open_ if (times := _times(axis, verdict.seeds)) is not None]
    times, axis = min(reachable, key=lambda found: found[0], default=(math.inf, open_[0]))
    if times > AFFORDABLE:
        contenders = listed(axes_leaders(verdict), "or")
        why = (
            f"Nothing affordable would decide between the leaders here ({_far(times, axis)}). Take {contenders} "
            "by cost, or see whether your own data tell them apart:"
        )
        return _elsewhere(verdict, why)
    units, seeds = _needed(axis)
    more = max(seeds - verdict.seeds, 0)
    what = f"{axis.axis} is nearest to a decision: about {units} episodes and {seeds} trainings of every space"
    if units <= axis.units:
        command = _compare("--first-seed", str(seed), "--seeds", str(more), "--out", "more")
        return Step(f"{what} would probably decide.", (command, "rslwm join .,more --out joined"))
    size = f"{units / axis.units:.1f} times the held-out episodes"
    grow = ("--data.sim.episodes", "MORE") if simulated else ("--data", "LARGER")
    command = _compare("--seeds", str(max(seeds, verdict.seeds)), *grow, "--out", "larger")
    return Step(f"{what} would probably decide, that is {size}.", (command,))


def _needed(axis: AxisVerdict) -> tuple[int, int]:
    """Episodes and trainings of an axis that some number of them would decide."""
    needed = axis.needed
    if needed is None or needed.units is None or needed.seeds is None:
        raise ValueError(f"{axis.axis}: no number of episodes decides")
    return needed.units, needed.seeds


def axes_leaders(verdict: Verdict) -> list[str]:
    """The spaces that come first on some axis."""
    return [*dict.fromkeys(axis.standings[0].latent for axis in verdict.axes.values())]


def _times(axis: AxisVerdict, seeds: int) -> float | None:
    if axis.needed is None or axis.needed.units is None:
        return None
    units, trainings = _needed(axis)
    return max(units / axis.units, 1) * max(trainings / seeds, 1)


def _far(times: float, axis: AxisVerdict) -> str:
    if math.isinf(times):
        return "not even a hundred times this study"
    return f"{axis.axis}, the nearest, would take about {times:.0f} times this study"


def _elsewhere(verdict: Verdict, why: str) -> Step:
    chosen = axes_leaders(verdict)
    chosen += [name for name in verdict.ranking if name not in chosen][: max(0, 2 - len(chosen))]
    return Step(why, (_compare("--latents", ",".join(chosen), "--data", "lerobot:FOLDER", "--out", "mine"),))


def _compare(*flags: str) -> str:
    pairs = [shlex.join(flags[i : i + 2]) for i in range(0, len(flags), 2)]
    return " \\\n  ".join(["rslwm compare config.yaml", *pairs])


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
