"""What may link prices: nothing where all channels are off, news by its loadings, and each channel by making one asset follow another.

Short versions, of one seed and with little news of each asset's own; `tests/statistical/test_contagion_laws.py` has several seeds.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

import abm
from tests.unit.one_channel import (
    ALL_OFF,
    CASES,
    Case,
    allocators,
    basket,
    borrower,
    correlations,
    funds,
    hub,
    one_channel,
    pool,
    spot,
)
from tests.unit.two_assets import BTC, ETH, two_assets


def values(scenario: abm.Scenario) -> pd.DataFrame:
    """Logarithms of values before each step and after the last, by instrument."""
    made, clock = abm.Market(scenario), scenario.clock
    times = [clock.step * k for k in range(clock.steps + 1)]
    return np.log(
        pd.DataFrame({name: [made.fundamental(name, ahead=t) for t in times] for name in scenario.fundamentals})
    )


def quiet(channels: dict[str, Any], seed: int = 1, **more: Any) -> pd.DataFrame:
    """Values of a day in which nobody trades."""
    return values(two_assets(seed, 24.0, channels, dict.fromkeys(two_assets().traders), **more))


# ------------------------------------------------------------------ nothing, and news


def test_with_all_channels_off_who_could_carry_one_leaves_no_trace() -> None:
    """Funds, allocators, a pool, a hub that is to fail, and arbitrageurs: the books of two coins are what they are without them, to the last unit."""
    traded = {"instruments": spot(basket=100.0)}
    loans = pool() | {"large": [borrower()]}
    carriers = {"funds": funds(), "allocators": allocators(BTC, ETH), "pool": loans, "hub": hub(), **basket()}
    tables = []
    for who in (carriers, {"funds": None}):
        result = abm.run(two_assets(1, 4.0, ALL_OFF, who, **traded))
        tables.append(result.bars[result.bars["instrument"] != "basket"].reset_index(drop=True))
        assert result.audit.passed
    pd.testing.assert_frame_equal(*tables, check_exact=True)


@pytest.mark.parametrize("loadings", [(1.0, 1.2), (1.0, -0.7)])
def test_values_correlate_as_their_loadings_say(loadings: tuple[float, float]) -> None:
    """rho = b c s^2 / sqrt((b^2 s^2 + v^2) (c^2 s^2 + v^2)); Fisher's z of four days of 8640 normal moves."""
    b, c, s, v = *loadings, 0.6, 0.6
    rho = b * c * s**2 / math.sqrt((b**2 * s**2 + v**2) * (c**2 * s**2 + v**2))
    terms = {"news": {"factors": {"crypto": s}}, "loadings": {BTC: {"crypto": b}, ETH: {"crypto": c}}}
    for on, expected in ((True, rho), (False, 0.0)):
        moves = pd.concat([quiet(ALL_OFF | {"news": on}, seed, **terms).diff().dropna() for seed in range(1, 5)])
        z = math.atanh(moves[BTC].corr(moves[ETH])) - math.atanh(expected)
        assert abs(z) * math.sqrt(len(moves) - 3) < 3.0


def test_common_news_is_added_to_what_each_asset_has_alone() -> None:
    """Common random numbers: by its loading, and nothing else changes."""
    terms = {"news": {"factors": {"crypto": 0.6}}, "loadings": {BTC: {"crypto": 1.0}, ETH: {"crypto": -0.7}}}
    common = quiet(ALL_OFF | {"news": True}, **terms) - quiet(ALL_OFF, **terms)
    assert common[BTC].abs().max() > 0.01
    assert common[ETH].to_numpy() == pytest.approx(-0.7 * common[BTC].to_numpy(), abs=1e-12)


@pytest.mark.parametrize("channel", CASES)
def test_no_channel_changes_the_news_that_an_asset_has(channel: str) -> None:
    """Nor does who carries it: values are those of the two assets among other traders."""
    off, on = (values(one_channel(channel, switch, hours=3.0)) for switch in (False, True))
    pd.testing.assert_frame_equal(off, on, check_exact=True)
    if not on.columns.difference([BTC, ETH]).size:
        plain = two_assets(hours=3.0, channels=ALL_OFF | {"news": True}, news=CASES[channel]().more.get("news", {}))
        pd.testing.assert_frame_equal(on, values(plain)[on.columns], check_exact=True)


# ------------------------------------------------------------------ channels


@pytest.mark.parametrize(("channel", "seed"), [*((name, 1) for name in CASES), ("collateral", 2)])
def test_a_channel_raises_the_corrected_correlation_and_not_merely_the_raw(channel: str, seed: int) -> None:
    """Of returns; of depths where what it carries is liquidity."""
    what = "depth" if channel == "market_making" else "mid"
    found = correlations(channel, seed, what, hours=5.0, volatility=0.15)
    assert found["on"] > found["off"] and found["corrected"] > found["off"]


def test_a_pool_alone_moves_its_coin_and_no_other() -> None:
    """Where borrowers have nothing beside: loans are in currency against one coin, so that it makes the source more volatile and links nothing."""
    alone = Case(BTC, ETH, {"pool": pool()}, more=CASES["collateral"]().more)
    off, on = (abm.run(one_channel("collateral", switch, hours=5.0, of=alone)) for switch in (False, True))
    bars = [result.bars.set_index("instrument") for result in (off, on)]
    pd.testing.assert_frame_equal(bars[0].loc[ETH], bars[1].loc[ETH], check_exact=True)
    assert bars[1].loc[BTC, "mid"].iloc[-1] < bars[0].loc[BTC, "mid"].iloc[-1]
