"""The product's engine behind the stdio protocol of tracebook-conformance.

`python tests/conformance/tracebook_adapter.py` serves one trace at stdin and stdout, as the suite asks. With `--port`
it stays, and serves those that `relay.py` passes on, so that many traces need not load the engine again.

Everything about framing, events and canonical numbers is the suite's; everything about matching is `abm.exchange`'s.
The adapter keeps no book: it asks the exchange whether an order still rests, what is left of it, and in which
sequence a level holds its orders. What it translates, and why:

- *Ids.* The suite lets a source id be used again once its order has ended, and numbers each symbol by itself; the
  exchange uses an id once, over all instruments. So every new order gets a fresh id of the exchange. A source id
  whose order still rests is sent under the id it has, and the exchange rejects the duplicate; a source id never seen
  is sent under an id never used, and the exchange rejects that.
- *Replace.* The suite cancels and enters anew, always at the back. `REPLACE` does the same but for one case: with the
  price unchanged and not more lots it keeps priority. In that case a cancel and a new order are sent instead.
- *Fill or kill.* One that cannot be filled is "applied" without trades there, rejected as `NOT_FILLABLE` here.
- *Clear* is a cancel of every order of the symbol.
- *Prices* are snapped to the nearest tick, as `Instrument.ticks` does; what snaps to 0 is for the exchange to reject.
- *Quantities* are lots of 1e-12, below which the suite's engine holds an order for filled. 4.6 million units still
  fit an order, and every decimal of the suite is a whole number of lots.
- *Pro-rata.* The suite shares out real numbers, the exchange whole lots (the rest in time priority). With lots of
  1e-12 a share that has at most twelve decimals is the same in both; the shares of the suite's case have one. A share
  of one third would differ in the last decimal of one order.
- *Symbols* take the instruments of one exchange in order of appearance, so that the books must keep apart inside one
  engine.
- *Owners* are labels of the exchange, numbered as they appear; -1 is nobody in both.
"""

import os
import socket
import socketserver
import sys
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import count

import numpy as np
from tracebook.conformance.model import (
    BookSnapshot,
    BookState,
    ConformanceConfig,
    EngineMetadata,
    Observation,
    Outcome,
    RestingOrder,
    TradeFill,
    canonical_decimal,
)
from tracebook.conformance.protocol import serve_stdio
from tracebook.core.order import NO_OWNER, OrderSide, OrderType, SelfTradePolicy
from tracebook.events import MarketEvent

from abm.exchange import Exchange
from abm.exchange.exchange import Report
from abm.exchange.instrument import Instrument
from abm.exchange.messages import ANONYMOUS, MESSAGE, Kind, Records, Reject, SelfTrade, Side, Status, TimeInForce

LOT = Decimal("1e-12")
SYMBOLS = 16
TICKS = 2**24

SELF_TRADE = {
    SelfTradePolicy.NONE: SelfTrade.ALLOW,
    SelfTradePolicy.CANCEL_RESTING: SelfTrade.CANCEL_RESTING,
    SelfTradePolicy.CANCEL_INCOMING: SelfTrade.CANCEL_INCOMING,
}
INSTRUCTIONS = {
    OrderType.LIMIT: (Kind.LIMIT, TimeInForce.GTC),
    OrderType.MARKET: (Kind.MARKET, TimeInForce.IOC),
    OrderType.IOC: (Kind.LIMIT, TimeInForce.IOC),
    OrderType.FOK: (Kind.LIMIT, TimeInForce.FOK),
}
MATCHING = {"fifo": "price_time", "pro_rata": "pro_rata"}
REASONS = {
    Reject.UNKNOWN_ORDER: "ORDER_NOT_ACTIVE",
    Reject.ORDER_DONE: "ORDER_NOT_ACTIVE",
    Reject.DUPLICATE_ID: "DUPLICATE_ORDER_ID",
}


