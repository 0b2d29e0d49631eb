"""The life of an order inside the exchange: it gets a slot, rests, waits, leaves. Its id outlives it."""

from typing import Any

import numpy as np

from abm.clearing.reservation import funded, hold, remaining
from abm.exchange.compilation import compiled, inlined, prefetch
from abm.exchange.levels import append, detach, level_of
from abm.exchange.memory import (
    DONE,
    EXPIRE,
    HIDDEN,
    ICEBERG,
    NEVER,
    OUT,
    PEG,
    QUEUES,
    SELL,
    TERMS,
    WAITING,
    account_at,
    book_at,
    event_at,
    id_at,
    order_at,
    queue_at,
    term_at,
    timer_at,
)
from abm.exchange.messages import Flag, Kind, TimeInForce

GTD, DAY = int(TimeInForce.GTD), int(TimeInForce.DAY)
TRAILING = int(Kind.TRAILING_STOP)
BY_MARK = int(Flag.BY_MARK)
DEPENDENTS, ACTIVATION = 1, 2


@compiled
def note(e: Any, what: int, instrument: int, order: int, owner: int, quantity: int, price: int, detail: int) -> None:
    """Write an event."""
    row = event_at(e.events, e.n_events)
    row.time, row.message = e.time, e.sequence
    row.quantity, row.order, row.owner, row.price = quantity, order, owner, price
    row.instrument, row.what, row.detail = instrument, what, detail
    e.n_events += 1


@compiled
def set_timer(e: Any, time: int, kind: int, argument: int, token: int, call: int) -> None:
    """Have something happen at `time`: the timers are a binary heap by time, then by creation."""
    e.n_timers += 1
    e.timer_sequence += 1
    place = e.n_timers
    while place > 1 and time < timer_at(e.timers, place >> 1).time:
        child, parent = timer_at(e.timers, place), timer_at(e.timers, place >> 1)
        child.time, child.sequence, child.argument = parent.time, parent.sequence, parent.argument
        child.token, child.call, child.kind = parent.token, parent.call, parent.kind
        place >>= 1
    row = timer_at(e.timers, place)
    row.time, row.sequence, row.kind, row.argument, row.token, row.call = (
        time,
        e.timer_sequence,
        kind,
        argument,
        token,
        call,
    )
    e.next_timer = timer_at(e.timers, 1).time


@compiled
def _sooner(a: Any, b: Any) -> bool:
    return a.time < b.time or (a.time == b.time and a.sequence < b.sequence)


@compiled
def drop_timer(e: Any) -> None:
    """Take the first timer off the heap."""
    last = timer_at(e.timers, e.n_timers)
    size = e.n_timers - 1
    place = 1
    while True:
        child = place << 1
        if child > size:
            break
        if child < size and _sooner(timer_at(e.timers, child + 1), timer_at(e.timers, child)):
            child += 1
        below = timer_at(e.timers, child)
        if not _sooner(below, last):
            break
        row = timer_at(e.timers, place)
        row.time, row.sequence, row.argument = below.time, below.sequence, below.argument
        row.token, row.call, row.kind = below.token, below.call, below.kind
        place = child
    row = timer_at(e.timers, place)
    row.time, row.sequence, row.argument = last.time, last.sequence, last.argument
    row.token, row.call, row.kind = last.token, last.call, last.kind
    e.n_timers = size
    e.next_timer = timer_at(e.timers, 1).time if size > 0 else NEVER


@inlined
def queue_of(e: Any, slot: int, order: Any) -> Any:
    """The queue in which the order rests, or waits for its trigger."""
    q = np.int64(order.flags & SELL)
    if order.flags & WAITING:
        q += 2
        if term_at(e.terms, slot).flags & BY_MARK:
            q += 2
    return queue_at(e.queues, np.int64(order.instrument) * QUEUES + q)


@inlined
def new_slot(a: Any, e: Any, order_id: int, owner: int) -> int:
    """Take a slot for an order, and note it as its owner's latest."""
    slot = e.free
    if slot != 0:
        e.free = np.int64(order_at(a.orders, slot).next)
    else:
        slot = e.fresh
        e.fresh += 1
    row = id_at(a.ids, order_id)
    row.slot = slot
    e.potential += 1
    if owner >= 0:
        account = account_at(a, owner)
        row.before = account.last
        account.last = order_id
    return np.int64(slot)


@inlined
def end_slot(a: Any, e: Any, slot: int, order: Any) -> None:
    """Give the slot of an order that is over back. It must be out of its level and lists; its owner's chain learns of it when it is next walked."""
    id_at(a.ids, order.order).slot = DONE
    order.next = e.free
    e.free = slot
    e.potential -= 1


@compiled
def oldest_of(e: Any, owner: int) -> int:
    """Id of the oldest live order of an owner, 0 if there is none; `newer_of` leads to the others, and all of them must be visited.

    Orders of one owner form a chain from the latest back. Those that end are not taken out: here they are, as the chain is turned round. So an
    order costs its owner's chain one step at most, once. Their terms and levels are fetched on the way: who visits them mostly means to end
    them.
    """
    order_id, newer = np.int64(account_at(e, owner).last), np.int64(0)
    while order_id != 0:
        row = id_at(e.ids, order_id)
        older = np.int64(row.before)
        if row.slot > 0:
            row.before = newer
            newer = order_id
            slot = np.int64(row.slot)
            order = order_at(e.orders, slot)
            prefetch(term_at(e.terms, slot))
            prefetch(level_of(e, queue_of(e, slot, order), np.int64(order.price)))
        order_id = older
    account_at(e, owner).last = 0
    return newer


