"""The clearing house: what it does between two passes, in the units people use."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from abm.clearing.between import (
    charge_interest,
    index_all,
    move_margin,
    open_positions,
    pay_funding,
    read_equity,
    read_fixed,
    read_liquidation_ticks,
    sample_premiums,
    settle_variation,
    socialise,
)
from abm.clearing.ledger import Ledger
from abm.clearing.rules import Bracket, Funding, Margin, initial_rate
from abm.exchange.description import MONEY_UNITS
from abm.exchange.exchange import Exchange

BILLION = 1_000_000_000

Rows = npt.NDArray[np.int32]


class ClearingHouse(Ledger):
    """Margin, funding and settlement of an exchange whose instruments have margin; and its ledger.

    What happens between two messages (reservations, margin checks, liquidations) is part of the pass. Here is what happens between two
    passes. Who falls short by it is liquidated as the next pass begins.
    """

    def __init__(self, exchange: Exchange) -> None:
        """Keep the books of an exchange that was made with `ledger=True`."""
        super().__init__(exchange)
        self._brackets: dict[str, tuple[Bracket, ...]] = {}

    def _margin(self, instrument: str) -> tuple[int, Margin]:
        index = self._exchange.index(instrument)
        margin = self._exchange.instruments[index].margin
        if margin is None:
            raise ValueError(f"{instrument} has no margin; give the instrument a margin")
        return index, margin

    def set_terms(self, rows: Rows, instrument: str, leverage: npt.ArrayLike, isolated: npt.ArrayLike = False) -> None:
        """Set with what leverage accounts hold an instrument, and whether each position stands alone.

        Args:
            rows: Accounts.
            instrument: Name of an instrument with margin.
            leverage: One for all or one for each, from 1 to what the first bracket allows.
            isolated: Margin is posted for the position alone; else all of the account's cash and crossed positions stand behind it.

        Raises:
            ValueError: An account has a position or orders in the instrument, or the leverage is out of range.
        """
        index, margin = self._margin(instrument)
        wanted = np.broadcast_to(np.asarray(leverage, np.float64), len(rows))
        highest = self._brackets.get(instrument, margin.rows)[0].leverage
        if len(rows) and not 1 <= wanted.min() <= wanted.max() <= highest:
            raise ValueError(f"{instrument}: leverage must lie between 1 and {highest:g}")
        if self._exchange.instruments[index].kind == "spot" and np.any(isolated):
            raise ValueError(
                f"{instrument}: a position in spot cannot be isolated: its price is paid from the account's cash"
            )
        fixed = self.terms_fixed(rows, instrument)
        if fixed.any():
            row = rows[np.flatnonzero(fixed)[0]]
            raise ValueError(f"{instrument}: account {row} has a position or orders; its leverage and mode are fixed")
        known, which = np.unique(wanted, return_inverse=True)
        initial = np.array([initial_rate(each) for each in known], np.int64)[which]
        self._exchange.set_terms(rows, index, initial, np.broadcast_to(np.asarray(isolated, np.bool_), len(rows)))

    def terms_fixed(self, rows: Rows, instrument: str) -> npt.NDArray[np.bool_]:
        """Which accounts have a position in an instrument, or resting orders that would open one, so that their leverage and mode stand."""
        index, _ = self._margin(instrument)
        fixed = np.zeros(len(rows), np.bool_)
        self._exchange.read(read_fixed, index, np.asarray(rows, np.int64), fixed)
        return fixed

    def add_margin(self, rows: Rows, instrument: str, amount: npt.ArrayLike) -> None:
        """Move cash to isolated positions, or (where negative) back down to their initial margin.

        Raises:
            ValueError: An account has no isolated position or not so much free. Nothing is moved then.
        """
        index, _ = self._margin(instrument)
        units = np.round(np.broadcast_to(np.asarray(amount, np.float64), len(rows)) * MONEY_UNITS).astype(np.int64)
        failed = self._exchange.between(move_margin, index, np.asarray(rows, np.int64), units)
        if failed >= 0:
            raise ValueError(
                f"{instrument}: account {rows[failed]} has no isolated position, or not so much free margin"
            )

    def open_positions(self, rows: Rows, instrument: str, lots: npt.ArrayLike, costs: npt.ArrayLike) -> None:
        """Give accounts the positions of a derivative that they hold as a run begins; an isolated one is posted its initial margin.

        Who is under water by it is liquidated as the first pass begins.

        Args:
            rows: Accounts, each at most once, without position or orders in the instrument.
            instrument: Name of a perpetual or future.
            lots: Of each account, short where negative; they add up to nothing, as a derivative has two sides.
            costs: Money units paid for each position, signed as the position; they add up to nothing, so that what one has lost another has gained.

        Raises:
            ValueError: They do not add up, the instrument is spot, or an account has a position, orders or not so much margin. Nothing is
                opened then.
        """
        index, _ = self._margin(instrument)
        sizes, paid = (np.ascontiguousarray(np.broadcast_to(x, len(rows)), np.int64) for x in (lots, costs))
        if self._exchange.instruments[index].kind == "spot":
            raise ValueError(f"{instrument} is of kind spot; credit its coins")
        if int(sizes.sum()) or int(paid.sum()):
            raise ValueError(
                f"{instrument}: opening positions add up to {int(sizes.sum())} lots and {int(paid.sum())} money units, not to nothing"
            )
        failed = self._exchange.between(open_positions, index, np.asarray(rows, np.int64), sizes, paid)
        if failed >= 0:
            raise ValueError(
                f"{instrument}: account {rows[failed]} has a position, orders or too little margin to open one"
            )

    # ------------------------------------------------------------------ what time brings

    def sample_premiums(self, instruments: Sequence[str]) -> None:
        """Take one sample of the premium of each of some perpetuals, as every `funding.sample` seconds."""
        self._exchange.read(sample_premiums, np.array([self._margin(name)[0] for name in instruments], np.int64))

    def funding_rate(self, instrument: str) -> float:
        """The rate that the samples since the last payment would bring now."""
        index, margin = self._margin(instrument)
        terms = margin.funding or Funding()
        row = self._exchange.margin_state(index)
        premium = float(row["premium_sum"] / row["premium_weight"]) if row["premium_weight"] > 0 else 0.0
        rate = premium + min(max(terms.interest - premium, -terms.clamp), terms.clamp)
        return min(max(rate, -terms.cap), terms.cap)

    def pay_funding(self, instrument: str, rate: float | None = None) -> float:
        """Let longs pay shorts, or the other way, and begin a new interval. Answers the rate paid.

        Args:
            instrument: Name of a perpetual.
            rate: Fraction of the notional at the mark; from the samples if left out.
        """
        index, _ = self._margin(instrument)
        paid = round((self.funding_rate(instrument) if rate is None else rate) * BILLION)
        self._exchange.between(pay_funding, index, paid)
        return paid / BILLION

    def settle_variation(self, instrument: str, price: float) -> None:
        """Pay the day's profits and losses of a future at its settlement price, in currency."""
        self._settle(instrument, price, False)

    def expire(self, instrument: str, price: float) -> None:
        """Settle a future for the last time, and close all its positions. Cancel its orders first, by messages."""
        self._settle(instrument, price, True)

    def _settle(self, instrument: str, price: float, expires: bool) -> None:
        index, _ = self._margin(instrument)
        traded = self._exchange.instruments[index]
        ticks = traded.ticks(price)
        if not 1 <= ticks < traded.n_ticks:
            raise ValueError(f"{instrument}: settlement price {price:g} must lie between one tick and max_price")
        self._exchange.between(settle_variation, index, ticks, expires, records=len(self._exchange.accounts.cash))

    def set_brackets(self, instrument: str, brackets: Sequence[Bracket]) -> None:
        """Replace the margin brackets of an instrument: a margin notice. Positions are held to them at once; leverage set before stays."""
        index, margin = self._margin(instrument)
        checked = Margin.model_validate({**margin.model_dump(), "brackets": tuple(brackets)})
        self._brackets[instrument] = checked.rows
        self._exchange.set_brackets(index, checked.rows)
        self._exchange.between(index_all, index)

    def charge_interest(self, rate: float) -> float:
        """Charge a fraction of negative cash, which is lent by the venue. Answers what was charged, in currency."""
        return float(self._exchange.between(charge_interest, round(rate * BILLION))) / MONEY_UNITS

    def socialise_losses(self) -> float:
        """Let those with a profit in this session pay what the insurance fund lacks, and begin a new session. Answers what was paid."""
        return float(self._exchange.between(socialise)) / MONEY_UNITS

    # ------------------------------------------------------------------ reading

    def equity(self, rows: Rows | None = None) -> npt.NDArray[np.int64]:
        """Money units that accounts are worth at the marks: cash, posted margin, and what open positions with margin add."""
        which = np.arange(len(self._exchange.accounts.cash)) if rows is None else np.asarray(rows)
        equity = np.zeros(len(which), np.int64)
        self._exchange.read(read_equity, which.astype(np.int64), equity)
        return equity

    def liquidation_prices(self, instrument: str) -> npt.NDArray[np.float64]:
        """For each account the price at which its position would be liquidated, other marks as they are; nan where there is none."""
        index, _ = self._margin(instrument)
        ticks = np.zeros(len(self._exchange.accounts.cash), np.int64)
        self._exchange.read(read_liquidation_ticks, index, ticks)
        return np.where(ticks > 0, ticks * self._exchange.instruments[index].tick, np.nan)