class ExchangeAdapter:
    """One exchange, spoken to in the suite's events."""

    metadata = EngineMetadata("exit-cascade abm.exchange", "1", "Python")

    def __init__(self, config: ConformanceConfig) -> None:
        self.config = config
        self.tick = Decimal(canonical_decimal(config.tick_size))
        instrument = {
            "kind": "perpetual",  # lots of 1e-12 are finer than the money a ledger would keep; there is no ledger here
            "tick": config.tick_size,
            "lot": float(LOT),
            "max_price": float(self.tick * TICKS),
            "matching": MATCHING[config.matching_algorithm],
        }
        self.exchange = Exchange([Instrument(name=f"symbol-{i}", **instrument) for i in range(SYMBOLS)])
        self.symbols: dict[str, int] = {}
        self.owners = {NO_OWNER: ANONYMOUS}
        self.ids: dict[tuple[str, int], int] = {}  # latest id of the exchange for a source id
        self.sources: dict[int, int] = {}
        self.fresh = count(1)

    def apply(self, event: MarketEvent, index: int) -> Observation:
        """Send one event to the exchange and report what it answered."""
        if event.op in ("new", "clear"):
            self._instrument(event.symbol)
        report: Report = {"new": self._new, "replace": self._replace, "clear": self._clear}.get(
            event.op, self._cancel_or_reduce
        )(event)
        state = self.snapshot()
        return Observation(
            index, self._outcome(event, report), self._trades(event.symbol, report), state.digest(), state.order_count
        )

    def snapshot(self) -> BookState:
        """Every resting order in the exchange's own priority."""
        return BookState(tuple(self._book(symbol) for symbol in sorted(self.symbols)))

    def close(self) -> None:
        """Nothing is held."""

    def _instrument(self, symbol: str) -> int:
        if symbol not in self.symbols:
            if len(self.symbols) == SYMBOLS:
                raise ValueError(f"more than {SYMBOLS} symbols")
            self.symbols[symbol] = len(self.symbols)
        return self.symbols[symbol]

    def _new(self, event: MarketEvent) -> Report:
        key = (event.symbol, self._source(event))
        resting = self.ids.get(key)
        if resting is None or self.exchange.order(resting) is None:
            self.ids[key] = next(self.fresh)
            self.sources[self.ids[key]] = key[1]
        kind, tif = INSTRUCTIONS[event.order_type]
        return self._send(
            kind=kind,
            tif=tif,
            instrument=self._instrument(event.symbol),
            order=self.ids[key],
            side=Side.BUY if event.side is OrderSide.BUY else Side.SELL,
            price=0 if kind is Kind.MARKET else self._ticks(event.price),
            quantity=_lots(event.quantity),
            owner=self.owners.setdefault(event.owner, len(self.owners) - 1),
        )

    def _cancel_or_reduce(self, event: MarketEvent) -> Report:
        order, owner = self._resting(event)
        if event.op == "cancel":
            return self._send(kind=Kind.CANCEL, order=order, owner=owner)
        return self._send(kind=Kind.REDUCE, order=order, owner=owner, quantity=_lots(event.quantity))

    def _replace(self, event: MarketEvent) -> Report:
        order, owner = self._resting(event)
        resting = self.exchange.order(order)
        if resting is None:
            return self._send(kind=Kind.REPLACE, order=order, owner=owner, price=1, quantity=1)
        price = resting["price"] if event.price is None else self._ticks(event.price)
        quantity = resting["quantity"] if event.quantity is None else _lots(event.quantity)
        if price != resting["price"] or not 0 < quantity <= resting["quantity"]:
            return self._send(kind=Kind.REPLACE, order=order, owner=owner, price=price, quantity=quantity)
        renewed = next(self.fresh)
        self.ids[event.symbol, self._source(event)] = renewed
        self.sources[renewed] = self._source(event)
        self._send(kind=Kind.CANCEL, order=order, owner=owner)
        return self._send(
            kind=Kind.LIMIT,
            instrument=self._instrument(event.symbol),
            order=renewed,
            side=resting["side"],
            price=price,
            quantity=quantity,
            owner=owner,
        )

    def _clear(self, event: MarketEvent) -> Report:
        book = self.symbols[event.symbol]
        report = self._send(kind=Kind.CLOCK)
        for side in (Side.BUY, Side.SELL):
            for resting in self._side(book, side):
                report = self._send(kind=Kind.CANCEL, order=resting["order"], owner=resting["owner"])
        return report

    def _send(self, **fields: object) -> Report:
        tape: Records = np.zeros(1, MESSAGE)
        tape["owner"] = ANONYMOUS
        tape["self_trade"] = SELF_TRADE[self.config.self_trade_policy]
        for name, value in fields.items():
            tape[name] = value
        return self.exchange.match(tape)

    def _outcome(self, event: MarketEvent, report: Report) -> Outcome:
        answer = report.outcomes[-1]
        reject = Reject(int(answer["reject"]))
        if answer["status"] != Status.REJECTED or reject is Reject.NOT_FILLABLE:
            return Outcome("applied")
        return Outcome(
            "rejected",
            REASONS.get(reject, "INVALID_REPLACEMENT" if event.op == "replace" else "INVALID_ORDER"),
            reject.name,
        )

    def _trades(self, symbol: str, report: Report) -> tuple[TradeFill, ...]:
        fills = []
        for trade in report.trades:
            maker, taker = self.sources[int(trade["maker"])], self.sources[int(trade["taker"])]
            buyer, seller = (taker, maker) if trade["aggressor"] == Side.BUY else (maker, taker)
            fills.append(
                TradeFill(symbol, buyer, seller, self._price(trade["price"]), self._quantity(trade["quantity"]))
            )
        return tuple(fills)

    def _book(self, symbol: str) -> BookSnapshot:
        book, names = self.symbols[symbol], {number: owner for owner, number in self.owners.items()}
        bids, asks = (
            tuple(
                RestingOrder(
                    self.sources[int(resting["order"])],
                    self._price(resting["price"]),
                    self._quantity(resting["quantity"]),
                    names[int(resting["owner"])],
                )
                for resting in self._side(book, side)
            )
            for side in (Side.BUY, Side.SELL)
        )
        return BookSnapshot(symbol, bids, asks)

    def _side(self, book: int, side: Side) -> list[np.void]:
        """The orders of one side as the exchange has them: best level first, in priority."""
        depth = self.exchange.depth(book, len(self.sources) + 1)
        prices = depth.bid_price if side is Side.BUY else depth.ask_price
        return [resting for price in prices for resting in self.exchange.queue(book, side, int(price))]

    def _resting(self, event: MarketEvent) -> tuple[int, int]:
        """Id and owner of the order an event speaks of; an id never used where there was none."""
        order = self.ids.get((event.symbol, self._source(event)))
        if order is None:
            return next(self.fresh), ANONYMOUS
        resting = self.exchange.order(order)
        return order, ANONYMOUS if resting is None else int(resting["owner"])

    @staticmethod
    def _source(event: MarketEvent) -> int:
        if event.order_id is None:
            raise ValueError("order_id is missing")
        return event.order_id

    def _ticks(self, price: float | None) -> int:
        if price is None:
            raise ValueError("price is missing")
        ticks = round(price / self.config.tick_size)
        if ticks >= TICKS:
            raise ValueError(f"price {price} is beyond the range of the instrument")
        return max(ticks, -1)

    def _price(self, ticks: int) -> str:
        return canonical_decimal(int(ticks) * self.tick)

    def _quantity(self, lots: int) -> str:
        return canonical_decimal(int(lots) * LOT, self.config.quantity_decimal_places)


def _lots(quantity: float | None) -> int:
    if quantity is None:
        raise ValueError("quantity is missing")
    lots = int((Decimal(str(quantity)) / LOT).to_integral_value(ROUND_HALF_EVEN))
    if lots >= 2**62:
        raise ValueError(f"quantity {quantity} is more than an order can have")
    return max(lots, -1)


class _Trace(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.request.makefile("r") as asked, self.request.makefile("w") as answers:
            serve_stdio(ExchangeAdapter, asked, answers)


def serve_port() -> None:
    """Serve trace after trace, each with an exchange of its own, to `relay.py` at a local port, which is printed."""
    with socketserver.TCPServer(("127.0.0.1", 0), _Trace) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1:] == ["--port"]:
        serve_port()
    else:
        code = serve_stdio(ExchangeAdapter)
        os._exit(code)  # the suite gives half a second to end in, which taking an interpreter down may not keep
