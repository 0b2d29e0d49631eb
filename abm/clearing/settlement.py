"""What a trade does to both its sides: coins, cash, positions, fees."""

from typing import Any

import numpy as np

from abm.clearing.margin import lose_cash
from abm.clearing.money import fee_of, holding_of, rates_of
from abm.clearing.positions import fill, move
from abm.exchange.compilation import compiled, inlined
from abm.exchange.memory import IN_FULL, ON_MARGIN, account_at, book_at


@compiled
def pay_in_full(e: Any, book: Any, i: int, owner: int, side: int, price: int, lots: int, takes: bool) -> None:
    """One side of a trade in spot without margin: cash against coins."""
    amount = np.int64(price) * lots * book.unit
    rates = rates_of(e, owner, i)
    fee = fee_of(amount, rates.taker if takes else rates.maker)
    account = account_at(e.accounts, owner)
    account.session += move(e, book, holding_of(e, owner, i), side, price, lots, fee) - fee
    change = (2 * side - 1) * amount - fee
    account.cash += change
    e.fee_income += fee
    lose_cash(e, owner, -change)


@inlined
def _rate(e: Any, owner: int, i: int, takes: bool) -> int:
    """Fee rate of one side of a trade with margin; who is being liquidated pays none."""
    rates = rates_of(e, owner, i)
    rate = np.int64(rates.taker if takes else rates.maker)
    return np.int64(0) if owner == e.free_of_fee else rate


@inlined
def settle(
    e: Any,
    instrument: int,
    buyer: int,
    seller: int,
    price: int,
    lots: int,
    buyer_takes: bool,
    seller_takes: bool,
    ordered: int,
) -> None:
    """Move the coins and the cash of one trade. Anonymous sides have neither.

    `ordered` is the initial margin that the maker's order reserved for these lots, where that has not been released yet.
    """
    book = book_at(e.books, instrument)
    if book.money == ON_MARGIN:
        buyer_rate = _rate(e, buyer, instrument, buyer_takes)
        seller_rate = _rate(e, seller, instrument, seller_takes)
        buyer_ordered, seller_ordered = (np.int64(0), ordered) if buyer_takes else (ordered, np.int64(0))
        fill(e, book, instrument, buyer, seller, price, lots, buyer_rate, seller_rate, buyer_ordered, seller_ordered)
        return
    if book.money == IN_FULL:
        pay_in_full(e, book, instrument, buyer, 0, price, lots, buyer_takes)
        pay_in_full(e, book, instrument, seller, 1, price, lots, seller_takes)
        return
    if buyer >= 0:
        holding_of(e, buyer, instrument).position += lots
    if seller >= 0:
        holding_of(e, seller, instrument).position -= lots
