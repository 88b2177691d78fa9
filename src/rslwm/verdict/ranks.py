"""Orders of policies or models: how badly one violates another, and one made of several judges'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy

from rslwm.evals.aggregates import THRESHOLD
from rslwm.verdict.bootstrap import TIE

Gap = Literal["real", "simulated"]
Ties = Literal["xor", "strict"]
Sharing = Literal["best", "average", "worst"]

_VIOLATIONS = {"xor": "a tie on one side charges the better policy", "strict": "ties violate nothing"}


@dataclass(frozen=True)
class Mmrv:
    """Mean maximum rank violation, and the convention that it was computed by."""

    value: float
    gap: Gap
    ties: Ties

    @property
    def label(self) -> str:
        """The metric's name with its convention: without, two numbers of this name can't be compared."""
        return f"MMRV ({self.gap} gap, {self.ties}: {_VIOLATIONS[self.ties]})"

    def __str__(self) -> str:
        return f"{self.label} {self.value:.3f}"


def mmrv(real: Any, sim: Any, *, gap: Gap = "real", ties: Ties = "xor") -> Mmrv:
    """Of rates (k,) of the same policies, in reality and in simulation (SIMPLER, arXiv 2405.05941, equation 1).

    The mean over policies of the largest gap to another policy that is on the other side of it in simulation. Published
    numbers differ in two conventions. ``gap``: the gap is that of the real rates in the equation, and that of the
    simulated ones where SimplerEnv's function is called in the order of its README. ``ties``: "xor" is that function's
    "one is above and the other isn't", under which a tie on one side alone charges the better of the two; "strict"
    counts only pairs whose order is reversed.

    Raises:
        ValueError: there are fewer than two policies, or not as many on both sides.
    """
    real, sim = np.asarray(real, float), np.asarray(sim, float)
    if real.shape != sim.shape or real.ndim != 1 or len(real) < 2:
        raise ValueError(
            f"mmrv: shapes {real.shape} and {sim.shape}; rates of the same two or more policies are needed"
        )
    return Mmrv(float(violations(real, sim, gap, ties)), gap, ties)


def violations(real: np.ndarray, sim: np.ndarray, gap: Gap = "real", ties: Ties = "xor") -> np.ndarray:
    """The number of :func:`mmrv` of rates (..., k), as (...)."""
    d_real, d_sim = (x[..., :, None] - x[..., None, :] for x in (real, sim))
    if ties == "xor":
        violated = (d_sim > TIE) != (d_real > TIE)
    else:
        violated = ((d_sim > TIE) & (d_real < -TIE)) | ((d_sim < -TIE) & (d_real > TIE))
    size = np.abs(d_real if gap == "real" else d_sim)
    return (size * violated).max(-1).mean(-1)


def ranks(scores: Any, sharing: Sharing = "best") -> np.ndarray:
    """Ranks (..., k) of scores (..., k), 1 is the highest; equal ones share their best, average or worst rank."""
    method = {"best": "min", "average": "average", "worst": "max"}[sharing]
    return scipy.stats.rankdata(-np.asarray(scores, float), method, axis=-1)


def borda(scores: Any, sharing: Sharing = "best") -> np.ndarray:
    """Sums of ranks (k,) of models by each judge's success rates (J, k); lower is better.

    This is the paper's count (arXiv 2605.06388, tables 1 and 10), which it takes over the models of one size. Its text
    speaks of two judges, but its values exceed what two can give and fit three whose ties share the best rank; and a
    model's value differs between the two tables, since these rank 9 and 12 models.
    """
    return ranks(scores, sharing).sum(0)


def consensus_ranks(scores: Any, threshold: float = THRESHOLD, sharing: Sharing = "best") -> np.ndarray:
    """Ranks (k,) of models by consensus success: the share of trials that every judge gives ``threshold`` or more.

    Args:
        scores: (J, k, N) of J judges; a trial that one of them didn't judge (NaN) counts for nothing. The paper prints
            N = 80 beside this rate; its values are of 160.

    Raises:
        ValueError: a model has no trial that all judged.
    """
    scores = np.asarray(scores, float)
    judged = np.isfinite(scores).all(0)
    if not (counts := judged.sum(-1)).all():
        raise ValueError(f"consensus_ranks: model {int(counts.argmin())} has no trial that every judge judged")
    return ranks(((scores >= threshold).all(0) & judged).sum(-1) / counts, sharing)
