"""Measures of contagion from returns, against other ways to compute them: by hand, closed forms, statsmodels."""

import math
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats
from statsmodels.regression.quantile_regression import QuantReg
from statsmodels.tools.sm_exceptions import ModelWarning
from statsmodels.tsa.stattools import ccf
from statsmodels.tsa.vector_ar.var_model import VAR

from abm.contagion.measures import (
    absorption_ratio,
    absorption_shift,
    corrected_correlation,
    corrected_correlations,
    delta_covar,
    hayashi_yoshida,
    lead_lag,
    rolling_absorption_ratio,
    rolling_spillover,
    spillover_table,
    transfer_entropy,
)
from abm.contagion.measures.spillover import generalised_shares
from abm.random import stream

Floats = npt.NDArray[np.float64]


def rng(purpose: str) -> np.random.Generator:
    return stream(1, "spillover", purpose)


def unrelated(rows: int, columns: int, draws: np.random.Generator) -> Floats:
    """Columns of mean 0 and variance 1 (over n) that are exactly uncorrelated in the sample."""
    noise = draws.standard_normal((rows, columns))
    noise -= noise.mean(axis=0)
    return np.linalg.qr(noise)[0] * math.sqrt(rows)


def with_covariance(covariance: Floats, rows: int, draws: np.random.Generator) -> pd.DataFrame:
    """A table whose sample covariance (over n) is exactly this."""
    values = unrelated(rows, len(covariance), draws) @ np.linalg.cholesky(covariance).T
    return pd.DataFrame(values, columns=list("abcdefghij")[: len(covariance)])


def autoregression(coefficients: Floats, shocks: Floats) -> pd.DataFrame:
    values = np.zeros_like(shocks)
    for t in range(1, len(shocks)):
        values[t] = coefficients @ values[t - 1] + shocks[t]
    times = pd.date_range("2026-02-02", periods=len(shocks), freq="7min", tz="UTC")
    return pd.DataFrame(values, index=times, columns=list("abcdefghij")[: shocks.shape[1]])


def three_markets(rows: int = 600, purpose: str = "three markets") -> pd.DataFrame:
    """Shocks correlated, and c hangs on a of the row before."""
    mix = np.array([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.3, 0.1, 0.9]])
    coefficients = np.array([[0.2, 0.0, 0.0], [0.1, 0.3, 0.0], [0.5, 0.0, -0.2]])
    return autoregression(coefficients, rng(purpose).standard_normal((rows, 3)) @ mix.T)


# --------------------------------------------------------------------------------------------------- correlation, corrected


def test_correction_of_a_worked_example() -> None:
    calm = with_covariance(np.array([[1.0, 0.3], [0.3, 1.0]]), 100, rng("calm"))
    crisis = with_covariance(np.array([[4.0, 1.0], [1.0, 1.0]]), 100, rng("crisis"))
    row = corrected_correlation(calm, crisis, "a").loc["b"]
    assert row["calm"] == pytest.approx(0.3)
    assert row["crisis"] == pytest.approx(0.5)
    assert row["delta"] == pytest.approx(3.0)
    assert row["corrected"] == pytest.approx(0.5 / math.sqrt(1 + 3 * 0.75)) == pytest.approx(0.27735, abs=5e-6)


def test_a_larger_variance_alone_is_no_contagion() -> None:
    noise = unrelated(400, 2, rng("constant slope"))
    calm = pd.DataFrame({"a": noise[:, 0], "b": 0.5 * noise[:, 0] + noise[:, 1]})
    crisis = pd.DataFrame({"a": 3 * noise[:, 0], "b": 1.5 * noise[:, 0] + noise[:, 1]})
    row = corrected_correlation(calm, crisis, "a").loc["b"]
    assert row["calm"] == pytest.approx(0.5 / math.sqrt(1.25))
    assert row["crisis"] == pytest.approx(1.5 / math.sqrt(3.25))
    assert row["corrected"] == pytest.approx(row["calm"])
    assert row["z"] == pytest.approx(0.0, abs=1e-9)
    assert row["p_value"] == pytest.approx(0.5)


def test_a_steeper_slope_is_contagion() -> None:
    draws = rng("steeper")
    source, noise = draws.standard_normal((2, 1000)), draws.standard_normal((2, 1000))
    calm = pd.DataFrame({"a": source[0], "b": 0.5 * source[0] + noise[0]})
    same = pd.DataFrame({"a": 3 * source[1], "b": 1.5 * source[1] + noise[1]})
    steeper = pd.DataFrame({"a": 3 * source[1], "b": 3.0 * source[1] + noise[1]})
    raw = np.corrcoef(same["a"], same["b"])[0, 1]
    assert raw > np.corrcoef(calm["a"], calm["b"])[0, 1] + 0.3
    assert corrected_correlation(calm, same, "a").loc["b", "p_value"] > 0.05
    assert corrected_correlation(calm, steeper, "a").loc["b", "p_value"] < 1e-6


