"""Fundamentalists: they hear what an instrument is worth, never exactly, and trade at once when the price is too far from it.

They pull the price towards the value, where the patient value traders beside them only wait. What they hear is the logarithm of the
fundamental value with a normal error. Between two looks the value wanders, so each keeps an estimate and how sure it is, and weighs what it
hears by both: the filter of Kalman (1960, Journal of Basic Engineering 82:35), as the value agents of Byrd, Hybinette and Balch (2020,
Proceedings of SIGSIM-PADS) do for a value that reverts to a mean; here the value is a random walk. With the time dt since the last look

    P <- P + sigma^2 dt,    K = P / (P + noise^2),    estimate <- estimate + K (heard - estimate),    P <- (1 - K) P.

Each waits for a mispricing of its own, trades more the larger it is, and never beyond its estimate. Means are finite.
"""

import numpy as np
from pydantic import Field

from abm.agents.base import Ints, Numbers, Population, TraderConfig, trader
from abm.agents.view import View
from abm.clock import Seconds
from abm.exchange.messages import Phase, Reason, Records, Side, TimeInForce
from abm.world.fundamental import YEAR


class FundamentalistsConfig(TraderConfig):
    """Fundamentalists."""

    accounts: int = Field(200, ge=0, le=10_000_000, description="accounts", examples=[200])
    cash: float = Field(200e6, ge=0, description="currency held by all accounts together", examples=[200e6])
    coins: float = Field(2_700.0, ge=0, description="coins or shares held by all accounts together", examples=[2700])
    look: Seconds = Field(300.0, gt=0, description="mean time between two looks of an account", examples=["5min"])
    pulse: Seconds = Field(5.0, gt=0, description="time between two rounds of looks", examples=["1min"])
    noise: float = Field(
        0.01, ge=0, le=1, description="standard deviation of the error of what is heard, as a fraction", examples=[0.01]
    )
    volatility: float = Field(
        0.42, ge=0, le=5, description="a year; how much they think the value wanders", examples=[0.42]
    )
    threshold: float = Field(
        0.005, gt=0, lt=1, description="median mispricing that makes an account trade", examples=[0.005]
    )
    threshold_sigma: float = Field(
        0.5, ge=0, le=2, description="standard deviation of the logarithm of the thresholds", examples=[0.5]
    )
    trade_share: float = Field(
        0.1, gt=0, le=1, description="part of its means that an account uses at its threshold", examples=[0.1]
    )
    power: float = Field(1.5, ge=0, le=5, description="that part grows as the mispricing to this power", examples=[1.5])
    slippage: float = Field(
        0.003, gt=0, lt=0.5, description="no trade further than this fraction from the mid", examples=[0.003]
    )


@trader("fundamentalists")
class Fundamentalists(Population):
    """Takers who bring the price back to the value."""

    config: FundamentalistsConfig

    def setup(self) -> None:
        """Draw thresholds and estimates, as sure as those of people who have listened for long."""
        c, n = self.config, self.size
        self.threshold = c.threshold * np.exp(c.threshold_sigma * self.random("threshold").standard_normal(n))
        """Mispricing that makes each account trade, as a fraction."""
        self._heard = self.random("heard")
        value = np.log(self.model.worth(c.instrument))
        wander, error = c.volatility**2 * c.look / YEAR, c.noise**2
        before = (
            wander + np.sqrt(wander**2 + 4.0 * wander * error)
        ) / 2.0  # before something is heard, where P no longer changes
        settled = before * error / (before + error) if before > 0 else 0.0
        self.estimate = value + np.sqrt(settled) * self._heard.standard_normal(n)
        """Logarithm of what each account takes for the value."""
        self.variance = np.full(n, settled)
        """Of each account's estimate."""
        self._looked_at = np.zeros(n)
        self._wakeups = self.wakeups(c.look)
        self.wake_every(max(c.pulse, self.model.scenario.clock.step))

    def endow(self) -> tuple[Numbers, Numbers]:
        """The same for each account."""
        return self.config.cash / max(self.size, 1), self.config.coins / max(self.size, 1)

    def decide(self, view: View) -> Records | None:
        """Those who look hear the news; those who find the price too far off trade, at no worse than their estimate."""
        c, book = self.config, view[self.config.instrument]
        if book.phase == Phase.CLOSED:
            return None
        who = self._wakeups.due(view.seconds)
        if len(who) == 0:
            return None
        self._listen(who, view.seconds)
        mispricing = self.estimate[who] - np.log(book.mid)
        part = np.abs(mispricing) / self.threshold[who]
        who, mispricing, part = (x[part > 1.0] for x in (who, mispricing, part))
        part = np.minimum(c.trade_share * part**c.power, 1.0)
        buys = mispricing > 0
        estimate = np.exp(self.estimate[who])
        price = np.where(
            buys,
            np.minimum(estimate, book.mid * (1.0 + c.slippage)),
            np.maximum(estimate, book.mid * (1.0 - c.slippage)),
        )
        quantity = part * np.where(buys, self.free_cash(who) / book.mid, self.free_holdings(who=who))
        side = np.where(buys, Side.BUY, Side.SELL)
        return self.limit(book, side, price, quantity, who=who, reason=Reason.VALUE, tif=TimeInForce.IOC)

    def _listen(self, who: Ints, now: float) -> None:
        """Bring the estimates of some accounts up to date with what they hear now."""
        c = self.config
        heard = np.log(self.model.worth(c.instrument)) + c.noise * self._heard.standard_normal(len(who))
        variance = self.variance[who] + c.volatility**2 * (now - self._looked_at[who]) / YEAR
        # Without noise nor wandering there is nothing to learn.
        gain = np.divide(variance, variance + c.noise**2, out=np.zeros(len(who)), where=variance > 0)
        self.estimate[who] += gain * (heard - self.estimate[who])
        self.variance[who] = (1.0 - gain) * variance
        self._looked_at[who] = now
