"""Scores of ensembles against scoringrules and closed forms."""

import numpy as np
import pytest
import scoringrules
import torch

from rslwm.compute import generator
from rslwm.evals.aggregates import ROOT_RATIO, UNEVEN
from rslwm.evals.ensembles import covered, energy_score, fair_crps, rank, spread_and_error

M, N = 7, 50


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_crps_is_the_fair_one_of_scoringrules() -> None:
    members, truth = draw(M, N, 3), draw(N, 3, seed=1)
    theirs = scoringrules.crps_ensemble(truth.numpy(), members.numpy(), m_axis=0, estimator="fair")
    np.testing.assert_allclose(fair_crps(members, truth).numpy(), theirs, rtol=1e-10)


def test_the_energy_score_is_the_fair_one_of_scoringrules() -> None:
    members, truth = draw(M, N, 3), draw(N, 3, seed=1)
    theirs = scoringrules.es_ensemble(truth.numpy(), members.numpy(), m_axis=0, v_axis=-1, estimator="fair")
    np.testing.assert_allclose(energy_score(members, truth).numpy(), theirs, rtol=1e-10)


def test_a_single_member_scores_its_distance() -> None:
    truth = draw(N, 3)
    assert torch.allclose(fair_crps(truth[None] + 2, truth), torch.full((N, 3), 2.0, dtype=torch.float64))


@pytest.mark.parametrize("m", [2, 16])
def test_a_perfect_gaussian_forecast_scores_what_the_closed_form_says_whatever_its_size(m: int) -> None:
    """E CRPS of N(0, 1) against itself is 1 / sqrt(pi)."""
    found = fair_crps(draw(m, 200_000, 1), draw(200_000, 1, seed=1)).mean()
    assert found == pytest.approx(np.pi**-0.5, abs=0.005)


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 1.0), (0.5, 2 / 5**0.5 / 2), (2.0, None)])
def test_spread_over_error_is_1_for_a_perfect_forecast(scale: float, expected: float | None) -> None:
    m = 16
    members, truth = scale * draw(m, 100_000, 3), draw(100_000, 3, seed=1)
    variance, error = (x.numpy() for x in spread_and_error(members, truth))
    one = np.zeros(len(variance), int)
    found = ROOT_RATIO.evaluate(variance, error, one, one, np.ones((1, 1)))[0, 0]
    exact = scale * ((m + 1) / m / (1 + scale**2 / m)) ** 0.5
    assert found == pytest.approx(exact, rel=0.01)
    if scale == 1:
        assert found == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("m", [9, 16])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_an_interval_of_a_perfect_forecast_holds_what_it_says(m: int, share: float) -> None:
    found = covered(draw(m, 100_000), draw(100_000, seed=1), share).mean()
    assert found == pytest.approx(share, abs=0.02)


def test_ranks_of_a_perfect_forecast_are_even_and_equals_are_ranked_by_chance() -> None:
    for members, truth in ((draw(M, 40_000), draw(40_000, seed=1)), (torch.zeros(M, 40_000), torch.zeros(40_000))):
        ranks = rank(members, truth, generator(0, "ranks"))
        shares = torch.bincount(ranks.long(), minlength=M + 1) / len(ranks)
        assert torch.allclose(shares, torch.full((M + 1,), 1 / (M + 1)), atol=0.01)


def uneven(ranks: torch.Tensor) -> float:
    one = np.zeros(len(ranks), int)
    return float(UNEVEN.evaluate(ranks.numpy(), np.full(len(ranks), M), one, one, np.ones((1, 1)))[0, 0])


def test_unevenness_is_chi_squared_over_the_number_of_ranks() -> None:
    members, truth = draw(M, 40_000), draw(40_000, seed=1)
    calibrated = uneven(rank(members, truth, generator(0, "ranks")))
    overconfident = uneven(rank(members / 2, truth, generator(0, "ranks")))
    assert calibrated < 3 * M / 40_000
    assert overconfident > 0.1
    assert uneven(torch.zeros(100)) == pytest.approx(M)  # all in one bin


def test_a_unit_that_counts_twice_is_two_units() -> None:
    ranks, unit = np.array([0, 1, 5, 7, 7]), np.array([0, 1, 1, 2, 2])
    target, group = np.full(5, M), np.zeros(5, int)
    weighted = UNEVEN.evaluate(ranks, target, group, unit, np.array([[1, 0, 2]]))
    repeated = UNEVEN.evaluate(ranks[[0, 3, 4, 3, 4]], target, group, np.zeros(5, int), np.ones((1, 1)))
    assert weighted == pytest.approx(repeated)
