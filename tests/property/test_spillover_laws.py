"""Laws of the measures of contagion from returns: what must hold of any table, and what a change of names, units or order leaves."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from abm.contagion.measures import (
    absorption_ratio,
    corrected_correlation,
    corrected_correlations,
    delta_covar,
    hayashi_yoshida,
    lead_lag,
    spillover_table,
    transfer_entropy,
)

Floats = npt.NDArray[np.float64]

often = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def tables(draw: Any, rows: tuple[int, int] = (40, 90), most: int = 5) -> pd.DataFrame:
    """Returns with a common factor, fat tails and units of their own."""
    draws, assets = np.random.default_rng(draw(seeds)), draw(st.integers(2, most))
    n = draw(st.integers(*rows))
    factor, own = draws.standard_t(4, n), draws.standard_t(4, (n, assets))
    values = draws.uniform(-1, 2, assets) * factor[:, None] + own
    units = 10.0 ** draws.integers(-5, 3, assets)
    return pd.DataFrame(values * units, columns=list("vwxyz")[:assets])


scales = st.floats(1e-6, 1e6)


@often
@given(tables(), st.integers(1, 2), st.integers(1, 12), st.data())
def test_shares_of_variance(table: pd.DataFrame, lags: int, horizon: int, data: Any) -> None:
    found = spillover_table(table, lags, horizon)
    shares = found.shares.to_numpy()
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert 0 <= found.total < 1
    assert abs(found.net.sum()) < 1e-12
    order = data.draw(st.permutations(list(table.columns)))
    units = np.random.default_rng(data.draw(seeds)).choice([-100.0, 0.01, 3.0], len(order))
    again = spillover_table(table[order] * units + 5.0, lags, horizon).shares
    np.testing.assert_allclose(again.loc[table.columns, table.columns], shares, atol=1e-8)


@often
@given(tables(), tables(), scales)
def test_correction_undoes_what_a_larger_variance_of_the_source_does(
    calm: pd.DataFrame, crisis: pd.DataFrame, unit: float
) -> None:
    columns = [label for label in calm if label in crisis]
    calm, crisis = calm[columns], crisis[columns]
    found = corrected_correlation(calm, crisis, columns[0])
    smaller = (found["corrected"].abs() <= found["crisis"].abs()) | (found["delta"] < 0)
    assert smaller.all()
    assert (np.sign(found["corrected"]) == np.sign(found["crisis"])).all()
    assert ((found["low"] < found["corrected"]) & (found["corrected"] < found["high"])).all()
    # Slope over noise, times the calm deviation of the source, is what it says of each market.
    for label, row in found.iterrows():
        slope, constant = np.polyfit(crisis[columns[0]], crisis[label], 1)
        noise = (crisis[label] - slope * crisis[columns[0]] - constant).std() * calm[columns[0]].std() ** -1
        t = slope / noise
        assert math.isclose(row["corrected"], t / math.sqrt(1 + t**2), rel_tol=1e-6, abs_tol=1e-9)
    matrix = corrected_correlations(calm * unit, crisis * unit)
    np.testing.assert_allclose(matrix.loc[columns[0], found.index], found["corrected"], rtol=1e-8)


@often
@given(tables(), st.one_of(st.none(), st.floats(1, 100)), scales)
def test_absorption_is_a_share_that_grows_with_components(
    table: pd.DataFrame, half_life: float | None, unit: float
) -> None:
    assets = table.shape[1]
    ratios = [absorption_ratio(table, n, half_life) for n in range(1, assets)]
    assert all(n / assets - 1e-12 <= ratio <= 1 + 1e-12 for n, ratio in enumerate(ratios, start=1))
    assert ratios == sorted(ratios)
    turn = np.linalg.qr(np.random.default_rng(assets).standard_normal((assets, assets)))[0]
    turned = pd.DataFrame(table.to_numpy() @ turn * unit)
    np.testing.assert_allclose([absorption_ratio(turned, n, half_life) for n in range(1, assets)], ratios, rtol=1e-9)


@often
@given(tables(rows=(80, 150)), st.sampled_from([0.05, 0.1, 0.5, 0.9]), scales, scales)
def test_covar_goes_with_units_and_passes_through_the_quantile(
    table: pd.DataFrame, q: float, of_system: float, of_institution: float
) -> None:
    system, institution = table["v"], table["w"]
    found = delta_covar(system, institution, q)
    again = delta_covar(system * of_system, institution * of_institution, q)
    # Where many planes are the best one, units may choose among them: how good they are is the same.
    losses = []
    for each, unit, other_unit in ((found, 1.0, 1.0), (again, of_system, of_institution)):
        left = (system * unit - each.path["covar"] - each.beta * (institution * other_unit - each.path["var"])) / unit
        losses.append(np.where(left < 0, (q - 1) * left, q * left).sum())
        slack = 1e-6 * system.std()
        assert (left < -slack).mean() <= q + 1e-9
        assert (left > slack).mean() <= 1 - q + 1e-9
    assert math.isclose(*losses, rel_tol=1e-6)
    # As many returns lie below a quantile as it says, but for those that it goes through.
    slack = 1e-6 * institution.std()
    assert (institution < found.path["var"] - slack).mean() <= q + 1e-9
    assert (institution > found.path["var"] + slack).mean() <= 1 - q + 1e-9
    assert (institution < found.path["median"] - slack).mean() <= 0.5
    assert (institution > found.path["median"] + slack).mean() <= 0.5


@often
@given(tables(rows=(60, 150)), st.integers(2, 3), seeds)
def test_transfer_entropy_is_of_ranks(table: pd.DataFrame, bins: int, seed: int) -> None:
    source, target = table["v"], table["w"]
    found = transfer_entropy(source, target, bins=bins, shuffles=9, rng=seed)
    assert -1e-12 <= found.raw <= math.log2(bins) + 1e-12
    assert found.effective < found.raw + 1e-12
    assert 0.1 <= found.p_value <= 1
    ranks = transfer_entropy(source.rank(), np.arctan(target / target.std()), bins=bins, shuffles=9, rng=seed)
    np.testing.assert_allclose(ranks, found, atol=1e-12)


@often
@given(tables(), st.integers(1, 10), scales)
def test_who_leads_is_led_the_other_way(table: pd.DataFrame, most: int, unit: float) -> None:
    one, other = lead_lag(table["v"], table["w"], most), lead_lag(table["w"] * unit, -table["v"], most)
    np.testing.assert_allclose(one.curve.to_numpy(), -other.curve.to_numpy()[::-1], atol=1e-9)
    assert one.curve.abs().max() <= 1 + 1e-12
    assert math.isclose(one.ratio, 1 / other.ratio, rel_tol=1e-6)


@often
@given(seeds, st.integers(3, 40), st.integers(3, 40), st.integers(1, 12), st.sampled_from([1, 2, 0.1, 0.7]))
def test_overlapping_intervals_are_those_of_every_pair(seed: int, n: int, m: int, most: int, step: float) -> None:
    draws = np.random.default_rng(seed)
    unit = 1 if isinstance(step, int) else 0.1
    x, y = (
        pd.Series(draws.standard_normal(size).cumsum(), index=np.sort(draws.choice(80, size, replace=False)) * unit)
        for size in (n, m)
    )
    found, back = hayashi_yoshida(x, y, most * step, step), hayashi_yoshida(y, x, most * step, step)
    np.testing.assert_allclose(found.curve.to_numpy(), back.curve.to_numpy()[::-1], atol=1e-9)
    assert len(found.curve) == 2 * most + 1
    dx, dy = np.diff(x), np.diff(y)
    size = math.sqrt(float((dx**2).sum() * (dy**2).sum()))
    s, t = (np.rint(each.index.to_numpy() / unit).astype(int) for each in (x, y))
    for lag, correlation in found.curve.items():
        moved = t - round(float(lag) / unit)  # type: ignore[arg-type]
        shared = np.minimum(s[1:, None], moved[None, 1:]) > np.maximum(s[:-1, None], moved[None, :-1])
        assert math.isclose(correlation, float(dx @ shared @ dy) / size, abs_tol=1e-9)
