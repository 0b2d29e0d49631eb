"""Prices at which accounts want to be woken, such as stops: kept in buckets, so that a step costs what it wakes and not how many wait."""

import math

import numpy as np
import numpy.typing as npt
from numba import njit

Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]
Buckets = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float64]

_WIDTH = 5e-4  # of a bucket, in logarithms of the price
_BUCKETS = 1 << 14
_NOBODY: Ints = np.zeros(0, np.int64)


@njit(cache=True)
def _bucket(price: float, reference: float) -> int:
    place = _BUCKETS // 2 + math.floor(math.log(price / reference) / _WIDTH)
    return min(max(place, 0), _BUCKETS - 1)


@njit(cache=True)
def _take_out(account: int, heads: Places, following: Places, before: Places, buckets: Buckets) -> None:
    here = buckets[account]
    if here < 0:
        return
    if before[account] >= 0:
        following[before[account]] = following[account]
    else:
        heads[here] = following[account]
    if following[account] >= 0:
        before[following[account]] = before[account]
    buckets[account] = -1


@njit(cache=True)
def _put(
    who: Ints,
    prices: Floats,
    reference: float,
    heads: Places,
    following: Places,
    before: Places,
    buckets: Buckets,
    levels: Floats,
) -> tuple[int, int, float, float]:
    """Set levels; answers the lowest and the highest bucket that got one, and the lowest and the highest level."""
    lowest, highest, least, greatest = _BUCKETS, -1, math.inf, 0.0
    for k in range(len(who)):
        account = who[k]
        _take_out(account, heads, following, before, buckets)
        price = prices[k]
        if not price > 0.0 or math.isinf(price):
            continue
        here = _bucket(price, reference)
        levels[account], buckets[account] = price, here
        following[account], before[account] = heads[here], -1
        if heads[here] >= 0:
            before[heads[here]] = account
        heads[here] = account
        lowest, highest = min(lowest, here), max(highest, here)
        least, greatest = min(least, price), max(greatest, price)
    return lowest, highest, least, greatest


@njit(cache=True)
def _drop(who: Ints, heads: Places, following: Places, before: Places, buckets: Buckets) -> None:
    for account in who:
        _take_out(account, heads, following, before, buckets)


@njit(cache=True)
def _reached(
    price: float,
    start: int,
    falls: bool,
    reference: float,
    heads: Places,
    following: Places,
    before: Places,
    buckets: Buckets,
    levels: Floats,
) -> Ints:
    """Accounts between the bucket `start` and the price whose level is reached; they are taken out."""
    last, sign = _bucket(price, reference), -1 if falls else 1
    found = np.empty(64, np.int64)
    n, here = 0, start
    while (last - here) * sign >= 0:
        account = heads[here]
        while account >= 0:
            after = following[account]
            if (price <= levels[account]) if falls else (price >= levels[account]):
                _take_out(account, heads, following, before, buckets)
                if n == len(found):
                    found = np.concatenate((found, np.empty(n, np.int64)))
                found[n] = account
                n += 1
            account = after
        here += sign
    return np.sort(found[:n])


@njit(cache=True)
def _nearest(start: int, falls: bool, heads: Places, following: Places, levels: Floats) -> float:
    """The level that would be reached first, from a bucket on; no price reaches what is answered where there is none."""
    here, nearest = start, 0.0 if falls else math.inf
    while 0 <= here < _BUCKETS and heads[here] < 0:
        here += -1 if falls else 1
    account = heads[here] if 0 <= here < _BUCKETS else -1
    while account >= 0:
        nearest = max(nearest, levels[account]) if falls else min(nearest, levels[account])
        account = following[account]
    return nearest


class PriceLevels:
    """One price for each account that wants one.

    Args:
        accounts: How many accounts there are.
        reference: A price near which most levels lie, in currency.
        falls: Whether a level is reached by a price at or below it, or at or above it.
    """

    def __init__(self, accounts: int, reference: float, *, falls: bool) -> None:
        self._reference = reference
        self._falls = falls
        self._heads = np.full(_BUCKETS, -1, np.int32)
        self._following, self._before = (np.full(accounts, -1, np.int32) for _ in range(2))
        self._buckets = np.full(accounts, -1, np.int16)
        self._levels = np.full(accounts, np.nan)
        self._start = 0 if falls else _BUCKETS - 1  # no level lies on the near side of it
        self._next = 0.0 if falls else math.inf  # nor before this price

    def set(self, who: Ints, prices: Floats) -> None:
        """Give accounts their levels in place of those they had; what is not a finite price above 0 means none."""
        lowest, highest, least, greatest = _put(
            who, prices, self._reference, self._heads, self._following, self._before, self._buckets, self._levels
        )
        self._start = max(self._start, highest) if self._falls else min(self._start, lowest)
        self._next = max(self._next, greatest) if self._falls else min(self._next, least)

    def drop(self, who: Ints) -> None:
        """Forget the levels of accounts."""
        _drop(who, self._heads, self._following, self._before, self._buckets)

    def reached(self, price: float) -> Ints:
        """Accounts whose level the price has reached, in their order; their levels are forgotten."""
        if price > self._next if self._falls else price < self._next:
            return _NOBODY
        found: Ints = _reached(
            price,
            self._start,
            self._falls,
            self._reference,
            self._heads,
            self._following,
            self._before,
            self._buckets,
            self._levels,
        )
        self._start = int(_bucket(price, self._reference))
        self._next = float(_nearest(self._start, self._falls, self._heads, self._following, self._levels))
        return found