def test_with_equal_variances_the_interval_is_nearly_fishers() -> None:
    """All that is added is that the ratio of the variances is not known but estimated."""
    crisis = with_covariance(np.array([[1.0, 0.6], [0.6, 1.0]]), 103, rng("interval"))
    row = corrected_correlation(crisis, crisis, "a", confidence=0.9).loc["b"]
    assert row["corrected"] == pytest.approx(0.6)
    z, one = math.atanh(0.6), stats.norm.ppf(0.95)
    half = one * math.sqrt(((1 - 0.36) + 0.36 / 2 + 0.36 / 2) / 100)
    assert (row["low"], row["high"]) == (pytest.approx(math.tanh(z - half)), pytest.approx(math.tanh(z + half)))
    assert half == pytest.approx(one / math.sqrt(100))


def test_many_calm_rows_leave_the_error_of_the_crisis() -> None:
    """With the calm variance as good as known, z* = asinh(slope x s_calm / s_noise) is as exact as a regression makes it."""
    calm = with_covariance(np.array([[1.0, 0.5], [0.5, 1.0]]), 200_000, rng("long calm"))
    crisis = with_covariance(np.array([[9.0, 1.5], [1.5, 1.0]]), 103, rng("short crisis"))
    row = corrected_correlation(calm, crisis, "a", confidence=0.9).loc["b"]
    slope, noise = 1.5 / 9, math.sqrt(1 - 1.5**2 / 9)
    t = slope / noise
    by_slope, by_noise = noise / 3 / 10 / noise, t / math.sqrt(2) / 10
    error = math.hypot(by_slope, by_noise) / math.sqrt(1 + t**2)
    half = (math.atanh(row["high"]) - math.atanh(row["low"])) / 2
    assert half == pytest.approx(stats.norm.ppf(0.95) * error, rel=0.01)


def test_statistic_is_the_difference_over_its_error() -> None:
    """By the errors of what it is made of: the slope and the noise of each regime, and the calm deviation that both share."""
    calm = with_covariance(np.array([[1.0, 0.3], [0.3, 1.0]]), 63, rng("statistic, calm"))
    crisis = with_covariance(np.array([[4.0, 1.4], [1.4, 1.0]]), 63, rng("statistic, crisis"))
    n, parts = 60, np.array([0.35, math.sqrt(1 - 1.4**2 / 4), 0.3, math.sqrt(0.91), 1.0])
    errors = (
        np.array([parts[1] / 2, parts[1] / math.sqrt(2), parts[3], parts[3] / math.sqrt(2), 1 / math.sqrt(2)]) / n**0.5
    )

    def difference(of: Floats) -> float:
        return math.asinh(of[0] * of[4] / of[1]) - math.asinh(of[2] * of[4] / of[3])

    slopes = [(difference(parts + h) - difference(parts - h)) / 2e-6 for h in 1e-6 * np.eye(5)]
    expected = difference(parts) / math.sqrt(sum((slopes * errors) ** 2))
    row = corrected_correlation(calm, crisis, "a").loc["b"]
    assert row["z"] == pytest.approx(expected, rel=1e-6)
    assert row["p_value"] == pytest.approx(1 - stats.norm.cdf(expected))


def test_matrix_has_the_row_of_each_source() -> None:
    table = three_markets()
    calm, crisis = table[:300], table[300:] * [2.0, 1.0, 3.0]
    matrix = corrected_correlations(calm, crisis)
    assert np.diag(matrix) == pytest.approx(1.0)
    for source in "abc":
        row = corrected_correlation(calm, crisis, source)["corrected"]
        pd.testing.assert_series_equal(matrix.loc[source, row.index], row, check_names=False)


# ------------------------------------------------------------------------------------------------- variance decomposition


def shares_by_hand(responses: Floats, covariance: Floats) -> Floats:
    """Term by term as the formula is written."""
    n = len(covariance)
    theta = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            above = below = 0.0
            for a in responses:
                above += sum(a[i, k] * covariance[k, j] for k in range(n)) ** 2
                below += sum(a[i, k] * covariance[k, m] * a[i, m] for k in range(n) for m in range(n))
            theta[i, j] = above / covariance[j, j] / below
    return theta / theta.sum(axis=1)[:, None]


def test_shares_are_those_of_the_formula() -> None:
    draws = rng("formula")
    responses = np.concatenate((np.eye(3)[None], draws.normal(0, 0.5, (4, 3, 3))))
    root = draws.standard_normal((3, 3))
    covariance = root @ root.T
    np.testing.assert_allclose(generalised_shares(responses, covariance), shares_by_hand(responses, covariance))


