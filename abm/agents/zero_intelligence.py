"""Zero-intelligence traders: limit orders, market orders and cancellations come at constant rates, whatever the price does.

Rates depend on the distance from the opposite best quote, as in Cont, Stoikov and Talreja (2010), Operations Research 58:549. With one
rate over one wide band of prices the model is that of Smith, Farmer, Gillemot and Krishnamurthy (2003), Quantitative Finance 3:481.
`OrderFlow` draws the events of any number of books: a population has one, a study of independent markets thousands.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit
from pydantic import Field, model_validator

from abm.agents.base import Floats, Ints, Numbers, Population, TraderConfig, trader
from abm.agents.view import View
from abm.exchange.description import Frozen
from abm.exchange.messages import MESSAGE, Kind, Reason, Records, Side, TimeInForce

BOOK = np.dtype(
    [
        ("clock", np.float64),  # minutes
        ("bid", np.int64),  # best quotes in ticks; of an empty side those known last
        ("ask", np.int64),
        ("count", np.int64),  # orders that may still rest
        ("instrument", np.int64),
        ("owner", np.int64),  # first account
    ]
)
RESTING = np.dtype([("order", np.int32), ("owner", np.int32), ("price", np.int32), ("side", np.int32)])

_LIMIT, _MARKET, _CANCEL = int(Kind.LIMIT), int(Kind.MARKET), int(Kind.CANCEL)
_BUY, _SELL, _GTC, _IOC = int(Side.BUY), int(Side.SELL), int(TimeInForce.GTC), int(TimeInForce.IOC)
_REASON = int(Reason.NOISE)


class Rates(NamedTuple):
    """Events a minute. A step is `step_ticks` ticks of distance from the opposite best quote."""

    within: Floats
    """Limit orders of one side not further than 1, 2, ... steps."""
    cancelled: Floats
    """Cancellations of an order at 1, 2, ... steps; the last one holds beyond."""
    market: float
    """Market orders of one side."""
    step_ticks: int
    lots: int
    """Lots of each order."""
    n_ticks: int
    """No price at or above it."""

    def total(self, orders: int) -> float:
        """All events a minute while so many orders rest, each counted as if it stood where most are cancelled."""
        return 2.0 * float(self.within[-1] + self.market) + float(self.cancelled.max()) * orders


@njit(cache=True)
def _forget(mine: Records, place: int, last: int) -> None:
    mine[place].order, mine[place].owner = mine[last].order, mine[last].owner
    mine[place].price, mine[place].side = mine[last].price, mine[last].side


@njit(cache=True)
def events(
    rates: Rates,
    books: Records,
    resting: Records,
    which: Ints,
    until: float,
    luck: Floats,
    accounts: int,
    first_id: int,
    out: Records,
) -> int:
    """The next events of some books, each on its own clock.

    Waiting times are exponential. Cancellations come at the highest rate for each order and are accepted in proportion to the rate at
    its distance, so that nobody has to know how many rest at each price (thinning: Lewis and Shedler 1979, Naval Research Logistics 26:403).

    Args:
        rates: What happens how often.
        books: `BOOK` records; changed.
        resting: `RESTING` records, books x room for as many as count + candidates; changed.
        which: Books that act.
        until: Where clocks stop, in minutes.
        luck: Uniform draws in [0, 1), len(which) x candidates x 3. A book has no more events than candidates, whatever its clock says.
        accounts: From which the sender of each order is drawn.
        first_id: Id of the first order; the others follow.
        out: Room for `len(which) x candidates` messages.

    Returns:
        How many messages are written, those of one book in the order of its clock.
    """
    n, steps = 0, len(rates.within)
    one_side = rates.within[-1] + rates.market
    most = rates.cancelled.max()
    for w in range(len(which)):
        book, mine = books[which[w]], resting[which[w]]
        for k in range(luck.shape[1]):
            total = 2.0 * one_side + most * book.count
            book.clock -= math.log(1.0 - luck[w, k, 0]) / total
            if book.clock > until:
                book.clock = until
                break
            x = luck[w, k, 1] * total
            m = out[n]
            m.instrument, m.quantity, m.reason, m.price = book.instrument, rates.lots, _REASON, 0
            if x >= 2.0 * one_side and book.count > 0:  # a cancellation
                place = min(np.int64((x - 2.0 * one_side) / most), book.count - 1)
                order = mine[place]
                away = book.ask - order.price if order.side == _BUY else order.price - book.bid
                step = min(max(away - 1, 0) // rates.step_ticks, len(rates.cancelled) - 1)
                if luck[w, k, 2] * most >= rates.cancelled[step]:
                    continue
                m.kind, m.tif, m.side, m.order, m.owner = _CANCEL, _GTC, order.side, order.order, order.owner
                book.count -= 1
                _forget(mine, place, book.count)
                n += 1
                continue
            m.side = _BUY if x < one_side else _SELL
            x -= 0.0 if x < one_side else one_side
            m.order = first_id + n
            m.owner = book.owner + np.int64(luck[w, k, 2] * accounts)
            if x >= rates.within[-1]:
                m.kind, m.tif = _MARKET, _IOC
            else:
                step = min(np.searchsorted(rates.within, x, side="right"), steps - 1)
                nearer = rates.within[step - 1] if step > 0 else 0.0
                along = (x - nearer) / (rates.within[step] - nearer)  # uniform within the step
                away = step * rates.step_ticks + 1 + min(np.int64(along * rates.step_ticks), rates.step_ticks - 1)
                price = book.ask - away if m.side == _BUY else book.bid + away
                if price < 1 or price >= rates.n_ticks:
                    continue
                m.kind, m.tif, m.price = _LIMIT, _GTC, price
                order = mine[book.count]
                order.order, order.owner, order.price, order.side = m.order, m.owner, m.price, m.side
                book.count += 1
            n += 1
    return n


class OrderFlow:
    """What zero-intelligence traders send to any number of books that share their rates.

    They remember the orders they sent and not whether those have traded: a cancellation may come too late, which the exchange answers
    and which changes nothing.
    """

    def __init__(
        self,
        rates: Rates,
        instruments: Sequence[int] | Ints,
        owners: Sequence[int] | Ints,
        price: int,
        accounts: int = 1,
    ) -> None:
        """Begin with nothing at rest.

        Args:
            rates: What happens how often.
            instruments: Number of the instrument of each book.
            owners: First account of each book.
            price: Bid in ticks from which distances count, one above it the ask, until a side is quoted.
            accounts: Accounts of each book.
        """
        self.rates = rates
        self.books = np.zeros(len(instruments), BOOK)
        """One `BOOK` record for each."""
        self.books["instrument"], self.books["owner"] = instruments, owners
        self.books["bid"], self.books["ask"] = price, price + 1
        self._accounts = accounts
        self._resting = np.zeros((len(instruments), 64), RESTING)
        self._out = np.zeros(0, MESSAGE)

    def quote(self, bid: int | npt.NDArray[Any], ask: int | npt.NDArray[Any]) -> None:
        """Show the best quotes of all books, in ticks; 0 where a side is empty."""
        for side, ticks in (("bid", bid), ("ask", ask)):
            np.copyto(self.books[side], ticks, where=ticks > 0)

    def adopt(self, which: Ints, orders: Records) -> None:
        """Forget what rests in some books, and take limit orders (messages, books x orders of each) for theirs instead."""
        count = orders.shape[1]
        self.books["count"][which] = count
        self._make_room(0)
        for name in RESTING.names or ():
            self._resting[name][which, :count] = orders[name]

    def act(self, which: Ints, until: float, luck: Floats, first_id: int) -> Records:
        """The next events of some books as messages, which stay as they are until the next call; see `events`."""
        candidates = len(which) * luck.shape[1]
        self._make_room(luck.shape[1])
        if len(self._out) < candidates:
            self._out = np.zeros(candidates, MESSAGE)
        written: int = events(
            self.rates, self.books, self._resting, which, until, luck, self._accounts, first_id, self._out
        )
        return self._out[:written]

    def _make_room(self, more: int) -> None:
        books, room = self._resting.shape
        wanted = int(self.books["count"].max(initial=0)) + more
        if wanted > room:
            wider = np.zeros((books, max(wanted, 2 * room)), RESTING)
            wider[:, :room] = self._resting
            self._resting = wider


# -------------------------------------------------------------------------------------------------------- the population


class Tail(Frozen):
    """Limit orders further away than those listed: `rate / i^exponent` a minute at i steps (Cont, Stoikov, Talreja 2010)."""

    rate: float = Field(1.92, gt=0, description="orders a minute and side at one step", examples=[1.92])
    exponent: float = Field(0.52, ge=0, le=10, description="decay with the distance in steps", examples=[0.52])
    furthest: int = Field(20, ge=1, le=100_000, description="steps beyond which no order is sent", examples=[20])


class ZeroIntelligenceConfig(TraderConfig):
    """Zero-intelligence traders. The defaults are the rates that Cont, Stoikov and Talreja (2010) estimate."""

    accounts: int = Field(100, ge=0, le=10_000_000, description="accounts", examples=[100])
    limit_orders: tuple[float, ...] = Field(
        (1.85, 1.51, 1.09, 0.88, 0.77),
        min_length=1,
        description="limit orders a minute and side at 1, 2, ... steps from the opposite best quote",
        examples=[[1.85, 1.51, 1.09]],
    )
    tail: Tail | None = Field(Tail(), description="limit orders further away than these; none = there are none")
    market_orders: float = Field(0.94, ge=0, le=1e6, description="market orders a minute and side", examples=[0.94])
    cancellations: tuple[float, ...] = Field(
        (0.71, 0.81, 0.68, 0.56, 0.47),
        min_length=1,
        description="rate a minute at which each resting order is cancelled at 1, 2, ... steps; the last holds beyond",
        examples=[[0.71, 0.81, 0.68]],
    )
    step_ticks: int = Field(
        1, ge=1, le=10_000_000, description="ticks of one step; within a step all prices are alike", examples=[100]
    )
    size: float = Field(0.05, gt=0, description="coins or shares of each order", examples=[0.05])
    cash: float = Field(1_000_000.0, ge=0, description="currency an account starts with", examples=[1e6])
    coins: float = Field(
        15.0, ge=0, description="coins or shares an account starts with; none of a derivative", examples=[15]
    )

    @model_validator(mode="after")
    def _are_rates(self) -> "ZeroIntelligenceConfig":
        for name in ("limit_orders", "cancellations"):
            if min(getattr(self, name)) < 0:
                raise ValueError(f"{name} must not be negative; use 0 for a distance without any")
        if sum(self.limit_orders) + self.market_orders == 0:
            raise ValueError(
                "limit_orders and market_orders are all 0; give one of them a rate, or leave the trader out"
            )
        if self.tail is not None and self.tail.furthest < len(self.limit_orders):
            raise ValueError("tail.furthest lies within limit_orders; raise it, or set tail to null")
        return self

    def rates(self, lots: int, n_ticks: int) -> Rates:
        """The rates in the form that `OrderFlow` takes, for orders of so many lots and prices below `n_ticks`."""
        near = np.array(self.limit_orders, np.float64)
        if self.tail is not None:
            far = np.arange(len(near) + 1, self.tail.furthest + 1, dtype=np.float64)
            near = np.concatenate((near, self.tail.rate / far**self.tail.exponent))
        cancelled = np.array(self.cancellations, np.float64)
        return Rates(np.cumsum(near), cancelled, self.market_orders, self.step_ticks, lots, n_ticks)


@trader("zero_intelligence")
class ZeroIntelligenceTraders(Population):
    """Limit orders, market orders and cancellations at constant rates."""

    config: ZeroIntelligenceConfig

    def setup(self) -> None:
        """Decide in every step, at the quotes seen at its beginning."""
        c = self.config
        instrument = self.model.scenario.instruments[c.instrument]
        price = instrument.ticks(instrument.reference_price or 0.0)
        rates = c.rates(max(1, instrument.lots(c.size)), instrument.n_ticks)
        self._book = np.zeros(1, np.int64)
        index = self.model.exchange.index(c.instrument)
        self._flow = OrderFlow(rates, [index], [self.first], price, self.size)
        luck = self.random("events")
        self._luck = self.block(lambda n: luck.random((n, 3)))
        self._minutes = self.model.scenario.clock.step / 60.0
        self.every_step = True

    def endow(self) -> tuple[Numbers, Numbers]:
        """The same for each account."""
        spot = self.model.scenario.instruments[self.config.instrument].kind == "spot"
        return self.config.cash, self.config.coins if spot else 0.0

    def decide(self, view: View) -> Records | None:
        """The events of this step, without cancellations of orders that are gone."""
        top, flow, exchange = view[self.config.instrument], self._flow, self.model.exchange
        flow.quote(top.bid_ticks, top.ask_ticks)
        flow.books["clock"] = 0.0  # the process has no memory, so that each step may begin anew
        expected = flow.rates.total(int(flow.books["count"][0])) * self._minutes
        candidates = math.ceil(expected + 8.0 * math.sqrt(expected) + 16.0)  # more come once in 10^15 steps
        luck = self._luck.take(candidates)[np.newaxis]
        first = exchange.take_ids(0)
        sent = flow.act(self._book, self._minutes, luck, first)
        exchange.take_ids(len(sent))
        cancels = np.flatnonzero(sent["kind"] == Kind.CANCEL).tolist()
        earlier = [m for m in cancels if sent["order"][m] < first]
        gone = [m for m in earlier if exchange.order(int(sent["order"][m])) is None]
        return np.delete(sent, gone) if gone else sent
