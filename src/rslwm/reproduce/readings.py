"""A number of ours, read from a verdict."""

from __future__ import annotations

from rslwm.evals.rates import Estimate
from rslwm.reproduce.quantities import Reading
from rslwm.verdict.decide import Verdict
from rslwm.verdict.scale import Bar, Summary


def read(verdict: Verdict, reading: Reading) -> dict[str, Estimate]:
    """By latent space, with its interval over episodes where it is a metric's own value; empty if the run lacks it."""
    found = _values(verdict, reading.metric, reading)
    if reading.gap:
        metric = _metric(verdict, reading.metric)
        sign = 1 if metric and metric.info.higher_is_better else -1
        ceilings = {bar.latent: bar.ceiling for bar in metric.bars} if metric else {}
        known = ((latent, ceilings[latent], estimate) for latent, estimate in found.items())
        return {latent: Estimate(sign * (top - e.value)) for latent, top, e in known if top is not None}
    if reading.above:
        below = _values(verdict, reading.above, reading)
        return {name: Estimate(e.value - below[name].value) for name, e in found.items() if name in below}
    return found


def _metric(verdict: Verdict, name: str) -> Summary | None:
    return next((metric for metric in verdict.metrics if metric.info.name == name), None)


def _values(verdict: Verdict, name: str, reading: Reading) -> dict[str, Estimate]:
    metric = _metric(verdict, name)
    if metric is None:
        return {}
    found = {bar.latent: _at(metric, bar, reading) for bar in metric.bars}
    return {
        latent: Estimate(value, *(bound for bound in bounds if bound is not None))
        for latent, (value, *bounds) in found.items()
        if value is not None
    }


def _at(metric: Summary, bar: Bar, reading: Reading) -> tuple[float | None, float | None, float | None]:
    """Value and bounds at the reading's horizon and dimension."""
    if reading.dim:
        place = metric.cells.get(reading.dim, {}).get(reading.k or 0)
        cells = bar.by_dim
        return (None, None, None) if place is None else (cells.value[place], cells.low[place], cells.high[place])
    if reading.k is None:
        return bar.value, bar.low, bar.high
    if reading.k not in metric.ks:
        return None, None, None
    place, curve = metric.ks.index(reading.k), bar.curve
    return curve.value[place], curve.low[place], curve.high[place]
