"""Probabilities from an ensemble: how many continuations of a run see a price reach a level by a day, and how sure that is.

A member of the ensemble is a run that branches off (`branch` in its scenario). What lies beyond the time that was played is resampled from the
hours that were: whole blocks of them, so that calm and stormy hours stay together (the stationary bootstrap, Politis and Romano 1994, J. American
Statistical Association 89:1303). Only what members did not do alike goes on: what prices did on average while they were played, by news and flows
that were given for those hours, says nothing about months.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binomtest

from abm.record import Result
from abm.world.fundamental import YEAR

Floats = npt.NDArray[np.float64]

HOUR = pd.Timedelta(hours=1)
CONFIDENCE = 0.9
"""Of the intervals (Wilson 1927, J. American Statistical Association 22:209)."""


# ------------------------------------------------------------------ what a member has seen


def hours(result: Result) -> dict[str, float]:
    """What is kept of a member: of each instrument the mid at the end of each hour, and the lowest and highest trade of each since it branched off.

    Hours are counted from where it branches off: `<instrument> 0 low` is the first one; those before, counted below 0, have a `close` alone.
    """
    at = pd.Timestamp(result.scenario["branch"]["at"])
    kept: dict[str, float] = {}
    for name, bars in result.bars.groupby("instrument", sort=False):
        hour = (bars["time"] - at) // HOUR
        by_hour = bars.groupby(hour).agg({"mid": "last", "low": "min", "high": "max"})
        kept[f"{name} start"] = float(result.summary["instruments"][name]["open"])
        for k, mid, low, high in by_hour.itertuples():
            kept[f"{name} {k} close"] = float(mid)
            if k >= 0:  # the mid stands in where an hour has no trade
                kept[f"{name} {k} low"], kept[f"{name} {k} high"] = (float(mid if x != x else x) for x in (low, high))
    return kept


@dataclass(frozen=True)
class Paths:
    """Prices of the members of an ensemble, by the hour since they branched off."""

    at: datetime
    past: Floats
    """Mids at the ends of the hours before, the price at which they branch off last: the same for all."""
    low: Floats
    """Lowest price of each hour, members x hours."""
    high: Floats
    close: Floats
    """Mid at the end of each hour."""
    played: int
    """Hours that were played; the others were resampled."""

    @property
    def start(self) -> float:
        """The price at which they branch off."""
        return float(self.past[-1])

    def returns(self) -> Floats:
        """Logarithmic returns of the hours, members x hours."""
        return np.diff(np.log(self.close), axis=1, prepend=math.log(self.start))


def paths(members: Sequence[Mapping[str, float]], instrument: str, at: datetime) -> Paths:
    """What `hours` has kept of one instrument in each member.

    Args:
        members: Of one scenario, but for the seed of the branch.
        instrument: Its name.
        at: Where they branch off.
    """
    first = members[0]
    mine = [name.split() for name in first if name.startswith(f"{instrument} ")]
    n = sum(what[-1] == "low" for what in mine)
    before = sorted(int(what[1]) for what in mine if what[1].startswith("-"))
    past = [first[f"{instrument} start"], *(first[f"{instrument} {k} close"] for k in before)]
    low, high, close = (
        np.array([[member[f"{instrument} {k} {what}"] for k in range(n)] for member in members])
        for what in ("low", "high", "close")
    )
    return Paths(at, np.array(past), low, high, close, n)


# ------------------------------------------------------------------ further than was played


def blocks(
    length: int, members: int, hours: int, mean: float, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Which member's which hour stands for each hour of a resampled path.

    A block goes on with probability 1 - 1 / mean; after the last hour comes the first one of another member, so that no day comes twice in a row.

    Args:
        length: Hours of the path.
        members: Members to take hours from.
        hours: Hours of each.
        mean: Mean length of a block.
        rng: Draws the blocks.
    """
    begins = rng.random(length) < 1.0 / mean
    begins[:1] = True
    first = np.flatnonzero(begins)[np.cumsum(begins) - 1]
    where = (rng.integers(0, hours, length)[first] + np.arange(length) - first) % hours
    piece = np.cumsum(begins | (where == 0)) - 1
    return rng.integers(0, members, length)[piece], where


