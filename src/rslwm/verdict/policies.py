"""What the trials of policies say of every latent space: success inside its world model beside true success."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rslwm.evals.judges.base import Calibration, Verdicts
from rslwm.evals.policies import APART, JUDGED, WITHIN
from rslwm.evals.rates import Rate
from rslwm.evals.rows import Rows
from rslwm.verdict.agreement import FEWEST, SCOPES, Agreement, AgreementConfig, Counts, by_episodes
from rslwm.verdict.correction import Corrected, corrected
from rslwm.verdict.scale import Numbers

_STEPS = (5, 10, 20, 50)
"""Numbers of trials of a policy in a task that agreement is shown for."""


@dataclass(frozen=True)
class Line:
    """A number with its interval, None where there is none."""

    name: str
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class PolicyReport:
    """Of one space. ``true`` and ``imagined`` are success rates by policy and task, ``corrected`` what the imagined
    ones of all tasks together would be if the judge erred as on true films, None where that can't be said."""

    policies: tuple[str, ...]
    tasks: tuple[str, ...]
    true: tuple[Numbers, ...]
    imagined: tuple[Numbers, ...]
    corrected: tuple[Line, ...]
    statistics: tuple[Line, ...]
    episodes: tuple[Line, ...]
    """r over policies by the number of trials in a task."""
    judge: str
    checks: tuple[str, ...]


def reports(rows: Rows, config: AgreementConfig | None = None) -> dict[str, PolicyReport]:
    """By space; empty where fewer than three policies were tried. Trials of several trainings count together. A policy
    that has no outcome in one of the tasks, because its server failed, is left out."""
    config = config or AgreementConfig()
    rows = rows.where(rows["role"] == "value")
    found = {}
    for latent in rows.where(rows["metric"] == WITHIN.name).distinct("latent"):
        own = rows.where(rows["latent"] == latent)
        trials = own.where(own["metric"] == WITHIN.name)
        trials = trials.where(np.isin(trials["unit"], _everywhere(trials)))
        if len(trials.distinct("unit")) >= FEWEST:
            found[latent] = _report(trials, own.where(own["metric"] == JUDGED.name), config)
    return found


def _everywhere(trials: Rows) -> list[str]:
    """The policies that have an outcome in every task."""
    known = trials.where(np.isfinite(trials["value"]) & np.isfinite(trials["target"]))
    pairs = {*zip(known["unit"].tolist(), known["dim"].tolist(), strict=True)}
    tasks = trials.distinct("dim")
    return [policy for policy in trials.distinct("unit") if all((policy, task) in pairs for task in tasks)]


def _report(trials: Rows, judged: Rows, config: AgreementConfig) -> PolicyReport:
    policies, tasks = trials.distinct("unit"), trials.distinct("dim")
    imagined, true = _outcomes(trials, policies, tasks)
    known, seen_rates = Counts.of(true), Counts.of(imagined)
    agreement = Agreement.of(known, seen_rates, policies, tasks, config)
    calibration = _calibration(judged)
    seen = [Rate.of(imagined[i][np.isfinite(imagined[i])] > 0) for i in range(len(policies))]
    most = true.shape[2]
    counts = sorted({n for n in _STEPS if n < most} | {most})
    points = by_episodes(true, imagined, counts, config=config) if np.isfinite([true, imagined]).all() else []
    defined = [s for s in agreement.statistics if np.isfinite(s.estimate.value)]
    return PolicyReport(
        policies=policies,
        tasks=tasks,
        true=tuple(map(_numbers, known.rates)),
        imagined=tuple(map(_numbers, seen_rates.rates)),
        corrected=tuple(_corrected(name, rate, calibration) for name, rate in zip(policies, seen, strict=True)),
        statistics=(
            *(_line(f"{s.name}, {SCOPES[s.scope]}", *vars(s.estimate).values()) for s in defined),
            _line("imagined minus true success", *vars(agreement.bias).values()),
        ),
        episodes=tuple(_line(str(p.episodes), *vars(p.r).values()) for p in points),
        judge=calibration.line("On true films seen through the latent space the judge"),
        checks=tuple(agreement.checks.lines()),
    )


def _outcomes(trials: Rows, policies: tuple, tasks: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Imagined and true outcomes (P, K, N), NaN where there is none."""
    seeds = trials.distinct("seed")
    columns = [
        [known.index(value) for value in trials[name].tolist()]
        for name, known in (("unit", policies), ("dim", tasks), ("seed", seeds))
    ]
    windows = np.unique(trials["window"] % APART)
    place = np.searchsorted(windows, trials["window"] % APART) + len(windows) * np.array(columns[2])
    shape = (len(policies), len(tasks), len(windows) * len(seeds))
    found = []
    for name in ("value", "target"):
        outcomes = np.full(shape, np.nan)
        outcomes[columns[0], columns[1], place] = trials[name]
        found.append(outcomes)
    return found[0], found[1]


def _calibration(judged: Rows) -> Calibration:
    value = judged["value"]
    return Calibration.of(Verdicts(value, value >= 0.5, value), judged["target"] > 0.5)


def _corrected(policy: str, seen: Rate, judge: Calibration) -> Line:
    found = corrected(seen, judge.sensitivity, judge.specificity)
    return _line(policy, *vars(found.rate).values()) if isinstance(found, Corrected) else Line(policy, None, None, None)


def _line(name: str, *numbers: float) -> Line:
    return Line(name, *_numbers(np.array(numbers)))


def _numbers(values: np.ndarray) -> Numbers:
    return tuple(float(v) if np.isfinite(v) else None for v in values)
