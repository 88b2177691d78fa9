"""A success rate as a judge sees it, corrected for what that judge is known to get wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rslwm.evals.rates import CONFIDENCE, Estimate, Rate, newcombe
from rslwm.types import Unavailable


@dataclass(frozen=True)
class Corrected:
    """A true success rate in [0, 1], and what it was computed from."""

    rate: Estimate
    judged: Rate
    sensitivity: Rate
    specificity: Rate


def corrected(
    judged: Rate,
    sensitivity: Rate,
    specificity: Rate,
    draws: int = 20_000,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Corrected | Unavailable:
    """The true success rate behind a judged one (Rogan and Gladen 1978, American Journal of Epidemiology 107:71).

    rate = (judged + specificity - 1) / (sensitivity + specificity - 1), clipped to [0, 1]. Its interval carries the
    errors of all three: each is drawn from its posterior under Jeffreys' prior, which unlike a bootstrap leaves a judge
    without an error in 20 labelled trials in doubt. Draws in which the judge would be no better than chance, excluded
    beforehand, are left out. It holds where the judge errs on these trials as often as on the labelled ones: a judge
    calibrated on real frames may err more on generated ones.

    Args:
        judged: successes in the judge's eyes, of the trials that it judged.
        sensitivity: of trials that truly succeeded, those that it calls a success.
        specificity: of trials that truly failed, those that it calls a failure.

    Returns:
        The corrected rate or why there is none: the judge may be no better than chance (the interval of sensitivity +
        specificity - 1 includes 0), or no true rate would make it judge like this, so that it errs otherwise here.
    """
    for name, rate in (("judged", judged), ("sensitivity", sensitivity), ("specificity", specificity)):
        if not rate.trials:
            return Unavailable("corrected success", f"{name}: there is no such trial")
    false_positives = Rate(specificity.trials - specificity.successes, specificity.trials)
    skill = newcombe(sensitivity, false_positives, confidence)
    if skill.low <= 0:
        why = f"the judge's sensitivity + specificity - 1 is {skill}, which may be 0"
        return Unavailable("corrected success", f"uninformative: cannot be corrected ({why})")
    random = np.random.default_rng(seed)
    q, se, sp = (
        random.beta(rate.successes + 0.5, rate.trials - rate.successes + 0.5, draws)
        for rate in (judged, sensitivity, specificity)
    )
    better = se + sp > 1
    found = (q + sp - 1)[better] / (se + sp - 1)[better]
    tail = (1 - confidence) / 2
    if ((found >= 0) & (found <= 1)).mean() < tail:
        allowed = f"{false_positives.value:.2f} (a failure) to {sensitivity.value:.2f} (a success)"
        why = f"it judges {judged.value:.2f} successful, where its errors allow {allowed}: here it errs otherwise"
        return Unavailable("corrected success", f"inconsistent: cannot be corrected ({why})")
    low, high = np.quantile(np.clip(found, 0, 1), [tail, 1 - tail])
    value = float(np.clip((judged.value + specificity.value - 1) / skill.value, 0, 1))
    return Corrected(Estimate(value, min(float(low), value), max(float(high), value)), judged, sensitivity, specificity)
