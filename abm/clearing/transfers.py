"""How what stands outside the exchange reaches it: whole money units and lots through the ledger, sales as messages."""

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from abm.clearing.ledger import Ledger
from abm.exchange.description import MONEY_UNITS
from abm.exchange.exchange import Exchange
from abm.exchange.messages import MESSAGE, Kind, Reason, Records, Side, TimeInForce

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int32]

# The ledger takes amounts in currency. Up to here a whole number of units survives the way to a float and back
_EXACT_UNITS = 1 << 50
_EXACT_LOTS = 1 << 30


class Transfers:
    """Moves whole units between the accounts of an exchange and something beside it.

    The ledger remembers every move under `"{name} {why}"`; `entered` adds those up, as a second opinion on what stands beside the exchange.
    """

    def __init__(self, exchange: Exchange, ledger: Ledger, name: str, instrument: str | None = None) -> None:
        self._exchange, self._ledger, self._name, self._instrument = exchange, ledger, name, instrument
        self._index = None if instrument is None else exchange.index(instrument)

    def rows(self, who: npt.ArrayLike) -> Rows:
        """Accounts as the ledger wants them.

        Raises:
            ValueError: One does not exist, or stands there twice.
        """
        rows = np.atleast_1d(np.asarray(who))
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise ValueError(f"{self._name}: accounts are whole numbers in one dimension, not {rows.dtype}")
        bad = rows[(rows < 0) | (rows >= len(self._exchange.accounts.cash))]
        if bad.size:
            raise ValueError(f"{self._name}: there is no account {bad[0]}")
        unique, counts = np.unique(rows, return_counts=True)
        if len(unique) < len(rows):
            raise ValueError(f"{self._name}: account {unique[counts > 1][0]} stands there twice")
        return rows.astype(np.int32)

    def units(self, rows: Rows, cash: npt.ArrayLike) -> Ints:
        """Currency, one amount for all accounts or one for each, to the nearest money unit."""
        return np.round(self._amounts(rows, cash) * MONEY_UNITS).astype(np.int64)

    def lots(self, rows: Rows, coins: npt.ArrayLike) -> Ints:
        """Coins, one amount for all accounts or one for each, rounded down to lots."""
        assert self._index is not None
        lot = self._exchange.instruments[self._index].lot
        return np.floor(self._amounts(rows, coins) / lot + 1e-6).astype(np.int64)

    def _amounts(self, rows: Rows, amounts: npt.ArrayLike) -> npt.NDArray[np.float64]:
        amounts = np.asarray(amounts, np.float64)
        if amounts.ndim and amounts.shape != rows.shape:
            raise ValueError(f"{self._name}: {amounts.size} amounts for {len(rows)} accounts")
        each = np.broadcast_to(amounts, rows.shape)
        bad = rows[~(np.isfinite(each) & (each >= 0) & (each < 1e12))]
        if bad.size:
            raise ValueError(f"{self._name}: account {bad[0]}: an amount must lie between 0 and 1e12")
        return each

    def free_cash(self, rows: Rows) -> Ints:
        """Money units that accounts may take out."""
        return np.maximum(self._ledger.free_cash(rows), 0)

    def free_lots(self, rows: Rows, index: int | None = None) -> Ints:
        """Lots that accounts may take out or sell."""
        accounts, k = self._exchange.accounts, self._index if index is None else index
        return np.asarray(accounts.position[rows, k] - accounts.position_reserved[rows, k])

    def take(self, rows: Rows, why: str, *, units: Any = 0, lots: Any = 0) -> None:
        """Take out of accounts.

        Raises:
            ValueError: An account has not so much free. Nothing is taken then.
        """
        taken: list[tuple[Ints, Ints]] = []
        try:
            for part in self._parts(rows, units, lots):
                self._enter(self._ledger.debit, rows, why, *part)
                taken.append(part)
        except ValueError:
            for part in taken:
                self._enter(self._ledger.credit, rows, why, *part)
            raise

    def give(self, rows: Rows, why: str, *, units: Any = 0, lots: Any = 0, cost: Any = None) -> None:
        """Put into accounts; `cost` is what a coin cost them, in currency, where it is not the reference price."""
        credit = self._ledger.credit if cost is None else partial(self._ledger.credit, cost=cost)
        for part in self._parts(rows, units, lots):
            self._enter(credit, rows, why, *part)

    def _parts(self, rows: Rows, units: Any, lots: Any) -> list[tuple[Ints, Ints]]:
        """The same as a sum of parts that are exact as floats; nearly always one."""
        left = [np.broadcast_to(np.asarray(x, np.int64), rows.shape).copy() for x in (units, lots)]
        parts: list[tuple[Ints, Ints]] = []
        while left[0].any() or left[1].any():
            part = (np.minimum(left[0], _EXACT_UNITS), np.minimum(left[1], _EXACT_LOTS))
            parts.append(part)
            left = [left[0] - part[0], left[1] - part[1]]
        return parts

    def _enter(self, move: Any, rows: Rows, why: str, units: Ints, lots: Ints) -> None:
        coins: Any = 0.0
        if lots.any():
            assert self._index is not None
            coins = lots * self._exchange.instruments[self._index].lot
        move(rows, f"{self._name} {why}", cash=units / MONEY_UNITS, coins=coins, instrument=self._instrument)

    def entered(self) -> tuple[int, int]:
        """Money units and lots that by the ledger's entries have left the exchange for here, and are not back."""
        own = [entry for why, entry in self._ledger.entries.items() if why.startswith(self._name + " ")]
        return -sum(e["cash"] for e in own), -sum(e.get(self._instrument or "", 0) for e in own)


def sales(
    exchange: Exchange,
    instrument: int,
    owners: npt.ArrayLike,
    lots: npt.ArrayLike,
    reason: Reason,
    *,
    time: int,
    limit: npt.ArrayLike = 0,
) -> Records:
    """Orders that sell at once and leave nothing in the book, one for each owner who has lots to sell.

    Args:
        exchange: Gives the ids.
        instrument: Its number.
        owners: Accounts.
        lots: Of each; what is above the largest order is left for another time.
        reason: What every trade of them will carry.
        time: When they are sent, in ns.
        limit: Ticks below which not to sell, one for all or one for each; 0 for at any price.
    """
    owner, quantity = np.atleast_1d(np.asarray(owners)), np.atleast_1d(np.asarray(lots))
    floor = np.broadcast_to(np.asarray(limit), owner.shape)[quantity > 0]
    owner, quantity = owner[quantity > 0], quantity[quantity > 0]
    messages = np.zeros(len(owner), MESSAGE)
    messages["kind"] = np.where(floor > 0, Kind.LIMIT, Kind.MARKET)
    messages["price"], messages["time"], messages["instrument"], messages["owner"] = floor, time, instrument, owner
    messages["quantity"] = np.minimum(quantity, exchange.instruments[instrument].max_order_lots)
    messages["side"], messages["tif"], messages["reason"] = Side.SELL, TimeInForce.IOC, reason
    messages["order"] = exchange.take_ids(len(owner)) + np.arange(len(owner))
    return messages
