"""Informed traders: they know what the instrument is worth before others do, and trade on it without haste.

Kyle (1985), Econometrica 53:1315. An insider who knows the value hides behind others' orders: it trades in proportion to how far the
price is from the value, and its own impact makes that a small part at a time. `equilibrium` is the paper's: what the insider sends in
each of a number of auctions, and by how much a competitive market maker moves the price for an order flow it cannot tell apart.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from scipy.optimize import brentq

from abm.agents.base import Numbers, Population, TraderConfig, trader
from abm.agents.view import BPS, View
from abm.clock import Seconds
from abm.exchange.messages import Reason, Records, Side

Floats = npt.NDArray[np.float64]


class Equilibrium(NamedTuple):
    """Kyle's equilibrium; arrays with one entry for each auction, in their order."""

    intensity: Floats
    """Units that the insider sends for each unit of currency between value and price: beta_n dt_n."""
    impact: Floats
    """Currency by which a unit of order flow moves the price: lambda_n."""
    variance: Floats
    """Of the value, as the market maker knows it after the auction: Sigma_n."""
    profit: float
    """What the insider gains on average, before it knows the value; currency."""


def equilibrium(auctions: int, variance: float = 1.0, noise: float = 1.0) -> Equilibrium:
    """The one linear equilibrium of a market of several auctions.

    Kyle (1985), Econometrica 53:1315, theorem 2, solved backwards from the last auction, at equal intervals. With one auction it is
    theorem 1: impact sqrt(Sigma0) / (2 sigma_u), intensity sigma_u / sqrt(Sigma0).

    Args:
        auctions: N, at least 1.
        variance: Sigma0 > 0, of the value before the first auction; currency squared.
        noise: sigma_u > 0, standard deviation of what noise traders send in all auctions together; units.
    """
    # Solved for noise of 1, and a variance of 1 after the last auction: how large the first one was is known at the end.
    dt = 1.0 / auctions
    left, alpha, delta = 1.0, 0.0, 0.0  # profit still to come: alpha (value - price)^2 + delta
    steps: list[tuple[float, float, float]] = []
    for _ in range(auctions):
        slope = _impact(alpha, left, dt)
        sent = (1.0 - 2.0 * alpha * slope) / (2.0 * slope * (1.0 - alpha * slope))
        steps.append((sent, slope, left))
        delta += alpha * slope**2 * dt
        alpha = 1.0 / (4.0 * slope * (1.0 - alpha * slope))
        left /= 1.0 - sent * slope
    intensity, impact, after = np.array(steps[::-1]).T
    scale = math.sqrt(variance / left)
    return Equilibrium(
        intensity * noise / scale, impact * scale / noise, after * scale**2, (alpha * left + delta) * scale * noise
    )


def _impact(alpha: float, left: float, dt: float) -> float:
    """The impact of an auction: lambda = beta Sigma / sigma_u^2, where beta is the insider's best answer to lambda; a cubic in lambda."""

    def cubic(slope: float) -> float:
        return 2.0 * dt * slope**2 * (1.0 - alpha * slope) - left * (1.0 - 2.0 * alpha * slope)

    # Beyond 1 / (2 alpha) the insider would trade against what it knows
    highest = 0.5 / alpha if alpha > 0 else math.sqrt(left / dt)
    return float(brentq(cubic, 0.0, highest, xtol=1e-15, rtol=1e-15))


class InformedConfig(TraderConfig):
    """Informed traders."""

    intensity: float = Field(
        1.0,
        gt=0,
        description="coins that an account sends at each look for each per cent between value and price",
        examples=[1],
    )
    ahead: Seconds = Field(
        0.0, ge=0, description="how long before others it knows the value; 0: it knows that of now", examples=["10min"]
    )
    every: Seconds = Field(60.0, gt=0, description="time between two looks", examples=["1min"])
    start: Seconds = Field(0.0, ge=0, description="first look, from the start of the run", examples=["1h"])
    end: Seconds | None = Field(None, ge=0, description="last look, from the start of the run; none = its end")
    hurdle_bps: float = Field(
        5.0, ge=0, description="no trade where value and price are nearer than this, basis points", examples=[5]
    )
    slippage: float = Field(
        0.005, gt=0, lt=0.5, description="no trade further than this fraction from the mid", examples=[0.005]
    )
    cash: float = Field(10e6, ge=0, description="currency an account starts with", examples=[10e6])
    coins: float = Field(100.0, ge=0, description="coins an account starts with", examples=[100])

    @model_validator(mode="after")
    def _has_time(self) -> "InformedConfig":
        if self.end is not None and self.end < self.start:
            raise ValueError(f"end = {self.end:g} is before start = {self.start:g}; make it later")
        return self


@trader("informed")
class InformedTraders(Population):
    """Insiders who buy below the value they know and sell above it, in proportion to the distance (Kyle 1985).

    An order trades at once, as far as the value and `slippage` allow. During a call auction it waits for the auction, as all do.
    """

    config: InformedConfig

    def setup(self) -> None:
        """Look at regular times."""
        self.wake_every(self.config.every, self.config.start, self.config.end)

    def endow(self) -> tuple[Numbers, Numbers]:
        """The same for each account."""
        return self.config.cash, self.config.coins

    def decide(self, view: View) -> Records | None:
        """Part of the way to the value, from each account."""
        c = self.config
        book = view[c.instrument]
        value = self.model.fundamental(c.instrument, c.ahead)
        gap = value / book.mid - 1.0
        if abs(gap) < c.hurdle_bps * BPS:
            return None
        side = Side.BUY if gap > 0 else Side.SELL
        return self.market(
            book,
            side,
            c.intensity * abs(gap) * 100.0,
            reason=Reason.INFORMED,
            slippage=min(c.slippage, abs(gap)),
        )
