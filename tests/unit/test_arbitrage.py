"""Arbitrageurs: both legs, only where it pays, and out again where it does not or where margin is short."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import abm
from abm.agents.arbitrage import (
    BasisArbitrage,
    BasisConfig,
    IndexArbitrage,
    IndexConfig,
    VenueArbitrage,
    VenueConfig,
    shipments,
)
from abm.agents.base import Coins, Numbers, TraderConfig
from abm.exchange.messages import Phase
from tests.unit.walls import PERPETUAL, SPOT, Wall, derivative, market, only, set_phase, volume

BTC, PERP, OTHER = "btc-spot", "btc-perp", "btc-spot-b"
FEE = 0.0005


class LongConfig(TraderConfig):
    """What is held."""

    coins: float = 10.0
    entry: float = 73_100.0


@abm.trader("test_longs")
class Longs(abm.Population):
    """Long of the perpetual at the start."""

    config: LongConfig

    def setup(self) -> None:
        self.set_leverage(PERP, 10)

    def endow(self) -> tuple[Numbers, Coins]:
        return 1e7, 0.0

    def open_positions(self) -> Mapping[str, tuple[Numbers, Numbers]]:
        return {PERP: (self.config.coins, self.config.entry)}


# ------------------------------------------------------------------ spot and perpetual


def basis(longs: dict[str, Any] | None = None, **settings: Any) -> tuple[abm.Market, dict[str, Wall], BasisArbitrage]:
    """Basis arbitrageurs who look every 2 s and pay 5 bp on each leg, with ten coins long against them."""
    mine = {"kind": "basis_arbitrage", "accounts": 4, "capital": 8e6, "look": 2, "slice_usd": 50_000, **settings}
    traders: dict[str, Any] = {"longs": {"kind": "test_longs", **(longs or {})}, "mine": mine}
    fees = {"fees": [{"maker": 0.0, "taker": FEE}]}
    made, walls = market(traders, {BTC: {**SPOT, **fees}, PERP: {**PERPETUAL, **fees}})
    return made, walls, only(made, BasisArbitrage)


def hedged(of: BasisArbitrage) -> Any:
    """Coins of each account; the short position is as large."""
    coins = of.holdings(BTC)
    assert of.holdings(PERP) == pytest.approx(-coins, abs=1e-3)
    return coins


def test_they_take_the_other_side_of_opening_positions_with_coins_and_margin_for_it() -> None:
    made, _, mine = basis({"coins": 10.003})
    assert hedged(mine).sum() == pytest.approx(10.003)
    assert hedged(mine).max() - hedged(mine).min() == pytest.approx(0.001)
    assert mine.margin_equity() == pytest.approx(8e6 / 4 + 0.5 * 73_100 * hedged(mine))
    assert made.house.entries["opening"][BTC] > 0
    made.run_for("1min")
    assert made.result().summary["trades"] == 0
    assert made.result().audit.passed


def test_nobody_can_be_short_of_coins_or_in_brackets_that_margin_does_not_carry() -> None:
    with pytest.raises(ValueError, match="nobody takes the other side"):
        basis({"coins": -1.0})
    steep = [{"up_to": 1e5, "leverage": 10, "maintenance": 0.01}, {"leverage": 1, "maintenance": 0.6}]
    perpetual = derivative("perpetual", BTC, 73_100, brackets=steep)
    with pytest.raises(ValueError, match=r"maintenance margin of 0\.6; raise accounts"):
        market({"longs": {"kind": "test_longs"}, "basis_arbitrage": {"accounts": 4}}, {PERP: perpetual})


@pytest.mark.parametrize(("bps", "opens"), [(10.0, False), (21.0, False), (40.0, True)])
def test_they_open_where_the_basis_pays_for_fees_and_what_they_want(bps: float, opens: bool) -> None:
    """In and out on both legs costs 20 bp, two walls' half-spreads 2 bp, and they want 1 to 10 bp."""
    made, walls, mine = basis(horizon=0)
    walls[PERP].price *= 1 + bps * 1e-4
    made.run_for("1min")
    assert (hedged(mine).sum() > 10.1) == opens
    assert (volume(made, "arbitrage", PERP) > 0) == opens
    assert made.result().audit.passed


def test_they_open_no_more_than_their_cash_carries() -> None:
    made, walls, mine = basis(horizon=0, slice_usd=1e6)
    walls[PERP].price *= 1.01
    made.run_for("5min")
    full = hedged(mine).sum()
    assert full - 10 == pytest.approx(8e6 / (73_100 * 1.001 + 0.5 * 73_831), rel=0.02)
    rejected = made.result().summary["rejects"]
    assert rejected == {}


