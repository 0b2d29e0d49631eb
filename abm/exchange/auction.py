"""Phases of trading and the call auction that leads from one to the next."""

from typing import Any

import numpy as np

from abm.clearing.reservation import funded, hold, remaining
from abm.clearing.settlement import settle
from abm.exchange.admission import CLOSED_PHASE, CONTINUOUS, readmit
from abm.exchange.collars import set_close, set_reference
from abm.exchange.compilation import compiled
from abm.exchange.entry import IOC, LIMIT, MARKET, split, use_up
from abm.exchange.levels import append, detach, level_of, next_above, next_below
from abm.exchange.memory import (
    ICEBERG,
    OUT,
    PEG,
    QUEUES,
    REDUCE,
    SELL,
    WAITING,
    component,
    order_at,
    queue_at,
    term_at,
    trade_at,
)
from abm.exchange.messages import Side, What
from abm.exchange.orders import finish, lift, note, queue_of
from abm.exchange.pegs import peg_reference, put_peg

AUCTION = int(Side.AUCTION)
AUCTION_CANCELLED, UNCROSSED, PHASE_CHANGED = int(What.AUCTION_CANCELLED), int(What.UNCROSSED), int(What.PHASE_CHANGED)


@compiled
def level_lots(e: Any, queue: Any, tick: int) -> int:
    """All lots at a level, shown or not."""
    total = np.int64(0)
    slot = np.int64(level_of(e, queue, tick).head)
    while slot != 0:
        order = order_at(e.orders, slot)
        total += remaining(e, slot, order)
        slot = np.int64(order.next)
    return total


@compiled
def uncross_price(e: Any, book: Any, i: int) -> tuple[int, int]:
    """Price and volume of an auction now; (0, 0) where nothing trades.

    Demand falls and supply rises with the price, in steps at the limits. Between two steps every tick trades the same, so that one
    candidate a step suffices: its tick nearest to the reference.
    """
    bids, asks = queue_at(e.queues, i * QUEUES), queue_at(e.queues, i * QUEUES + 1)
    top = np.int64(book.n_ticks) - 1
    lowest, highest = np.int64(asks.best), np.int64(bids.best)
    if bids.best == bids.none or asks.best == asks.none or lowest > highest:
        return np.int64(0), np.int64(0)
    reference = np.int64(book.reference) if book.reference > 0 else np.int64(book.last)
    if reference == 0:
        if (
            lowest == 0
            and highest > top
            and next_below(e, bids, highest) == bids.none
            and next_above(e, asks, 0) == asks.none
        ):
            return np.int64(0), np.int64(0)
        reference = (max(lowest, 1) + min(highest, top)) // 2
    demand = np.int64(0)
    tick = highest
    while tick != bids.none and tick >= lowest:
        demand += level_lots(e, bids, tick)
        tick = next_below(e, bids, tick)
    supply = level_lots(e, asks, lowest)
    if lowest == 0:
        lowest = np.int64(1)
        supply += level_lots(e, asks, lowest)
    highest = min(highest, top)
    best_price, best_volume, best_gap, best_distance = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    start = lowest
    bid = lowest  # the lowest bid at or above `start`
    if level_of(e, bids, bid).head == 0:
        bid = next_above(e, bids, bid)
    while start <= highest:
        ask = next_above(e, asks, start)
        end = min(bid, ask - 1, highest)
        volume, gap = min(demand, supply), abs(demand - supply)
        price = min(max(reference, start), end)
        distance = abs(price - reference)
        if volume > best_volume or (
            volume == best_volume and (gap < best_gap or (gap == best_gap and distance < best_distance))
        ):
            best_price, best_volume, best_gap, best_distance = price, volume, gap, distance
        start = end + 1
        if end == bid:
            demand -= level_lots(e, bids, bid)
            bid = next_above(e, bids, bid)
        if start == ask and start <= highest:
            supply += level_lots(e, asks, ask)
    return best_price, best_volume


@compiled
def _cross(e: Any, book: Any, i: int, price: int, volume: int) -> None:
    bids, asks = queue_at(e.queues, i * QUEUES), queue_at(e.queues, i * QUEUES + 1)
    buy_turned, sell_turned = np.int64(0), np.int64(0)
    while volume > 0:
        buy_slot = np.int64(level_of(e, bids, np.int64(bids.best)).head)
        sell_slot = np.int64(level_of(e, asks, np.int64(asks.best)).head)
        buy, sell = order_at(e.orders, buy_slot), order_at(e.orders, sell_slot)
        lots = min(volume, min(remaining(e, buy_slot, buy), remaining(e, sell_slot, sell)))
        row = trade_at(e.trades, e.n_trades)
        row.time, row.message, row.quantity, row.price = e.time, e.sequence, lots, price
        row.maker, row.taker, row.maker_owner, row.taker_owner = sell.order, buy.order, sell.owner, buy.owner
        row.instrument, row.aggressor, row.maker_reason, row.taker_reason = i, AUCTION, sell.reason, buy.reason
        e.n_trades += 1
        if e.n_accounts != 0:
            settle(e, book, row, 0)
        buy_turned = _use_up_whole(e, book, buy_slot, lots, buy_turned)
        sell_turned = _use_up_whole(e, book, sell_slot, lots, sell_turned)
        volume -= lots
    _turn(e, bids, buy_turned)
    _turn(e, asks, sell_turned)