def test_shares_of_a_small_autoregression() -> None:
    """x' = a x + b y + u, y' = c y + v, corr(u, v) = r, two steps ahead: by hand."""
    a, b, c, r = 0.5, 0.4, 0.3, 0.2
    found = generalised_shares(np.array([np.eye(2), [[a, b], [0.0, c]]]), np.array([[1.0, r], [r, 1.0]]))
    x_by_x, x_by_y = 1 + (a + b * r) ** 2, r**2 + (a * r + b) ** 2
    y_by_x, y_by_y = r**2 + (c * r) ** 2, 1 + c**2
    assert found[0, 1] == pytest.approx(x_by_y / (x_by_x + x_by_y)) == pytest.approx(0.29 / (1.3364 + 0.29))
    assert found[1, 0] == pytest.approx(y_by_x / (y_by_x + y_by_y)) == pytest.approx(0.0436 / (0.0436 + 1.09))


@pytest.mark.parametrize(("lags", "horizon"), [(1, 1), (1, 10), (3, 5)])
def test_shares_where_shocks_are_uncorrelated_are_those_of_statsmodels(lags: int, horizon: int) -> None:
    """Turned by the root of the covariance of its shocks, a table has shocks that are exactly uncorrelated."""
    table = three_markets()
    root = np.linalg.cholesky(VAR(table.to_numpy()).fit(lags).sigma_u)
    turned = pd.DataFrame(np.linalg.solve(root, table.T).T, table.index, table.columns)
    orthogonal = VAR(turned.to_numpy()).fit(lags).fevd(horizon).decomp[:, -1, :]
    np.testing.assert_allclose(spillover_table(turned, lags, horizon).shares, orthogonal, atol=1e-10)


def test_each_column_of_shares_is_that_of_statsmodels_with_its_asset_first() -> None:
    """The first of orthogonalised shocks is a generalised one (Pesaran and Shin 1998, prop. 3.1)."""
    table, theta = three_markets(), np.zeros((3, 3))
    for j in range(3):
        order = [j, *(i for i in range(3) if i != j)]
        theta[order, j] = VAR(table.to_numpy()[:, order]).fit(2).fevd(8).decomp[:, -1, 0]
    np.testing.assert_allclose(spillover_table(table, 2, 8).shares, theta / theta.sum(axis=1)[:, None], atol=1e-10)


def test_what_is_given_received_and_in_all() -> None:
    found = spillover_table(three_markets(), 1, 10)
    shares = found.shares.to_numpy()
    assert found.from_others["c"] == pytest.approx(shares[2, 0] + shares[2, 1])
    assert found.to_others["a"] == pytest.approx(shares[1, 0] + shares[2, 0])
    assert found.net["b"] == pytest.approx(shares[0, 1] + shares[2, 1] - shares[1, 0] - shares[1, 2])
    assert found.total == pytest.approx((shares.sum() - np.trace(shares)) / 3)
    assert found.net["a"] > 0 > found.net["c"]


def test_graph_has_an_edge_from_giver_to_taker() -> None:
    found = spillover_table(three_markets())
    graph = found.graph()
    assert sorted(graph.nodes) == ["a", "b", "c"]
    assert graph.number_of_edges() == 6
    assert graph["a"]["c"]["weight"] == found.shares.loc["c", "a"] > found.shares.loc["a", "c"]


def test_rolling_spillover_is_that_of_each_window() -> None:
    table = three_markets(100)
    rolled = rolling_spillover(table, window=40, lags=2, horizon=4, every=30)
    assert list(rolled.index) == [table.index[end] for end in (39, 69, 99)]
    last = spillover_table(table[60:], 2, 4)
    assert rolled["total"].iloc[-1] == pytest.approx(last.total)
    for name in ("from_others", "to_others", "net"):
        pd.testing.assert_series_equal(rolled[name].iloc[-1], getattr(last, name), check_names=False)


# ------------------------------------------------------------------------------------------------------- conditional risk


