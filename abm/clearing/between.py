"""What is done to accounts between two passes: credits, margin moved, funding, variation margin, interest, haircuts; and what is read of them."""

from typing import Any

import numpy as np

from abm.clearing.margin import (
    index_again,
    index_isolated,
    is_paused,
    list_holding,
    lose,
    lose_cash,
    slack,
    tick_of_loss,
    unindex,
)
from abm.clearing.money import (
    contribution,
    fee_of,
    free_cash,
    holding_of,
    initial_of,
    notional,
    part_of,
    part_up,
    portion,
    share,
    value,
)
from abm.clearing.positions import record
from abm.clearing.reservation import held, remaining, reservation, reserve, set_offset
from abm.exchange.compilation import compiled, kernel
from abm.exchange.levels import level_of, next_level
from abm.exchange.memory import (
    IN_FULL,
    ISOLATED,
    ON_MARGIN,
    OUT,
    QUEUES,
    REDUCE,
    SELL,
    WAITING,
    account_at,
    book_at,
    id_at,
    margin_at,
    order_at,
    queue_at,
)
from abm.exchange.messages import Forced
from abm.exchange.orders import newer_of, oldest_of

BILLION = 1_000_000_000
DEFAULTED = int(Forced.DEFAULTED)


# ------------------------------------------------------------------ credits


@kernel
def enter(engine: Any, rows: Any, cash: Any, i: int, lots: Any, costs: Any) -> None:
    """Give accounts cash, and lots of spot instrument `i` (-1 none) with their basis; or take them, where negative."""
    e = engine[0]
    for n in range(len(rows)):
        owner = np.int64(rows[n])
        account = account_at(e, owner)
        account.cash += cash[n]
        if i >= 0 and lots[n] != 0:
            _enter_lots(e, i, owner, lots[n], costs[n])
        lose_cash(e, owner, -cash[n])
        if i >= 0 and book_at(e.books, i).money == ON_MARGIN:
            index_again(e, i, owner)


@compiled
def _enter_lots(e: Any, i: int, owner: int, lots: int, cost: int) -> None:
    account, holding, book = account_at(e, owner), holding_of(e, owner, i), book_at(e.books, i)
    before = np.int64(holding.position)
    if lots < 0 and before != 0:
        cost = -share(holding.basis, min(-lots, abs(before)), abs(before))
    holding.position += lots
    holding.basis += cost
    if book.money == ON_MARGIN:
        set_offset(holding)
        book.open_interest += abs(holding.position) - abs(before)
        if before == 0:
            e.stamp += 1
            holding.since = e.stamp
        list_holding(e, i, owner, holding)
        account.cross += np.int64(holding.position != 0) - np.int64(before != 0)
        reserve(account, holding)


@kernel
def open_positions(engine: Any, i: int, rows: Any, lots: Any, costs: Any) -> int:
    """Give accounts without a position one of derivative `i`, with its basis; an isolated one is posted its initial margin.

    Answers the place of the first account that has a position or orders already, or not the margin, or -1. Nothing is opened where one cannot.
    """
    e = engine[0]
    book = book_at(e.books, i)
    for n in range(len(rows)):
        owner = np.int64(rows[n])
        holding = holding_of(e, owner, i)
        needed = part_up(abs(costs[n]), initial_of(holding))
        if holding.position != 0 or holding.bids != 0 or holding.asks != 0 or needed > free_cash(e, owner):
            return n
    for n in range(len(rows)):
        owner = np.int64(rows[n])
        if lots[n] == 0:
            continue
        account, holding = account_at(e, owner), holding_of(e, owner, i)
        holding.position, holding.basis = lots[n], costs[n]
        book.open_interest += abs(lots[n])
        e.stamp += 1
        holding.since = e.stamp
        list_holding(e, i, owner, holding)
        set_offset(holding)
        reserve(account, holding)
        if holding.flags & ISOLATED:
            holding.margin = part_up(abs(costs[n]), initial_of(holding))
            account.cash -= holding.margin
        else:
            account.cross += 1
        index_again(e, i, owner)
    return -1


