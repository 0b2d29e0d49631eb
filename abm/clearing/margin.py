"""Maintenance margin, and the index that finds who no longer has it.

Each open position stands in a queue of its instrument at a tick: while the mark has not reached it, its account need not be looked at. The tick
is chosen so that up to there the position can lose no more than its share of what the account may lose; a part is left over, so that fees
and funding seldom move it. What the mark reaches is looked at again: most positions are only moved on, nearer to their true price each time.
"""

from typing import Any

import numpy as np

from abm.clearing.money import contribution, holding_of, notional, part_of, value
from abm.exchange.compilation import compiled, inlined
from abm.exchange.description import PPM
from abm.exchange.levels import bit, close_level, level_of, mark_block, next_level
from abm.exchange.memory import (
    ISOLATED,
    LISTED,
    LONGS,
    PAUSED,
    QUEUES,
    account_at,
    block_at,
    book_at,
    bracket_at,
    component,
    holding_at,
    margin_at,
    queue_at,
)

HEADROOM = 64


@inlined
def flag(e: Any, i: int) -> None:
    """Have what may follow in a book looked after."""
    book_at(e.books, i).unsettled = 1
    e.unsettled = i + 1 if e.unsettled == 0 or e.unsettled == i + 1 else -1


# ------------------------------------------------------------------ maintenance


@compiled
def bracket_of(e: Any, i: int, amount: int) -> Any:
    """The bracket of a notional: the last one where it is beyond all."""
    margin = margin_at(e.margins, i)
    k, last = margin.first_bracket, margin.first_bracket + margin.n_brackets - 1
    while k < last and amount > bracket_at(e.brackets, k).up_to:
        k += 1
    return bracket_at(e.brackets, k)


@inlined
def needed(e: Any, book: Any, i: int, amount: int) -> int:
    """Maintenance margin of a position of this notional."""
    if amount <= book.up_to:
        return part_of(amount, book.maintenance)
    bracket = bracket_of(e, i, amount)
    return max(np.int64(0), part_of(amount, bracket.rate) - bracket.cum)


@compiled
def maintenance(e: Any, book: Any, i: int, price: int, position: int) -> int:
    """Maintenance margin of a position at a price."""
    return needed(e, book, i, notional(book, price, abs(position)))


@compiled
def slack(e: Any, owner: int, i: int) -> int:
    """Equity less maintenance behind an open position: of itself if isolated, of the account's crossed positions otherwise. Due where <= 0."""
    holding = holding_of(e, owner, i)
    if holding.flags & ISOLATED:
        book = book_at(e.books, i)
        return (
            holding.margin
            + contribution(book, holding)
            - maintenance(e, book, i, np.int64(book.mark), np.int64(holding.position))
        )
    return account_slack(e, owner)


@compiled
def account_slack(e: Any, owner: int) -> int:
    """Equity less maintenance of an account's cash and crossed positions."""
    account = account_at(e, owner)
    total = np.int64(account.cash)
    k = np.int64(account.held)
    while k != 0:
        holding = holding_of(e, owner, k - 1)
        if holding.position != 0 and (holding.flags & ISOLATED) == 0:
            book = book_at(e.books, k - 1)
            total += contribution(book, holding)
            total -= maintenance(e, book, k - 1, np.int64(book.mark), np.int64(holding.position))
        k = np.int64(holding.next_held)
    return total


@compiled
def equity_behind(e: Any, owner: int, k: int) -> int:
    """Equity of an isolated position, or of the account's cash and crossed positions."""
    holding, book = holding_of(e, owner, k), book_at(e.books, k)
    if holding.flags & ISOLATED:
        return holding.margin + contribution(book, holding)
    total = np.int64(account_at(e, owner).cash)
    k = np.int64(account_at(e, owner).held)
    while k != 0:
        other = holding_of(e, owner, k - 1)
        if other.position != 0 and (other.flags & ISOLATED) == 0:
            total += contribution(book_at(e.books, k - 1), other)
        k = np.int64(other.next_held)
    return total


# ------------------------------------------------------------------ the tick at which so much is lost


@compiled
def _worth(e: Any, book: Any, i: int, price: int, position: int) -> int:
    """Value less maintenance of a position at a price: it falls in the direction of loss, and the basis does not matter for how much."""
    return value(book, price, position) - maintenance(e, book, i, price, position)


@compiled
def _estimate(e: Any, book: Any, i: int, position: int, target: int) -> float:
    """Price in ticks at which value less maintenance is about `target`, brackets taken where the guess before lies."""
    lots, unit = float(abs(position)), float(book.unit)
    price = float(book.mark)
    for _ in range(3):
        tick = np.int64(min(max(price, 1.0), float(book.n_ticks) - 1.0))
        bracket = bracket_of(e, i, notional(book, tick, abs(position)))
        rate, cum = float(bracket.rate) / PPM, float(bracket.cum)
        if book.inverse:
            amount = (cum - target) / (1.0 + rate) if position > 0 else (target - cum) / (1.0 - rate)
            price = lots * unit / amount if amount > 0.0 else (0.0 if position < 0 else float(book.n_ticks))
        elif position > 0:
            price = (target - cum) / (lots * unit * (1.0 - rate))
        else:
            price = (cum - target) / (lots * unit * (1.0 + rate))
    return price


