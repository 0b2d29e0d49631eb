"""Tests of contagion at their stated size, intervals at their stated cover, and estimates that come near what they estimate.

Seeds are fixed. Bands are three standard errors of the share of that many trials.
"""

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats

from abm.contagion.measures import (
    corrected_correlation,
    delta_covar,
    hayashi_yoshida,
    spillover_table,
    transfer_entropy,
)
from abm.contagion.measures.spillover import generalised_shares
from abm.random import stream

pytestmark = pytest.mark.statistical

Floats = npt.NDArray[np.float64]


def rng(purpose: str) -> np.random.Generator:
    return stream(1, "spillover power", purpose)


def band(share: float, trials: int) -> float:
    return 3 * math.sqrt(share * (1 - share) / trials)


def two_regimes(
    rows: tuple[int, int], slopes: tuple[float, float], scale: float, draws: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """b = slope a + noise, in calm and in crisis; a is `scale` times as volatile in the crisis."""
    found = []
    for n, slope, size in zip(rows, slopes, (1.0, scale), strict=True):
        a = size * draws.standard_normal(n)
        found.append(pd.DataFrame({"a": a, "b": slope * a + draws.standard_normal(n)}))
    return found[0], found[1]


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("slope", [0.0, 0.5, 1.5])
def test_size_and_cover_of_the_corrected_correlation(scale: float, slope: float) -> None:
    draws, trials = rng(f"size {scale} {slope}"), 1500
    true = slope / math.sqrt(1 + slope**2)
    tables = [
        corrected_correlation(*two_regimes((300, 80), (slope, slope), scale, draws), "a").loc["b"]
        for _ in range(trials)
    ]
    found = pd.DataFrame(tables)
    assert (found["p_value"] < 0.05).mean() == pytest.approx(0.05, abs=band(0.05, trials))
    assert found["low"].le(true).mul(found["high"].ge(true)).mean() == pytest.approx(0.95, abs=band(0.05, trials))


def test_the_raw_correlation_would_call_it_contagion() -> None:
    """Forbes and Rigobon's point: slope unchanged, variance nine times; Fisher's test of the correlations as they are."""
    draws, raw, corrected = rng("raw"), [], []
    for _ in range(300):
        row = corrected_correlation(*two_regimes((300, 80), (0.5, 0.5), 3.0, draws), "a").loc["b"]
        raw.append((math.atanh(row["crisis"]) - math.atanh(row["calm"])) / math.sqrt(1 / 297 + 1 / 77) > 1.645)
        corrected.append(row["p_value"] < 0.05)
    assert np.mean(raw) > 0.9
    assert np.mean(corrected) < 0.05 + band(0.05, 300)


def test_a_steeper_slope_is_found() -> None:
    draws = rng("power")
    found = [
        corrected_correlation(*two_regimes((300, 80), (0.5, 1.0), 3.0, draws), "a").loc["b", "p_value"] < 0.05
        for _ in range(300)
    ]
    assert np.mean(found) > 0.9


def ar(rho: float, n: int, draws: np.random.Generator) -> pd.Series:
    values, noise = np.zeros(n), draws.standard_normal(n)
    for t in range(1, n):
        values[t] = rho * values[t - 1] + noise[t]
    return pd.Series(values)


@pytest.mark.parametrize(("of_source", "lags"), [(0.0, 1), (0.9, 1), (0.0, 2)])
def test_size_of_transfer_entropy(of_source: float, lags: int) -> None:
    """Independent series, the source with memory of its own: one in twenty is found at 5 %, and the effective value is 0 on average."""
    draws, trials = rng(f"entropy {of_source} {lags}"), 600
    found = [
        transfer_entropy(ar(of_source, 400, draws), ar(0.0, 400, draws), lags, 2, 99, rng=draws) for _ in range(trials)
    ]
    effective = np.array([each.effective for each in found])
    assert np.mean([each.p_value <= 0.05 for each in found]) == pytest.approx(0.05, abs=band(0.05, trials))
    assert abs(effective.mean()) < 3 * effective.std() / math.sqrt(trials)


def test_bias_of_transfer_entropy() -> None:
    """Of independent series 2 ln(2) n T is chi-squared of (b - 1)^2 b degrees of freedom (a likelihood ratio)."""
    draws, bins, n = rng("bias"), 3, 2000
    raw = [transfer_entropy(ar(0, n, draws), ar(0, n, draws), 1, bins, 1, rng=draws).raw for _ in range(400)]
    freedom = (bins - 1) ** 2 * bins
    scaled = 2 * math.log(2) * n * np.array(raw)
    assert scaled.mean() == pytest.approx(freedom, abs=3 * math.sqrt(2 * freedom / 400))
    assert stats.kstest(scaled, stats.chi2(freedom).cdf).pvalue > 0.01


def test_spillovers_come_near_those_of_the_process() -> None:
    coefficients = np.array([[0.3, 0.0, 0.2], [0.4, 0.2, 0.0], [0.0, 0.0, 0.5]])
    root = np.array([[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.0, 0.3, 0.5]])
    draws, n = rng("process"), 100_000
    shocks, values = draws.standard_normal((n, 3)) @ root.T, np.zeros((n, 3))
    for t in range(1, n):
        values[t] = coefficients @ values[t - 1] + shocks[t]
    responses = np.array([np.linalg.matrix_power(coefficients, h) for h in range(10)])
    found = spillover_table(pd.DataFrame(values, columns=list("abc")), 1, 10).shares
    np.testing.assert_allclose(found, generalised_shares(responses, root @ root.T), atol=0.01)


@pytest.mark.parametrize("q", [0.01, 0.05])
def test_covar_of_simulated_normal_returns(q: float) -> None:
    """Mean over samples within three standard errors of rho s z."""
    draws, found = rng(f"covar {q}"), []
    for _ in range(60):
        one, other = draws.standard_normal((2, 2000))
        found.append(delta_covar(pd.Series(0.6 * one + 0.8 * other), pd.Series(one), q).delta)
    error = np.std(found) / math.sqrt(len(found))
    assert np.mean(found) == pytest.approx(0.6 * stats.norm.ppf(q), abs=3 * error)


def test_the_asynchronous_correlation_is_not_drawn_to_zero() -> None:
    """Epps: on a grid of 5 seconds, series seen each 10 seconds on average look less correlated than they are; here they do not."""
    draws, found, gridded = rng("epps"), [], []
    for _ in range(40):
        one, other = draws.standard_normal((2, 10_000)).cumsum(axis=1)
        paths = one, 0.7 * one + math.sqrt(0.51) * other
        seen = []
        for path in paths:
            at = np.flatnonzero(draws.random(len(path)) < 0.1)
            seen.append(pd.Series(path[at], index=at))
        found.append(hayashi_yoshida(*seen, 1, 1).curve.loc[0])
        grid = [each.reindex(range(10_000)).ffill().iloc[::5].diff() for each in seen]
        gridded.append(grid[0].corr(grid[1]))  # without the first, when nothing has been seen
    assert np.mean(found) == pytest.approx(0.7, abs=3 * np.std(found) / math.sqrt(40))
    assert np.mean(gridded) < 0.4
