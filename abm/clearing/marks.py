"""The mark price: the own mid, or an index of spot books with the mean basis; never the last trade alone."""

from typing import Any

import numpy as np

from abm.clearing.margin import flag
from abm.exchange.compilation import compiled, inlined
from abm.exchange.memory import (
    ON_MARGIN,
    QUEUES,
    SAMPLES,
    book_at,
    component,
    feed_at,
    margin_at,
    move_at,
    queue_at,
    sample_at,
    venue_at,
)
from abm.exchange.messages import Phase

CONTINUOUS = int(Phase.CONTINUOUS)


@compiled
def mid_of(e: Any, i: int) -> float:
    """Middle of the best bid and the best ask in ticks; 0 where a side is empty."""
    bids, asks = queue_at(e.queues, i * QUEUES), queue_at(e.queues, i * QUEUES + 1)
    if bids.best == bids.none or asks.best == asks.none:
        return 0.0
    return (float(bids.best) + float(asks.best)) / 2.0


@compiled
def _venue_price(e: Any, k: int) -> float:
    venue = venue_at(e.venues, k)
    if book_at(e.books, venue.instrument).phase != CONTINUOUS:
        return 0.0
    return mid_of(e, venue.instrument) * venue.ratio


@compiled
def _median_price(e: Any, margin: Any) -> float:
    """Median of the index instruments' mids, by counting: there are few of them. 0 where none has one."""
    first, end = margin.first_venue, margin.first_venue + margin.n_venues
    count = np.int64(0)
    for k in range(first, end):
        count += _venue_price(e, k) > 0.0
    low, high = 0.0, 0.0
    for k in range(first, end):
        price = _venue_price(e, k)
        if price > 0.0:
            less, equal = np.int64(0), np.int64(0)
            for j in range(first, end):
                other = _venue_price(e, j)
                less += 0.0 < other < price
                equal += other == price
            if less <= (count - 1) // 2 < less + equal:
                low = price
            if less <= count // 2 < less + equal:
                high = price
    return (low + high) / 2.0 if low != high else low


@compiled
def index_price(e: Any, margin: Any) -> float:
    """Weighted mean of the index instruments' mids, each held within `clip` of their median; 0 where none has one."""
    median = _median_price(e, margin)
    if median == 0.0:
        return 0.0
    total, weight = 0.0, 0.0
    for k in range(margin.first_venue, margin.first_venue + margin.n_venues):
        price = _venue_price(e, k)
        if price > 0.0:
            held = min(max(price, median * (1.0 - margin.clip)), median * (1.0 + margin.clip))
            total += venue_at(e.venues, k).weight * held
            weight += venue_at(e.venues, k).weight
    return total / weight


@compiled
def _sample_basis(e: Any, i: int, margin: Any) -> None:
    """Take the samples of the basis that have fallen due since the mark was last made."""
    now = e.time // margin.slice
    if margin.slice_now < 0:
        margin.slice_now = now
    due = now - margin.slice_now
    if due == 0:
        return
    margin.slice_now = now
    for _ in range(min(due, SAMPLES)):
        sample_at(e.samples, i * SAMPLES + margin.n_samples % SAMPLES).basis = margin.basis
        margin.n_samples += 1
    count = min(margin.n_samples, np.int64(SAMPLES))
    total = 0.0
    for k in range(margin.n_samples - count, margin.n_samples):
        total += sample_at(e.samples, i * SAMPLES + k % SAMPLES).basis
    margin.mean_basis = total / float(count)


@compiled
def _middle(a: float, b: float, c: float) -> float:
    return max(min(a, b), min(max(a, b), c))


@compiled
def _new_mark(e: Any, book: Any, i: int) -> int:
    """The mark as of now, or 0 where it stays."""
    margin, mid = margin_at(e.margins, i), mid_of(e, i)
    if margin.made == 1:
        return np.int64(np.floor(mid + 0.5))
    index = index_price(e, margin)
    if index == 0.0:
        return np.int64(0)
    margin.index = index
    _sample_basis(e, i, margin)
    if mid > 0.0:
        margin.basis = mid - index
    based = index + margin.mean_basis
    left = 0.0
    if margin.interval > 0:
        left = min(max(float(margin.next_funding - e.time) / float(margin.interval), 0.0), 1.0)
    last = float(book.last) if book.last > 0 else based
    price = np.floor(_middle(index * (1.0 + margin.rate * left), based, last) + 0.5)
    return np.int64(min(max(price, 1.0), float(book.n_ticks) - 1.0))


@compiled
def note_move(e: Any, book: Any, i: int, mark: int) -> None:
    """Give an instrument a new mark, and remember who moved it."""
    book.mark = mark
    book.new_mark = 1
    if e.n_moves < e.move_room:
        row = move_at(e.moves, e.n_moves)
        row.instrument, row.mark, row.mover = i, mark, e.current
        e.n_moves += 1


@compiled
def remark(e: Any, i: int) -> None:
    """Make the mark of an instrument anew, where it is made here and now."""
    book = book_at(e.books, i)
    if book.money != ON_MARGIN or book.phase != CONTINUOUS or margin_at(e.margins, i).made == 0:
        return
    mark = _new_mark(e, book, i)
    if mark != 0 and mark != book.mark:
        note_move(e, book, i, mark)
        if may_matter(e, book, i):
            flag(e, i)


@compiled
def may_matter(e: Any, book: Any, i: int) -> bool:
    """Whether something waits for the mark of this instrument, or it has reached a position in the index."""
    longs, shorts = queue_at(e.queues, i * QUEUES + 6), queue_at(e.queues, i * QUEUES + 7)
    return (
        book.attention != 0
        or (longs.best != longs.none and book.mark <= longs.best)
        or (shorts.best != shorts.none and book.mark >= shorts.best)
    )


@inlined
def quotes_changed(e: Any, book: Any, i: int) -> bool:
    """Whether the best prices or the last one of a book are others than when marks were last made of them."""
    bids, asks = queue_at(e.queues, i * QUEUES), queue_at(e.queues, i * QUEUES + 1)
    return bids.best != book.seen_bid or asks.best != book.seen_ask or book.last != book.seen_last


@component
def requote(e: Any, book: Any, i: int) -> int:
    """Where the quotes or the last price of a book have changed, make the marks that depend on them. Answers 0."""
    if not quotes_changed(e, book, i):
        return 0
    bids, asks = queue_at(e.queues, i * QUEUES), queue_at(e.queues, i * QUEUES + 1)
    book.seen_bid, book.seen_ask, book.seen_last = bids.best, asks.best, book.last
    remark(e, i)
    for k in range(book.first_feed, book.first_feed + book.n_feeds):
        remark(e, np.int64(feed_at(e.feeds, k).instrument))
    return 0


@compiled
def remark_all(e: Any) -> None:
    """Make all marks anew, as time alone changes some."""
    for i in range(e.n_instruments):
        remark(e, i)
