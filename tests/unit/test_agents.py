"""The kinds of traders: each does what its file says."""

import math

import numpy as np
import pytest

import abm
from abm.agents.retail import RetailTraders
from abm.agents.value import ValueTraders
from abm.agents.view import View
from abm.exchange.messages import Kind, Reason, Side

COIN = "btc-spot"


def market(minutes: int = 60, only: tuple[str, ...] | None = None, **changes: object) -> abm.Market:
    scenario = abm.load("first-hour")
    traders: dict[str, object] = {name: None for name in scenario.traders if only is not None and name not in only}
    end = f"2026-02-05T{minutes // 60:02d}:{minutes % 60:02d}Z"
    overrides: dict[str, object] = {"clock": {"end": end}, "traders": traders}
    return abm.Market(abm.load("first-hour", **(overrides | changes)))


def one[T: abm.Population](market: abm.Market, cls: type[T]) -> T:
    return next(p for p in market.populations if isinstance(p, cls))


def volume(market: abm.Market, role: str, reason: Reason) -> float:
    flows = market.result().flows
    return float(flows[(flows["role"] == role) & (flows["reason"] == reason.name.lower())]["volume"].sum())


def test_registration_refuses_a_kind_twice_and_a_configuration_of_another_sort() -> None:
    with pytest.raises(ValueError, match="is taken by"):

        @abm.trader("noise")
        class Other(abm.Population):
            pass

    with pytest.raises(TypeError, match="subclass of TraderConfig"):

        @abm.trader("odd")
        class Odd(abm.Population):
            config: int  # type: ignore[assignment]


def test_value_demand_grows_as_the_power_of_the_discount() -> None:
    only = market(5, only=("value",), **{"traders.value.accounts": 20_000})
    value, c = one(only, ValueTraders), one(only, ValueTraders).config
    cash = value.cash
    for within in (0.05, 0.1, 0.2):
        assert cash[value.discount <= within].sum() == pytest.approx(
            c.demand * (within / c.within) ** c.power, rel=0.05
        )
    only.run_for(1)
    bids = np.concatenate([only.exchange.orders_of(int(row)) for row in value.rows[:50]])
    assert set(bids["side"].tolist()) == {Side.BUY, Side.SELL}
    assert (bids["reserve"] > 0).all()


def test_news_makes_those_look_whose_orders_it_overtakes() -> None:
    """A jump of 1 % in the value: who waits nearer than that looks at once, everybody else when it is his turn."""
    only = market(
        5, only=("value",), **{"traders.value.look": "1h", "traders.value.alarm": 1.0, "traders.value.anchoring": 0}
    )
    value = one(only, ValueTraders)
    only.run_for(10)
    before = {int(row): only.exchange.orders_of(int(row))["price"].max() for row in value.rows}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(only, "fundamental", lambda _name: 73_100 * 1.01)
        only.run_for(10)
    after = {row: only.exchange.orders_of(row)["price"].max() for row in before}
    moved = np.array([after[row] != price for row, price in before.items()])
    near = value.discount < math.log(1.01)
    assert near.any()
    assert moved[near].all()
    assert moved[~near].mean() < 0.1


def test_retail_panics_once_each_and_only_with_what_it_has() -> None:
    only = market(60, only=("retail",), **{"traders.retail.look": 60, "traders.retail.savings": 0})
    retail = one(only, RetailTraders)
    held = retail.holdings()
    only.run_for(1)
    only.recorder.mids[0, 1:] = 73_100 * 0.7
    panics: list[int] = []
    for minute in range(1, 30):
        view = View(
            only.exchange.instruments, only.exchange.tops().tolist(), only.recorder.mids, 60, 1.0, minute * 60 * 10**9
        )
        sent = retail.decide(view)
        if sent is not None:
            sold = sent[sent["reason"] == Reason.PANIC]
            assert (sold["side"] == Side.SELL).all()
            assert (sold["quantity"] * 0.0001 <= held[sold["owner"] - retail.first] + 1e-9).all()
            panics += sold["owner"].tolist()
    assert len(panics) == len(set(panics)) > 0.5 * retail.size
    assert set(panics) <= set((retail.rows[retail.panicked]).tolist())


def test_savings_add_up_to_a_day() -> None:
    calm = market(
        60, **{"traders.retail.trend_followers": 0, "traders.retail.dip_buyers": 0, "traders.retail.accounts": 5000}
    )
    retail = one(calm, RetailTraders)
    calm.run_for("1h")
    spent = volume(calm, "taker", Reason.ACCUMULATION) * 73_100
    assert spent == pytest.approx(retail.config.cash * retail.config.savings / 24, rel=0.25)


def test_noise_is_half_buys_and_of_the_volume_it_is_told() -> None:
    busy = market(60)
    busy.run_for("1h")
    trades = busy.result().trades
    noise = trades[trades["taker_reason"] == "noise"]
    assert noise["quantity"].sum() == pytest.approx(20_000 / 24, rel=0.1)
    taken = noise.groupby("aggressor", observed=True)["quantity"].sum()
    assert 0.4 < taken["buy"] / taken.sum() < 0.6


def test_every_order_says_why() -> None:
    busy = market(10)
    busy.run_for("10min")
    trades = busy.result().trades
    assert "unspecified" not in set(trades["taker_reason"]) | set(trades["maker_reason"])


def test_orders_of_a_population_carry_time_and_kind() -> None:
    busy = market(5)
    busy.run_for(30)
    noise = next(p for p in busy.populations if p.name == "noise")
    batch = None
    while batch is None:
        batch = noise.orders(busy.view())
        busy.run_for(1)
    sent = batch.messages
    assert (sent["order"] > 0).all()
    assert (sent["time"] > 0).all()
    assert set(sent["kind"].tolist()) <= {Kind.LIMIT, Kind.MARKET}
