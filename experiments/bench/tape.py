"""The tapes the exchange is timed on: a million zero-intelligence messages, the same to the byte wherever made.

Half of the messages add limit orders a geometric distance behind a slowly wandering mid, 45 in 100 cancel an order
drawn from those alive, and 5 in 100 are market orders. Some adds cross, since the mid moves on while others rest. The
first `prefill` messages only add: 20 000 on the standard tape, which then lives on a thousand orders or so, and 400 000
on the deep one.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from abm.exchange.instrument import Instrument
from abm.exchange.messages import ANONYMOUS, MESSAGE, Kind, Records, TimeInForce

Ints = npt.NDArray[np.int32]

LENGTH = 1_000_000
N_TICKS = 32_768
FIRST_MID = 16_384
FEWEST_ALIVE = 1_000  # a cancel becomes an add where fewer orders are alive

ADD, CANCEL, MARKET = 0, 1, 2
WIRE = ("kind", "side", "price", "quantity", "order")
"""Columns of a tape: what it does (ADD, CANCEL, MARKET), 0 buy or 1 sell, ticks, lots, id."""

INSTRUMENT = Instrument(name="bench", tick=1.0, lot=1.0, max_price=float(N_TICKS))


class Totals(NamedTuple):
    """What any price-time engine must come to at the end of a tape."""

    volume: int
    trades: int
    live: int
    best_bid: int
    best_ask: int


class Pass(NamedTuple):
    """One pass over a tape: how long it took, and what it came to."""

    seconds: float
    totals: Totals


class Tape(NamedTuple):
    """A tape by name, its rows (LENGTH, 5) in the columns of `WIRE`, and what an engine must come to."""

    name: str
    rows: Ints
    expected: Totals

    def messages(self) -> Records:
        """The tape as messages of the exchange, one nanosecond apart, owned by nobody."""
        kind, side, price, quantity, order = self.rows.T
        messages = np.zeros(len(self.rows), MESSAGE)
        messages["time"] = np.arange(len(messages))
        messages["kind"] = np.array([Kind.LIMIT, Kind.CANCEL, Kind.MARKET], np.uint8)[kind]
        messages["tif"] = np.where(kind == MARKET, TimeInForce.IOC, TimeInForce.GTC)
        messages["owner"] = ANONYMOUS
        messages["side"], messages["price"], messages["quantity"], messages["order"] = side, price, quantity, order
        return messages


PREFILL = {"standard": 20_000, "deep": 400_000}
EXPECTED = {
    "standard": Totals(volume=3_037_402, trades=118_729, live=1_173, best_bid=16_421, best_ask=16_422),
    "deep": Totals(volume=8_111_422, trades=317_952, live=138_979, best_bid=16_415, best_ask=16_416),
}


def make(name: str) -> Tape:
    """Make the tape `standard` or `deep`."""
    draws = np.random.default_rng(1)  # the order of the draws is part of the tape
    action = draws.random(LENGTH)
    side = draws.integers(0, 2, LENGTH).astype(np.int32)
    quantity = draws.integers(1, 101, LENGTH).astype(np.int32)
    distance = np.minimum(draws.geometric(0.08, LENGTH), 50)
    moves = draws.random(LENGTH) < 0.002
    mid = FIRST_MID + np.cumsum(moves * draws.choice(np.array([-1, 1]), LENGTH))
    price = np.where(side == 0, mid - distance, mid + distance).astype(np.int32)
    target = draws.random(LENGTH)

    kind = np.where(action < 0.45, CANCEL, np.where(action < 0.50, MARKET, ADD)).astype(np.int32)
    kind[: PREFILL[name]] = ADD
    rows = np.column_stack([kind, side, price, quantity, np.arange(1, LENGTH + 1, dtype=np.int32)])
    rows[kind == MARKET, 2] = 0
    _aim_cancels(rows, price, target, _empty_book())
    return Tape(name, rows, EXPECTED[name])


class _Book(NamedTuple):
    """Just enough of a price-time book to know which orders are alive. Order 0 is none."""

    first: Ints  # by price: the oldest order
    newest: Ints  # by price
    after: Ints  # by order: the next in its queue
    before: Ints
    price: Ints
    quantity: Ints
    alive: Ints  # the orders alive, in no order but a fixed one, of which a cancel draws one
    place: Ints  # by order: where in `alive`
    scalar: Ints  # best bid, best ask, how many are alive


BID, ASK, ALIVE = 0, 1, 2


def _empty_book() -> _Book:
    def by_order() -> Ints:
        return np.zeros(LENGTH + 1, np.int32)

    def by_price() -> Ints:
        return np.zeros(N_TICKS, np.int32)

    scalar = np.array([0, N_TICKS, 0], np.int32)
    return _Book(by_price(), by_price(), *(by_order() for _ in range(6)), scalar)


@njit(cache=True)
def _insert(book: _Book, order: int, side: int, price: int, quantity: int) -> None:
    last = book.newest[price]
    book.price[order], book.quantity[order] = price, quantity
    book.before[order], book.after[order] = last, 0
    book.newest[price] = order
    if last:
        book.after[last] = order
    else:
        book.first[price] = order
    book.alive[book.scalar[ALIVE]], book.place[order] = order, book.scalar[ALIVE]
    book.scalar[ALIVE] += 1
    if side == 0:
        book.scalar[BID] = max(book.scalar[BID], price)
    else:
        book.scalar[ASK] = min(book.scalar[ASK], price)


@njit(cache=True)
def _remove(book: _Book, order: int) -> None:
    price, before, after = book.price[order], book.before[order], book.after[order]
    if before:
        book.after[before] = after
    else:
        book.first[price] = after
    if after:
        book.before[after] = before
    else:
        book.newest[price] = before
    book.scalar[ALIVE] -= 1  # the last in the list takes the place of the one that goes
    last, gap = book.alive[book.scalar[ALIVE]], book.place[order]
    book.alive[gap], book.place[last] = last, gap
    while book.scalar[BID] > 0 and not book.first[book.scalar[BID]]:
        book.scalar[BID] -= 1
    while book.scalar[ASK] < N_TICKS and not book.first[book.scalar[ASK]]:
        book.scalar[ASK] += 1


@njit(cache=True)
def _take(book: _Book, side: int, limit: int, quantity: int) -> int:
    """Trade against the other side as far as `limit`; gives the lots that are left."""
    while quantity > 0:
        best = book.scalar[ASK if side == 0 else BID]
        beyond = (best > limit or best == N_TICKS) if side == 0 else (best < limit or best == 0)
        if beyond:
            break
        order = book.first[best]
        lots = min(quantity, book.quantity[order])
        quantity -= lots
        book.quantity[order] -= lots
        if not book.quantity[order]:
            _remove(book, order)
    return quantity


@njit(cache=True)
def _aim_cancels(rows: Any, price: Ints, target: npt.NDArray[np.float64], book: _Book) -> None:
    """Fill in whom each cancel is for, by playing the tape. Where too few are alive, the add drawn with it stands."""
    for m in range(len(rows)):
        kind, side, quantity, order = rows[m, 0], rows[m, 1], rows[m, 3], rows[m, 4]
        if kind == CANCEL and book.scalar[ALIVE] >= FEWEST_ALIVE:
            chosen = book.alive[int(target[m] * book.scalar[ALIVE])]
            rows[m, 1:4] = 0
            rows[m, 4] = chosen
            _remove(book, chosen)
        elif kind == MARKET:
            _take(book, side, N_TICKS - 1 if side == 0 else 0, quantity)
        else:
            rows[m, 0] = ADD
            left = _take(book, side, price[m], quantity)
            if left > 0:
                _insert(book, order, side, price[m], left)
