"""The checks that an order meets each time it enters the book, and the way back in for orders that waited outside."""

from typing import Any

import numpy as np

from abm.clearing.reservation import funded, has_funds, margin_refusal, remaining
from abm.exchange.collars import outside_band
from abm.exchange.compilation import compiled
from abm.exchange.entry import FOK, GTC, IOC, LIMIT, MARKET, REDUCE_FLAG, enter_order, fillable, reducible, within
from abm.exchange.memory import ON_MARGIN, QUEUES, REDUCE, SELL, TERMS, order_at, queue_at, term_at
from abm.exchange.messages import Flag, Phase, Reject, What
from abm.exchange.orders import finish, note

POST_ONLY, POST_SLIDE = int(Flag.POST_ONLY), int(Flag.POST_SLIDE)
CONTINUOUS, HALTED_PHASE, CLOSED_PHASE = int(Phase.CONTINUOUS), int(Phase.HALTED), int(Phase.CLOSED)
NONE, BAD_PRICE, WOULD_TRADE = int(Reject.NONE), int(Reject.BAD_PRICE), int(Reject.WOULD_TRADE)
NOT_FILLABLE, REDUCE_ONLY, WRONG_PHASE = int(Reject.NOT_FILLABLE), int(Reject.REDUCE_ONLY), int(Reject.WRONG_PHASE)
PRICE_BAND, INSUFFICIENT_FUNDS = int(Reject.PRICE_BAND), int(Reject.INSUFFICIENT_FUNDS)
HALTED, CLOSED = int(Reject.HALTED), int(Reject.CLOSED)
ACTIVATION_CANCELLED = int(What.ACTIVATION_CANCELLED)


@compiled
def barred(book: Any, kind: int, tif: int, flags: int) -> int:
    """Check 6: the reason why the phase refuses an order, or NONE."""
    if book.phase == HALTED_PHASE:
        return HALTED
    if book.phase == CLOSED_PHASE:
        return CLOSED
    if (kind == LIMIT or kind == MARKET) and (tif == FOK or (flags & (POST_ONLY | POST_SLIDE | REDUCE_FLAG)) != 0):
        return WRONG_PHASE
    return NONE


@compiled
def refusal(
    e: Any,
    book: Any,
    i: int,
    kind: int,
    side: int,
    price: int,
    lots: int,
    owner: int,
    flags: int,
    tif: int,
    self_trade: int,
    released: int,
) -> int:
    """Checks 8 to 11 on an order: the reason to refuse it, or NONE."""
    if kind != MARKET and book.watched and book.phase == CONTINUOUS and outside_band(e, book, side, price):
        return PRICE_BAND
    opposite = queue_at(e.queues, i * QUEUES + 1 - side)
    if book.money == ON_MARGIN:
        refused = needs_margin(e, book, i, kind, side, price, lots, owner, flags, released)
        if refused != NONE:
            return refused
    elif funded(e, book):
        if kind == MARKET and side == 0 and book.phase == CONTINUOUS:
            if opposite.best != opposite.none and not has_funds(e, book, i, owner, side, np.int64(opposite.best), 1, 0):
                return INSUFFICIENT_FUNDS
        elif kind == MARKET:
            if not has_funds(e, book, i, owner, side, np.int64(book.n_ticks) - 1, lots, 0):
                return INSUFFICIENT_FUNDS
        elif not has_funds(e, book, i, owner, side, price, lots, released):
            return INSUFFICIENT_FUNDS
    if tif == FOK and not fillable(e, book, i, side, price, lots, owner, self_trade):
        return NOT_FILLABLE
    if (
        (flags & (POST_ONLY | POST_SLIDE)) != 0
        and opposite.best != opposite.none
        and within(side, np.int64(opposite.best), price)
    ):
        if flags & POST_ONLY:
            return WOULD_TRADE
        if not 1 <= slide(opposite, side, price) < book.n_ticks:
            return BAD_PRICE
    return NONE


@compiled
def needs_margin(
    e: Any, book: Any, i: int, kind: int, side: int, price: int, lots: int, owner: int, flags: int, released: int
) -> int:
    """Check 9 where the instrument has margin. A market order is reckoned at the best opposite price, or at the mark."""
    if flags & REDUCE_FLAG:
        return NONE
    if kind == MARKET:
        opposite = queue_at(e.queues, i * QUEUES + 1 - side)
        known = book.phase == CONTINUOUS and opposite.best != opposite.none
        price = np.int64(opposite.best) if known else np.int64(book.mark)
    return margin_refusal(e, book, i, owner, side, price, lots, released)


@compiled
def slide(opposite: Any, side: int, price: int) -> int:
    """The price of a sliding post-only order: one tick short of the best opposite price where it would trade."""
    if opposite.best == opposite.none or not within(side, np.int64(opposite.best), price):
        return price
    return np.int64(opposite.best) - 1 if side == 0 else np.int64(opposite.best) + 1


@compiled
def re_enter(e: Any, book: Any, slot: int, kind: int, limit: int, lots: int, reason: int, self_trade: int) -> int:
    """Enter an order that is out of the book under its own terms. Answers the status."""
    order, term = order_at(e.orders, slot), term_at(e.terms, slot)
    display, flags, tif = np.int64(0), np.int64(0), np.int64(GTC)
    if order.flags & TERMS:
        display, flags, tif = np.int64(term.display), np.int64(term.flags), np.int64(term.tif)
    i, side, owner = np.int64(order.instrument), np.int64(order.flags & SELL), np.int64(order.owner)
    return enter_order(
        e,
        book,
        i,
        slot,
        kind,
        side,
        limit,
        lots,
        display,
        np.int64(order.order),
        owner,
        reason,
        flags,
        tif,
        0,
        self_trade,
    )


@compiled
def readmit(e: Any, book: Any, i: int, slot: int, kind: int, limit: int) -> int:
    """Enter an order that waited outside the book, under its own terms, after the checks that a new one would meet now.

    Where one fails the order ends with an event.
    """
    order, term = order_at(e.orders, slot), term_at(e.terms, slot)
    side, owner, whole = np.int64(order.flags & SELL), np.int64(order.owner), remaining(e, slot, order)
    term.kind = kind
    if kind == MARKET:
        term.tif = IOC
    tif, flags, self_trade = np.int64(term.tif), np.int64(term.flags), np.int64(term.self_trade)
    lots = whole
    refused = NONE if book.phase == CONTINUOUS else barred(book, kind, tif, flags)
    if refused == NONE and order.flags & REDUCE:
        lots = min(lots, reducible(e, order))
        if lots <= 0:
            refused = REDUCE_ONLY
    if refused == NONE:
        refused = refusal(e, book, i, kind, side, limit, lots, owner, flags, tif, self_trade, 0)
    if refused != NONE:
        note(e, ACTIVATION_CANCELLED, i, order.order, owner, whole, 0, refused)
        finish(e, slot)
        return refused
    if flags & POST_SLIDE:
        limit = slide(queue_at(e.queues, i * QUEUES + 1 - side), side, limit)
    return re_enter(e, book, slot, kind, limit, lots, np.int64(order.reason), self_trade)