@compiled
def _use_up_whole(e: Any, book: Any, slot: int, lots: int, turned: int) -> int:
    """Take lots off an order of which shown and reserve trade alike.

    What remains of an iceberg keeps its place until the auction is over. Answers the slot of one whose shown part was used up, to be put
    at the back then; `turned` is the earlier answer.
    """
    order = order_at(e.orders, slot)
    shown = np.int64(order.quantity)
    left = remaining(e, slot, order) - lots
    if left == 0:
        finish(e, slot)
        return np.int64(0)
    if (order.flags & ICEBERG) == 0 or lots < shown:
        use_up(e, book, slot, lots)
        return turned
    if funded(e, book):
        hold(e, book, order, left + lots, left)
    split(e, slot, left)
    level_of(e, queue_of(e, slot, order), np.int64(order.price)).quantity += order.quantity - shown
    return slot


@compiled
def _turn(e: Any, queue: Any, slot: int) -> None:
    if slot != 0:
        order = order_at(e.orders, slot)
        detach(e, queue, slot, order)
        append(e, e, queue, slot, order, np.int64(order.price))


@compiled
def cancel_auction_orders(e: Any, book: Any, i: int) -> None:
    """End the market and IOC orders that an auction has left."""
    slot = np.int64(book.list_first)
    while slot != 0:
        term, order = term_at(e.terms, slot), order_at(e.orders, slot)
        following = np.int64(term.list_next)
        if (order.flags & (WAITING | OUT)) == 0 and (term.kind == MARKET or term.tif == IOC):
            note(e, AUCTION_CANCELLED, i, order.order, order.owner, remaining(e, slot, order), 0, 0)
            finish(e, slot)
        slot = following


@compiled
def sit_out(e: Any, book: Any) -> None:
    """Take pegs and reduce-only orders out of the book."""
    book.peg_buy = book.peg_sell = -1
    slot = np.int64(book.list_first)
    while slot != 0:
        flags = order_at(e.orders, slot).flags
        if (flags & (PEG | REDUCE)) != 0 and (flags & (WAITING | OUT)) == 0:
            lift(e, book, slot)
        slot = np.int64(term_at(e.terms, slot).list_next)


@compiled
def come_back(e: Any, book: Any, i: int) -> None:
    """Enter the orders that sat out again, in order of arrival, for as long as trading is continuous."""
    slot = np.int64(book.list_first)
    while slot != 0 and book.hit < 0:
        order, term = order_at(e.orders, slot), term_at(e.terms, slot)
        following = np.int64(term.list_next)
        if (order.flags & OUT) != 0:
            if order.flags & PEG:
                come_back_peg(e, book, i, slot, np.int64(order.flags & SELL))
            elif (order.flags & REDUCE) != 0 and term.kind == LIMIT:
                readmit(e, book, i, slot, LIMIT, np.int64(order.price))
        slot = following


@compiled
def come_back_peg(e: Any, book: Any, i: int, slot: int, side: int) -> None:
    """Put a peg where the reference puts it now; remember whether all pegs of its side saw the same one."""
    reference = peg_reference(e, i, side)
    known = np.int64(book.peg_buy if side == 0 else book.peg_sell)
    agreed = reference if known == -1 or known == reference else np.int64(-2)
    if side == 0:
        book.peg_buy = agreed
    else:
        book.peg_sell = agreed
    put_peg(e, book, i, slot, side, reference)


@compiled
def change_phase(e: Any, book: Any, i: int, phase: int) -> None:
    """Set the phase as it is, without an auction."""
    book.token += 1
    if phase != book.phase:
        note(e, PHASE_CHANGED, i, 0, -1, 0, 0, phase)
        if phase == CLOSED_PHASE and book.last > 0:
            set_close(e, book, np.int64(book.last))
    if book.phase == CONTINUOUS and phase != CONTINUOUS:
        sit_out(e, book)
    book.phase = phase
    book.seen_bid = -1  # its mark, and those it belongs to, are made anew


@component
def uncross(e: Any, book: Any, i: int, phase: int) -> int:
    """Hold the auction, then set the phase and let the orders that sat out come back. Answers the volume."""
    if book.phase == CONTINUOUS:
        sit_out(e, book)
    price, volume = uncross_price(e, book, i)
    if volume > 0:
        _cross(e, book, i, price, volume)
        book.last = price
        book.new_last = 1
        set_reference(e, book, price)
    cancel_auction_orders(e, book, i)
    note(e, UNCROSSED, i, 0, -1, volume, price, 0)
    change_phase(e, book, i, phase)
    if phase == CONTINUOUS:
        come_back(e, book, i)
    return volume


@component
def set_phase(e: Any, book: Any, i: int, phase: int) -> int:
    """Set the phase as the operator, a timer or a rule wants it. Answers 0."""
    if phase == CONTINUOUS and book.phase != CONTINUOUS:
        uncross(e, book, i, phase)
    else:
        change_phase(e, book, i, phase)
    return 0
