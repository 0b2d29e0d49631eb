"""The compiled clearing house and its plain twin agree, record for record and unit for unit, on histories with margin."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from abm.clearing import ClearingHouse
from abm.exchange import Exchange, Instrument, Side
from abm.exchange.messages import MESSAGE, Records
from tests.property.engine import Engine
from tests.reference.exchange import ReferenceExchange
from tests.reference.tapes import MARGIN_MIXES, STEADY_MIX, MarginedHistory, margined_histories, random_margined_history

HOLDINGS = ("position", "basis", "margin", "realised", "fees_paid", "funding")
VIEW = ("best_bid", "best_ask", "last", "mark", "phase")


class ClearedEngine(Engine):
    """An engine with its clearing house."""

    def __init__(self, instruments: Sequence[Instrument], *, accounts: int = 0, ledger: bool = False) -> None:
        super().__init__(instruments, accounts=accounts, ledger=ledger)
        self.house = ClearingHouse(self.exchange)


def assert_same_records(ours: Any, theirs: Any, what: str) -> None:
    for name, mine, wanted in zip(ours._fields, ours, theirs, strict=True):
        if len(mine) != len(wanted) or any((mine[field] != wanted[field]).any() for field in wanted.dtype.names):
            raise AssertionError(f"{name} of {what}\nengine\n{listed(mine)}\ntwin\n{listed(wanted)}")


def listed(records: Records) -> str:
    return "\n".join([str(records.dtype.names), *map(str, records)])


def assert_same_money(ours: ClearedEngine, theirs: ReferenceExchange, what: str) -> None:
    """After every message."""
    for name in HOLDINGS:
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), f"{name} after {what}")
    np.testing.assert_array_equal(ours.cash, theirs.cash, f"cash after {what}")
    assert ours.fees == theirs.fees, what
    assert ours.residue == theirs.residue, what
    assert list(ours.exchange.view().mark) == theirs.view().mark, what


def assert_same_state(ours: ClearedEngine, theirs: ReferenceExchange) -> None:
    """All else that can be looked at; now and then."""
    view, wanted = ours.exchange.view(), theirs.view()
    for field in VIEW:
        assert list(getattr(view, field)) == list(getattr(wanted, field)), field
    np.testing.assert_array_equal(ours.cash_reserved, theirs.cash_reserved)
    np.testing.assert_array_equal(ours.house.equity(), theirs.equity())
    np.testing.assert_array_equal(ours.house.free_cash(np.arange(theirs.accounts, dtype=np.int32)), theirs.free_cash())
    for i, instrument in enumerate(theirs.instruments):
        reserved = np.array(theirs.position_reserved)[:, i]
        if instrument.margin:  # there the engine shows money
            reserved = [theirs._margin_reserved(owner, theirs.books[i]) for owner in range(theirs.accounts)]
            ticks = np.array(theirs.liquidation_prices(instrument.name))
            prices = ours.house.liquidation_prices(instrument.name)
            np.testing.assert_allclose(prices, ticks * instrument.tick, rtol=1e-12)
        np.testing.assert_array_equal(ours.position_reserved[:, i], reserved)
        for side in (Side.BUY, Side.SELL):
            assert ours.levels(i, side) == theirs.levels(i, side)
            for price in theirs.levels(i, side):
                mine, other = ours.queue(i, side, price), theirs.queue(i, side, price)
                assert [list(mine[name]) for name in other.dtype.names] == [
                    list(other[name]) for name in other.dtype.names
                ]
    for owner in range(theirs.accounts):
        assert list(ours.exchange.open_orders(owner)) == theirs.open_orders(owner)
    audit = ours.house.audit()
    assert audit.passed, audit.faults


def compare(history: MarginedHistory, size: int) -> None:
    """Play a history on both, `size` messages at a time, the calls between them."""
    ours, theirs = history.open(ClearedEngine), history.open(ReferenceExchange)
    done = 0
    for k, (calls, part) in enumerate(history.slices(size)):
        for call in calls:
            assert call.make(ours) == call.make(theirs), call
            assert_same_money(ours, theirs, str(call))
        what = f"messages {done} to {done + len(part)}: {part[:1]}"
        assert_same_records(ours.match(part), theirs.match(part), what)
        assert_same_money(ours, theirs, what)
        done += len(part)
        if k % 12 == 0 or done == len(history.tape):
            assert_same_state(ours, theirs)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(margined_histories())
def test_agrees_on_histories_that_shrink(history: MarginedHistory) -> None:
    compare(history, 1)


@pytest.mark.parametrize("seed", range(80))
def test_agrees_message_by_message(seed: int) -> None:
    compare(random_margined_history(10_000 + seed, 150), 1)


@pytest.mark.parametrize("size", [2, 7, 50, 400])
@pytest.mark.parametrize("seed", range(8))
def test_agrees_whatever_the_batches(size: int, seed: int) -> None:
    compare(random_margined_history(20_000 + seed, 400), size)


@pytest.mark.parametrize("mix", range(len(MARGIN_MIXES)))
def test_agrees_on_long_tapes_of_each_mix(mix: int) -> None:
    compare(random_margined_history(30_000 + mix, 1500, mix=MARGIN_MIXES[mix]), 500)


@pytest.mark.parametrize("seed", range(6))
def test_agrees_where_nothing_waits_to_follow(seed: int) -> None:
    compare(random_margined_history(33_000 + seed, 1000, mix=STEADY_MIX), 500)


@pytest.mark.parametrize("seed", range(8))
def test_agrees_after_a_checkpoint(seed: int, tmp_path: Any) -> None:
    """Saved and loaded in mid-history, with pauses and queues that stand, the exchange goes on as if nothing had happened."""
    history = random_margined_history(40_000 + seed, 300)
    history.tape["order"] = np.minimum(
        history.tape["order"], 10**6
    )  # a table of two thousand million ids takes too long to write
    ours, theirs = history.open(ClearedEngine), history.open(ReferenceExchange)
    for k, (calls, part) in enumerate(history.slices(40)):
        for call in calls:
            assert call.make(ours) == call.make(theirs), call
        assert_same_records(ours.match(part), theirs.match(part), f"part {k}")
        assert_same_money(ours, theirs, f"part {k}")
        ours.exchange.save(tmp_path / "half.ckpt")
        ours.exchange = Exchange.load(tmp_path / "half.ckpt")
        ours.house = ClearingHouse(ours.exchange)


def test_an_empty_tape_does_nothing() -> None:
    """Who a call made due waits for the first message."""
    history = random_margined_history(10_001, 50)
    ours = history.open(ClearedEngine)
    assert all(len(records) == 0 for records in ours.match(np.zeros(0, MESSAGE)))


@pytest.mark.statistical
@pytest.mark.parametrize("block", range(60))
def test_agrees_on_many_histories(block: int) -> None:
    """Rare combinations show up once in some hundred histories: 1 500 of them."""
    for seed in range(25):
        compare(random_margined_history(100_000 + 25 * block + seed, 250), 1)
