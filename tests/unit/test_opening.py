"""Positions held as a run begins: two sides, to the unit, with margin behind them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import Field

import abm
from abm.agents.base import Coins, Numbers, TraderConfig

PERP = "btc-perp"
INSTRUMENTS = {
    PERP: {
        "kind": "perpetual",
        "tick": 0.1,
        "lot": 0.001,
        "max_price": 200_000,
        "reference_price": 73_100,
        "margin": {"mark": {"index": {"btc-spot": 1.0}}},
    }
}


class HeldConfig(TraderConfig):
    """What is held."""

    coins: tuple[float, ...] = Field((), description="coins of each account, short where negative")
    entry: tuple[float, ...] = Field((), description="currency paid for a coin")
    cash: float = Field(100_000.0, description="currency of each account")


@abm.trader("test_holders_of_positions")
class Held(abm.Population):
    """Accounts with a position, some isolated."""

    config: HeldConfig

    def setup(self) -> None:
        self.set_leverage(PERP, 10, np.arange(self.size) % 2 == 1)

    def endow(self) -> tuple[Numbers, Coins]:
        return self.config.cash, 0.0

    def open_positions(self) -> Mapping[str, tuple[Numbers, Numbers]]:
        return {PERP: (np.array(self.config.coins), np.array(self.config.entry))}


@abm.trader("test_other_side")
class OtherSide(abm.Population):
    """Takes what is missing, in equal parts, with spot coins for what it is short."""

    def setup(self) -> None:
        pass

    def endow(self) -> tuple[Numbers, Coins]:
        return 1e6, {"btc-spot": 3.0}

    def balance(self, instrument: str, lots: int) -> npt.NDArray[np.int64] | None:
        each = np.full(self.size, lots // self.size, np.int64)
        each[0] += lots - each.sum()
        return each


def opened(coins: tuple[float, ...], entry: tuple[float, ...], sides: int = 2, **held: Any) -> abm.Market:
    plain = abm.load("first-hour")
    traders: dict[str, Any] = {name: None for name in plain.traders if name != "market_makers"}
    traders["held"] = {
        "kind": "test_holders_of_positions",
        "accounts": len(coins),
        "coins": coins,
        "entry": entry,
        **held,
    }
    if sides:
        traders["other"] = {"kind": "test_other_side", "accounts": sides}
    return abm.Market(abm.load("first-hour", instruments=INSTRUMENTS, traders=traders))


def test_positions_have_two_sides_and_keep_their_entries() -> None:
    market = opened((1.0, 0.5, -0.2), (75_000.1, 70_000.0, 73_000.0))
    accounts, index = market.exchange.accounts, market.exchange.index(PERP)
    held, other = market.populations[1:3]
    assert held.holdings(PERP).tolist() == [1.0, 0.5, -0.2]
    assert other.holdings(PERP).sum() == pytest.approx(-1.3)
    assert accounts.basis[held.rows, index].tolist() == [75_000_100_000, 35_000_000_000, -14_600_000_000]
    assert accounts.basis[:, index].sum() == accounts.position[:, index].sum() == 0
    # the isolated account has posted a tenth of what it paid
    assert accounts.margin[held.rows, index].tolist() == [0, 3_500_000_000, 0]
    assert market.exchange.open_interest(index) == 1_500
    assert market.house.audit().faults == ()
    market.run_for("1min")
    audit = market.result().audit
    assert audit.passed and audit.residue == 0
    assert other.holdings("btc-spot").tolist() == [3.0, 3.0]


def test_who_is_under_water_at_the_start_is_liquidated_as_it_begins() -> None:
    market = opened((1.0, 1.0), (99_000.0, 73_000.0), cash=12_000.0)
    market.run_for("10s")
    result = market.result()
    hit = result.liquidations[result.liquidations["trader"] == "held"]
    assert set(hit["account"]) == {market.populations[1].first}
    assert result.audit.passed


def test_an_opening_that_cannot_be_is_said_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"traders hold 1000 lots of btc-perp at the start and nobody takes"):
        opened((1.0,), (73_000.0,), sides=0)
    with pytest.raises(ValueError, match=r"account \d+ has a position, orders or too little margin"):
        opened((1.0,), (73_000.0,), cash=100.0)


def test_what_only_shows_in_the_market_is_one_line_with_the_name_of_the_scenario() -> None:
    with pytest.raises(abm.ScenarioError, match=r"^first-hour: traders\.retail_leverage\.instrument: btc-spot has no"):
        abm.Market(abm.load("first-hour", traders={"retail_leverage": {"instrument": "btc-spot", "accounts": 5}}))
    with pytest.raises(abm.ScenarioError, match=r"^first-hour: traders\.market_makers: 'btc-spt' is not traded here"):
        abm.load("first-hour", traders={"market_makers": {"books": {"btc-spt": {"depth_usd": 1e6}}}})
