"""Miners: who is on, what they are paid and pay, and what they sell."""

import numpy as np
import pytest
from pydantic import ValidationError

import abm
from abm.agents.miners import Miners, MinersConfig
from abm.exchange.messages import Reason
from abm.world.mining import hashprice, implied_hashrate
from analysis.compare import read_observations
from tests.unit.quoter import Quoter, market
from tests.unit.walls import only

COIN = "btc-spot"
DIFFICULTY = 141.67e12


def sold(of: abm.Market) -> float:
    """Coins that miners sold."""
    flows = of.result().flows
    return float(flows[(flows["role"] == "taker") & (flows["reason"] == Reason.MINING.name.lower())]["volume"].sum())


def one_firm(joules: float, power: float, end: str = "2026-02-05T01:00Z", **settings: object) -> abm.Market:
    """A market whose miners all have the same machines and price of power."""
    same = {"accounts": 10, "fleet": [[joules, 1.0]], "power_median": power, "power_sigma": 0.0, "every": "10min"}
    return market("miners", end, "10min", **(same | settings))


def test_the_fleet_is_that_of_the_table_and_power_is_lognormal() -> None:
    miners = only(market("miners", accounts=2000), Miners)
    fleet = dict(MinersConfig().fleet)
    for joules, share in fleet.items():
        assert miners.installed[miners.efficiency == joules].sum() / miners.installed.sum() == pytest.approx(share)
    assert np.median(miners.power) == pytest.approx(0.055, rel=0.03)
    assert np.log(miners.power).std() == pytest.approx(0.22, rel=0.06)
    assert miners.holdings().sum() == pytest.approx(1.8e6, rel=1e-6)
    days = miners.cash / miners.power_bill
    assert 60 <= days.min() < 65 and 175 < days.max() <= 180


@pytest.mark.parametrize(
    ("joules", "power", "on"),
    # At 73 100 the hashprice is 32.76: with a margin of -5 % power costs 34.40 USD a PH/s and day, 24 e c.
    [
        (29.5, 0.048, True),
        (29.5, 0.049, False),
        (21.5, 0.066, True),
        (21.5, 0.067, False),
        (18.0, 0.079, True),
        (18.0, 0.080, False),
        (16.0, 0.089, True),
        (16.0, 0.090, False),
        (13.5, 0.106, True),
        (13.5, 0.107, False),
        (9.5, 0.150, True),
        (9.5, 0.151, False),
    ],
)
def test_who_loses_more_than_the_band_is_off_at_the_start(joules: float, power: float, on: bool) -> None:
    fleet = [[joules, 0.5], [1.0, 0.5]]  # the others always pay, so that there is a network
    miners = only(market("miners", accounts=10, fleet=fleet, power_median=power, power_sigma=0.0), Miners)
    assert miners.on[miners.efficiency == joules].all() == on
    assert miners.on[miners.efficiency == 1.0].all()


def test_the_difficulty_says_how_much_hashrate_was_on_when_it_was_set() -> None:
    now = only(market("miners"), Miners)
    assert now.network.hashrate == pytest.approx(implied_hashrate(DIFFICULTY))
    assert now.installed[now.on].sum() == pytest.approx(now.network.hashrate)
    earlier = only(market("miners", difficulty_price=92_600), Miners)
    mined = earlier.installed[24 * earlier.efficiency * earlier.power <= 1.05 * hashprice(92_600, DIFFICULTY)].sum()
    assert mined == pytest.approx(implied_hashrate(DIFFICULTY), rel=1e-3)
    assert earlier.network.hashrate < now.network.hashrate


def test_the_retarget_of_february_follows_from_who_cannot_pay_for_power() -> None:
    """92 600 is the mean daily close of 8 to 21 January, when the blocks were found that set the difficulty."""
    observed = read_observations("february-2026.csv").loc["miner.difficulty.next"]
    changes = [
        only(market("miners", seed=seed, difficulty_price=92_600), Miners).network.expected_change
        for seed in range(1, 21)
    ]
    assert observed["low"] < np.mean(changes) < observed["high"]


def test_nobody_may_be_able_to_pay() -> None:
    with pytest.raises(ValueError, match="no firm can pay"):
        market("miners", power_median=0.5)


