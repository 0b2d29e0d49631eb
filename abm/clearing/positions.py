"""One side of a fill: the position, its basis and margin, what is realised, and who pays where an account cannot."""

from typing import Any

import numpy as np

from abm.clearing.margin import index_account, index_isolated, list_holding, lose_cash
from abm.clearing.money import fee_of, holding_of, initial_of, notional, share, value
from abm.clearing.reservation import reserve
from abm.exchange.compilation import compiled
from abm.exchange.memory import ISOLATED, PAUSED, STAGED, account_at, component, liquidation_at
from abm.exchange.messages import Forced

DEFAULTED = int(Forced.DEFAULTED)


@compiled
def record(
    e: Any,
    what: int,
    i: int,
    account: int,
    counterparty: int,
    side: int,
    lots: int,
    price: int,
    limit: int,
    mark: int,
    amount: int,
    parent: int,
) -> None:
    """Write what the clearing house did to an account."""
    row = liquidation_at(e.liquidations, e.n_liquidations)
    row.time, row.message, row.quantity, row.amount = e.time, e.sequence, lots, amount
    row.number, row.parent, row.account, row.counterparty = e.current, parent, account, counterparty
    row.price, row.limit, row.mark, row.instrument, row.what, row.side = price, limit, mark, i, what, side
    e.n_liquidations += 1


@compiled
def move(e: Any, book: Any, holding: Any, side: int, price: int, lots: int, fee: int) -> int:
    """Change a position by a fill, with its basis. Answers the profit that the lots it closes realise."""
    sign = 1 - 2 * side
    position = np.int64(holding.position)
    worth = value(book, price, lots)
    closing, closed, closing_worth, gain = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    if position * sign < 0:
        closing = min(lots, abs(position))
        closed = share(holding.basis, closing, abs(position))
        closing_worth = worth if closing == lots else value(book, price, closing)
        gain = -sign * closing_worth - closed
    holding.position = position + sign * lots
    holding.basis += sign * (worth - closing_worth) - closed
    holding.realised += gain
    holding.fees += fee
    return gain


@component
def fill(e: Any, book: Any, i: int, owner: int, side: int, price: int, lots: int, rate: int) -> int:
    """One side of a fill in an instrument with margin, at a fee rate in parts per million. Answers the profit realised."""
    account, holding = account_at(e.accounts, owner), holding_of(e, owner, i)
    sign, before, cash = 1 - 2 * side, np.int64(holding.position), np.int64(account.cash)
    fee = fee_of(notional(book, price, lots), rate)
    closing = min(lots, abs(before)) if before * sign < 0 else np.int64(0)
    isolated = (holding.flags & ISOLATED) != 0
    stays = isolated and owner == e.saving  # liquidated in part: all of the margin is there to save the rest
    released = share(holding.margin, closing, abs(before)) if closing > 0 and isolated and not stays else np.int64(0)
    closing_worth = value(book, price, closing)
    gain = move(e, book, holding, side, price, lots, fee)
    book.open_interest += abs(holding.position) - abs(before)
    holding.margin -= released
    if stays:
        holding.margin += gain
    elif book.spot:
        account.cash -= sign * value(book, price, lots) + fee
    else:
        account.cash += gain + released - fee
    if lots > closing:
        if before == 0 or closing > 0:
            e.stamp += 1
            holding.since = e.stamp
            holding.flags = holding.flags & ~(STAGED | PAUSED)
        if isolated:
            opened = abs(value(book, price, lots) - closing_worth)
            post = min(-fee_of(-opened, initial_of(holding)), max(np.int64(0), account.cash))
            account.cash -= post
            holding.margin += post
    account.session += gain - fee
    e.fee_income += fee
    list_holding(e, i, owner, holding)
    if not isolated:
        account.cross += np.int64(holding.position != 0) - np.int64(before != 0)
    if account.cash < 0 and account.cross == 0 and owner != e.fund:
        _cover(e, book, i, owner, side, price, account, holding)
    reserve(account, holding)
    if isolated:
        index_isolated(e, i, owner, False)
        lose_cash(e, owner, cash - account.cash)
    else:
        index_account(e, owner)
    return gain


@compiled
def _cover(e: Any, book: Any, i: int, owner: int, side: int, price: int, account: Any, holding: Any) -> None:
    """Cash is missing and no crossed position stands behind it: the isolated position pays, or the insurance fund."""
    missing = -account.cash
    account.cash = 0
    if (holding.flags & ISOLATED) != 0 and holding.position != 0:
        holding.margin -= missing
        return
    account_at(e.accounts, e.fund).cash -= missing
    record(e, DEFAULTED, i, owner, e.fund, side, 0, price, 0, np.int64(book.mark), missing, 0)