def iterated(response: Any, regressors: Any, q: float) -> Floats:
    """Coefficients of a quantile regression as statsmodels iterates to them, with a tolerance a thousandth of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        fit = QuantReg(np.asarray(response), np.asarray(regressors)).fit(q=q, p_tol=1e-9, max_iter=5000)
    return np.asarray(fit.params)


@pytest.mark.parametrize("q", [0.05, 0.5, 0.9])
def test_covar_of_normal_returns(q: float) -> None:
    """Both on a grid of quantiles: delta = rho s_system / s_institution (VaR - median), CoVaR adds the quantile of what is left."""
    grid = stats.norm.ppf((np.arange(150) + 0.5) / 150)
    institution, left = (each.ravel() for each in np.meshgrid(grid, grid))
    rho, of_system, of_institution = 0.6, 0.02, 0.03
    system = of_system * (rho * institution + math.sqrt(1 - rho**2) * left)
    found = delta_covar(pd.Series(system), pd.Series(of_institution * institution), q)
    z = stats.norm.ppf(q)
    assert found.beta == pytest.approx(rho * of_system / of_institution, rel=0.02)
    assert found.delta == pytest.approx(rho * of_system * z, rel=0.02, abs=1e-5)
    covar = of_system * (rho * z + math.sqrt(1 - rho**2) * z)
    assert found.path["covar"].to_numpy() == pytest.approx(covar, rel=0.02, abs=3e-4)


@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_covar_with_states_is_that_of_statsmodels(scale: float) -> None:
    draws = rng("states")
    states = pd.DataFrame({"volatility": draws.gamma(2, 1, 301), "spread": draws.normal(5, 1, 301)})
    institution = pd.Series(draws.standard_normal(301) * states["volatility"]) * scale
    system = 0.5 * institution + pd.Series(draws.standard_t(3, 301)) * scale
    found = delta_covar(system, institution, 0.1, states)

    constant = np.column_stack((np.ones(301), states))
    wide = np.column_stack((constant, institution / scale))
    var, median = (constant @ iterated(institution.to_numpy() / scale, constant, level) for level in (0.1, 0.5))
    plane = iterated(system.to_numpy() / scale, wide, 0.1)
    assert found.beta == pytest.approx(plane[-1], abs=1e-4)
    np.testing.assert_allclose(found.path["var"] / scale, var, atol=1e-4)
    np.testing.assert_allclose(found.path["median"] / scale, median, atol=1e-4)
    np.testing.assert_allclose(found.path["covar"] / scale, constant @ plane[:-1] + plane[-1] * var, atol=1e-4)
    np.testing.assert_allclose(found.path["delta"] / scale, plane[-1] * (var - median), atol=1e-4)
    np.testing.assert_allclose(found.path["covar"] - found.path["covar_at_median"], found.path["delta"])
    assert found.delta == pytest.approx(found.path["delta"].mean())


def test_covar_of_prices_that_mostly_stand_still() -> None:
    draws = rng("standing still")
    institution = pd.Series(np.where(draws.random(400) < 0.7, 0.0, draws.normal(0, 1, 400)))
    system = pd.Series(np.where(draws.random(400) < 0.7, 0.0, institution + draws.normal(0, 1, 400)))
    plane = iterated(system.to_numpy(), np.column_stack((np.ones(400), institution)), 0.05)
    found = delta_covar(system, institution, 0.05)
    assert found.beta == pytest.approx(plane[-1], abs=1e-3)
    assert found.path["median"].iloc[0] == pytest.approx(0.0, abs=1e-4)


def test_the_quantile_is_the_order_statistic() -> None:
    """Of 108 returns at 0.1 it is the 11th, exactly."""
    series = pd.Series(rng("order statistic").standard_t(3, 108))
    path = delta_covar(-series, series, 0.1).path
    assert path["var"].iloc[0] == pytest.approx(np.sort(series)[10])
    assert path["covar"].iloc[0] == pytest.approx(-np.sort(series)[10])


def test_covar_of_an_institution_that_is_the_system() -> None:
    series = pd.Series(rng("itself").standard_normal(200))
    found = delta_covar(series, series, 0.05)
    assert found.beta == pytest.approx(1.0)
    assert found.path["covar"].iloc[0] == pytest.approx(found.path["var"].iloc[0])


# -------------------------------------------------------------------------------------------------------- absorption ratio


@pytest.mark.parametrize(("assets", "rho"), [(2, 0.5), (4, 0.0), (5, 0.9), (10, 0.3)])
def test_absorption_of_one_factor(assets: int, rho: float) -> None:
    """All correlations rho: the first eigenvalue is 1 + (N - 1) rho, the others are 1 - rho."""
    table = with_covariance(np.full((assets, assets), rho) + (1 - rho) * np.eye(assets), 60, rng("one factor"))
    first, other = (1 + (assets - 1) * rho) / assets, (1 - rho) / assets
    assert absorption_ratio(table * 1e-3, 1) == pytest.approx(first)
    assert absorption_ratio(table, assets - 1) == pytest.approx(1 - other)
    assert absorption_ratio(table) == pytest.approx(first + (max(1, round(assets / 5)) - 1) * other)


def test_absorption_of_a_factor_with_unequal_loadings() -> None:
    """Covariance b b' + s^2: the first eigenvalue is b'b + s^2. Of covariances, so a column counts by its variance."""
    loadings = np.array([1.0, 2.0, 0.5])
    table = with_covariance(np.outer(loadings, loadings) + 0.25 * np.eye(3), 50, rng("loadings"))
    assert absorption_ratio(table, 1) == pytest.approx((5.25 + 0.25) / (5.25 + 0.75))


def test_weights_halve_over_the_half_life() -> None:
    table = three_markets(80)
    values, weights = table.to_numpy(), np.array([0.5 ** ((79 - t) / 20) for t in range(80)])
    weights /= weights.sum()
    mean = sum(w * row for w, row in zip(weights, values, strict=True))
    covariance = sum(w * np.outer(row - mean, row - mean) for w, row in zip(weights, values, strict=True))
    expected = np.linalg.svd(covariance)[1]
    assert absorption_ratio(table, 2, half_life=20) == pytest.approx(expected[:2].sum() / expected.sum())
    assert absorption_ratio(table, 2, half_life=1e9) == pytest.approx(absorption_ratio(table, 2))


def test_rolling_absorption_and_its_shift() -> None:
    table = three_markets(120)
    ratios = rolling_absorption_ratio(table, 30, 1, half_life=15, every=2)
    assert ratios.index[0] == table.index[29] and ratios.index[1] == table.index[31] and len(ratios) == 46
    assert ratios.iloc[5] == pytest.approx(absorption_ratio(table[10:40], 1, 15))
    shift = absorption_shift(ratios, short=5, long=20)
    assert len(shift) == 27 and shift.index[-1] == ratios.index[-1]
    last = ratios.to_numpy()[-20:]
    assert shift.iloc[-1] == pytest.approx((last[-5:].mean() - last.mean()) / last.std(ddof=1))
    stood = pd.concat([pd.Series(0.7, index=range(40)), pd.Series([0.8, 0.9], index=[40, 41])])
    assert absorption_shift(stood, 5, 20).isna().sum() == 21


# -------------------------------------------------------------------------------------------------------- transfer entropy


def binary_entropy(p: float) -> float:
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def test_a_copy_one_step_late_tells_one_bit() -> None:
    """In a De Bruijn sequence all words of three are equally frequent, so the count is exact."""
    coins = np.tile([0, 0, 0, 1, 0, 1, 1, 1], 21)
    source, target = pd.Series(coins[:161]), pd.Series(np.roll(coins, 1)[:161])  # 160 steps: 20 rounds
    there, back = (transfer_entropy(*pair, bins=None, rng=1) for pair in ((source, target), (target, source)))
    assert there.raw == pytest.approx(1.0, abs=1e-12)
    assert there.p_value == 1 / 200
    assert back.raw == pytest.approx(0.0, abs=1e-12)
    assert back.p_value == 1.0


@pytest.mark.parametrize("flip", [0.1, 0.3])
def test_coupled_coins_tell_what_the_noise_leaves(flip: float) -> None:
    """y' = x with probability 1 - flip: T = 1 - h(flip) bits from x to y, none from y to x (Schreiber 2000)."""
    draws, n = rng("coins"), 20_000
    x = draws.integers(0, 2, n)
    y = np.concatenate(([0], x[:-1])) ^ (draws.random(n) < flip)
    there, back = (
        transfer_entropy(*pair, bins=None, rng=2)
        for pair in ((pd.Series(x), pd.Series(y)), (pd.Series(y), pd.Series(x)))
    )
    assert there.effective == pytest.approx(1 - binary_entropy(flip), abs=0.02)
    assert there.p_value == 1 / 200
    assert abs(back.effective) < 5e-4 and back.raw < 1e-3


