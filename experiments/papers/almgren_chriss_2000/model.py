"""A seller's schedule, worked by the execution style in a market whose price gives way in proportion to what is sold."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from math import acosh, sinh, sqrt
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

import abm
from abm.agents.base import Numbers, Population, TraderConfig
from abm.agents.execution import AlmgrenChriss
from abm.agents.view import View
from abm.clock import Clock
from abm.exchange import Instrument, Latency, Reason, Side
from abm.exchange.messages import Records, join
from abm.scenario import Recording, Scenario
from experiments.papers import Estimate, Measured, Parameters, Progress

Floats = npt.NDArray[np.float64]

SHARE = "share"
DAY = 86_400.0
START = datetime(2000, 1, 3, tzinfo=UTC)

BATCH = 500
"""Sales that follow one another in one market."""

WEALTH = 1e12
"""Cash of who must never run short, in currency."""

REACH = 1.2
"""How much more than the largest slice the buyers bid for, as a factor."""

MEAN, DEVIATION, LEFT = "mean cost", "sd of cost", "shares not sold in the end"


class Config(Parameters):
    """Parameters of the paper's section 3.4; the unit of time is a day."""

    QUICK_RUNS: ClassVar[int] = 500

    runs: int = Field(10_000, ge=2, le=1_000_000, description="sales")
    shares: int = Field(1_000_000, ge=1, le=10**9, description="to sell: X")
    price: float = Field(50.0, gt=0, description="at the start, currency a share: S0")
    horizon: float = Field(5.0, gt=0, description="days: T")
    slices: int = Field(5, ge=1, le=1000, description="sales in that time, at equal intervals: N")
    volatility: float = Field(0.95, gt=0, description="currency a share, per square root of a day: sigma")
    half_spread: float = Field(0.0625, ge=0, description="fixed cost of a sale, currency a share: epsilon")
    permanent: float = Field(2.5e-7, ge=0, description="lasting fall, currency a share, for each share sold: gamma")
    temporary: float = Field(2.5e-6, gt=0, description="passing fall, currency a share, for each share a day: eta")
    risk_aversion: float = Field(1e-6, gt=0, description="weight of the cost's variance, per currency: lambda")
    tick: float = Field(0.001, gt=0, le=0.1, description="smallest price step, currency")
    step: float = Field(0.01, gt=0, le=0.1, description="between two of the buyers' prices, currency")

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        if self.tau > 1:
            raise ValueError("horizon / slices must be at most a day, which is the longest step of a market")
        if self.net_impact <= 0:
            raise ValueError("temporary must exceed permanent x horizon / slices / 2")
        fall = 8 * self.volatility * sqrt(self.horizon) + self.shares * (
            self.permanent + REACH * 2 * self.temporary / self.tau
        )
        if fall > self.price:
            raise ValueError("price must be higher, or a sale may bring it to zero; or sell fewer shares")
        return self

    @property
    def tau(self) -> float:
        """Days of a slice."""
        return self.horizon / self.slices

    @property
    def net_impact(self) -> float:
        """Temporary impact less half a slice's permanent one: eta - gamma tau / 2."""
        return self.temporary - self.permanent * self.tau / 2

    @cached_property
    def style(self) -> AlmgrenChriss:
        """The style of execution that is tried."""
        return AlmgrenChriss(
            duration=self.horizon * DAY,
            slices=self.slices,
            slippage=None,
            risk_aversion=self.risk_aversion,
            volatility=self.volatility,
            temporary=self.temporary,
            permanent=self.permanent,
        )


# --------------------------------------------------------------------------------------------------------- exact values


def trajectory(config: Config, risk_aversion: float | None = None) -> tuple[float, Floats]:
    """Urgency kappa a day, and the shares held before each slice and after the last."""
    aversion = config.risk_aversion if risk_aversion is None else risk_aversion
    kappa = acosh(0.5 * aversion * config.volatility**2 / config.net_impact * config.tau**2 + 1) / config.tau
    left = config.horizon * (1 - np.arange(config.slices + 1) / config.slices)
    return kappa, config.shares * np.sinh(kappa * left) / sinh(kappa * config.horizon)


def cost(config: Config, held: Floats) -> tuple[float, float]:
    """Mean and standard deviation of what a trajectory loses against the first price."""
    sold = -np.diff(held)
    mean = (
        0.5 * config.permanent * config.shares**2
        + config.half_spread * float(np.abs(sold).sum())
        + config.net_impact / config.tau * float((sold**2).sum())
    )
    return mean, config.volatility * sqrt(config.tau * float((held[1:] ** 2).sum()))


def exact(config: Config) -> Mapping[str, float]:
    """What the closed forms say for these parameters."""
    kappa, held = trajectory(config)
    mean, deviation = cost(config, held)
    shares = {_held(n): float(held[n]) for n in range(1, config.slices)}
    return {"kappa": kappa} | shares | {MEAN: mean, DEVIATION: deviation, LEFT: 0.0}


def _held(n: int) -> str:
    return f"shares held after slice {n}"


# ---------------------------------------------------------------------------------------------------------- the market


class BuyersConfig(TraderConfig):
    """Buyers of the paper's market."""

    instrument: str = SHARE
    latency: Latency = Latency()
    model: Config = Field(description="parameters of the paper")


