"""An order enters the book: it takes what its limit reaches, and what is left rests or is cancelled."""

from typing import Any

import numpy as np

from abm.clearing.money import holding_of, portion, prefetch_account
from abm.clearing.reservation import affordable, funded, hold, released, remaining
from abm.clearing.settlement import settle
from abm.exchange.collars import bound_of, note_trade
from abm.exchange.compilation import compiled, inlined, prefetch
from abm.exchange.levels import append, close_level, detach, level_of, next_level
from abm.exchange.memory import (
    BAND,
    HIDDEN,
    ICEBERG,
    IN_FULL,
    ON_MARGIN,
    QUEUES,
    REDUCE,
    SELL,
    SPECIAL,
    TERMS,
    component,
    order_at,
    queue_at,
    rule_at,
    term_at,
    trade_at,
)
from abm.exchange.messages import Flag, Kind, Phase, Reject, SelfTrade, Status, TimeInForce, What
from abm.exchange.orders import (
    DEPENDENTS,
    end_slot,
    enlist,
    finish,
    new_slot,
    note,
    place,
    queue_of,
    set_expiry,
    shrink,
)

GTC, IOC, FOK = int(TimeInForce.GTC), int(TimeInForce.IOC), int(TimeInForce.FOK)
LIMIT, MARKET = int(Kind.LIMIT), int(Kind.MARKET)
CALL = int(Phase.CALL)
ALLOW, CANCEL_RESTING, CANCEL_INCOMING = (
    int(SelfTrade.ALLOW),
    int(SelfTrade.CANCEL_RESTING),
    int(SelfTrade.CANCEL_INCOMING),
)
CANCEL_BOTH, DECREMENT = int(SelfTrade.CANCEL_BOTH), int(SelfTrade.DECREMENT)
RESTING, FILLED, CANCELLED = int(Status.RESTING), int(Status.FILLED), int(Status.CANCELLED)
SELF_TRADE, PRICE_BAND, HALTED = int(Reject.SELF_TRADE), int(Reject.PRICE_BAND), int(Reject.HALTED)
INSUFFICIENT_FUNDS = int(Reject.INSUFFICIENT_FUNDS)
SELF_TRADE_CANCELLED, SELF_TRADE_DECREMENTED = int(What.SELF_TRADE_CANCELLED), int(What.SELF_TRADE_DECREMENTED)
REDUCE_ONLY_CANCELLED = int(What.REDUCE_ONLY_CANCELLED)
HIDDEN_FLAG, REDUCE_FLAG = int(Flag.HIDDEN), int(Flag.REDUCE_ONLY)


@inlined
def trade(
    e: Any,
    book: Any,
    i: int,
    price: int,
    lots: int,
    maker: Any,
    taker: int,
    owner: int,
    side: int,
    reason: int,
    ordered: int,
) -> None:
    """Record and settle a trade of a resting order with an incoming one, releasing `ordered` of the margin that it reserved."""
    row = trade_at(e.trades, e.n_trades)
    row.time, row.message, row.quantity, row.price = e.time, e.sequence, lots, price
    row.maker, row.taker, row.maker_owner, row.taker_owner = maker.order, taker, maker.owner, owner
    row.instrument, row.aggressor, row.maker_reason, row.taker_reason = i, side, maker.reason, reason
    e.n_trades += 1
    book.last = price
    book.new_last = 1
    if e.n_accounts != 0:
        settle(e, book, row, ordered)
    if book.watched:
        note_trade(e, book, price)


@compiled
def reducible(e: Any, order: Any) -> int:
    """Lots by which the owner's position lets a reduce-only order trade."""
    if order.owner < 0 or e.n_accounts == 0:
        return np.int64(0)
    position = np.int64(holding_of(e, np.int64(order.owner), np.int64(order.instrument)).position)
    return position if order.flags & SELL else -position


@compiled
def cut_to_position(e: Any, slot: int) -> bool:
    """Cut a resting reduce-only order to what its owner's position lets it trade; False where that ends it."""
    order = order_at(e.orders, slot)
    allowed = reducible(e, order)
    if allowed <= 0:
        note(e, REDUCE_ONLY_CANCELLED, np.int64(order.instrument), order.order, order.owner, order.quantity, 0, 0)
        finish(e, slot)
        return False
    if allowed < order.quantity:
        shrink(e, slot, order.quantity - allowed)
    return True


@compiled
def use_up(e: Any, book: Any, slot: int, lots: int) -> None:
    """Take `lots` off the shown (or hidden) part of a resting order; an iceberg shows its next part, another that is used up ends."""
    order = order_at(e.orders, slot)
    before = remaining(e, slot, order)
    if lots < order.quantity:
        order.quantity -= lots
        if (order.flags & HIDDEN) == 0:
            level_of(e, queue_of(e, slot, order), np.int64(order.price)).quantity -= lots
        if funded(e, book):
            hold(e, book, order, before, before - lots)
    elif before > lots:
        if funded(e, book):
            hold(e, book, order, before, before - lots)
        show_next_part(e, slot)
    else:
        finish(e, slot)


