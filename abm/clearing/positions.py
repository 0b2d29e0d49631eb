"""One side of a fill: the position, its basis and margin, what is realised, and who pays where an account cannot."""

from typing import Any

import numpy as np

from abm.clearing.margin import index_account, index_after_fill, list_holding
from abm.clearing.money import (
    allowed_initial,
    closing_lots,
    fee_of,
    holding_of,
    notional,
    part_of,
    part_up,
    rates_of,
    share,
)
from abm.clearing.reservation import reserve, set_offset
from abm.exchange.compilation import compiled, inlined
from abm.exchange.memory import ISOLATED, PAUSED, STAGED, account_at, component, liquidation_at
from abm.exchange.messages import Forced, Side

SELL, AUCTION = int(Side.SELL), int(Side.AUCTION)
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


@inlined
def move(e: Any, book: Any, holding: Any, side: int, price: int, lots: int, fee: int) -> int:
    """Change a position by a fill, with its basis. Answers the profit that the lots it closes realise."""
    sign = 1 - 2 * side
    direction = sign * (1 - 2 * np.int64(book.inverse))  # in which the lots count, as `value` has it
    position, basis = np.int64(holding.position), np.int64(holding.basis)
    size, closing = abs(position), closing_lots(position, sign, lots)
    closed = share(basis, closing, max(size, np.int64(1)))
    ending = notional(book, price, closing)
    gain = -direction * ending - closed
    holding.position = position + sign * lots
    holding.basis = basis + direction * (notional(book, price, lots) - ending) - closed
    holding.realised += gain
    holding.fees += fee
    return gain


@component
def fill(e: Any, book: Any, row: Any, ordered: int) -> int:
    """A trade in an instrument with margin: first the buyer's side, then the seller's. Answers 0.

    `ordered` is the initial margin that the maker's order reserved for these lots. All is told by the record of the trade, as a
    parameter too many for the registers would cost a stall of the processor in each call.
    """
    i, aggressor = np.int64(row.instrument), np.int64(row.aggressor)
    maker, taker = np.int64(row.maker_owner), np.int64(row.taker_owner)
    maker_rate, taker_rate = _rate(e, maker, i, False), _rate(e, taker, i, aggressor != AUCTION)
    sold = aggressor == SELL
    fill_both(
        e,
        book,
        i,
        maker if sold else taker,
        taker if sold else maker,
        np.int64(row.price),
        np.int64(row.quantity),
        maker_rate if sold else taker_rate,
        taker_rate if sold else maker_rate,
        ordered * np.int64(sold),
        ordered * np.int64(not sold),
    )
    return 0


@compiled
def _rate(e: Any, owner: int, i: int, takes: bool) -> int:
    """Fee rate of one side of a trade with margin; who is being liquidated pays none."""
    rates = rates_of(e, owner, i)
    rate = np.int64(rates.taker if takes else rates.maker)
    return np.int64(0) if owner == e.free_of_fee else rate


@compiled
def fill_both(
    e: Any,
    book: Any,
    i: int,
    buyer: int,
    seller: int,
    price: int,
    lots: int,
    buyer_rate: int,
    seller_rate: int,
    buyer_ordered: int,
    seller_ordered: int,
) -> None:
    """Both sides of a fill. Rates are fees in parts per million; `ordered` is the initial margin that a resting order reserved."""
    for side in range(2):
        owner = buyer if side == 0 else seller
        rate = buyer_rate if side == 0 else seller_rate
        _fill_side(e, book, i, owner, side, price, lots, rate, buyer_ordered if side == 0 else seller_ordered)


@inlined
def _fill_side(
    e: Any, book: Any, i: int, owner: int, side: int, price: int, lots: int, rate: int, ordered: int
) -> None:
    """One side of a fill. What differs from fill to fill at random is reckoned without branches."""
    account, holding = account_at(e, owner), holding_of(e, owner, i)
    sign, before, cash, posted = (
        1 - 2 * side,
        np.int64(holding.position),
        np.int64(account.cash),
        np.int64(holding.margin),
    )
    amount = notional(book, price, lots)
    fee = part_of(amount, rate) if rate >= 0 else fee_of(amount, rate)
    size, closing = abs(before), closing_lots(before, sign, lots)
    isolated = np.int64(holding.flags & ISOLATED)
    released = share(posted, closing, max(size, np.int64(1)))
    gain = move(e, book, holding, side, price, lots, fee)
    after = np.int64(holding.position)
    book.open_interest += abs(after) - size
    if owner == e.saving and isolated != 0:  # liquidated in part: all of the margin is there to save the rest
        holding.margin = posted + gain
    elif book.spot:
        account.cash = cash - (sign * amount + fee)
    else:
        free = cash + gain + released - fee
        opened = amount - notional(book, price, closing)
        post = min(part_up(opened, allowed_initial(e, i, holding)), max(np.int64(0), free)) * isolated
        account.cash = free - post
        holding.margin = posted - released + post
    if before == 0 or (after != 0 and (before ^ after) < 0):
        e.stamp += 1
        holding.since = e.stamp
        holding.flags = holding.flags & ~(STAGED | PAUSED)
    _end_pause(e, i, owner, account, holding)
    account.session += gain - fee
    e.fee_income += fee
    list_holding(e, i, owner, holding)
    account.cross += (np.int64(after != 0) - np.int64(before != 0)) * (1 - isolated)
    if account.cash < 0 and account.cross == 0 and owner != e.fund:
        _cover(e, book, i, owner, side, price, account, holding)
    if side == 0:
        holding.bids -= ordered
    else:
        holding.asks -= ordered
    set_offset(holding)
    reserve(account, holding)
    index_after_fill(e, book, i, owner, account, holding, cash)


@inlined
def _end_pause(e: Any, i: int, owner: int, account: Any, holding: Any) -> None:
    """Where the position that is paused was closed or opened anew, the account's pause is over."""
    if account.paused != 0 and account.paused == 1 + i * e.n_accounts + owner:
        if holding.position == 0 or (holding.flags & PAUSED) == 0:
            account.paused = 0
            index_account(e, owner)


@compiled
def _cover(e: Any, book: Any, i: int, owner: int, side: int, price: int, account: Any, holding: Any) -> None:
    """Cash is missing and no crossed position stands behind it: the isolated position pays, or the insurance fund."""
    missing = -account.cash
    account.cash = 0
    if (holding.flags & ISOLATED) != 0 and holding.position != 0:
        holding.margin -= missing
        return
    account_at(e, e.fund).cash -= missing
    record(e, DEFAULTED, i, owner, e.fund, side, 0, price, 0, np.int64(book.mark), missing, 0)
