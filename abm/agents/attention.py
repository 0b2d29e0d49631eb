"""Attention: how much more people trade at some hours of the day, and after the price has moved.

Traders look at different horizons, and whoever sees a large move at his own trades more. So volatility calls forth volume, which moves the
price, and remembers itself for as long as the longest horizon: the heterogeneous market of Mueller et al. (1997), Journal of Empirical Finance
4:213.
"""

import math
from functools import cached_property
from typing import Literal

from pydantic import Field, model_validator

from abm.agents.execution import CURVES, DAY
from abm.agents.view import Book
from abm.clock import Seconds
from abm.exchange.description import Frozen
from abm.world.fundamental import YEAR

HOUR = 3600.0


def stir(book: Book) -> float:
    """How far the price has moved of late, in per cent: within the hour, or within the day if that is more for its length."""
    return 100.0 * max(abs(book.return_over(HOUR)), abs(book.return_over(DAY)) * math.sqrt(HOUR / DAY))


class Attention(Frozen):
    """How the rate of trading answers moves of the price and the time of day."""

    horizons: tuple[Seconds, ...] = Field(
        (300.0, 1800.0, 10_800.0, 86_400.0), description="over which traders look back", examples=[["5min", "1h"]]
    )
    weights: tuple[float, ...] = Field(
        (0.0, 0.0, 0.0, 0.0),
        description="share of the trading that answers each; the rest does not depend on the price",
    )
    calm_volatility: float = Field(0.42, gt=0, le=5, description="a year; moves of this size leave the rate as it is")
    most: float = Field(30.0, ge=1, description="greatest factor on the rate for moves", examples=[30])
    curve: Literal["flat", "crypto"] = Field(
        "flat", description="how trading is usually spread over the day (UTC)", examples=["crypto"]
    )

    @model_validator(mode="after")
    def _shares(self) -> "Attention":
        if len(self.weights) != len(self.horizons) or min(self.weights, default=0.0) < 0 or sum(self.weights) > 1:
            raise ValueError("weights: one for each of horizons, not negative, and not more than 1 together")
        return self

    def factor(self, book: Book, elapsed: float, began: float) -> float:
        """Factor on the rate of trading now: h (1 - sum w + sum w (r / sigma)^2), at most h times `most`.

        r is the return over each horizon, sigma its calm deviation, h the volume of the hour over that of a mean hour. What came before
        the start of the run is taken to have been calm: a horizon that reaches further back than that counts 1.

        Args:
            book: Whose price is looked at.
            elapsed: Seconds since the start of the run.
            began: Second of the UTC day at which it started.
        """
        total = self._steady
        for horizon, weight in self._answered:
            if horizon > elapsed:
                total += weight
                continue
            move = math.log(book.mid / book.mid_before(horizon))
            total += weight * move * move * YEAR / (self.calm_volatility**2 * horizon)
        usual = self._usual
        return min(total, self.most) * usual[int((began + elapsed) % DAY / DAY * len(usual))]

    @cached_property
    def _steady(self) -> float:
        return 1.0 - sum(self.weights)

    @cached_property
    def _answered(self) -> list[tuple[float, float]]:
        return [pair for pair in zip(self.horizons, self.weights, strict=True) if pair[1] > 0.0]

    @cached_property
    def _usual(self) -> list[float]:
        """Volume of each part of the day over the mean one."""
        volumes = CURVES[self.curve][2]
        return [volume * len(volumes) / sum(volumes) for volume in volumes]
