"""The fundamental value of an instrument: what the news of the moment says it is worth, whatever it trades at.

A random walk in the logarithm, drawn for the whole run at once, and the common news that it takes on (`abm.world.news`). Traders who follow
the news read it; nobody else knows it.
"""

import math

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from abm.clock import Clock
from abm.exchange.description import Frozen
from abm.random import stream

YEAR = 365 * 86400.0
"""Seconds of a year of a market that never closes."""


class Fundamental(Frozen):
    """How much news there is."""

    volatility: float = Field(
        0.42, ge=0, le=5, description="of the fundamental value by news of its own, a year", examples=[0.42]
    )
    loadings: dict[str, float] = Field(
        default={},
        description="how much of the logarithmic moves of news.factors the value takes on",
        examples=[{"equities": 1.2}],
    )
    of: str = Field("", description="another instrument whose value this one shares, such as the spot of a perpetual")
    ratio: float = Field(1.0, gt=0, description="how much of that it stands for", examples=[0.000568])

    @model_validator(mode="after")
    def _claim_or_value(self) -> "Fundamental":
        if self.of and self.loadings:
            raise ValueError("loadings are those of what it is a claim on (of); leave them out")
        if not self.of and self.ratio != 1.0:
            raise ValueError("ratio says how much of another instrument it stands for; name that by of")
        return self


def fundamental_path(
    config: Fundamental,
    start: float,
    clock: Clock,
    seed: int,
    instrument: str,
    common: npt.NDArray[np.float64] | float = 0.0,
) -> npt.NDArray[np.float64]:
    """The fundamental value before each step and after the last.

    Args:
        config: How much news there is.
        start: Value at the start, in currency.
        clock: Of the run.
        seed: Of the run.
        instrument: Name; keys the random stream.
        common: What common news has added to the logarithm by each step.
    """
    sigma = config.volatility * math.sqrt(clock.step / YEAR)
    moves = stream(seed, f"fundamental/{instrument}", "news").standard_normal(clock.steps)
    moves *= sigma
    moves -= sigma**2 / 2.0
    return np.asarray(start * np.exp(np.concatenate(([0.0], np.cumsum(moves))) + common))
