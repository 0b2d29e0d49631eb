"""Feed a day of real LOBSTER messages through the exchange and compare its book with the venue's after each message.

A LOBSTER file of N levels holds the messages that concern the N best levels of a side, and the book after each one.
What lies beyond is unseen, and what rested there has no order id. The rules of the replay follow from that, and from
nothing the engine does:

1.  *New order* (type 1): a limit order. *Partial cancel* (2): a reduction. *Delete* (3): a cancel.
2.  *Visible execution* (4): an immediate-or-cancel order of the opposite side, of that size at that price. The engine
    chooses the maker; it must be the order the file names.
3.  *Hidden executions* (5) and *crosses* (6) do not change the visible book: they are counted. A *halt* (7) sets the
    phase: -1 halted, 0 call, 1 continuous. Executions while trading is not continuous are fills of an auction whose
    other side the file does not have: they reduce the named order.
4.  *A level comes into view* that lay beyond the N levels of the row before (in the first row: every level). What the
    book shows there less a new order of this very message is **adopted**: one anonymous order at the front of the
    queue. It stands for orders whose ids and sequence nobody knows, so the queue of that level is *unknown* until the
    adopted lots are gone. A message about an order id that the replay has not seen arrive reduces them.
5.  *A level falls out of view* when better levels push it beyond the N-th. Its orders are then cancelled or executed
    without a message, new ones join without a message, and none of it can be recovered: the replay takes the level
    out and forgets its orders. If it returns it is adopted whole, and messages about the orders forgotten are
    messages about unknown ones. (Keeping the queue where the size is the same at its return is tempting and wrong: on
    the AAPL day more than eight hundred messages contradict it.)
6.  A level that appears or goes *inside* the visible range without a message is not adopted or taken out. It is a
    mismatch.
7.  *Out of turn*: the file executes an order while one that came to this price before it still rests there, by the
    file's own messages and sizes. No price-time engine can do that; the venue has reasons the file does not carry.
    The named order is reduced instead, and the engine must agree that it was not first.

What is compared: price and size at each of the levels asked for, both sides, after each message. A level is *known*
while none of it is adopted. Messages about prices beyond the levels of the book file (it may have fewer than the
message file) are counted and not sent.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from abm.exchange import Exchange
from abm.exchange.instrument import Instrument
from abm.exchange.messages import ANONYMOUS, MESSAGE, OUTCOME, TRADE, Kind, Phase, Reason, Records, Status, TimeInForce
from experiments.replay.files import Book, Messages, Type

BUY, SELL = 0, 1
MAX_SIZE = 10**12
HALT_PHASES = {-1: Phase.HALTED, 0: Phase.CALL, 1: Phase.CONTINUOUS}


class Execution(StrEnum):
    """What could be held against a visible execution of the file."""

    NAMED = "hit the named order"
    ADOPTED = "hit adopted lots"
    OVERTAKES_ORDER = "out of turn: an earlier order rests"
    OVERTAKES_ADOPTED = "out of turn: adopted lots rest"
    NOT_BEST = "behind the best price of the file"
    AUCTION = "while not in continuous trading"
    UNSEEN = "beyond the levels of the book"
    UNEXPLAINED = "of an order that should not be there"


@dataclass(frozen=True)
class Difference:
    """One price and size that the engine and the book file do not share (ticks, shares; 0 = no level)."""

    row: int
    side: str
    level: int
    engine: tuple[int, int]
    file: tuple[int, int]


@dataclass(frozen=True)
class LobsterReport:
    """What came of a replay. Rows count from 1.

    Attributes:
        messages: Messages of the file, by name of type.
        executions: Visible executions, by what could be held against them.
        out_of_turn: Rows of the executions that the file itself has out of turn, by cause.
        wrong_maker: Rows where the engine's maker, size or price is not the file's, or its queue not the file's.
        unseen: Messages beyond the levels of the book, not sent.
        unexplained: Rows about an order that, by the file's own book, cannot be there.
        strays: Trades of the engine that no execution of the file asked for.
        rejected: Messages the engine rejected.
        adopted_levels: Levels adopted.
        adopted_shares: Shares adopted.
        forgotten_levels: Levels that fell out of view with orders in them.
        levels_known: Levels compared whose queue was known.
        levels_unknown: Levels compared with adopted shares.
        mismatches_known: Of the known ones, those that differ.
        mismatches_unknown: Of the others, those that differ.
        first: The first differences.
        same_in_one_pass: Whether one pass over all messages gave the trades and outcomes of a pass for each.
        sent: Messages sent to the engine.
        one_pass_s: Seconds of one pass over all of them.
        single_passes_s: Seconds of a pass for each message of the file, the book read after each.
    """

    rows: int
    levels: int
    messages: dict[str, int]
    executions: dict[str, int]
    out_of_turn: dict[str, list[int]]
    wrong_maker: list[int]
    unseen: int
    unexplained: list[int]
    strays: int
    rejected: int
    adopted_levels: int
    adopted_shares: int
    forgotten_levels: int
    levels_known: int
    levels_unknown: int
    mismatches_known: int
    mismatches_unknown: int
    first: list[Difference]
    same_in_one_pass: bool
    sent: int
    one_pass_s: float
    single_passes_s: float

    @property
    def holds(self) -> bool:
        """Whether the engine is right wherever the file says what right is."""
        return not (self.mismatches_known or self.wrong_maker or self.strays or self.rejected) and self.same_in_one_pass


def replay_lobster(messages: Messages, book: Book, levels: int, tick: Decimal) -> LobsterReport:
    """Replay checked files of equal length.

    Args:
        messages: The message file.
        book: The order-book file.
        levels: Levels of each side to compare, at most those of the book.
        tick: Tick in dollars, the one the files were read with.

    Returns:
        The report; `holds` says whether the replay succeeded.
    """
    tape = _Tape(messages, book)
    sent = tape.records()
    highest = max(int(book.price.max()), int(sent["price"].max(initial=0)))
    instrument = Instrument(
        name="lobster", tick=float(tick), lot=1, max_price=float(tick * (highest + 2)), max_order=MAX_SIZE
    )
    Exchange([instrument]).match(sent[:1])  # so that loading the kernels is not timed
    started = time.perf_counter()
    whole = Exchange([instrument]).match(sent)
    one_pass_s = time.perf_counter() - started
    started = time.perf_counter()
    single = _pass_for_each_row(Exchange([instrument]), tape, sent, levels)
    single_passes_s = time.perf_counter() - started

    wrong, strays = tape.judge_trades(single.trades, sent)
    unknown = tape.adopted_levels_in(book, levels)
    price, size = book.price[..., :levels], book.size[..., :levels]
    differs = (single.price != price) | (single.size != size)
    first = [
        Difference(
            row=int(row) + 1,
            side=("bid", "ask")[side],
            level=int(level) + 1,
            engine=(int(single.price[side, row, level]), int(single.size[side, row, level])),
            file=(int(price[side, row, level]), int(size[side, row, level])),
        )
        for row, side, level in np.argwhere(differs.transpose(1, 0, 2))[:5]
    ]
    counts = np.bincount(messages.type, minlength=len(Type) + 1)
    return LobsterReport(
        rows=len(messages),
        levels=levels,
        messages={kind.name.lower(): int(counts[kind]) for kind in Type},
        executions={kind.value: tape.executions[kind] for kind in Execution},
        out_of_turn={kind.value: [row + 1 for row in rows] for kind, rows in tape.out_of_turn.items()},
        wrong_maker=sorted({row + 1 for row in [*wrong, *single.wrongly_first]}),
        unseen=tape.unseen,
        unexplained=[row + 1 for row in tape.unexplained],
        strays=strays,
        rejected=int(np.count_nonzero(single.outcomes["status"] == Status.REJECTED)),
        adopted_levels=len(tape.spells),
        adopted_shares=sum(spell.shares for spell in tape.spells),
        forgotten_levels=tape.forgotten,
        levels_known=int(np.count_nonzero((price > 0) & ~unknown)),
        levels_unknown=int(np.count_nonzero((price > 0) & unknown)),
        mismatches_known=int(np.count_nonzero(differs & ~unknown)),
        mismatches_unknown=int(np.count_nonzero(differs & unknown)),
        first=first,
        same_in_one_pass=np.array_equal(single.trades, whole.trades)
        and np.array_equal(single.outcomes, whole.outcomes),
        sent=len(sent),
        one_pass_s=one_pass_s,
        single_passes_s=single_passes_s,
    )


class _Seen(NamedTuple):
    """What the engine did and showed, a pass for each row."""

    trades: Records
    outcomes: Records
    price: npt.NDArray[np.int64]  # ticks, shape (2, rows, levels)
    size: npt.NDArray[np.int64]
    wrongly_first: list[int]  # rows that the file executes out of turn and the engine would not


def _pass_for_each_row(engine: Exchange, tape: "_Tape", sent: Records, levels: int) -> _Seen:
    """Send what belongs to each row of the file, and read the book after it."""
    trades, outcomes = [np.empty(0, TRADE)], [np.empty(0, OUTCOME)]
    price = np.zeros((2, len(tape.starts), levels), np.int64)
    size = np.zeros_like(price)
    wrongly_first = []
    for row, (first, after) in enumerate(pairwise([*tape.starts, len(sent)])):
        if row in tape.overtakers:
            place = engine.queue_position(tape.overtakers[row])
            if place is None or place[0] == 0:
                wrongly_first.append(row)
        if first == after:  # nothing was sent: the book is the one before
            price[:, row], size[:, row] = price[:, row - 1], size[:, row - 1]
            continue
        report = engine.match(sent[first:after])
        if len(report.trades):
            trades.append(report.trades)
        outcomes.append(report.outcomes)
        depth = engine.depth(0, levels)
        bids, asks = len(depth.bid_price), len(depth.ask_price)
        price[BUY, row, :bids], size[BUY, row, :bids] = depth.bid_price, depth.bid_quantity
        price[SELL, row, :asks], size[SELL, row, :asks] = depth.ask_price, depth.ask_quantity
    return _Seen(np.concatenate(trades), np.concatenate(outcomes), price, size, wrongly_first)


@dataclass
class _Spell:
    """The rows in which a level has adopted shares."""

    side: int
    price: int
    first_row: int
    shares: int
    end_row: int = -1


@dataclass
class _Level:
    """What the file's own messages say rests at a price: adopted shares in front, then orders in order of arrival."""

    adopted: int = 0
    adopted_id: int = 0
    spell: _Spell | None = None
    orders: list[int] = field(default_factory=list)


