"""What links prices, over several seeds: news by its loadings, and each channel by how closely one asset then follows another.

The table in docs/concepts/contagion.md is printed by `python -m pytest -m statistical tests/statistical/test_contagion_laws.py -s`. Seeds are
others than those with which the markets of `one_channel` were tried out.
"""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import abm
from tests.unit.one_channel import ALL_OFF, CASES, correlations, rises
from tests.unit.two_assets import BTC, ETH, two_assets

pytestmark = pytest.mark.statistical

SEEDS = range(11, 21)

# ------------------------------------------------------------------ news

FACTOR = OWN = 0.6  # volatilities a year, of the common factor and of each asset's own news
MINUTES = 15


def returns(news: bool, loadings: tuple[float, float], seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of values and of mids, over a day in which no channel is on, but news where it is asked for."""
    betas = {name: {"crypto": loading} for name, loading in zip((BTC, ETH), loadings, strict=True)}
    common = {"news": {"factors": {"crypto": FACTOR}}, "loadings": betas}
    made = abm.Market(two_assets(seed, 24.0, ALL_OFF | {"news": news}, {"funds": None}, **common))
    times = range(0, 24 * 60 + 1, MINUTES)
    values = pd.DataFrame({name: [made.fundamental(name, ahead=60.0 * k) for k in times] for name in (BTC, ETH)})
    made.run_for("24h")
    mids = made.result().bars.pivot(index="time", columns="instrument", values="mid")[[BTC, ETH]]
    opening = values.iloc[[0]].set_axis([mids.index[0] - pd.Timedelta("1min")])
    at_the_end = pd.concat([opening, mids]).iloc[::MINUTES]  # bars have what was at their end
    return np.log(values).diff().dropna(), np.log(at_the_end).diff().dropna()


def independent(table: pd.DataFrame, lags: int = 4) -> float:
    """How many independent rows a table is worth for a correlation: n / (1 + 2 sum_k r(k) s(k)), r and s the autocorrelations (Bartlett 1946)."""
    each = [[table[name].autocorr(k) for k in range(1, lags + 1)] for name in table]
    return len(table) / (1.0 + 2.0 * float(np.prod(each, axis=0).sum()))


def assert_correlations(tables: list[pd.DataFrame], expected: float) -> None:
    """Fisher's z = artanh(r) of a day scatters around that expected with a variance of 1 / (n - 3): its mean over seeds, and its scatter."""
    z = np.array([math.atanh(table[BTC].corr(table[ETH])) for table in tables]) - math.atanh(expected)
    rows = np.array([independent(table) for table in tables]) - 3.0
    assert abs(z @ rows) / math.sqrt(rows.sum()) < 3.0  # standard errors of the mean, weighted by what it is known by
    assert (z**2) @ rows < stats.chi2.ppf(0.999, len(z))


@pytest.mark.parametrize(("news", "loadings"), [(False, (1.0, 1.2)), (True, (1.0, 1.2)), (True, (1.0, -0.7))])
def test_news_alone_correlates_and_as_its_loadings_say(news: bool, loadings: tuple[float, float]) -> None:
    """rho = b c s^2 / (sd1 sd2), and 0 where news is off; values, and mids over a time in which they follow values."""
    common = [b * FACTOR * news for b in loadings]
    expected = math.prod(common) / math.prod(math.hypot(b, OWN) for b in common)
    values, mids = zip(*(returns(news, loadings, seed) for seed in SEEDS[:6]), strict=True)
    assert_correlations(list(values), expected)
    assert_correlations(list(mids), expected)


# ------------------------------------------------------------------ channels

ROWS = [(channel, "mid") for channel in CASES] + [("market_making", "depth")]
LINKS_NO_RETURNS = {"market_making": 0.15}
"""The channel that is not expected to, see docs/concepts/contagion.md, and the corrected rise beyond which we would be wrong."""


@pytest.mark.parametrize(("channel", "what"), ROWS)
def test_a_channel_raises_the_corrected_correlation_and_not_merely_the_raw(channel: str, what: str) -> None:
    """Both intervals over seeds are above 0."""
    table = pd.DataFrame([correlations(channel, seed, what) for seed in SEEDS])
    found, case = rises(table), CASES[channel]()
    cells = [f"`{channel}`", f"{case.source}, {case.other}", what, *(f"{mean:+.2f}" for mean in table.mean())]
    cells += ["{rise:+.2f} ({low:+.2f}, {high:+.2f})".format(**row) for _, row in found.iterrows()]
    print("\n|", " | ".join([*cells, f"{found.loc['corrected', 'up']:.0f}"]), "|", end=" ")
    if what == "mid" and channel in LINKS_NO_RETURNS:
        low, high = found.loc["corrected", ["low", "high"]]
        assert -LINKS_NO_RETURNS[channel] < low and high < LINKS_NO_RETURNS[channel]
    else:
        assert (found["low"] > 0.0).all(), found
