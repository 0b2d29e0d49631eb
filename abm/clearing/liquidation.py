"""Liquidation: orders cancelled, an order at no worse than the bankruptcy price, and what the book does not take to the fund or to others."""

from typing import Any

import numpy as np

from abm.clearing.deleveraging import transfer
from abm.clearing.margin import bracket_of, equity_behind, index_again, lose_cash, maintenance, slack
from abm.clearing.money import fee_of, holding_of, notional, value
from abm.clearing.positions import record
from abm.clearing.reservation import remaining
from abm.exchange.compilation import compiled
from abm.exchange.description import PPM
from abm.exchange.entry import IOC, LIMIT, enter_order
from abm.exchange.memory import (
    IN_STAGES,
    ISOLATED,
    LADDER,
    PAUSED,
    QUEUES,
    RESUME,
    STAGED,
    account_at,
    book_at,
    component,
    holding_at,
    id_at,
    margin_at,
    move_at,
    order_at,
    queue_at,
    trade_at,
)
from abm.exchange.messages import Forced, Phase, Reason, What
from abm.exchange.orders import finish, newer_of, note, oldest_of, set_timer
from abm.exchange.shifts import note_shift

CONTINUOUS = int(Phase.CONTINUOUS)
LIQUIDATED, LIQUIDATION_CANCELLED = int(Forced.LIQUIDATED), int(What.LIQUIDATION_CANCELLED)
LIQUIDATION_REASON = int(Reason.LIQUIDATION)


@compiled
def _cancel_orders(e: Any, owner: int, instrument: int) -> None:
    """End an account's orders in one instrument (-1: in all), oldest first."""
    order_id = oldest_of(e, owner)
    while order_id != 0:
        slot = np.int64(id_at(e.ids, order_id).slot)
        order = order_at(e.orders, slot)
        i = np.int64(order.instrument)
        if instrument < 0 or instrument == i:
            note(e, LIQUIDATION_CANCELLED, i, order_id, owner, remaining(e, slot, order), 0, 0)
            finish(e, slot)
            if e.noting != 0:
                note_shift(e, i, e.time, owner, LIQUIDATION_REASON, False)
            book_at(e.books, i).unsettled = 1
            e.unsettled = -1
        order_id = newer_of(e, owner, order_id)


@compiled
def _heaviest(e: Any, owner: int) -> int:
    """The instrument in continuous trading in which an account's crossed position needs most maintenance."""
    chosen, most = np.int64(-1), np.int64(-1)
    k = np.int64(account_at(e, owner).held)
    while k != 0:
        holding, book = holding_of(e, owner, k - 1), book_at(e.books, k - 1)
        if holding.position != 0 and (holding.flags & ISOLATED) == 0 and book.phase == CONTINUOUS:
            need = maintenance(e, book, k - 1, np.int64(book.mark), np.int64(holding.position))
            if need > most or (need == most and k - 1 < chosen):
                chosen, most = k - 1, need
        k = np.int64(holding.next_held)
    return chosen


@compiled
def _bankruptcy_price(book: Any, position: int, equity: int) -> int:
    """The furthest tick in the direction of loss at which equity is not negative, other marks as they are."""
    at_mark = value(book, np.int64(book.mark), position)
    sign, top = np.int64(1) if position > 0 else np.int64(-1), np.int64(book.n_ticks) - 1
    sound, lost = (
        (top, np.int64(0)) if position > 0 else (np.int64(1), top + 1)
    )  # the answer is at `sound` or between it and `lost`
    if book.inverse:
        amount = float(at_mark - equity) * -float(sign)
        guess = float(abs(position)) * float(book.unit) / amount if amount > 0.0 else float(top)
    else:
        guess = float(book.mark) - float(sign) * float(equity) / (float(abs(position)) * float(book.unit))
    tick, step = np.int64(min(max(guess, 1.0), float(top))), np.int64(1)
    if equity + value(book, sound, position) - at_mark < 0:
        return sound
    while abs(sound - lost) > 1:
        if equity + value(book, tick, position) - at_mark >= 0:
            sound = tick
            tick = tick - sign * step
        else:
            lost = tick
            tick = tick + sign * step
        step *= 2
        if (tick - lost) * sign <= 0 or (sound - tick) * sign <= 0:
            tick = (lost + sound) // 2
    return sound


@compiled
def _ladder_lots(e: Any, book: Any, k: int, position: int, equity: int, need: int) -> int:
    """Lots to close so that what is left meets its maintenance, fee included; all where none would do."""
    whole = abs(position)
    if book.inverse:
        return whole
    margin, mark, sign = margin_at(e.margins, k), float(book.mark), 1.0 if position > 0 else -1.0
    opposite = queue_at(e.queues, k * QUEUES + (0 if position > 0 else 1))
    price = mark if opposite.best == opposite.none else float(opposite.best)
    rate = float(bracket_of(e, k, notional(book, np.int64(book.mark), whole)).rate) / float(PPM)
    per = float(book.unit) * (mark * rate - sign * (mark - price) - float(margin.fee) / float(PPM) * price)
    if per <= 0.0:
        return whole
    lots = np.ceil(float(need - equity) / per)
    return np.int64(min(max(lots, 1.0), float(whole)))


