"""Trend followers, commodity trading advisers among them: they hold what has risen and are short of what has fallen.

They trade because trends have paid. The signal is the sign of the return over a window (time-series momentum: Moskowitz, Ooi and Pedersen
2012, Journal of Financial Economics 104:228) or which of two moving averages is higher (Brock, Lakonishok and LeBaron 1992, Journal of
Finance 47:1731). The position is sized by volatility (Moskowitz et al.): exposure = signal x target volatility / volatility x
equity. So a rise in volatility makes them trade even where the trend goes on. They look once an hour, and spread what they do over the hour.
"""

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from abm.agents.base import Floats, trader
from abm.agents.portfolio import DAY, Portfolio, PortfolioConfig, volatility_weight
from abm.clock import Seconds
from abm.exchange.messages import Reason


def momentum_signal(log_prices: Floats, lookback: int) -> float:
    """1 where the price is above that of `lookback` samples ago, -1 where it is below."""
    return float(np.sign(log_prices[-1] - log_prices[-1 - lookback]))


def crossover_signal(log_prices: Floats, fast: int, slow: int) -> float:
    """1 where the mean of the last `fast` prices is above that of the last `slow`, -1 where it is below."""
    prices = np.exp(log_prices)
    return float(np.sign(prices[-fast:].mean() - prices[-slow:].mean()))


class TrendConfig(PortfolioConfig):
    """Trend followers in one instrument: spot, which they can only hold or not, or one with margin."""

    accounts: int = Field(40, ge=0, le=10_000_000, description="accounts", examples=[40])
    style: Literal["momentum", "crossover"] = Field(
        "momentum", description="sign of the return over a window; a short moving average against a long one"
    )
    windows: tuple[Seconds, ...] = Field(
        (28_800.0, 86_400.0, 259_200.0),
        min_length=1,
        description="windows, of which each account draws one; of a crossover the long one",
        examples=[["8h", "1d", "3d"]],
    )
    ratio: float = Field(4.0, gt=1, description="of a crossover: long window over short one", examples=[4])
    target_volatility: float = Field(
        0.3, gt=0, le=5, description="a year, that equity gets from this instrument", examples=[0.3]
    )
    highest: float = Field(1.5, gt=0, le=100, description="largest exposure, in equity", examples=[1.5])
    trend_before: float = Field(
        0.0, gt=-1, lt=1, description="log return a day before the run begins", examples=[-0.03]
    )

    @model_validator(mode="after")
    def _long_enough(self) -> "TrendConfig":
        if min(self.windows) < self.every:
            raise ValueError("windows must not be shorter than `every`; lower every")
        return self


@trader("trend_followers")
class TrendFollowers(Portfolio):
    """Accounts that are long or short of one instrument by its trend."""

    config: TrendConfig

    def setup(self) -> None:
        """Draw each account's window; the past before the run is a straight line."""
        c = self.config
        self._which = self.random("window").integers(0, len(c.windows), self.size)
        self._lookbacks = [round(window / c.every) for window in c.windows]
        price = self.model.scenario.instruments[c.instrument].reference_price or 1.0
        ago = np.arange(max(self._lookbacks), -1, -1) * c.every
        self._log_prices = np.log(price) - c.trend_before * ago / DAY
        super().setup()

    def learn(self, mids: Floats, elapsed: float) -> None:
        """One more price for the signal too."""
        self._log_prices = np.append(self._log_prices[1:], np.log(mids[0]))
        super().learn(mids, elapsed)

    @property
    def signals(self) -> Floats:
        """1 for long, -1 for short, of each account."""
        c, past = self.config, self._log_prices
        if c.style == "momentum":
            by_window = [momentum_signal(past, back) for back in self._lookbacks]
        else:
            by_window = [crossover_signal(past, max(1, round(back / c.ratio)), back) for back in self._lookbacks]
        return np.array(by_window)[self._which]

    def exposures(self, equity: Floats) -> Floats:
        """Signal times volatility weight times equity."""
        c = self.config
        weight = volatility_weight(c.target_volatility, float(np.sqrt(self.covariance[0, 0])), c.highest)
        return np.asarray((self.signals * weight * equity)[:, None])

    def reasons(self, instrument: int, held: Floats, change: Floats) -> Reason:
        """All of it is the trend's."""
        return Reason.TREND
