"""Traders with leverage: what they hold as a run begins, their stops and profits, panic, liquidation and return; shorts and their squeeze."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import abm
from abm.agents.arbitrage import BasisArbitrage
from abm.agents.retail_leverage import Leverage, RetailLeverage, RetailLeverageConfig, shared
from abm.agents.short_sellers import ShortSellers
from tests.unit.walls import PERPETUAL, market, only, volume

PERP = "btc-perp"
FULL = PERPETUAL | {"margin": PERPETUAL["margin"] | {"liquidation": {"style": "full"}}}
HISTORY = [
    {"low": 74_000, "high": 84_000, "weight": 1.0},
    {"low": 72_000, "high": 77_000, "weight": 1.0},
]


def retail(hours: float = 1.0, **config: Any) -> tuple[abm.Market, dict[str, Any]]:
    traders = {"retail_leverage": {"accounts": 4_000, "longs": 8e7, "shorts": 4e7, **config}, "basis_arbitrage": {}}
    return market(traders, {PERP: FULL}, hours, step="5s")


def fall_to(walls: dict[str, Any], price: float) -> None:
    for wall in walls.values():
        wall.price = price


def test_open_interest_has_its_shares_by_leverage() -> None:
    made, _ = retail()
    traders = only(made, RetailLeverage)
    coins, price = traders.holdings(PERP), 73_100
    assert coins[coins > 0].sum() * price == pytest.approx(8e7, rel=0.03)
    assert -coins[coins < 0].sum() * price == pytest.approx(4e7, rel=0.03)
    mix = traders.config.leverage
    for at, share in zip(mix.at[:4], mix.open_interest[:4], strict=True):
        held = coins[(coins > 0) & (traders.leverage == at)].sum() * price
        assert held == pytest.approx(share * 8e7, rel=0.03)
    # the other side of what they hold more long than short is carried by arbitrage
    assert only(made, BasisArbitrage).holdings(PERP).sum() == pytest.approx(-coins.sum())
    assert made.house.audit().passed


def test_nobody_begins_with_more_than_his_leverage_is_allowed_for() -> None:
    rows = [{"up_to": 1e6, "leverage": 125, "maintenance": 0.004}, {"up_to": 5e6, "leverage": 5, "maintenance": 0.1}]
    last = {"leverage": 2, "maintenance": 0.25}
    margin = FULL["margin"] | {"brackets": [*rows, last]}
    traders = {"retail_leverage": {"accounts": 300, "longs": 8e7, "shorts": 4e7, "history": HISTORY}}
    made, _ = market(traders | {"basis_arbitrage": {}}, {PERP: FULL | {"margin": margin}}, 1.0, step="5s")
    large = only(made, RetailLeverage)
    notional = np.abs(large.holdings(PERP)) * 73_100
    assert notional[large.leverage == 5].max() > 2e6  # that there is something to bound
    assert notional[large.leverage > 5].max() < 1.2e6 and notional[large.leverage > 2].max() < 6e6
    made.run_for("1min")
    assert len(made.result().liquidations) == 0


def test_what_is_cut_off_goes_to_the_others() -> None:
    sizes = np.array([1.0, 2.0, 3.0, 14.0])
    assert shared(40.0, sizes, np.inf).tolist() == [2.0, 4.0, 6.0, 28.0]
    assert shared(40.0, sizes, 17.0) == pytest.approx([23 / 6, 23 / 3, 23 / 2, 17.0])
    assert shared(40.0, sizes, 11.0) == pytest.approx([7.0, 11.0, 11.0, 11.0])
    assert shared(40.0, sizes, 5.0).tolist() == [5.0] * 4


def test_positions_of_the_days_before_are_those_that_nothing_since_would_have_liquidated() -> None:
    made, _ = retail(history=HISTORY, accounts=20_000)
    traders = only(made, RetailLeverage)
    prices, coins = made.house.liquidation_prices(PERP)[traders.rows], traders.holdings(PERP)
    longs = (coins > 0) & traders.isolated
    assert longs.sum() > 1_000
    assert prices[longs].max() < 73_100
    entry = made.exchange.accounts.basis[traders.rows, 1] / np.where(coins == 0, 1, coins) / 1e6
    before = longs & (traders.leverage == 20)
    # 20x bought above 75 700 was gone at 72 000, and so was all that the price of the start would have ended
    assert entry[before].min() >= 72_000 and entry[before].max() < 77_000
    assert np.nanmedian(prices[longs & (traders.leverage >= 10)]) > 64_000
    made.run_for("1min")
    assert made.result().summary["liquidations"]["liquidated"] == 0


def test_a_fall_liquidates_those_whose_price_it_reaches_and_some_return_with_less_leverage() -> None:
    made, walls = retail(
        hours=30, look="1h", return_after="1h", return_share=1.0, entering="1h", stops=0.0, profits=0.0, top_ups=0.0
    )
    traders = only(made, RetailLeverage)
    prices, held = made.house.liquidation_prices(PERP)[traders.rows], traders.holdings(PERP)
    due = np.flatnonzero((held > 0) & (prices > 68_600))
    before = traders.leverage.copy()
    made.run_for("1min")
    fall_to(walls, 68_500.0)
    made.run_for("3min")
    assert len(due) > 200
    records = made.result().liquidations
    gone = records[records["what"] == "liquidated"].groupby("account")["quantity"].sum()
    assert gone.reindex(traders.rows[due]).to_numpy() == pytest.approx(held[due])
    assert traders.liquidated[due].any()  # those who have looked since know it
    made.run_for("12h")
    returned = due[traders.holdings(PERP, due) != 0]
    assert len(returned) > 50
    assert (traders.leverage[returned] <= np.maximum(1.0, before[returned] / 2)).all()
    assert made.house.entries["deposits"]["cash"] > 0
    assert made.result().audit.passed


def test_stops_and_profits_close_positions_at_their_distance() -> None:
    made, walls = retail(stops=1.0, profits=1.0, threshold_sigma=0.0, entering="9999d", panic_median=4.9)
    traders = only(made, RetailLeverage)
    made.run_for("1min")
    held = traders.holdings(PERP)
    longs, shorts = (np.flatnonzero((held * sign > 0) & (traders.leverage == 5)) for sign in (1, -1))
    fall_to(walls, 73_100 * 0.905)  # a stop of half the margin is 10 % away at 5x
    made.run_for("1min")
    assert (traders.holdings(PERP, longs) > 0).all()
    fall_to(walls, 73_100 * 0.895)
    made.run_for("1min")
    assert (traders.holdings(PERP, longs) == 0).all()
    assert volume(made, "stop_loss", PERP) > 0
    assert (traders.holdings(PERP, shorts) < 0).all()
    fall_to(walls, 73_100 * 0.79)  # a profit of one margin is 20 % away
    made.run_for("1min")
    assert (traders.holdings(PERP, shorts) == 0).all()
    assert volume(made, "take_profit", PERP) > 0
    assert made.result().audit.passed


def test_who_tops_up_survives_where_another_is_liquidated() -> None:
    alone, _ = retail(top_ups=0.0, spare=3.0, stops=0.0, isolated=1.0, look="1000d")
    helped, _ = retail(top_ups=1.0, spare=3.0, stops=0.0, isolated=1.0, look="1000d")
    gone = []
    for made in (alone, helped):
        walls = {p.config.instrument: p for p in made.populations if p.name.startswith("wall")}
        for price in np.linspace(73_100, 67_000, 60):
            fall_to(walls, float(price))
            made.run_for("20s")
        gone.append(made.result().summary["liquidations"]["liquidated"])
        assert made.result().audit.passed
    assert gone[1] < 0.8 * gone[0]


def test_panic_needs_a_fall_and_a_look() -> None:
    made, walls = retail(
        hours=2, stops=0.0, look="10min", panic_median=0.03, entering="9999d", isolated=0.0, spare=10.0
    )
    made.run_for("30min")
    assert volume(made, "panic", PERP) == 0
    fall_to(walls, 69_000.0)
    made.run_for("60min")
    assert volume(made, "panic", PERP) > 100


def test_a_fall_before_the_entry_frightens_nobody_but_a_further_one_does() -> None:
    made, walls = retail(
        hours=8, invested=0.1, stops=0.0, profits=0.0, look="10min", panic_median=0.03, entering="1h", spare=10.0
    )
    made.run_for("1min")
    fall_to(walls, 0.85 * 73_100.0)
    made.run_for("2h")
    few, entered = volume(made, "panic", PERP), volume(made, "trend", PERP)
    assert 0 < few < 0.1 * entered  # those who were in
    made.run_for("2h")
    assert volume(made, "panic", PERP) == few
    fall_to(walls, 0.80 * 73_100.0)
    made.run_for("1h")
    assert volume(made, "panic", PERP) > few + 0.1 * entered
    assert made.result().audit.passed


def test_after_a_day_that_fell_accounts_look_and_enter_more_often() -> None:
    def entries(price: float) -> int:
        made, walls = retail(
            hours=4, accounts=20_000, invested=0.1, trend=0.0, herding=0.0, stops=0.0, profits=0.0, top_ups=0.0,
            panic_median=4.9, entering="100h", holding="9999d", return_share=0.0,
        )  # fmt: skip
        traders = only(made, RetailLeverage)
        made.run_for("5min")
        fall_to(walls, price)
        made.run_for("2h")
        before = np.count_nonzero(traders.holdings(PERP))
        made.run_for("1h")  # this hour and the one before it are flat, the day is not
        return int(np.count_nonzero(traders.holdings(PERP)) - before)

    # 12 % in a day count as 12 / sqrt(24) in an hour: looks are 3.4 times as frequent
    assert 2.6 < entries(0.88 * 73_100.0) / entries(73_100.0) < 4.2


def test_short_sellers_enter_in_the_fall_and_cover_in_the_squeeze() -> None:
    made, walls = market({"short_sellers": {"accounts": 500, "look": "5min"}}, {PERP: PERPETUAL}, 8, step="5s")
    shorts = only(made, ShortSellers)
    made.run_for("1h")
    assert (shorts.holdings(PERP) == 0).all()
    fall_to(walls, 68_000.0)
    made.run_for("1h")
    held = -shorts.holdings(PERP).sum()
    assert held > 100
    assert (shorts.holdings(PERP) <= 0).all()
    for price in np.linspace(68_000, 76_000, 20):
        fall_to(walls, float(price))
        made.run_for("5min")
    covered, forced = volume(made, "short_cover", PERP), volume(made, "liquidation", PERP)
    assert covered > 0 and forced > 0
    assert -shorts.holdings(PERP).sum() < 0.6 * held
    assert made.result().audit.passed


def test_shares_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValidationError, match="same number of entries"):
        Leverage(at=(2, 3), accounts=(1.0,), open_interest=(0.5, 0.5))
    with pytest.raises(ValidationError, match="low must not be above high"):
        RetailLeverageConfig(history=({"low": 2.0, "high": 1.0},))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"traders\.retail_leverage\.instrument: btc-spot has no margin"):
        market({"retail_leverage": {"instrument": "btc-spot"}})
    inverse = FULL | {"kind": "inverse", "tick": 0.5, "lot": 100.0}
    with pytest.raises(ValueError, match=r"traders\.retail_leverage\.instrument: btc-perp is inverse"):
        market({"retail_leverage": {}}, {PERP: inverse})


def test_what_was_held_before_has_no_stop_or_profit_where_prices_have_been_since() -> None:
    made, _ = retail(history=HISTORY, accounts=20_000, stops=1.0, stop_median=0.3, profits=1.0, profit_median=0.3)
    traders = only(made, RetailLeverage)
    made.run_for("1min")
    flows = made.result().flows
    acted = flows[flows["reason"].isin(["stop_loss", "take_profit", "short_cover"])]["notional"].sum()
    held = np.abs(traders.holdings(PERP)).sum() * 73_100
    assert acted < 0.01 * held  # as if no day had been, nearly half of them were out at once


@pytest.mark.parametrize(
    ("lean", "share"), [(0.0, 0.5), (0.43, 0.666), (-1.0, 0.159)]
)  # share of a normal x + lean above 0
def test_who_leans_to_one_side_wants_it(lean: float, share: float) -> None:
    made, _ = retail(accounts=20_000, trend=0.0, herding=0.0, lean=lean)
    traders = only(made, RetailLeverage)
    assert (traders.signal(made.view(), np.arange(20_000)) > 0).mean() == pytest.approx(share, abs=0.02)