def test_funding_alone_can_make_them_open_and_close() -> None:
    made, _, mine = basis(horizon="8h")
    made.house.funding_rate = lambda name: 0.003 if mine.model.seconds < 60 else -0.006  # type: ignore[method-assign]
    made.run_for("1min")
    more = hedged(mine).sum()
    assert more > 10.1
    made.run_for("2min")
    assert hedged(mine).sum() < more - 0.1


@pytest.mark.parametrize(("bps", "closes"), [(-1.5, False), (-10.0, True)])
def test_they_close_where_the_basis_has_turned(bps: float, closes: bool) -> None:
    """They sell the coins and buy the short position back: so a fall of the perpetual reaches spot."""
    made, walls, mine = basis(horizon=0, close_bps=[2, 5])
    walls[PERP].price *= 1 + bps * 1e-4
    made.run_for("2min")
    assert (hedged(mine).sum() == 0.0) == closes
    assert (hedged(mine).sum() == pytest.approx(10.0)) != closes
    assert volume(made, "arbitrage", BTC) == pytest.approx(10.0 if closes else 0.0, abs=1e-3)


def swapped(of: BasisArbitrage, own: float) -> float:
    """Coins of their own for which they hold the perpetual now."""
    gone = own - of.holdings(BTC)
    assert of.holdings(PERP) == pytest.approx(gone, abs=1e-3)
    return float(gone.sum())


def test_with_coins_of_their_own_they_hold_a_cheap_perpetual_in_place_of_them_and_come_back() -> None:
    made, walls, mine = basis({"coins": 0.0}, horizon=0, coins=8.0, edge_bps=[50, 100])
    walls[PERP].price *= 1 - 30e-4
    made.run_for("1min")
    assert swapped(mine, 2.0) == 0.0
    walls[PERP].price *= 0.98
    made.run_for("3min")
    assert swapped(mine, 2.0) == pytest.approx(8.0, abs=0.01)
    walls[PERP].price = walls[BTC].price * 1.006
    made.run_for("3min")
    assert swapped(mine, 2.0) == pytest.approx(0.0, abs=0.01)
    assert made.result().summary["rejects"] == {}
    assert made.result().audit.passed


def test_coins_of_their_own_are_not_sold_with_those_that_they_carry() -> None:
    made, walls, mine = basis(horizon=0, coins=8.0, close_bps=[2, 5], edge_bps=[50, 100])
    walls[PERP].price *= 1 - 20e-4
    made.run_for("2min")
    assert mine.holdings(PERP).sum() == 0.0
    assert mine.holdings(BTC) == pytest.approx(np.full(4, 2.0), abs=1e-3)


def test_a_rise_makes_them_unwind_until_margin_is_restored() -> None:
    made, walls, mine = basis(capital=0, horizon=0, slice_usd=1.0)
    made.run_for("10s")
    for wall in walls.values():
        wall.price *= 1.42
    made.run_for("3min")
    left = hedged(mine)
    assert 0 < left.sum() < 10.0
    assert mine.margin_equity() / (left * walls[PERP].price) == pytest.approx(np.full(4, 0.2), abs=0.005)
    # (E + q p) / (N - q p) = .2, E and N before: per coin E = .5 - .42 and N = 1.42 of the price at the start
    assert 10 - left.sum() == pytest.approx(10 * (0.2 * 1.42 - 0.08) / 1.2 / 1.42, rel=0.02)
    assert volume(made, "margin_call", BTC) == pytest.approx(10 - left.sum(), abs=0.01)
    assert made.result().summary["liquidations"]["liquidated"] == 0
    assert made.result().audit.passed


def test_a_leg_that_stayed_alone_is_mended() -> None:
    made, walls, mine = basis(horizon=0)
    walls[PERP].price *= 1.004
    made.run_for("3s")
    walls[PERP].price /= 1.004  # before what they send now arrives
    made.run_for("1s")
    assert (mine.holdings(BTC) + mine.holdings(PERP)).max() > 0.1
    made.run_for("1min")
    assert hedged(mine).sum() > 10.1


def test_they_do_nothing_while_one_side_is_halted() -> None:
    made, walls, mine = basis(horizon=0)
    walls[PERP].price *= 1.01
    set_phase(made, BTC, Phase.HALTED)
    made.run_for("1min")
    assert hedged(mine).sum() == pytest.approx(10.0)