@compiled
def tick_of_loss(e: Any, book: Any, i: int, position: int, loss: int) -> int:
    """The tick nearest to the profit side at which a position has lost at least `loss` of value less maintenance since the mark; 0 none."""
    target = _worth(e, book, i, np.int64(book.mark), position) - loss
    sign, top = np.int64(1) if position > 0 else np.int64(-1), np.int64(book.n_ticks) - 1
    profit, far = (top, np.int64(1)) if position > 0 else (np.int64(1), top)
    if loss <= 0 and _worth(e, book, i, profit, position) <= target:
        return profit
    if _worth(e, book, i, far, position) > target:
        return np.int64(0)
    guess = _estimate(e, book, i, position, target)
    lost, sound = far, profit  # the answer is at `lost` or between it and `sound`
    tick = np.int64(min(max(guess, 1.0), float(top)))
    step = np.int64(1)
    while abs(sound - lost) > 1:
        if _worth(e, book, i, tick, position) <= target:
            lost = tick
            tick = tick + sign * step
        else:
            sound = tick
            tick = tick - sign * step
        step *= 2
        if (tick - lost) * sign <= 0 or (sound - tick) * sign <= 0:
            tick = (lost + sound) // 2
    return lost


# ------------------------------------------------------------------ the index


@compiled
def unindex(e: Any, i: int, slot: int, holding: Any) -> None:
    """Take a position out of the index, if it is in it."""
    if holding.key == 0:
        return
    queue = queue_at(e.queues, i * QUEUES + LONGS + (holding.flags >> 7))
    level = level_of(e, queue, np.int64(holding.key))
    following, before = np.int64(holding.next), np.int64(holding.prev)
    if before != 0:
        holding_at(e, before).next = following
    else:
        level.head = following
    if following != 0:
        holding_at(e, following).prev = before
    else:
        level.tail = before
    if level.head == 0:
        close_level(e, queue, np.int64(holding.key))
    holding.key = 0


@compiled
def put_in_index(e: Any, i: int, slot: int, holding: Any, tick: int, short: int) -> None:
    """Put a position last at a tick of the index; `sort_level` brings those there in order when their time comes."""
    queue = queue_at(e.queues, i * QUEUES + LONGS + short)
    block = block_at(e.blocks, queue.block0 + (tick >> 6))
    if block.page == 0:
        block.page = e.next_page
        e.next_page += 1
    level = level_of(e, queue, tick)
    if level.head == 0:
        if block.word == 0:
            mark_block(e, queue, tick >> 6)
        block.word = block.word | bit(tick)
        if queue.high:
            queue.best = max(np.int64(queue.best), tick)
        else:
            queue.best = min(np.int64(queue.best), tick)
        level.hidden = 0
    before = np.int64(level.tail) if level.head != 0 else np.int64(0)
    holding.prev, holding.next, holding.key = before, 0, tick
    holding.flags = (holding.flags & 127) | (short << 7)
    level.tail = slot
    if before == 0:
        level.head = slot
        return
    ahead = holding_at(e, before)
    ahead.next = slot
    if ahead.since > holding.since:
        level.hidden = 1  # of positions: not in order


@compiled
def sort_level(e: Any, level: Any) -> None:
    """Bring the positions at a tick in the order in which they were opened: a merge sort of the list, runs of 1, 2, 4, ..."""
    level.hidden = 0
    width, merges = np.int64(1), np.int64(2)
    while merges > 1:
        left, tail, merges = np.int64(level.head), np.int64(0), np.int64(0)
        while left != 0:
            merges += 1
            right, n_left = left, np.int64(0)
            while n_left < width and right != 0:
                n_left += 1
                right = np.int64(holding_at(e, right).next)
            n_right = width
            while n_left > 0 or (n_right > 0 and right != 0):
                take_left = n_left > 0 and (
                    n_right == 0 or right == 0 or holding_at(e, left).since < holding_at(e, right).since
                )
                chosen = left if take_left else right
                if take_left:
                    left = np.int64(holding_at(e, left).next)
                    n_left -= 1
                else:
                    right = np.int64(holding_at(e, right).next)
                    n_right -= 1
                if tail == 0:
                    level.head = chosen
                else:
                    holding_at(e, tail).next = chosen
                holding_at(e, chosen).prev = tail
                tail = chosen
            left = right
        holding_at(e, tail).next = 0
        level.tail = tail
        width *= 2


