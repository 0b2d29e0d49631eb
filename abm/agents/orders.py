"""Arrays of orders: written, joined, cut to what their senders can pay for, numbered. Compiled, since every population does it."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from abm.exchange.description import PPM
from abm.exchange.instrument import Instrument
from abm.exchange.messages import Kind, Records, Side, TimeInForce

_LIMIT, _MARKET, _MASS_CANCEL = int(Kind.LIMIT), int(Kind.MARKET), int(Kind.MASS_CANCEL)
_STOP, _PEGGED = int(Kind.STOP), int(Kind.PEGGED)
_BUY, _GTC, _GTD = int(Side.BUY), int(TimeInForce.GTC), int(TimeInForce.GTD)

TERMS = np.dtype(
    [
        ("unit", np.int64),  # money units of one tick times one lot
        ("max_lots", np.int64),  # of an order
        ("taker_ppm", np.int64),  # fee in millionths
        ("on_margin", np.bool_),
    ],
    align=True,
)
"""What an instrument's orders may be, and cost those of a fee tier."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def terms_of(instruments: Sequence[Instrument], tier: int) -> Records:
    """`TERMS` of each instrument for a fee tier."""
    terms = np.zeros(len(instruments), TERMS)
    for row, instrument in zip(terms, instruments, strict=True):
        fee = instrument.fees[min(tier, len(instrument.fees) - 1)].taker
        row["unit"], row["max_lots"] = instrument.unit, instrument.max_order_lots
        row["taker_ppm"], row["on_margin"] = round(fee * PPM), instrument.margin is not None
    return terms


@lru_cache(256)
def _one(value: int, dtype: Any) -> npt.NDArray[Any]:
    return np.array([value], dtype)


def each(value: Any, n: int, dtype: Any) -> npt.NDArray[Any]:
    """A value for each of n as `write` takes it: an array of n, or of one number that is the same for all; not to be written to."""
    if isinstance(value, int):
        return _one(value, dtype)
    array = np.ascontiguousarray(value, dtype)  # with at least one dimension
    return array if len(array) == 1 or array.shape == (n,) else np.ascontiguousarray(np.broadcast_to(array, n))


@njit(cache=True)
def _at(values: Any, i: int) -> Any:
    return values[i] if len(values) > 1 else values[0]


@njit(cache=True)
def write(
    out: Records,
    kind: int,
    instrument: int,
    first: int,
    tick: float,
    lot: float,
    n_ticks: int,
    expiry: int,
    display: float,
    flags: int,
    who: Ints,
    side: Ints,
    price: Floats,
    quantity: Floats,
    reason: Ints,
    tif: Ints,
) -> int:
    """Write orders into `out`, leaving out those of less than a lot.

    Args:
        out: Room for as many messages as there are orders.
        kind: `Kind.LIMIT` or `Kind.MARKET`.
        instrument: Number of the instrument.
        first: The population's first account.
        tick: Smallest price step, in currency.
        lot: Smallest quantity, in coins or shares.
        n_ticks: No price at or above it, in ticks.
        expiry: If above 0, orders that are good till cancelled end at this time (ns).
        display: Fraction shown of each order; 0 for all.
        flags: `Flag`.
        who: Accounts, counted from 0 within the population.
        side: `Side` of each; this and what follows may be one for all.
        price: Currency; rounded to a tick away from the market, and kept within the instrument's range.
        quantity: Coins or shares; rounded down to lots.
        reason: `Reason` of each.
        tif: `TimeInForce` of each.

    Returns:
        How many are written.
    """
    n = 0
    for i in range(len(who)):
        size = _at(quantity, i)
        lots = np.int64(size / lot + 1e-9)
        if not (size > 0.0) or lots < 1:
            continue
        m, buys = out[n], _at(side, i) == _BUY
        m.time, m.order, m.trigger, m.self_trade = 0, 0, 0, 0
        m.kind, m.instrument, m.owner, m.side = kind, instrument, first + who[i], _at(side, i)
        m.quantity, m.reason, m.flags, m.tif, m.expiry = lots, _at(reason, i), flags, _at(tif, i), 0
        m.display = 0 if display == 0.0 else max(np.int64(1), np.int64(lots * display))
        if expiry > 0 and m.tif == _GTC:
            m.tif, m.expiry = _GTD, expiry
        m.price = 0
        if kind == _LIMIT:
            # A millionth of a tick forgives the float's last digits.
            ticks = _at(price, i) / tick
            rounded = math.floor(ticks + 1e-6) if buys else math.ceil(ticks - 1e-6)
            m.price = np.int32(min(max(rounded, 1), n_ticks - 1))
        n += 1
    return n