def test_a_markov_chain_with_memory_tells_what_its_law_says() -> None:
    """p(y' = 1 | y, x) given, x a fair coin: from the stationary law of y."""
    one = np.array([[0.1, 0.5], [0.4, 0.95]])  # [y, x]
    up, stay = one[0].mean(), one[1].mean()
    of_one = up / (1 - stay + up)
    given_both = sum(
        weight / 2 * binary_entropy(p) for weight, row in ((1 - of_one, one[0]), (of_one, one[1])) for p in row
    )
    expected = (1 - of_one) * binary_entropy(up) + of_one * binary_entropy(stay) - given_both

    draws, n = rng("chain"), 20_000
    x, chance, y = draws.integers(0, 2, n), draws.random(n), np.zeros(n, int)
    for t in range(1, n):
        y[t] = chance[t] < one[y[t - 1], x[t - 1]]
    found = transfer_entropy(pd.Series(x), pd.Series(y), bins=None, shuffles=19, rng=3)
    assert found.effective == pytest.approx(expected, abs=0.01)


def test_what_is_told_two_steps_late_needs_two_lags() -> None:
    draws = rng("two steps")
    x = pd.Series(draws.integers(0, 2, 2000))
    y = x.shift(2, fill_value=0)
    assert transfer_entropy(x, y, lags=1, bins=None, rng=1).effective < 0.01
    assert transfer_entropy(x, y, lags=2, bins=None, rng=1).effective == pytest.approx(1.0, abs=0.02)


def test_the_past_of_the_target_is_not_told_by_the_source() -> None:
    """x shows y of the same step, y' = y with probability 0.8: correlated with the next, but nothing new."""
    draws, n = rng("own past"), 5000
    flips = draws.random(n) < 0.2
    y = np.cumsum(flips) % 2
    found = transfer_entropy(pd.Series(y ^ (draws.random(n) < 0.1)), pd.Series(y), bins=None, rng=1)
    assert found.raw < 0.002 and found.p_value > 0.01


