"""Do two axes rank the latent spaces alike?"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import stats as distributions


@dataclass(frozen=True)
class Agreement:
    """Spearman correlation of two axes over the spaces, with the two cheapest checks of so small a sample.

    ``lowest`` and ``highest`` bound it when any one space is left out; ``p`` is the share of all orderings of the
    spaces that agree (or disagree) at least as strongly: with four spaces it can't be below 1/12.
    """

    rho: float
    lowest: float
    highest: float
    p: float


def agreement(x: np.ndarray, y: np.ndarray, permutations: int = 5040, seed: int = 0) -> Agreement | None:
    """Do two scores (L,) rank the spaces alike? None with fewer than four spaces, or where one score is constant."""
    n = len(x)
    if n < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    rx, ry = distributions.rankdata(x), distributions.rankdata(y)
    rho = _correlation(rx, ry)
    keep = [np.arange(n) != i for i in range(n)]
    dropped = [_correlation(distributions.rankdata(x[k]), distributions.rankdata(y[k])) for k in keep]
    if n <= 7:
        orders = np.array(list(itertools.permutations(range(n))))
    else:
        rng = np.random.default_rng(seed)
        orders = np.vstack([np.arange(n), rng.permuted(np.tile(np.arange(n), (permutations, 1)), axis=1)])
    null = (rx - rx.mean()) @ (ry[orders] - ry.mean()).T / (n * rx.std() * ry.std())
    return Agreement(rho, min(dropped), max(dropped), float((np.abs(null) >= abs(rho) - 1e-9).mean()))


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    spread = x.std() * y.std()
    return float(((x - x.mean()) * (y - y.mean())).mean() / spread) if spread > 0 else 0.0
