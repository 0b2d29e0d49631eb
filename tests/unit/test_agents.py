"""The kinds of traders: each does what its file says."""

import math

import numpy as np
import pytest
from pydantic import ValidationError

import abm
from abm.agents.etf import EtfAllocators
from abm.agents.holders import LongTermHolders
from abm.agents.market_makers import MarketMakers, MarketMakersConfig
from abm.agents.miners import Miners, hashprice
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


def test_market_makers_show_the_depth_and_the_spread_they_are_told_to() -> None:
    only = market(5, only=("market_makers",), **{"fundamentals.btc-spot.volatility": 0.0})
    only.run_for("3s")
    view, c = only.view()[COIN], one(only, MarketMakers).config
    bids, asks = only.exchange.depth_within(0, 100.0)
    for lots in (bids, asks):
        # Levels stand at geometric distances, so that the count within 100 bp may end a level early.
        assert 0.7 * c.depth_usd < lots * 0.0001 * view.mid <= 1.01 * c.depth_usd
    sigma_bps = c.calm_volatility * math.sqrt(60 / (365 * 86400)) * 1e4
    assert view.spread_bps is not None
    assert 2 * c.half_spread[0] * sigma_bps <= view.spread_bps + 0.01 <= 2 * c.half_spread[1] * sigma_bps + 0.01


def test_market_makers_lean_against_their_inventory_and_stop_adding_to_it() -> None:
    only = market(5, only=("market_makers",), **{"fundamentals.btc-spot.volatility": 0.0})
    makers = one(only, MarketMakers)
    only.run_for("3s")
    makers._firms["limit_lots"] = 1000  # then what is moved below is a full inventory
    calm = only.view()[COIN]
    only.exchange.accounts.position[makers.rows, 0] += 950
    makers._state["lots"] += 9500  # not learnt from trades
    only.run_for("2min")
    leaning = only.view()[COIN]
    assert leaning.bid_ticks == 0
    assert leaning.ask_ticks < calm.ask_ticks


def test_market_makers_step_back_from_a_jump_and_return_smaller() -> None:
    only = market(10, only=("market_makers",), **{"fundamentals.btc-spot.volatility": 0.0})
    makers = one(only, MarketMakers)
    only.run_for("2min")
    full = only.exchange.depth_within(0, 100.0)[0]
    only._fundamentals[COIN][120:] *= 0.99
    only.run_for("5s")
    assert makers.away.all()
    assert only.view()[COIN].bid_ticks == 0
    only.run_for("130s")
    assert not makers.away.all()
    returned = only.exchange.depth_within(0, 100.0)[0]
    assert 0 < returned < 0.5 * full
    only.run_for("5min")
    assert not makers.away.any()
    assert only.exchange.depth_within(0, 100.0)[0] > returned
    assert only.view()[COIN].mid == pytest.approx(73_100 * 0.99, rel=2e-4)


def test_market_makers_capital_is_one_number_for_each_firm() -> None:
    with pytest.raises(ValidationError, match="give one for each firm"):
        MarketMakersConfig(accounts=3)


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


def test_long_term_holders_rest_their_bids_in_the_zones_and_sell_no_more_than_they_have() -> None:
    only = market(5, only=("long_term_holders",))
    holders = one(only, LongTermHolders)
    only.run_for(1)
    orders = np.concatenate([only.exchange.orders_of(int(row)) for row in holders.rows])
    lots = orders["quantity"] + orders["reserve"]
    for zone in holders.config.zones:
        inside = (orders["price"] >= zone.low / 0.01 - 1) & (orders["price"] <= zone.high / 0.01)
        assert lots[inside].sum() * 0.0001 == pytest.approx(zone.coins, rel=1e-3)
    assert (orders["side"] == Side.BUY).all()
    assert set(orders["reason"].tolist()) == {Reason.ACCUMULATION}


def test_holders_distribute_more_after_a_fall() -> None:
    def sold(fall: float) -> float:
        only = market(30, only=("long_term_holders",), **{"traders.long_term_holders.lump": 0.1})
        holders = one(only, LongTermHolders)
        only.run_for(61)
        only.recorder.mids[0, 1:] = 73_100 * (1 - fall)
        view = View(only.exchange.instruments, only.exchange.view(), only.recorder.mids, 60, 1.0, 10 * 60 * 10**9)
        sent = holders.decide(view)
        assert sent is not None
        assert (sent["side"] == Side.SELL).all()
        return float(sent["quantity"].sum())

    assert sold(0.15) > 1.5 * sold(0.0)


def test_funds_sell_what_is_redeemed_in_the_session_and_most_of_it_in_the_fixing_hour() -> None:
    clock = {"start": "2026-02-05T18:00Z", "end": "2026-02-05T21:05Z", "step": "5s"}
    redemption = [{"day": "2026-02-05", "usd": -20e6, "source": "made up"}]
    busy = abm.Market(abm.load("first-hour", clock=clock, **{"traders.etf.flows": redemption}))
    funds = one(busy, EtfAllocators)
    cash = funds.cash.sum()
    busy.run_for("2h")
    before = funds.cash.sum() - cash
    busy.run_for("65min")
    after = funds.cash.sum() - cash
    # 60 % in the hour from 20:00; of the rest, the run sees what falls between 18:00 and 20:00 of 14:30 to 20:00
    assert before == pytest.approx(8e6 * 2 / 5.5, rel=0.02)
    assert after - before == pytest.approx(12e6, rel=0.02)
    assert volume(busy, "taker", Reason.CREATION) == 0.0


def test_hashprice_is_that_of_the_book() -> None:
    # 86400e15 / (141.67e12 x 2^32) x 3.125 x 1.01 x 73 100
    assert hashprice(73_100, 141.67e12) == pytest.approx(32.76, abs=0.01)


def test_miners_get_new_coins_block_by_block_and_sell_their_share() -> None:
    quick = market(60, **{"traders.miners.block_interval": 10, "traders.miners.every": 60})
    miners = one(quick, Miners)
    start = miners.holdings().sum()
    quick.run_for("1h")
    assert 300 < miners.blocks < 420
    credited = quick.house.entries["block reward"][COIN] * 0.0001
    assert credited == pytest.approx(miners.blocks * 3.125, rel=1e-3)
    sold = volume(quick, "taker", Reason.MINING)
    assert miners.holdings().sum() == pytest.approx(start + credited - sold, abs=1e-6)
    assert 0.55 * credited < sold < 1.05 * credited
    assert quick.result().audit.passed


def test_retail_panics_once_each_and_only_with_what_it_has() -> None:
    only = market(60, only=("retail",), **{"traders.retail.look": 60, "traders.retail.savings": 0})
    retail = one(only, RetailTraders)
    held = retail.holdings()
    only.run_for(1)
    only.recorder.mids[0, 1:] = 73_100 * 0.7
    panics: list[int] = []
    for minute in range(1, 30):
        quotes = only.exchange.view()
        view = View(only.exchange.instruments, quotes, only.recorder.mids, 60, 1.0, minute * 60 * 10**9)
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