def test_words_are_counted_as_the_formula_says() -> None:
    """Sum over all words of two symbols of the source (of three) and of the target (of two), one by one."""
    draws = rng("words")
    x, y = draws.integers(0, 3, 500), draws.integers(0, 2, 500)
    seen = [((y[t],), (y[t - 1], y[t - 2]), (x[t - 1], x[t - 2])) for t in range(2, 500)]
    counts = [Counter(tuple(word[k] for k in kept) for word in seen) for kept in ((0, 1, 2), (1, 2), (0, 1), (1,))]
    expected = 0.0
    for (new, own, other), n in counts[0].items():
        given_both = n / counts[1][own, other]
        given_own = counts[2][new, own] / counts[3][own,]
        expected += n / len(seen) * math.log2(given_both / given_own)
    found = transfer_entropy(pd.Series(x), pd.Series(y), lags=2, bins=None, rng=1)
    assert found.raw == pytest.approx(expected, rel=1e-9)


def test_effective_is_nothing_where_raw_is_chance() -> None:
    draws = rng("chance")
    tries = [transfer_entropy(*map(pd.Series, draws.random((2, 300))), rng=draws) for _ in range(20)]
    raw, effective, _ = np.mean(tries, axis=0)
    assert raw > 0.015
    assert abs(effective) < raw / 5


def test_bins_are_of_equal_counts_or_at_quantiles() -> None:
    draws, n = rng("bins"), 3000
    x = draws.standard_normal(n)
    y = np.concatenate(([0.0], np.exp(x[:-1])))
    tells = transfer_entropy(pd.Series(x), pd.Series(y), bins=4, shuffles=19, rng=1)
    assert tells.raw == pytest.approx(2.0, abs=0.03)
    tails = transfer_entropy(pd.Series(x), pd.Series(y), bins=(0.05, 0.95), shuffles=19, rng=1)
    assert tails.raw == pytest.approx(-0.9 * math.log2(0.9) - 0.1 * math.log2(0.05), abs=0.03)


def test_the_same_seed_tells_the_same() -> None:
    table = three_markets()
    one, again, other = (
        transfer_entropy(table["a"], table["b"], rng=seed) for seed in (7, np.random.default_rng(7), 8)
    )
    assert one == again != other
    assert one.raw == other.raw


# ------------------------------------------------------------------------------------------------------------ lead and lag


@pytest.mark.parametrize("lag", [-4, 0, 3])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_shifted_series_is_found(lag: int, sign: float) -> None:
    noise = rng("shift").standard_normal(520)
    x, y = pd.Series(noise[10:510]), pd.Series(sign * noise[10 - lag : 510 - lag])
    found = lead_lag(x, y, 6)
    assert found.lag == lag
    assert found.correlation == pytest.approx(sign, abs=0.02)
    assert (found.ratio > 10) == (lag > 0) and (found.ratio < 0.1) == (lag < 0)


def test_cross_correlation_is_that_of_statsmodels() -> None:
    table = three_markets(200)
    found = lead_lag(table["a"], table["c"], 5)
    ahead = ccf(table["c"], table["a"], adjusted=False)[:6]
    behind = ccf(table["a"], table["c"], adjusted=False)[:6]
    np.testing.assert_allclose(found.curve.to_numpy(), np.concatenate((behind[:0:-1], ahead)))
    assert list(found.curve.index) == list(range(-5, 6))
    assert found.ratio == pytest.approx((ahead[1:] ** 2).sum() / (behind[1:] ** 2).sum())
    assert found.lag in (0, 1) and found.ratio > 1


def overlaps(x: pd.Series, y: pd.Series, lag: float) -> float:
    """Hayashi and Yoshida's sum, pair by pair."""
    s, t = x.index.to_numpy(), y.index.to_numpy() - lag
    dx, dy = np.diff(x.to_numpy()), np.diff(y.to_numpy())
    total = sum(
        dx[i] * dy[j] for i in range(len(dx)) for j in range(len(dy)) if max(s[i], t[j]) < min(s[i + 1], t[j + 1])
    )
    return float(total / math.sqrt((dx**2).sum() * (dy**2).sum()))


def seen(path: Floats, chance: float, draws: np.random.Generator, delay: int = 0) -> pd.Series:
    """A path on whole seconds, seen at random ones of them, `delay` seconds late."""
    at = np.flatnonzero(draws.random(len(path)) < chance)
    return pd.Series(path[at], index=at + delay)


def test_asynchronous_covariance_is_the_sum_over_overlaps() -> None:
    draws = rng("overlaps")
    path = draws.standard_normal(80).cumsum()
    x, y = seen(path, 0.4, draws), seen(path, 0.6, draws, delay=3)
    found = hayashi_yoshida(x, y, 8, 2)
    assert list(found.curve.index) == [-8, -6, -4, -2, 0, 2, 4, 6, 8]
    np.testing.assert_allclose(found.curve, [overlaps(x, y, lag) for lag in found.curve.index], atol=1e-12)


