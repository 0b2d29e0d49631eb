"""One order book to play with: prices and quantities as numbers, one order at a time or many at once."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from abm.exchange.description import NS
from abm.exchange.exchange import Exchange
from abm.exchange.instrument import Instrument
from abm.exchange.messages import (
    ANONYMOUS,
    MESSAGE,
    Flag,
    Kind,
    Phase,
    Records,
    Reject,
    SelfTrade,
    Side,
    Status,
    TimeInForce,
)
from abm.exchange.reading import QueuePosition

if TYPE_CHECKING:
    import pandas as pd

OrderType = Literal["limit", "market", "stop", "stop_limit", "trailing_stop", "pegged"]


class Fill(NamedTuple):
    """One trade of an order."""

    price: float
    quantity: float
    maker: int
    taker: int


class Receipt(NamedTuple):
    """What became of a request: the id of the order, its status, why it was rejected or cut short, and its trades so far."""

    order_id: int
    status: Status
    reject: Reject
    fills: list[Fill]

    @property
    def filled(self) -> float:
        """Quantity traded."""
        return sum(fill.quantity for fill in self.fills)


class OrderBook:
    """A single book with a price-time (or pro-rata) queue at each price.

    Args:
        tick: smallest price step.
        lot: smallest quantity.
        instrument: a complete description instead of tick and lot.

    Example:
        >>> book = OrderBook(tick=0.5)
        >>> book.submit("sell", 2, 100.5).status.name
        'RESTING'
        >>> [fill.price for fill in book.submit("buy", 1, 101).fills]
        [100.5]
    """

    def __init__(self, tick: float = 0.01, lot: float = 1.0, *, instrument: Instrument | None = None) -> None:
        self.instrument = instrument or Instrument(
            name="book", kind="perpetual", tick=tick, lot=lot, max_price=tick * 2**24, max_order=lot * 2**50
        )
        self.exchange = Exchange([self.instrument])
        self._owners: dict[Hashable, int] = {}
        self._now = 0

    def submit(
        self,
        side: Literal["buy", "sell"],
        quantity: float,
        price: float | None = None,
        *,
        type: OrderType | None = None,
        tif: Literal["gtc", "ioc", "fok", "day", "gtd"] = "gtc",
        owner: Hashable | None = None,
        display: float | None = None,
        hidden: bool = False,
        post_only: bool | Literal["slide"] = False,
        trigger: float | None = None,
        distance: float | None = None,
        by_mark: bool = False,
        expiry: float | None = None,
        self_trade: Literal["allow", "cancel_resting", "cancel_incoming", "cancel_both", "decrement"] = "allow",
    ) -> Receipt:
        """Send an order. Without a price it is a market order, with one a limit order, unless `type` says otherwise.

        Args:
            side: "buy" or "sell".
            quantity: size, a multiple of the lot.
            price: limit, a multiple of the tick.
            type: kind of order.
            tif: time in force.
            owner: any name; orders of one owner can be prevented from trading with one another.
            display: of an iceberg, the size shown.
            hidden: not shown at all.
            post_only: reject if it would trade, or "slide" to the next price at which it does not.
            trigger: price at which a stop enters.
            distance: of a trailing stop from the best price seen, of a peg from the best price of its side.
            by_mark: the stop watches the mark price, not the last trade.
            expiry: seconds from the start, with tif "gtd".
            self_trade: what happens where the order meets one of its owner.

        Returns:
            A receipt; a rejected order has the reason in `reject`.
        """
        kind = Kind[(type or ("market" if price is None else "limit")).upper()]
        message = self._message(kind, owner)
        message["side"], message["tif"] = Side[side.upper()], TimeInForce[tif.upper()]
        flags = Flag.HIDDEN if hidden else Flag.NONE
        if post_only:
            flags |= Flag.POST_SLIDE if post_only == "slide" else Flag.POST_ONLY
        message["flags"] = flags | (Flag.BY_MARK if by_mark else Flag.NONE)
        message["self_trade"] = SelfTrade[self_trade.upper()]
        message["expiry"] = round((expiry or 0) * NS)
        message["order"] = self.exchange.take_ids(1)
        refused = self._measure(message, quantity, price, display, distance if trigger is None else trigger)
        return (
            self._send(message)
            if refused == Reject.NONE
            else Receipt(int(message["order"][0]), Status.REJECTED, refused, [])
        )

    def cancel(self, order_id: int, owner: Hashable | None = None) -> Receipt:
        """Cancel an order; the owner of the order is assumed where none is given."""
        return self._change(Kind.CANCEL, order_id, owner)

    def reduce(self, order_id: int, quantity: float, owner: Hashable | None = None) -> Receipt:
        """Take `quantity` off an order, which keeps its place in the queue."""
        return self._change(Kind.REDUCE, order_id, owner, quantity)

    def replace(
        self, order_id: int, *, price: float | None = None, quantity: float | None = None, owner: Hashable | None = None
    ) -> Receipt:
        """Give an order a new price or remaining quantity. Only a smaller quantity at the same price keeps its place in the queue."""
        order = self.exchange.order(order_id)
        if order is not None:
            price = float(order["price"]) * self.instrument.tick if price is None else price
            quantity = (
                float(order["quantity"] + order["reserve"]) * self.instrument.lot if quantity is None else quantity
            )
        return self._change(Kind.REPLACE, order_id, owner, quantity, price)

    def _change(
        self,
        kind: Kind,
        order_id: int,
        owner: Hashable | None,
        quantity: float | None = None,
        price: float | None = None,
    ) -> Receipt:
        message = self._message(kind, owner)
        message["order"] = order_id
        if owner is None:
            order = self.exchange.order(order_id)
            message["owner"] = ANONYMOUS if order is None else order["owner"]
        refused = self._measure(message, quantity, price, None, None)
        return self._send(message) if refused == Reject.NONE else Receipt(order_id, Status.REJECTED, refused, [])

    def mark(self, price: float) -> None:
        """Set the mark price that stops `by_mark` watch."""
        message = self._message(Kind.MARK, None)
        message["price"] = self.instrument.ticks(price)
        self._send(message)

    def call(self) -> None:
        """Begin a call auction: orders gather and do not trade."""
        message = self._message(Kind.PHASE, None)
        message["side"] = Phase.CALL
        self._send(message)

    def uncross(self) -> list[Fill]:
        """Hold the auction and go on trading continuously; returns its trades."""
        message = self._message(Kind.UNCROSS, None)
        message["side"] = Phase.CONTINUOUS
        return self._fills(self.exchange.match(message).trades)

    def advance(self, seconds: float) -> None:
        """Let time pass: what expires meanwhile is gone."""
        self._now += round(seconds * NS)
        self._send(self._message(Kind.CLOCK, None))

    def process(self, messages: Records) -> Records:
        """Process many `MESSAGE` records (ticks and lots) in one pass; returns the `TRADE` records."""
        return self.exchange.match(messages).trades

    @property
    def best_bid(self) -> float | None:
        """Highest displayed bid, or None."""
        return self._price(int(self.exchange.view().best_bid[0]))

    @property
    def best_ask(self) -> float | None:
        """Lowest displayed ask, or None."""
        return self._price(int(self.exchange.view().best_ask[0]))

    @property
    def last(self) -> float | None:
        """Price of the latest trade, or None."""
        return self._price(int(self.exchange.view().last[0]))

    def depth(self, levels: int = 10) -> "pd.DataFrame":
        """The best levels of both sides, one a row: bid_orders, bid_quantity, bid_price, ask_price, ask_quantity, ask_orders."""
        import pandas as pd

        depth = self.exchange.depth(0, levels)
        tick, lot = self.instrument.tick, self.instrument.lot
        columns = {
            "bid_orders": depth.bid_orders,
            "bid_quantity": depth.bid_quantity * lot,
            "bid_price": depth.bid_price * tick,
            "ask_price": depth.ask_price * tick,
            "ask_quantity": depth.ask_quantity * lot,
            "ask_orders": depth.ask_orders,
        }
        return pd.DataFrame({name: pd.Series(np.array(column)) for name, column in columns.items()})

    def queue_position(self, order_id: int) -> QueuePosition | None:
        """Orders and lots before an order in its queue; None where it does not rest."""
        return self.exchange.queue_position(order_id)

    def _price(self, ticks: int) -> float | None:
        return round(ticks * self.instrument.tick, 12) if ticks else None

    def _message(self, kind: Kind, owner: Hashable | None) -> Records:
        message: Records = np.zeros(1, MESSAGE)
        message["kind"], message["time"] = kind, max(self._now, self.exchange.time)
        message["owner"] = ANONYMOUS if owner is None else self._owners.setdefault(owner, len(self._owners))
        return message

    def _measure(
        self,
        message: Records,
        quantity: float | None,
        price: float | None,
        display: float | None,
        trigger: float | None,
    ) -> Reject:
        """Write numbers into a message as ticks and lots; the reason where one is off its grid."""
        for field, value, step, reason in (
            ("quantity", quantity, self.instrument.lot, Reject.OFF_LOT),
            ("display", display, self.instrument.lot, Reject.OFF_LOT),
            ("price", price, self.instrument.tick, Reject.OFF_TICK),
            ("trigger", trigger, self.instrument.tick, Reject.OFF_TICK),
        ):
            if value is None:
                continue
            steps = value / step
            if not abs(steps) < (2**31 if step is self.instrument.tick else 2**62):
                return Reject.TOO_LARGE
            if abs(steps - round(steps)) > 1e-6:
                return reason
            message[field] = round(steps)
        return Reject.NONE

    def _send(self, message: Records) -> Receipt:
        report = self.exchange.match(message)
        order, outcome = int(message["order"][0]), report.outcomes[0]
        trades = report.trades[(report.trades["taker"] == order) | (report.trades["maker"] == order)]
        return Receipt(order, Status(outcome["status"]), Reject(outcome["reject"]), self._fills(trades))

    def _fills(self, trades: Records) -> list[Fill]:
        tick, lot = self.instrument.tick, self.instrument.lot
        return [
            Fill(round(int(row["price"]) * tick, 12), int(row["quantity"]) * lot, int(row["maker"]), int(row["taker"]))
            for row in trades
        ]
