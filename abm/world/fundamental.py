"""The fundamental value of an instrument: what the news of the moment says it is worth, whatever it trades at.

A random walk in the logarithm with jumps, drawn for the whole run at once, and the common news that it takes on (`abm.world.news`). Traders
who follow the news read it; nobody else knows it.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from scipy.signal import lfilter

from abm.clock import Clock, Seconds
from abm.exchange.description import Frozen
from abm.random import Fork, spliced

Floats = npt.NDArray[np.float64]

YEAR = 365 * 86400.0
"""Seconds of a year of a market that never closes."""
DAY = 86400.0


class Pace(Frozen):
    """How much news there is comes and goes, and with it how much is traded.

    The logarithm of the rate is a stationary Ornstein-Uhlenbeck process; the rate is 1 on average. That what is heard comes at a rate with a
    memory, and moves volume and volatility together, is the mixture of distributions (Clark 1973, Econometrica 41:135; Andersen 1996,
    J. Finance 51:169).
    """

    deviation: float = Field(ge=0, le=2, description="standard deviation of the logarithm of the rate", examples=[0.5])
    half_life: Seconds = Field(gt=0, description="of its memory", examples=["8h"])

    def path(self, clock: Clock, seed: int, instrument: str, fork: Fork | None = None) -> Floats:
        """The rate at each step; where the run branches off, it goes on from there with other shocks."""
        keeps = 0.5 ** (clock.step / self.half_life)
        name = f"fundamental/{instrument}"
        shocks = spliced(lambda of: of("pace").standard_normal(clock.steps), seed, name, fork)
        shocks[1:] *= math.sqrt(1.0 - keeps**2)
        logarithm = self.deviation * lfilter([1.0], [1.0, -keeps], shocks)
        return np.asarray(np.exp(logarithm - self.deviation**2 / 2.0))


class Jumps(Frozen):
    """News that comes at once: at random times, up or down alike, of sizes with a power-law tail."""

    per_day: float = Field(ge=0, le=1000, description="how many there are on average", examples=[1.4])
    least: float = Field(gt=0, le=0.5, description="smallest, a logarithmic change of the value", examples=[0.0044])
    tail: float = Field(gt=2, le=20, description="tail exponent of their sizes", examples=[3.3])

    def draw(
        self, clock: Clock, seed: int, instrument: str, pace: Floats | float = 1.0, fork: Fork | None = None
    ) -> Floats:
        """By how much they change the logarithm of the value in each step: a compound Poisson process (Merton 1976, J. Financial Economics 3:125).

        Args:
            clock: Of the run.
            seed: Of the run.
            instrument: Name; keys the random streams.
            pace: Rate of news at each step, 1 on average.
            fork: Where the run branches off, if it does.
        """

        def moves(of: Callable[[str], np.random.Generator]) -> Floats:
            number = of("jumps").poisson(self.per_day * clock.step / DAY * pace, clock.steps)
            up, size = of("jump up").random, of("jump size").random
            moves = np.zeros(clock.steps)
            for step in np.flatnonzero(number):
                n = number[step]
                sizes = self.least * (1.0 - size(n)) ** (-1.0 / self.tail)
                moves[step] = np.where(up(n) < 0.5, sizes, -sizes).sum()
            return moves

        return spliced(moves, seed, f"fundamental/{instrument}", fork)


class Fundamental(Frozen):
    """How much news there is."""

    volatility: float = Field(
        0.42, ge=0, le=5, description="of the fundamental value by news of its own, a year", examples=[0.42]
    )
    pace: Pace | None = Field(
        None, description="how the rate of jumps and of trading comes and goes; steady where it is left out"
    )
    jumps: Jumps | None = Field(None, description="news that comes at once; none where it is left out")
    loadings: dict[str, float] = Field(
        default={},
        description="how much of the logarithmic moves of news.factors the value takes on",
        examples=[{"equities": 1.2}],
    )
    of: str = Field("", description="another instrument whose value this one shares, such as the spot of a perpetual")
    ratio: float = Field(1.0, gt=0, description="how much of that it stands for", examples=[0.000568])

    @model_validator(mode="after")
    def _claim_or_value(self) -> "Fundamental":
        if self.of and (self.loadings or self.pace or self.jumps):
            raise ValueError("loadings, pace and jumps are those of what it is a claim on (of); leave them out")
        if not self.of and self.ratio != 1.0:
            raise ValueError("ratio says how much of another instrument it stands for; name that by of")
        return self


def fundamental_path(
    config: Fundamental,
    start: float,
    clock: Clock,
    seed: int,
    instrument: str,
    common: Floats | float = 0.0,
    pace: Floats | float = 1.0,
    fork: Fork | None = None,
) -> Floats:
    """The fundamental value before each step and after the last.

    Args:
        config: How much news there is.
        start: Value at the start, in currency.
        clock: Of the run.
        seed: Of the run.
        instrument: Name; keys the random stream.
        common: What common news has added to the logarithm by each step.
        pace: Rate of news at each step.
        fork: Where the run branches off, if it does.
    """
    sigma, name = config.volatility * math.sqrt(clock.step / YEAR), f"fundamental/{instrument}"
    moves = spliced(lambda of: of("news").standard_normal(clock.steps), seed, name, fork)
    moves *= sigma
    moves -= sigma**2 / 2.0
    if config.jumps is not None:
        moves += config.jumps.draw(clock, seed, instrument, pace, fork)
    return np.asarray(start * np.exp(np.concatenate(([0.0], np.cumsum(moves))) + common))
