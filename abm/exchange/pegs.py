"""Pegged orders: they rest at the best price that others make on their side, and follow it."""

from typing import Any

import numpy as np

from abm.clearing.reservation import unpayable
from abm.exchange.compilation import compiled
from abm.exchange.levels import level_of, next_level
from abm.exchange.memory import HIDDEN, PEG, QUEUES, SELL, order_at, queue_at, term_at
from abm.exchange.orders import lift, place


@compiled
def peg_reference(e: Any, i: int, side: int) -> int:
    """Best displayed price of a side that an order other than a peg makes; 0 none."""
    queue = queue_at(e.queues, i * QUEUES + side)
    tick = np.int64(queue.best)
    while tick != queue.none:
        slot = np.int64(level_of(e, queue, tick).head)
        while slot != 0:
            order = order_at(e.orders, slot)
            if (order.flags & (PEG | HIDDEN)) == 0:
                return tick
            slot = np.int64(order.next)
        tick = next_level(e, queue, tick)
    return np.int64(0)


@compiled
def peg_price(e: Any, book: Any, slot: int, side: int, reference: int) -> int:
    """Where a peg rests for this reference; 0 where it has to wait."""
    if reference == 0:
        return np.int64(0)
    term = term_at(e.terms, slot)
    price = reference - term.distance if side == 0 else reference + term.distance
    if not 1 <= price < book.n_ticks:
        return np.int64(0)
    if term.limit > 0:
        return min(price, np.int64(term.limit)) if side == 0 else max(price, np.int64(term.limit))
    return price


@compiled
def put_peg(e: Any, book: Any, i: int, slot: int, side: int, reference: int) -> None:
    """Let a peg that is out of the book rest where the reference puts it, if it can."""
    order = order_at(e.orders, slot)
    price = peg_price(e, book, slot, side, reference)
    if price == 0:
        return
    if unpayable(e, book, i, np.int64(order.owner), side, price, np.int64(order.quantity)) != 0:
        return
    order.price = price
    place(e, book, slot)


@compiled
def move_pegs(e: Any, book: Any, i: int, side: int) -> None:
    """Let the pegs of a side follow its reference where it has changed."""
    reference = peg_reference(e, i, side)
    known = book.peg_buy if side == 0 else book.peg_sell
    if reference == known:
        return
    if side == 0:
        book.peg_buy = reference
    else:
        book.peg_sell = reference
    slot = np.int64(book.list_first)
    while slot != 0:
        order = order_at(e.orders, slot)
        if (order.flags & PEG) != 0 and (order.flags & SELL) == side:
            lift(e, book, slot)
        slot = np.int64(term_at(e.terms, slot).list_next)
    slot = np.int64(book.list_first)
    while slot != 0:
        order = order_at(e.orders, slot)
        if (order.flags & PEG) != 0 and (order.flags & SELL) == side:
            put_peg(e, book, i, slot, side, reference)
        slot = np.int64(term_at(e.terms, slot).list_next)