@compiled
def show_next_part(e: Any, slot: int) -> None:
    """Show the next part of an iceberg, at the back of its level."""
    order, term = order_at(e.orders, slot), term_at(e.terms, slot)
    queue = queue_of(e, slot, order)
    detach(e, queue, slot, order)
    order.quantity = min(term.display, term.reserve)
    term.reserve -= order.quantity
    term.parts -= 1
    e.potential -= 1
    append(e, e, queue, slot, order, np.int64(order.price))


@component
def meet(
    e: Any,
    book: Any,
    i: int,
    slot: int,
    side: int,
    lots: int,
    taker: int,
    owner: int,
    reason: int,
    self_trade: int,
    limited: int,
) -> int:
    """An incoming order of `lots` meets a resting one that asks for care. Returns what is left of it; `e.reject` ends it."""
    maker = order_at(e.orders, slot)
    if self_trade != ALLOW and owner >= 0 and maker.owner == owner:
        if self_trade == CANCEL_RESTING or self_trade == CANCEL_BOTH:
            note(e, SELF_TRADE_CANCELLED, i, maker.order, owner, remaining(e, slot, maker), 0, 0)
            finish(e, slot)
        if self_trade == CANCEL_INCOMING or self_trade == CANCEL_BOTH:
            e.reject = SELF_TRADE
        if self_trade == DECREMENT:
            cut = min(lots, maker.quantity)
            note(e, SELF_TRADE_DECREMENTED, i, maker.order, owner, cut, 0, 0)
            e.decremented += cut
            use_up(e, book, slot, cut)
            lots -= cut
        return lots
    if maker.flags & REDUCE and not cut_to_position(e, slot):
        return lots
    most = min(lots, maker.quantity)
    price = np.int64(maker.price)
    if limited:
        most = affordable(e, book, i, owner, price, most)
        if most == 0:
            e.reject = INSUFFICIENT_FUNDS
            return lots
    trade(e, book, i, price, most, maker, taker, owner, side, reason, 0)
    use_up(e, book, slot, most)
    return lots - most


@inlined
def within(side: int, price: int, limit: int) -> bool:
    """Whether a taker of `side` with this limit trades at `price`."""
    return price <= limit if side == 0 else price >= limit


@component
def share_level(
    e: Any,
    book: Any,
    i: int,
    queue: Any,
    tick: int,
    side: int,
    lots: int,
    taker: int,
    owner: int,
    reason: int,
    self_trade: int,
    limited: int,
) -> int:
    """Pro-rata: share incoming `lots` over the shown orders of a level by size, the rest in time order. Returns what is left."""
    level = level_of(e, queue, tick)
    own = self_trade != ALLOW and owner >= 0 and _set_own_aside(e, i, level, owner, self_trade)
    total = np.int64(0)
    slot = np.int64(level.head)
    while slot != 0 and slot != level.hidden:
        order = order_at(e.orders, slot)
        following = np.int64(order.next)
        if not (own and order.owner == owner) and ((order.flags & REDUCE) == 0 or cut_to_position(e, slot)):
            total += order.quantity
        slot = following
    if total > 0:
        lots = _allot(e, book, i, level, total, own, side, lots, taker, owner, reason, limited)
    if own and e.reject == 0:
        e.reject = SELF_TRADE
    elif not own and e.reject == 0 and total == 0 and level.head != 0 and level.head == level.hidden:
        lots = meet(e, book, i, np.int64(level.head), side, lots, taker, owner, reason, self_trade, limited)
    return lots


@compiled
def _set_own_aside(e: Any, i: int, level: Any, owner: int, self_trade: int) -> bool:
    """Deal with the incoming owner's orders at a level; whether they end the incoming order after the level's first sharing."""
    found = False
    slot = np.int64(level.head)
    while slot != 0:
        order = order_at(e.orders, slot)
        following = np.int64(order.next)
        if order.owner == owner:
            found = True
            if self_trade == CANCEL_RESTING or self_trade == CANCEL_BOTH:
                note(e, SELF_TRADE_CANCELLED, i, order.order, owner, remaining(e, slot, order), 0, 0)
                finish(e, slot)
        slot = following
    return found and self_trade != CANCEL_RESTING


