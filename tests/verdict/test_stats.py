import numpy as np
import pytest
from scipy import stats as distributions

from planted import info, join, rows, study
from rslwm.verdict.bootstrap import Resampling, difference, interval, measure, small_sample_factor
from rslwm.verdict.decide import agreement

EPISODES = np.array([f"e{i:02d}" for i in range(30)])


def estimates(table, metric, draws=400, role="value"):
    return measure(table, metric, Resampling.of(table, draws, 0.95, 0)).estimates[role]


def test_the_same_seed_draws_the_same_episodes():
    table = study({"a": 0.5}, np.random.default_rng(0))
    one, two, other = (Resampling.of(table, 50, 0.95, seed).weights for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()
    assert (one.sum(1) == 40).all()


@pytest.mark.parametrize("aggregate", ["mean", "pearson"])
def test_intervals_cover_the_truth(aggregate):
    rng, truth, hits = np.random.default_rng(3), 0.6, 0
    for _ in range(300):
        target = rng.normal(size=(20, 4))
        noise = rng.normal(size=(20, 4))
        value = truth * target + 0.8 * noise if aggregate == "pearson" else rng.gumbel(truth - 0.5772, size=(20, 4))
        table = rows(latent="a", metric="skill", unit=EPISODES[:20, None], value=value, target=target)
        low, high = interval(estimates(table, info(aggregate=aggregate)), 0.95)
        hits += low[0, 0, 0] <= truth <= high[0, 0, 0]
    assert 0.91 <= hits / 300 <= 0.985


def test_whole_episodes_are_resampled_not_rows():
    """Rows of an episode are alike here, so ten times the rows must not shrink the interval."""
    per_episode = np.random.default_rng(0).normal(size=30)
    widths = []
    for copies in (1, 10):
        table = rows(latent="a", metric="skill", unit=EPISODES[:, None], value=np.tile(per_episode[:, None], copies))
        low, high = interval(estimates(table, info()), 0.95)
        widths.append((high - low)[0, 0, 0])
    assert widths[1] == pytest.approx(widths[0])


def test_the_paired_difference_is_sharper_than_two_intervals():
    rng = np.random.default_rng(0)
    table = study({"a": 0.55, "b": 0.5}, rng, difficulty=0.3, noise=0.05, axes=("planning",))
    found = estimates(table, info("planning"))[:, :, 0, 0]
    (low_a, low_b), (high_a, high_b) = interval(found, 0.95)
    assert max(low_a, low_b) < min(high_a, high_b)  # one by one they overlap
    assert difference(found[:, 0], found[:, 1], 0.95).p < 0.05
    shuffled = found[:, 1].copy()
    shuffled[1:] = np.random.default_rng(1).permutation(shuffled[1:])
    assert difference(found[:, 0], shuffled, 0.95).p > 0.05


def test_a_difference_is_antisymmetric():
    a, b = np.random.default_rng(0).normal(size=(2, 201))
    forth, back = difference(a, b, 0.9), difference(b, a, 0.9)
    assert (forth.value, forth.low, forth.high) == pytest.approx((-back.value, -back.high, -back.low))
    assert forth.p == back.p


def test_cells_are_averaged_with_equal_weight():
    many = rows(latent="a", metric="skill", unit=EPISODES, k=1, value=1.0)
    few = rows(latent="a", metric="skill", unit=EPISODES[:2], k=2, value=0.0)
    np.testing.assert_allclose(estimates(join(many, few), info())[0, 0, 0], [0.5, 1, 0])


def test_an_undefined_cell_is_left_out_for_every_space():
    """Space b lacks dim y: the good y of space a must not count."""
    table = join(
        rows(latent=["a", "b"], metric="skill", unit=EPISODES[:, None], dim="x", value=[0.2, 0.3]),
        rows(latent="a", metric="skill", unit=EPISODES, dim="y", value=1.0),
    )
    measurement = measure(table, info(), Resampling.of(table, 10, 0.95, 0))
    np.testing.assert_allclose(measurement.estimates["value"][0, :, 0, 0], [0.2, 0.3])
    assert measurement.undefined == ("k=1 y",)


def test_rows_that_are_not_finite_are_counted_and_left_out():
    values = np.where(np.arange(30) < 3, np.inf, 1.0)
    measurement = measure(
        table := rows(latent="a", metric="skill", unit=EPISODES, value=values), info(), Resampling.of(table, 9, 0.95, 0)
    )
    assert (measurement.dropped, measurement.units) == (3, 27)
    assert measurement.estimates["value"][0, 0, 0, 0] == 1


def test_few_units_widen_the_interval_to_students():
    assert small_sample_factor(10**6, 0.95) == pytest.approx(1, abs=1e-4)
    assert small_sample_factor(5, 0.95) == pytest.approx(distributions.t.ppf(0.975, 4) / 1.95996 * 1.25**0.5, rel=1e-4)


def test_the_interval_of_few_units_is_students():
    units = EPISODES[:6]
    table = rows(latent="a", metric="skill", unit=units, value=(value := np.array([0.0, 3.0, 1.0, 5.0, 2.0, 4.0])))
    found = measure(table, info(), Resampling.of(table, 8000, 0.95, 0)).estimates["value"][1:, 0, 0, 0]
    low, high = np.quantile(found, [0.025, 0.975])
    half = distributions.t.ppf(0.975, 5) * value.std(ddof=1) / 6**0.5
    assert (high - low) / 2 == pytest.approx(half, rel=0.06)


def test_agreement_of_equal_and_opposite_rankings():
    x = np.array([0.1, 0.4, 0.5, 0.9, 1.0])
    assert agreement(x, x**3).rho == pytest.approx(1)
    assert agreement(x, -x).rho == pytest.approx(-1)
    assert agreement(x, x).p == pytest.approx(2 / 120)
    assert agreement(x[:3], x[:3]) is None


def test_dropping_one_space_shows_what_an_agreement_hangs_on():
    x = np.array([1.0, 2, 3, 4, 9])
    y = np.array([2.0, 1, 4, 3, 9])
    found = agreement(x, y)
    assert found.lowest < found.rho
    assert found.lowest == pytest.approx(distributions.spearmanr(x[:4], y[:4]).statistic)


def test_many_spaces_are_permuted_at_random_and_reproducibly():
    x = np.arange(12.0)
    found = agreement(x, x)
    assert found == agreement(x, x)
    assert found.p < 0.001


def test_a_window_without_a_number_for_one_space_counts_for_none():
    """Space b fails where it is hardest: it must not look better for that."""
    hard = np.where(np.arange(30) < 3, 10.0, 1.0)
    table = rows(
        latent=["a", "b"],
        metric="skill",
        unit=EPISODES[:, None],
        value=np.stack([hard, np.where(hard > 5, np.nan, 1)], 1),
    )
    measurement = measure(table, info(), Resampling.of(table, 9, 0.95, 0))
    np.testing.assert_allclose(measurement.estimates["value"][0, :, 0, 0], 1)
    assert (measurement.dropped, measurement.units) == (3, 27)


def test_a_floor_is_that_of_the_windows_that_count():
    easy = np.arange(30) < 20
    table = join(
        rows(latent="a", metric="skill", unit=EPISODES, value=np.where(easy, 1, np.nan)),
        rows(latent="a", metric="skill", unit=EPISODES, role="floor", value=np.where(easy, 0, 9)),
    )
    found = measure(table, info(floor_value=None), Resampling.of(table, 9, 0.95, 0)).estimates
    assert (found["value"][0, 0, 0, 0], found["floor"][0, 0, 0, 0]) == (1, 0)


def test_a_floor_may_be_measured_on_other_windows_than_the_value():
    table = join(
        rows(latent=["a", "b"], metric="skill", unit=EPISODES[:, None], window=4, value=2.0),
        rows(latent=["a", "b"], metric="skill", unit=EPISODES[:5, None], role="floor", value=1.0),
    )
    found = measure(table, info(floor_value=None), Resampling.of(table, 9, 0.95, 0)).estimates
    assert (found["value"][0, 0, 0, 0], found["floor"][0, 0, 0, 0]) == (2, 1)


def test_what_else_is_counted_is_drawn_by_itself_and_moves_no_episode():
    values = np.arange(float(len(EPISODES)))
    table = rows(latent="a", metric="skill", unit=EPISODES, value=values)
    names = [f"policy {i}" for i in range(5)]
    both = join(table, rows(latent="a", metric="agreement", unit=names, value=np.arange(5.0)))
    alone = Resampling.of(table, 20, 0.95, 0)
    drawn = Resampling.of(both, 20, 0.95, 0, {"agreement": "policies"})
    assert drawn.units == (*alone.units, *names)
    assert drawn.episodes == len(alone.units) == alone.episodes
    np.testing.assert_array_equal(drawn.weights[:, : drawn.episodes], alone.weights)
    assert (drawn.weights[:, drawn.episodes :].sum(1) == 5).all()