@njit(cache=True)
def fit(
    messages: Records,
    first: int,
    next_id: int,
    now: int,
    tops: Records,
    terms: Records,
    cash: Ints,
    cash_reserved: Ints,
    position: Ints,
    position_reserved: Ints,
    scratch: Ints,
) -> int:
    """Cut orders to free means, drop what is left without a lot, stamp the time, and number new orders that have no id.

    Of instruments with margin only the size is bounded: what an account can carry depends on its other positions, and the pass refuses the rest.
    What a `MASS_CANCEL` earlier in the same batch sets free may be spent by the orders after it.

    Args:
        messages: What a population sends, in order; changed in place, the kept ones moved to the front.
        first: The population's first account.
        next_id: First of at least `len(messages)` fresh order ids.
        now: Time of the decision in ns.
        tops: A `VIEW` record of each instrument.
        terms: `TERMS` of each instrument for the population's tier.
        cash: Cash of all accounts, in money units.
        cash_reserved: What their resting buys hold back.
        position: Lots held, accounts x instruments.
        position_reserved: Lots that resting sales hold back.
        scratch: Zeros, accounts of the population x (money spent, and lots sold of each instrument); left as zeros.

    Returns:
        How many messages are kept.

    Raises:
        ValueError: A message is of an account that is not the population's.
    """
    kept = 0
    n_instruments = len(terms)
    for i in range(len(messages)):
        message = messages[i]
        kind = message.kind
        owner = message.owner
        own = owner - first
        if own < 0 or own >= len(scratch):
            raise ValueError("a population may only send messages of its own accounts")
        instrument = message.instrument
        if kind == _MASS_CANCEL:
            if instrument < 0 or n_instruments == 1:
                scratch[own, 0] = -cash_reserved[owner]
            for k in range(n_instruments):
                if instrument < 0 or instrument == k:
                    scratch[own, 1 + k] = -position_reserved[owner, k]
        elif kind == _LIMIT or kind == _MARKET:
            lots = min(message.quantity, terms[instrument].max_lots)
            if terms[instrument].on_margin:
                pass
            elif message.side == 0:
                # A market order is reckoned a little above the best ask, where its last lots may trade.
                price = (
                    message.price if kind == _LIMIT else tops[instrument].best_ask + tops[instrument].best_ask // 100
                )
                if price > 0:
                    free = cash[owner] - cash_reserved[owner] - scratch[own, 0]
                    cost = np.int64(price) * terms[instrument].unit
                    ppm = terms[instrument].taker_ppm
                    lots = min(lots, np.int64(free / (cost * (1.0 + ppm * 1e-6))))
                    while lots > 0 and lots * cost + np.int64(lots * cost * (ppm * 1e-6)) + 1 > free:
                        lots -= 1
                    if lots > 0:
                        scratch[own, 0] += lots * cost + np.int64(lots * cost * (ppm * 1e-6)) + 1
            else:
                lots = min(
                    lots,
                    position[owner, instrument] - position_reserved[owner, instrument] - scratch[own, 1 + instrument],
                )
                if lots > 0:
                    scratch[own, 1 + instrument] += lots
            if lots <= 0:
                continue
            message.quantity = lots
        if message.order == 0 and (kind == _LIMIT or kind == _MARKET or (_STOP <= kind <= _PEGGED)):
            message.order = next_id
            next_id += 1
        message.time = now
        if kept != i:
            messages[kept] = message
        kept += 1
    for i in range(kept):
        message = messages[i]
        own, kind, instrument = message.owner - first, message.kind, message.instrument
        if kind == _MASS_CANCEL:
            for k in range(n_instruments):
                if instrument < 0 or instrument == k:
                    scratch[own, 0] = scratch[own, 1 + k] = 0
        elif (kind == _LIMIT or kind == _MARKET) and not terms[instrument].on_margin:
            scratch[own, 0 if message.side == 0 else 1 + instrument] = 0
    return kept
