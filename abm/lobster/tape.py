"""LOBSTER messages as messages of the exchange.

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
8.  Messages about prices beyond the levels of the book file (it may have fewer than the message file) are counted and
    not sent.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from abm.exchange.messages import ANONYMOUS, MESSAGE, Kind, Phase, Reason, Records, TimeInForce
from abm.lobster.files import Book, Messages, Type

BUY, SELL = 0, 1
_HALT_PHASES = {-1: Phase.HALTED, 0: Phase.CALL, 1: Phase.CONTINUOUS}


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


@dataclass
class Spell:
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
    spell: Spell | None = None
    orders: list[int] = field(default_factory=list)


@dataclass
class _Order:
    side: int
    price: int
    left: int
    engine_id: int


class Tape:
    """The messages for the exchange, prepared from the two files alone, and what each of them must lead to.

    Attributes:
        starts: For each row of the files the number of messages before those that it leads to.
        executions: Visible executions, by what could be held against them.
        overtakers: By row, the order that it executes out of turn.
        out_of_turn: Those rows, by cause.
        makers: By number of message, the order that must be the maker.
        unexplained: Rows about an order that, by the file's own book, cannot be there.
        unseen: Messages beyond the levels of the book, which are not sent.
        forgotten: Levels that fell out of view with orders in them.
        spells: When levels had adopted shares.
    """

    def __init__(self, messages: Messages, book: Book) -> None:
        self.starts: list[int] = []
        self.executions = dict.fromkeys(Execution, 0)
        self.overtakers: dict[int, int] = {}
        self.out_of_turn: dict[Execution, list[int]] = {Execution.OVERTAKES_ORDER: [], Execution.OVERTAKES_ADOPTED: []}
        self.makers: dict[int, int] = {}
        self.unexplained: list[int] = []
        self.unseen = self.forgotten = 0
        self.spells: list[Spell] = []
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
                self._phase = _HALT_PHASES[tick]
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
                    spell = Spell(side, tick, self._row, shares)
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
            self._take(known.engine_id, size, whole or size == known.left)
            self._use(order, known.left if whole else size)
        elif level and level.adopted:
            if size > level.adopted:
                self.unexplained.append(self._row)
                size = level.adopted
            self._take(level.adopted_id, size, size == level.adopted)
            self._use_adopted(level, size)
        else:
            self.unexplained.append(self._row)
            return False
        return True

    def _take(self, engine_id: int, size: int, all_of_it: bool) -> None:
        """Take shares from an order. What ends is cancelled, so that it ends too where others have traded with it."""
        if all_of_it:
            self._send(Kind.CANCEL, order=engine_id)
        else:
            self._send(Kind.REDUCE, quantity=size, order=engine_id)

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
        """The messages: `MESSAGE` records of nobody's orders for instrument 0, with ids from 1 and times in ns after midnight."""
        columns = np.array(self._rows, np.int64).reshape(-1, 7)
        tape = np.zeros(len(columns), MESSAGE)
        for name, column in zip(("time", "kind", "side", "price", "quantity", "order", "tif"), columns.T, strict=True):
            tape[name] = column
        tape["owner"] = ANONYMOUS
        tape["reason"] = Reason.REPLAY
        return tape


def _present(prices: Iterable[int]) -> list[int]:
    return [int(price) for price in prices if price]
