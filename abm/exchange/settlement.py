"""What a trade and a resting order do to the accounts: coins, cash, fees, reservations. All in integers, to the unit."""

from typing import Any

import numpy as np

from abm.exchange.compilation import compiled, inlined
from abm.exchange.description import PPM
from abm.exchange.memory import ICEBERG, SELL, account_at, book_at, fee_at, holding_at, term_at


@inlined
def fee_of(notional: int, rate: int) -> int:
    """floor(notional x rate / 10^6) without overflow; `rate` in parts per million, negative for a rebate."""
    return (notional // PPM) * rate + (notional % PPM) * rate // PPM


@inlined
def holding_of(e: Any, owner: int, instrument: int) -> Any:
    """The row of an account's position in an instrument."""
    return holding_at(e.holdings, np.int64(owner) * e.n_instruments + instrument)


@compiled
def rates_of(e: Any, owner: int, instrument: int) -> Any:
    """The account's maker and taker fee in the instrument, in parts per million."""
    return fee_at(
        e.fees, np.int64(instrument) * e.tiers + min(np.int64(account_at(e.accounts, owner).tier), e.tiers - 1)
    )


@inlined
def funded(e: Any, book: Any) -> bool:
    """Whether orders in the instrument need, and reserve, money or coins."""
    return e.ledger != 0 and book.spot != 0


@compiled
def cost(book: Any, price: int, lots: int, rate: int) -> int:
    """Money to buy `lots` at `price` with the fee."""
    notional = np.int64(price) * lots * book.unit
    return notional + fee_of(notional, rate)


@compiled
def affordable(e: Any, book: Any, instrument: int, owner: int, price: int, lots: int) -> int:
    """Most lots, up to `lots`, that the account's free cash buys at `price` with the taker fee."""
    account = account_at(e.accounts, owner)
    free = account.cash - account.reserved
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
    """Whether free means, and `released` that an order replaced would set free, suffice at `price`, with the higher of the fees."""
    if side == SELL:
        holding = holding_of(e, owner, instrument)
        return holding.position - holding.reserved + released >= lots
    account = account_at(e.accounts, owner)
    rates = rates_of(e, owner, instrument)
    return account.cash - account.reserved + released >= cost(book, price, lots, max(rates.maker, rates.taker))


@compiled
def held(e: Any, book: Any, order: Any, lots: int) -> int:
    """What `lots` of a resting order reserve: money of a buy, lots of a sale."""
    if order.flags & SELL:
        return lots
    rate = rates_of(e, order.owner, order.instrument).maker
    price = min(np.int64(order.price), np.int64(book.n_ticks) - 1)
    return cost(book, price, lots, max(rate, np.int64(0)))


@compiled
def remaining(e: Any, slot: int, order: Any) -> int:
    """Lots of an order that have not traded, shown or not."""
    lots = order.quantity
    if order.flags & ICEBERG:
        lots += term_at(e.terms, slot).reserve
    return lots


@compiled
def hold(e: Any, book: Any, order: Any, before: int, after: int) -> None:
    """Reserve for a resting order whose lots went from `before` to `after`."""
    change = held(e, book, order, after) - held(e, book, order, before)
    if order.flags & SELL:
        holding_of(e, order.owner, order.instrument).reserved += change
    else:
        account_at(e.accounts, order.owner).reserved += change


@compiled
def settle(
    e: Any, instrument: int, buyer: int, seller: int, price: int, lots: int, buyer_takes: bool, seller_takes: bool
) -> None:
    """Move the coins and the cash of one trade. Anonymous sides have neither."""
    if buyer >= 0:
        holding_of(e, buyer, instrument).position += lots
    if seller >= 0:
        holding_of(e, seller, instrument).position -= lots
    book = book_at(e.books, instrument)
    if not funded(e, book):
        return
    notional = np.int64(price) * lots * book.unit
    rates = rates_of(e, buyer, instrument)
    fee = fee_of(notional, rates.taker if buyer_takes else rates.maker)
    account_at(e.accounts, buyer).cash -= notional + fee
    e.fee_income += fee
    rates = rates_of(e, seller, instrument)
    fee = fee_of(notional, rates.taker if seller_takes else rates.maker)
    account_at(e.accounts, seller).cash += notional - fee
    e.fee_income += fee
