"""The ledger: the only door through which cash and coins enter, and the audit that finds all of them again."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from abm.clearing.between import enter, read_faults, read_free, read_needs
from abm.exchange.description import MONEY_UNITS
from abm.exchange.exchange import Exchange

_SHOWN = 5
_POSITION_FAULTS = {
    1: "{} position is not in the index where it should be; cash",
    2: "margin is posted for no {} position; cash",
    4: "{} orders do not reserve what they should; cash",
    8: "the crossed positions are miscounted; cash",
    16: "nothing stands behind negative cash:",
}


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found: everything to the unit, and each fault with the account where it is."""

    cash_entered: int
    """Money units that entered the ledger."""
    cash_held: int
    """Money units in all accounts, the insurance fund's and posted margins among them."""
    unrealised: int
    """Money units that open positions of derivatives are worth over what was paid for them, at whatever mark: they sum to the same."""
    fees: int
    """Money units the venue earned."""
    residue_of_funding: int
    """Money units that rounding of funding payments left."""
    fund: int
    """Money units of the insurance fund's cash, below zero where it owes; 0 where there is no fund."""
    lots_entered: dict[str, int]
    """Lots that entered, by instrument."""
    lots_held: dict[str, int]
    """Lots in all accounts, by instrument."""
    open_interest: dict[str, int]
    """Lots of open interest, by derivative with margin."""
    faults: tuple[str, ...]
    """One line for each thing that is wrong; empty if nothing is."""

    @property
    def residue(self) -> int:
        """Money units and lots that are missing or too many: 0 where all is conserved."""
        lots = sum(abs(self.lots_held[name] - entered) for name, entered in self.lots_entered.items())
        cash = self.cash_held + self.unrealised + self.fees + self.residue_of_funding - self.cash_entered
        return abs(cash) + lots

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def to_dict(self) -> dict[str, Any]:
        """The audit as plain values, for JSON."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return (
            {"passed": self.passed, "residue": self.residue, "money_units": MONEY_UNITS}
            | values
            | {"faults": list(self.faults)}
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Audit":
        """The audit that `to_dict` wrote."""
        known = {field.name: values[field.name] for field in fields(cls)}
        return cls(**known | {"faults": tuple(values["faults"])})


class Ledger:
    """What entered the accounts of an exchange, and why.

    The accounts themselves are the exchange's, and only matching moves what is in them; the ledger credits what comes from outside
    (opening balances, block rewards) and remembers it, so that `audit` can find every unit again.
    """

    def __init__(self, exchange: Exchange) -> None:
        """Keep the books of an exchange that was made with `ledger=True`."""
        self._exchange = exchange
        self._cash: dict[str, int] = {}
        self._lots: dict[str, npt.NDArray[np.int64]] = {}

    def credit(
        self,
        rows: npt.NDArray[np.int32],
        why: str,
        *,
        cash: npt.ArrayLike = 0.0,
        coins: npt.ArrayLike = 0.0,
        instrument: str | None = None,
        cost: npt.ArrayLike | None = None,
    ) -> None:
        """Credit accounts with what comes from outside.

        Args:
            rows: Accounts, each at most once.
            why: Where it comes from, such as `"opening"` or `"block reward"`.
            cash: Currency; one for all accounts or one for each. Rounded to a money unit.
            coins: Coins or shares of `instrument`; one for all accounts or one for each. Rounded down to a lot.
            instrument: Name, of kind spot; needed with coins.
            cost: What a coin cost its holder, in currency, from which his profit is counted; one or one for each account. The reference
                price where it is left out.

        Raises:
            ValueError: An amount is negative, or coins have no instrument.
        """
        units, lots, index = self._amounts(rows, why, cash, coins, instrument)
        paid = np.zeros(len(rows), np.int64)
        if index is not None:
            traded = self._exchange.instruments[index]
            price = (traded.reference_price or 0.0) if cost is None else cost
            paid = np.round(lots * np.asarray(price, np.float64) * traded.lot * MONEY_UNITS).astype(np.int64)
        self._enter(rows, why, units, lots, index, paid)

    def debit(
        self,
        rows: npt.NDArray[np.int32],
        why: str,
        *,
        cash: npt.ArrayLike = 0.0,
        coins: npt.ArrayLike = 0.0,
        instrument: str | None = None,
    ) -> None:
        """Take out of accounts what leaves for elsewhere; arguments as of `credit`.

        Raises:
            ValueError: An amount is negative or more than an account has free, or coins have no instrument. Nothing is taken then.
        """
        units, lots, index = self._amounts(rows, why, cash, coins, instrument)
        short = units > np.maximum(self.free_cash(rows), 0)
        if index is not None:
            accounts = self._exchange.accounts
            short |= lots > accounts.position[rows, index] - accounts.position_reserved[rows, index]
        if short.any():
            raise ValueError(f"{why}: account {rows[np.flatnonzero(short)[0]]} has not so much free")
        self._enter(rows, why, -units, -lots, index, np.zeros(len(rows), np.int64))

    def free_cash(self, rows: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Money units that accounts may pay out: not reserved, nor needed behind crossed positions."""
        free = np.zeros(len(rows), np.int64)
        self._exchange.read(read_free, np.asarray(rows, np.int64), free)
        return free

    def _amounts(
        self, rows: npt.NDArray[np.int32], why: str, cash: npt.ArrayLike, coins: npt.ArrayLike, instrument: str | None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int | None]:
        """Money units and lots of each account, and the number of the instrument."""
        units = np.round(np.broadcast_to(np.asarray(cash, np.float64), len(rows)) * MONEY_UNITS).astype(np.int64)
        if (units < 0).any() or (np.asarray(coins) < 0).any():
            raise ValueError(f"{why}: an account cannot be credited or debited with less than nothing")
        if instrument is None:
            if np.any(coins):
                raise ValueError(f"{why}: coins of which instrument?")
            return units, np.zeros(len(rows), np.int64), None
        index = self._exchange.index(instrument)
        traded = self._exchange.instruments[index]
        if traded.kind != "spot" and np.any(coins):
            raise ValueError(f"{why}: {instrument} is a {traded.kind}: positions come from trades alone")
        lots = np.floor(np.broadcast_to(np.asarray(coins, np.float64), len(rows)) / traded.lot + 1e-6).astype(np.int64)
        return units, lots, index

    def _enter(
        self,
        rows: npt.NDArray[np.int32],
        why: str,
        units: npt.NDArray[np.int64],
        lots: npt.NDArray[np.int64],
        index: int | None,
        costs: npt.NDArray[np.int64],
    ) -> None:
        where = -1 if index is None else index
        self._exchange.between(enter, np.asarray(rows, np.int64), units, where, lots, costs)
        self._cash[why] = self._cash.get(why, 0) + int(units.sum())
        if index is not None:
            entered = self._lots.setdefault(why, np.zeros(len(self._exchange.instruments), np.int64))
            entered[index] += int(lots.sum())

    @property
    def entries(self) -> dict[str, dict[str, int]]:
        """What entered and why: money units under `cash`, lots under the names of instruments."""
        names = [instrument.name for instrument in self._exchange.instruments]
        return {
            why: {"cash": cash}
            | {name: int(lots) for name, lots in zip(names, self._lots.get(why, ()), strict=False) if lots}
            for why, cash in self._cash.items()
        }

    def audit(self) -> Audit:
        """Prove that cash and coins are conserved and that reservations are what open orders need, or name where they are not.

        Checked: cash, unrealised profit, fees and the residue of funding add up to what entered; lots of each spot instrument add up to what
        was issued and of each derivative to nothing; open interest is half the absolute positions; nothing is negative that may not be; each
        account's reservations are exactly what its open orders need; every position that could be liquidated is in the index.
        """
        exchange, accounts = self._exchange, self._exchange.accounts
        instruments = exchange.instruments
        names = [instrument.name for instrument in instruments]
        margined = [k for k, instrument in enumerate(instruments) if instrument.margin]
        derivatives = [k for k in margined if instruments[k].kind != "spot"]
        faults: list[str] = []
        entered, fees = sum(self._cash.values()), int(accounts.fees)
        held = int(accounts.cash.sum()) + sum(int(accounts.margin[:, k].sum()) for k in derivatives)
        unrealised = -sum(int(accounts.basis[:, k].sum()) for k in derivatives)
        missing = held + unrealised + fees + accounts.residue - entered
        if missing:
            faults.append(
                f"cash: {held} held, {unrealised} unrealised, {fees} of fees and {accounts.residue} of funding are not the {entered} that "
                f"entered ({missing:+d})"
            )
        lots_entered = np.sum([np.zeros(len(names), np.int64), *self._lots.values()], axis=0)
        lots_held = np.array([int(accounts.position[:, k].sum()) for k in range(len(names))])
        interest = {names[k]: int(np.abs(accounts.position[:, k]).sum()) for k in derivatives}
        for k, name in enumerate(names):
            if lots_held[k] != lots_entered[k]:
                faults.append(f"{name}: {lots_held[k]} lots held are not the {lots_entered[k]} issued")
            if k in derivatives and interest[name] != exchange.open_interest(k) * 2:
                faults.append(
                    f"{name}: {interest[name]} lots of positions are not twice the open interest {exchange.open_interest(k)}"
                )
        self._check_reservations(faults)
        if margined:
            self._check_positions(faults, names)
        return Audit(
            cash_entered=entered,
            cash_held=held,
            unrealised=unrealised,
            fees=fees,
            residue_of_funding=accounts.residue,
            fund=int(accounts.cash[exchange.fund]) if margined else 0,
            lots_entered=dict(zip(names, map(int, lots_entered), strict=True)),
            lots_held=dict(zip(names, map(int, lots_held), strict=True)),
            open_interest={name: lots // 2 for name, lots in interest.items()},
            faults=tuple(faults),
        )

    def _check_reservations(self, faults: list[str]) -> None:
        """Hold what accounts have reserved against what their open orders need."""
        exchange, accounts = self._exchange, self._exchange.accounts
        shape = accounts.position.shape
        cash = np.zeros(shape[0], np.int64)
        lots, bids, asks = (np.zeros((shape[1], shape[0]), np.int64).T for _ in range(3))
        exchange.read(read_needs, cash, lots, bids, asks)
        reserved = accounts.cash_reserved.copy()
        for k, instrument in enumerate(exchange.instruments):
            name, position, held = instrument.name, accounts.position[:, k], accounts.position_reserved[:, k]
            if instrument.margin:
                reserved -= held
                self._report(
                    faults, accounts.bids[:, k] != bids[:, k], f"{name} margin of bids", accounts.bids[:, k], bids[:, k]
                )
                self._report(
                    faults, accounts.asks[:, k] != asks[:, k], f"{name} margin of asks", accounts.asks[:, k], asks[:, k]
                )
                continue
            if instrument.kind == "spot":
                self._report(faults, position < 0, f"{name} lots", position)
                self._report(faults, held > position, f"reserved {name} lots", held, position)
            self._report(faults, held != lots[:, k], f"reserved {name} lots", held, lots[:, k])
        self._report(faults, reserved != cash, "reserved cash", reserved, cash)
        if not any(instrument.margin for instrument in exchange.instruments):
            self._report(faults, accounts.cash < 0, "cash", accounts.cash)
            self._report(faults, reserved > accounts.cash, "reserved cash", reserved, accounts.cash)

    def _check_positions(self, faults: list[str], names: list[str]) -> None:
        """Look for positions that the index would miss, and for money that stands where nothing does."""
        shape = self._exchange.accounts.position.shape
        found = np.zeros((shape[1], shape[0]), np.uint8).T
        self._exchange.read(read_faults, found)
        for k, name in enumerate(names):
            for bit, what in _POSITION_FAULTS.items():
                which = (found[:, k] & bit) != 0
                self._report(faults, which, what.format(name), np.where(which, self._exchange.accounts.cash, 0))

    @staticmethod
    def _report(faults: list[str], wrong: Any, what: str, found: Any, expected: Any = None) -> None:
        rows = np.flatnonzero(wrong)
        for row in rows[:_SHOWN]:
            faults.append(
                f"account {row}: {what} {found[row]}" + ("" if expected is None else f", but {expected[row]}")
            )
        if len(rows) > _SHOWN:
            faults.append(f"and {len(rows) - _SHOWN} more accounts: {what}")
