"""Accounts and their ledger without a compiled pass: what pools and hubs need of an exchange, in plain Python."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from abm.exchange.description import MONEY_UNITS
from abm.exchange.instrument import Instrument


class PlainAccounts:
    """Stands in for an `Exchange` with a ledger."""

    def __init__(self, instruments: Sequence[Instrument], accounts: int) -> None:
        self.instruments = tuple(instruments)
        self.accounts = SimpleNamespace(fees=0)
        self.accounts.cash, self.accounts.cash_reserved = np.zeros((2, accounts), np.int64)
        self.accounts.position, self.accounts.position_reserved = np.zeros((2, accounts, len(instruments)), np.int64)
        self._next = 1

    def index(self, name: str) -> int:
        return [instrument.name for instrument in self.instruments].index(name)

    def take_ids(self, count: int) -> int:
        self._next += count
        return self._next - count


class PlainLedger:
    """Stands in for a `Ledger`: amounts come as floats of currency and coins, as there."""

    def __init__(self, exchange: Any) -> None:
        self._exchange = exchange
        self.entries: dict[str, dict[str, int]] = {}

    def credit(self, rows: Any, why: str, *, cost: Any = None, **what: Any) -> None:
        self._enter(rows, why, 1, **what)

    def debit(self, rows: Any, why: str, **what: Any) -> None:
        self._enter(rows, why, -1, **what)

    def free_cash(self, rows: Any) -> Any:
        return (self._exchange.accounts.cash - self._exchange.accounts.cash_reserved)[rows]

    def _enter(self, rows: Any, why: str, sign: int, cash: Any = 0.0, coins: Any = 0.0, instrument: Any = None) -> None:
        accounts, index = self._exchange.accounts, self._exchange.index(instrument) if instrument else 0
        units = np.round(np.broadcast_to(np.asarray(cash, float), len(rows)) * MONEY_UNITS).astype(np.int64)
        lot = self._exchange.instruments[index].lot
        lots = np.floor(np.broadcast_to(np.asarray(coins, float), len(rows)) / lot + 1e-6).astype(np.int64)
        assert (units >= 0).all() and (lots >= 0).all() and (instrument or not lots.any()) and rows.dtype == np.int32
        if sign < 0:
            spare = (accounts.position - accounts.position_reserved)[rows, index]
            short = np.flatnonzero((units > self.free_cash(rows)) | (lots > spare))
            if len(short):
                raise ValueError(f"{why}: account {rows[short[0]]} has not so much free")
        accounts.cash[rows] += sign * units
        accounts.position[rows, index] += sign * lots
        entry = self.entries.setdefault(why, dict.fromkeys(["cash", *(i.name for i in self._exchange.instruments)], 0))
        entry["cash"] += sign * int(units.sum())
        entry[self._exchange.instruments[index].name] += sign * int(lots.sum())

    def audit(self) -> Any:
        """Every unit is in an account, and none of them is below zero."""
        accounts, faults = self._exchange.accounts, []
        residue = abs(int(accounts.cash.sum()) - sum(e["cash"] for e in self.entries.values()))
        for k, instrument in enumerate(self._exchange.instruments):
            residue += abs(int(accounts.position[:, k].sum()) - sum(e[instrument.name] for e in self.entries.values()))
        if residue or (accounts.cash < 0).any() or (accounts.position < 0).any():
            faults.append(f"{residue} missing, or an account is below zero")
        return SimpleNamespace(residue=residue, faults=tuple(faults))
