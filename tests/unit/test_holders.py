"""Holders: cohorts, the rates at which their coins move, and demand where coins were bought."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

import abm
from abm.agents.holders import (
    Holders,
    LongTermHolders,
    LongTermHoldersConfig,
    ShortTermHolders,
    ShortTermHoldersConfig,
    bought_below,
)
from abm.exchange.messages import Reason, Side
from analysis.compare import read_observations
from tests.unit.quoter import Quoter, market
from tests.unit.walls import only

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "bars"
COIN = "btc-spot"
LONG, SHORT = "long_term_holders", "short_term_holders"


def taken(of: abm.Market, reason: Reason) -> float:
    """Coins sold at once for a reason."""
    flows = of.result().flows
    return float(flows[(flows["role"] == "taker") & (flows["reason"] == reason.name.lower())]["volume"].sum())


def test_a_cohort_has_the_coins_and_the_cost_of_the_table() -> None:
    for kind, cls, config in (
        (LONG, LongTermHolders, LongTermHoldersConfig()),
        (SHORT, ShortTermHolders, ShortTermHoldersConfig()),
    ):
        for accounts in (11, 400):
            coins, cost = only(market(kind, accounts=accounts), cls).cohorts()
            paid, weight = np.array(config.cost_basis).T
            assert coins == pytest.approx(config.coins * weight / weight.sum(), rel=1e-6)
            assert cost == pytest.approx(paid)
    assert (coins * cost).sum() / coins.sum() == pytest.approx(94_000, rel=1e-3)


@pytest.mark.parametrize(
    ("price", "cost", "day", "expected"),
    [
        (73_100, 73_100, 0.0, 0.0012),
        (73_100, 96_000, -0.05, 0.0012),
        (60_000, 20_000, 0.02, 0.0012 * (1 + 1.5 * np.log(3))),
        (60_000, 96_000, -0.15, 0.0012 * 3),
        (60_000, 30_000, -0.10, 0.0012 * (1 + 1.5 * np.log(2) + 1)),
    ],
)
def test_old_coins_move_more_with_the_gain_and_in_a_fall(
    price: float, cost: float, day: float, expected: float
) -> None:
    calm, panic = only(market(LONG), LongTermHolders).hazard(np.log(np.array([price / cost])), day)
    assert calm[0] == pytest.approx(expected)
    assert panic[0] == 0.0


@pytest.mark.parametrize(
    ("loss", "day", "calm", "panic"),
    [
        (0.10, 0.0, 0.006, 0.0),
        (0.10, -0.04, 0.006, 0.0),
        (0.10, -0.041, 0.006, 0.015),
        (0.14, -0.10, 0.006, 0.03 / (1 + np.exp(-1))),
        (0.60, -0.10, 0.006, 0.03),
        (-0.60, -0.10, 0.006, 0.0),
    ],
)
def test_new_coins_panic_when_they_lose_in_a_fall(loss: float, day: float, calm: float, panic: float) -> None:
    hazard = only(market(SHORT), ShortTermHolders).hazard(np.array([-loss]), day)
    assert [float(part[0]) for part in hazard] == pytest.approx([calm, panic], abs=1e-6)


def test_falls_that_make_holders_panic_differ_between_them() -> None:
    """At the median half panic, and one standard deviation of the logarithm above it five sixths; who has gone does not go again."""
    holders = only(market(SHORT, panic_fall=0.08, panic_spread=0.4, weak=0.5, coins=1e6), ShortTermHolders)
    alone = only(market(SHORT, panic_fall=0.08, weak=0.5, coins=1e6), ShortTermHolders)
    gain = np.full(len(holders.cohorts()[0]), -1.0)
    whole = alone.hazard(gain, -0.2)[1]
    parts = [holders.hazard(gain, -0.08 * np.exp(0.4 * z))[1] / whole for z in (-1.0, 0.0, 1.0)]
    assert np.array(parts) == pytest.approx(np.repeat([[0.158655], [0.5], [0.841345]], len(gain), axis=1), rel=1e-5)
    assert not holders.hazard(gain, 0.0)[1].any() and not holders.hazard(gain, 0.05)[1].any()
    holders.panicked += 0.51 * 0.5 * holders.cohorts()[0]
    assert not holders.hazard(gain, -0.08)[1].any(), "all whose fall this was have gone"
    assert (holders.hazard(gain, -0.12)[1] > 0).all()


@pytest.mark.parametrize(("window", "panics"), [("1d", False), ("3d", True)])
def test_a_slow_fall_makes_those_panic_who_look_back_further(window: str, panics: bool) -> None:
    """4 % a day for three days: nobody's fall of a day is 8 %, that of three days is."""
    falling = market(SHORT, "2026-02-08T00:00Z", "10min", panic_fall=0.08, panic_window=window, panic_effect=100)
    Quoter(falling, prices=(73_100, 64_700), hours=(0.0, 72.0))
    falling.run_for("68h")
    assert (taken(falling, Reason.PANIC) > 0) == panics


