"""A verdict in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rslwm.types import AXES
from rslwm.verdict.axis import MIN_UNITS, OVERALL, REACH, AxisScores, AxisVerdict, Needed
from rslwm.verdict.combination import Part
from rslwm.verdict.scale import Summary
from rslwm.verdict.training_noise import TrainingNoise


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
    if axis.noise.origin == "unknown":
        return (
            f"{axis.axis}: {first.latent} leads. With one training each nothing is ruled out, because how much the "
            "next training would differ isn't known; several seeds (--seeds 3) measure it."
        )
    advice = f"If the differences are what they look like, {_advice(axis)}."
    if axis.noise.origin == "record":
        return f"{axis.axis}: {first.latent} leads. With one training each no winner is named. {_out(axis)} {advice}"
    return (
        f"{axis.axis}: not decidable with {axis.units} held-out episodes. {first.latent} leads (chance of being best "
        f"{_percent(first.best)}), but {_unbeaten(axis)} can't be ruled out. {advice}"
    )


def _out(axis: AxisVerdict) -> str:
    """Which spaces are ruled out, where no winner can be named."""
    out = [s.latent for s in axis.standings if s.latent not in axis.contenders]
    if not out:
        return "No space is ruled out."
    if len(axis.contenders) == 1:
        return f"{'Every other space is' if len(out) > 1 else f'{out[0]} is'} ruled out."
    return f"{_listed(out)} {'are' if len(out) > 1 else 'is'} ruled out, {_unbeaten(axis)} can't be."


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


def notes(
    axes: Mapping[str, AxisVerdict],
    missing: Mapping[str, Mapping[str, str]],
    summaries: Sequence[Summary],
    made: Mapping[str, Mapping[str, str]],
) -> tuple[str, ...]:
    """What else a reader has to know; the arguments are those of the functions below."""
    known = disagreement(axes), fragile(axes), gaps(axes, missing), omissions(summaries), numerics(made)
    return tuple(sentence for sentences in known for sentence in sentences)


def disagreement(axes: Mapping[str, AxisVerdict]) -> list[str]:
    """A sentence if two axes have different winners."""
    winners = {name: axis.winner for name, axis in axes.items() if axis.winner and name != OVERALL}
    if len(set(winners.values())) < 2:
        return []
    named = ", ".join(f"{latent} on {axis}" for axis, latent in winners.items())
    return [f"The axes disagree ({named}): what the world model is for decides."]


def gaps(axes: Mapping[str, AxisVerdict], missing: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Sentences on axes without a score, and on what is missing in the others' and why.

    Args:
        missing: by axis, the metrics that would count for its score, with the reason why they don't.
    """
    notes = []
    for name in AXES:
        reasons: dict[str, list[str]] = {}
        for metric, reason in missing.get(name, {}).items():
            reasons.setdefault(reason, []).append(metric)
        why = "; ".join(f"{_listed(found)}: {reason}" for reason, found in reasons.items())
        if name not in axes:
            notes.append(f"{name}: no score, because no metric of it could be scored{f' ({why})' if why else ''}.")
            continue
        if why:
            notes.append(f"{name}: scored without {why}.")
        notes += _lopsided(name, axes[name].parts)
    if without := [name for name in AXES if name not in axes]:
        notes.append(f"overall: not given, because no metric of {_listed(without)} could be scored.")
    return notes


def _lopsided(axis: str, parts: Sequence[Part]) -> list[str]:
    silent = [part.name for part in parts if not part.weight]
    counted = [part.name for part in parts if part.weight]
    notes = [f"{axis}: {_listed(silent)} can't tell these spaces apart and has no weight."] if silent else []
    return [*notes, f"{axis}: rests on a single metric, {counted[0]}."] if len(counted) == 1 else notes


