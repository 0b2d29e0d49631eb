"""The ledger: the only door through which cash and coins enter, and the audit that finds all of them again."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from abm.exchange.description import MONEY_UNITS, PPM
from abm.exchange.exchange import Exchange
from abm.exchange.messages import Side

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found: everything to the unit, and each fault with the account where it is."""

    cash_entered: int
    """Money units that entered the ledger."""
    cash_held: int
    """Money units in all accounts."""
    fees: int
    """Money units the venue earned."""
    lots_entered: dict[str, int]
    """Lots that entered, by instrument."""
    lots_held: dict[str, int]
    """Lots in all accounts, by instrument."""
    faults: tuple[str, ...]
    """One line for each thing that is wrong; empty if nothing is."""

    @property
    def residue(self) -> int:
        """Money units and lots that are missing or too many: 0 where all is conserved."""
        lots = sum(abs(self.lots_held[name] - entered) for name, entered in self.lots_entered.items())
        return abs(self.cash_held + self.fees - self.cash_entered) + lots

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def to_dict(self) -> dict[str, Any]:
        """The audit as plain values, for JSON."""
        return {
            "passed": self.passed,
            "residue": self.residue,
            "cash_entered": self.cash_entered,
            "cash_held": self.cash_held,
            "fees": self.fees,
            "money_units": MONEY_UNITS,
            "lots_entered": self.lots_entered,
            "lots_held": self.lots_held,
            "faults": list(self.faults),
        }


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
    ) -> None:
        """Credit accounts with what comes from outside.

        Args:
            rows: Accounts, each at most once.
            why: Where it comes from, such as `"opening"` or `"block reward"`.
            cash: Currency; one for all accounts or one for each. Rounded to a money unit.
            coins: Coins or shares of `instrument`; one for all accounts or one for each. Rounded down to a lot.
            instrument: Name; needed with coins.

        Raises:
            ValueError: An amount is negative, or coins have no instrument.
        """
        units = np.round(np.broadcast_to(np.asarray(cash, np.float64), len(rows)) * MONEY_UNITS).astype(np.int64)
        if (units < 0).any() or (np.asarray(coins) < 0).any():
            raise ValueError(f"{why}: an account cannot be credited with less than nothing")
        accounts = self._exchange.accounts
        accounts.cash[rows] += units
        self._cash[why] = self._cash.get(why, 0) + int(units.sum())
        if instrument is None:
            if np.any(coins):
                raise ValueError(f"{why}: coins of which instrument?")
            return
        index = self._exchange.index(instrument)
        lot = self._exchange.instruments[index].lot
        lots = np.floor(np.broadcast_to(np.asarray(coins, np.float64), len(rows)) / lot + 1e-6).astype(np.int64)
        accounts.position[rows, index] += lots
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

        Checked: cash and fees add up to what entered; lots of each instrument add up to what was issued; nothing is negative; each
        account's reserved cash and lots are exactly what its open orders hold back.
        """
        exchange, accounts = self._exchange, self._exchange.accounts
        names = [instrument.name for instrument in exchange.instruments]
        faults: list[str] = []
        entered, held, fees = sum(self._cash.values()), int(accounts.cash.sum()), int(accounts.fees)
        if held + fees != entered:
            faults.append(
                f"cash: {held} held and {fees} of fees are not the {entered} that entered ({held + fees - entered:+d})"
            )
        lots_entered = np.sum([np.zeros(len(names), np.int64), *self._lots.values()], axis=0)
        lots_held = accounts.position.sum(axis=0)
        for k, name in enumerate(names):
            if lots_held[k] != lots_entered[k]:
                faults.append(f"{name}: {lots_held[k]} lots held are not the {lots_entered[k]} issued")
        self._report(faults, accounts.cash < 0, "cash", accounts.cash)
        cash, lots = self._needed()
        self._report(faults, accounts.cash_reserved != cash, "reserved cash", accounts.cash_reserved, cash)
        self._report(
            faults, accounts.cash_reserved > accounts.cash, "reserved cash", accounts.cash_reserved, accounts.cash
        )
        for k, name in enumerate(names):
            position, reserved = accounts.position[:, k], accounts.position_reserved[:, k]
            if exchange.instruments[k].kind == "spot":
                self._report(faults, position < 0, f"{name} lots", position)
                self._report(faults, reserved > position, f"reserved {name} lots", reserved, position)
            self._report(faults, reserved != lots[:, k], f"reserved {name} lots", reserved, lots[:, k])
        return Audit(
            cash_entered=entered,
            cash_held=held,
            fees=fees,
            lots_entered=dict(zip(names, map(int, lots_entered), strict=True)),
            lots_held=dict(zip(names, map(int, lots_held), strict=True)),
            faults=tuple(faults),
        )

    def _needed(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Cash of each account, and lots of each account and instrument, that open orders hold back; computed from the orders."""
        exchange, accounts = self._exchange, self._exchange.accounts
        cash, lots = np.zeros(len(accounts.cash), np.int64), np.zeros(accounts.position.shape, np.int64)
        for owner in range(len(cash)):
            for order in exchange.orders_of(owner):
                instrument = exchange.instruments[order["instrument"]]
                if instrument.kind != "spot" or order["waiting"] or order["out"]:
                    continue
                left = int(order["quantity"]) + int(order["reserve"])
                if order["side"] == Side.SELL:
                    lots[owner, order["instrument"]] += left
                    continue
                tier = min(int(accounts.tier[owner]), len(instrument.fees) - 1)
                notional = int(order["price"]) * left * instrument.unit
                cash[owner] += notional + notional * max(0, round(instrument.fees[tier].maker * PPM)) // PPM
        return cash, lots

    @staticmethod
    def _report(faults: list[str], wrong: Any, what: str, found: Any, expected: Any = None) -> None:
        rows = np.flatnonzero(wrong)
        for row in rows[:_SHOWN]:
            faults.append(
                f"account {row}: {what} {found[row]}" + ("" if expected is None else f", but {expected[row]}")
            )
        if len(rows) > _SHOWN:
            faults.append(f"and {len(rows) - _SHOWN} more accounts: {what}")
