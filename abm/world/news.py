"""Macro news: common factors that move the value of several assets at once, and a calendar of events that everybody can read about.

The value of an asset follows its own news and, by its loadings b_k, that of the factors: d ln V = own + sum_k b_k d f_k. A factor is a random
walk plus the events that move it; an event can also move single assets. What each asset does with it until its price is there, traders decide.
Loadings are betas, to be measured before what a run is compared with.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from abm.clock import Clock, Seconds, Utc
from abm.exchange.description import Frozen
from abm.random import Fork, spliced
from abm.world.fundamental import YEAR, Fundamental

Floats = npt.NDArray[np.float64]
Volatility = Annotated[float, Field(ge=0, le=5)]
Move = Annotated[float, Field(ge=-3, le=3)]


class Event(Frozen):
    """Something that happened, and what it did to values."""

    at: Utc = Field(description="when it became known, UTC", examples=["2026-02-05T13:30Z"])
    kind: Literal["monetary_policy", "labour", "technology", "policy", "margin", "other"] = Field(
        description="what sort of news it is", examples=["labour"]
    )
    what: str = Field(description="one line for readers", examples=["January layoffs"])
    moves: dict[str, Move] = Field(
        min_length=1,
        description="logarithmic change of factors' or single instruments' values, by name",
        examples=[{"equities": -0.004}],
    )
    over: Seconds = Field(0.0, ge=0, description="time it takes, at a constant pace", examples=["10min"])
    source: str = Field("", description="where it is from", examples=["Mechanics 12"])


class News(Frozen):
    """What moves several assets at once."""

    factors: dict[str, Volatility] = Field(
        default={},
        description="common factors, and their volatility a year; they are independent of each other",
        examples=[{"equities": 0.15}],
    )
    calendar: tuple[Event, ...] = Field((), description="events, in any order")


class NewsPaths:
    """What the common news of one run does to values, as logarithms before each step and after the last.

    Args:
        news: Factors and calendar.
        clock: Of the run.
        seed: Of the run; each factor has a random stream of its own.
        fork: Where the run branches off, if it does. The calendar stays what it is.
    """

    def __init__(self, news: News, clock: Clock, seed: int, fork: Fork | None = None) -> None:
        self._news, self._clock = news, clock
        self._factors = {name: self._walk(name, volatility, seed, fork) for name, volatility in news.factors.items()}

    def of(self, instrument: str, loadings: Mapping[str, float]) -> Floats:
        """What the value of an instrument takes on, steps + 1 numbers.

        Args:
            instrument: Its name, for events that move it alone.
            loadings: b_k, by factor.
        """
        path = self._ramps(instrument)
        for name, loading in loadings.items():
            path += loading * self._factors[name]
        return path

    def _walk(self, name: str, volatility: float, seed: int, fork: Fork | None) -> Floats:
        sigma, steps = volatility * math.sqrt(self._clock.step / YEAR), self._clock.steps
        chance = spliced(lambda of: of("walk").standard_normal(steps), seed, f"news/{name}", fork)
        walk = np.cumsum(sigma * chance - sigma**2 / 2.0)
        return np.asarray(np.concatenate(([0.0], walk)) + self._ramps(name))

    def _ramps(self, name: str) -> Floats:
        """What the calendar's events have moved a factor or instrument by at each step; what was over before the start is in the prices."""
        c = self._clock
        path: Floats = np.zeros(c.steps + 1)
        for event in self._news.calendar:
            if name in event.moves:
                at, over = c.seconds_at(event.at), event.over
                passed = np.arange(c.steps + 1) * c.step - at
                done = np.clip(passed / over, 0.0, 1.0) if over else np.where(passed >= 0.0, 1.0, 0.0)
                before = min(max(-at / over, 0.0), 1.0) if over else float(at < 0)
                path += event.moves[name] * (done - before)
        return path


def unknown_names(news: News, values: Mapping[str, Fundamental], instruments: Iterable[str]) -> str:
    """What is wrong with the names used, in one line; empty if nothing is.

    Args:
        news: Factors and calendar.
        values: Of instruments, whose loadings are on factors.
        instruments: Names that events may move besides the factors, but for claims on others.
    """
    traded = set(instruments)
    for name in news.factors:
        if name in traded:
            return f"news.factors: {name!r} is also an instrument; choose another name"
    for instrument, value in values.items():
        for name in value.loadings:
            if name not in news.factors:
                return f"fundamentals.{instrument}.loadings: {name!r} is not one of news.factors"
    for k, event in enumerate(news.calendar):
        for name in event.moves:
            if name not in news.factors and name not in traded:
                return f"news.calendar.{k}.moves: {name!r} is neither one of news.factors nor an instrument"
            if name in values and values[name].of:
                return f"news.calendar.{k}.moves: {name!r} is a claim on {values[name].of!r}; move that"
    return ""
