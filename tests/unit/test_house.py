"""The clearing house by worked examples: the vectors of the rule book's sources, and each thing that time or an operator brings."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from abm.clearing import Bracket, ClearingHouse, Margin
from abm.clearing.deleveraging import water_fill
from abm.clearing.rules import initial_rate, read_brackets
from abm.exchange import (
    MESSAGE,
    Exchange,
    Flag,
    Forced,
    Instrument,
    Kind,
    Reject,
    Report,
    Side,
    Status,
    TimeInForce,
    What,
)
from abm.exchange.messages import Records

LONG, SHORT = Side.BUY, Side.SELL
UNIT = 10**6


def perpetual(name: str = "btc-perp", price: float = 80_000, tick: float = 0.01, **margin: Any) -> Instrument:
    terms = {"brackets": "btc", "mark": "operator", "liquidation": {"style": "full"}} | margin
    return Instrument(
        name=name, kind="perpetual", tick=tick, lot=0.001, max_price=250_000, reference_price=price, margin=terms
    )


class Venue:
    """An exchange with a house, and orders in currency and coins."""

    def __init__(self, *instruments: Instrument, accounts: int = 6, cash: float = 1e9, fund: float = 0.0) -> None:
        self.exchange = Exchange(instruments, accounts=accounts, ledger=True)
        self.house = ClearingHouse(self.exchange)
        self.instruments = self.exchange.instruments
        self.house.credit(np.arange(accounts), "opening", cash=cash)
        self.house.credit(np.array([self.exchange.fund]), "fund", cash=fund)
        self.time = 0

    def message(self, kind: Kind, name: str, **fields: Any) -> Records:
        row = np.zeros(1, MESSAGE)
        row["kind"], row["instrument"], row["owner"] = kind, self.exchange.index(name), -1
        for field, value in fields.items():
            row[field] = value
        return row

    def send(self, *rows: Records) -> Report:
        tape = np.concatenate(rows)
        self.time += 1
        tape["time"] = self.time
        return self.exchange.match(tape)

    def order(
        self, owner: int, side: Side, coins: float, price: float, name: str = "btc-perp", **fields: Any
    ) -> Records:
        traded = self.instruments[self.exchange.index(name)]
        lots, ticks = round(coins / traded.lot), traded.ticks(price)
        number = self.exchange.take_ids(1)
        row = self.message(Kind.LIMIT, name, owner=owner, side=side, quantity=lots, price=ticks, order=number)
        for field, value in fields.items():
            row[field] = value
        return row

    def trade(self, buyer: int, seller: int, coins: float, price: float, name: str = "btc-perp") -> Report:
        return self.send(self.order(seller, SHORT, coins, price, name), self.order(buyer, LONG, coins, price, name))

    def mark(self, price: float, name: str = "btc-perp") -> Report:
        ticks = self.instruments[self.exchange.index(name)].ticks(price)
        return self.send(self.message(Kind.MARK, name, price=ticks))

    def rows(self, *rows: int) -> Any:
        return np.array(rows, np.int32)

    def cash(self, row: int) -> float:
        return float(self.exchange.accounts.cash[row]) / UNIT

    def position(self, row: int, name: str = "btc-perp") -> int:
        return int(self.exchange.accounts.position[row, self.exchange.index(name)])

    def check(self) -> None:
        audit = self.house.audit()
        assert audit.faults == ()
        assert audit.residue == 0


# ------------------------------------------------------------------ prices of liquidation and bankruptcy


@pytest.mark.parametrize(
    ("coins", "leverage", "side", "liquidation", "bankruptcy"),
    [
        (1, 20, LONG, 76305.22, 76000),
        (1, 100, LONG, 79518.07, 79200),
        (0.05, 125, LONG, 79678.71, 79360),
        (1, 20, SHORT, 83665.34, 84000),
        (100, 20, LONG, 76646.46, 76000),
        (100, 10, LONG, 72606.06, 72000),
        (500, 20, LONG, 77281.63, 76000),
        (10, 5, LONG, 64291.46, 64000),
    ],
)
def test_isolated_positions_have_the_prices_of_the_venue(
    coins: float, leverage: int, side: Side, liquidation: float, bankruptcy: float
) -> None:
    """Entry at 80 000 with the brackets of bitcoin. The tick is the first at which it is due: at most one beyond the price."""
    venue = Venue(perpetual())
    venue.house.set_terms(venue.rows(0), "btc-perp", leverage, True)
    venue.trade(*((0, 1) if side == LONG else (1, 0)), coins, 80_000)
    found = venue.house.liquidation_prices("btc-perp")[0]
    assert found == pytest.approx(liquidation, abs=0.0101)
    before = found + (0.01 if side == LONG else -0.01)
    assert len(venue.mark(before).liquidations) == 0
    record = venue.mark(found).liquidations
    assert record["limit"][0] * 0.01 == pytest.approx(bankruptcy)
    venue.check()


def test_a_crossed_position_stands_on_the_whole_wallet() -> None:
    venue = Venue(perpetual(), cash=20_000)
    venue.house.credit(venue.rows(1), "more", cash=1e9)
    venue.house.set_terms(venue.rows(0), "btc-perp", 20)
    venue.trade(0, 1, 2, 80_000)
    assert venue.house.liquidation_prices("btc-perp")[0] == pytest.approx(70281.12, abs=0.0101)
    assert len(venue.mark(70281.13).liquidations) == 0
    assert venue.mark(70281.12).liquidations["limit"][0] * 0.01 == pytest.approx(70_000)
    venue.check()


def test_crossed_positions_in_several_instruments_stand_for_each_other() -> None:
    venue = Venue(perpetual(), perpetual("eth-perp", 4_000), cash=10_000)
    venue.house.credit(venue.rows(1), "more", cash=1e9)
    for name in ("btc-perp", "eth-perp"):
        venue.house.set_terms(venue.rows(0), name, 20)
    venue.trade(0, 1, 1, 80_000)
    venue.trade(1, 0, 20, 4_000, "eth-perp")  # short as much ether as it is long in bitcoin
    for price in (0.9, 0.8, 0.7, 0.6):
        assert len(venue.mark(4_000 * price, "eth-perp").liquidations) == 0  # gains on one leg
        assert len(venue.mark(80_000 * price).liquidations) == 0  # pay for the other
    maintenance = 2 * 48_000 * 0.004
    assert venue.house.equity(venue.rows(0))[0] / UNIT == pytest.approx(10_000)
    due = (
        48_000 + 10_000 - maintenance
    )  # the price of ether, times twenty, that uses the wallet up, but for its own maintenance
    price = venue.house.liquidation_prices("eth-perp")[0]
    assert price * 20 * 1.004 == pytest.approx(due + 48_000 * 0.004, abs=0.5)
    venue.mark(price - 0.01, "eth-perp")
    venue.check()
    records = venue.mark(price, "eth-perp").liquidations
    assert records["account"][0] == 0
    assert records["instrument"][0] == 1  # the leg that needs more maintenance
    venue.check()


def test_each_bracket_counts_for_the_part_above_its_floor() -> None:
    """Maintenance is continuous over the boundaries; cum follows from the recursion."""
    venue = Venue(perpetual())
    cum = venue.exchange._memory.tables["brackets"]["cum"] / UNIT
    assert cum[:12].tolist() == [
        0,
        300,
        1500,
        12000,
        132000,
        482000,
        2982000,
        14482000,
        26482000,
        41482000,
        121482000,
        421482000,
    ]


@pytest.mark.parametrize(("coins", "status"), [(3.75, Status.RESTING), (3.751, Status.REJECTED)])
def test_leverage_falls_with_size_at_the_boundary(coins: float, status: Status) -> None:
    """At 150x a position may have 300 000 of notional, and not one lot more."""
    venue = Venue(perpetual())
    venue.house.set_terms(venue.rows(0), "btc-perp", 150, True)
    outcome = venue.send(venue.order(0, LONG, coins, 80_000)).outcomes[0]
    assert outcome["status"] == status
    assert outcome["reject"] == (Reject.POSITION_LIMIT if status == Status.REJECTED else Reject.NONE)


def test_brackets_are_files_and_bad_ones_are_refused_in_one_line() -> None:
    assert {name: len(read_brackets(name)) for name in ("btc", "eth", "sol", "xrp", "doge", "default")} == {
        "btc": 12, "eth": 12, "sol": 10, "xrp": 11, "doge": 10, "default": 8,
    }  # fmt: skip
    assert initial_rate(3) == 333_334
    assert Margin().rows == read_brackets("default")
    with pytest.raises(ValueError, match="no brackets 'bitcoin'; there are btc, default, doge, eth, sol, xrp"):
        Margin(brackets="bitcoin")
    with pytest.raises(ValueError, match="up_to must rise"):
        Margin(brackets=(Bracket(up_to=10, leverage=5, maintenance=0.1), Bracket(up_to=5, leverage=4, maintenance=0.1)))
    with pytest.raises(ValueError, match="is more than the initial margin"):
        Margin(brackets=(Bracket(leverage=20, maintenance=0.06),))


# ------------------------------------------------------------------ what is done with who falls short


def fallen(style: str, bids: list[tuple[float, float]], fund: float = 1e6, **rules: Any) -> tuple[Venue, Report]:
    """A long of one coin at 20x with bids below, and the mark at its liquidation price."""
    venue = Venue(perpetual(liquidation={"style": style} | rules), fund=fund)
    venue.house.set_terms(venue.rows(0), "btc-perp", 20, True)
    venue.trade(0, 1, 1, 80_000)
    venue.send(*[venue.order(2, LONG, coins, price) for price, coins in bids])
    return venue, venue.mark(76_305)


def test_full_sells_all_and_the_fund_gets_what_was_above_bankruptcy() -> None:
    venue, report = fallen("full", [(76_300, 0.4), (76_200, 5)])
    (record,) = report.liquidations
    assert (record["what"], record["quantity"], record["side"]) == (Forced.LIQUIDATED, 1000, Side.SELL)
    assert set(report.trades["taker"]) == {-1}
    assert record["amount"] / UNIT == pytest.approx(0.4 * 300 + 0.6 * 200)
    assert venue.position(0) == 0
    assert venue.cash(0) == pytest.approx(1e9 - 4_000)
    assert venue.cash(venue.exchange.fund) == pytest.approx(1e6 + 240)
    venue.check()


def test_the_ladder_sells_as_much_as_makes_the_position_sound() -> None:
    venue = Venue(perpetual(liquidation={"style": "ladder"}), cash=3e8, fund=1e6)
    venue.house.set_terms(venue.rows(0), "btc-perp", 20, True)
    venue.trade(0, 1, 500, 80_000)
    venue.send(venue.order(2, LONG, 1_000, 77_280))
    price = venue.house.liquidation_prices("btc-perp")[0]
    report = venue.mark(price)
    sold = int(report.liquidations["quantity"].sum())
    assert 0 < sold < 500_000
    assert len(report.liquidations) < 6
    assert report.liquidations["amount"].sum() / UNIT == pytest.approx(sold * 0.001 * 77_280 * 0.0125, rel=1e-3)
    assert venue.position(0) == 500_000 - sold
    assert venue.house.liquidation_prices("btc-perp")[0] < price
    venue.check()


def test_staged_sells_a_fifth_waits_half_a_minute_and_then_sells_the_rest() -> None:
    venue = Venue(perpetual(liquidation={"style": "staged"}), fund=1e6)
    venue.house.set_terms(venue.rows(0), "btc-perp", 20, True)
    venue.trade(0, 1, 2, 80_000)
    venue.send(venue.order(2, LONG, 5, 76_300))
    assert venue.mark(76_305).liquidations["quantity"].tolist() == [400]
    assert len(venue.mark(76_200).liquidations) == 0
    venue.time += 30 * 10**9 - 3
    assert len(venue.mark(76_210).liquidations) == 0
    report = venue.mark(76_211)
    assert report.liquidations["quantity"].tolist() == [1600]
    assert venue.position(0) == 0
    venue.check()


def test_orders_are_cancelled_first_and_its_own_bid_does_not_catch_it() -> None:
    venue = Venue(perpetual(), fund=1e6)
    venue.house.set_terms(venue.rows(0), "btc-perp", 20, True)
    venue.trade(0, 1, 1, 80_000)
    venue.send(venue.order(0, LONG, 1, 76_400), venue.order(2, LONG, 1, 76_300))
    report = venue.mark(76_305)
    assert report.events["what"].tolist() == [What.LIQUIDATION_CANCELLED]
    assert report.trades["maker_owner"].tolist() == [2]
    venue.check()


def test_what_the_book_does_not_take_goes_to_the_fund_at_the_bankruptcy_price() -> None:
    venue, report = fallen("full", [(76_300, 0.4), (75_900, 5)])
    assert report.liquidations["what"].tolist() == [Forced.LIQUIDATED, Forced.TAKEN_OVER]
    assert report.liquidations["price"].tolist() == [7_630_000, 7_600_000]
    assert venue.position(venue.exchange.fund) == 600
    assert venue.exchange.accounts.basis[venue.exchange.fund, 0] == 600 * 76 * UNIT
    venue.check()


def test_without_a_fund_winners_are_deleveraged_by_profit_times_leverage() -> None:
    venue = Venue(perpetual(liquidation={"style": "full", "takes_over": False}))
    venue.house.set_terms(venue.rows(0, 3, 4, 5), "btc-perp", [20, 2, 50, 5], True)
    venue.trade(2, 3, 0.5, 84_000)  # more profit, less leverage
    venue.trade(2, 4, 0.3, 80_000)
    venue.trade(2, 5, 0.5, 80_000)
    venue.trade(0, 1, 1, 80_000)
    report = venue.mark(76_305)
    assert report.liquidations["what"].tolist() == [Forced.LIQUIDATED] + [Forced.DELEVERAGED] * 3
    assert report.liquidations["counterparty"].tolist() == [-1, 4, 5, 3]
    assert report.liquidations["quantity"].tolist() == [0, 300, 500, 200]
    assert set(report.liquidations["price"][1:]) == {7_600_000}
    assert venue.cash(4) == pytest.approx(1e9 + 0.3 * 4_000)
    venue.check()


def test_deleveraging_by_water_filling_is_that_of_the_paper() -> None:
    """Campbell, Hey, Moallemi and Nutz (2026): q = (10, 6, 4, 8, 2), E = (100, 150, 20, 400, 100), p = 100, Q = 9."""
    quantity, equity = np.array([10.0, 6, 4, 8, 2]), np.array([100.0, 150, 20, 400, 100])
    given = water_fill(quantity, equity, 100.0, 9.0)
    np.testing.assert_allclose(given, [35 / 6, 0, 19 / 6, 0, 0], atol=1e-9)
    np.testing.assert_allclose(((quantity - given) * 100 / equity)[[0, 2]], 25 / 6, atol=1e-9)
    with pytest.raises(ValueError, match="water_fill"):
        water_fill(quantity, equity, 100.0, 31.0)


def test_a_gap_beyond_the_bankruptcy_price_is_a_default_that_the_fund_pays() -> None:
    venue = Venue(perpetual(liquidation={"style": "full"}), cash=4_000.0, fund=1e6)
    venue.house.credit(venue.rows(1, 2), "more", cash=1e9)
    venue.house.set_terms(venue.rows(0), "btc-perp", 20, True)
    venue.trade(0, 1, 1, 80_000)
    report = venue.mark(75_000)
    assert venue.position(venue.exchange.fund) == 1000
    assert venue.house.equity(venue.rows(venue.exchange.fund))[0] / UNIT == pytest.approx(1e6 - 1_000)
    assert venue.cash(0) == 0
    assert report.liquidations["what"].tolist() == [Forced.LIQUIDATED, Forced.TAKEN_OVER]
    venue.check()


def test_selling_below_ones_bankruptcy_price_is_a_default() -> None:
    """The book is thinner than the mark says: the margin does not cover what a sale at market loses."""
    venue = Venue(perpetual(), cash=4_000.0, fund=1e6)
    venue.house.credit(venue.rows(1, 2), "more", cash=1e9)
    venue.house.set_terms(venue.rows(0), "btc-perp", 20, True)
    venue.trade(0, 1, 1, 80_000)
    venue.send(venue.order(2, LONG, 1, 70_000))
    report = venue.send(venue.order(0, SHORT, 1, 70_000, tif=TimeInForce.IOC))
    (record,) = report.liquidations
    assert (record["what"], record["account"], record["number"]) == (Forced.DEFAULTED, 0, 0)
    assert record["counterparty"] == venue.exchange.fund
    assert record["amount"] / UNIT == pytest.approx(6_000)
    assert venue.cash(venue.exchange.fund) == pytest.approx(1e6 - 6_000)
    venue.check()


def test_a_liquidation_that_moves_the_mark_is_named_as_the_cause_of_the_next() -> None:
    venue = Venue(perpetual(tick=0.1, mark={}, liquidation={"style": "full"}), fund=1e6, accounts=8)
    venue.house.set_terms(venue.rows(3, 4, 5), "btc-perp", [125, 100, 75], True)
    venue.send(venue.order(1, SHORT, 9, 80_010), venue.order(2, LONG, 0.1, 79_990))
    for trader in (3, 4, 5):
        venue.send(venue.order(1, SHORT, 0.5, 80_000), venue.order(trader, LONG, 0.5, 80_000, tif=TimeInForce.IOC))
    venue.send(
        venue.message(Kind.MASS_CANCEL, "btc-perp", owner=1),
        *[venue.order(2, LONG, coins, price) for price, coins in ((79_590, 0.5), (79_400, 0.5), (78_899, 9))],
    )
    report = venue.send(venue.order(6, SHORT, 0.15, 79_600))
    records = report.liquidations
    assert records["account"].tolist() == [3, 4, 5, 5]
    assert records["what"].tolist() == [Forced.LIQUIDATED] * 3 + [Forced.TAKEN_OVER]
    assert records["number"].tolist() == [1, 2, 3, 3]
    assert records["parent"].tolist() == [0, 1, 2, 2]
    assert set(records["message"]) == {venue.exchange.messages - 1}
    venue.check()


def test_a_halt_makes_liquidation_wait() -> None:
    venue = Venue(perpetual(), fund=1e6)
    venue.house.set_terms(venue.rows(0), "btc-perp", 20, True)
    venue.trade(0, 1, 1, 80_000)
    venue.send(venue.order(2, LONG, 1, 76_300))
    venue.send(venue.message(Kind.PHASE, "btc-perp", side=2))
    assert len(venue.mark(76_000).liquidations) == 0
    report = venue.send(venue.message(Kind.PHASE, "btc-perp", side=0))
    assert report.liquidations["quantity"].tolist() == [1000]
    assert venue.position(0) == 0
    venue.check()


# ------------------------------------------------------------------ orders


def test_what_two_sided_quotes_reserve_is_the_greater_side_not_the_sum() -> None:
    venue = Venue(perpetual())
    venue.house.set_terms(venue.rows(0), "btc-perp", 10, True)
    venue.send(venue.order(0, LONG, 1, 79_000), venue.order(0, SHORT, 1, 81_000))
    assert venue.exchange.accounts.cash_reserved[0] / UNIT == pytest.approx(8_100)
    venue.check()


def test_a_position_can_always_be_closed_and_reduce_only_needs_nothing() -> None:
    venue = Venue(perpetual(), cash=8_000.0)
    venue.house.credit(venue.rows(1), "more", cash=1e9)
    venue.house.set_terms(venue.rows(0), "btc-perp", 10, True)
    venue.trade(0, 1, 1, 80_000)
    assert venue.cash(0) == 0
    more = venue.send(venue.order(0, LONG, 0.001, 79_000)).outcomes[0]
    assert (more["status"], more["reject"]) == (Status.REJECTED, Reject.INSUFFICIENT_FUNDS)
    assert venue.send(venue.order(0, SHORT, 1, 81_000)).outcomes["status"][0] == Status.RESTING
    assert venue.exchange.accounts.cash_reserved[0] == 0
    assert venue.send(venue.order(0, SHORT, 1, 82_000, flags=Flag.REDUCE_ONLY)).outcomes["status"][0] == Status.RESTING
    venue.send(venue.order(1, LONG, 1, 81_000))
    assert venue.cash(0) == pytest.approx(9_000)
    venue.check()


# ------------------------------------------------------------------ what time and the operator bring


def test_funding_is_paid_between_accounts_to_the_unit() -> None:
    venue = Venue(perpetual())
    venue.house.set_terms(venue.rows(0), "btc-perp", 20, True)
    venue.trade(0, 1, 0.333, 80_001)
    assert venue.house.pay_funding("btc-perp", 0.0001) == 0.0001
    assert venue.exchange.accounts.margin[0, 0] / UNIT == pytest.approx(0.333 * (80_001 / 20 - 8), abs=1e-5)
    assert venue.cash(1) == pytest.approx(1e9 + 0.333 * 8)
    venue.house.pay_funding("btc-perp", -0.00012345)
    assert venue.exchange.accounts.funding[:2, 0].sum() + venue.exchange.accounts.residue == 0
    venue.check()


@pytest.mark.parametrize(
    ("premium", "rate"), [(0.0, 0.0001), (0.0004, 0.0001), (0.002, 0.0015), (-0.002, -0.0015), (0.5, 0.003)]
)
def test_the_funding_rate_follows_the_premium_with_clamp_and_cap(premium: float, rate: float) -> None:
    venue = Venue(perpetual(price=50_000, funding={}))
    middle = 50_000 * (1 + premium)
    venue.send(venue.order(1, LONG, 100, middle - 0.01), venue.order(2, SHORT, 100, middle + 0.01))
    for _ in range(3):
        venue.house.sample_premiums(["btc-perp"])
    assert venue.house.funding_rate("btc-perp") == pytest.approx(rate, abs=2e-6)


def test_funding_that_uses_a_margin_up_liquidates_as_the_next_pass_begins() -> None:
    venue = Venue(perpetual(), fund=1e6)
    venue.house.set_terms(venue.rows(0), "btc-perp", 100, True)
    venue.trade(0, 1, 1, 80_000)
    venue.send(venue.order(2, LONG, 1, 79_900))
    venue.house.pay_funding("btc-perp", 0.007)
    records = venue.send(venue.message(Kind.CLOCK, "btc-perp")).liquidations
    assert records["account"].tolist() == [0]
    venue.check()


def test_margin_can_be_added_and_taken_back_down_to_the_initial_margin() -> None:
    venue = Venue(perpetual(), cash=10_000.0)
    venue.house.credit(venue.rows(1), "more", cash=1e9)
    venue.house.set_terms(venue.rows(0), "btc-perp", 20, True)
    venue.trade(0, 1, 1, 80_000)
    before = venue.house.liquidation_prices("btc-perp")[0]
    venue.house.add_margin(venue.rows(0), "btc-perp", 4_000)
    assert venue.house.liquidation_prices("btc-perp")[0] == pytest.approx(before - 4_000 / 0.996, abs=0.02)
    venue.house.add_margin(venue.rows(0), "btc-perp", -4_000)
    for amount in (-0.01, 7_000):
        with pytest.raises(
            ValueError, match="btc-perp: account 0 has no isolated position, or not so much free margin"
        ):
            venue.house.add_margin(venue.rows(0), "btc-perp", amount)
    venue.check()


def test_what_stands_behind_positions_cannot_be_withdrawn() -> None:
    venue = Venue(perpetual(), cash=10_000.0)
    venue.house.credit(venue.rows(1), "more", cash=1e9)
    venue.house.set_terms(venue.rows(0), "btc-perp", 20)
    venue.trade(0, 1, 1, 80_000)
    with pytest.raises(ValueError, match="withdrawal: account 0 has not so much free"):
        venue.house.debit(venue.rows(0), "withdrawal", cash=6_001)
    venue.house.debit(venue.rows(0), "withdrawal", cash=6_000)
    assert venue.house.liquidation_prices("btc-perp")[0] == pytest.approx(76305.22, abs=0.0101)
    venue.check()


GOLD = Instrument(
    name="gold", kind="future", tick=0.1, lot=1, max_price=20_000, reference_price=5_000,
    margin={"brackets": ({"leverage": 12.5, "maintenance": 0.07},), "mark": "operator"},
)  # fmt: skip


def test_a_future_pays_variation_margin_daily_and_expires() -> None:
    venue = Venue(GOLD, cash=1_000.0)
    venue.house.set_terms(venue.rows(0, 1), "gold", 12.5)
    venue.trade(0, 1, 2, 5_000, "gold")
    venue.house.settle_variation("gold", 4_900)
    assert [venue.cash(0), venue.cash(1)] == [800, 1_200]
    assert venue.exchange.accounts.realised[:2, 0].tolist() == [-200 * UNIT, 200 * UNIT]
    venue.check()
    venue.house.expire("gold", 4_950)
    assert [venue.cash(0), venue.cash(1)] == [900, 1_100]
    assert venue.house.audit().open_interest == {"gold": 0}
    venue.check()
    with pytest.raises(ValueError, match="gold: settlement price 0 must lie between"):
        venue.house.expire("gold", 0.0)


def test_what_an_expiry_costs_beyond_its_margin_stands_no_longer_behind_other_positions() -> None:
    venue = Venue(GOLD, perpetual(), cash=10_000.0, fund=1e6)
    venue.house.credit(venue.rows(1), "more", cash=1e6)
    venue.house.set_terms(venue.rows(0), "gold", 12.5, True)
    venue.house.set_terms(venue.rows(0), "btc-perp", 20)
    venue.trade(0, 1, 2, 5_000, "gold")
    venue.trade(0, 1, 1, 80_000)
    venue.house.expire("gold", 4_000)  # 2 000 lost, and a margin of 800
    assert venue.cash(0) == 8_000
    venue.check()
    due = venue.house.liquidation_prices("btc-perp")[0]
    assert venue.mark(due + 0.01).liquidations["account"].tolist() == []
    venue.send(venue.order(2, LONG, 2, due - 100))
    assert set(venue.mark(due).liquidations["account"]) == {0}
    venue.check()


def test_a_margin_notice_makes_the_leveraged_sell() -> None:
    """Gold from 8 to 9 per cent; maintenance from 7 to 8.2: who has just 8 falls short."""
    venue = Venue(GOLD, cash=405.0, fund=1e6)
    venue.house.credit(venue.rows(1, 2), "more", cash=1e6)
    venue.house.set_terms(venue.rows(0), "gold", 12.5)
    venue.trade(0, 1, 1, 5_000, "gold")
    venue.send(venue.order(2, LONG, 5, 4_990, "gold"))
    venue.house.set_brackets("gold", (Bracket(leverage=1 / 0.09, maintenance=0.082),))
    assert venue.send(venue.message(Kind.CLOCK, "gold")).liquidations["account"].tolist() == [0]
    refused = venue.send(venue.order(0, LONG, 1, 4_900, "gold")).outcomes[0]
    assert refused["reject"] == Reject.INSUFFICIENT_FUNDS
    venue.check()


@pytest.mark.parametrize("rests", [True, False])
@pytest.mark.parametrize(("cash", "ounces"), [(4_999.0, 9), (5_000.0, 10)])
def test_after_a_notice_one_buys_as_far_as_the_new_margin_carries(cash: float, ounces: int, rests: bool) -> None:
    """Set to 12.5 and asked for a tenth: five ounces at 5 000 and five more want 5 000, however they are bought."""
    venue = Venue(GOLD, cash=cash, fund=1e6)
    venue.house.credit(venue.rows(1), "more", cash=1e6)
    venue.house.set_terms(venue.rows(0), "gold", 12.5)
    venue.trade(0, 1, 5, 5_000, "gold")
    venue.house.set_brackets("gold", (Bracket(leverage=10, maintenance=0.07),))
    if not rests:
        venue.send(venue.order(1, SHORT, 10, 5_000, "gold"))
    orders = [venue.order(0, LONG, 1, 5_000, "gold") for _ in range(6)]
    taken = [int(venue.send(order).outcomes["reject"][0]) for order in orders]
    fits = ounces - 5
    assert taken == [Reject.NONE] * fits + [Reject.INSUFFICIENT_FUNDS] * (6 - fits)
    assert venue.exchange.accounts.position[0, 0] == (5 if rests else ounces)
    assert (
        venue.send(venue.order(0, SHORT, 5, 4_990, "gold")).outcomes["reject"][0] == Reject.NONE
    )  # and sells as before
    venue.check()


def test_an_isolated_position_opened_after_a_notice_is_posted_its_margin() -> None:
    venue = Venue(GOLD, cash=1_000.0)
    venue.house.credit(venue.rows(1), "more", cash=1e6)
    venue.house.set_terms(venue.rows(0), "gold", 12.5, True)
    venue.house.set_brackets("gold", (Bracket(leverage=10, maintenance=0.09),))
    assert venue.trade(0, 1, 2, 5_000, "gold").outcomes["reject"].tolist() == [Reject.NONE] * 2
    assert venue.exchange.accounts.margin[0, 0] == 1_000 * UNIT
    assert venue.send(venue.message(Kind.CLOCK, "gold")).liquidations.size == 0
    venue.check()


def test_stock_on_margin_is_half_borrowed_pays_interest_and_is_sold_at_a_quarter() -> None:
    """Regulation T: half of the price down, a quarter of the value kept."""
    share = Instrument(
        name="share", tick=0.01, lot=1, max_price=1_000, reference_price=100,
        margin={"brackets": ({"leverage": 2, "maintenance": 0.25},), "mark": "operator", "liquidation": {"style": "full"}},
    )  # fmt: skip
    venue = Venue(share, cash=5_000.0, fund=1e6)
    venue.house.credit(venue.rows(1), "issued", coins=1_000, instrument="share", cost=80.0)
    venue.house.credit(venue.rows(2), "more", cash=1e6)
    venue.house.set_terms(venue.rows(0), "share", 2)
    venue.trade(0, 1, 100, 100, "share")
    assert venue.cash(0) == -5_000
    assert venue.exchange.accounts.realised[1, 0] == 2_000 * UNIT
    assert venue.send(venue.order(0, LONG, 1, 100, "share")).outcomes["reject"][0] == Reject.INSUFFICIENT_FUNDS
    assert venue.house.charge_interest(0.0001) == 0.5
    venue.check()
    price = venue.house.liquidation_prices("share")[0]
    assert price == pytest.approx(5_000.5 / 0.75 / 100, abs=0.01)
    venue.send(venue.order(2, LONG, 200, price - 1, "share"))
    assert venue.mark(price, "share").liquidations["quantity"].tolist() == [100]
    with pytest.raises(ValueError, match="a position in spot cannot be isolated"):
        venue.house.set_terms(venue.rows(0), "share", 2, True)
    venue.check()


def test_an_inverse_perpetual_gains_in_coins() -> None:
    inverse = Instrument(
        name="btc-inverse", kind="inverse", currency="BTC", tick=0.5, lot=100, max_price=250_000, reference_price=80_000,
        margin={"mark": "operator", "brackets": ({"leverage": 20, "maintenance": 0.01},), "liquidation": {"style": "full"}},
    )  # fmt: skip
    venue = Venue(inverse, cash=10.0)
    venue.house.set_terms(venue.rows(0), "btc-inverse", 10, True)
    venue.trade(0, 1, 80_000, 80_000, "btc-inverse")  # contracts for 80 000 dollars: worth a coin
    venue.trade(1, 0, 80_000, 100_000, "btc-inverse")
    assert venue.cash(0) - 10 == pytest.approx(80_000 * (1 / 80_000 - 1 / 100_000), abs=1e-6)
    venue.check()


def test_losses_that_the_fund_cannot_pay_are_cut_from_profits() -> None:
    venue = Venue(perpetual(liquidation={"style": "full", "deficit": "socialise"}), cash=4_000.0, accounts=5)
    venue.house.credit(venue.rows(1, 2), "more", cash=1e7)
    venue.house.set_terms(venue.rows(0), "btc-perp", 20, True)
    venue.trade(0, 1, 1, 80_000)
    venue.mark(70_000)
    venue.trade(1, 2, 1, 70_000)  # the winner takes 10 000
    fund = venue.exchange.fund
    venue.send(venue.order(2, LONG, 1, 70_000), venue.order(fund, SHORT, 1, 70_000))
    assert venue.cash(fund) == pytest.approx(-6_000)
    assert venue.house.audit().fund == -6_000 * UNIT
    assert venue.house.socialise_losses() == pytest.approx(6_000)
    assert venue.cash(fund) == 0
    assert venue.cash(1) == pytest.approx(4_000 + 1e7 + 10_000 - 6_000)
    venue.check()


# ------------------------------------------------------------------ the mark


def spot(name: str) -> Instrument:
    return Instrument(name=name, tick=0.01, lot=0.001, max_price=250_000, reference_price=80_000)


def test_the_mark_follows_the_index_and_an_outlier_is_clipped() -> None:
    mark = {"index": {"one": 1, "two": 1, "three": 2}, "clip": 0.05}
    venue = Venue(spot("one"), spot("two"), spot("three"), perpetual(tick=0.1, mark=mark))
    venue.house.credit(venue.rows(0), "coins", coins=50, instrument="one")
    for name, price in (("one", 80_000), ("two", 80_100), ("three", 60_000)):
        if name != "one":
            venue.house.credit(venue.rows(0), "coins", coins=50, instrument=name)
        venue.send(venue.order(1, LONG, 1, price - 1, name), venue.order(0, SHORT, 1, price + 1, name))
    index = (80_000 + 80_100 + 2 * 80_000 * 0.95) / 4
    assert venue.exchange.view().mark[3] * 0.1 == pytest.approx(index, abs=0.06)


def test_the_last_trade_alone_does_not_move_the_mark() -> None:
    venue = Venue(spot("btc-spot"), perpetual(tick=0.1, mark={"index": {"btc-spot": 1}}))
    venue.house.credit(venue.rows(0), "coins", coins=50, instrument="btc-spot")
    venue.send(venue.order(1, LONG, 1, 79_999, "btc-spot"), venue.order(0, SHORT, 1, 80_001, "btc-spot"))
    venue.send(venue.order(2, LONG, 1, 60_000), venue.order(3, SHORT, 1, 60_000, tif=TimeInForce.IOC))
    assert venue.exchange.view().last[1] == 600_000
    assert venue.exchange.view().mark[1] == 800_000


def test_the_basis_enters_the_mark_by_its_mean_over_half_a_minute() -> None:
    venue = Venue(spot("btc-spot"), perpetual(tick=0.1, mark={"index": {"btc-spot": 1}}))
    venue.house.credit(venue.rows(0), "coins", coins=50, instrument="btc-spot")
    venue.send(venue.order(1, LONG, 1, 79_999, "btc-spot"), venue.order(0, SHORT, 1, 80_001, "btc-spot"))
    venue.send(venue.order(2, LONG, 1, 80_090), venue.order(3, SHORT, 1, 80_110))  # the perpetual stands 100 above
    venue.send(venue.order(2, LONG, 0.1, 80_110, tif=TimeInForce.IOC))
    marks = []
    for second in (1, 10, 20, 30, 60):
        venue.time = second * 10**9
        venue.send(venue.message(Kind.CLOCK, "btc-perp"))
        marks.append(float(venue.exchange.view().mark[1]) * 0.1 - 80_000)
    assert marks == pytest.approx(
        [100, 100, 100, 100, 100], abs=0.06
    )  # the first sample is taken after the basis was there


# ------------------------------------------------------------------ terms, and what the audit finds


def test_leverage_is_fixed_while_a_position_or_an_order_is_open() -> None:
    venue = Venue(perpetual())
    venue.send(venue.order(0, LONG, 1, 79_000))
    with pytest.raises(
        ValueError, match="btc-perp: account 0 has a position or orders; its leverage and mode are fixed"
    ):
        venue.house.set_terms(venue.rows(0), "btc-perp", 5)
    venue.house.set_terms(venue.rows(3), "btc-perp", 150)
    venue.send(venue.order(3, LONG, 0.001, 0.01))  # its margin is rounded to nothing
    assert venue.exchange.accounts.bids[3, 0] == 0
    assert venue.house.terms_fixed(venue.rows(0, 1, 3), "btc-perp").tolist() == [True, False, True]
    with pytest.raises(ValueError, match="leverage must lie between 1 and 150"):
        venue.house.set_terms(venue.rows(1), "btc-perp", 151)
    with pytest.raises(ValueError, match="positions come from trades alone"):
        venue.house.credit(venue.rows(1), "gift", coins=1, instrument="btc-perp")


@pytest.mark.parametrize(
    ("field", "row", "words"),
    [
        ("cash", 0, "cash: "),
        ("margin", 0, "cash: "),
        ("basis", 1, "cash: "),
        ("position", 1, "lots held are not the 0 issued"),
        ("bids", 2, "account 2: btc-perp margin of bids"),
    ],
)
def test_the_audit_names_what_was_changed_behind_its_back(field: str, row: int, words: str) -> None:
    venue = Venue(perpetual())
    venue.house.set_terms(venue.rows(0), "btc-perp", 20, True)
    venue.trade(0, 1, 1, 80_000)
    venue.send(venue.order(2, LONG, 1, 79_000))
    venue.check()
    column = getattr(venue.exchange.accounts, field)
    column[row if column.ndim == 1 else (row, 0)] += 1
    audit = venue.house.audit()
    assert not audit.passed
    assert any(words in fault for fault in audit.faults), audit.faults


def test_the_audit_finds_a_position_that_the_index_would_miss() -> None:
    venue = Venue(perpetual())
    venue.house.set_terms(venue.rows(0), "btc-perp", 20, True)
    venue.trade(0, 1, 1, 80_000)
    venue.exchange.accounts.margin[0, 0] -= 3_000 * UNIT
    venue.exchange.accounts.cash[0] += 3_000 * UNIT
    assert any("account 0: btc-perp position is not in the index" in fault for fault in venue.house.audit().faults)


def test_a_checkpoint_continues_with_positions_and_index(tmp_path: Any) -> None:
    venue = Venue(perpetual(), fund=1e6)
    venue.house.set_terms(venue.rows(0), "btc-perp", 20, True)
    venue.trade(0, 1, 1, 80_000)
    venue.exchange.save(tmp_path / "state")
    loaded = Exchange.load(tmp_path / "state")
    tape = np.concatenate(
        [venue.order(2, LONG, 1, 76_300, time=5), venue.message(Kind.MARK, "btc-perp", price=7_630_000, time=5)]
    )
    for mine, wanted in zip(loaded.match(tape), venue.exchange.match(tape), strict=True):
        np.testing.assert_array_equal(mine, wanted)
    assert loaded.accounts.cash.tolist() == venue.exchange.accounts.cash.tolist()


def test_a_checkpoint_continues_in_another_process(tmp_path: Any) -> None:
    venue = Venue(perpetual(), fund=1e6)
    venue.house.set_terms(venue.rows(0), "btc-perp", 20, True)
    venue.trade(0, 1, 1, 80_000)
    venue.exchange.save(tmp_path / "state")
    tape = np.concatenate(
        [
            venue.order(2, LONG, 1, 76_300, time=5),
            venue.order(1, SHORT, 2, 76_300, time=6),
            venue.message(Kind.MASS_CANCEL, "btc-perp", owner=1, time=7),
        ]
    )
    np.save(tmp_path / "tape.npy", tape)
    program = (
        "import sys, numpy as np; from abm.exchange import MESSAGE, Exchange; exchange = Exchange.load(sys.argv[1]);"
        "report = exchange.match(np.load(sys.argv[2]).astype(MESSAGE)); print(report.trades.tobytes().hex(), report.events.tobytes().hex())"
    )
    names = [str(tmp_path / "state"), str(tmp_path / "tape.npy")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program, *names], env=environment, capture_output=True, text=True, check=True
    )
    report = venue.exchange.match(tape)
    assert len(report.trades) and len(report.events)
    assert done.stdout.split() == [report.trades.tobytes().hex(), report.events.tobytes().hex()]
