"""What orders need and reserve: all of it in cash or coins, or margin, and the check that an account has as much."""

from typing import Any

import numpy as np

from abm.clearing.money import (
    allowed_initial,
    closing_lots,
    contribution,
    fee_of,
    free_cash,
    free_collateral,
    holding_of,
    initial_of,
    notional,
    part_of,
    rates_of,
    value,
)
from abm.exchange.compilation import compiled, inlined
from abm.exchange.memory import (
    ICEBERG,
    ISOLATED,
    ON_MARGIN,
    REDUCE,
    SELL,
    account_at,
    bracket_at,
    component,
    margin_at,
    term_at,
)
from abm.exchange.messages import Reject

INSUFFICIENT_FUNDS, POSITION_LIMIT = int(Reject.INSUFFICIENT_FUNDS), int(Reject.POSITION_LIMIT)


@inlined
def funded(e: Any, book: Any) -> bool:
    """Whether orders in the instrument need, and reserve, money or coins."""
    return book.money != 0


@compiled
def cost(book: Any, price: int, lots: int, rate: int) -> int:
    """Money to buy `lots` at `price` with the fee."""
    notional = np.int64(price) * lots * book.unit
    return notional + fee_of(notional, rate)


@compiled
def affordable(e: Any, book: Any, instrument: int, owner: int, price: int, lots: int) -> int:
    """Most lots, up to `lots`, that the account's free cash buys at `price` with the taker fee."""
    free = free_cash(e, owner)
    rate = rates_of(e, owner, instrument).taker
    if cost(book, price, lots, rate) <= free:
        return lots
    if free <= 0:
        return 0
    most = min(lots, free // (np.int64(price) * book.unit))
    while most > 0 and cost(book, price, most, rate) > free:
        # The fee is a few per cent of the notional at the most: each pass removes at least what is missing, rounded down, or one lot
        missing = cost(book, price, most, rate) - free
        most -= max(np.int64(1), missing // (np.int64(price) * book.unit * 2))
    while most < lots and cost(book, price, most + 1, rate) <= free:
        most += 1
    return most


@compiled
def has_funds(e: Any, book: Any, instrument: int, owner: int, side: int, price: int, lots: int, released: int) -> bool:
    """Whether free means, and `released` that an order replaced would set free, pay in full at `price`, with the higher of the fees."""
    if side == SELL:
        holding = holding_of(e, owner, instrument)
        return holding.position - holding.reserved + released >= lots
    rates = rates_of(e, owner, instrument)
    return max(free_cash(e, owner), np.int64(0)) + released >= cost(book, price, lots, max(rates.maker, rates.taker))


@compiled
def order_price(book: Any, order: Any) -> int:
    """The price at which a resting order is reckoned: market orders of a call rest beyond the range."""
    return min(max(np.int64(order.price), np.int64(1)), np.int64(book.n_ticks) - 1)


@compiled
def held(e: Any, book: Any, order: Any, lots: int) -> int:
    """What `lots` of a resting order reserve: money of a buy, lots of a sale; with margin the initial margin of either."""
    if book.money == ON_MARGIN:
        rate = initial_of(holding_of(e, np.int64(order.owner), np.int64(order.instrument)))
        return np.int64(0) if order.flags & REDUCE else part_of(notional(book, order_price(book, order), lots), rate)
    if order.flags & SELL:
        return lots
    rate = rates_of(e, order.owner, order.instrument).maker
    return cost(book, order_price(book, order), lots, max(rate, np.int64(0)))


@compiled
def remaining(e: Any, slot: int, order: Any) -> int:
    """Lots of an order that have not traded, shown or not."""
    lots = order.quantity
    if order.flags & ICEBERG:
        lots += term_at(e.terms, slot).reserve
    return lots


@inlined
def reservation(holding: Any, bids: int, asks: int) -> int:
    """What orders of these initial margins reserve beside a position: the greater side, less what it closes and opens again."""
    position, offset = holding.position, holding.offset
    bids -= offset if position < 0 else np.int64(0)
    asks -= offset if position > 0 else np.int64(0)
    return max(np.int64(0), max(bids, asks))


@inlined
def set_offset(holding: Any) -> None:
    """Reckon what a position spares its orders, after its basis has changed."""
    holding.offset = 2 * part_of(abs(holding.basis), initial_of(holding))


@inlined
def reserve(account: Any, holding: Any) -> None:
    """Bring the reservation of an account up to date with its orders and position in one instrument."""
    need = reservation(holding, holding.bids, holding.asks)
    account.reserved += need - holding.reserved
    holding.reserved = need


@component
def hold_margin(e: Any, book: Any, order: Any, before: int, after: int) -> int:
    """Reserve margin for a resting order whose lots went from `before` to `after`. Answers 0."""
    if order.flags & REDUCE:
        return 0
    change = held(e, book, order, after) - held(e, book, order, before)
    holding = holding_of(e, np.int64(order.owner), np.int64(order.instrument))
    if order.flags & SELL:
        holding.asks += change
    else:
        holding.bids += change
    reserve(account_at(e, order.owner), holding)
    return 0


@compiled
def hold(e: Any, book: Any, order: Any, before: int, after: int) -> None:
    """Reserve for a resting order whose lots went from `before` to `after`."""
    if book.money == ON_MARGIN:
        hold_margin(e, book, order, before, after)
        return
    change = held(e, book, order, after) - held(e, book, order, before)
    if order.flags & SELL:
        holding_of(e, order.owner, order.instrument).reserved += change
    else:
        account_at(e, order.owner).reserved += change


@inlined
def hold_ordered(e: Any, book: Any, i: int, owner: int, side: int, price: int, lots: int, ordered: int) -> None:
    """Reserve margin for a plain order that comes to rest: `ordered` if that is known, else reckoned (-1)."""
    holding = holding_of(e, owner, i)
    if ordered < 0:
        ordered = part_of(notional(book, price, lots), initial_of(holding))
    if side == 0:
        holding.bids += ordered
    else:
        holding.asks += ordered
    reserve(account_at(e, owner), holding)


@inlined
def release_order(e: Any, book: Any, i: int, order: Any) -> None:
    """Release the margin of a plain resting order that is cancelled."""
    owner = np.int64(order.owner)
    holding = holding_of(e, owner, i)
    ordered = part_of(notional(book, np.int64(order.price), np.int64(order.quantity)), initial_of(holding))
    if order.flags & SELL:
        holding.asks -= ordered
    else:
        holding.bids -= ordered
    reserve(account_at(e, owner), holding)


@inlined
def released(e: Any, book: Any, i: int, order: Any, price: int, before: int, after: int) -> int:
    """Release what a plain resting order reserves for the lots that are filled now: at once, or answer the margin for its fill to release."""
    if book.money == ON_MARGIN:
        rate = initial_of(holding_of(e, np.int64(order.owner), i))
        whole = part_of(notional(book, price, before), rate)
        return whole - part_of(notional(book, price, after), rate) if after != 0 else whole
    if book.money != 0:
        hold(e, book, order, before, after)
    return np.int64(0)


@component
def margin_refusal(e: Any, book: Any, i: int, owner: int, side: int, price: int, lots: int, released: int) -> int:
    """Check 9 where the instrument has margin: the reason to refuse an order that counts with `lots` at `price`, or 0."""
    holding = holding_of(e, owner, i)
    position = np.int64(holding.position)
    sign = 1 - 2 * side
    opening, after = lots, abs(position) + lots
    if position * sign < 0:
        after = lots - abs(position)
        opening = max(np.int64(0), after)
    if opening == 0 or owner == e.fund:
        return 0
    rate, needed = initial_of(holding), allowed_initial(e, i, holding)
    if not _allowed(e, i, notional(book, price, after), needed):
        return POSITION_LIMIT
    ordered = part_of(notional(book, price, lots), rate) - released
    bids, asks = holding.bids, holding.asks
    if side == 0:
        bids += ordered
    else:
        asks += ordered
    fees = rates_of(e, owner, i)
    amount = notional(book, price, opening)
    need = reservation(holding, bids, asks) - holding.reserved
    if needed > rate:
        total = need + holding.reserved + (np.int64(0) if holding.flags & ISOLATED else holding.offset // 2)
        need += total // rate * (needed - rate) + total % rate * (needed - rate) // rate
    need += fee_of(amount, max(np.int64(0), max(fees.maker, fees.taker)))
    need += max(np.int64(0), value(book, price, sign * opening) - value(book, np.int64(book.mark), sign * opening))
    if need <= 0:
        return 0
    account = account_at(e, owner)
    means = account.cash - account.reserved
    if account.cross != 0:
        free = free_collateral(e, owner)
        means = min(means, free) if holding.flags & ISOLATED else free
    return 0 if need <= means else INSUFFICIENT_FUNDS


@component
def close_margin(e: Any, book: Any, i: int, owner: int, side: int, price: int, lots: int) -> int:
    """`quick_margin` where the means are short, or the order closes: what it needs is reckoned to the unit."""
    account, holding = account_at(e, owner), holding_of(e, owner, i)
    position, rate = np.int64(holding.position), initial_of(holding)
    sign = 1 - 2 * side
    opening, after = lots - closing_lots(position, sign, lots), abs(position + sign * lots)
    ordered = part_of(notional(book, price, lots), rate)
    bids, asks = holding.bids + ordered * (1 - side), holding.asks + ordered * side
    fees = rates_of(e, owner, i)
    amount = notional(book, price, opening)
    at_mark = notional(book, np.int64(book.mark), opening)
    need = reservation(holding, bids, asks) - holding.reserved
    need += part_of(amount, max(np.int64(0), max(fees.maker, fees.taker)))
    need += abs(amount - at_mark)  # no less than the loss at once
    crossed = np.int64(position != 0) * (1 - np.int64(holding.flags & ISOLATED))
    means = account.cash - account.reserved + crossed * (contribution(book, holding) - holding.offset // 2)
    bracket = bracket_at(e.brackets, margin_at(e.margins, i).first_bracket)
    plain = np.int64(account.cross == crossed) & np.int64(rate >= bracket.initial)
    plain &= np.int64(notional(book, price, after) <= bracket.up_to)
    sound = np.int64(opening == 0) | (plain & np.int64(need <= means))
    return ordered if sound != 0 else np.int64(-1)


@inlined
def quick_margin(e: Any, book: Any, i: int, owner: int, side: int, price: int, lots: int) -> int:
    """Initial margin of an order that passes check 9, or -1 where that takes the long way round: another bracket, several crossed positions.

    Most owners have means for more than the order can need: as if all of it opened, and beside what else they reserve. What is reckoned for that
    is kept short, and without branches where it comes at random: which side an order is on, what its owner holds and in which mode.
    """
    if book.inverse:
        return close_margin(e, book, i, owner, side, price, lots)
    account, holding = account_at(e, owner), holding_of(e, owner, i)
    position, rate, mark, unit = np.int64(holding.position), initial_of(holding), np.int64(book.mark), book.unit
    amount = price * lots * unit
    ordered = part_of(amount, rate)
    most = ordered + abs(price - mark) * lots * unit
    most += ((amount >> 19) + 1) * book.dearest  # 2^19 is less than a million
    crossed = np.int64(position != 0) * (1 - np.int64(holding.flags & ISOLATED))
    gained = position * mark * unit - holding.offset // 2
    if not book.spot:
        gained -= holding.basis
    ample = account.cross == crossed and most <= account.cash - account.reserved + crossed * gained
    ample = ample and rate >= book.initial and price * (abs(position) + lots) * unit <= book.up_to
    if ample:
        return ordered
    return close_margin(e, book, i, owner, side, price, lots)


@compiled
def unpayable(e: Any, book: Any, i: int, owner: int, side: int, price: int, lots: int) -> int:
    """Why the owner of a peg cannot pay for it at a price, or 0."""
    if book.money == ON_MARGIN:
        return margin_refusal(e, book, i, owner, side, price, lots, 0)
    return 0 if not funded(e, book) or has_funds(e, book, i, owner, side, price, lots, 0) else INSUFFICIENT_FUNDS


@compiled
def _allowed(e: Any, i: int, amount: int, rate: int) -> bool:
    """Whether a position of this notional may have this initial margin rate."""
    margin = margin_at(e.margins, i)
    for k in range(margin.first_bracket, margin.first_bracket + margin.n_brackets):
        bracket = bracket_at(e.brackets, k)
        if amount <= bracket.up_to:
            return rate >= bracket.initial
    return False