def test_an_instrument_without_margin_is_no_perpetual() -> None:
    with pytest.raises(ValueError, match="btc-spot-b is not a perpetual or future with margin"):
        market({"basis_arbitrage": {"instrument": OTHER}}, {OTHER: SPOT})


# ------------------------------------------------------------------ venues


def venues(fee: float = FEE, **settings: Any) -> tuple[abm.Market, dict[str, Wall], VenueArbitrage]:
    """Three venues with 68 % of the coins, and the rest."""
    names = {BTC: 0.3, OTHER: 0.2, "btc-spot-c": 0.18, "btc-spot-d": 0.32}
    fees = {"fees": [{"maker": 0.0, "taker": fee}]}
    mine = {"kind": "venue_arbitrage", "accounts": 2, "venues": names, "coins": 100, "cash": 1e7, **settings}
    made, walls = market({"mine": mine}, {name: {**SPOT, **fees} for name in names}, hours=3.0)
    return made, walls, only(made, VenueArbitrage)


def test_coins_are_on_the_venues_by_share() -> None:
    _, _, mine = venues()
    held = [mine.holdings(name).sum() for name in mine.config.venues]
    assert held == pytest.approx([30, 20, 18, 32])


@pytest.mark.parametrize(("bps", "trades"), [(8.0, False), (12.5, False), (40.0, True)])
def test_they_trade_where_prices_cross_by_more_than_fees(bps: float, trades: bool) -> None:
    """Two fees of 5 bp, two half-spreads of 1 bp, and 1 bp or more that they want."""
    made, walls, mine = venues()
    walls[OTHER].price *= 1 + bps * 1e-4
    made.run_for("1min")
    assert (volume(made, "arbitrage") > 0) == trades
    trade = made.result().trades
    if trades:
        bought = trade[trade["aggressor"] == "buy"]
        sold = trade[trade["aggressor"] == "sell"]
        assert set(sold["instrument"]) == {OTHER}
        assert OTHER not in set(bought["instrument"])
        assert sold["quantity"].sum() == pytest.approx(bought["quantity"].sum())
        assert sold["price"].min() * (1 - FEE) > bought["price"].max() * (1 + FEE) * (1 + 1e-4)
    assert sum(mine.holdings(name).sum() for name in mine.config.venues) == pytest.approx(100.0)


def test_each_sells_no_more_than_it_has_there_and_coins_follow() -> None:
    made, walls, mine = venues(transfer="10min", slice_usd=2e6)
    walls[OTHER].price *= 1.005
    made.run_for("5min")
    assert mine.holdings(OTHER).sum() == pytest.approx(0.0)
    made.run_for("6min")
    assert mine.in_transit.sum() > 19.9
    walls[OTHER].price /= 1.005
    made.run_for("10min")
    held = [mine.holdings(name).sum() for name in mine.config.venues]
    assert held == pytest.approx([30, 20, 18, 32], abs=1e-3)
    assert made.result().audit.passed


def test_a_purchase_without_its_sale_is_undone() -> None:
    made, walls, mine = venues(fee=0.0)
    walls[OTHER].price *= 1.004
    made.run_for("2s")
    walls[OTHER].price /= 1.004  # before what they send now arrives
    made.run_for("1s")
    total = sum(mine.holdings(name) for name in mine.config.venues)
    assert np.max(total) > 50.1
    made.run_for("1min")
    total = sum(mine.holdings(name) for name in mine.config.venues)
    assert total == pytest.approx(np.full(2, 50.0), abs=2e-4)