@compiled
def newer_of(e: Any, owner: int, order_id: int) -> int:
    """The order after one found by `oldest_of`, 0 for none, as the chain is turned back; one that has ended meanwhile is left out."""
    row, account = id_at(e.ids, order_id), account_at(e, owner)
    newer = np.int64(row.before)
    if row.slot > 0:
        row.before = account.last
        account.last = order_id
    return newer


@compiled
def enlist(e: Any, book: Any, slot: int, which: int) -> None:
    """Put an order in a list of its book: the dependents (1) by arrival, or the end of the activation queue (2)."""
    term = term_at(e.terms, slot)
    e.moving += 1
    term.list = which
    before = np.int64(book.list_last if which == DEPENDENTS else book.active_last)
    if which == DEPENDENTS:
        while before != 0 and term_at(e.terms, before).arrival > term.arrival:
            before = np.int64(term_at(e.terms, before).list_prev)
    first = np.int64(book.list_first if which == DEPENDENTS else book.active_first)
    after = np.int64(term_at(e.terms, before).list_next) if before != 0 else first
    term.list_prev, term.list_next = before, after
    _link(e, book, which, before, slot, True)
    _link(e, book, which, after, slot, False)
    if which == DEPENDENTS:
        _count_dependent(e, book, slot, 1)


@compiled
def _link(e: Any, book: Any, which: int, neighbour: int, slot: int, is_before: bool) -> None:
    """Tell the neighbour before (or after) a place in a list, or the list's end, who stands there."""
    if neighbour != 0:
        row = term_at(e.terms, neighbour)
        if is_before:
            row.list_next = slot
        else:
            row.list_prev = slot
    elif which == DEPENDENTS:
        if is_before:
            book.list_first = slot
        else:
            book.list_last = slot
    elif is_before:
        book.active_first = slot
    else:
        book.active_last = slot


@compiled
def _count_dependent(e: Any, book: Any, slot: int, change: int) -> None:
    book.attention += change
    if term_at(e.terms, slot).kind == TRAILING:
        book.trailing += change
    if order_at(e.orders, slot).flags & PEG:
        book.pegs += change


@compiled
def delist(e: Any, book: Any, slot: int) -> None:
    """Take an order out of the list it is in."""
    term = term_at(e.terms, slot)
    which, before, after = np.int64(term.list), np.int64(term.list_prev), np.int64(term.list_next)
    _link(e, book, which, before, after, True)
    _link(e, book, which, after, before, False)
    e.moving -= 1
    if which == DEPENDENTS:
        _count_dependent(e, book, slot, -1)
    term.list = 0


@compiled
def place(e: Any, book: Any, slot: int) -> None:
    """Let an order that is out of the book rest at its price, with its means reserved."""
    order = order_at(e.orders, slot)
    order.flags = order.flags & ~OUT
    append(e, e, queue_of(e, slot, order), slot, order, np.int64(order.price))
    if funded(e, book) and (order.flags & WAITING) == 0:
        hold(e, book, order, 0, remaining(e, slot, order))


@compiled
def lift(e: Any, book: Any, slot: int) -> None:
    """Take an order out of its level, with its reservation, but keep it alive."""
    order = order_at(e.orders, slot)
    if order.flags & OUT:
        return
    if funded(e, book) and (order.flags & WAITING) == 0:
        hold(e, book, order, remaining(e, slot, order), 0)
    detach(e, queue_of(e, slot, order), slot, order)
    order.flags = order.flags | OUT


@compiled
def forget_terms(e: Any, book: Any, slot: int, order: Any) -> None:
    """Undo what the special properties of an order count towards."""
    term = term_at(e.terms, slot)
    if term.list != 0:
        delist(e, book, slot)
    if order.flags & ICEBERG:
        e.potential -= term.parts
    if order.flags & WAITING:
        book.attention -= 1
        e.moving -= 1
        e.potential -= 1


@compiled
def finish(e: Any, slot: int) -> None:
    """End an order wherever it is: in its level, waiting, or out."""
    order = order_at(e.orders, slot)
    if order.flags == (order.flags & SELL) and book_at(e.books, order.instrument).money == 0:
        detach(e, queue_of(e, slot, order), slot, order)
        end_slot(e, e, slot, order)
        return
    book = book_at(e.books, order.instrument)
    lift(e, book, slot)
    if order.flags & TERMS:
        forget_terms(e, book, slot, order)
    end_slot(e, e, slot, order)


@compiled
def shrink(e: Any, slot: int, lots: int) -> None:
    """Take `lots` away from an order, of its reserve first; it keeps its place. It must have more than that."""
    order = order_at(e.orders, slot)
    book = book_at(e.books, order.instrument)
    before = remaining(e, slot, order)
    shown = lots
    if order.flags & ICEBERG:
        term = term_at(e.terms, slot)
        hidden = min(lots, term.reserve)
        term.reserve -= hidden
        shown -= hidden
    out = (order.flags & OUT) != 0
    if shown > 0:
        order.quantity -= shown
        if not out:
            if (order.flags & HIDDEN) == 0:
                level_of(e, queue_of(e, slot, order), np.int64(order.price)).quantity -= shown
    if funded(e, book) and not out and (order.flags & WAITING) == 0:
        hold(e, book, order, before, before - lots)


@compiled
def set_expiry(e: Any, book: Any, slot: int) -> None:
    """Start the clock of a DAY or GTD order."""
    order, term = order_at(e.orders, slot), term_at(e.terms, slot)
    if term.tif == GTD:
        set_timer(e, np.int64(term.expiry), EXPIRE, np.int64(order.order), 0, 0)
    elif term.tif == DAY and e.time < book.day_end < NEVER:
        set_timer(e, np.int64(book.day_end), EXPIRE, np.int64(order.order), 0, 0)
