"""What an ensemble of m futures is worth: proper scores, spread and coverage.

All take members (m, ..., D), the last axis the coordinates of a vector, and what happened (..., D).
"""

from __future__ import annotations

import torch
from torch import Tensor


def fair_crps(members: Tensor, truth: Tensor) -> Tensor:
    """Continuous ranked probability score of every coordinate, (..., D), in the coordinates' unit; the less the better.

    The fair version (Ferro 2014, eq. 4): a finite ensemble of a perfect forecast isn't punished for its size. Of a
    single member it is the absolute error.
    """
    return _score(members, truth, torch.abs)


def energy_score(members: Tensor, truth: Tensor) -> Tensor:
    """The same for whole vectors, (...): Euclidean distances in place of absolute ones (Gneiting and Raftery 2007,
    eq. 22, fair)."""
    return _score(members, truth, lambda difference: difference.norm(dim=-1))


def _score(members: Tensor, truth: Tensor, distance) -> Tensor:  # type: ignore[no-untyped-def]
    m = len(members)
    missed = distance(members - truth).mean(0)
    if m == 1:
        return missed
    apart = sum(distance(members[i + 1 :] - members[i]).sum(0) for i in range(m - 1))
    return missed - apart / (m * (m - 1))


def spread_and_error(members: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Variance of the members and squared error of their mean, summed over coordinates, (...) each.

    The variance has the factor (m + 1) / m: then both are equal on average where the truth might be any member
    (Fortin et al. 2014, eq. 15).
    """
    m = len(members)
    variance = members.var(0).sum(-1) * (m + 1) / m
    return variance, (members.mean(0) - truth).square().sum(-1)


def covered(members: Tensor, truth: Tensor, share: float) -> Tensor:
    """Whether the truth lies in the central interval of so large a share, of every coordinate (..., D): 0 or 1.

    Quantile q is the member of rank q (m + 1), between members linearly: so an interval of a perfect forecast holds the
    truth as often as it says, for any m.
    """
    m = len(members)
    ordered = members.sort(0).values

    def quantile(q: float) -> Tensor:
        rank = min(max(q * (m + 1), 1.0), float(m)) - 1
        below = int(rank)
        above = min(below + 1, m - 1)
        return torch.lerp(ordered[below], ordered[above], rank - below)

    return ((quantile(0.5 - share / 2) <= truth) & (truth <= quantile(0.5 + share / 2))).float()


def rank(members: Tensor, truth: Tensor, generator: torch.Generator) -> Tensor:
    """How many members lie below the truth, of every coordinate (..., D), 0 to m; among equals by chance."""
    below, equal = (members < truth).sum(0), (members == truth).sum(0)
    return below + (torch.rand(truth.shape, generator=generator) * (equal + 1)).floor()