@compiled
def _parent(e: Any, book: Any, i: int, tick: int, short: bool) -> int:
    """The liquidation whose order moved the mark of instrument `i` to this liquidation price; 0 where a message did."""
    found = np.int64(0)
    for n in range(e.n_moves - 1, -1, -1):
        row = move_at(e.moves, n)
        if row.instrument == i:
            if not (row.mark >= tick if short else row.mark <= tick):
                break
            found = np.int64(row.mover)
    return found


@compiled
def _fee_to_fund(e: Any, owner: int, k: int, amount: int, isolated: bool) -> None:
    """Move money to the insurance fund from an account's cash, or from an isolated position that is still open."""
    holding = holding_of(e, owner, k)
    if isolated and holding.position != 0 and margin_at(e.margins, k).style == LADDER:
        holding.margin -= amount
    else:
        account_at(e, owner).cash -= amount
        lose_cash(e, owner, amount)
    account_at(e, e.fund).cash += amount


@compiled
def _due_to_fund(e: Any, book: Any, owner: int, k: int, first: int, limit: int, sign: int, cash: int) -> int:
    """What the liquidation order leaves to the fund: the ladder's fee, else what it got above the bankruptcy price."""
    filled, paid, worth = np.int64(0), np.int64(0), np.int64(0)
    for t in range(first, e.n_trades):
        row = trade_at(e.trades, t)
        filled += row.quantity
        paid += notional(book, np.int64(row.price), np.int64(row.quantity))
        worth += value(book, np.int64(row.price), np.int64(row.quantity))
    margin, holding = margin_at(e.margins, k), holding_of(e, owner, k)
    isolated = (holding.flags & ISOLATED) != 0
    gained = account_at(e, owner).cash - cash
    left = gained if isolated and (holding.position == 0 or margin.style != LADDER) else equity_behind(e, owner, k)
    due = (
        fee_of(paid, margin.fee)
        if margin.style == LADDER
        else max(np.int64(0), sign * (worth - value(book, limit, filled)))
    )
    return min(due, max(np.int64(0), left))


@component
def liquidate(e: Any, book: Any, i: int, slot: int) -> int:
    """Liquidate the account of a position that is due at the mark of instrument `i`; 0 where Python must make room before that can go on."""
    due = holding_at(e, slot)
    owner = slot - 1 - i * e.n_accounts
    short = due.position < 0
    parent = _parent(e, book, i, np.int64(due.key), short)
    isolated = (due.flags & ISOLATED) != 0
    e.forced += 1
    e.current = e.forced
    _cancel_orders(e, owner, i if isolated else -1)
    k = i if isolated else _heaviest(e, owner)
    holding, own = holding_of(e, owner, k), book_at(e.books, k)
    position = np.int64(holding.position)
    sign = np.int64(1) if position > 0 else np.int64(-1)
    equity = equity_behind(e, owner, k)
    need = equity - slack(e, owner, k)
    limit = _bankruptcy_price(own, position, equity)
    margin = margin_at(e.margins, k)
    lots, staged = abs(position), False
    if margin.style == LADDER:
        lots = _ladder_lots(e, own, k, position, equity, need)
    elif margin.style == IN_STAGES and (holding.flags & STAGED) == 0:
        staged = notional(own, np.int64(own.mark), lots) > margin.staged_above
        if staged:
            lots = -fee_of(-lots, margin.stage)
    side = np.int64(1) if position > 0 else np.int64(0)
    first, cash = e.n_trades, np.int64(account_at(e, owner).cash)
    e.free_of_fee = owner
    if lots < abs(position):
        e.saving = owner
    enter_order(e, own, k, 0, LIMIT, side, limit, lots, 0, -e.current, owner, LIQUIDATION_REASON, 0, IOC, 0, 0)
    e.free_of_fee = e.saving = -1
    if e.noting != 0:
        note_shift(e, k, e.time, owner, LIQUIDATION_REASON, e.n_trades > first)
    amount = _due_to_fund(e, own, owner, k, first, limit, sign, cash)
    _fee_to_fund(e, owner, k, amount, isolated)
    price = np.int64(trade_at(e.trades, e.n_trades - 1).price) if e.n_trades > first else np.int64(0)
    record(e, LIQUIDATED, k, owner, -1, side, e.filled, price, limit, np.int64(own.mark), amount, parent)
    index_again(e, k, owner)
    own.unsettled = 1
    e.unsettled = -1
    if staged:
        holding.flags = holding.flags | STAGED
        if holding.position != 0:
            holding.flags = holding.flags | PAUSED
            if not isolated:
                account_at(e, owner).paused = 1 + k * e.n_accounts + owner
            index_again(e, k, owner)
            token = np.int64(holding.since & 0x7FFFFFFF)
            set_timer(e, e.time + margin.pause, RESUME, 1 + k * e.n_accounts + owner, token, 0)
        return 1
    if e.filled == lots or holding.position == 0 or own.hit >= 0 or slack(e, owner, k) > 0:
        return 1
    e.transferring, e.transfer_price, e.transfer_parent = 1 + k * e.n_accounts + owner, limit, parent
    e.transfer_cash = np.int64(account_at(e, owner).cash)
    return transfer(e)