def fragile(axes: Mapping[str, AxisVerdict]) -> list[str]:
    """Sentences on axes whose first space hangs on a single metric."""
    notes = []
    for name, axis in axes.items():
        first = axis.standings[0].latent
        others: dict[str, list[str]] = {}
        for metric, order in axis.without.items():
            if order[0] != first:
                others.setdefault(order[0], []).append(metric)
        for space, metrics in others.items():
            left_out = _listed(metrics, "or")
            notes.append(f"{name}: without {left_out}, {space} would come first instead of {first}.")
    return notes


def omissions(metrics: Sequence[Summary]) -> list[str]:
    """Sentences on rows and cells that were left out."""
    notes = []
    for metric in metrics:
        if metric.dropped:
            count = f"{metric.info.name}: {metric.dropped} rows aren't finite numbers"
            notes.append(f"{count}; their windows were left out for every space.")
        if metric.undefined:
            cells = ", ".join(metric.undefined)
            notes.append(f"{metric.info.name}: undefined for some space and left out for all: {cells}.")
    return notes


def numerics(made: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A sentence if spaces were made on different devices or in different precisions."""
    spaces: dict[str, list[str]] = {}
    for space, found in made.items():
        spaces.setdefault(" ".join(found.values()), []).append(space)
    if len(spaces) < 2:
        return []
    named = "; ".join(f"{_listed(alike)}: {words}" for words, alike in spaces.items())
    why = "so a difference between them may be due to that"
    return [f"The spaces were made under different numerics ({named}), {why}."]


def training(axes: Mapping[str, AxisScores], record: TrainingNoise | None) -> str:
    """Where the noise of training comes from, and how large it is."""
    if not axes:
        return ""
    known = {name: axis.noise for name, axis in axes.items() if axis.noise.origin != "unknown"}
    spreads = ", ".join(f"{name} {noise.sd:.3f}" for name, noise in known.items())
    noise = "Training noise, the standard deviation of a score from one training to the next,"
    once = "Every space was trained once, so no winner is named."
    if not known:
        so = "Nothing is ruled out, and intervals hold the chance of episodes only."
        return f"{once} {noise} is unknown: {_unknown(record)}. {so}"
    freedom = max(found.freedom for found in known.values())
    pooled = f"pooled over {freedom} degrees of freedom"
    if any(found.origin == "measured" for found in known.values()):
        counts = next(iter(axes.values())).trainings
        seeds = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
        return f"{noise} was measured with {seeds} seeds a space, {pooled}: {spreads}."
    assert record is not None
    rest = [name for name in axes if name not in known]
    lacks = f" It lacks a metric of {_listed(rest)}, where nothing is ruled out." if rest else ""
    return (
        f"{once} {noise} is taken from the record {record.name}, made by {len(record.spaces)} spaces under this "
        f"configuration, {pooled}: {spreads}.{lacks} Several seeds (--seeds 3) measure it here."
    )


def _unknown(record: TrainingNoise | None) -> str:
    if record is None:
        return "there is no record of it for this configuration, and several seeds (--seeds 3) would measure it"
    if not record.unlike:
        return f"the record {record.name} lacks these metrics, and several seeds (--seeds 3) would measure it"
    more = f" and {len(record.unlike) - 2} other settings" if len(record.unlike) > 2 else ""
    differs = f"the record {record.name} was made under another configuration ({'; '.join(record.unlike[:2])}{more})"
    return f"{differs}, and several seeds (--seeds 3) would measure it"


def parts(axis: AxisVerdict) -> str:
    """What an axis is made of: "psnr .62, ssim .38"."""
    return ", ".join(f"{part.name} {part.weight:.2f} ({100 * part.share:.0f} %)" for part in axis.parts)


def _listed(names: Sequence[str], last: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def _percent(share: float) -> str:
    return "over 99 %" if share > 0.995 else f"{100 * share:.0f} %"


def _round(number: int) -> int:
    """Two significant digits, upwards: a forecast of a sample size knows no more."""
    step = 10 ** max(len(str(number)) - 2, 0)
    return math.ceil(number / step) * step