def test_coins_move_at_the_hazard_and_a_part_of_them_is_sold_here() -> None:
    steady = market(SHORT, "2026-02-15T00:00Z", "10min", lump=0.5)
    Quoter(steady)
    holders = only(steady, ShortTermHolders)
    start = holders.holdings().sum()
    steady.run_for("10d")
    sold = start - holders.holdings().sum()
    assert holders.moved == pytest.approx(10 * 0.006 * 5e6, rel=0.01)
    assert sold == pytest.approx(0.05 * holders.moved, rel=0.03)
    assert taken(steady, Reason.DISTRIBUTION) == pytest.approx(sold, abs=1e-3)
    assert taken(steady, Reason.PANIC) == 0.0
    paid, weight = np.array(ShortTermHoldersConfig().cost_basis).T
    loss = holders.moved * (weight * (paid - 73_100)).sum() / weight.sum()
    assert holders.realised_loss == pytest.approx(loss, rel=0.01)
    assert steady.result().audit.passed


def test_a_fall_brings_panic_and_more_distribution() -> None:
    def day(kind: str, cls: type[Holders], low: float) -> Holders:
        falling = market(kind, "2026-02-06T00:00Z", "5min", lump=0.5, **({"rebuy": 0} if kind == LONG else {}))
        Quoter(falling, prices=[73_100, low], hours=[0, 1])
        holders = only(falling, cls)
        falling.run_for("1d")
        return holders

    calm, fallen = (day(LONG, LongTermHolders, low) for low in (73_100, 60_000))
    assert 1.3 * calm.moved < fallen.moved < 3 * calm.moved
    panicked = day(SHORT, ShortTermHolders, 60_000)
    assert panicked.moved > 5 * 0.006 * 5e6
    panic, rest = (taken(panicked.model, reason) for reason in (Reason.PANIC, Reason.DISTRIBUTION))
    assert 4 < panic / rest < 5.2


def test_nobody_sells_more_than_he_has() -> None:
    small = market(SHORT, "2026-02-10T00:00Z", "10min", coins=1000, hazard=0.9, market_share=1.0, lump=0.05)
    Quoter(small)
    small.run_for("5d")
    holders = only(small, ShortTermHolders)
    assert (holders.holdings() >= 0).all()
    assert holders.holdings().sum() == pytest.approx(1000 * np.exp(-0.9 * 5), rel=0.5)
    assert small.result().audit.passed


def test_bids_rest_in_the_zones_and_say_why() -> None:
    zones = abm.load("first-hour").traders[LONG].zones  # type: ignore[attr-defined]
    resting = market(LONG, step="1s")
    holders = only(resting, LongTermHolders)
    resting.run_for(1)
    orders = np.concatenate([resting.exchange.orders_of(int(row)) for row in holders.rows])
    lots = orders["quantity"] + orders["reserve"]
    assert zones
    for zone in zones:
        inside = (orders["price"] >= zone.low / 0.01 - 1) & (orders["price"] <= zone.high / 0.01)
        assert lots[inside].sum() * 1e-4 == pytest.approx(zone.coins, rel=1e-3)
    assert (orders["side"] == Side.BUY).all()
    assert (orders["reserve"] > 0).all()
    assert set(orders["reason"].tolist()) == {Reason.ACCUMULATION}


