"""Funds with rules of risk: the rules against their closed forms, and what funds do by them."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

import abm
from abm.agents.multi_asset import (
    MultiAssetConfig,
    MultiAssetFunds,
    drawn,
    pod_scale,
    risk_parity,
    value_at_risk_leverage,
)
from abm.agents.portfolio import ewma_covariance
from abm.exchange.messages import Phase
from abm.random import stream
from abm.world.fundamental import YEAR
from tests.unit.walls import Wall, derivative, market, only, set_phase, volume

BTC, ETH, GOLD, SHARE = "btc-spot", "eth-spot", "gold-future", "share"
TWO = {ETH: {"tick": 0.01, "lot": 0.001, "max_price": 100_000, "reference_price": 2_150}}
WITH_FUTURE = {
    "gold-spot": {"tick": 0.01, "lot": 0.001, "max_price": 100_000, "reference_price": 4_900},
    GOLD: derivative("future", "gold-spot", 4_900),
}

MORNING = {
    SHARE: {
        "tick": 0.01,
        "lot": 1,
        "max_price": 1_000,
        "reference_price": 100,
        "calendar": {"timezone": "UTC", "opens": "03:00", "closes": "06:00", "opening_call": 300, "closing_call": 300},
    }
}


def funds(
    instruments: dict[str, Any] | None = None, others: dict[str, Any] | None = None, **settings: Any
) -> tuple[abm.Market, dict[str, Wall], MultiAssetFunds]:
    """Three equal funds, in a market of ten hours."""
    mine = {"kind": "multi_asset_funds", "accounts": 3, "capital": 30e6, "size_sigma": 0.0, **settings}
    made, walls = market({"funds": mine, **(others or {})}, instruments, hours=10.0, step="1min")
    return made, walls, only(made, MultiAssetFunds)


def worth(of: MultiAssetFunds, walls: dict[str, Wall]) -> Any:
    """Currency held in each instrument (funds, instruments)."""
    return np.stack([of.holdings(name) * walls[name].price for name in of.names], axis=1)


# ------------------------------------------------------------------ the rules


def test_the_covariance_forgets_exponentially() -> None:
    start, returns = np.array([[0.09, 0.01], [0.01, 0.04]]), np.array([0.002, -0.001])
    cov = ewma_covariance(start, returns, 3600.0, 0.94)
    hours = YEAR / 3600.0
    assert cov[0, 0] == pytest.approx(0.94 * 0.09 + 0.06 * 0.002**2 * hours)
    assert cov[0, 1] == cov[1, 0] == pytest.approx(0.94 * 0.01 - 0.06 * 0.002 * 0.001 * hours)
    for _ in range(500):
        cov = ewma_covariance(cov, returns, 3600.0, 0.94)
    assert cov == pytest.approx(np.outer(returns, returns) * hours)


def test_what_is_not_known_of_returns_is_expected_of_them() -> None:
    """Over many samples of normal returns, some of them missing, the covariance is that of all; a zero in their place would make it less."""
    true = np.array([[0.09, 0.03], [0.03, 0.04]])
    draws = stream(1, "test", "returns").multivariate_normal([0.0, 0.0], true * 3600.0 / YEAR, 20_000)
    cov, found = true.copy(), []
    for hour, returns in enumerate(draws):
        known = np.array([True, hour % 24 < 8])
        cov = ewma_covariance(cov, np.where(known, returns, 0.0), 3600.0, 0.99, known)
        found.append(cov)
    assert np.mean(found, axis=0) == pytest.approx(true, rel=0.05)
    assert np.linalg.eigvalsh(found).min() > 0.0
    unknown = np.zeros(2, np.bool_)
    assert ewma_covariance(true, np.zeros(2), 3600.0, 0.94, unknown) == pytest.approx(true)


def test_a_closed_market_is_not_a_calm_one() -> None:
    """What was as rough as at the start when it closed is taken to be so when it opens, and nothing is bought for a calm night."""
    made, walls, mine = funds(
        MORNING, style="volatility", target_volatility=0.2, volatility=0.4, weights={SHARE: 1.0}, band=0.0
    )
    walls[SHARE].size_of.update(buy=1e5, sell=1e5)
    made.run_for("181min")
    assert auctioned(made, "03:00") == 0.0
    assert mine.covariance[0, 0] == pytest.approx(0.16)


def test_leverage_by_value_at_risk_makes_the_quantile_the_limit() -> None:
    leverage = value_at_risk_leverage(0.02, 0.022, 2.33)
    assert leverage * 0.022 * 2.33 == pytest.approx(0.02)


def test_risk_parity_of_equal_correlations_is_inverse_volatility() -> None:
    """The closed forms of Maillard, Roncalli and Teiletche (2010): two assets, and equal correlations."""
    for volatility, rho in ((np.array([0.2, 0.8]), -0.5), (np.array([0.1, 0.4, 0.5, 1.0]), 0.3)):
        n = len(volatility)
        covariance = np.outer(volatility, volatility) * np.where(np.eye(n), 1.0, rho)
        assert risk_parity(covariance) == pytest.approx(1 / volatility / (1 / volatility).sum(), rel=1e-9)


def test_risk_parity_of_any_covariance_has_equal_contributions() -> None:
    rng = stream(3, "test", "covariance")
    for _ in range(20):
        factors = rng.standard_normal((6, 8))
        covariance = factors @ factors.T
        weights = risk_parity(covariance)
        parts = weights * (covariance @ weights)
        assert (weights > 0).all() and weights.sum() == pytest.approx(1.0)
        assert parts == pytest.approx(np.full(6, parts.mean()), rel=1e-8)


def test_pods_are_halved_and_closed() -> None:
    assert pod_scale(np.array([-0.1, 0.049, 0.05, 0.0749, 0.075, 1.0]), 0.05, 0.075).tolist() == [1, 1, 0.5, 0.5, 0, 0]


def test_each_fund_holds_as_many_assets_as_it_is_told_and_some_from_the_common_list() -> None:
    rng, common = stream(4, "test", "draw"), np.array([3, 1, 0, 2, *range(4, 12)])
    lots, share = rng.random((5000, 12)), rng.random(5000)
    for k, c in ((1, 0.0), (5, 0.0), (5, 0.5), (5, 1.0), (12, 0.3)):
        held = drawn(k, common, lots, share, c)
        assert (held.sum(axis=1) == k).all()
        overlap = (held.astype(float) @ held[0]).mean()  # with the first fund
        taken = np.floor(c * k + share)
        assert all(held[i, common[: int(taken[i])]].all() for i in range(100))
        assert taken.mean() == pytest.approx(c * k, abs=0.03)
        if c in (0.0, 1.0):
            assert overlap == pytest.approx(k if c else k * k / 12, abs=0.06)
    alone = drawn(5, common, lots, share, 0.0).mean(axis=0)
    assert alone == pytest.approx(np.full(12, 5 / 12), abs=0.03)  # each asset is held by as many


def test_what_a_fund_holds_does_not_depend_on_others() -> None:
    rng, common = stream(5, "test", "draw"), np.arange(8)
    lots, share = rng.random((6, 8)), rng.random(6)
    before = drawn(3, common, lots, share, 0.4)
    lots[1:], share[1:] = rng.random((5, 8)), rng.random(5)
    after = drawn(3, common, lots, share, 0.4)
    assert (before[0] == after[0]).all() and (before[1:] != after[1:]).any()


# ------------------------------------------------------------------ the funds

FOUR = {f"x{k}": {"tick": 0.01, "lot": 0.001, "max_price": 100_000, "reference_price": 100} for k in range(1, 5)}
EVEN = dict.fromkeys(FOUR, 1.0)


def test_funds_hold_what_they_draw_in_proportion_to_the_weights() -> None:
    uneven = {"x1": 1.0, "x2": 3.0, "x3": 1.0, "x4": 1.0, BTC: 0.0}
    draw = {"assets": 2, "crowding": 0.5, "common": ["x2"]}
    _, walls, mine = funds(FOUR, style="leverage", leverage=[3, 3], accounts=40, weights=uneven, draw=draw)
    has = worth(mine, walls) / (3.0 * mine.capital[:, None])
    assert has == pytest.approx(mine.weights, abs=1e-4)
    assert ((has > 0).sum(axis=1) == 2).all() and not has[:, -1].any()
    assert has[:, 1] == pytest.approx(
        np.full(40, 0.75), abs=1e-4
    )  # one of two is from the common list, and weighs three times the other
    assert (has[:, [0, 2, 3]].sum(axis=0) > 0).all()


def test_more_funds_change_no_fund() -> None:
    settings: dict[str, Any] = {"style": "leverage", "weights": EVEN, "draw": {"assets": 2, "crowding": 0.5}}
    few, many = (funds(FOUR, accounts=n, **settings)[2].weights for n in (5, 30))
    assert (few == many[:5]).all()


@pytest.mark.parametrize("style", ["leverage", "pods"])
def test_who_does_not_hold_what_fell_sells_nothing(style: str) -> None:
    """x1 falls by a tenth: funds that hold it sell the other asset that they hold, and the others keep what they have."""
    settings = {"style": style, "leverage": [3, 3], "band": 0.0, "halve_at": 0.1, "close_at": 0.9}
    made, walls, mine = funds(FOUR, accounts=12, weights=EVEN, draw={"assets": 2}, **settings)
    before = mine._held()
    walls["x1"].price *= 0.9
    made.run_for("3h")
    hit, change = mine.weights[:, 0] > 0, mine._held() - before
    assert 0 < hit.sum() < 12
    others = before[:, 1:] > 0
    assert (change[hit, 1:][others[hit]] < 0).all()
    assert np.abs(change[~hit] * 100).max() < 1e-3 * mine.capital[0]


@pytest.mark.parametrize("leverage", [1.5, 3.0])
@pytest.mark.parametrize("move", [-0.1, 0.05])
def test_a_leverage_target_trades_l_times_l_less_one_times_the_return(leverage: float, move: float) -> None:
    made, walls, mine = funds(style="leverage", leverage=[leverage, leverage], band=0.0)
    equity = mine.equity(mine.mids)
    assert equity == pytest.approx(np.full(3, 10e6), rel=1e-4)
    assert worth(mine, walls)[:, 0] == pytest.approx(leverage * equity, rel=1e-4)
    walls[BTC].price *= 1 + move
    before = worth(mine, walls)[:, 0]
    made.run_for("130min")
    traded = worth(mine, walls)[:, 0] - before
    assert traded == pytest.approx(leverage * (leverage - 1) * move * equity, rel=0.01)
    made.run_for("1h")  # at the next aim what was sold pays loans back; what was bought was lent
    assert mine.debt == pytest.approx((leverage - 1) * equity * (1 + leverage * move), rel=0.01)
    assert mine.cash.max() < 0.001 * equity.max()
    assert made.result().audit.passed
    assert (volume(made, "deleveraging") > 0) == (move < 0)


def test_a_target_of_volatility_sells_when_it_is_rough_and_buys_when_it_is_calm() -> None:
    made, walls, mine = funds(style="volatility", target_volatility=0.3, volatility=0.6, band=0.0)
    assert worth(mine, walls)[:, 0] == pytest.approx(np.full(3, 5e6), rel=1e-4)
    for hour in range(3):
        walls[BTC].price *= 1.03 if hour % 2 == 0 else 1 / 1.03
        made.run_for("1h")
    made.run_for("1h")
    sigma = math.sqrt(mine.covariance[0, 0])
    assert sigma > 0.7
    equity = mine.equity(np.array([walls[BTC].price]))
    assert worth(mine, walls)[:, 0] == pytest.approx(equity * 0.3 / sigma, rel=0.08)
    rough = mine.holdings().sum()
    made.run_for("5h")
    assert mine.holdings().sum() > rough


def test_a_value_at_risk_target_holds_what_its_formula_says() -> None:
    _, walls, mine = funds(style="value_at_risk", limit=0.02, z=2.33, volatility=0.42)
    a_day = 0.42 / math.sqrt(365)
    assert worth(mine, walls)[:, 0] == pytest.approx(np.full(3, 10e6 * 0.02 / (2.33 * a_day)), rel=1e-4)


def test_risk_parity_sells_the_other_asset_too_when_one_gets_rough() -> None:
    two = {"weights": {BTC: 1.0, ETH: 1.0}, "volatilities": {ETH: 0.84}, "correlation": 0.5}
    made, walls, mine = funds(TWO, style="risk_parity", target_volatility=0.4, highest=1.0, band=0.0, **two)
    held = worth(mine, walls)
    assert held[:, 0] / held[:, 1] == pytest.approx(np.full(3, 2.0), rel=1e-3)
    for hour in range(5):
        for wall in walls.values():
            wall.price *= 1.04 if hour % 2 else 1 / 1.04
        made.run_for("1h")
    assert (worth(mine, walls) < 0.8 * held).all()
    assert made.result().audit.passed


def test_pods_halve_close_and_do_not_come_back() -> None:
    made, walls, mine = funds(style="pods", leverage=[6, 8], every="10min", slice="5min")
    full = worth(mine, walls)[:, 0]
    assert full == pytest.approx(mine.leverage * 10e6, rel=1e-4)
    walls[BTC].price *= 1 - 0.05 / 6 - 1e-4  # a loss of 5 % for the smallest leverage, of less than 7.5 % for all
    made.run_for("40min")
    assert worth(mine, walls)[:, 0] == pytest.approx(full / 2, rel=0.02)
    walls[BTC].price *= 0.985
    made.run_for("40min")
    assert worth(mine, walls)[:, 0].max() < 10.0
    walls[BTC].price *= 1.2
    made.run_for("40min")
    assert worth(mine, walls)[:, 0].max() < 10.0
    assert volume(made, "stop_loss") == pytest.approx(full.sum() / 73_100, rel=0.01)


@pytest.mark.parametrize(("before", "after", "sold"), [(0.08, 0.09, 1 / 9), (0.15, 0.18, 1 / 6)])
def test_a_constrained_holder_sells_what_the_margin_no_longer_carries(before: float, after: float, sold: float) -> None:
    """1 - before / after: a ninth for gold, a sixth for silver (MECHANICS 9)."""
    others = {"arbitrage": {"kind": "basis_arbitrage", "instrument": GOLD, "spot": "gold-spot", "accounts": 4}}
    future = {"style": "leverage", "leverage": [4, 4], "instrument": GOLD, "constrained": 0.5, "accounts": 40}
    made, _, mine = funds(WITH_FUTURE, others, **future)
    start = mine.holdings(GOLD)
    assert start * 4_900 == pytest.approx(np.full(40, 4 * 30e6 / 40), rel=1e-3)
    assert mine.debt.max() == 0.0
    made.run_for("30min")
    mine.margin_notice(GOLD, before, after)
    mine.margin_notice(BTC, 0.1, 0.5)
    made.run_for("3h")
    part = 1 - mine.holdings(GOLD) / start
    assert 0 < mine.constrained.sum() < 40
    assert part[mine.constrained] == pytest.approx(np.full(mine.constrained.sum(), sold), abs=1e-3)
    assert part[~mine.constrained].max() == 0.0
    assert volume(made, "margin_notice", GOLD) == pytest.approx((start - mine.holdings(GOLD)).sum(), rel=1e-6)
    assert made.result().audit.passed


def test_what_is_closed_is_left_alone_until_it_opens() -> None:
    made, walls, mine = funds(TWO, style="leverage", leverage=[3, 3], weights={BTC: 1.0, ETH: 1.0})
    set_phase(made, ETH, Phase.CLOSED)
    for wall in walls.values():
        wall.price *= 0.9
    eth = mine.holdings(ETH)
    before = mine.holdings(BTC)
    made.run_for("130min")
    assert (mine.holdings(BTC) < before).all()
    assert (mine.holdings(ETH) == eth).all()
    set_phase(made, ETH, Phase.CONTINUOUS)
    made.run_for("2h")
    assert (mine.holdings(ETH) < eth).all()


def auctioned(made: abm.Market, at: str) -> float:
    """Shares that funds traded in an auction of 5 February, sold where negative."""
    trades = made.result().trades
    then = trades[(trades["aggressor"] == "auction") & (trades["time"] == pd.Timestamp(f"2026-02-05T{at}Z"))]
    return float(
        then.loc[then["taker"] == "funds", "quantity"].sum() - then.loc[then["maker"] == "funds", "quantity"].sum()
    )


@pytest.mark.parametrize("move", [-0.1, 0.1])
def test_what_is_decided_while_closed_meets_in_the_opening_auction(move: float) -> None:
    """2 x 2 x .05 of the equity, half of it in the shares; of a purchase, what is lent pays for nine tenths of it at its limit."""
    made, walls, mine = funds(MORNING, style="leverage", leverage=[2, 2], weights={BTC: 1.0, SHARE: 1.0}, band=0.0)
    walls[SHARE].size_of.update(buy=1e5, sell=1e5)
    held = mine.holdings(SHARE).sum()
    walls[BTC].price *= 1 + move
    made.run_for("2h")
    assert mine.holdings(SHARE).sum() == held
    made.run_for("61min")
    traded = auctioned(made, "03:00")
    assert traded * 100 == pytest.approx(30e6 * move, rel=0.1 if move > 0 else 1e-3)
    made.run_for("1h")
    assert (mine.holdings(SHARE).sum() - held) * 100 == pytest.approx(30e6 * move, rel=0.01)
    assert made.result().audit.passed


def test_what_a_day_has_left_goes_into_the_closing_auction() -> None:
    made, walls, mine = funds(MORNING, style="leverage", leverage=[2, 2], weights={BTC: 1.0, SHARE: 1.0}, band=0.0)
    made.run_for("290min")
    held = mine.holdings(SHARE).sum()
    walls[BTC].price *= 0.9
    made.run_for("65min")  # it aims at 05:00
    assert (mine.holdings(SHARE).sum() - held) * 100 == pytest.approx(-3e6 * 11 / 12, rel=0.02)
    made.run_for("6min")
    assert auctioned(made, "06:00") * 100 == pytest.approx(-3e6 / 12, rel=0.02)
    assert (mine.holdings(SHARE).sum() - held) * 100 == pytest.approx(-3e6, rel=0.01)


def test_no_order_goes_into_an_auction_without_protection() -> None:
    """Others open a fifth below the close: what asks for nine tenths of it does not trade there."""
    made, walls, mine = funds(MORNING, style="leverage", leverage=[2, 2], weights={BTC: 1.0, SHARE: 1.0}, band=0.0)
    held = mine.holdings(SHARE).sum()
    walls[BTC].price *= 0.9
    walls[SHARE].price *= 0.8
    made.run_for("181min")
    assert auctioned(made, "03:00") == 0.0
    assert mine.holdings(SHARE).sum() <= held


def test_short_weights_are_short_where_there_is_margin_and_nothing_where_there_is_not() -> None:
    others = {"arbitrage": {"kind": "basis_arbitrage", "instrument": GOLD, "spot": "gold-spot"}}
    with pytest.raises(ValueError, match="nobody takes the other side"):
        funds(WITH_FUTURE, others, style="pods", weights={GOLD: -1.0})
    _, _, mine = funds(TWO, style="pods", weights={BTC: 1.0, ETH: -1.0})
    assert mine.holdings(ETH).max() == 0.0
    assert mine.holdings(BTC).min() > 0.0


def test_small_moves_are_within_the_band() -> None:
    made, walls, mine = funds(style="leverage", leverage=[2, 2], band=0.05)
    walls[BTC].price *= 0.98
    made.run_for("3h")
    assert volume(made, "deleveraging") == 0.0
    assert mine.size == 3


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"leverage": (3.0, 2.0)}, "leverage must be two numbers"),
        ({"halve_at": 0.2}, "close_at must not be less"),
        ({"slice": 7200.0}, "slice must not be longer than every"),
        ({"weights": {"btc-spot": 0.0}}, "must not all be 0"),
        ({"weights": {"btc-spot": -1.0}, "style": "risk_parity"}, "risk_parity holds nothing short"),
        ({"weights": EVEN, "draw": {"assets": 2}}, "draw: style volatility holds the same for all funds"),
        ({"weights": EVEN | {"x1": 0.0}, "draw": {"assets": 4}, "style": "pods"}, "draw.assets: 4 are more than the 3"),
        ({"draw": {"assets": 1}, "style": "pods"}, "draw.assets: 1 are more than the 0 in weights"),
        (
            {"weights": EVEN, "draw": {"assets": 2, "common": ["x9"]}, "style": "pods"},
            "draw.common: x9 must stand once",
        ),
        ({"weights": EVEN, "draw": {"assets": 2, "common": ["x1", "x1"]}, "style": "pods"}, "x1 must stand once"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        MultiAssetConfig(**wrong)