def test_shipments_level_out_to_the_lot() -> None:
    held = np.array([[5.0, 0.0, 1.0], [2.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
    leaves, arrives = shipments(held, np.array([0.5, 0.3, 0.2]), 0.1)
    assert leaves.sum(axis=1) == pytest.approx(arrives.sum(axis=1))
    assert held - leaves + arrives == pytest.approx(
        np.array([[3.0, 1.8, 1.2], [3.0, 1.8, 1.2], [0.0, 0.0, 0.0]]), abs=0.1 + 1e-9
    )
    assert (leaves <= held).all()


# ------------------------------------------------------------------ baskets


ETF, ETH = "etf", "eth-spot"
UNITS = {BTC: 0.001, ETH: 0.02}
NAV = 0.001 * 73_100 + 0.02 * 2_150


def index(**settings: Any) -> tuple[abm.Market, dict[str, Wall], IndexArbitrage]:
    """A fund's share that stands for a little of two coins."""
    mine = {"kind": "index_arbitrage", "instrument": ETF, "components": UNITS, "accounts": 2, "baskets": 20_000}
    share = {"tick": 0.01, "lot": 1.0, "max_price": 10_000, "reference_price": NAV}
    eth = {"tick": 0.01, "lot": 0.001, "max_price": 100_000, "reference_price": 2_150}
    made, walls = market({"mine": mine | settings}, {ETF: share, ETH: eth}, hours=2.0)
    walls[ETF].size_of = {"buy": 1e5, "sell": 1e5}
    return made, walls, only(made, IndexArbitrage)


@pytest.mark.parametrize(("bps", "sign"), [(50.0, -1), (-50.0, 1), (1.0, 0)])
def test_they_sell_a_dear_basket_against_its_components_and_buy_a_cheap_one(bps: float, sign: int) -> None:
    made, walls, mine = index()
    before = {name: mine.holdings(name).sum() for name in (ETF, *UNITS)}
    walls[ETF].price *= 1 + bps * 1e-4
    made.run_for("1min")
    change = {name: mine.holdings(name).sum() - before[name] for name in before}
    assert np.sign(change[ETF]) == sign
    for name, units in UNITS.items():
        assert change[name] == pytest.approx(-units * change[ETF], abs=0.01)
    gained = mine.cash.sum() + sum(mine.holdings(n).sum() * walls[n].price for n in UNITS)
    gained += mine.holdings(ETF).sum() * walls[ETF].price / (1 + bps * 1e-4)
    start = 50e6 + 2 * 20_000 * NAV
    assert gained > start + 50 * abs(sign) * 1e-4 * 0.5 * abs(change[ETF]) * NAV - 1.0
    assert made.result().audit.passed


def test_shares_are_created_and_redeemed_in_blocks() -> None:
    made, walls, mine = index(primary="10min", block=500)
    walls[ETF].price *= 1.005
    made.run_for("9min")
    sold = 20_000 - mine.holdings(ETF).sum()
    assert sold > 1_000
    walls[ETF].price /= 1.005
    made.run_for("2min")
    assert 0 <= 20_000 - mine.holdings(ETF).sum() < 2 * 500
    assert made.house.entries["creation"][ETF] % 500 == 0
    assert made.house.entries["creation"][BTC] < 0
    walls[ETF].price *= 0.995
    made.run_for("5min")
    walls[ETF].price /= 0.995
    bought = mine.holdings(ETF).sum() - 20_000
    assert bought > 1_000
    made.run_for("5min")
    assert mine.holdings(ETF).sum() - 20_000 < 2 * 500
    assert made.result().audit.passed


def test_a_component_that_is_closed_stops_them() -> None:
    made, walls, mine = index()
    set_phase(made, ETH, Phase.CLOSED)
    walls[ETF].price *= 1.01
    made.run_for("1min")
    assert mine.holdings(ETF).sum() == 20_000


def test_a_future_on_the_basket_is_held_with_margin() -> None:
    mine = {"kind": "index_arbitrage", "instrument": "btc-future", "components": {BTC: 1.0}, "baskets": 10}
    made, walls = market({"mine": mine}, {"btc-future": derivative("future", BTC, 73_100)})
    walls["btc-future"].price *= 1.005
    made.run_for("2min")
    arbitrageurs = only(made, IndexArbitrage)
    short = arbitrageurs.holdings("btc-future").sum()
    assert short < -1.0
    assert arbitrageurs.holdings(BTC).sum() == pytest.approx(10 - short, abs=0.01)
    assert made.result().summary["rejects"] == {}


@pytest.mark.parametrize(
    ("config", "wrong", "says"),
    [
        (BasisConfig, {"floor": 0.3}, "floor must be less than restored"),
        (BasisConfig, {"spot": "btc-perp"}, "spot must be another"),
        (BasisConfig, {"account_leverage": 2.0}, "at least 1.1 / margin"),
        (BasisConfig, {"close_bps": (3.0, 2.0)}, "close_bps must be"),
        (BasisConfig, {"edge_bps": (-1.0, 2.0)}, "edge_bps must be"),
        (VenueConfig, {"venues": {"a": 1.0, "b": 1.0}}, "set it to a"),
        (VenueConfig, {"venues": {"btc-spot": 0.0, "b": 0.0}}, "nor all 0"),
        (IndexConfig, {"components": {"btc-spot": 1.0}}, "cannot be a part of itself"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(config: type[TraderConfig], wrong: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        config(**wrong)


def test_a_block_that_is_not_whole_lots_is_refused() -> None:
    with pytest.raises(ValueError, match=r"block: 0\.33 of etf are not whole lots of 1; choose another block"):
        index(primary="10min", block=0.33)
