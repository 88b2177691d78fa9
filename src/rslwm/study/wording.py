"""A verdict in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rslwm.study.axis import MIN_UNITS, OVERALL, REACH, AxisScores, AxisVerdict, Needed, degrees_of_freedom
from rslwm.study.score import Summary
from rslwm.types import AXES


def decision(axis: AxisVerdict) -> str:
    """Who is best on an axis and by how much, or what would have to be measured to know."""
    first = axis.standings[0]
    if axis.lead is None:
        return f"{axis.axis}: {first.latent} is the only latent space here, so there is nothing to decide."
    if axis.winner:
        margin = f"{axis.lead.value:.2f} [{axis.lead.low:.2f}, {axis.lead.high:.2f}]"
        because = f", most of it in {axis.reason}" if axis.reason else ""
        ahead = f"ahead of {axis.standings[1].latent} by {margin}{because}"
        return f"{axis.axis}: {axis.winner} (chance of being best {_percent(first.best)}), {ahead}."
    if axis.units < MIN_UNITS:
        return f"{axis.axis}: not decidable with {axis.units} held-out episodes; a decision needs at least {MIN_UNITS}."
    return (
        f"{axis.axis}: not decidable with {axis.units} held-out episodes. {first.latent} leads (chance of being best "
        f"{_percent(first.best)}), but {_unbeaten(axis)} can't be ruled out. If the differences are what they look "
        f"like, {_advice(axis)}."
    )


def _unbeaten(axis: AxisVerdict) -> str:
    if len(axis.contenders) == len(axis.standings) > 4:
        return f"each of the other {len(axis.standings) - 1}"
    return _listed(axis.contenders[1:])


def _advice(axis: AxisVerdict) -> str:
    needed = axis.needed or Needed(None, None)
    if needed.units is None or needed.seeds is None:
        return f"not even {REACH} times as many episodes and {REACH} trainings of every space would decide"
    more = f"about {_round(needed.units)}" if needed.units > axis.units else f"the same {axis.units}"
    seeds = f" and {needed.seeds} trainings of every space" if needed.seeds > 1 else ""
    return f"{more} episodes{seeds} would probably decide"


def disagreement(axes: Mapping[str, AxisVerdict]) -> list[str]:
    """A sentence if two axes have different winners."""
    winners = {name: axis.winner for name, axis in axes.items() if axis.winner and name != OVERALL}
    if len(set(winners.values())) < 2:
        return []
    named = ", ".join(f"{latent} on {axis}" for axis, latent in winners.items())
    return [f"The axes disagree ({named}): what the world model is for decides."]


def gaps(axes: Mapping[str, AxisVerdict], metrics: Sequence[Summary]) -> list[str]:
    """Sentences on axes without a score and on rows and cells that were left out."""
    missing = [axis for axis in AXES if axis not in axes]
    notes = [f"overall: not given, because no metric of {_listed(missing)} could be scored."] if missing else []
    for metric in metrics:
        if metric.dropped:
            notes.append(f"{metric.info.name}: {metric.dropped} rows aren't finite numbers and were left out.")
        if metric.undefined:
            cells = ", ".join(metric.undefined)
            notes.append(f"{metric.info.name}: undefined for some space and left out for all: {cells}.")
    return notes


def training(axes: Mapping[str, AxisScores]) -> str:
    """Whether the noise of training was measured or assumed, and how large it is."""
    if not axes:
        return ""
    spreads = ", ".join(f"{name} {axis.training_sd:.3f}" for name, axis in axes.items())
    counts = next(iter(axes.values())).trainings
    noise = "Training noise, the standard deviation of a score from one training to the next,"
    if freedom := degrees_of_freedom(counts):
        seeds = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
        pooled = f"with {seeds} seeds a space, pooled over {freedom} degrees of freedom"
        return f"{noise} was measured {pooled}: {spreads}."
    return (
        f"Every space was trained once. {noise} is therefore assumed (--verdict.training-sd), not measured: {spreads}. "
        "Several seeds (--seeds 3) measure it."
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _percent(share: float) -> str:
    return "over 99 %" if share > 0.995 else f"{100 * share:.0f} %"


def _round(number: int) -> int:
    """Two significant digits, upwards: a forecast of a sample size knows no more."""
    step = 10 ** max(len(str(number)) - 2, 0)
    return math.ceil(number / step) * step
