"""What a trade does to both its sides: coins, cash, positions, fees."""

from typing import Any

import numpy as np

from abm.clearing.margin import lose_cash
from abm.clearing.money import fee_of, holding_of, rates_of
from abm.clearing.positions import fill, move
from abm.exchange.compilation import compiled, inlined
from abm.exchange.memory import IN_FULL, ON_MARGIN, account_at
from abm.exchange.messages import Side

BUY, SELL = int(Side.BUY), int(Side.SELL)


@compiled
def pay_in_full(e: Any, book: Any, i: int, owner: int, side: int, price: int, lots: int, takes: bool) -> None:
    """One side of a trade in spot without margin: cash against coins."""
    amount = np.int64(price) * lots * book.unit
    rates = rates_of(e, owner, i)
    fee = fee_of(amount, rates.taker if takes else rates.maker)
    account = account_at(e, owner)
    account.session += move(e, book, holding_of(e, owner, i), side, price, lots, fee) - fee
    change = (2 * side - 1) * amount - fee
    account.cash += change
    e.fee_income += fee
    lose_cash(e, owner, -change)


@inlined
def settle(e: Any, book: Any, row: Any, ordered: int) -> None:
    """Move the coins and the cash of one trade, as its record says. Anonymous sides have neither.

    `ordered` is the initial margin that the maker's order reserved for these lots, where that has not been released yet.
    """
    if book.money == ON_MARGIN:
        fill(e, book, row, ordered)
        return
    i, price, lots = np.int64(row.instrument), np.int64(row.price), np.int64(row.quantity)
    sold = row.aggressor == SELL
    buyer, seller = (row.maker_owner, row.taker_owner) if sold else (row.taker_owner, row.maker_owner)
    if book.money == IN_FULL:
        pay_in_full(e, book, i, np.int64(buyer), 0, price, lots, row.aggressor == BUY)
        pay_in_full(e, book, i, np.int64(seller), 1, price, lots, sold)
        return
    if buyer >= 0:
        holding_of(e, np.int64(buyer), i).position += lots
    if seller >= 0:
        holding_of(e, np.int64(seller), i).position -= lots
