"""The ledger: what enters is remembered, and the audit names the account where something is missing."""

import numpy as np
import pytest

from abm.clearing import Ledger
from abm.exchange.exchange import Exchange
from abm.exchange.instrument import FeeTier, Instrument
from abm.exchange.messages import MESSAGE, Kind, Records, Side, TimeInForce

COIN = Instrument(
    name="btc-spot",
    tick=0.01,
    lot=0.0001,
    max_price=250_000,
    reference_price=100.0,
    fees=(FeeTier(maker=0.001, taker=0.0015),),
)


@pytest.fixture
def exchange() -> Exchange:
    return Exchange([COIN], accounts=4, ledger=True)


@pytest.fixture
def ledger(exchange: Exchange) -> Ledger:
    ledger = Ledger(exchange)
    ledger.credit(
        np.arange(4, dtype=np.int32), "opening", cash=[1000.0, 2000.0, 0.0, 10.5], coins=2.0, instrument="btc-spot"
    )
    return ledger


def order(exchange: Exchange, owner: int, side: Side, price: int, lots: int, display: int = 0) -> Records:
    row = np.zeros(1, MESSAGE)
    row["kind"], row["owner"], row["side"], row["price"], row["quantity"] = Kind.LIMIT, owner, side, price, lots
    row["order"], row["tif"], row["display"] = exchange.take_ids(1), TimeInForce.GTC, display
    return row


def trade(exchange: Exchange) -> None:
    """A resting buy, an iceberg sale partly filled, and a resting sale."""
    exchange.match(
        np.concatenate(
            [
                order(exchange, 0, Side.BUY, 9_000, 1_000),
                order(exchange, 1, Side.SELL, 10_000, 10_000, display=100),
                order(exchange, 0, Side.BUY, 10_001, 3_333),
                order(exchange, 3, Side.SELL, 11_000, 7),
            ]
        )
    )


def test_credits_are_kept_to_the_unit(exchange: Exchange, ledger: Ledger) -> None:
    assert exchange.accounts.cash.tolist() == [1_000_000_000, 2_000_000_000, 0, 10_500_000]
    assert exchange.accounts.position[:, 0].tolist() == [20_000] * 4
    ledger.credit(np.array([2], np.int32), "block reward", coins=0.00019999, instrument="btc-spot")
    assert ledger.entries == {
        "opening": {"cash": 3_010_500_000, "btc-spot": 80_000},
        "block reward": {"cash": 0, "btc-spot": 1},
    }


def test_an_audit_passes_after_trades_fees_and_with_orders_open(exchange: Exchange, ledger: Ledger) -> None:
    trade(exchange)
    audit = ledger.audit()
    assert audit.faults == ()
    assert audit.passed
    assert audit.residue == 0
    assert audit.fees > 0
    assert audit.cash_held + audit.fees == audit.cash_entered
    assert exchange.accounts.cash_reserved[0] > 0
    assert exchange.accounts.position_reserved[1, 0] == 10_000 - 3_333


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (lambda a: np.add.at(a.cash, 2, 1), ["cash: ", "(+1)"]),
        (lambda a: np.add.at(a.position, (1, 0), -1), ["btc-spot: 79999 lots held are not the 80000 issued"]),
        (lambda a: np.add.at(a.cash_reserved, 0, 5), ["account 0: reserved cash"]),
        (lambda a: np.add.at(a.position_reserved, (3, 0), 1), ["account 3: reserved btc-spot lots 8, but 7"]),
        (lambda a: (np.add.at(a.cash, 2, -3), np.add.at(a.cash, 1, 3)), ["account 2: cash -3"]),
        (
            lambda a: (np.add.at(a.position, (2, 0), -20_001), np.add.at(a.position, (0, 0), 20_001)),
            ["account 2: btc-spot lots -1"],
        ),
    ],
)
def test_whatever_is_changed_behind_its_back_is_found_and_named(
    exchange: Exchange, ledger: Ledger, tamper, words: list[str]
) -> None:  # type: ignore[no-untyped-def]
    trade(exchange)
    tamper(exchange.accounts)
    audit = ledger.audit()
    assert not audit.passed
    for word in words:
        assert any(word in fault for fault in audit.faults), audit.faults


def test_a_long_list_of_faults_is_cut(exchange: Exchange) -> None:
    big = Exchange([COIN], accounts=100, ledger=True)
    ledger = Ledger(big)
    big.accounts.cash[:] = -1
    faults = ledger.audit().faults
    assert "and 95 more accounts: cash" in faults
    assert len(faults) < 20


def test_nothing_less_than_nothing_is_credited(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="less than nothing"):
        ledger.credit(np.array([0], np.int32), "gift", cash=-1.0)
    with pytest.raises(ValueError, match="of which instrument"):
        ledger.credit(np.array([0], np.int32), "gift", coins=1.0)