@pytest.mark.parametrize("delay", [-7, 0, 5])
def test_a_late_path_seen_at_times_of_its_own_is_found(delay: int) -> None:
    draws = rng("late")
    path = draws.standard_normal(20_000).cumsum()
    x, y = seen(path, 0.5, draws), seen(path, 0.3, draws, delay)
    found = hayashi_yoshida(x, y, 20, 1)
    assert found.lag == delay
    assert found.correlation == pytest.approx(1.0, abs=0.03)
    assert (found.ratio > 2) == (delay > 0) and (found.ratio < 0.5) == (delay < 0)


def test_on_one_grid_it_is_the_sum_of_products() -> None:
    """And so in fractions of a second, whose multiples are not exact."""
    table = three_markets(200)
    x, y = table["a"].to_numpy(), table["b"].to_numpy()
    expected = [x[max(-k, 0) : 200 - k] @ y[max(k, 0) : 200 + k] / math.sqrt((x @ x) * (y @ y)) for k in range(-4, 5)]
    levels = [pd.Series(np.concatenate(([0.0], each.cumsum()))) for each in (x, y)]
    for start, step in ((0.0, 1.0), (1.77e9, 0.1), (0.0, 0.1)):
        one, other = (pd.Series(each.to_numpy(), index=start + step * np.arange(201)) for each in levels)
        np.testing.assert_allclose(hayashi_yoshida(one, other, 4 * step, step).curve, expected, atol=1e-12)


def test_lags_reach_to_the_last_whole_step() -> None:
    x, y = (pd.Series(rng(name).standard_normal(50), index=0.1 * np.arange(50)) for name in "xy")
    assert hayashi_yoshida(x, y, 0.3, 0.1).curve.index.to_list() == pytest.approx([-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3])
    assert len(hayashi_yoshida(x, y, 0.29, 0.1).curve) == 5


def test_of_equally_good_lags_the_nearest_to_none() -> None:
    """Moves that come each 100 seconds, over intervals of 10: any lag of less than 10 finds them all."""
    times = np.arange(0, 1000, 10)
    path = pd.Series(np.where(times % 100 == 50, rng("rare").standard_normal(100), 0.0).cumsum(), index=times)
    found = hayashi_yoshida(path, path, 20, 1)
    assert (found.curve.loc[-9:9] == found.correlation).all()
    assert found.lag == 0


def test_times_may_be_dates() -> None:
    draws = rng("dates")
    path = draws.standard_normal(2000).cumsum()
    x, y = seen(path, 0.5, draws), seen(path, 0.5, draws, delay=4)
    plain = hayashi_yoshida(x, y, 10, 2)
    start = pd.Timestamp("2026-02-05", tz="UTC")
    dated = [each.set_axis(start + pd.to_timedelta(each.index, unit="s")) for each in (x, y)]
    found = hayashi_yoshida(dated[0], dated[1].tz_convert("America/New_York"), "10s", pd.Timedelta("2s"))
    assert found.lag == pd.Timedelta("4s") and plain.lag == 4
    np.testing.assert_array_equal(found.curve.to_numpy(), plain.curve.to_numpy())
    assert found.curve.index[0] == pd.Timedelta("-10s")


# ------------------------------------------------------------------------------------------------------- what is refused

TABLE = three_markets(60)
A, B = TABLE["a"], TABLE["b"]

MEASURES: dict[str, Callable[[Any], object]] = {
    "corrected_correlation": lambda table: corrected_correlation(table, table, "a"),
    "corrected_correlations": lambda table: corrected_correlations(table, table),
    "spillover_table": spillover_table,
    "rolling_spillover": lambda table: rolling_spillover(table, 20),
    "absorption_ratio": absorption_ratio,
    "rolling_absorption_ratio": lambda table: rolling_absorption_ratio(table, 20),
}
PAIRS: dict[str, Callable[[Any, Any], object]] = {
    "delta_covar": lambda x, y: delta_covar(x, y, 0.2),
    "transfer_entropy": lambda x, y: transfer_entropy(x, y, rng=1),
    "lead_lag": lambda x, y: lead_lag(x, y, 3),
}


