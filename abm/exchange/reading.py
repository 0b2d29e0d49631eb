"""Reading the exchange: what anyone may see of the books, and what an owner may see of its orders. Nothing here changes anything."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from abm.exchange.compilation import compiled, kernel
from abm.exchange.levels import level_of, next_level
from abm.exchange.memory import (
    HIDDEN,
    ICEBERG,
    OUT,
    QUEUES,
    SELL,
    WAITING,
    book_at,
    id_at,
    order_at,
    queue_at,
    term_at,
)
from abm.exchange.messages import Records
from abm.exchange.orders import newer_of, oldest_of

VIEW = np.dtype(
    [
        ("bid_quantity", np.int64),
        ("ask_quantity", np.int64),
        ("best_bid", np.int32),
        ("best_ask", np.int32),
        ("last", np.int32),
        ("mark", np.int32),
        ("reference", np.int32),
        ("phase", np.uint8),
    ],
    align=True,
)
LEVEL_ROW = np.dtype([("price", np.int64), ("quantity", np.int64), ("orders", np.int64)])
RESTING_ORDER = np.dtype(
    [
        ("quantity", np.int64),  # lots shown, or hidden
        ("reserve", np.int64),  # lots of an iceberg not shown
        ("order", np.int32),
        ("owner", np.int32),
        ("price", np.int32),  # of its level; of a stop that waits its trigger; of an order that is out its latest
        ("instrument", np.int16),
        ("side", np.uint8),
        ("hidden", np.bool_),
        ("waiting", np.bool_),  # a stop that has not triggered
        ("out", np.bool_),  # outside the book: sits out an auction, or waits for a reference price
        ("reason", np.uint8),
    ],
    align=True,
)


class View(NamedTuple):
    """What anyone may see at one moment; arrays over instruments that never change. Prices in ticks, 0 = none, quantities in lots shown."""

    best_bid: npt.NDArray[np.int32]
    best_ask: npt.NDArray[np.int32]
    bid_quantity: npt.NDArray[np.int64]
    ask_quantity: npt.NDArray[np.int64]
    last: npt.NDArray[np.int32]
    mark: npt.NDArray[np.int32]
    reference: npt.NDArray[np.int32]
    phase: npt.NDArray[np.uint8]


class Depth(NamedTuple):
    """Displayed levels of one book, best first; arrays that never change. Prices in ticks, quantities in lots."""

    bid_price: npt.NDArray[np.int64]
    bid_quantity: npt.NDArray[np.int64]
    bid_orders: npt.NDArray[np.int64]
    ask_price: npt.NDArray[np.int64]
    ask_quantity: npt.NDArray[np.int64]
    ask_orders: npt.NDArray[np.int64]


class Cost(NamedTuple):
    """What trading a notional at once would cost against the displayed book.

    `lots` traded; `average_price` and `worst_price` in ticks; `slippage_bps` of the average against the mid, positive where it is worse;
    `complete` whether the book holds as much.
    """

    lots: int
    average_price: float
    worst_price: int
    slippage_bps: float
    complete: bool


class QueuePosition(NamedTuple):
    """Orders, and lots they show (or hide), that stand before an order at its price."""

    orders_ahead: int
    lots_ahead: int


@compiled
def displayed_from(e: Any, queue: Any, tick: int) -> int:
    """The nearest tick from `tick` on that shows an order, or 0. Market orders that await an auction have no price to show."""
    while tick != queue.none:
        if 0 < tick < queue.n_ticks and level_of(e, queue, tick).count > 0:
            return tick
        tick = next_level(e, queue, tick)
    return np.int64(0)


@kernel
def read_view(engine: Any, rows: Any) -> None:
    """Fill a `VIEW` row for each instrument."""
    e = engine[0]
    for i in range(e.n_instruments):
        row, book = rows[i], book_at(e.books, i)
        bids, asks = queue_at(e.queues, i * QUEUES), queue_at(e.queues, i * QUEUES + 1)
        row.best_bid = displayed_from(e, bids, np.int64(bids.best))
        row.best_ask = displayed_from(e, asks, np.int64(asks.best))
        row.bid_quantity = level_of(e, bids, np.int64(row.best_bid)).quantity if row.best_bid > 0 else 0
        row.ask_quantity = level_of(e, asks, np.int64(row.best_ask)).quantity if row.best_ask > 0 else 0
        row.last, row.mark, row.reference, row.phase = book.last, book.mark, book.reference, book.phase


@kernel
def read_levels(engine: Any, i: int, side: int, rows: Any, furthest: int) -> int:
    """Fill a `LEVEL_ROW` for each displayed level, best first, not beyond `furthest`; returns how many there are."""
    e = engine[0]
    queue = queue_at(e.queues, i * QUEUES + side)
    n = 0
    tick = displayed_from(e, queue, np.int64(queue.best))
    while n < len(rows) and tick > 0 and (tick >= furthest if side == 0 else tick <= furthest):
        level = level_of(e, queue, tick)
        rows[n].price, rows[n].quantity, rows[n].orders = tick, level.quantity, level.count
        n += 1
        tick = displayed_from(e, queue, next_level(e, queue, tick))
    return n


@kernel
def read_lots_within(engine: Any, i: int, side: int, furthest: int) -> int:
    """Lots displayed on a side not beyond `furthest`."""
    e = engine[0]
    queue = queue_at(e.queues, i * QUEUES + side)
    total = np.int64(0)
    tick = displayed_from(e, queue, np.int64(queue.best))
    while tick > 0 and (tick >= furthest if side == 0 else tick <= furthest):
        total += level_of(e, queue, tick).quantity
        tick = displayed_from(e, queue, next_level(e, queue, tick))
    return total


@kernel
def read_cost(engine: Any, i: int, side: int, notional: float) -> tuple[int, float, int]:
    """Take `notional` (ticks x lots) off the displayed side opposite to `side`: lots, ticks x lots paid, worst tick."""
    e = engine[0]
    queue = queue_at(e.queues, i * QUEUES + 1 - side)
    lots, paid, worst = np.int64(0), 0.0, np.int64(0)
    tick = displayed_from(e, queue, np.int64(queue.best))
    while tick > 0:
        here = min(np.int64(level_of(e, queue, tick).quantity), np.int64(np.ceil((notional - paid) / tick)))
        if here <= 0:
            break
        lots, paid, worst = lots + here, paid + float(here) * tick, tick
        tick = displayed_from(e, queue, next_level(e, queue, tick))
    return lots, paid, worst


@compiled
def copy_order(e: Any, slot: int, row: Any) -> None:
    """Fill a `RESTING_ORDER` row."""
    order = order_at(e.orders, slot)
    row.quantity, row.order, row.owner, row.price = order.quantity, order.order, order.owner, order.price
    row.instrument, row.side, row.reason = order.instrument, order.flags & SELL, order.reason
    row.reserve = term_at(e.terms, slot).reserve if order.flags & ICEBERG else 0
    row.hidden, row.waiting, row.out = (
        (order.flags & HIDDEN) != 0,
        (order.flags & WAITING) != 0,
        (order.flags & OUT) != 0,
    )


@kernel
def read_order(engine: Any, order_id: int, rows: Any) -> int:
    """Fill one row with a live order; returns 1, or 0 where it is not live."""
    e = engine[0]
    if order_id < 1 or order_id >= e.n_ids or id_at(e.ids, order_id).slot <= 0:
        return 0
    copy_order(e, np.int64(id_at(e.ids, order_id).slot), rows[0])
    return 1


@kernel
def read_queue(engine: Any, i: int, q: int, tick: int, rows: Any) -> int:
    """Fill a row for each order of a level in priority order, as far as they go; returns how many orders there are."""
    e = engine[0]
    slot = np.int64(level_of(e, queue_at(e.queues, i * QUEUES + q), tick).head)
    n = 0
    while slot != 0:
        if n < len(rows):
            copy_order(e, slot, rows[n])
        n += 1
        slot = np.int64(order_at(e.orders, slot).next)
    return n


@kernel
def read_owner(engine: Any, owner: int, rows: Any) -> int:
    """Fill a row for each live order of an owner, oldest first, as far as they go; returns how many orders there are."""
    e = engine[0]
    if owner < 0 or owner >= e.n_owners:
        return 0
    order_id = oldest_of(e, owner)
    n = 0
    while order_id != 0:
        if n < len(rows):
            copy_order(e, np.int64(id_at(e.ids, order_id).slot), rows[n])
        n += 1
        order_id = newer_of(e, owner, order_id)
    return n


@kernel
def read_position(engine: Any, order_id: int) -> tuple[int, int]:
    """Orders and lots before a resting order in its level; (-1, 0) where it does not rest."""
    e = engine[0]
    if order_id < 1 or order_id >= e.n_ids or id_at(e.ids, order_id).slot <= 0:
        return -1, np.int64(0)
    slot = np.int64(id_at(e.ids, order_id).slot)
    if order_at(e.orders, slot).flags & (OUT | WAITING):
        return -1, np.int64(0)
    ahead, lots = 0, np.int64(0)
    slot = np.int64(order_at(e.orders, slot).prev)
    while slot != 0:
        ahead += 1
        lots += order_at(e.orders, slot).quantity
        slot = np.int64(order_at(e.orders, slot).prev)
    return ahead, lots


def frozen(rows: Records, field: str) -> npt.NDArray[Any]:
    """A column as an array of its own that cannot be written."""
    column = np.ascontiguousarray(rows[field])
    column.flags.writeable = False
    return column