def test_450_coins_a_day_and_fees_come_by_hashrate_and_power_is_paid() -> None:
    busy = one_firm(18.0, 0.05, "2026-02-15T00:00Z")
    Quoter(busy)
    miners = only(busy, Miners)
    cash, coins = miners.cash.sum(), miners.holdings().sum()
    busy.run_for("10d")
    entries = busy.house.entries
    mined = entries["block reward"][COIN] * 1e-4
    assert mined == pytest.approx(miners.network.blocks * 3.125 * 1.01, rel=0.01)  # firms look now and then
    assert mined == pytest.approx(4500, abs=4 * np.sqrt(1440) * 3.2)
    paid = -entries["power"]["cash"] / 1e6
    assert paid == pytest.approx(10 * 24 * 18 * 0.05 * implied_hashrate(DIFFICULTY) * 1e3, rel=0.01)
    out = sold(busy)
    assert miners.holdings().sum() == pytest.approx(coins + mined - out, abs=1e-3)
    assert miners.cash.sum() == pytest.approx(cash - paid + out * 73_100 * (1 - 1e-4) * (1 - 1e-3), rel=1e-4)
    assert 0.6 * mined < out < mined
    assert out == pytest.approx((miners.sells * miners.installed).sum() / miners.installed.sum() * mined, rel=0.02)
    assert busy.result().audit.passed


def test_machines_go_off_after_three_days_of_loss_and_on_after_two_of_profit() -> None:
    # 24 x 20 x .06 = 28.8: the margin is -5 % at 61 202 and +5 % at 67 645
    falling = market(
        "miners", "2026-02-17T00:00Z", "1h", fleet=[[20.0, 0.4], [10.0, 0.6]], power_median=0.06, power_sigma=0.0
    )
    Quoter(falling, prices=[73_100, 60_000, 60_000, 66_000, 66_000, 70_000], hours=[0, 1, 120, 121, 168, 169])
    miners = only(falling, Miners)
    dear, full = miners.efficiency == 20.0, miners.network.hashrate
    falling.run_for("71h")
    assert miners.on.all()
    falling.run_for("9h")  # each firm looks at a time of its own
    assert 1 - miners.on[dear].mean() > 0.9 and miners.on[~dear].all()
    falling.run_for("88h")  # 66 000 is within the band
    assert not miners.on[dear].any()
    assert miners.network.hashrate == pytest.approx(0.6 * full)
    assert miners.network.expected_change < -0.2
    assert (miners.opex[dear] == 0).all()
    falling.run_for("48h")
    assert not miners.on[dear].any()
    falling.run_for("12h")
    assert miners.on[dear].mean() > 0.9


def test_a_firm_with_cash_sells_what_policy_says_and_one_without_what_power_asks_for() -> None:
    # margin of 10 %: power takes nine tenths of production, policy asks for a half
    terms = {"sell_share": [0.5, 0.5], "end": "2026-02-07T00:00Z"}
    power = 0.9 * 32.757 / 24 / 18
    rich, poor = one_firm(18, power, **terms), one_firm(18, power, cash_days=[60, 60], **terms)
    for firms in (rich, poor):
        Quoter(firms)
        firms.run_for("2d")
    mined = rich.house.entries["block reward"][COIN] * 1e-4
    assert sold(rich) == pytest.approx(0.5 * mined, rel=0.02)
    # its cash must stay at 60 days of power, whatever the fees and the luck with blocks
    lowest = only(poor, Miners)
    assert lowest.cash.sum() == pytest.approx(60 * lowest.power_bill.sum(), rel=2e-3)
    assert sold(poor) > 1.5 * sold(rich)


def test_a_reserve_is_sold_when_cash_is_short_and_at_most_two_per_cent_of_it_a_day() -> None:
    short = one_firm(18, 0.07, "2026-02-07T00:00Z", cash_days=[30, 30], reserve=20_000, sell_share=[1, 1])
    Quoter(short)
    miners = only(short, Miners)
    short.run_for("2d")
    mined = short.house.entries["block reward"][COIN] * 1e-4
    from_reserve = sold(short) - mined
    assert from_reserve == pytest.approx(20_000 * (1 - np.exp(-0.04)), rel=0.02)
    assert miners.holdings().sum() == pytest.approx(20_000 - from_reserve, abs=0.1)


def test_bills_that_cash_does_not_cover_are_paid_later() -> None:
    broke = one_firm(18, 0.07, "2026-02-07T00:00Z", cash_days=[0, 0], reserve=0, sell_share=[0, 0])
    miners = only(broke, Miners)
    broke.run_for("1d")  # nobody buys
    assert (miners.cash == 0).all()
    Quoter(broke)
    broke.run_for("1d")
    paid = -broke.house.entries["power"]["cash"] / 1e6
    assert paid == pytest.approx(2 * miners.power_bill.sum(), rel=0.03)
    assert broke.result().audit.passed


def test_shares_and_ranges_are_checked() -> None:
    with pytest.raises(ValidationError, match="cash_days must be two numbers"):
        MinersConfig(cash_days=(9, 3))
    with pytest.raises(ValidationError, match="fleet needs"):
        MinersConfig(fleet=((20.0, 0.0),))
