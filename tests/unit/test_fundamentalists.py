"""Fundamentalists: what they make of what they hear, when they trade, and what that does to the price."""

from typing import Any

import numpy as np
import pytest

import abm
from abm.agents.fundamentalists import Fundamentalists
from abm.exchange.messages import Records, Side, TimeInForce
from tests.unit.walls import market, only

COIN = "btc-spot"


def alone(**settings: Any) -> tuple[abm.Market, Fundamentalists]:
    made, walls = market({"fundamentalists": settings}, hours=3.0)
    walls[COIN].size_of = {"buy": 0.0, "sell": 0.0}
    return made, only(made, Fundamentalists)


def sent(mispricing: float, **settings: Any) -> tuple[Fundamentalists, Records]:
    """What they send in ten minutes when the value is `mispricing` (a logarithm) above a price that does not move."""
    made, funds = alone(noise=0.0, **settings)
    made._fundamentals[COIN][:] *= np.exp(mispricing)
    messages: list[Records] = []
    decide = funds.decide

    def watch(view: Any) -> Records | None:
        out = decide(view)
        if out is not None:
            messages.append(out.copy())
        return out

    funds.decide = watch  # type: ignore[method-assign]
    made.run_for("10min")
    return funds, np.concatenate(messages)


def test_estimates_are_those_of_the_normal_posterior() -> None:
    """Of a value that does not move, after n things heard: precision 1/v0 + n/noise^2, mean weighted by precision."""
    made, funds = alone(accounts=20_000, noise=0.01, volatility=0.0)
    value, before, v0, n = np.log(made.fundamental(COIN)), 11.3, 0.02**2, 7
    funds.estimate[:], funds.variance[:] = before, v0
    for look in range(n):
        funds._listen(np.arange(funds.size), 60.0 * look)
    precision = 1 / v0 + n / 0.01**2
    assert funds.variance == pytest.approx(np.full(funds.size, 1 / precision), rel=1e-9)
    spread = np.sqrt(n) / 0.01 / precision
    expected = (before / v0 + n * value / 0.01**2) / precision
    assert funds.estimate.mean() == pytest.approx(expected, abs=4 * spread / np.sqrt(funds.size))
    assert funds.estimate.std() == pytest.approx(spread, rel=0.03)


def test_who_listens_regularly_is_as_sure_as_at_the_start() -> None:
    _, funds = alone(noise=0.01, volatility=0.42, look=300)
    before = funds.variance.copy()
    for look in range(1, 20):
        funds._listen(np.arange(funds.size), 300.0 * look)
    assert funds.variance == pytest.approx(before, rel=1e-9)


def test_they_buy_what_is_cheap_and_sell_what_is_dear_and_never_beyond_their_estimate() -> None:
    funds, buys = sent(0.02, slippage=0.4)
    assert (buys["side"] == Side.BUY).all()
    assert (buys["tif"] == TimeInForce.IOC).all()
    assert buys["price"].max() * 0.01 <= 73_100 * np.exp(0.02)
    funds, sales = sent(-0.02, slippage=0.001)
    assert (sales["side"] == Side.SELL).all()
    assert sales["price"].min() * 0.01 >= 73_100 * 0.999 - 1e-6
    assert len(np.unique(sales["owner"])) > 0.5 * funds.size


def test_the_larger_the_mispricing_the_more_of_them_trade_and_the_more_each() -> None:
    def traded(mispricing: float, **settings: Any) -> float:
        return float(sent(mispricing, accounts=1000, **settings)[1]["quantity"].sum())

    assert traded(0.01) > 4 * traded(0.004)
    # With one threshold for all, part = share x (mispricing / threshold) ^ power.
    same = {"threshold": 0.005, "threshold_sigma": 0.0, "power": 1.5, "trade_share": 0.01}
    assert traded(0.02, **same) / traded(0.01, **same) == pytest.approx(2**1.5, rel=0.01)


def test_nobody_trades_below_its_threshold() -> None:
    made, _ = alone(noise=0.0, threshold=0.01, threshold_sigma=0.0)
    made._fundamentals[COIN][:] *= 1.0099
    made.run_for("20min")
    assert (
        made.result().summary["messages"] == made.result().summary["steps"] * 2
    )  # the wall's withdrawal, and the clock


def test_they_bring_the_price_back_to_the_value() -> None:
    """Noise traders and patient makers alone leave the price where a shock has put it; fundamentalists do not."""

    def gap(with_them: bool) -> float:
        plain = abm.load("first-hour")
        traders: dict[str, Any] = {name: None for name in plain.traders if name not in ("noise", "market_makers")}
        traders["market_makers"] = {"news": 0.0}
        if with_them:
            traders["fundamentalists"] = {"look": 60, "noise": 0.002}
        made = abm.Market(abm.load("first-hour", traders=traders, **{"fundamentals.btc-spot.volatility": 0.0}))
        made._fundamentals[COIN][60:] *= 0.98
        made.run_for("40min")
        view = made.view()[COIN]
        assert made.result().audit.passed
        return abs(np.log(view.mid / made.fundamental(COIN)))

    assert gap(False) > 0.015
    assert gap(True) < 0.008
