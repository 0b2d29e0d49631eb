"""The pass: every message of a tape, one after the other, with the timers that fall due between them."""

from typing import Any

import numpy as np

from abm.clearing.deleveraging import transfer
from abm.clearing.margin import flag, index_again
from abm.clearing.marks import note_move, quotes_changed, remark_all, requote
from abm.clearing.money import holding_of, prefetch_account
from abm.clearing.reservation import (
    funded,
    has_funds,
    held,
    hold,
    hold_ordered,
    quick_margin,
    release_order,
    remaining,
    unpayable,
)
from abm.exchange.admission import (
    CONTINUOUS,
    NONE,
    POST_ONLY,
    POST_SLIDE,
    REDUCE_ONLY,
    barred,
    re_enter,
    refusal,
    slide,
)
from abm.exchange.auction import set_phase, uncross
from abm.exchange.collars import bound_of, set_close, set_reference
from abm.exchange.compilation import compiled, inlined, kernel, prefetch
from abm.exchange.entry import (
    CALL,
    CANCELLED,
    FILLED,
    FOK,
    GTC,
    IOC,
    LIMIT,
    MARKET,
    REDUCE_FLAG,
    enter_order,
    reducible,
    take,
    within,
    write_terms,
)
from abm.exchange.following import STOP_LIMIT, follow, room, trailing_price, wait
from abm.exchange.levels import append_plain, detach_plain, level_of
from abm.exchange.memory import (
    DONE,
    EXPIRE,
    IN_FULL,
    ON_MARGIN,
    OUT,
    PAUSED,
    PEG,
    PLAIN_LIMIT,
    QUEUES,
    REDUCE,
    REOPEN_CALL,
    REOPEN_CONTINUOUS,
    RESUME,
    SELL,
    TERMS,
    WAITING,
    Addresses,
    account_at,
    book_at,
    component,
    head_at,
    holding_at,
    id_at,
    message_at,
    order_at,
    outcome_at,
    queue_at,
    term_at,
    timer_at,
)
from abm.exchange.messages import ANONYMOUS, Flag, Kind, Phase, Reject, Status, TimeInForce, What
from abm.exchange.orders import (
    ACTIVATION,
    BY_MARK,
    DEPENDENTS,
    TRAILING,
    drop_timer,
    end_slot,
    enlist,
    finish,
    lift,
    new_slot,
    newer_of,
    note,
    oldest_of,
    set_expiry,
    set_timer,
    shrink,
)
from abm.exchange.pegs import peg_price, peg_reference, put_peg
from abm.exchange.shifts import note_shift

CANCEL, REDUCE_KIND, REPLACE, MASS_CANCEL = int(Kind.CANCEL), int(Kind.REDUCE), int(Kind.REPLACE), int(Kind.MASS_CANCEL)
STOP, PEGGED, PHASE, UNCROSS = int(Kind.STOP), int(Kind.PEGGED), int(Kind.PHASE), int(Kind.UNCROSS)
MARK, CLOCK, REFUSED = int(Kind.MARK), int(Kind.CLOCK), int(Kind.REFUSED)
GTD = int(TimeInForce.GTD)
HIDDEN_FLAG = int(Flag.HIDDEN)
ALL_FLAGS = POST_ONLY | POST_SLIDE | REDUCE_FLAG | HIDDEN_FLAG | BY_MARK
N_PHASES, NOBODY = len(Phase), int(ANONYMOUS)
PLAIN_MARKET = np.uint64(int(Kind.MARKET) << 16)
PLAIN_MARKET_IOC = PLAIN_MARKET | np.uint64(IOC << 32)
REJECTED, RESTING, PENDING = int(Status.REJECTED), int(Status.RESTING), int(Status.PENDING)
STATUS_DONE = int(Status.DONE)
EXPIRED_EVENT, MASS_CANCELLED = int(What.EXPIRED), int(What.MASS_CANCELLED)
UNKNOWN_KIND, UNKNOWN_INSTRUMENT = int(Reject.UNKNOWN_KIND), int(Reject.UNKNOWN_INSTRUMENT)
UNKNOWN_OWNER, UNKNOWN_ORDER, ORDER_DONE = int(Reject.UNKNOWN_OWNER), int(Reject.UNKNOWN_ORDER), int(Reject.ORDER_DONE)
NOT_OWNER, DUPLICATE_ID, EXPIRED = int(Reject.NOT_OWNER), int(Reject.DUPLICATE_ID), int(Reject.EXPIRED)
BAD_SIDE, BAD_QUANTITY, BAD_PRICE = int(Reject.BAD_SIDE), int(Reject.BAD_QUANTITY), int(Reject.BAD_PRICE)
BAD_TRIGGER, BAD_TIF = int(Reject.BAD_TRIGGER), int(Reject.BAD_TIME_IN_FORCE)
BAD_COMBINATION, NOT_REPLACEABLE = int(Reject.BAD_COMBINATION), int(Reject.NOT_REPLACEABLE)