@kernel
def move_margin(engine: Any, i: int, rows: Any, amounts: Any) -> int:
    """Move cash to isolated positions (or back, where negative). Answers the place of the first account that cannot, or -1.

    Nothing is moved where one cannot.
    """
    e = engine[0]
    book = book_at(e.books, i)
    for n in range(len(rows)):
        owner, amount = np.int64(rows[n]), amounts[n]
        holding = holding_of(e, owner, i)
        if (holding.flags & ISOLATED) == 0 or holding.position == 0 or amount > max(np.int64(0), free_cash(e, owner)):
            return n
        left = holding.margin + amount
        needed = fee_of(abs(holding.basis), initial_of(holding))
        if amount < 0 and (left < 0 or left + contribution(book, holding) < needed):
            return n
    for n in range(len(rows)):
        owner, amount = np.int64(rows[n]), amounts[n]
        holding = holding_of(e, owner, i)
        account_at(e, owner).cash -= amount
        holding.margin += amount
        index_isolated(e, i, owner)
        lose_cash(e, owner, amount)
    return -1


# ------------------------------------------------------------------ funding


@compiled
def _impact_price(e: Any, i: int, side: int, lots: float) -> float:
    """Average price in ticks of the first `lots` that rest on a side; 0 where there are fewer."""
    queue = queue_at(e.queues, i * QUEUES + side)
    left, paid = lots, 0.0
    tick = np.int64(queue.best)
    while left > 0.0 and tick != queue.none:
        there = min(left, float(level_of(e, queue, tick).quantity))
        paid += there * float(tick)
        left -= there
        tick = next_level(e, queue, tick)
    return paid / lots if left <= 0.0 else 0.0


@kernel
def sample_premiums(engine: Any, instruments: Any) -> None:
    """Take one sample of the premium of each of some perpetuals, where its book is deep enough."""
    for i in instruments:
        _sample_premium(engine[0], i)


@compiled
def _sample_premium(e: Any, i: int) -> None:
    margin, book = margin_at(e.margins, i), book_at(e.books, i)
    index = margin.index if margin.made == 2 else float(book.mark)
    if index <= 0.0:
        return
    lots = margin.impact * 1e6 / (float(book.unit) / index if book.inverse else float(book.unit) * index)
    bid, ask = _impact_price(e, i, 0, lots), _impact_price(e, i, 1, lots)
    if bid == 0.0 or ask == 0.0:
        return
    margin.premium_count += 1
    weight = float(margin.premium_count)
    margin.premium_sum += weight * (max(0.0, bid - index) - max(0.0, index - ask)) / index
    margin.premium_weight += weight