@compiled
def _index(e: Any, book: Any, i: int, owner: int, holding: Any, loss: int) -> None:
    """Have a position looked at when it has lost so much."""
    position = np.int64(holding.position)
    slot = 1 + i * e.n_accounts + owner
    if position == 0 or owner == e.fund or is_paused(e, owner, holding):
        unindex(e, i, slot, holding)
        return
    short = np.int64(position < 0)
    tick = tick_of_loss(e, book, i, position, loss)
    if holding.key != tick or np.int64(holding.flags >> 7) != short:
        unindex(e, i, slot, holding)
        if tick != 0:
            put_in_index(e, i, slot, holding, tick, short)
    if tick != 0 and (np.int64(book.mark) <= tick if short == 0 else np.int64(book.mark) >= tick):
        flag(e, i)


@inlined
def is_paused(e: Any, owner: int, holding: Any) -> bool:
    """Whether a position is not to be liquidated for the time being: it is paused, or another crossed one of its account is."""
    if holding.flags & ISOLATED:
        return (holding.flags & PAUSED) != 0
    return account_at(e, owner).paused != 0


@compiled
def _loss_at_key(e: Any, book: Any, i: int, holding: Any) -> int:
    """What an open position will have lost when the index looks at it (where it is not in the index, at most); -1 where it must be indexed anew."""
    position, mark, key = np.int64(holding.position), np.int64(book.mark), np.int64(holding.key)
    short = position < 0
    if key == 0:
        key = np.int64(book.n_ticks) - 1 if short else np.int64(1)
    elif ((holding.flags >> 7) != 0) != short or (mark >= key if short else mark <= key):
        return np.int64(-1)
    return _worth(e, book, i, mark, position) - _worth(e, book, i, key, position)


@component
def index_isolated(e: Any, i: int, owner: int) -> int:
    """Bring the place of an isolated position in the index up to date. One that still serves is left. Answers 0."""
    book, holding = book_at(e.books, i), holding_of(e, owner, i)
    loss = np.int64(0)
    if holding.position != 0 and owner != e.fund and (holding.flags & PAUSED) == 0:
        loss = slack(e, owner, i)
        there = _loss_at_key(e, book, i, holding)
        if 0 <= there < loss:
            holding.headroom = loss - there - 1
            return 0
    holding.headroom = 0
    if loss > 0:
        holding.headroom = loss // HEADROOM
        loss -= holding.headroom
    _index(e, book, i, owner, holding, loss)
    return 0


@component
def index_account(e: Any, owner: int) -> int:
    """Bring the places of an account's crossed positions in the index up to date. Those that still serve together are left. Answers 0."""
    account = account_at(e, owner)
    loss = account_slack(e, owner)
    there = np.int64(0)
    k = np.int64(account.held)
    while k != 0 and there >= 0:
        holding = holding_of(e, owner, k - 1)
        if (holding.flags & ISOLATED) == 0:
            if holding.position != 0:
                at_key = _loss_at_key(e, book_at(e.books, k - 1), k - 1, holding)
                there = there + at_key if at_key >= 0 else np.int64(-1)
            elif holding.key != 0:
                there = np.int64(-1)
        k = np.int64(holding.next_held)
    if (0 <= there < loss and account.paused == 0) or owner == e.fund:
        account.headroom = loss - there - 1
        return 0
    _index_account_anew(e, account, owner, loss)
    return 0


