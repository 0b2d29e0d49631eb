"""What follows an entry: rules act, pegs follow their best price, trailing stops move, stops that are through enter."""

from typing import Any

import numpy as np

from abm.exchange.auction import CONTINUOUS, set_phase
from abm.exchange.collars import outside_band
from abm.exchange.compilation import compiled
from abm.exchange.entry import CALL, CANCELLED, FOK, GTC, LIMIT, MARKET, REDUCE_FLAG, fillable, re_enter, reducible, within
from abm.exchange.levels import level_of, next_level
from abm.exchange.memory import (
    HIDDEN,
    OUT,
    PEG,
    QUEUES,
    REDUCE,
    REOPEN_CALL,
    REOPEN_CONTINUOUS,
    SELL,
    VOLATILITY,
    WAITING,
    book_at,
    component,
    group_at,
    order_at,
    queue_at,
    rule_at,
    term_at,
)
from abm.exchange.messages import Flag, Kind, Phase, Reject, What
from abm.exchange.orders import ACTIVATION, DEPENDENTS, delist, enlist, finish, lift, note, place, queue_of, set_timer
from abm.exchange.settlement import funded, has_funds, remaining

STOP_LIMIT, TRAILING = int(Kind.STOP_LIMIT), int(Kind.TRAILING_STOP)
POST_ONLY, POST_SLIDE, BY_MARK = int(Flag.POST_ONLY), int(Flag.POST_SLIDE), int(Flag.BY_MARK)
HALTED_PHASE, CLOSED_PHASE = int(Phase.HALTED), int(Phase.CLOSED)
TRIGGERED, ACTIVATION_CANCELLED = int(What.TRIGGERED), int(What.ACTIVATION_CANCELLED)
NONE, BAD_PRICE, WOULD_TRADE = int(Reject.NONE), int(Reject.BAD_PRICE), int(Reject.WOULD_TRADE)
NOT_FILLABLE, REDUCE_ONLY, WRONG_PHASE = int(Reject.NOT_FILLABLE), int(Reject.REDUCE_ONLY), int(Reject.WRONG_PHASE)
PRICE_BAND, INSUFFICIENT_FUNDS = int(Reject.PRICE_BAND), int(Reject.INSUFFICIENT_FUNDS)


@compiled
def halt(e: Any, i: int, rule: Any) -> None:
    """Stop trading in an instrument as a rule says, and set the timer that reopens it."""
    book = book_at(e.books, i)
    if book.phase == CLOSED_PHASE:
        return
    if rule.kind == VOLATILITY:
        set_phase(e, book, i, CALL)
        set_timer(e, e.time + rule.call, REOPEN_CONTINUOUS, i, np.int64(book.token), 0)
    elif rule.halt == 0:
        set_phase(e, book, i, CLOSED_PHASE)
    else:
        set_phase(e, book, i, HALTED_PHASE)
        set_timer(e, e.time + rule.halt, REOPEN_CALL, i, np.int64(book.token), rule.call)


@compiled
def apply_rules(e: Any, book: Any, i: int) -> None:
    """Act on a collar that was hit or a fall that was seen."""
    if book.fallen >= 0:
        rule = rule_at(e.rules, book.fallen)
        book.fallen = -1
        for g in range(rule.group0, rule.group0 + rule.group_size):
            halt(e, np.int64(group_at(e.groups, g).instrument), rule)
    if book.hit >= 0:
        rule = rule_at(e.rules, book.hit)
        book.hit = -1
        if book.phase == CONTINUOUS:
            halt(e, i, rule)


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
    if term.limit > 0:
        price = min(price, np.int64(term.limit)) if side == 0 else max(price, np.int64(term.limit))
    return price if 1 <= price < book.n_ticks else np.int64(0)


@compiled
def put_peg(e: Any, book: Any, i: int, slot: int, side: int, reference: int) -> None:
    """Let a peg that is out of the book rest where the reference puts it, if it can."""
    order = order_at(e.orders, slot)
    price = peg_price(e, book, slot, side, reference)
    if price == 0:
        return
    if funded(e, book) and not has_funds(e, book, i, np.int64(order.owner), side, price, np.int64(order.quantity), 0):
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


@compiled
def wait(e: Any, book: Any, slot: int, trigger: int) -> None:
    """Let a stop wait for its trigger."""
    order = order_at(e.orders, slot)
    order.flags = order.flags | WAITING
    order.price = min(max(trigger, 1), np.int64(book.n_ticks) - 1)
    book.attention += 1
    e.moving += 1
    e.potential += 1
    place(e, book, slot)


@compiled
def stop_waiting(e: Any, book: Any, slot: int) -> None:
    """Take a stop out of its queue of triggers."""
    order = order_at(e.orders, slot)
    lift(e, book, slot)
    order.flags = order.flags & ~WAITING
    book.attention -= 1
    e.moving -= 1
    e.potential -= 1


@compiled
def move_trailing(e: Any, book: Any, reference: int, by_mark: bool) -> None:
    """Let the trailing stops of one reference follow it."""
    slot = np.int64(book.list_first)
    while slot != 0:
        term, order = term_at(e.terms, slot), order_at(e.orders, slot)
        following = np.int64(term.list_next)
        if term.kind == TRAILING and ((term.flags & BY_MARK) != 0) == by_mark:
            sell = (order.flags & SELL) != 0
            if term.extreme == 0 or (reference > term.extreme if sell else reference < term.extreme):
                term.extreme = reference
                if (order.flags & OUT) == 0:
                    stop_waiting(e, book, slot)
                wait(e, book, slot, reference - term.distance if sell else reference + term.distance)
        slot = following


