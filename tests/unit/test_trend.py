"""Trend followers: the signal, the size of the position, and how they come to it."""

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import abm
from abm.agents.portfolio import volatility_weight
from abm.agents.trend import TrendConfig, TrendFollowers, crossover_signal, momentum_signal
from tests.unit.walls import PERPETUAL, Wall, market, only, volume

PERP = "btc-perp"
SMALL = {"capital": 10e6, "windows": ["4h"], "accounts": 5}


def on_perpetual(hours: float = 12.0, **settings: Any) -> tuple[abm.Market, dict[str, Wall], TrendFollowers]:
    trend = {"kind": "trend_followers", "instrument": PERP, **SMALL, **settings}
    made, walls = market({"trend": trend}, {PERP: PERPETUAL}, hours=hours, step="1min")
    return made, walls, only(made, TrendFollowers)


def on_spot(hours: float = 12.0, **settings: Any) -> tuple[abm.Market, dict[str, Wall], TrendFollowers]:
    made, walls = market({"trend": {"kind": "trend_followers", **SMALL, **settings}}, hours=hours, step="1min")
    return made, walls, only(made, TrendFollowers)


def move(walls: dict[str, Wall], factor: float) -> None:
    for wall in walls.values():
        wall.price *= factor


def test_signals_are_signs() -> None:
    rising = np.log([100.0, 99.0, 98.0, 101.0])
    assert momentum_signal(rising, 3) == 1.0
    assert momentum_signal(rising[:3], 2) == -1.0
    assert momentum_signal(np.log([5.0, 7.0, 5.0]), 2) == 0.0
    assert crossover_signal(rising, 1, 4) == 1.0
    assert crossover_signal(-rising, 1, 4) == -1.0
    assert crossover_signal(np.log([3.0, 3.0, 3.0]), 1, 3) == 0.0


def test_the_weight_gives_the_target_volatility_until_the_cap() -> None:
    assert volatility_weight(0.15, 0.6, 1.5) == pytest.approx(0.25)
    assert volatility_weight(0.15, 0.05, 1.5) == 1.5


@pytest.mark.parametrize("style", ["momentum", "crossover"])
def test_they_are_long_after_a_rise_and_short_after_a_fall_by_the_formula(style: str) -> None:
    made, walls, trend = on_perpetual(style=style, target_volatility=0.3, volatility=0.6, slice="20min")
    assert trend.holdings(PERP).tolist() == [0.0] * 5
    made.run_for("1h")
    for factor in (1.001, 0.99):
        move(walls, factor)
        made.run_for("3h")
        equity = trend.margin_equity()
        weight = 0.3 / math.sqrt(trend.covariance[0, 0])
        assert np.sign(trend.holdings(PERP)).tolist() == [np.sign(factor - 1.0)] * 5
        # within the band of 2 % of the equity, at the last aim
        assert np.abs(trend.holdings(PERP)) * walls[PERP].price / equity == pytest.approx(weight, abs=0.03)
    assert volume(made, "trend", PERP) > 0
    assert made.result().audit.passed


def test_a_trend_before_the_run_is_held_from_the_start() -> None:
    made, _, trend = on_spot(trend_before=0.05, target_volatility=0.21, volatility=0.42, band=0.1)
    assert trend.holdings() * 73_100 == pytest.approx(trend.capital * 0.5, rel=1e-3)
    made.run_for("3h")
    assert made.result().summary["trades"] == 0
    _, _, short = on_spot(trend_before=-0.05)
    assert short.holdings().sum() == 0.0


def test_spot_is_sold_out_but_not_short() -> None:
    made, walls, trend = on_spot(trend_before=0.05)
    move(walls, 0.8)
    made.run_for("5h")
    assert trend.holdings().max() <= 0.001
    assert trend.free_holdings().min() >= 0.0


def test_more_volatility_makes_them_smaller_while_the_trend_goes_on() -> None:
    made, walls, trend = on_spot(trend_before=0.05, target_volatility=0.3, highest=1.0, band=0.0)
    before = trend.holdings().sum()
    for hour in range(8):
        move(walls, 1.03 if hour % 2 == 0 else 0.98)
        made.run_for("1h")
    assert trend.signals.tolist() == [1.0] * 5
    assert trend.holdings().sum() < 0.7 * before
    assert trend.holdings() * walls["btc-spot"].price == pytest.approx(
        trend.equity(np.array([walls["btc-spot"].price])) * 0.3 / math.sqrt(trend.covariance[0, 0]), rel=0.1
    )


def test_a_change_of_mind_is_spread_over_the_hour() -> None:
    made, walls, trend = on_spot(trend_before=0.05, slice="10min", capital=1e9, accounts=1)
    move(walls, 0.9)
    held = [trend.holdings().sum()]
    made.run_for("1h")
    for _ in range(7):
        made.run_for("10min")
        held.append(trend.holdings().sum())
    sold = -np.diff(held)
    assert (sold[:6] == pytest.approx(held[0] / 6, rel=0.01)) and sold[6] == 0.0


def test_a_window_shorter_than_its_looks_is_refused() -> None:
    with pytest.raises(ValidationError, match="lower every"):
        TrendConfig(windows=(60.0,))