@dataclass
class _Order:
    side: int
    price: int
    left: int
    engine_id: int


class _Tape:
    """The messages for the engine, prepared from the two files alone, and what each of them must lead to."""

    def __init__(self, messages: Messages, book: Book) -> None:
        self.starts: list[int] = []
        self.executions = dict.fromkeys(Execution, 0)
        self.overtakers: dict[int, int] = {}  # row -> engine id of the order executed out of turn
        self.out_of_turn: dict[Execution, list[int]] = {Execution.OVERTAKES_ORDER: [], Execution.OVERTAKES_ADOPTED: []}
        self.makers: dict[int, int] = {}  # index in the tape -> engine id that must be the maker
        self.unexplained: list[int] = []
        self.unseen = self.forgotten = 0
        self.spells: list[_Spell] = []
        self._rows: list[tuple[int, ...]] = []
        self._orders: dict[int, _Order] = {}
        self._levels: dict[tuple[int, int], _Level] = {}
        self._phase = Phase.CONTINUOUS
        self._next_id = 1
        self._book = book
        self._walk(messages)

    def _walk(self, messages: Messages) -> None:
        """Go through the rows: adopt what comes into view, send the message, take out what falls out of view."""
        price = self._book.price
        moved = np.ones(len(messages), bool)
        moved[1:] = (price[:, 1:] != price[:, :-1]).any(axis=(0, 2))
        before = after = ([], [])  # type: tuple[list[int], list[int]]
        blind = True
        columns = (messages.time_ns, messages.type, messages.order, messages.size, messages.price, messages.side, moved)
        for row, (when, what, order, size, tick, side, has_moved) in enumerate(
            zip(*(c.tolist() for c in columns), strict=True)
        ):
            self._row, self._time = row, when
            self.starts.append(len(self._rows))
            if has_moved:
                after = (_present(price[BUY, row]), _present(price[SELL, row]))
                self._adopt(before, after, blind, (side, tick, size) if what == Type.NEW else None)
            if what == Type.HALT:
                self._phase = HALT_PHASES[tick]
                self._send(Kind.PHASE, side=int(self._phase))
            elif what <= Type.EXECUTION:
                view = after if what == Type.NEW else before
                if tick not in view[side] and (self._beyond(view, side, tick) or (blind and what != Type.NEW)):
                    self.unseen += 1
                    self.executions[Execution.UNSEEN] += what == Type.EXECUTION
                elif what == Type.NEW:
                    self._arrive(side, tick, order, size)
                elif what == Type.EXECUTION:
                    self._execute(side, tick, order, size, tick == before[side][0] if before[side] else False)
                else:
                    self._lessen(side, tick, order, size, whole=what == Type.DELETE)
            if has_moved:
                self._forget(before, after)
            before, blind = after, False
        for spell in self.spells:
            if spell.end_row < 0:
                spell.end_row = len(messages)

    def _beyond(self, view: tuple[list[int], list[int]], side: int, tick: int) -> bool:
        """Whether a price lies outside the visible levels of a side."""
        shown = view[side]
        return len(shown) == self._book.levels and (tick < shown[-1] if side == BUY else tick > shown[-1])

    def _adopt(
        self,
        before: tuple[list[int], list[int]],
        after: tuple[list[int], list[int]],
        blind: bool,
        new: tuple[int, int, int] | None,
    ) -> None:
        for side in (BUY, SELL):
            for place, tick in enumerate(after[side]):
                if tick in before[side] or not (blind or self._beyond(before, side, tick)):
                    continue
                shares = int(self._book.size[side, self._row, place])
                if new and new[:2] == (side, tick):
                    shares -= new[2]
                if shares > 0:
                    spell = _Spell(side, tick, self._row, shares)
                    self.spells.append(spell)
                    engine_id = self._send(Kind.LIMIT, side, tick, shares)
                    self._levels[side, tick] = _Level(shares, engine_id, spell)

    def _forget(self, before: tuple[list[int], list[int]], after: tuple[list[int], list[int]]) -> None:
        for side in (BUY, SELL):
            for tick in before[side]:
                if tick in after[side] or not self._beyond(after, side, tick):
                    continue
                level = self._levels.pop((side, tick), None)
                if level is None:
                    continue
                self.forgotten += 1
                if level.adopted:
                    self._send(Kind.CANCEL, order=level.adopted_id)
                    self._use_adopted(level, level.adopted)
                for order in level.orders:
                    self._send(Kind.CANCEL, order=self._orders.pop(order).engine_id)

    def _arrive(self, side: int, tick: int, order: int, size: int) -> None:
        if order in self._orders:
            self.unexplained.append(self._row)
            return
        self._orders[order] = _Order(side, tick, size, self._send(Kind.LIMIT, side, tick, size))
        self._levels.setdefault((side, tick), _Level()).orders.append(order)

    def _lessen(self, side: int, tick: int, order: int, size: int, whole: bool = False) -> bool:
        """Take shares from an order, or from what is adopted at its price. Returns whether there was anything."""
        level = self._levels.get((side, tick))
        known = self._orders.get(order)
        if known:
            if whole:
                self._send(Kind.CANCEL, order=known.engine_id)
            else:
                self._send(Kind.REDUCE, quantity=size, order=known.engine_id)
            self._use(order, known.left if whole else size)
        elif level and level.adopted:
            if size > level.adopted:
                self.unexplained.append(self._row)
                size = level.adopted
            self._send(Kind.REDUCE, quantity=size, order=level.adopted_id)
            self._use_adopted(level, size)
        else:
            self.unexplained.append(self._row)
            return False
        return True

    def _execute(self, side: int, tick: int, order: int, size: int, best: bool) -> None:
        level = self._levels.get((side, tick), _Level())
        known = self._orders.get(order)
        if self._phase is not Phase.CONTINUOUS or not best:
            there = self._lessen(side, tick, order, size)
            fate = Execution.AUCTION if self._phase is not Phase.CONTINUOUS else Execution.NOT_BEST
            self.executions[fate if there else Execution.UNEXPLAINED] += 1
        elif known and (level.adopted or level.orders[:1] != [order]):
            fate = Execution.OVERTAKES_ADOPTED if level.adopted else Execution.OVERTAKES_ORDER
            self.executions[fate] += 1
            self.out_of_turn[fate].append(self._row)
            self.overtakers[self._row] = known.engine_id
            self._lessen(side, tick, order, size)
        elif known or level.adopted >= size:
            self.makers[len(self._rows)] = known.engine_id if known else level.adopted_id
            self._send(Kind.LIMIT, 1 - side, tick, size, tif=TimeInForce.IOC)
            self.executions[Execution.NAMED if known else Execution.ADOPTED] += 1
            if known:
                self._use(order, size)
            else:
                self._use_adopted(level, size)
        else:
            self.executions[Execution.UNEXPLAINED] += 1
            self._lessen(side, tick, order, size)

    def _use(self, order: int, size: int) -> None:
        known = self._orders[order]
        known.left -= size
        if known.left <= 0:
            del self._orders[order]
            level = self._levels[known.side, known.price]
            level.orders.remove(order)
            if not level.orders and not level.adopted:
                del self._levels[known.side, known.price]

    def _use_adopted(self, level: _Level, size: int) -> None:
        level.adopted = max(level.adopted - size, 0)
        if not level.adopted and level.spell:
            level.spell.end_row = self._row
            if not level.orders:
                self._levels.pop((level.spell.side, level.spell.price), None)

    def _send(self, kind: Kind, side: int = 0, price: int = 0, quantity: int = 0, order: int = 0, tif: int = 0) -> int:
        """Append a message; an order gets the next id. Returns the id."""
        if kind is Kind.LIMIT:
            order = self._next_id
            self._next_id += 1
        self._rows.append((self._time, int(kind), side, price, quantity, order, int(tif)))
        return order

    def records(self) -> Records:
        """The tape."""
        columns = np.array(self._rows, np.int64).reshape(-1, 7)
        tape = np.zeros(len(columns), MESSAGE)
        for name, column in zip(("time", "kind", "side", "price", "quantity", "order", "tif"), columns.T, strict=True):
            tape[name] = column
        tape["owner"] = ANONYMOUS
        tape["reason"] = Reason.REPLAY
        return tape

    def judge_trades(self, trades: Records, tape: Records) -> tuple[list[int], int]:
        """Rows of executions that did not hit what they had to, whole and at its price; number of stray trades."""
        asked = np.array(list(self.makers), np.int64)
        makers = np.array(list(self.makers.values()), np.int64)
        wanted = np.isin(trades["message"], asked)
        hits = trades[wanted]
        right = np.zeros(len(asked), bool)
        place = np.searchsorted(asked, hits["message"])
        whole = (hits["maker"] == makers[place]) & (hits["quantity"] == tape["quantity"][asked[place]])
        right[place] = whole & (hits["price"] == tape["price"][asked[place]])
        right &= np.bincount(place, minlength=len(asked)) == 1
        rows = np.searchsorted(np.array(self.starts), asked[~right], side="right") - 1
        return rows.tolist(), int(np.count_nonzero(~wanted))

    def adopted_levels_in(self, book: Book, levels: int) -> npt.NDArray[np.bool_]:
        """Where the book file shows a level that has adopted shares: shape (2, rows, levels)."""
        unknown = np.zeros((2, len(book), levels), bool)
        for spell in self.spells:
            rows = slice(spell.first_row, spell.end_row)
            unknown[spell.side, rows] |= book.price[spell.side, rows, :levels] == spell.price
        return unknown


def _present(prices: Iterable[int]) -> list[int]:
    return [int(price) for price in prices if price]
