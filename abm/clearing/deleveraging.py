"""Who takes a position that the book does not: the insurance fund, or accounts on the other side, by profit and leverage or by water-filling."""

from typing import Any

import numpy as np
import numpy.typing as npt

from abm.clearing.margin import equity_behind, index_again, lose_cash
from abm.clearing.money import holding_of, notional, value
from abm.clearing.positions import fill_both, record
from abm.exchange.compilation import compiled
from abm.exchange.description import PPM
from abm.exchange.memory import (
    ISOLATED,
    LADDER,
    SOCIALISE,
    WATER,
    account_at,
    book_at,
    component,
    holding_at,
    liquidation_at,
    margin_at,
    score_at,
)
from abm.exchange.messages import Forced

TAKEN_OVER, DELEVERAGED = int(Forced.TAKEN_OVER), int(Forced.DELEVERAGED)


def water_fill(
    quantity: npt.NDArray[np.float64], equity: npt.NDArray[np.float64], price: float, total: float
) -> npt.NDArray[np.float64]:
    """What each position gives so that `total` is given and the highest leverage that remains is as low as can be.

    Args:
        quantity: Sizes of the positions (n,), in coins.
        equity: Equity behind each (n,), in currency; above 0.
        price: Price of a coin.
        total: Coins to be given, at most the sum of `quantity`.

    Returns:
        d_i = max(0, q_i - L E_i / p), with L such that they add up to `total` (Campbell, Hey, Moallemi, Nutz 2026).

    Raises:
        ValueError: More is asked for than there is, or an equity is not above 0.
    """
    if (equity <= 0).any() or not 0 <= total <= quantity.sum():
        raise ValueError("water_fill: every equity must be above 0, and total between 0 and the sum of the positions")
    order = np.argsort(-quantity * price / equity, kind="stable")
    levels = (np.cumsum(quantity[order]) - total) * price / np.cumsum(equity[order])
    leverage = np.append((quantity * price / equity)[order][1:], 0.0)
    level = levels[np.argmax(levels >= leverage)]
    return np.maximum(0.0, quantity - level * equity / price)


# ------------------------------------------------------------------ the queue of those to be deleveraged


@compiled
def _leverage(e: Any, book: Any, k: int, owner: int) -> float:
    """Notional of a position at the mark over the equity behind it; infinite where there is none."""
    equity = equity_behind(e, owner, k)
    if equity <= 0:
        return np.inf
    size = abs(np.int64(holding_of(e, owner, k).position))
    return float(notional(book, np.int64(book.mark), size)) / float(equity)


@compiled
def _score(e: Any, book: Any, k: int, owner: int) -> float:
    """Profit in per cent times leverage, where there is a profit; a loss divided by it."""
    holding = holding_of(e, owner, k)
    gain = float(value(book, np.int64(book.mark), np.int64(holding.position)) - holding.basis)
    if gain == 0.0:
        return 0.0
    leverage = _leverage(e, book, k, owner)
    part = gain / float(max(abs(holding.basis), np.int64(1)))
    if gain > 0.0:
        return part * leverage
    return part / leverage if leverage > 0.0 else -np.inf


@compiled
def _before(a: Any, b: Any) -> bool:
    return a.score > b.score or (a.score == b.score and a.since < b.since)


@compiled
def _sift(e: Any, place: int, size: int) -> None:
    """Let the record at `place` (from 0) of the heap sink to where it belongs."""
    top = score_at(e.scores, place)
    score, since, account = top.score, top.since, top.account
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and _before(score_at(e.scores, child + 1), score_at(e.scores, child)):
            child += 1
        below = score_at(e.scores, child)
        if not (below.score > score or (below.score == score and below.since < since)):
            break
        row = score_at(e.scores, place)
        row.score, row.since, row.account = below.score, below.since, below.account
        place = child
    row = score_at(e.scores, place)
    row.score, row.since, row.account = score, since, account


