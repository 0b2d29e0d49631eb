"""The exchange: books of any number of instruments, one compiled pass over the messages of all of them in time order."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from abm.clearing.rules import Bracket
from abm.exchange import checkpoint
from abm.exchange.compilation import address
from abm.exchange.instrument import Instrument
from abm.exchange.matching import match
from abm.exchange.memory import ISOLATED, OUTPUTS, Memory
from abm.exchange.messages import EVENT, LIQUIDATION, MESSAGE, OUTCOME, TRADE, Records, Side, join
from abm.exchange.reading import (
    LEVEL_ROW,
    RESTING_ORDER,
    VIEW,
    Cost,
    Depth,
    QueuePosition,
    View,
    frozen,
    read_cost,
    read_levels,
    read_lots_within,
    read_order,
    read_owner,
    read_position,
    read_queue,
    read_view,
)


class Report(NamedTuple):
    """What a tape led to: every trade, one outcome for each message, what happened besides, and what clearing did to accounts."""

    trades: Records
    outcomes: Records
    events: Records
    liquidations: Records


class Accounts:
    """The accounts of an exchange as live arrays; what is written here is what the pass sees.

    Money is in money units, positions in lots; of the arrays over (accounts, instruments) each column lies in one piece. Where an
    instrument has margin, write only through `abm.clearing.ClearingHouse`: positions are indexed by liquidation price.
    """

    def __init__(self, memory: Memory, instruments: int) -> None:
        self._memory = memory
        self._instruments = instruments

    def _holdings(self, field: str) -> npt.NDArray[np.int64]:
        column = self._memory.tables["holdings"][field][1:]
        return column.reshape(self._instruments, self._memory["n_accounts"]).T

    def _of_accounts(self, field: str) -> npt.NDArray[Any]:
        return self._memory.tables["accounts"][field][: self._memory["n_accounts"]]

    @property
    def cash(self) -> npt.NDArray[np.int64]:
        """Cash of each account, in money units."""
        return self._of_accounts("cash")

    @property
    def cash_reserved(self) -> npt.NDArray[np.int64]:
        """Cash that resting buys would need, in money units."""
        return self._of_accounts("reserved")

    @property
    def position(self) -> npt.NDArray[np.int64]:
        """Lots of each account in each instrument."""
        return self._holdings("position")

    @property
    def position_reserved(self) -> npt.NDArray[np.int64]:
        """Lots that resting sales would need; of an instrument with margin, money that its orders reserve."""
        return self._holdings("reserved")

    @property
    def basis(self) -> npt.NDArray[np.int64]:
        """Money paid for each position, signed as the position: what is open, at its average entry."""
        return self._holdings("basis")

    @property
    def margin(self) -> npt.NDArray[np.int64]:
        """Margin posted for isolated positions."""
        return self._holdings("margin")

    @property
    def bids(self) -> npt.NDArray[np.int64]:
        """Initial margins of resting buys."""
        return self._holdings("bids")

    @property
    def asks(self) -> npt.NDArray[np.int64]:
        """Initial margins of resting sales."""
        return self._holdings("asks")

    @property
    def realised(self) -> npt.NDArray[np.int64]:
        """Profit realised so far, fees and funding not counted."""
        return self._holdings("realised")

    @property
    def fees_paid(self) -> npt.NDArray[np.int64]:
        """Fees paid to the venue so far."""
        return self._holdings("fees")

    @property
    def funding(self) -> npt.NDArray[np.int64]:
        """Funding received so far, less what was paid."""
        return self._holdings("funding")

    @property
    def tier(self) -> npt.NDArray[np.uint8]:
        """Fee tier of each account. Change it only while the account has no resting order: reservations are reckoned by tier."""
        return self._of_accounts("tier")

    @property
    def fees(self) -> int:
        """What the venue has earned in fees, in money units."""
        return self._memory["fee_income"]

    @property
    def residue(self) -> int:
        """What rounding of funding payments has left, in money units."""
        return self._memory["residue"]


class Exchange:
    """Price-time (or pro-rata) books with one ledger of accounts behind them.

    Args:
        instruments: what is traded; the place in the sequence is an instrument's number in messages.
        accounts: owners are `0 .. accounts - 1` and their positions are kept; 0 for owners that are only labels.
        ledger: keep cash too, and check that orders can be paid for. All instruments must then have one currency. Where any has margin, one
            more account is added: the insurance fund.
        note_shifts: note each change of a mid and whose doing it was; see `take_shifts`.

    Raises:
        ValueError: no instruments, two of one name, several currencies with a ledger, or a rule that names an unknown instrument.
    """

    def __init__(
        self, instruments: Sequence[Instrument], *, accounts: int = 0, ledger: bool = False, note_shifts: bool = False
    ) -> None:
        self.instruments = tuple(instruments)
        self._numbers = {instrument.name: i for i, instrument in enumerate(self.instruments)}
        if not self.instruments or len(self._numbers) < len(self.instruments):
            raise ValueError("an exchange needs at least one instrument, and no two of one name")
        if ledger and (accounts < 1 or len({instrument.currency for instrument in self.instruments}) > 1):
            raise ValueError("a ledger needs at least one account, and one currency for all instruments")
        self._memory = Memory(self.instruments, accounts, ledger)
        self._memory["noting"] = note_shifts
        self._next_id = 1
        self._sequence = 0
        self._forced: list[Records] = []
        self.accounts = Accounts(self._memory, len(self.instruments))

    def index(self, name: str) -> int:
        """Number of an instrument.

        Raises:
            KeyError: no instrument has the name.
        """
        if name not in self._numbers:
            raise KeyError(f"no instrument {name!r}; there are {', '.join(self._numbers)}")
        return self._numbers[name]

    def take_ids(self, count: int) -> int:
        """Reserve `count` order ids that follow one another, none of them used, and return the first."""
        first = max(self._next_id, self._memory["highest_id"] + 1)
        self._next_id = first + count
        return first

    @property
    def fund(self) -> int:
        """Number of the insurance fund's account; -1 where no instrument has margin."""
        return self._memory["fund"]

    @property
    def time(self) -> int:
        """Time of the latest message, in ns; the least int64 before the first."""
        return self._memory["time"]

    @property
    def messages(self) -> int:
        """Number of messages processed since the exchange began."""
        return self._sequence

    def match(self, tape: Records) -> Report:
        """Process a tape of `MESSAGE` records, sorted by time.

        Returns:
            The trades and events in the order in which they happened, and one outcome for each message.

        Raises:
            ValueError: the tape goes back in time; what stands before that has been processed.
        """
        tape = np.ascontiguousarray(tape, MESSAGE)
        if len(tape) == 0:
            return Report(np.empty(0, TRADE), np.empty(0, OUTCOME), np.empty(0, EVENT), np.empty(0, LIQUIDATION))
        memory, done, last = self._memory, 0, len(tape)
        memory.prepare(last)
        outcomes = memory.outcomes(last)
        messages, answers = address(tape), address(outcomes)
        parts: list[list[Records]] = [[], [], [*self._forced]]
        while True:
            done = match(memory.engine, messages, last, answers, done, self._sequence)
            for part, name in zip(parts, OUTPUTS, strict=True):
                part.append(memory.drain(name))
            if done < 0 or (done == last and not (memory["unsettled"] or memory["following"])):
                break
            memory.make_room()
            if done < last:
                memory.admit(tape[done], last - done)
        if done < 0:
            self._sequence += -1 - done
            raise ValueError(
                f"message {-1 - done} of the tape is earlier than the one before it; sort the tape by time"
            )
        memory["time"] = tape["time"].item(last - 1)
        self._sequence += last
        self._forced.clear()
        trades, events, liquidations = (join(part, part[0].dtype) for part in parts)
        return Report(trades, outcomes, events, liquidations)

    def take_shifts(self) -> Records:
        """The changes of mids since they were last taken, as `SHIFT` records in the order in which they happened.

        Of each instrument they add up to the way of its mid, from the reference price (or else the first mid) to the last one that both sides
        made.
        """
        memory = self._memory
        taken = memory.tables["shifts"][: memory["n_shifts"]].copy()
        memory["n_shifts"] = 0
        return taken

    def open_interest(self, instrument: int) -> int:
        """Lots held long, which are as many as are held short, in an instrument with margin."""
        return int(self._memory.tables["books"]["open_interest"][instrument]) // 2

    def between(self, kernel: Callable[..., Any], *arguments: Any, records: int = 0) -> Any:
        """Run a kernel of the clearing house between two passes; what it does to accounts (at most `records` rows) is in the next report."""
        memory = self._memory
        if memory["n_liquidations"]:
            self._forced.append(memory.drain("liquidations"))
        memory["wanted"] = records
        memory.make_room()
        memory["wanted"] = memory["current"] = memory["n_moves"] = 0
        memory["sequence"] = self._sequence
        answer = kernel(memory.engine, *arguments)
        if memory["n_liquidations"]:
            self._forced.append(memory.drain("liquidations"))
        return answer

    def read(self, kernel: Callable[..., Any], *arguments: Any) -> Any:
        """Run a kernel that moves nothing and writes no records, and so needs no room for them."""
        return kernel(self._memory.engine, *arguments)

    def margin_state(self, instrument: int) -> Any:
        """The record of an instrument's margin: index, funding rate, samples of the premium."""
        return self._memory.tables["margins"][instrument]

    def set_brackets(self, instrument: int, brackets: Sequence[Bracket]) -> None:
        """Give an instrument other margin brackets; `ClearingHouse.set_brackets` does this and looks at all its positions again."""
        self._memory.set_brackets(instrument, brackets)

    def set_terms(
        self, rows: npt.NDArray[Any], instrument: int, initial: npt.NDArray[np.int64], isolated: npt.NDArray[np.bool_]
    ) -> None:
        """Set initial margin rates (parts per million) and margin modes of accounts that have neither position nor orders in the instrument."""
        accounts = self._memory["n_accounts"]
        places = 1 + instrument * accounts + np.asarray(rows, np.int64)
        table = self._memory.tables["holdings"]
        table["initial"][places] = initial
        table["flags"][places] = (table["flags"][places] & ~np.uint8(ISOLATED)) | (isolated * np.uint8(ISOLATED))

    def view(self) -> View:
        """What anyone may see now."""
        rows = self.tops()
        return View(**{field: frozen(rows, field) for field in View._fields})

    def tops(self) -> Records:
        """The same as one `VIEW` record for each instrument, which takes less time to make."""
        rows = np.empty(len(self.instruments), VIEW)
        read_view(self._memory.engine, rows)
        return rows

    def _best(self, instrument: int) -> tuple[int, int]:
        """Best bid and best ask in ticks, 0 where there is none."""
        top = self.tops()[instrument]
        return int(top["best_bid"]), int(top["best_ask"])

    def depth(self, instrument: int, levels: int) -> Depth:
        """The best `levels` displayed levels of each side; costs what it returns."""
        return Depth(
            *(
                frozen(rows, field)
                for rows in (self.levels(instrument, side, levels) for side in (Side.BUY, Side.SELL))
                for field in ("price", "quantity", "orders")
            )
        )

    def levels(self, instrument: int, side: Side, count: int) -> Records:
        """The best `count` displayed levels of one side as `LEVEL_ROW` records, best first."""
        rows = np.empty(count, LEVEL_ROW)
        furthest = 0 if side == Side.BUY else self.instruments[instrument].n_ticks
        found: int = read_levels(self._memory.engine, instrument, int(side), rows, furthest)
        return rows[:found]

    def depth_within(self, instrument: int, bps: float) -> tuple[int, int]:
        """Lots displayed on the bid and the ask side within `bps` basis points of the mid; (0, 0) where a side is empty."""
        bid, ask = self._best(instrument)
        if not (bid and ask):
            return 0, 0
        mid = (bid + ask) / 2
        low, high = int(np.ceil(mid * (1 - bps / 1e4))), int(np.floor(mid * (1 + bps / 1e4)))
        engine = self._memory.engine
        return read_lots_within(engine, instrument, 0, low), read_lots_within(engine, instrument, 1, high)

    def cost_to_trade(self, instrument: int, side: Side, notional: float) -> Cost:
        """What it would cost to buy or sell `notional` (in currency) at once, without doing it."""
        traded = self.instruments[instrument]
        wanted = notional / (traded.tick * traded.lot)
        lots, paid, worst = read_cost(self._memory.engine, instrument, int(side), float(wanted))
        bid, ask = self._best(instrument)
        average = paid / lots if lots else float("nan")
        mid = (bid + ask) / 2 if bid and ask else float("nan")
        slippage = (average / mid - 1) * 1e4 * (1 if side == Side.BUY else -1)
        return Cost(lots, average, worst, slippage, paid >= wanted)

    def order(self, order_id: int) -> Records | None:
        """A live order as a `RESTING_ORDER` record, or None."""
        rows = np.empty(1, RESTING_ORDER)
        return rows[0] if read_order(self._memory.engine, order_id, rows) else None

    def queue(self, instrument: int, side: Side, price: int) -> Records:
        """The orders of a level as `RESTING_ORDER` records, in priority order."""
        return self._rows(read_queue, instrument, int(side), price)

    def orders_of(self, owner: int) -> Records:
        """The live orders of an owner as `RESTING_ORDER` records, oldest first."""
        return self._rows(read_owner, owner)

    def open_orders(self, owner: int) -> npt.NDArray[np.int32]:
        """Ids of the live orders of an owner, oldest first."""
        return np.ascontiguousarray(self.orders_of(owner)["order"])

    def _rows(self, read: Any, *where: int) -> Records:
        rows: Records = np.empty(64, RESTING_ORDER)
        count = read(self._memory.engine, *where, rows)
        if count > len(rows):
            rows = np.empty(count, RESTING_ORDER)
            read(self._memory.engine, *where, rows)
        return rows[:count]

    def queue_position(self, order_id: int) -> QueuePosition | None:
        """How many orders and lots stand before a resting order; None where it does not rest."""
        ahead, lots = read_position(self._memory.engine, order_id)
        return QueuePosition(ahead, lots) if ahead >= 0 else None

    def save(self, path: str | Path) -> None:
        """Write the whole state to one file, from which `load` continues bit for bit."""
        state = {"next_id": self._next_id, "sequence": self._sequence}
        checkpoint.write(Path(path), self.instruments, state, self._memory)

    @classmethod
    def load(cls, path: str | Path) -> "Exchange":
        """The exchange that `save` wrote.

        Raises:
            CheckpointError: the file is of another version, truncated, or was edited.
        """
        instruments, state, memory = checkpoint.read(Path(path))
        exchange = cls.__new__(cls)
        exchange.instruments = instruments
        exchange._numbers = {instrument.name: i for i, instrument in enumerate(instruments)}
        exchange._memory = memory
        exchange._next_id, exchange._sequence = state["next_id"], state["sequence"]
        exchange._forced = []
        exchange.accounts = Accounts(memory, len(instruments))
        return exchange
