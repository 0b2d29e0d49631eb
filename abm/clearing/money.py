"""Money arithmetic of the kernels: notionals, fees and shares in whole units, and what an account is worth. All exact."""

from typing import Any

import numpy as np

from abm.exchange.compilation import accessor, compiled, inlined, prefetch
from abm.exchange.description import PPM
from abm.exchange.memory import ISOLATED, account_at, book_at, bracket_at, fee_at, holding_at, margin_at

line_at = accessor(np.dtype([("part", np.uint8, 64)]))
"""Cache lines: a position has two, of which the second is what only trades touch."""


SMALL = 2**63 // PPM
"""Amounts below can be multiplied by any rate of at most one."""


@inlined
def fee_of(notional: int, rate: int) -> int:
    """floor(notional x rate / 10^6) without overflow; `rate` in parts per million, negative for a rebate."""
    return (notional // PPM) * rate + (notional % PPM) * rate // PPM


@inlined
def part_of(amount: int, rate: int) -> int:
    """`fee_of` where neither is negative, and the rate at most 10^6: unsigned division is quicker."""
    million = np.uint64(PPM)
    if amount < SMALL:
        return np.int64(np.uint64(amount) * np.uint64(rate) // million)
    whole = np.uint64(amount) // million
    rest = np.uint64(amount) - whole * million
    return np.int64(whole * np.uint64(rate) + rest * np.uint64(rate) // million)


@inlined
def part_up(amount: int, rate: int) -> int:
    """`part_of`, rounded up."""
    million = np.uint64(PPM)
    whole = np.uint64(amount) // million
    rest = np.uint64(amount) - whole * million
    return np.int64(whole * np.uint64(rate) + (rest * np.uint64(rate) + np.uint64(PPM - 1)) // million)


@compiled
def portion(amount: int, offered: int, total: int) -> int:
    """floor(amount x offered / total) without overflow, for 0 <= offered <= total."""
    if amount == total:
        return offered
    if amount < 2147483648 and offered < 2147483648:
        return amount * offered // total
    # long multiplication in base 2^32 by repeated doubling: exact for any int64
    quotient, rest, bit = np.int64(0), np.int64(0), np.int64(62)
    while bit >= 0:
        quotient *= 2
        twice = np.uint64(rest) * np.uint64(2)
        if (amount >> bit) & 1:
            twice += np.uint64(offered)
        quotient += np.int64(twice // np.uint64(total))
        rest = np.int64(twice % np.uint64(total))
        bit -= 1
    return quotient


@inlined
def share(amount: int, lots: int, whole: int) -> int:
    """The part of a signed amount that belongs to `lots` of `whole`, rounded toward zero."""
    if lots == whole:
        return amount
    size = abs(amount)
    if size < 2**52 and whole < 2**52:
        # A double is at most a few units off, and the remainder of the products, however they overflow, tells how many
        part = np.int64(float(size) * float(lots) / float(whole))
        rest = size * lots - part * whole
        while rest < 0:
            part -= 1
            rest += whole
        while rest >= whole:
            part += 1
            rest -= whole
    else:
        each = size // whole
        part = each * lots + portion(size - each * whole, lots, whole)
    return part if amount >= 0 else -part


@inlined
def notional(book: Any, price: int, lots: int) -> int:
    """Money that `lots` amount to at `price`."""
    if book.inverse:
        return np.int64(np.uint64(lots * book.unit) // np.uint64(price))  # unsigned: half the code in each caller
    return np.int64(price) * lots * book.unit


@inlined
def value(book: Any, price: int, position: int) -> int:
    """What a signed position is worth: its notional with its sign, of an inverse perpetual with the other sign. Without a branch."""
    return notional(book, price, abs(position)) * (1 - 2 * (np.int64(position < 0) ^ np.int64(book.inverse)))


@inlined
def closing_lots(position: int, sign: int, lots: int) -> int:
    """How many of `lots` bought (`sign` 1) or sold (-1) close a position. Without a branch: who trades, and holds what, comes at random."""
    return min(lots, abs(position)) * np.int64(position * sign < 0)


@inlined
def holding_of(e: Any, owner: int, instrument: int) -> Any:
    """The row of an account's position in an instrument."""
    return holding_at(e, 1 + np.int64(instrument) * e.n_accounts + owner)


@inlined
def prefetch_account(e: Any, i: int, owner: int) -> None:
    """Have an account and its position fetched: they will be needed soon."""
    if owner >= 0:
        prefetch(account_at(e, owner))
        place = e.holdings + (1 + np.int64(i) * e.n_accounts + owner) * e.holding_step
        prefetch(line_at(place, 0))
        prefetch(line_at(place, 1))


@compiled
def rates_of(e: Any, owner: int, instrument: int) -> Any:
    """The account's maker and taker fee in the instrument, in parts per million."""
    return fee_at(e.fees, np.int64(instrument) * e.tiers + min(np.int64(account_at(e, owner).tier), e.tiers - 1))


@inlined
def initial_of(holding: Any) -> int:
    """Initial margin rate of a position, in parts per million."""
    return np.int64(PPM) if holding.initial == 0 else np.int64(holding.initial)


@inlined
def allowed_initial(e: Any, i: int, holding: Any) -> int:
    """The same, but no lower than the brackets allow to anyone now: a notice may have raised that since the account's leverage was set."""
    lowest = bracket_at(e.brackets, margin_at(e.margins, i).first_bracket).initial
    return max(initial_of(holding), np.int64(lowest))


@compiled
def contribution(book: Any, holding: Any) -> int:
    """What an open position adds to the equity behind it: its profit or loss at the mark, of spot its value."""
    worth = value(book, np.int64(book.mark), np.int64(holding.position))
    return worth if book.spot else worth - holding.basis


@compiled
def free_collateral(e: Any, owner: int) -> int:
    """Cash that is not reserved, and what crossed positions add to it over their initial margins."""
    account = account_at(e, owner)
    free = account.cash - account.reserved
    if account.cross != 0:
        k = np.int64(account.held)
        while k != 0:
            holding = holding_of(e, owner, k - 1)
            if holding.position != 0 and (holding.flags & ISOLATED) == 0:
                free += contribution(book_at(e.books, k - 1), holding) - holding.offset // 2
            k = np.int64(holding.next_held)
    return free


@compiled
def free_cash(e: Any, owner: int) -> int:
    """Cash that the account may pay out: not reserved, nor needed behind crossed positions."""
    account = account_at(e, owner)
    free = account.cash - account.reserved
    return free if account.cross == 0 else min(free, free_collateral(e, owner))