@compiled
def _draw_up(e: Any, book: Any, k: int, sign: int, water: bool) -> int:
    """Queue all positions of this sign but the fund's, as a heap. Answers how many."""
    size = np.int64(0)
    for owner in range(e.n_accounts):
        holding = holding_of(e, owner, k)
        if holding.position * sign > 0 and owner != e.fund:
            row = score_at(e.scores, size)
            row.score = _leverage(e, book, k, owner) if water else _score(e, book, k, owner)
            row.since, row.account = holding.since, owner
            size += 1
    for place in range(size // 2 - 1, -1, -1):
        _sift(e, place, size)
    return size


@compiled
def _pop(e: Any, size: int) -> int:
    """Take the first of a heap of `size`: it goes to its end. Answers its account."""
    first, last = score_at(e.scores, 0), score_at(e.scores, size - 1)
    score, since, account = first.score, first.since, np.int64(first.account)
    first.score, first.since, first.account = last.score, last.since, last.account
    last.score, last.since, last.account = score, since, account
    _sift(e, 0, size - 1)
    return account


# ------------------------------------------------------------------ transfers


@compiled
def _swap(e: Any, book: Any, k: int, owner: int, other: int, lots: int, what: int) -> None:
    """Hand lots of an account's position to another account at the bankruptcy price; the buyer's fill comes first."""
    price = e.transfer_price
    side = np.int64(1) if holding_of(e, owner, k).position > 0 else np.int64(0)
    buyer, seller = (other, owner) if side == 1 else (owner, other)
    fill_both(e, book, k, buyer, seller, price, lots, 0, 0, 0, 0)
    record(e, what, k, owner, other, side, lots, price, price, np.int64(book.mark), 0, e.transfer_parent)


@compiled
def _fund_can(e: Any, book: Any, i: int, position: int) -> bool:
    """Whether the insurance fund's equity stays at or above zero if it takes this position over."""
    equity, mark = equity_behind(e, e.fund, i), np.int64(book.mark)
    there = np.int64(holding_of(e, e.fund, i).position)
    after = value(book, mark, there + position) - value(book, mark, there)
    return equity + after - value(book, e.transfer_price, position) >= 0


@compiled
def _by_rank(e: Any, book: Any, k: int, owner: int) -> int:
    """Deleverage in order of the standing queue. 0 where there is no room for another record."""
    holding = holding_of(e, owner, k)
    sign = np.int64(-1) if holding.position > 0 else np.int64(1)
    redraw = margin_at(e.margins, k).redraw
    while holding.position != 0:
        if e.n_liquidations + 8 > e.liquidation_room:
            return 0
        moved = abs(book.mark - e.rank_mark) * PPM > redraw * e.rank_mark
        if e.rank_instrument != k or e.rank_side != sign or moved or e.rank_size == 0:
            e.rank_instrument, e.rank_side, e.rank_mark = k, sign, np.int64(book.mark)
            e.rank_size = _draw_up(e, book, k, sign, False)
            if e.rank_size == 0:
                return 1
        other = np.int64(score_at(e.scores, 0).account)
        there = np.int64(holding_of(e, other, k).position)
        if there * sign <= 0:
            _pop(e, e.rank_size)
            e.rank_size -= 1
            continue
        lots = min(abs(np.int64(holding.position)), abs(there))
        _swap(e, book, k, owner, other, lots, DELEVERAGED)
        if lots == abs(there):
            _pop(e, e.rank_size)
            e.rank_size -= 1
    return 1


@compiled
def _levelled(e: Any, book: Any, k: int, sign: int, total: int) -> int:
    """Share `total` lots by water-filling; what each gives replaces `since` in its record. Answers how many give, who stand at the heap's end."""
    whole = _draw_up(e, book, k, sign, True)
    each = float(max(notional(book, np.int64(book.mark), 1), np.int64(1)))
    count, lots, equity, level = np.int64(0), np.int64(0), np.int64(0), 0.0
    while count < whole:
        other = _pop(e, whole - count)
        count += 1
        lots += abs(np.int64(holding_of(e, other, k).position))
        equity += max(np.int64(0), equity_behind(e, other, k))
        following = score_at(e.scores, 0).score if count < whole else 0.0
        if lots >= total:
            level = float(lots - total) * each / float(equity) if equity > 0 else np.inf
            if level >= following:
                break
    left = total
    for n in range(whole - 1, whole - 1 - count, -1):
        row = score_at(e.scores, n)
        size, behind = abs(np.int64(holding_of(e, row.account, k).position)), equity_behind(e, np.int64(row.account), k)
        given = size if behind <= 0 else np.int64(np.floor(float(size) - level * float(behind) / each))
        row.since = min(max(given, np.int64(0)), min(size, left))
        left -= row.since
    while left > 0:
        before = left
        for n in range(whole - 1, whole - 1 - count, -1):
            row = score_at(e.scores, n)
            if left > 0 and row.since < abs(np.int64(holding_of(e, row.account, k).position)):
                row.since += 1
                left -= 1
        if left == before:
            break
    e.rank_size = whole
    return count


@compiled
def _by_water(e: Any, book: Any, k: int, owner: int) -> int:
    """Deleverage from the highest leverage down. 0 where there is no room for the records."""
    position = np.int64(holding_of(e, owner, k).position)
    sign = np.int64(-1) if position > 0 else np.int64(1)
    count = _levelled(e, book, k, sign, abs(position))
    e.rank_instrument = -1  # the standing queue of another policy was overwritten
    if e.n_liquidations + count + 8 > e.liquidation_room:
        e.wanted = count
        return 0
    for n in range(e.rank_size - 1, e.rank_size - 1 - count, -1):
        row = score_at(e.scores, n)
        if row.since > 0:
            _swap(e, book, k, owner, np.int64(row.account), np.int64(row.since), DELEVERAGED)
    return 1


@component
def transfer(e: Any) -> int:
    """Transfer what is left of the position named in the engine record at its bankruptcy price; 0 where Python must make room first."""
    slot = e.transferring
    k, owner = (slot - 1) // e.n_accounts, (slot - 1) % e.n_accounts
    book, holding, margin = book_at(e.books, k), holding_at(e, slot), margin_at(e.margins, k)
    if e.score_room < e.n_accounts or e.n_liquidations + 8 > e.liquidation_room:
        e.wanted = 64
        return 0
    position, fund = np.int64(holding.position), holding_of(e, e.fund, k)
    if margin.deficit == SOCIALISE or (margin.takes_over != 0 and _fund_can(e, book, k, position)):
        _swap(e, book, k, owner, e.fund, abs(position), TAKEN_OVER)
    elif fund.position * position < 0:
        _swap(e, book, k, owner, e.fund, min(abs(position), abs(np.int64(fund.position))), DELEVERAGED)
    if holding.position != 0 and not (
        _by_water(e, book, k, owner) if margin.deficit == WATER else _by_rank(e, book, k, owner)
    ):
        return 0
    if holding.position != 0:  # nobody is left on the other side
        _swap(e, book, k, owner, e.fund, abs(np.int64(holding.position)), TAKEN_OVER)
    account = account_at(e, owner)
    gained = account.cash - e.transfer_cash
    if (holding.flags & ISOLATED) != 0 and margin.style != LADDER and gained > 0:
        account.cash -= gained
        lose_cash(e, owner, gained)
        account_at(e, e.fund).cash += gained
        liquidation_at(e.liquidations, e.n_liquidations - 1).amount += gained
    index_again(e, k, owner)
    e.transferring = e.wanted = 0
    return 1
