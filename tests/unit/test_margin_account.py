"""Margin accounts of funds: half of a purchase is lent, and below a quarter shares are sold."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import abm
from abm.agents.margin_account import MarginAccount, called, carried
from abm.agents.multi_asset import MultiAssetFunds
from abm.exchange.messages import Phase
from tests.unit.walls import Wall, market, only, set_phase, volume

BTC, SHARE = "btc-spot", "share"
INSTRUMENTS = {SHARE: {"tick": 0.01, "lot": 1, "max_price": 1_000, "reference_price": 100}}


def funds(**settings: Any) -> tuple[abm.Market, Wall, MultiAssetFunds]:
    """Three equal funds with shares on Regulation T, in a market of ten hours; the wall of the shares."""
    mine = {
        "kind": "multi_asset_funds",
        "accounts": 3,
        "capital": 30e6,
        "size_sigma": 0.0,
        "style": "leverage",
        "leverage": [1.9, 1.9],
        "weights": {SHARE: 1.0},
        "band": 0.0,
        "broker": {"shares": [SHARE]},
        **settings,
    }
    made, walls = market({"funds": mine}, INSTRUMENTS, hours=10.0, step="1min")
    walls[SHARE].size_of.update(buy=1e6, sell=1e6)
    return made, walls[SHARE], only(made, MultiAssetFunds)


def shares(of: MultiAssetFunds, wall: Wall) -> Any:
    """Currency that each fund's shares are worth."""
    return of.holdings(SHARE) * wall.price


def test_what_is_called_brings_the_account_back_to_maintenance() -> None:
    worth, debt = np.array([100.0, 100.0, 100.0, 100.0, 0.0]), np.array([50.0, 75.0, 80.0, 110.0, 0.0])
    part = called(worth, debt, 0.25)
    assert part[[0, 1, 3, 4]].tolist() == [0.0, 0.0, 1.0, 0.0]
    assert part[2] == pytest.approx(0.2)  # five are missing, and four times as much is sold
    left, owed = (x[2] - part[2] * worth[2] for x in (worth, debt))
    assert (left - owed) / left == pytest.approx(0.25)


def test_exposures_shrink_in_proportion_to_what_equity_carries_but_what_is_held_may_stay() -> None:
    wanted, held = np.array([[200.0, -100.0]]), np.array([[160.0, -10.0]])
    assert carried(wanted, np.zeros(1), np.array([50.0]), np.array([100.0])).tolist() == wanted.tolist()
    assert carried(wanted, np.zeros(1), np.array([200.0]), np.array([100.0])).tolist() == [[100.0, -50.0]]
    assert carried(wanted, held, np.array([200.0]), np.array([100.0])).tolist() == [[160.0, -50.0]]
    assert carried(-wanted, held, np.array([200.0]), np.array([100.0])).tolist() == [[-100.0, 50.0]]


@pytest.mark.parametrize(("leverage", "holds"), [(1.9, 1.9), (4.0, 2.0)])
def test_at_most_half_of_shares_is_lent(leverage: float, holds: float) -> None:
    made, wall, mine = funds(leverage=[leverage, leverage])
    assert shares(mine, wall) == pytest.approx(np.full(3, holds * 10e6), rel=1e-4)
    assert mine.debt == pytest.approx(np.full(3, (holds - 1.0) * 10e6), rel=1e-4)
    wall.price *= 1.1  # half of what it gains may be spent on as much again
    made.run_for("3h")
    equity = 10e6 * (1 + 0.1 * holds)
    assert shares(mine, wall) == pytest.approx(np.full(3, holds * equity), rel=0.01)
    assert made.result().audit.passed


def test_coins_have_no_loan_value() -> None:
    """Twice the equity, half of it in coins: e k + e k - e k / 2 = e, so that k is two thirds."""
    _, wall, mine = funds(leverage=[2, 2], weights={SHARE: 0.5, BTC: 0.5})
    assert shares(mine, wall) == pytest.approx(np.full(3, 10e6 * 2 / 3), rel=1e-4)
    assert mine.holdings(BTC) * 73_100 == pytest.approx(np.full(3, 10e6 * 2 / 3), rel=1e-4)


def test_who_is_below_the_initial_margin_may_hold_but_not_buy() -> None:
    """After a fall of a fifth a fund at 4 with twice its equity wants 4 x .6 = 2.4 and has 1.6: it neither buys nor sells."""
    made, wall, mine = funds(leverage=[4, 4])
    held = mine.holdings(SHARE)
    wall.price *= 0.8
    made.run_for("3h")
    assert (mine.holdings(SHARE) == held).all()
    assert mine.debt == pytest.approx(np.full(3, 10e6), rel=1e-4)


def test_a_fall_of_shares_gives_a_call_that_is_met_by_selling() -> None:
    """At 1.9 a fall of 40 % leaves .24 of 1.14, .045 less than a quarter: four times as much is sold, long before the fund aims again."""
    made, wall, mine = funds(every="1d", slice="5min", slippage=0.01)
    wall.price *= 0.64
    made.run_for("1h")
    assert volume(made, "margin_call") == 0.0  # 1.9 x .64 - .9 is more than a quarter of 1.9 x .64
    wall.price *= 0.6 / 0.64
    made.run_for("6min")
    sold = volume(made, "margin_call", SHARE) * wall.price
    assert sold == pytest.approx(3 * 0.18 * 10e6, rel=0.01)
    made.run_for("15min")
    worth = shares(mine, wall)
    assert (worth - mine.debt) / worth == pytest.approx(np.full(3, 0.25), abs=0.001)
    assert mine.debt == pytest.approx(np.full(3, 0.72 * 10e6), rel=0.01)  # what was sold is paid back
    assert made.result().audit.passed


def test_a_call_waits_while_shares_are_closed() -> None:
    made, wall, mine = funds(every="1d", slice="5min")
    held = mine.holdings(SHARE).sum()
    set_phase(made, SHARE, Phase.HALTED)
    wall.price *= 0.6
    made.run_for("1h")
    assert mine.holdings(SHARE).sum() == held
    set_phase(made, SHARE, Phase.CONTINUOUS)
    made.run_for("10min")
    assert volume(made, "margin_call") > 0.0


@pytest.mark.parametrize(
    ("broker", "says"),
    [
        ({"shares": ["share"], "maintenance": 0.6}, "maintenance must not be above initial"),
        ({"shares": []}, "at least 1 item"),
    ],
)
def test_terms_that_make_no_sense_are_refused(broker: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        MarginAccount(**broker)


def test_only_what_is_paid_in_full_is_lent_against() -> None:
    with pytest.raises(abm.ScenarioError, match=r"traders.funds.broker.shares: gold is not paid in full here"):
        funds(broker={"shares": ["gold"]})
