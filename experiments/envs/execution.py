"""Execution of a parent order: to trade a quantity within a time, at as little cost as can be."""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from abm.agents.view import BPS, Book
from abm.exchange.instrument import Instrument
from abm.exchange.messages import Reason
from abm.market import Market
from experiments.envs.seat import NEAR_BPS, OF_THE_MARKET, Feature, Floats, Seat, Task


class ExecutionTask(Task):
    """A parent order to be executed. What is left when the time is over is sent as one market order."""

    side: Literal["buy", "sell"] = Field("sell", description="what it does", examples=["sell"])
    quantity: float = Field(100.0, gt=0, description="coins or shares to trade; rounded down to lots", examples=[100])
    reach_bps: float = Field(20.0, gt=0, le=1000, description="price at action 1, basis points beyond the mid")

    sees: ClassVar = (
        *OF_THE_MARKET,
        Feature("left", "1", 0.0, 1.0, "share of the quantity that has not been traded"),
        Feature(
            "gain", "bp", -1000.0, 1000.0, "return of the mid since arrival; negative where it has moved against it"
        ),
        Feature(
            "depth", "1", 0.0, 100.0, f"depth it would trade with within {NEAR_BPS:g} bp of the mid, over the quantity"
        ),
    )
    does: ClassVar = (
        Feature("share", "1", 0.0, 1.0, "share of what is left that is sent now"),
        Feature(
            "price", "reach_bps", -1.0, 1.0, "limit, from the mid: 1 goes so far into the book, -1 rests so far away"
        ),
    )

    def means(self, instrument: Instrument) -> tuple[float, float]:
        """The coins it sells; or twice the cash that it needs at the reference price, with margin too."""
        if self.side == "sell" and instrument.margin is None:
            return 0.0, self.quantity
        return 2.0 * self.quantity * (instrument.reference_price or 0.0), 0.0

    def seat(self, market: Market, name: str) -> "ExecutionSeat":
        """Its account."""
        return ExecutionSeat(market, name, self)

    def unfit(self, instrument: Instrument) -> str:
        """Whether the quantity is a lot, beside what holds for all."""
        if self.quantity < instrument.lot:
            return (
                f"quantity = {self.quantity:g} is less than a lot of {instrument.name} ({instrument.lot:g}); raise it"
            )
        return super().unfit(instrument)


class ExecutionSeat(Seat):
    """An account that executes a parent order.

    Its reward is what an interval adds to the implementation shortfall, with a minus: in all, the reward is minus the shortfall, fees
    included, in basis points of the quantity at the arrival price. Perold (1988), Journal of Portfolio Management 14(3):4: a portfolio on
    paper trades all of it at the mid at arrival; the shortfall is what that is worth now, less what the real one is worth.
    """

    def __init__(self, market: Market, name: str, task: ExecutionTask) -> None:
        """Join a market."""
        self.task = task
        lot = market.scenario.instruments[task.instrument].lot
        self.quantity = math.floor(task.quantity / lot + 1e-9) * lot
        self._sign = 1.0 if task.side == "buy" else -1.0
        self._before, self._settling = 0.0, False
        super().__init__(market, name, task)

    @property
    def filled(self) -> float:
        """Coins traded so far."""
        return self._sign * self.traded + 0.0  # no minus before a zero

    @property
    def left(self) -> float:
        """Coins that have not been traded."""
        return max(self.quantity - self.filled, 0.0)

    @property
    def done(self) -> bool:
        """Whether less than a lot is left."""
        return self.left < 0.5 * self.book.instrument.lot

    @property
    def shortfall(self) -> float:
        """Implementation shortfall so far in currency, what is left valued as it is now."""
        on_paper = (self._held + self._sign * self.quantity) * (self.book.mark - self.arrival)
        return on_paper - self.earned

    def place(self, book: Book, action: Floats) -> None:
        """A limit order for a share of what is left; or, when the time is over, a market order for all of it."""
        trade = self.buy if self._sign > 0 else self.sell
        if self._settling:
            trade(book.instrument.name, self.left, reason=Reason.EXECUTION)
            return
        share, price = action
        limit = book.mid * (1.0 + self._sign * price * self.task.reach_bps * BPS)
        trade(book.instrument.name, share * self.left, limit, reason=Reason.EXECUTION, lifetime=self._interval)

    def settle(self) -> bool:
        """Send what is left."""
        self._settling = not self.done
        if self._settling:
            self.wake()
        return self._settling

    def state(self) -> Floats:
        """What is left, how the price went, how deep the book is."""
        book = self.book
        bids, asks = self.model.exchange.depth_within(book.index, NEAR_BPS)
        depth = (asks if self._sign > 0 else bids) * book.instrument.lot
        gain = -self._sign * (book.mid / self.arrival - 1.0) / BPS
        return np.array([self.left / self.quantity, gain, depth / self.quantity])

    def reward(self) -> float:
        """By how much the shortfall has shrunk, basis points of the quantity at the arrival price."""
        before, self._before = self._before, self.shortfall
        return (before - self._before) / (self.quantity * self.arrival) / BPS

    def about(self) -> Mapping[str, float]:
        """Coins traded, and the shortfall."""
        shortfall = self.shortfall
        return {
            "filled": self.filled,
            "shortfall": shortfall,
            "shortfall_bps": shortfall / (self.quantity * self.arrival) / BPS,
        }