def message(call: Callable[[], object]) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text and len(text) < 160
    return text


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("table", "says"),
    [
        (TABLE[["a"]], "only the columns ['a']; give at least 2"),
        (TABLE["a"], "is a Series; give a DataFrame"),
        (TABLE.to_numpy(), "is a ndarray; give a DataFrame"),
        (TABLE[:1], "has 1 rows and needs at least"),
        (TABLE.assign(b=0.1), "column 'b' of"),
        (TABLE.mask(TABLE["b"] > 1), "missing or infinite, first at 2026-02-02"),
        (TABLE.replace(TABLE.iloc[3, 1], np.inf), "column 'b' of"),
        (TABLE.assign(b="up"), "column 'b' of"),
        (TABLE[::-1], "sort it and drop duplicates"),
        (TABLE.set_axis(["a", "b", "b"], axis=1), "two columns 'b'; rename one"),
    ],
)
def test_unusable_tables_are_refused(measure: str, table: Any, says: str) -> None:
    assert says in message(lambda: MEASURES[measure](table))


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (A, B[1:], "rows"),
        (A, B.shift(freq="1min"), "index"),
        (A, B.to_numpy(), "is a ndarray; give a Series"),
        (A[:2], B[:2], "rows and needs at least"),
        (A, B.where(B < 1), "'b' has"),
        (A * 0 + 0.1, B, "'a' is constant; drop it"),
        (A, B[::-1], "sort it and drop duplicates"),
    ],
)
def test_unusable_pairs_are_refused(pair: str, x: Any, y: Any, says: str) -> None:
    assert says in message(lambda: PAIRS[pair](x, y))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: corrected_correlation(TABLE, TABLE, "d"), "source: no column 'd'; it is one of a, b, c"),
        (lambda: corrected_correlation(TABLE, TABLE[["a", "b"]], "a"), "see 'c'; take both from one table"),
        (lambda: corrected_correlation(TABLE, TABLE.assign(b=-A), "a"), "'a' and 'b' of crisis move as one; drop one"),
        (lambda: corrected_correlation(TABLE, TABLE, "a", 1.0), "confidence: 1.0; give a number between 0 and 1"),
        (lambda: spillover_table(TABLE.assign(c=A - 2 * B)), "column 'c' of returns is a combination of those before"),
        (lambda: spillover_table(TABLE.assign(c=A.shift().fillna(0.0))), "column 'c' of returns is foretold without"),
        (lambda: spillover_table(TABLE, lags=15), "has 60 rows and needs at least 64"),
        (lambda: spillover_table(TABLE, lags=0), "lags: 0; give a whole number of at least 1"),
        (lambda: spillover_table(TABLE, horizon=2.5), "horizon: 2.5; give a whole number"),  # type: ignore[arg-type]
        (lambda: rolling_spillover(TABLE.assign(c=A.where(A.index > A.index[30], 0.0)), 20), "window to 2026-02-02"),
        (lambda: rolling_spillover(TABLE, 61), "has 60 rows and needs at least 61"),
        (lambda: rolling_spillover(TABLE, 20, every=0), "every: 0; give"),
        (lambda: delta_covar(A, B, 0.0), "q: 0.0; give a number between 0 and 1, neither included"),
        (lambda: delta_covar(A, B, 1), "q: 1; give"),
        (lambda: delta_covar(A, B, math.nan), "q: nan; give"),
        (lambda: delta_covar(A, B, 0.01), "institution has 60 rows and needs at least 200"),
        (lambda: delta_covar(A, B, 0.2, TABLE[["b", "c"]]), "column 'institution' of states is a combination"),
        (lambda: delta_covar(A, B, 0.2, TABLE[["c"]][1:]), "states has 59 rows and institution 60"),
        (lambda: absorption_ratio(TABLE, 3), "n_components: 3 of 3 assets; take fewer"),
        (lambda: absorption_ratio(TABLE, 1, half_life=0), "half_life: 0; give"),
        (lambda: absorption_shift(A, 20, 15), "long: 15; give a whole number of at least 21"),
        (lambda: absorption_shift(A), "ratio has 60 rows and needs at least 252"),
        (lambda: transfer_entropy(A, B, lags=3, rng=1), "for 2187 words; give more rows, fewer bins or lags"),
        (lambda: transfer_entropy(A, B, bins=1, rng=1), "bins: 1; give a whole number of at least 2"),
        (lambda: transfer_entropy(A, B, bins=(0.5, 1.0), rng=1), "bins: 1.0; give a number between"),
        (lambda: transfer_entropy(A, (B > 0).astype(int), bins=(0.99,), rng=1), "target has all values in one bin"),
        (lambda: lead_lag(A, B, 0), "max_lag: 0; give"),
        (lambda: hayashi_yoshida(A, B, 10, 1), "max_lag: 10; give a duration above 0, such as '10s'"),
        (lambda: hayashi_yoshida(A, B, "10min", "x"), "step: 'x'; give a duration"),
        (lambda: hayashi_yoshida(A, B, "1min", "2min"), "max_lag: '1min' is shorter than the step '2min'"),
        (
            lambda: hayashi_yoshida(A, B.tz_localize(None), "10min", "1min"),
            "dates without a zone, x of dates with a zone",
        ),
        (lambda: hayashi_yoshida(A, B.reset_index(drop=True), "10min", "1min"), "y has an index of numbers"),
        (lambda: hayashi_yoshida(A.reset_index(drop=True), B.reset_index(drop=True), "10s", 1), "a number above 0"),
        (lambda: hayashi_yoshida(A, B.where(B < 1), "10min", "1min"), "y 'b' has"),
    ],
)
def test_unusable_arguments_are_refused(call: Callable[[], object], says: str) -> None:
    assert says in message(call)
