"""MMRV in all its conventions, and orders made of several judges'."""

import itertools

import numpy as np
import pytest
from scipy.stats import kendalltau

from rslwm.verdict.ranks import borda, consensus_ranks, mmrv, ranks

# Success of RT-2-X, RT-1 (converged, 15 %, X, begin) and Octo-base: SIMPLER (arXiv 2405.05941), as its repository
# prints it, on the robot and in simulation.
PUBLISHED = {
    "coke can": ([0.907, 0.853, 0.920, 0.760, 0.133, 0.293], [0.787, 0.857, 0.710, 0.567, 0.027, 0.170]),
    "move near": ([0.733, 0.633, 0.583, 0.450, 0.017, 0.350], [0.779, 0.442, 0.354, 0.317, 0.050, 0.042]),
    "close drawer": ([0.630, 0.926, 0.889, 0.741, 0.000, 0.519], [0.343, 0.861, 0.667, 0.891, 0.278, 0.444]),
    "carrot": ([0.000, 0.250, 0.083], [0.042, 0.083, 0.097]),
}


@pytest.mark.parametrize(
    ("task", "real", "simulated"),
    [("coke can", 0.031, 0.062), ("move near", 0.111, 0.003), ("close drawer", 0.123, 0.113), ("carrot", 0.111, 0.009)],
)
def test_the_two_gaps_give_the_published_table_two_values(task: str, real: float, simulated: float) -> None:
    rates = PUBLISHED[task]
    assert mmrv(*rates).value == pytest.approx(real, abs=6e-4)
    assert mmrv(*rates, gap="simulated").value == pytest.approx(simulated, abs=6e-4)
    assert mmrv(*rates[::-1]).value == pytest.approx(simulated, abs=6e-4)  # what swapped arguments give


def naive(real, sim, gap, ties):
    """The definition, pair by pair."""
    worst = []
    for i, j in itertools.product(range(len(real)), repeat=2):
        r, s = real[i] - real[j], sim[i] - sim[j]
        violated = (s > 0) != (r > 0) if ties == "xor" else r * s < 0
        worst.append(abs(r if gap == "real" else s) * violated)
    return np.reshape(worst, (len(real), -1)).max(1).mean()


def test_it_is_its_definition() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        real, sim = random.integers(0, 6, (2, 7)) / 5
        for gap, ties in itertools.product(("real", "simulated"), ("xor", "strict")):
            assert mmrv(real, sim, gap=gap, ties=ties).value == pytest.approx(naive(real, sim, gap, ties))


def test_ties_are_violations_by_one_convention_only() -> None:
    assert mmrv([0.0, 1.0], [0.5, 0.5]).value == 0.5  # the better one is charged
    assert mmrv([0.0, 1.0], [0.5, 0.5], ties="strict").value == 0
    assert mmrv([0.1 + 0.2, 0.3], [0.5, 0.1]).value == pytest.approx(0, abs=1e-12)  # equal but for rounding


def test_the_convention_is_printed() -> None:
    texts = {str(mmrv([0, 1], [1, 0], gap=g, ties=t)) for g in ("real", "simulated") for t in ("xor", "strict")}
    assert len(texts) == 4
    assert all(" gap, " in text and text.endswith(" 1.000") for text in texts)


def test_one_policy_has_no_order() -> None:
    with pytest.raises(ValueError, match="two or more policies"):
        mmrv([0.5], [0.5])


# Successes of 160 of the paper's five DiT-L models by Qwen and by InternVL, sums over its table 11.
TABLE_11 = np.array([[81, 85, 81, 89, 88], [83, 78, 82, 68, 72]])


def test_borda_is_the_sum_of_ranks_and_ties_share_as_told() -> None:
    assert borda(TABLE_11).tolist() == [4 + 1, 3 + 3, 4 + 2, 1 + 5, 2 + 4]
    assert borda(TABLE_11, "average").tolist() == [4.5 + 1, 3 + 3, 4.5 + 2, 1 + 5, 2 + 4]
    assert borda(TABLE_11, "worst").tolist() == [5 + 1, 3 + 3, 5 + 2, 1 + 5, 2 + 4]


def test_ranks_reverse_scores() -> None:
    scores = np.random.default_rng(0).random(9)
    assert kendalltau(ranks(scores), scores).statistic == pytest.approx(-1)


def test_consensus_takes_both_and_leaves_out_what_one_didn_t_judge() -> None:
    nan = np.nan
    first = [[1, 1, 1, nan], [1, 0, 0, 1]]
    second = [[1, 0, 0, 1], [0.5, nan, nan, nan]]
    assert consensus_ranks([first, second]).tolist() == [2, 1]  # 1 of 3 against 1 of 1
    with pytest.raises(ValueError, match="model 1 has no trial"):
        consensus_ranks([[[1.0], [nan]]])