@kernel
def pay_funding(engine: Any, i: int, rate: int) -> None:
    """Let longs pay shorts `rate` (parts per 10^9) of their notional at the mark, or the other way where it is negative."""
    e = engine[0]
    book, margin = book_at(e.books, i), margin_at(e.margins, i)
    size, mark = abs(rate), np.int64(book.mark)
    for owner in range(e.n_accounts):
        holding = holding_of(e, owner, i)
        position = np.int64(holding.position)
        if position == 0:
            continue
        amount = notional(book, mark, abs(position))
        part = (amount // BILLION) * size + (amount % BILLION) * size // BILLION
        if (position > 0) == (rate > 0):
            part += np.int64((amount % BILLION) * size % BILLION != 0)
        else:
            part = -part
        holding.funding -= part
        e.residue += part
        if holding.flags & ISOLATED:
            holding.margin -= part
        else:
            account_at(e, owner).cash -= part
        if owner != e.fund:
            lose(e, i, owner, part)
    margin.rate = float(rate) / BILLION
    margin.next_funding = max(e.time, np.int64(0)) + margin.interval
    margin.premium_sum, margin.premium_weight, margin.premium_count = 0.0, 0.0, 0


# ------------------------------------------------------------------ variation margin, interest, haircuts


@kernel
def settle_variation(engine: Any, i: int, price: int, expires: bool) -> None:
    """Pay all positions their profit or loss at a settlement price; at expiry close them too."""
    e = engine[0]
    book = book_at(e.books, i)
    for owner in range(e.n_accounts):
        account, holding = account_at(e, owner), holding_of(e, owner, i)
        position = np.int64(holding.position)
        if position == 0:
            continue
        worth = value(book, price, position)
        gain, cash = worth - holding.basis, np.int64(account.cash)
        isolated = (holding.flags & ISOLATED) != 0
        holding.basis = worth
        holding.realised += gain
        account.session += gain
        if isolated:
            holding.margin += gain
        else:
            account.cash += gain
        if expires:
            _close(e, book, i, owner, price, account, holding, isolated)
        set_offset(holding)
        reserve(account, holding)
        index_again(e, i, owner)
        if isolated:  # what is left of its margin, or missing, came to the cash behind crossed positions
            lose_cash(e, owner, cash - account.cash)


@compiled
def _close(e: Any, book: Any, i: int, owner: int, price: int, account: Any, holding: Any, isolated: bool) -> None:
    """Close a position that has been paid in full, as its instrument ends."""
    unindex(e, i, 1 + i * e.n_accounts + owner, holding)
    book.open_interest -= abs(holding.position)
    side = np.int64(1) if holding.position > 0 else np.int64(0)
    account.cash += holding.margin
    holding.position, holding.basis, holding.margin = 0, 0, 0
    if not isolated:
        account.cross -= 1
    if account.cash < 0 and account.cross == 0 and owner != e.fund:
        missing = -account.cash
        account.cash = 0
        account_at(e, e.fund).cash -= missing
        record(e, DEFAULTED, i, owner, e.fund, side, 0, price, 0, np.int64(book.mark), missing, 0)


@kernel
def charge_interest(engine: Any, rate: int) -> int:
    """Charge `rate` (parts per 10^9) on negative cash, to the venue. Answers what was charged."""
    e = engine[0]
    charged = np.int64(0)
    for owner in range(e.n_accounts):
        account = account_at(e, owner)
        if account.cash < 0 and owner != e.fund:
            debt = -account.cash
            part = (debt // BILLION) * rate + (debt % BILLION) * rate // BILLION
            account.cash -= part
            charged += part
            lose_cash(e, owner, part)
    e.fee_income += charged
    return charged


@kernel
def socialise(engine: Any) -> int:
    """Let session profits pay what the insurance fund lacks, each in proportion, and begin a new session. Answers what was paid."""
    e = engine[0]
    fund = account_at(e, e.fund)
    profits, paid = np.int64(0), np.int64(0)
    for owner in range(e.n_accounts):
        if owner != e.fund:
            profits += max(np.int64(0), account_at(e, owner).session)
    deficit = min(max(np.int64(0), -fund.cash), profits)
    for owner in range(e.n_accounts):
        account = account_at(e, owner)
        if deficit > 0 and account.session > 0 and owner != e.fund:
            part = min(portion(account.session, deficit, profits), max(np.int64(0), free_cash(e, owner)))
            account.cash -= part
            paid += part
            lose_cash(e, owner, part)
        account.session = 0
    fund.cash += paid
    return paid


@kernel
def index_all(engine: Any, i: int) -> None:
    """Index all positions of an instrument anew, as its terms have changed."""
    e = engine[0]
    for owner in range(e.n_accounts):
        if holding_of(e, owner, i).position != 0:
            index_again(e, i, owner)


# ------------------------------------------------------------------ reading


@kernel
def read_free(engine: Any, rows: Any, free: Any) -> None:
    """Cash that each account may pay out."""
    e = engine[0]
    for n in range(len(rows)):
        free[n] = free_cash(e, np.int64(rows[n]))


@kernel
def read_equity(engine: Any, rows: Any, equity: Any) -> None:
    """Cash and everything that open positions with margin add to it, posted margin too."""
    e = engine[0]
    for n in range(len(rows)):
        owner = np.int64(rows[n])
        total = np.int64(account_at(e, owner).cash)
        k = np.int64(account_at(e, owner).held)
        while k != 0:
            holding = holding_of(e, owner, k - 1)
            total += holding.margin + contribution(book_at(e.books, k - 1), holding)
            k = np.int64(holding.next_held)
        equity[n] = total


@kernel
def read_liquidation_ticks(engine: Any, i: int, ticks: Any) -> None:
    """For each account the tick at which its position would be liquidated, other marks as they are; 0 where it has none."""
    e = engine[0]
    for owner in range(e.n_accounts):
        position = np.int64(holding_of(e, owner, i).position)
        ticks[owner] = 0
        if position != 0 and owner != e.fund:
            ticks[owner] = tick_of_loss(e, book_at(e.books, i), i, position, slack(e, owner, i))


@kernel
def read_fixed(engine: Any, i: int, rows: Any, fixed: Any) -> None:
    """Which accounts have a position in an instrument, or a resting order that opens one: its margin may be rounded to nothing."""
    e = engine[0]
    for n in range(len(rows)):
        owner = np.int64(rows[n])
        fixed[n] = holding_of(e, owner, i).position != 0
        order_id = oldest_of(e, owner)
        while order_id != 0:
            order = order_at(e.orders, np.int64(id_at(e.ids, order_id).slot))
            fixed[n] |= order.instrument == i and (order.flags & (WAITING | OUT | REDUCE)) == 0
            order_id = newer_of(e, owner, order_id)


@kernel
def read_needs(engine: Any, cash: Any, lots: Any, bids: Any, asks: Any) -> None:
    """What open orders hold back, counted from the orders: cash (accounts,), and lots and margins of bids and asks (accounts, instruments)."""
    e = engine[0]
    for owner in range(e.n_accounts):
        order_id = oldest_of(e, np.int64(owner))
        while order_id != 0:
            slot = np.int64(id_at(e.ids, order_id).slot)
            order = order_at(e.orders, slot)
            book = book_at(e.books, order.instrument)
            if (order.flags & (WAITING | OUT)) == 0 and book.money != 0:
                need = held(e, book, order, remaining(e, slot, order))
                sells = (order.flags & SELL) != 0
                if book.money == IN_FULL:
                    if sells:
                        lots[owner, order.instrument] += need
                    else:
                        cash[owner] += need
                elif (order.flags & REDUCE) == 0:
                    if sells:
                        asks[owner, order.instrument] += need
                    else:
                        bids[owner, order.instrument] += need
            order_id = newer_of(e, np.int64(owner), order_id)


@kernel
def read_faults(engine: Any, faults: Any) -> None:
    """What is wrong with each account and position with margin, as bits (accounts, instruments).

    1 not or too late in the index, 2 margin without a position, 4 reservation; of the account, with its first instrument: 8 count of
    crossed positions, 16 cash below zero with nothing behind it.
    """
    e = engine[0]
    for owner in range(e.n_accounts):
        account, crossed = account_at(e, owner), np.int64(0)
        for i in range(e.n_instruments):
            holding, book = holding_of(e, owner, i), book_at(e.books, i)
            if book.money != ON_MARGIN:
                continue
            position = np.int64(holding.position)
            if position == 0:
                faults[owner, i] |= 2 * np.int64(holding.margin != 0) + np.int64(holding.key != 0)
            elif (holding.flags & ISOLATED) == 0:
                crossed += 1
            if position != 0 and owner != e.fund:
                faults[owner, i] |= np.int64(_stands_too_far(e, book, i, owner, holding))
            faults[owner, i] |= 4 * np.int64(
                holding.reserved != reservation(holding, holding.bids, holding.asks)
                or holding.offset != 2 * part_of(abs(holding.basis), initial_of(holding))
            )
        faults[owner, 0] |= 8 * np.int64(crossed != account.cross)
        faults[owner, 0] |= 16 * np.int64(account.cash < 0 and account.cross == 0 and owner != e.fund)


@compiled
def _stands_too_far(e: Any, book: Any, i: int, owner: int, holding: Any) -> bool:
    """Whether the mark could pass a position's liquidation price before the index looks at it."""
    if is_paused(e, owner, holding):
        return holding.key != 0
    tick = tick_of_loss(e, book, i, np.int64(holding.position), slack(e, owner, i))
    if tick == 0 or holding.key == 0:
        return tick != 0
    if holding.position > 0:
        return book.mark > holding.key and holding.key < tick
    return book.mark < holding.key and holding.key > tick