def resampled(found: Paths, more: int, mean: float, rngs: Sequence[np.random.Generator]) -> Paths:
    """Paths that go on for some hours with blocks of the hours that all members have played, as far as they differed in them.

    What the members did alike in an hour was in what all were given for it, and comes once: it is taken out, and the mean price relative made 1.

    Args:
        found: What was played, by two members at least.
        more: Hours to go on.
        mean: Mean length of a block, in hours.
        rngs: Of each member.
    """
    returns, before = found.returns(), np.log(found.close) - found.returns()
    members = len(returns)
    unbiased = math.sqrt(members / (members - 1))  # they are less rough about their own mean than about the true one
    moves = (returns - returns.mean(axis=0)) * unbiased
    moves -= math.log(np.exp(moves).mean())
    # How far the price went beyond where an hour began and ended
    under = np.minimum(np.log(found.low) - before - np.minimum(returns, 0.0), 0.0)
    over = np.maximum(np.log(found.high) - before - np.maximum(returns, 0.0), 0.0)
    rows = []
    for last, rng in zip(np.log(found.close[:, -1]), rngs, strict=True):
        taken = blocks(more, *returns.shape, mean, rng)
        close = last + np.cumsum(moves[taken])
        ends = np.array([close - moves[taken], close])
        rows.append((ends.min(axis=0) + under[taken], ends.max(axis=0) + over[taken], close))
    further = [np.exp(np.array(column)) for column in zip(*rows, strict=True)]
    played = (found.low, found.high, found.close)
    low, high, close = (np.concatenate(pair, axis=1) for pair in zip(played, further, strict=True))
    return Paths(found.at, found.past, low, high, close, found.played)


def volatility(returns: Floats) -> float:
    """A year's, of hourly logarithmic returns."""
    return float(returns.std() * math.sqrt(YEAR / HOUR.total_seconds()))


# ------------------------------------------------------------------ probabilities


@dataclass(frozen=True)
class Level:
    """A price that is reached from above (`below`) or from below (`above`)."""

    side: Literal["below", "above"]
    price: float

    def __str__(self) -> str:
        """Such as `below 65,000`."""
        return f"{self.side} {self.price:,.6g}" if self.price < 1000 else f"{self.side} {self.price:,.0f}"

    def reached(self, found: Paths) -> npt.NDArray[np.bool_]:
        """Whether each member has reached it by the end of each hour."""
        hits = found.low <= self.price if self.side == "below" else found.high >= self.price
        return np.logical_or.accumulate(hits, axis=1)


def probabilities(found: Paths, levels: Sequence[Level], until: datetime) -> pd.DataFrame:
    """How many members have reached each level by the end of each day, of what was played, and of all.

    Args:
        found: Prices by hour.
        levels: What may be reached.
        until: The end of the last hour, which may be a shorter one.

    Returns:
        One row for each time (UTC) and level: time, part, event, hits, members, probability, and its interval low, high.
    """
    ends = [min(pd.Timestamp(found.at) + (k + 1) * HOUR, pd.Timestamp(until)) for k in range(found.close.shape[1])]
    days = [(end - pd.Timedelta(1, "us")).floor("D") for end in ends]
    last = [k for k, day in enumerate(days) if k in (found.played - 1, len(days) - 1) or day < days[k + 1]]
    rows = []
    for level in levels:
        reached = level.reached(found)
        for k in last:
            hits, members = int(reached[:, k].sum()), len(reached)
            low, high = binomtest(hits, members).proportion_ci(CONFIDENCE, "wilson")
            part = "played" if k < found.played else "resampled"
            rows.append((ends[k], part, str(level), hits, members, hits / members, float(low), float(high)))
    columns = ["time", "part", "event", "hits", "members", "probability", "low", "high"]
    return pd.DataFrame(rows, columns=columns)
