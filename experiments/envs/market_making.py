"""Market making: to quote both sides of a book, and earn the spread without being left with an inventory."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from abm.agents.view import BPS, Book
from abm.exchange.instrument import Instrument
from abm.exchange.messages import Flag, Reason
from abm.market import Market
from experiments.envs.seat import OF_THE_MARKET, Feature, Floats, Seat, Task


class MarketMakingTask(Task):
    """A bid and an offer of one size, quoted anew in each interval; post-only, so that it never takes."""

    tier: int = Field(1, ge=0, le=255, description="fee tier: an index into the instrument's fees", examples=[1])
    size: float = Field(0.5, gt=0, description="coins or shares of each quote", examples=[0.5])
    limit: float = Field(
        5.0, gt=0, description="most that it holds, long or short, of what it began with", examples=[5]
    )
    reach_bps: float = Field(
        10.0, gt=0, le=1000, description="distance of a quote at action 1, basis points of the mid"
    )
    aversion: float = Field(
        0.01, ge=0, description="penalty a second at a full inventory, basis points of the limit", examples=[0.01]
    )

    sees: ClassVar = (
        *OF_THE_MARKET,
        Feature("inventory", "limit", -1.0, 1.0, "what it has bought less what it has sold"),
        Feature("filled", "size", -1.0, 1.0, "what it has bought less what it has sold in the last interval"),
    )
    does: ClassVar = (
        Feature("bid", "reach_bps", 0.0, 1.0, "from the mid down to its bid"),
        Feature("ask", "reach_bps", 0.0, 1.0, "from the mid up to its offer"),
    )

    def means(self, instrument: Instrument) -> tuple[float, float]:
        """Cash for twice the limit; and the limit in coins, which it can then be short of, where there is no margin."""
        return 2.0 * self.limit * (instrument.reference_price or 0.0), self.limit if instrument.margin is None else 0.0

    def seat(self, market: Market, name: str) -> "MarketMakingSeat":
        """Its account."""
        return MarketMakingSeat(market, name, self)

    def unfit(self, instrument: Instrument) -> str:
        """Whether size and limit are lots, beside what holds for all."""
        if self.size < instrument.lot:
            return f"size = {self.size:g} is less than a lot of {instrument.name} ({instrument.lot:g}); raise it"
        if self.limit < self.size:
            return f"limit = {self.limit:g} is less than size = {self.size:g}; raise limit"
        return super().unfit(instrument)


class MarketMakingSeat(Seat):
    """An account that quotes.

    Its reward is the change of its wealth less a penalty for its inventory, both in basis points of the limit at the arrival price:
    maximising E[W_T - phi integral q_t^2 dt] is the problem of Cartea, Jaimungal and Penalva (2015), Algorithmic and High-Frequency
    Trading, section 10.2, with what is held at the end valued at the mid, as Avellaneda and Stoikov (2008), Quantitative Finance 8:217, do.
    """

    def __init__(self, market: Market, name: str, task: MarketMakingTask) -> None:
        """Join a market."""
        self.task = task
        self._before = self._quoted_with = 0.0
        super().__init__(market, name, task)

    @property
    def inventory(self) -> float:
        """Coins bought less coins sold."""
        return self.traded

    @property
    def wealth(self) -> float:
        """Currency earned, with the inventory at the mid (the mark, where there is margin); what it began with is left out."""
        return self.earned - self._held * (self.book.mark - self.arrival)

    def place(self, book: Book, action: Floats) -> None:
        """A bid and an offer, as far as the limit allows."""
        self._quoted_with = self.inventory
        name, (bid, ask), c = book.instrument.name, action * self.task.reach_bps * BPS, self.task
        terms = {"reason": Reason.MARKET_MAKING, "flags": Flag.POST_ONLY, "lifetime": self._interval}
        self.buy(name, min(c.size, c.limit - self.inventory), book.mid * (1.0 - bid), **terms)
        self.sell(name, min(c.size, c.limit + self.inventory), book.mid * (1.0 + ask), **terms)

    def state(self) -> Floats:
        """Its inventory, and what has become of its quotes."""
        c = self.task
        return np.array([self.inventory / c.limit, (self.inventory - self._quoted_with) / c.size])

    def reward(self) -> float:
        """What its wealth has grown by, less the penalty for what it holds; basis points of the limit at the arrival price."""
        before, self._before = self._before, self.wealth
        grown = (self._before - before) / (self.task.limit * self.arrival) / BPS
        return grown - self.task.aversion * (self.inventory / self.task.limit) ** 2 * self._interval

    def about(self) -> Mapping[str, float]:
        """Wealth earned, and coins held of it."""
        return {"wealth": self.wealth, "inventory": self.inventory}