@compiled
def _allot(
    e: Any,
    book: Any,
    i: int,
    level: Any,
    total: int,
    own: bool,
    side: int,
    lots: int,
    taker: int,
    owner: int,
    reason: int,
    limited: int,
) -> int:
    """One sharing among the shown orders of a level, which offer `total`."""
    price = np.int64(order_at(e.orders, level.head).price)
    amount = min(lots, total)
    if limited:
        amount = affordable(e, book, i, owner, price, amount)
        if amount == 0:
            e.reject = INSUFFICIENT_FUNDS
    spare = amount
    slot = np.int64(level.head)
    while slot != 0 and slot != level.hidden:
        order = order_at(e.orders, slot)
        if not (own and order.owner == owner):
            spare -= portion(amount, order.quantity, total)
        slot = np.int64(order.next)
    shared = amount
    slot = np.int64(level.head)
    while slot != 0 and shared > 0:
        order = order_at(e.orders, slot)
        following = np.int64(order.next)
        if not (own and order.owner == owner):
            part = portion(amount, order.quantity, total)
            extra = min(spare, order.quantity - part)
            spare -= extra
            part += extra
            if part > 0:
                trade(e, book, i, price, part, order, taker, owner, side, reason, 0)
                use_up(e, book, slot, part)
                shared -= part
        slot = following
    return lots - amount


@inlined
def take(
    e: Any,
    book: Any,
    i: int,
    side: int,
    limit: int,
    lots: int,
    taker: int,
    owner: int,
    reason: int,
    self_trade: int,
    limited: bool,
) -> int:
    """Trade an incoming order against the other side as far as its limit and the rules let it. Returns the lots left."""
    queue = queue_at(e.queues, i * QUEUES + 1 - side)
    furthest, binding = limit, np.int64(-1)
    if book.watched:
        bound = bound_of(e, book, side)
        if not within(side, limit, bound):
            furthest, binding = bound, e.binding
    while lots > 0 and e.reject == 0:
        tick = np.int64(queue.best)
        if tick == queue.none or not within(side, tick, furthest):
            break
        if book.pro_rata:
            lots = share_level(e, book, i, queue, tick, side, lots, taker, owner, reason, self_trade, limited)
            continue
        level = level_of(e, queue, tick)
        slot = np.int64(level.head)
        gone = np.int64(0)
        special = False
        while slot != 0 and lots > 0:
            maker = order_at(e.orders, slot)
            following_order = order_at(e.orders, maker.next)
            prefetch(following_order)
            if book.money == ON_MARGIN:
                prefetch_account(e, i, np.int64(following_order.owner))
            if (maker.flags & SPECIAL) != 0 or limited or (self_trade != ALLOW and maker.owner == owner):
                special = True
                break
            if lots < maker.quantity:
                ordered = released(e, book, i, maker, tick, maker.quantity, maker.quantity - lots)
                trade(e, book, i, tick, lots, maker, taker, owner, side, reason, ordered)
                maker.quantity -= lots
                gone += lots
                lots = np.int64(0)
            else:
                full = maker.quantity
                ordered = released(e, book, i, maker, tick, full, 0)
                trade(e, book, i, tick, full, maker, taker, owner, side, reason, ordered)
                gone += full
                lots -= full
                level.count -= 1
                following = np.int64(maker.next)
                end_slot(e, e, slot, maker)
                slot = following
        level.quantity -= gone
        level.head = slot
        order_at(e.orders, slot).prev = 0
        if slot == 0:
            level.tail = 0
            close_level(e, queue, tick)
        elif special:
            lots = meet(e, book, i, slot, side, lots, taker, owner, reason, self_trade, limited)
    if (
        binding >= 0
        and lots > 0
        and e.reject == 0
        and queue.best != queue.none
        and within(side, np.int64(queue.best), limit)
    ):
        if rule_at(e.rules, binding).kind == BAND:
            e.reject = PRICE_BAND
        else:
            book.hit = binding
    return lots


@compiled
def fillable(e: Any, book: Any, i: int, side: int, limit: int, lots: int, owner: int, self_trade: int) -> bool:
    """Whether a fill-or-kill order can trade whole within its limit and the rules."""
    queue = queue_at(e.queues, i * QUEUES + 1 - side)
    if book.watched:
        bound = bound_of(e, book, side)
        if not within(side, limit, bound):
            limit = bound
    tick = np.int64(queue.best)
    wary = self_trade != ALLOW and owner >= 0
    while tick != queue.none and within(side, tick, limit):
        level = level_of(e, queue, tick)
        own, ahead, all_lots = False, np.int64(0), np.int64(0)
        slot = np.int64(level.head)
        while slot != 0:
            order = order_at(e.orders, slot)
            if wary and order.owner == owner:
                own = own or self_trade != CANCEL_RESTING
            elif (order.flags & REDUCE) == 0:
                all_lots += remaining(e, slot, order)
                if (order.flags & HIDDEN) == 0 and (book.pro_rata or not own):
                    ahead += order.quantity
            slot = np.int64(order.next)
        if own:
            return ahead >= lots
        lots -= all_lots
        if lots <= 0:
            return True
        tick = next_level(e, queue, tick)
    return False


