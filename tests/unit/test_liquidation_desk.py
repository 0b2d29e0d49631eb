"""The liquidation desk closes what the insurance fund holds: at its pace, never more than that, in nobody else's name."""

from typing import Any

import numpy as np
import pytest

import abm
from abm.scenario import Scenario, load_with
from tests.unit.small_cascade import PERP, SPOT, small_cascade
from tests.unit.walls import PERPETUAL, Wall, derivative
from tests.unit.walls import market as walled

DESK = {"desk": {"kind": "liquidation_desk", "books": {PERP: {"half_life": "5min"}}}}


def cascade(traders: dict[str, Any], **more: Any) -> abm.Market:
    """The small cascade with some more traders."""
    plain = small_cascade(insurance_fund=1e6, **more).model_dump(mode="json")
    return abm.Market(Scenario.model_validate(plain | {"traders": plain["traders"] | traders}))


def entrusted(coins: float, kind: str = "perpetual", **terms: Any) -> tuple[abm.Market, Wall]:
    """A perpetual behind a wall, of which the insurance fund holds some coins (currency, if inverse) against the wall's."""
    desk = {"kind": "liquidation_desk", "books": {PERP: {"half_life": "10min", **terms}}}
    inverse = derivative("inverse", SPOT, 73_100) | {"lot": 100}
    made, walls = walled(
        {"desk": desk}, {PERP: PERPETUAL if kind == "perpetual" else inverse}, step="10s", insurance_fund=1e8
    )
    wall, perp = walls[PERP], made.exchange.instruments[made.exchange.index(PERP)]
    lots = round(coins / perp.lot)
    cost = lots * 731_000 * perp.unit if kind == "perpetual" else -(lots * perp.unit // 731_000)
    rows = np.array([made.exchange.fund, wall.rows[0]], np.int32)
    made.house.open_positions(rows, PERP, np.array([lots, -lots]), np.array([cost, -cost]))
    return made, wall


def held(market: abm.Market) -> float:
    """Coins (currency, if inverse) of the perpetual that the insurance fund holds."""
    index = market.exchange.index(PERP)
    return (
        float(market.exchange.accounts.position[market.exchange.fund, index]) * market.exchange.instruments[index].lot
    )


def test_what_the_fund_takes_over_reaches_the_book() -> None:
    alone, worked = cascade({}), cascade(DESK)
    for market in (alone, worked):
        market.run_for("30h")
    taken = alone.result().liquidations
    taken = taken[taken.what == "taken_over"].quantity.sum()
    assert abs(held(alone)) == pytest.approx(taken) and taken > 1.0
    result = worked.result()
    assert held(worked) == 0.0 and result.audit.passed, result.audit.faults
    own = result.trades[result.trades.taker == "desk"]
    over = result.liquidations
    assert own.quantity.sum() == pytest.approx(over[over.what == "taken_over"].quantity.sum())
    assert set(own.taker_reason) == {"liquidation"} and set(own.taker_account) == {worked.exchange.fund}
    assert result.moves[result.moves.trader == "desk"].reason.unique().tolist() == ["liquidation"]


@pytest.mark.parametrize("sign", [1, -1])
def test_half_is_closed_in_the_half_life(sign: int) -> None:
    market, _ = entrusted(sign * 100.0)
    market.run_for("10min")
    assert held(market) == pytest.approx(sign * 50.0, rel=0.04)
    market.run_for("20min")
    assert held(market) == pytest.approx(sign * 12.5, rel=0.04)


@pytest.mark.parametrize(("kind", "little"), [("perpetual", 0.1), ("inverse", 7_300.0)])
def test_the_last_of_it_is_closed_at_once(kind: str, little: float) -> None:
    market, _ = entrusted(little, kind, least=10_000)
    market.run_for("30s")
    assert held(market) == 0.0
    market.run_for("30min")  # and not once more
    assert held(market) == 0.0 and market.result().audit.passed


def test_it_takes_what_the_book_gives_and_waits_for_more() -> None:
    market, wall = entrusted(100.0)
    wall.size_of["buy"] = 0.25
    market.run_for("10min")
    assert held(market) == pytest.approx(100.0 - 60 * 0.25, abs=0.51)


@pytest.mark.parametrize(("slippage", "left"), [(0.00005, 100.0), (0.001, 50.0)])
def test_it_trades_no_further_from_the_mid_than_it_may(slippage: float, left: float) -> None:
    """The wall bids a basis point below the mid."""
    market, _ = entrusted(100.0, slippage=slippage)
    market.run_for("10min")
    assert held(market) == pytest.approx(left, rel=0.04)


@pytest.mark.parametrize(
    ("traders", "said"),
    [
        (
            {"desk": {"kind": "liquidation_desk", "books": {SPOT: {}}}},
            rf"traders.desk.books.{SPOT}: {SPOT} has no margin",
        ),
        (DESK | {"other": DESK["desk"]}, "traders.other: desk acts for the insurance fund already; give it both books"),
        ({"desk": {"kind": "liquidation_desk", "books": {"btc-prep": {}}}}, "is not traded here"),
        ({"desk": {"kind": "liquidation_desk", "books": {PERP: {"half_life": 0}}}}, "half_life"),
    ],
)
def test_what_it_cannot_do_is_said_in_one_line(traders: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        cascade(traders)


def test_without_margin_there_is_nothing_to_act_for() -> None:
    desk = {"kind": "liquidation_desk", "books": {SPOT: {}}}
    with pytest.raises(
        abm.ScenarioError, match=r"traders.desk: no instrument has margin, so that there is no insurance"
    ):
        abm.Market(load_with("first-hour", [{"traders": {"desk": desk}}]))