@compiled
def malformed(book: Any, message: Any) -> int:
    """Check 4: the reason to refuse an order, or NONE."""
    kind, tif, flags, price, trigger = message.kind, message.tif, message.flags, message.price, message.trigger
    if message.side > 1:
        return BAD_SIDE
    if message.quantity < 1 or message.quantity > book.max_lots:
        return BAD_QUANTITY
    in_range = 1 <= price < book.n_ticks
    if ((kind == LIMIT or kind == STOP_LIMIT) and not in_range) or (kind == PEGGED and price != 0 and not in_range):
        return BAD_PRICE
    if ((kind == STOP or kind == STOP_LIMIT) and not 1 <= trigger < book.n_ticks) or (kind == TRAILING and trigger < 1):
        return BAD_TRIGGER
    if kind == PEGGED and trigger < 0:
        return BAD_TRIGGER
    if tif > GTD or (kind == MARKET and tif != IOC and tif != GTC):
        return BAD_TIF
    if (kind == PEGGED and (tif == IOC or tif == FOK)) or ((kind == STOP or kind == TRAILING) and tif == FOK):
        return BAD_TIF
    if tif == GTD and message.expiry <= message.time:
        return EXPIRED
    return _bad_combination(message, kind, tif, flags)


@compiled
def _bad_combination(message: Any, kind: int, tif: int, flags: int) -> int:
    limit_like = kind == LIMIT or kind == STOP_LIMIT
    post = flags & (POST_ONLY | POST_SLIDE)
    iceberg = 0 < message.display < message.quantity
    if (
        (flags & ~np.int64(ALL_FLAGS)) != 0
        or message.self_trade > 4
        or message.display < 0
        or (post != 0 and (kind != LIMIT or tif == IOC or tif == FOK or post == (POST_ONLY | POST_SLIDE)))
        or ((flags & HIDDEN_FLAG) != 0 and (not limit_like or message.display > 0))
        or (message.display > 0 and not limit_like)
        or ((flags & REDUCE_FLAG) != 0 and (kind == PEGGED or (flags & HIDDEN_FLAG) != 0 or message.display > 0))
        or (iceberg and message.quantity // message.display > 1000000)
    ):
        return BAD_COMBINATION
    return NONE


@compiled
def through(book: Any, kind: int, side: int, trigger: int, by_mark: bool) -> bool:
    """Whether a stop's reference has reached its trigger as it comes; a trailing one can only be so at the end of the range."""
    reference = np.int64(book.mark if by_mark else book.last)
    if kind == TRAILING:
        trigger = (
            min(reference + trigger, np.int64(book.n_ticks) - 1) if side == 0 else max(reference - trigger, np.int64(1))
        )
    return reference > 0 and (reference >= trigger if side == 0 else reference <= trigger)


@compiled
def may_reduce(e: Any, i: int, owner: int, side: int) -> int:
    """Lots that a reduce-only order of this side may have."""
    if owner < 0 or e.n_accounts == 0:
        return np.int64(0)
    position = np.int64(holding_of(e, owner, i).position)
    return position if side == 1 else -position


@compiled
def accept_waiting(e: Any, book: Any, i: int, message: Any, lots: int) -> int:
    """Take in an order that waits outside the book: a stop, a trailing stop, a peg. Answers its status."""
    kind, side = np.int64(message.kind), np.int64(message.side)
    slot = new_slot(e, e, np.int64(message.order), np.int64(message.owner))
    order = order_at(e.orders, slot)
    order.order, order.owner, order.instrument, order.reason = message.order, message.owner, i, message.reason
    order.flags, order.quantity = side | OUT, lots
    display = np.int64(message.display) if message.display < lots else np.int64(0)
    limit = np.int64(message.price) if kind == STOP_LIMIT or kind == PEGGED else np.int64(0)
    write_terms(
        e,
        slot,
        kind,
        lots,
        display,
        np.int64(message.tif),
        np.int64(message.expiry),
        np.int64(message.flags),
        np.int64(message.self_trade),
        limit,
        np.int64(message.trigger),
    )
    set_expiry(e, book, slot)
    if kind == PEGGED:
        order.flags = order.flags | PEG
        enlist(e, book, slot, DEPENDENTS)
        if book.phase == CONTINUOUS:
            reference = peg_reference(e, i, side)
            if side == 0:
                book.peg_buy = reference
            else:
                book.peg_sell = reference
            price = peg_price(e, book, slot, side, reference)
            refused = unpayable(e, book, i, np.int64(order.owner), side, price, lots) if price != 0 else NONE
            if refused != NONE:
                finish(e, slot)
                e.reject = refused
                return REJECTED
            put_peg(e, book, i, slot, side, reference)
    elif kind == TRAILING:
        enlist(e, book, slot, DEPENDENTS)
        reference = np.int64(book.mark if message.flags & BY_MARK else book.last)
        if reference > 0:
            term = term_at(e.terms, slot)
            term.extreme = reference
            wait(e, book, slot, trailing_price(book, term, side == 1))
    else:
        wait(e, book, slot, np.int64(message.trigger))
    return RESTING if kind == PEGGED and (order.flags & OUT) == 0 else PENDING


@compiled
def accept_order(e: Any, book: Any, i: int, message: Any) -> int:
    """An order that is well formed and new: checks 6 to 11, then it enters or waits. Answers why not, or NONE."""
    kind, side, flags = np.int64(message.kind), np.int64(message.side), np.int64(message.flags)
    tif, owner, self_trade = np.int64(message.tif), np.int64(message.owner), np.int64(message.self_trade)
    lots, price = np.int64(message.quantity), np.int64(message.price)
    if book.phase != CONTINUOUS:
        refused = barred(book, kind, tif, flags)
        if refused != NONE:
            return refused
    if kind == PEGGED or kind >= STOP:
        if kind == PEGGED or not through(book, kind, side, np.int64(message.trigger), (flags & BY_MARK) != 0):
            e.status = accept_waiting(e, book, i, message, lots)
            return np.int64(e.reject)
        kind = LIMIT if kind == STOP_LIMIT else MARKET
        if book.phase == CALL:
            refused = barred(book, kind, tif, flags)
            if refused != NONE:
                return refused
    if flags & REDUCE_FLAG:
        lots = min(lots, may_reduce(e, i, owner, side))
        if lots <= 0:
            return REDUCE_ONLY
    if kind == MARKET:
        tif, price = np.int64(IOC), np.int64(0)
    refused = refusal(e, book, i, kind, side, price, lots, owner, flags, tif, self_trade, 0)
    if refused != NONE:
        return refused
    if flags & POST_SLIDE:
        price = slide(queue_at(e.queues, i * QUEUES + 1 - side), side, price)
    display = np.int64(message.display) if message.display < lots else np.int64(0)
    enter_order(
        e,
        book,
        i,
        np.int64(0),
        kind,
        side,
        price,
        lots,
        display,
        np.int64(message.order),
        owner,
        np.int64(message.reason),
        flags,
        tif,
        np.int64(message.expiry),
        self_trade,
    )
    return NONE


@compiled
def replace(e: Any, message: Any, slot: int) -> int:
    """Give an order a new price and size. Answers why not, or NONE."""
    order = order_at(e.orders, slot)
    i = np.int64(order.instrument)
    book = book_at(e.books, i)
    side, lots, price = np.int64(order.flags & SELL), np.int64(message.quantity), np.int64(message.price)
    before = remaining(e, slot, order)
    if lots < 1 or lots > book.max_lots:
        return BAD_QUANTITY
    flags, tif, own_price = np.int64(0), np.int64(GTC), min(max(np.int64(order.price), 1), np.int64(book.n_ticks) - 1)
    if order.flags & TERMS:
        term = term_at(e.terms, slot)
        flags, tif = np.int64(term.flags), np.int64(term.tif)
        if (order.flags & (PEG | WAITING)) != 0 or term.kind == TRAILING or term.list == ACTIVATION:
            if price != term.limit or lots > before:
                return NOT_REPLACEABLE
            own_price = price
    if price == own_price and lots <= before:
        if lots < before:
            shrink(e, slot, before - lots)
        e.status = STATUS_DONE
        return NONE
    if not 1 <= price < book.n_ticks:
        return BAD_PRICE
    if book.phase != CONTINUOUS:
        refused = barred(book, LIMIT, tif, flags)
        if refused != NONE:
            return refused
    if order.flags & REDUCE:
        lots = min(lots, reducible(e, order))
        if lots <= 0:
            return REDUCE_ONLY
    released = np.int64(0)
    if funded(e, book) and (order.flags & OUT) == 0:
        released = held(e, book, order, before)
    refused = refusal(
        e, book, i, LIMIT, side, price, lots, np.int64(order.owner), flags, tif, np.int64(message.self_trade), released
    )
    if refused != NONE:
        return refused
    if flags & POST_SLIDE:
        price = slide(queue_at(e.queues, i * QUEUES + 1 - side), side, price)
    lift(e, book, slot)
    if order.flags & TERMS:
        term_at(e.terms, slot).kind = LIMIT
        term_at(e.terms, slot).self_trade = message.self_trade
    re_enter(e, book, slot, LIMIT, price, lots, np.int64(order.reason), np.int64(message.self_trade))
    return NONE


@compiled
def unsettle(e: Any, i: int) -> None:
    """Have what follows an entry into this book looked after."""
    book = book_at(e.books, i)
    if book.attention != 0 or book.watched != 0 or book.active_first != 0 or book.watch != 0 or book.money == ON_MARGIN:
        flag(e, i)


@inlined
def begin(e: Any, time: int) -> None:
    """A message or a timer begins: what follows has this cause, and no liquidation is in progress."""
    e.time = time
    e.n_moves = 0
    e.current = 0
    e.entered = 0


@compiled
def resume(e: Any, slot: int, token: int) -> None:
    """A position's pause after the first stage of its liquidation is over."""
    holding = holding_at(e, slot)
    e.entered = (slot - 1) // e.n_accounts
    if (holding.since & 0x7FFFFFFF) == token and (holding.flags & PAUSED) != 0:
        holding.flags = holding.flags & ~PAUSED
        account = account_at(e, (slot - 1) % e.n_accounts)
        if account.paused == slot:
            account.paused = 0
        index_again(e, (slot - 1) // e.n_accounts, (slot - 1) % e.n_accounts)
        flag(e, (slot - 1) // e.n_accounts)


@component
def change_order(e: Any, message: Any) -> int:
    """Cancel, reduce or replace. Answers why not, or NONE."""
    if message.order < 1 or message.order >= e.n_ids:
        return UNKNOWN_ORDER
    slot = np.int64(id_at(e.ids, message.order).slot)
    if slot <= 0:
        return UNKNOWN_ORDER if slot == 0 else ORDER_DONE
    order = order_at(e.orders, slot)
    if order.owner != message.owner:
        return NOT_OWNER
    i, reason, trades = np.int64(order.instrument), np.int64(order.reason), e.n_trades
    e.entered = i
    e.status, e.filled, e.reject = STATUS_DONE, 0, 0
    refused = NONE
    if message.kind == CANCEL:
        finish(e, slot)
    elif message.kind == REDUCE_KIND:
        left = remaining(e, slot, order) - message.quantity
        if message.quantity < 1 or left < 0:
            return BAD_QUANTITY
        if left == 0:
            finish(e, slot)
        else:
            shrink(e, slot, np.int64(message.quantity))
    else:
        refused = replace(e, message, slot)
    if e.noting != 0:
        note_shift(e, i, e.time, np.int64(message.owner), reason, e.n_trades > trades)
    unsettle(e, i)
    return refused


@component
def settle_down(e: Any) -> int:
    """Let everything happen that has been set off in any book, in the order of their numbers, round after round.

    Answers 0 where Python must make room before that can go on.
    """
    if e.transferring != 0 and not transfer(e):
        return 0
    i, resumed = e.following - 1, e.following != 0
    while resumed or e.unsettled != 0:
        if not resumed:
            i = e.unsettled - 1 if e.unsettled > 0 else e.entered
            e.unsettled = -1 if e.unsettled < 0 and i > 0 else 0  # those with lower numbers come in the next round
            e.entered = 0
        while i < e.n_instruments:
            book = book_at(e.books, i)
            if resumed or book.unsettled:
                resumed = False
                book.unsettled = 0
                e.following = i + 1
                if not follow(e, book, i):
                    return 0
                e.following = 0
            i += 1
    return 1


@compiled
def mass_cancel(e: Any, message: Any) -> int:
    """End the orders of an owner. Answers why not, or NONE."""
    if message.owner < 0:
        return UNKNOWN_OWNER
    e.entered = max(np.int64(message.instrument), np.int64(0))
    order_id = oldest_of(e, np.int64(message.owner))
    while order_id != 0:
        slot = np.int64(id_at(e.ids, order_id).slot)
        order = order_at(e.orders, slot)
        i = np.int64(order.instrument)
        if message.instrument < 0 or message.instrument == i:
            note(e, MASS_CANCELLED, i, order_id, order.owner, remaining(e, slot, order), 0, 0)
            finish(e, slot)
            if e.noting != 0:
                note_shift(e, i, e.time, np.int64(order.owner), np.int64(order.reason), False)
            unsettle(e, i)
        order_id = newer_of(e, np.int64(message.owner), order_id)
    return NONE


@compiled
def operate(e: Any, message: Any) -> int:
    """A message of the operator of the exchange. Answers why not, or NONE."""
    if message.kind == CLOCK:
        if e.margined:
            remark_all(e)
        return NONE
    i = np.int64(message.instrument)
    book = book_at(e.books, i)
    e.entered = i
    if message.kind == PHASE or message.kind == UNCROSS:
        if message.side >= N_PHASES:
            return BAD_SIDE
        if message.kind == PHASE:
            if message.expiry > 0:
                book.day_end = message.expiry
            set_phase(e, book, i, np.int64(message.side))
        else:
            uncross(e, book, i, np.int64(message.side))
        if e.noting != 0:
            note_shift(e, i, e.time, NOBODY, 0, True)
        flag(e, i)
        return NONE
    if message.price < 1 or message.price >= book.n_ticks:
        return BAD_PRICE
    if message.kind == MARK:
        if message.price != book.mark:
            note_move(e, book, i, np.int64(message.price))
    else:
        set_reference(e, book, np.int64(message.price))
        set_close(e, book, np.int64(message.price))
    unsettle(e, i)
    return NONE


@component
def other_message(e: Any, message: Any) -> int:
    """Everything but an order. Answers why not, or NONE."""
    e.status, e.filled, e.reject = STATUS_DONE, 0, 0
    kind = message.kind
    names_order, everywhere = CANCEL <= kind <= REPLACE, kind == MASS_CANCEL and message.instrument == -1
    if not names_order and not everywhere and kind != CLOCK and not 0 <= message.instrument < e.n_instruments:
        return UNKNOWN_INSTRUMENT
    if kind == REFUSED:
        return np.int64(message.tif)
    if message.owner < -1 or (e.n_accounts > 0 and message.owner >= e.n_accounts):
        return UNKNOWN_OWNER
    if names_order:
        return change_order(e, message)
    refused = mass_cancel(e, message) if kind == MASS_CANCEL else operate(e, message)
    e.status, e.filled, e.reject = STATUS_DONE, 0, 0
    return refused


@component
def fire_timers(e: Any, until: int) -> int:
    """Let the timers up to a time fire, each at its own; 0 where Python must make room first."""
    while e.next_timer <= until:
        if not room(e):
            return 0
        row = timer_at(e.timers, 1)
        time, kind, argument, token, call = row.time, row.kind, np.int64(row.argument), row.token, row.call
        drop_timer(e)
        begin(e, time)
        if kind == RESUME:
            resume(e, argument, token)
        elif kind == EXPIRE:
            slot = np.int64(id_at(e.ids, argument).slot)
            if slot > 0:
                order = order_at(e.orders, slot)
                i = np.int64(order.instrument)
                e.entered = i
                note(e, EXPIRED_EVENT, i, order.order, order.owner, remaining(e, slot, order), 0, 0)
                finish(e, slot)
                if e.noting != 0:
                    note_shift(e, i, time, np.int64(order.owner), np.int64(order.reason), False)
                unsettle(e, i)
        else:
            book = book_at(e.books, argument)
            e.entered = argument
            if book.token == token:
                if kind == REOPEN_CALL:
                    set_phase(e, book, argument, CALL)
                    set_timer(e, time + call, REOPEN_CONTINUOUS, argument, np.int64(book.token), 0)
                else:
                    set_phase(e, book, argument, CONTINUOUS)
                if e.noting != 0:
                    note_shift(e, argument, time, NOBODY, 0, True)
                flag(e, argument)
        if e.unsettled != 0 and not settle_down(e):
            return 0
    return 1


@inlined
def quick_cancel(a: Any, e: Any, message: Any) -> bool:
    """Cancel an order that rests and is nothing but a limit order, in a book where nothing can follow. False where it is not so."""
    if not 0 < message.order < e.n_ids:
        return False
    slot = np.int64(id_at(a.ids, message.order).slot)
    if slot <= 0:
        return False
    order = order_at(a.orders, slot)
    flags, i = np.int64(order.flags), np.int64(order.instrument)
    book = book_at(e.books, i)
    if order.owner != message.owner or flags > SELL or book.attention != 0:
        return False
    if book.money == ON_MARGIN:
        release_order(e, book, i, order)
    elif book.money != 0:
        hold(e, book, order, np.int64(order.quantity), 0)
    detach_plain(a, queue_at(e.queues, i * QUEUES + flags), order)
    end_slot(a, e, slot, order)
    if e.noting != 0:
        note_shift(e, i, np.int64(message.time), np.int64(order.owner), np.int64(order.reason), False)
    if book.watch and quotes_changed(e, book, i):
        begin(e, np.int64(message.time))
        e.entered = i
        requote(e, book, i)
    return True


@component
def cross(e: Any, book: Any, message: Any, price: int) -> int:
    """A plain order takes what its limit reaches. Answers the lots left, -1 where there may be no room.

    Compiled apart from the pass, of which most messages do not trade: they run through less code, with more of it in registers.
    """
    if not room(e):
        return np.int64(-1)
    begin(e, np.int64(message.time))
    e.reject = 0
    side, lots, owner = np.int64(message.side), np.int64(message.quantity), np.int64(message.owner)
    order_id, reason = np.int64(message.order), np.int64(message.reason)
    return take(e, book, np.int64(message.instrument), side, price, lots, order_id, owner, reason, 0, False)


@inlined
def quick_order(a: Any, e: Any, message: Any, outcome: Any, sequence: int, plain: bool, is_market: bool) -> bool:
    """A limit or market order in a book where nothing waits to follow. False where it is not so, or there may be no room.

    Of a `plain` one all is known but its numbers, no rule watches its book, and nobody notes whose doing a move was; what else an order may be
    is compiled only where it is not.
    """
    i, price, lots = np.int64(message.instrument), np.int64(message.price), np.int64(message.quantity)
    order_id, owner, side = np.int64(message.order), np.int64(message.owner), np.int64(message.side)
    if not 0 <= i < e.n_instruments or not 0 < order_id < e.n_ids or not -1 <= owner < e.n_owners:
        return False
    if not plain and side > SELL:
        return False
    book, row = book_at(e.books, i), id_at(a.ids, order_id)
    if (np.int64(book.attention) | np.int64(book.phase) | message.display | row.slot) != 0:
        return False
    if is_market:
        price = np.int64(book.n_ticks) - 1 if side == 0 else np.int64(1)
    if not 1 <= price < book.n_ticks or not 1 <= lots <= book.max_lots or e.next_page >= e.page_room:
        return False
    opposite = queue_at(e.queues, i * QUEUES + 1 - side)
    beyond = (price - opposite.best) * (1 - 2 * side)  # without a branch: sides come at random
    rests, posts = not is_market, False
    if plain:
        if book.watched:
            return False
    else:
        if not usual(e, book, message, side, price, beyond >= 0):
            return False
        rests, posts = rests and message.tif != IOC, beyond >= 0 and message.flags != 0
    ordered = np.int64(0)
    if book.money != 0:
        ordered = quick_funds(e, book, i, owner, side, price, lots, is_market)
        if ordered < 0:
            return False
    left = lots
    if posts:
        price, ordered = slide(opposite, side, price), np.int64(-1)
    elif beyond >= 0:
        e.sequence = sequence
        left = cross(e, book, message, price)
        if left < 0:
            return False
    outcome.filled, outcome.status, outcome.reject = lots - left, RESTING, 0
    if order_id > e.highest_id:
        e.highest_id = order_id
    if left == 0 or not rests:
        row.slot = DONE
        outcome.status = FILLED if left == 0 else CANCELLED
    else:
        slot = new_slot(a, e, order_id, owner)
        order = order_at(a.orders, slot)
        order.quantity, order.order, order.price, order.owner = left, order_id, price, owner
        order.instrument, order.flags, order.reason = i, side, message.reason
        if not plain and (message.tif != GTC or message.flags != 0):
            keep_terms(e, book, slot, message, left)
        append_plain(a, e, queue_at(e.queues, i * QUEUES + side), slot, order, price, left)
        if book.money == IN_FULL:
            hold(e, book, order, 0, left)
        elif book.money != 0:
            hold_ordered(e, book, i, owner, side, price, left, ordered if left == lots else np.int64(-1))
    if not plain and e.noting != 0:
        note_shift(e, i, np.int64(message.time), owner, np.int64(message.reason), left < lots)
    if book.watch and quotes_changed(e, book, i):
        if beyond < 0 or posts:
            e.sequence = sequence
            begin(e, np.int64(message.time))
        e.entered = i
        requote(e, book, i)
    if not plain and book.fallen:
        flag(e, i)
    return True


@compiled
def usual(e: Any, book: Any, message: Any, side: int, price: int, crosses: bool) -> bool:
    """Whether an order trades as far as it wants, and if it is no market order rests for good, until a time or not at all."""
    tif, flags = message.tif, message.flags
    if message.self_trade != 0 or not room(e):
        return False
    is_limit = message.kind == LIMIT
    if flags != 0 and ((flags != POST_SLIDE and (flags != POST_ONLY or crosses)) or tif == IOC or not is_limit):
        return False
    if tif != GTC and tif != IOC and (tif != GTD or message.expiry <= message.time or not is_limit):
        return False
    if flags == POST_SLIDE and crosses:
        opposite = queue_at(e.queues, np.int64(message.instrument) * QUEUES + 1 - side)
        if not 1 <= slide(opposite, side, price) < book.n_ticks:
            return False
    if book.watched:
        begin(e, np.int64(message.time))
        return within(side, price, bound_of(e, book, side))
    return True


@compiled
def keep_terms(e: Any, book: Any, slot: int, message: Any, lots: int) -> None:
    """Keep what is not plain of an order that comes to rest."""
    tif, expiry, flags = np.int64(message.tif), np.int64(message.expiry), np.int64(message.flags)
    write_terms(e, slot, LIMIT, lots, np.int64(0), tif, expiry, flags, np.int64(0), np.int64(0), np.int64(0))
    set_expiry(e, book, slot)


@component
def usual_order(e: Any, message: Any, outcome: Any, sequence: int) -> int:
    """The same for orders that are not plain, or in books that rules watch. Answers 0 where it is not so."""
    if message.kind != LIMIT and message.kind != MARKET:
        return np.int64(0)
    return np.int64(quick_order(e, e, message, outcome, sequence, False, message.kind == MARKET))


@inlined
def quick_funds(e: Any, book: Any, i: int, owner: int, side: int, price: int, lots: int, is_market: bool) -> int:
    """Initial margin of an order whose owner is known and has the means; -1 where not, or where the long way round has to tell."""
    if owner < 0 or owner >= e.n_accounts:
        return np.int64(-1)
    if book.money == IN_FULL:
        return (
            np.int64(0)
            if not (is_market and side == 0) and has_funds(e, book, i, owner, side, price, lots, 0)
            else np.int64(-1)
        )
    if is_market:
        best = queue_at(e.queues, i * QUEUES + 1 - side)
        price = np.int64(book.mark) if best.best == best.none else np.int64(best.best)
    return quick_margin(e, book, i, owner, side, price, lots)


@component
def new_order(e: Any, message: Any) -> int:
    """Any order: all checks, then it enters or waits. Answers why not, or NONE."""
    i, owner = np.int64(message.instrument), np.int64(message.owner)
    if i < 0 or i >= e.n_instruments:
        return UNKNOWN_INSTRUMENT
    book = book_at(e.books, i)
    if owner < -1 or (e.n_accounts > 0 and owner >= e.n_accounts) or (owner < 0 and funded(e, book)):
        return UNKNOWN_OWNER
    refused = malformed(book, message)
    if refused != NONE:
        return refused
    if message.order < 1:
        return UNKNOWN_ORDER
    row = id_at(e.ids, message.order)
    if row.slot != 0:
        return DUPLICATE_ID
    row.slot = DONE
    e.highest_id = max(e.highest_id, np.int64(message.order))
    e.filled, e.reject, e.entered = 0, 0, i
    trades = e.n_trades
    refused = accept_order(e, book, i, message)
    if e.noting != 0:
        note_shift(e, i, e.time, owner, np.int64(message.reason), e.n_trades > trades)
    unsettle(e, i)
    return refused


@component
def process(e: Any, message: Any, outcome: Any) -> int:
    """Any message, and what it sets off; 0 where Python must make room before that can go on."""
    begin(e, np.int64(message.time))
    kind = message.kind
    if kind == CANCEL or REDUCE_KIND <= kind <= MASS_CANCEL or PHASE <= kind <= REFUSED:
        refused = other_message(e, message)
    elif kind > REFUSED:
        refused = UNKNOWN_KIND
    else:
        refused = new_order(e, message)
    if refused == NONE and kind != REFUSED:
        outcome.filled, outcome.status, outcome.reject = e.filled, e.status, e.reject
    else:
        outcome.filled, outcome.status, outcome.reject = 0, REJECTED, refused
    return settle_down(e) if e.unsettled != 0 else np.int64(1)


@inlined
def look_ahead(a: Any, e: Any, messages: int, m: int, count: int) -> None:
    """Have fetched what later messages will touch: in a deep book each order lies somewhere else in memory.

    What is only fetched need not exist: the processor passes over an address that is no good. What is read must.
    """
    prefetch(message_at(messages, m + 128))
    soon = message_at(messages, m + 16)
    if e.n_accounts != 0:
        if m & 31 == 0:
            look_at_accounts(a, messages, m + 16, min(m + 48, count))
        owner, i = np.int64(soon.owner), np.int64(soon.instrument)
        if e.margined:
            prefetch(holding_of(e, owner, i))
            if (soon.kind == MARKET or soon.tif == IOC) and 0 <= i < e.n_instruments:
                queue = queue_at(e.queues, i * QUEUES + 1 - (soon.side & 1))
                if queue.best != queue.none:
                    first = order_at(a.orders, level_of(a, queue, np.int64(queue.best)).head)
                    prefetch_account(e, i, np.int64(first.owner))
                    prefetch_account(e, i, owner)
    prefetch(id_at(a.ids, np.int64(message_at(messages, min(m + 32, count - 1)).order)))
    prefetch(order_at(a.orders, np.int64(id_at(a.ids, known_id(e, soon)).slot)))
    slot = np.int64(id_at(a.ids, known_id(e, message_at(messages, m + 8))).slot)
    order = order_at(a.orders, max(slot, 0))
    prefetch(order_at(a.orders, order.next))
    prefetch(order_at(a.orders, order.prev))


@inlined
def look_at_accounts(a: Any, messages: int, start: int, end: int) -> None:
    """Have the accounts of some messages fetched in one go: the processor waits for their pages side by side, and not for one after the other."""
    for k in range(start, end):
        prefetch(account_at(a, np.int64(message_at(messages, k).owner)))


@compiled
def look_at_level(e: Any, soon: Any) -> None:
    """Have the level fetched at which a later order may come to rest. Plain orders do without: theirs are few, near the best price."""
    i, price = np.int64(soon.instrument), np.int64(soon.price)
    if soon.kind == LIMIT and 0 <= i < e.n_instruments and 0 < price < book_at(e.books, i).n_ticks:
        prefetch(level_of(e, queue_at(e.queues, i * QUEUES + (soon.side & 1)), price))


@inlined
def known_id(e: Any, message: Any) -> int:
    """The id of a message, or 0 where it is beyond those known."""
    order = np.int64(message.order)
    return order if 0 < order < e.n_ids else np.int64(0)


@kernel
def match(engine: Any, messages: int, count: int, outcomes: int, start: int, sequence: int) -> int:
    """Process messages `start` to `count` of the tape at address `messages`; returns how many are done.

    `sequence` is the number of messages the exchange had processed before the tape. The pass stops short of `count` where a table
    might run out of room; call again after `Memory.make_room`, and after `Memory.admit` where the next message has an id or an owner
    beyond those known. A message earlier than the one before it ends the pass with -1 - its number.
    """
    e = engine[0]
    if (e.unsettled | e.following) != 0:
        if start == 0 and e.following == 0:
            e.sequence = sequence
            begin(e, e.time)
        if not settle_down(e):
            return start
    a = Addresses(e.orders, e.accounts, e.account_step, e.ids, e.blocks, e.upper, e.levels)
    now = e.time
    noting = e.noting != 0
    for m in range(start, count):
        message, outcome = message_at(messages, m), outcome_at(outcomes, m)
        if message.time < now:
            return -1 - m
        if m + 16 < count:
            look_ahead(a, e, messages, m, count)
        now = message.time
        if e.next_timer > now:
            word = head_at(messages, m).word
            rest = word & PLAIN_LIMIT
            if not noting and (rest == 0 or rest == PLAIN_MARKET_IOC or rest == PLAIN_MARKET):
                if quick_order(a, e, message, outcome, sequence + m, True, rest != 0):
                    if e.unsettled != 0 and not settle_down(e):
                        return m + 1
                    continue
            elif message.kind == CANCEL and quick_cancel(a, e, message):
                outcome.filled, outcome.status, outcome.reject = 0, STATUS_DONE, 0
                if e.unsettled != 0:
                    e.sequence = sequence + m
                    if not settle_down(e):
                        return m + 1
                continue
            if usual_order(e, message, outcome, sequence + m) != 0:
                if e.unsettled != 0 and not settle_down(e):
                    return m + 1
                continue
        e.sequence = sequence + m
        if e.next_timer <= now and not fire_timers(e, now):
            return m
        if (
            not room(e)
            or (message.owner >= e.n_owners and e.n_accounts == 0)
            or (message.order >= e.n_ids and creates_order(message))
        ):
            return m
        if m + 8 < count:
            look_at_level(e, message_at(messages, m + 8))
        if not process(e, message, outcome):
            return m + 1
    return count


@compiled
def creates_order(message: Any) -> bool:
    """Whether a message's id is that of a new order."""
    return message.kind <= MARKET or STOP <= message.kind <= PEGGED
