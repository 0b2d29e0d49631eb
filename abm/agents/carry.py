"""The compiled pass of spot-perpetual arbitrageurs: what each account that looks opens, closes, mends or is made to unwind.

An account holds coins against a short position of as many; with coins of its own it can hold the perpetual in place of those, which counts as
a short position below zero. `arbitrage.BasisArbitrage` says when they look and what they follow.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Terms(NamedTuple):
    """What all accounts are told; see `BasisConfig`."""

    slice_usd: float
    slippage: float
    forced_slippage: float
    margin: float
    floor: float
    restored: float
    account_leverage: float
    fees: float  # of trading at once in both books, as a fraction
    lot: float  # coins: the greater of both books'
    on_the_way: float  # prices may move before an order arrives


class Leg(NamedTuple):
    """One book: best prices in currency (the mid where a side is empty), and what a lot is."""

    bid: float
    ask: float
    mid: float
    tick: float
    lot: float


class Accounts(NamedTuple):
    """Those who look: who they are, lots held, currency, and what each wants."""

    who: Ints
    coins: Ints  # lots in spot
    own: Ints  # lots of those that are there whatever is traded
    futures: Ints  # lots of the perpetual, short where negative
    equity: Ints  # money units
    free: Ints
    edge: Floats
    turn: Floats


class Plan(NamedTuple):
    """What is to be sent, one entry for each account that sends anything; the first of the two legs is spot."""

    who: Ints
    forced: npt.NDArray[np.bool_]
    change: Floats  # legs x accounts: coins to buy, to sell where negative
    price: Floats


@njit(cache=True)
def shown_within(ladder: Any, leg: Leg, limit: float, buys: bool, accounts: int) -> float:
    """Coins shown within the limit of one of several orders that are sent together: each counts on an equal part."""
    furthest = limit / leg.tick + 1e-6 if buys else limit / leg.tick - 1e-6
    lots = np.int64(0)
    for row in ladder:
        if (row.price > furthest) if buys else (row.price < furthest):
            break
        lots += row.quantity
    return lots * leg.lot / max(accounts, 1)


@njit(cache=True)
def _affordable(
    terms: Terms, spot: Leg, perpetual: Leg, mark: float, short: float, equity: float, free: float
) -> float:
    """Coins that an account can buy, and sell as a perpetual."""
    # Profit of the short position counts behind it, but does not pay for coins.
    spare = equity - terms.margin * short * mark
    cost = spot.mid * (1.0 + terms.fees) * terms.on_the_way
    by_margin = spare / (cost + terms.margin * perpetual.mid)
    by_cash = free / (cost + perpetual.mid / terms.account_leverage)
    return max(min(by_margin, by_cash), 0.0)


@njit(cache=True)
def _room(terms: Terms, opening: bool, gain: float, short: float, edge: float, turn: float) -> float:
    """What a coin's trade gains over what an account wants of it, as a factor: `edge` where it takes a position, `turn` where it ends one.

    Of what is opened all fees are off already, of what is closed none.
    """
    both_ways = 1.0 + 2.0 * terms.fees
    if opening:
        return gain * both_ways / (1.0 + turn) if short < 0.0 else gain / (1.0 + edge)
    return gain / (1.0 + turn) if short > 0.0 else gain / both_ways / (1.0 + edge)


@njit(cache=True)
def _swappable(terms: Terms, perpetual: Leg, left: float, free: float) -> float:
    """Coins of its own that an account can sell for the perpetual: what it pays comes only after the order is checked."""
    return max(min(left, free / (perpetual.mid * terms.on_the_way * (1.0 / terms.account_leverage + terms.fees))), 0.0)


@njit(cache=True)
def _unwound(terms: Terms, mark: float, coins: float, short: float, equity: float) -> float:
    """Coins that an account must sell and buy back of its short position, so that margin is restored.

    Selling q coins at price p adds q p to the equity E and takes q p from the short notional N: (E + q p) / (N - q p) = restored.
    """
    notional = short * mark
    if not equity < terms.floor * notional:
        return 0.0
    unwound = (terms.restored * notional - equity) / ((1.0 + terms.restored) * mark)
    return min(max(unwound, 0.0), max(min(coins, short), 0.0))


@njit(cache=True)
def plan(
    terms: Terms,
    spot: Leg,
    perpetual: Leg,
    mark: float,
    opens: float,
    closes: float,
    ladders: Any,
    some: Accounts,
    plan: Plan,
    money_units: float,
) -> int:
    """Decide for accounts that look.

    Args:
        terms: What all are told.
        spot: The book of the coin.
        perpetual: The other book.
        mark: Of the perpetual, currency.
        opens: What a coin opened now brings over what it costs, as a factor.
        closes: The same of a coin closed; the greater of both is what they may do.
        ladders: `LEVEL_ROW` records of the sides of both books that they would trade with, best first.
        some: Who looks.
        plan: Room for what they send.
        money_units: In a unit of currency.

    Returns:
        How many of them send anything.
    """
    kept, opening = 0, opens > closes
    sign = 1.0 if opening else -1.0
    for k in range(len(some.who)):
        who = some.who[k]
        own = some.own[who] * spot.lot
        coins, short = some.coins[who] * spot.lot - own, -(some.futures[who] * perpetual.lot)
        equity, free = some.equity[k] / money_units, some.free[k] / money_units
        forced = _unwound(terms, mark, coins, short, equity)
        change, away = -forced, 1.0 + terms.forced_slippage
        if not forced > 0.0:
            room = _room(terms, opening, max(opens, closes), short, some.edge[who], some.turn[who])
            change, away = 0.0, math.sqrt(max(room, 1.0))
            if abs(coins - short) >= terms.lot:
                away = 1.0 + terms.slippage
            elif room > 1.0:
                most = terms.slice_usd / spot.mid
                if opening:
                    most = min(most, _affordable(terms, spot, perpetual, mark, short, equity, free))
                    most = min(most, -short) if short < 0.0 else most
                else:
                    most = min(most, coins if short > 0.0 else _swappable(terms, perpetual, own + coins, free))
                up, down = away, 1.0 / away
                limit, other = (
                    (spot.ask * up, perpetual.bid * down) if opening else (spot.bid * down, perpetual.ask * up)
                )
                most = min(most, shown_within(ladders[0], spot, limit, opening, len(some.who)))
                most = min(most, shown_within(ladders[1], perpetual, other, not opening, len(some.who)))
                change = sign * most
        # The short position is brought to the coins that there will be, so that a leg that stayed alone is mended on the way.
        back = short - coins - change
        if abs(change) < spot.lot / 2.0 and abs(back) < perpetual.lot / 2.0:
            continue
        plan.who[kept], plan.forced[kept] = who, forced > 0.0
        plan.change[0, kept], plan.change[1, kept] = change, back
        plan.price[0, kept] = spot.ask * away if change > 0.0 else spot.bid / away
        plan.price[1, kept] = perpetual.ask * away if back > 0.0 else perpetual.bid / away
        kept += 1
    return kept
