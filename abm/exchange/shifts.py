"""Whose doing it was that a mid moved: each change is noted with the order, or the withdrawal, that made it, as it happens."""

from typing import Any

import numpy as np

from abm.exchange.compilation import compiled
from abm.exchange.memory import QUEUES, queue_at, quote_at, shift_at


@compiled
def note_shift(e: Any, i: int, time: int, owner: int, reason: int, traded: bool) -> None:
    """Note that the mid of an instrument has changed since the last note, if it has; while a side is empty nothing is noted.

    So the changes noted add up to the whole way of the mid, whatever came between two notes.
    """
    bids, asks = queue_at(e.queues, i * QUEUES), queue_at(e.queues, i * QUEUES + 1)
    if bids.best == bids.none or asks.best == asks.none:
        return
    quote, now = quote_at(e.quotes, i), np.int64(bids.best) + np.int64(asks.best)
    if now == quote.twice_mid:
        return
    if quote.twice_mid != 0:
        row = shift_at(e.shifts, e.n_shifts)
        row.time, row.change, row.owner, row.instrument, row.reason = time, now - quote.twice_mid, owner, i, reason
        row.traded = traded
        e.n_shifts += 1
    quote.twice_mid = now