def test_without_zones_demand_is_as_dense_as_costs() -> None:
    holders = only(market(LONG, accounts=20_000, zones=[]), LongTermHolders)
    config, bids, wanted = holders.config, holders._bids[0], holders._wanted[0]
    paid, weight = np.array(config.cost_basis).T
    edges = np.linspace(57_000, 72_000, 16)
    resting, _ = np.histogram(bids, edges, weights=wanted)
    middle = (edges[1:] + edges[:-1]) / 2
    near = bought_below(middle * 1.03, paid, weight) - bought_below(middle / 1.03, paid, weight)
    density = near / (middle * (1.03 - 1 / 1.03)) * 1000  # costs within 3 %, as a part of all coins for each 1000 USD
    part = resting / (config.rebuy * config.coins)
    assert np.corrcoef(part, density)[0, 1] > 0.98
    assert part.sum() == pytest.approx(density.sum(), rel=0.05)
    # Mechanics 4: 20 000 to 40 000 coins over 66 to 71 thousand
    assert 20_000 < wanted[(bids >= 66_000) & (bids <= 71_000)].sum() < 40_000


def test_costs_are_spread_to_halfway_between_cohorts() -> None:
    cost, weight = np.array([10.0, 20.0, 40.0]), np.array([1.0, 1.0, 2.0])
    below = bought_below(np.array([0.0, 5.0, 10.0, 15.0, 22.5, 30.0, 50.0, 99.0]), cost, weight)
    assert below == pytest.approx([0, 0, 0.125, 0.25, 0.375, 0.5, 1, 1])
    assert bought_below(np.array([9.9, 10.1]), cost[:1], weight[:1]) == pytest.approx([0, 1])


def test_what_holders_buy_changes_what_their_coins_cost() -> None:
    buying = market(LONG, "2026-02-06T00:00Z", "1h", hazard=0, accounts=11, coins=1e5, display=1.0)
    Quoter(buying, prices=[73_100, 60_000], hours=[0, 12])
    holders = only(buying, LongTermHolders)
    coins, cost = holders.cohorts()
    buying.run_for("1d")
    after, paid = holders.cohorts()
    bought = after - coins
    assert bought.sum() > 15_000
    spent = after * paid - coins * cost
    assert ((spent[bought > 0] / bought[bought > 0] > 59_500) & (spent[bought > 0] / bought[bought > 0] < 71_000)).all()
    assert paid[0] > 6000 and paid[-1] < 116_000


@pytest.mark.skipif(not DATA.is_dir(), reason="daily closes of January are not here (../shared/data)")
def test_the_coins_that_moved_in_the_thirty_days_to_6_february_come_out_of_the_hazards() -> None:
    observed = read_observations("february-2026.csv").loc["lth.distribution.30d"]
    closes = pd.read_csv(DATA / "daily_closes_2022_2026-01.csv", index_col=0)["BTC_USD"]
    february = [76_968, 78_739, 75_770, 73_166, 62_910]  # closes of 1 to 5 February, public daily candles
    prices = [*closes.loc["2026-01-06":"2026-01-31"], *february]
    clock = {"start": "2026-01-07T00:00Z", "end": "2026-02-06T00:00Z", "step": "1h"}
    plain = abm.load("first-hour")
    traders = dict.fromkeys(plain.traders) | {LONG: {"zones": [], "rebuy": 0}}
    spot = {"reference_price": prices[0], "rules": []}
    changes = {"clock": clock, "traders": traders, f"instruments.{COIN}": spot, "recording.interval": "1d"}
    month = abm.Market(abm.load("first-hour", **changes))
    Quoter(month, prices=prices, hours=[24.0 * day for day in range(31)])
    month.run_for("30d")
    assert observed["low"] < only(month, LongTermHolders).moved < observed["high"]


def test_cohorts_are_checked() -> None:
    with pytest.raises(ValidationError, match="cost_basis needs rising prices"):
        LongTermHoldersConfig(cost_basis=((20e3, 1), (10e3, 1)))
    with pytest.raises(ValidationError, match="accounts: 5 for 11 prices"):
        LongTermHoldersConfig(accounts=5)


def test_panic_has_a_stock_and_ends_with_it() -> None:
    holders = only(market(SHORT, weak=0.02, coins=1e6), ShortTermHolders)
    gain, day = np.full(len(holders.cohorts()[0]), -1.0), -0.2
    first = holders.hazard(gain, day)[1]
    holders.panicked += 0.01 * 1e6 * holders.cohorts()[0] / 1e6
    assert holders.hazard(gain, day)[1] == pytest.approx(first / 2)
    holders.panicked += 0.02 * 1e6
    assert not holders.hazard(gain, day)[1].any()