@compiled
def _index_account_anew(e: Any, account: Any, owner: int, loss: int) -> None:
    """Index an account's crossed positions so that each may lose an equal part of what all may."""
    account.headroom = 0
    if loss > 0:
        account.headroom = loss // HEADROOM
        loss = max(np.int64(1), (loss - account.headroom) // max(np.int64(account.cross), np.int64(1)))
    k = np.int64(account.held)
    while k != 0:
        holding = holding_of(e, owner, k - 1)
        if (holding.flags & ISOLATED) == 0 and (holding.position != 0 or holding.key != 0):
            _index(e, book_at(e.books, k - 1), k - 1, owner, holding, loss)
        k = np.int64(holding.next_held)


@inlined
def index_after_fill(e: Any, book: Any, i: int, owner: int, account: Any, holding: Any, cash: int) -> None:
    """Bring the index up to date after a fill that changed the account's cash from `cash`.

    Most positions may stay where they are: behind them would still be enough money there. That needs no look at the mark. Which side a
    position is on, and whether it is isolated, comes at random, and is reckoned with rather than branched upon.
    """
    isolated, short = np.int64(holding.flags & ISOLATED), np.int64(holding.position < 0)
    position, key, mark = np.int64(holding.position), np.int64(holding.key), np.int64(book.mark)
    reached = np.int64((mark - key) * (1 - 2 * short) <= 0) | (np.int64(holding.flags >> 7) ^ short)
    lone = isolated | np.int64(account.cross == 1)
    paused = np.int64(holding.flags & PAUSED) | np.int64(account.paused)
    if (np.int64(position != 0) & lone & ~(reached & np.int64(key != 0))) != 0 and paused == 0:
        key += np.int64(key == 0) * (1 + short * (np.int64(book.n_ticks) - 2))  # not in the index: as far as prices go
        amount = notional(book, key, abs(position))
        left = np.int64(holding.margin if isolated else account.cash) - needed(e, book, i, amount)
        left += amount * (1 - 2 * (short ^ np.int64(book.inverse)))
        if not book.spot:
            left -= holding.basis
        if left > 0 or owner == e.fund:
            holding.headroom += (left - 1 - holding.headroom) * isolated
            account.headroom += (left - 1 - account.headroom) * (1 - isolated)
            if isolated * account.cross != 0:
                lose_cash(e, owner, cash - account.cash)
            return
    if isolated:
        index_isolated(e, i, owner)
        lose_cash(e, owner, cash - account.cash)
    else:
        index_account(e, owner)


@compiled
def index_again(e: Any, i: int, owner: int) -> None:
    """After a position or the money behind it has changed."""
    if holding_of(e, owner, i).flags & ISOLATED:
        index_isolated(e, i, owner)
    else:
        index_account(e, owner)


@compiled
def lose(e: Any, i: int, owner: int, amount: int) -> None:
    """Money left (or, below 0, reached) what stands behind a position without a trade: look whether its place in the index still serves."""
    holding = holding_of(e, owner, i)
    if holding.flags & ISOLATED:
        holding.headroom -= amount
        if holding.headroom < 0 and holding.position != 0:
            index_isolated(e, i, owner)
    else:
        lose_cash(e, owner, amount)


@compiled
def lose_cash(e: Any, owner: int, amount: int) -> None:
    """Cash left (or, below 0, reached) an account: look whether its crossed positions are still indexed where they should be."""
    account = account_at(e, owner)
    if account.cross != 0:
        account.headroom -= amount
        if account.headroom < 0:
            index_account(e, owner)


# ------------------------------------------------------------------ who is due


@component
def next_due(e: Any, book: Any, i: int) -> int:
    """The position to be liquidated first at the present mark of this instrument, or 0: by liquidation price, then by when it was opened."""
    for short in range(2):
        queue = queue_at(e.queues, i * QUEUES + LONGS + short)
        while queue.best != queue.none and (book.mark <= queue.best if short == 0 else book.mark >= queue.best):
            level = level_of(e, queue, np.int64(queue.best))
            if level.hidden:
                sort_level(e, level)
            slot = np.int64(level.head)
            holding = holding_at(e, slot)
            owner = slot - 1 - i * e.n_accounts
            loss = slack(e, owner, i)
            if loss > 0:
                _move_on(e, book, i, owner, holding)
                continue
            tick = tick_of_loss(e, book, i, np.int64(holding.position), loss)
            if tick == holding.key:
                return slot
            unindex(e, i, slot, holding)
            put_in_index(e, i, slot, holding, tick, short)
            # It stands at its very price now. If the mark turns before its turn comes, the next loss has to move it.
            if holding.flags & ISOLATED:
                holding.headroom = 0
            else:
                account_at(e, owner).headroom = 0
    return 0


@compiled
def _move_on(e: Any, book: Any, i: int, owner: int, holding: Any) -> None:
    """Index a sound position that the mark has reached where it has to be looked at next."""
    slot = 1 + i * e.n_accounts + owner
    unindex(e, i, slot, holding)
    if holding.flags & ISOLATED:
        index_isolated(e, i, owner)
    else:
        index_account(e, owner)


@compiled
def look_elsewhere(e: Any, book: Any, i: int) -> None:
    """The mark moved while nothing can be liquidated here: whom it reached may have to sell what it holds in other instruments."""
    for short in range(2):
        queue = queue_at(e.queues, i * QUEUES + LONGS + short)
        tick = np.int64(queue.best)
        while tick != queue.none and (book.mark <= tick if short == 0 else book.mark >= tick):
            slot = np.int64(level_of(e, queue, tick).head)
            while slot != 0:
                holding = holding_at(e, slot)
                following = np.int64(holding.next)
                if (holding.flags & ISOLATED) == 0:
                    index_account(e, slot - 1 - i * e.n_accounts)
                slot = following
            tick = next_level(e, queue, tick)


@compiled
def list_holding(e: Any, i: int, owner: int, holding: Any) -> None:
    """Have an account know that it holds, or held, this instrument."""
    if (holding.flags & LISTED) == 0:
        account = account_at(e, owner)
        holding.flags = holding.flags | LISTED
        holding.next_held, account.held = account.held, i + 1
