"""What follows an entry: rules act, pegs follow their best price, trailing stops move, stops that are through enter."""

from typing import Any

import numpy as np

from abm.clearing.liquidation import liquidate
from abm.clearing.margin import look_elsewhere, next_due
from abm.clearing.marks import requote
from abm.clearing.reservation import remaining
from abm.exchange.admission import CLOSED_PHASE, CONTINUOUS, HALTED_PHASE, readmit
from abm.exchange.auction import set_phase
from abm.exchange.compilation import compiled
from abm.exchange.entry import CALL, HIDDEN_FLAG, LIMIT, MARKET
from abm.exchange.levels import level_of
from abm.exchange.memory import (
    HIDDEN,
    ON_MARGIN,
    OUT,
    QUEUES,
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
from abm.exchange.messages import ANONYMOUS, Kind, What
from abm.exchange.orders import ACTIVATION, BY_MARK, TRAILING, delist, enlist, lift, note, place, set_timer
from abm.exchange.pegs import move_pegs
from abm.exchange.shifts import note_shift

STOP_LIMIT = int(Kind.STOP_LIMIT)
TRIGGERED, NOBODY = int(What.TRIGGERED), int(ANONYMOUS)


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
    if e.noting != 0:  # orders of the day may end with it
        note_shift(e, i, e.time, NOBODY, 0, False)


@compiled
def apply_rules(e: Any, book: Any, i: int) -> None:
    """Act on a collar that was hit or a fall that was seen."""
    if book.hit >= 0:
        rule = rule_at(e.rules, book.hit)
        book.hit = -1
        halt(e, i, rule)
    if book.fallen:
        book.fallen = 0
        r = np.int64(book.first_rule)
        while r >= 0:
            rule = rule_at(e.rules, r)
            if rule.fired == 1:
                rule.fired = 2
                for g in range(rule.group0, rule.group0 + rule.group_size):
                    halt(e, np.int64(group_at(e.groups, g).instrument), rule)
            r = np.int64(rule.next)


@compiled
def wait(e: Any, book: Any, slot: int, trigger: int) -> None:
    """Let a stop wait for its trigger."""
    order = order_at(e.orders, slot)
    order.flags = (
        order.flags | WAITING
    ) & ~HIDDEN  # while it waits nothing is shown anyway, and time alone gives it its place
    order.price = trigger
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
    if term_at(e.terms, slot).flags & HIDDEN_FLAG:
        order.flags = order.flags | HIDDEN
    book.attention -= 1
    e.moving -= 1
    e.potential -= 1


@compiled
def trailing_price(book: Any, term: Any, sell: bool) -> int:
    """Trigger of a trailing stop for the best reference it has seen."""
    price = term.extreme - term.distance if sell else np.int64(term.extreme) + term.distance
    return min(max(np.int64(price), np.int64(1)), np.int64(book.n_ticks) - 1)


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
                price = trailing_price(book, term, sell)
                if (order.flags & OUT) == 0 and price != order.price:
                    stop_waiting(e, book, slot)
                if order.flags & OUT:
                    wait(e, book, slot, price)
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
def room(e: Any) -> bool:
    """Whether one more entry, whatever it does, fits the tables. Python makes room where it may not."""
    return (
        e.n_trades + 3 * e.potential + 16 <= e.trade_room
        and e.n_events + 4 * e.potential + 4 * e.n_instruments + 16 <= e.event_room
        and e.next_page + e.moving + 4 + e.index_pages <= e.page_room
        and e.n_timers + e.n_instruments + 4 <= e.timer_room
        and (e.noting == 0 or e.n_shifts + e.expected + 2 * e.potential + 2 * e.n_instruments + 16 <= e.shift_room)
        and (
            e.margined == 0
            or (
                e.n_liquidations + 2 * e.potential + 64 <= e.liquidation_room
                and e.n_moves + e.n_instruments + 4 <= e.move_room
            )
        )
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
        if e.noting != 0:
            note_shift(e, i, e.time, NOBODY, 0, False)
        if book.watch:
            requote(e, book, i)
        moved = book.new_mark != 0
        if book.new_last or book.new_mark:
            trigger(e, book, i)
        if moved and book.money == ON_MARGIN and book.phase != CONTINUOUS:
            look_elsewhere(e, book, i)
        if book.phase != CONTINUOUS and book.phase != CALL:
            return 1
        if book.money == ON_MARGIN and book.phase == CONTINUOUS:
            slot = next_due(e, book, i)
            if slot != 0:
                if not liquidate(e, book, i, slot):
                    return 0
                continue
        slot = np.int64(book.active_first)
        if slot == 0:
            return 1
        delist(e, book, slot)
        order, term = order_at(e.orders, slot), term_at(e.terms, slot)
        owner, reason, trades = np.int64(order.owner), np.int64(order.reason), e.n_trades
        note(e, TRIGGERED, i, order.order, owner, remaining(e, slot, order), 0, 0)
        readmit(e, book, i, slot, LIMIT if term.kind == STOP_LIMIT else MARKET, np.int64(term.limit))
        if e.noting != 0:
            note_shift(e, i, e.time, owner, reason, e.n_trades > trades)