class Buyers(Population):
    """Who makes the paper's price: a random walk that falls for good by what is bought, and bids below it.

    They bid for tau / (2 eta) shares in each unit of currency, from epsilon below the price down. So a sale of n shares, which takes the best
    of the bids, brings epsilon + eta n / tau a share less than the price.
    """

    config: BuyersConfig

    def setup(self) -> None:
        """Lay out the bids once; they move with the price."""
        c = self.config.model
        depth = c.tau / (2 * c.temporary) * c.step
        levels = int(REACH * -np.diff(trajectory(c)[1])[0] / depth) + 2  # the first slice is the largest
        self._lots = np.diff(np.rint(depth * np.arange(levels + 1)))
        self._below = c.half_spread + (np.arange(levels) + 0.5) * c.step
        self._price, self._held = c.price, 0.0
        walk = self.random("price")
        self._moves = self.block(lambda k: walk.standard_normal(k))
        self.bought: list[float] = []
        """Shares bought in each step so far."""
        self.every_step = True

    def endow(self) -> tuple[Numbers, Numbers]:
        """All the cash they need."""
        return WEALTH, 0.0

    def decide(self, view: View) -> Records | None:
        """Bids around the new price; each sale begins at the first price."""
        c = self.config.model
        self.settle()
        if view.step % c.slices == 0:
            self._price = c.price
        else:
            self._price += c.volatility * sqrt(c.tau) * float(self._moves.take(1)[0]) - c.permanent * self.bought[-1]
        ticks = np.rint((self._price - self._below) / c.tick)  # the nearest, so that rounding favours nobody
        book, who = view[SHARE], np.zeros(len(ticks), np.int64)
        bids = self.limit_buy(book, ticks * c.tick, self._lots, who=who, reason=Reason.MARKET_MAKING)
        return join([self.cancel_all(book), bids])

    def settle(self) -> None:
        """Note what the last step has brought."""
        held = float(self.holdings()[0])
        if self.model.steps_done:
            self.bought.append(held - self._held)
        self._held = held


class Sellers(Population):
    """Accounts that sell one after the other, each by the style of execution."""

    config: BuyersConfig

    def setup(self) -> None:
        """The next one begins when the last one's time is over."""
        self.wake_every(self.config.model.horizon * DAY)

    def endow(self) -> tuple[Numbers, Numbers]:
        """What they sell."""
        return 0.0, self.config.model.shares

    def decide(self, view: View) -> Records | None:
        """Hand the next order to the desk, which sends its children."""
        c = self.config.model
        self.work(view[SHARE], Side.SELL, c.shares, c.style, who=np.array([view.step // c.slices]))
        return None


# ------------------------------------------------------------------------------------------------------------- the runs


class Sales(NamedTuple):
    """What sales came to."""

    cost: Floats
    """Currency that each lost against the first price."""
    held: Floats
    """Shares held after each slice; sales x slices."""


def measure(config: Config, progress: Progress) -> Measured:
    """All sales; they are what is drawn."""
    found = sold(config, lambda done: progress(done, config.runs))
    variance = float(found.cost.var(ddof=1))
    fourth = float(((found.cost - found.cost.mean()) ** 4).mean())
    held = {_held(n): Estimate.mean(found.held[:, n - 1]) for n in range(1, config.slices)}
    estimates = {"kappa": Estimate(config.style.kappa)} | held
    estimates[MEAN] = Estimate.mean(found.cost)
    estimates[DEVIATION] = Estimate(sqrt(variance), sqrt((fourth - variance**2) / (4 * variance * len(found.cost))))
    estimates[LEFT] = Estimate(float(found.held[:, -1].sum()))
    return Measured(estimates, found)


def sold(config: Config, progress: Callable[[int], None] = lambda _: None) -> Sales:
    """As many sales as there are runs, in one market after the other."""
    parts: list[Sales] = []
    for first in range(0, config.runs, BATCH):
        count = min(BATCH, config.runs - first)
        parts.append(sales(config, count, f"market-{first // BATCH}"))
        progress(first + count)
    cost, held = zip(*parts, strict=True)
    return Sales(np.concatenate(cost), np.concatenate(held))


def sales(config: Config, count: int, name: str) -> Sales:
    """Sales that follow one another in one market, each from the first price on.

    Args:
        config: Parameters.
        count: How many.
        name: Of the market; keys its random stream.
    """
    market = abm.Market(_scenario(config, count))
    buyers = Buyers(market, f"buyers of {name}", BuyersConfig(model=config))
    later = Latency(base=1.0)  # the bids of a step are there before its sale
    sellers = Sellers(market, "sellers", BuyersConfig(model=config, accounts=count, latency=later))
    market.run_for(float(count * config.slices))
    buyers.settle()
    held = config.shares - np.cumsum(np.reshape(buyers.bought, (count, config.slices)), axis=1)
    return Sales(config.shares * config.price - sellers.cash, held)


def _scenario(config: Config, count: int) -> Scenario:
    share = Instrument(
        name=SHARE,
        tick=config.tick,
        lot=1,
        max_price=2 * config.price,
        max_order=config.shares,
        reference_price=config.price,
    )
    lasts = timedelta(days=count * config.horizon)
    return Scenario(
        name="almgren-chriss",
        seed=config.seed,
        clock=Clock(start=START, end=START + lasts, step=config.tau * DAY),
        instruments={SHARE: share},
        spare_accounts=count + 1,
        recording=Recording(interval=lasts.total_seconds(), trades=False),
    )