@compiled
def write_terms(
    e: Any,
    slot: int,
    kind: int,
    lots: int,
    display: int,
    tif: int,
    expiry: int,
    flags: int,
    self_trade: int,
    limit: int,
    distance: int,
) -> None:
    """Keep the terms of an order that is more than a plain limit order, and mark it so."""
    order, term = order_at(e.orders, slot), term_at(e.terms, slot)
    term.kind, term.tif, term.flags, term.self_trade, term.expiry = kind, tif, flags, self_trade, expiry
    term.limit, term.distance, term.extreme, term.list = limit, distance, 0, 0
    e.arrivals += 1
    term.arrival = e.arrivals
    term.display, term.reserve, term.parts = display, 0, 0
    order.flags = order.flags | TERMS
    if flags & HIDDEN_FLAG:
        order.flags = order.flags | HIDDEN
    if flags & REDUCE_FLAG:
        order.flags = order.flags | REDUCE
    if display > 0:
        order.flags = order.flags | ICEBERG
        split(e, slot, lots)


@compiled
def split(e: Any, slot: int, lots: int) -> None:
    """Divide the lots of an iceberg into what it shows and its reserve."""
    order, term = order_at(e.orders, slot), term_at(e.terms, slot)
    e.potential -= term.parts
    order.quantity = min(lots, term.display)
    term.reserve = lots - order.quantity
    term.parts = -(-term.reserve // term.display)
    e.potential += term.parts


@inlined
def settle_rest(
    e: Any,
    book: Any,
    i: int,
    slot: int,
    side: int,
    price: int,
    lots: int,
    display: int,
    order_id: int,
    owner: int,
    reason: int,
    flags: int,
    tif: int,
    expiry: int,
    self_trade: int,
    kind: int,
) -> None:
    """Let what is left of an order rest, in a slot of its own (`slot` 0) or the one it has."""
    plain = slot == 0 and display == 0 and flags == 0 and tif == GTC
    if slot == 0:
        slot = new_slot(e, e, order_id, owner)
        order = order_at(e.orders, slot)
        order.order, order.owner, order.instrument = order_id, owner, i
        order.flags, order.reason = side, reason
        order.quantity, order.price = lots, price
        if plain:
            append(e, e, queue_at(e.queues, i * QUEUES + side), slot, order, price)
            if funded(e, book):
                hold(e, book, order, 0, lots)
            return
        write_terms(e, slot, kind, lots, display, tif, expiry, flags, self_trade, 0, 0)
        set_expiry(e, book, slot)
    _rest_again(e, book, slot, price, lots, tif, kind)


@compiled
def _rest_again(e: Any, book: Any, slot: int, price: int, lots: int, tif: int, kind: int) -> None:
    order = order_at(e.orders, slot)
    order.price = price
    if order.flags & ICEBERG:
        split(e, slot, lots)
    else:
        order.quantity = lots
    sits_out = (order.flags & REDUCE) != 0
    if sits_out or kind == MARKET or tif == IOC:
        if term_at(e.terms, slot).list == 0:
            enlist(e, book, slot, DEPENDENTS)
    place(e, book, slot)


@component
def enter_order(
    e: Any,
    book: Any,
    i: int,
    slot: int,
    kind: int,
    side: int,
    price: int,
    lots: int,
    display: int,
    order_id: int,
    owner: int,
    reason: int,
    flags: int,
    tif: int,
    expiry: int,
    self_trade: int,
) -> int:
    """Enter an order that has passed its checks: trade, then rest or end. Answers the status, also in `e.status`, with `e.filled` and `e.reject`."""
    e.reject, e.decremented = 0, 0
    if kind == MARKET:
        price = np.int64(book.n_ticks) if side == 0 else np.int64(0)
    left = lots
    if book.phase != CALL:
        limited = kind == MARKET and side == 0 and book.money == IN_FULL
        left = take(e, book, i, side, price, lots, order_id, owner, reason, self_trade, limited)
    e.filled = lots - left
    if left > 0 and e.reject == 0 and (book.phase == CALL or (kind != MARKET and tif != IOC and tif != FOK)):
        settle_rest(
            e, book, i, slot, side, price, left, display, order_id, owner, reason, flags, tif, expiry, self_trade, kind
        )
        e.filled -= e.decremented
        e.status = RESTING
        return RESTING
    if left > 0 and e.reject == 0 and book.hit >= 0:
        e.reject = HALTED
    e.filled -= e.decremented
    e.status = CANCELLED
    if left == 0:
        e.reject = SELF_TRADE if e.decremented > 0 else 0
        e.status = CANCELLED if e.decremented > 0 else FILLED
    if slot != 0:
        finish(e, slot)
    return np.int64(e.status)
