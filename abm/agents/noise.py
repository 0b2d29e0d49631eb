"""Noise traders: they trade for reasons of their own, buying and selling alike, and know nothing.

Orders come as a Poisson process, sizes are lognormal, sides are coin tosses. They are the calm market's turnover.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from abm.agents.attention import Attention
from abm.agents.base import Numbers, Population, TraderConfig, trader
from abm.agents.execution import DAY
from abm.agents.view import BPS, View
from abm.clock import Seconds
from abm.exchange.messages import Phase, Reason, Records, Side, TimeInForce


class NoiseConfig(TraderConfig):
    """Noise traders."""

    accounts: int = Field(500, ge=0, le=10_000_000, description="accounts", examples=[500])
    volume_per_day: float = Field(
        20_000.0, ge=0, description="coins traded at once a day, buys and sales together", examples=[20_000]
    )
    orders_per_second: float = Field(
        3.0, gt=0, le=10_000, description="orders per second, all accounts together", examples=[3]
    )
    size_sigma: float = Field(
        1.3, ge=0, le=4, description="standard deviation of the logarithm of order sizes", examples=[1.3]
    )
    patient: float = Field(0.2, ge=0, lt=1, description="share of orders that rest as limit orders", examples=[0.2])
    distance_bps: float = Field(
        5.0, gt=0, description="mean distance of resting orders from the mid, basis points", examples=[5]
    )
    lifetime: Seconds = Field(60.0, gt=0, description="how long resting orders stay", examples=["1min"])
    attention: Attention = Field(Attention(), description="how the number of orders answers moves of the price")
    slippage: float = Field(
        0.002, gt=0, lt=0.5, description="no trade further than this fraction from the mid", examples=[0.002]
    )
    cash: float = Field(2_000_000.0, ge=0, description="currency an account starts with", examples=[2e6])
    coins: float = Field(25.0, ge=0, description="coins an account starts with", examples=[25])


@trader("noise")
class NoiseTraders(Population):
    """Orders without information, half of them buys."""

    config: NoiseConfig

    def setup(self) -> None:
        """Draw in blocks; decide in every step."""
        c = self.config
        per_step = c.orders_per_second * self.model.scenario.clock.step
        mean = c.volume_per_day / 86400.0 / (c.orders_per_second * (1.0 - c.patient))
        location = math.log(mean) - c.size_sigma**2 / 2.0 if mean > 0 else -math.inf
        number, who, side, size, patient, distance = map(
            self.random, ("number", "who", "side", "size", "patient", "distance")
        )

        def draw(n: int) -> tuple[npt.NDArray[Any], ...]:
            whose = who.integers(0, max(self.size, 1), n)
            sides = side.integers(0, 2, n)
            sizes = np.exp(location + c.size_sigma * size.standard_normal(n))
            rests = patient.random(n) < c.patient
            # A resting order is some distance behind the mid; one that trades at once may go `slippage` through it.
            behind = np.where(rests, distance.exponential(c.distance_bps * BPS, n), -c.slippage)
            prices = np.where(sides == Side.BUY, 1.0 - behind, 1.0 + behind)  # in mids
            return whose, sides, sizes, prices, np.where(rests, TimeInForce.GTC, TimeInForce.IOC)

        self._draw, self._mean = number, per_step
        self._began = self.model.scenario.clock.start.timestamp() % DAY
        self._order = self.block(draw)
        self.every_step = c.volume_per_day > 0

    def endow(self) -> tuple[Numbers, Numbers]:
        """The same for each account."""
        return self.config.cash, self.config.coins

    def decide(self, view: View) -> Records | None:
        """This step's orders: limits near the mid that rest a while, the others trade at once."""
        book = view[self.config.instrument]
        if book.phase == Phase.CLOSED:
            return None
        rate = self._mean * self.model.pace(self.config.instrument)
        n = int(self._draw.poisson(rate * self.config.attention.factor(book, view.seconds, self._began)))
        if n == 0:
            return None
        who, side, size, price, tif = self._order.take(n)
        return self.limit(
            book,
            side,
            book.mid * price,
            size,
            who=who,
            reason=Reason.NOISE,
            tif=tif,
            lifetime=self.config.lifetime,
        )
