"""Allocators: large portfolios that leave risky assets for cash and the dollar as stress rises, and come back as it goes.

Who must have liquid means when investors ask for them holds the less of what is hard to sell the more uncertain the times are (Vayanos 2004, NBER
working paper 10327; Caballero and Krishnamurthy 2008, Journal of Finance 63:2195). Stress s lies between 0 and 1: how far the volatility of the
portfolio has risen above the usual, or how much fear there is in the community, whichever is more:

    s = min(1, max(0, sigma / sigma_usual - 1) / (full - 1), -mood).

Of each risky holding the part `leaves` s is sold, and `shelter` of what it brought goes into the safe instruments; the rest is kept in cash.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from abm.agents.base import Floats, trader
from abm.agents.portfolio import Portfolio, PortfolioConfig
from abm.exchange.description import Positive


class AllocatorsConfig(PortfolioConfig):
    """Allocators."""

    accounts: int = Field(10, ge=0, le=1_000_000, description="portfolios", examples=[10])
    risky: dict[str, Positive] = Field(
        default={}, description="risky instruments and their parts of the equity in the calm", examples=[{"ndx": 0.5}]
    )
    safe: dict[str, Positive] = Field(
        default={}, description="safe instruments, and how what seeks shelter is shared out", examples=[{"dxy": 1.0}]
    )
    leaves: float = Field(0.3, ge=0, le=1, description="part of risky holdings that is sold in full stress")
    shelter: float = Field(0.5, ge=0, le=1, description="part of that which goes into the safe instruments")
    full: float = Field(3.0, gt=1, description="volatility, in usual ones, that is full stress", examples=[3])

    @model_validator(mode="before")
    @classmethod
    def _first_of_the_risky(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("risky") and "instrument" not in value:
            return {**value, "instrument": next(iter(value["risky"]))}
        return value

    @model_validator(mode="after")
    def _makes_sense(self) -> "AllocatorsConfig":
        if sum(self.risky.values()) > 1:
            raise ValueError("risky: the parts add up to more than 1; nothing is borrowed")
        for name in self.risky:
            if name in self.safe:
                raise ValueError(f"{name} is both risky and safe; name it once")
        return self

    @property
    def traded(self) -> tuple[str, ...]:
        """Names of the instruments it holds: all that are named, or else `instrument` as the one risky asset."""
        return (*self.parts, *self.safe)

    @property
    def parts(self) -> dict[str, float]:
        """Part of the equity in each risky instrument in the calm."""
        return dict(self.risky) or {self.instrument: 0.5}


@trader("allocators")
class Allocators(Portfolio):
    """Portfolios that seek shelter."""

    channel = "flight"
    config: AllocatorsConfig

    def setup(self) -> None:
        """Know what is usual."""
        c = self.config
        self._risky = np.array([c.parts.get(name, 0.0) for name in c.traded])
        safe = np.array([c.safe.get(name, 0.0) for name in c.traded])
        self._safe = safe / max(safe.sum(), 1e-12)
        self._usual = 0.0
        super().setup()
        self._usual = self._volatility()

    def _volatility(self) -> float:
        return math.sqrt(self._risky @ self.covariance @ self._risky)

    @property
    def stress(self) -> float:
        """s, from 0 to 1."""
        rough = self._volatility() / self._usual - 1.0 if self._usual else 0.0
        return min(1.0, max(0.0, rough / (self.config.full - 1.0), -self.mood))

    def exposures(self, equity: Floats) -> Floats:
        """Risky parts less what leaves, and the shelter."""
        left = self.config.leaves * self.stress
        sheltered = self.config.shelter * left * self._risky.sum()
        return np.asarray(equity[:, None] * (self._risky * (1.0 - left) + self._safe * sheltered))