@compiled
def trigger_queue(e: Any, book: Any, i: int, q: int, reference: int) -> None:
    """Put the stops of one queue that the reference has reached into the activation queue."""
    queue = queue_at(e.queues, i * QUEUES + q)
    while queue.best != queue.none and (reference <= queue.best if queue.high else reference >= queue.best):
        slot = np.int64(level_of(e, queue, np.int64(queue.best)).head)
        stop_waiting(e, book, slot)
        if term_at(e.terms, slot).list != 0:
            delist(e, book, slot)
        enlist(e, book, slot, ACTIVATION)


@compiled
def trigger(e: Any, book: Any, i: int) -> None:
    """Move trailing stops and trigger stops for references that have changed."""
    if book.new_last:
        book.new_last = 0
        if book.trailing > 0:
            move_trailing(e, book, np.int64(book.last), False)
        trigger_queue(e, book, i, 2, np.int64(book.last))
        trigger_queue(e, book, i, 3, np.int64(book.last))
    if book.new_mark:
        book.new_mark = 0
        if book.trailing > 0:
            move_trailing(e, book, np.int64(book.mark), True)
        trigger_queue(e, book, i, 4, np.int64(book.mark))
        trigger_queue(e, book, i, 5, np.int64(book.mark))


@compiled
def refusal(
    e: Any, book: Any, i: int, kind: int, side: int, price: int, lots: int, owner: int, flags: int, tif: int, self_trade: int, released: int
) -> int:
    """Checks 8 to 11 on an order: the reason to refuse it, or NONE."""
    if kind != MARKET and book.watched and outside_band(e, book, side, price):
        return PRICE_BAND
    opposite = queue_at(e.queues, i * QUEUES + 1 - side)
    if funded(e, book):
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
    if (flags & (POST_ONLY | POST_SLIDE)) != 0 and opposite.best != opposite.none and within(side, np.int64(opposite.best), price):
        if flags & POST_ONLY:
            return WOULD_TRADE
        if not 1 <= slide(opposite, side, price) < book.n_ticks:
            return BAD_PRICE
    return NONE


@compiled
def slide(opposite: Any, side: int, price: int) -> int:
    """The price of a sliding post-only order: one tick short of the best opposite price where it would trade."""
    if opposite.best == opposite.none or not within(side, np.int64(opposite.best), price):
        return price
    return np.int64(opposite.best) - 1 if side == 0 else np.int64(opposite.best) + 1


@compiled
def activate(e: Any, book: Any, i: int, slot: int) -> int:
    """Enter a stop that has triggered, after the checks that an order of its kind meets now; answers why not, or NONE."""
    order, term = order_at(e.orders, slot), term_at(e.terms, slot)
    side, owner, lots = np.int64(order.flags & SELL), np.int64(order.owner), remaining(e, slot, order)
    kind = LIMIT if term.kind == STOP_LIMIT else MARKET
    limit, tif, flags, self_trade = np.int64(term.limit), np.int64(term.tif), np.int64(term.flags), np.int64(term.self_trade)
    term.kind = kind
    if book.phase == CALL and (tif == FOK or (flags & (POST_ONLY | POST_SLIDE | REDUCE_FLAG)) != 0):
        return WRONG_PHASE
    if order.flags & REDUCE:
        lots = min(lots, reducible(e, order))
        if lots <= 0:
            return REDUCE_ONLY
    refused = refusal(e, book, i, kind, side, limit, lots, owner, flags, tif, self_trade, 0)
    if refused == NONE:
        if flags & POST_SLIDE:
            limit = slide(queue_at(e.queues, i * QUEUES + 1 - side), side, limit)
        re_enter(e, book, slot, kind, limit, lots, np.int64(order.reason), self_trade)
    return refused


@compiled
def room(e: Any) -> bool:
    """Whether one more entry, whatever it does, fits the tables. Python makes room where it may not."""
    return (
        e.n_trades + 3 * e.potential + 16 <= e.trade_room
        and e.n_events + 4 * e.potential + 4 * e.n_instruments + 16 <= e.event_room
        and e.next_page + e.moving + 4 <= e.page_room
        and e.n_timers + e.n_instruments + 4 <= e.timer_room
    )


@component
def follow(e: Any, book: Any, i: int) -> int:
    """Let everything happen that an entry into this book has set off; 0 where it must go on after Python has made room."""
    while True:
        if not room(e):
            return 0
        apply_rules(e, book, i)
        if book.pegs > 0 and book.phase == CONTINUOUS:
            move_pegs(e, book, i, 0)
            move_pegs(e, book, i, 1)
        if book.phase != CONTINUOUS and book.phase != CALL:
            return 1
        if book.new_last or book.new_mark:
            trigger(e, book, i)
        slot = np.int64(book.active_first)
        if slot == 0:
            return 1
        delist(e, book, slot)
        order = order_at(e.orders, slot)
        lots = remaining(e, slot, order)
        note(e, TRIGGERED, i, order.order, order.owner, lots, 0, 0)
        refused = activate(e, book, i, slot)
        if refused != NONE:
            note(e, ACTIVATION_CANCELLED, i, order.order, order.owner, lots, 0, refused)
            finish(e, slot)
