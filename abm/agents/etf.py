"""Allocators who hold coins through exchange-traded funds: their flows reach the market through the funds' desks.

Flows are put in, with their source. Cash redemptions and creations trade in the hour in which the net asset value is fixed, 15:00-16:00 in
New York, and the rest through the session (MECHANICS 2).
"""

from datetime import date, time

import numpy as np
from pydantic import Field, model_validator

from abm.agents.base import Numbers, Population, TraderConfig, trader
from abm.agents.view import View
from abm.clock import Seconds
from abm.exchange.calendar import Hours
from abm.exchange.description import Frozen
from abm.exchange.messages import Reason, Records, Side


class Flow(Frozen):
    """The net flow of one session."""

    day: date = Field(description="New York date of the session", examples=["2026-02-05"])
    usd: float = Field(description="net flow of all funds in currency; negative: redemptions", examples=[-4.5e8])
    source: str = Field(
        min_length=1, description="where the figure comes from", examples=["observations.csv etf.flow.mtd"]
    )


class EtfConfig(TraderConfig):
    """Allocators in funds; one account is a group of funds."""

    accounts: int = Field(5, ge=0, le=1000, description="groups of funds", examples=[5])
    shares: tuple[float, ...] = Field(
        (0.55, 0.2, 0.12, 0.08, 0.05), description="share of each group in coins and flows"
    )
    coins: float = Field(1.285e6, ge=0, description="coins held by all funds together", examples=[1.285e6])
    cash: float = Field(2e9, ge=0, description="currency that can come in, all funds together", examples=[2e9])
    flows: tuple[Flow, ...] = Field((), description="net flows by session, with their source")
    hours: Hours = Field(Hours(), description="the session")
    fixing: Hours = Field(Hours(opens=time(15), closes=time(16)), description="the hour of the fixing")
    fixing_share: float = Field(0.6, ge=0, le=1, description="part of a flow that trades in that hour", examples=[0.6])
    slice: Seconds = Field(15.0, gt=0, description="time between two child orders", examples=["15s"])
    slippage: float = Field(
        0.005, gt=0, lt=0.5, description="no trade further than this fraction from the mid", examples=[0.005]
    )

    @model_validator(mode="after")
    def _each_has_a_share(self) -> "EtfConfig":
        if len(self.shares) != self.accounts:
            raise ValueError(
                f"shares has {len(self.shares)} entries for {self.accounts} accounts; give one for each group"
            )
        if self.accounts and (min(self.shares) < 0 or sum(self.shares) <= 0):
            raise ValueError("shares must not be negative, nor all 0")
        return self


@trader("etf")
class EtfAllocators(Population):
    """Funds that buy and sell what their allocators put in and take out."""

    config: EtfConfig

    def setup(self) -> None:
        """Plan each session: how much is to be done by when."""
        c, clock = self.config, self.model.scenario.clock
        self._split = np.asarray(c.shares, np.float64) / (sum(c.shares) or 1.0)
        self._jitter = self.random("slice")
        self._plan: list[tuple[float, float, float]] = []  # start s, end s, currency
        for flow in c.flows:
            opens, closes = map(clock.seconds_at, c.hours.on(flow.day))
            fix_opens, fix_closes = map(clock.seconds_at, c.fixing.on(flow.day))
            before = flow.usd * (1.0 - c.fixing_share)
            self._plan += [(opens, fix_opens, before), (fix_opens, fix_closes, flow.usd - before)]
            if closes > 0:  # two slices more catch up with what the last ones left
                self.wake_every(max(c.slice, clock.step), start=max(0.0, opens), end=closes + 2 * c.slice)
        self._planned_before = self._planned(0.0)
        self._cash_start: np.ndarray[tuple[int], np.dtype[np.float64]] | None = None

    def endow(self) -> tuple[Numbers, Numbers]:
        """Coins and cash by share."""
        return self.config.cash * self._split, self.config.coins * self._split

    def _planned(self, now: float) -> float:
        """Currency that should have come in (or, negative, gone out) by `now`, in seconds since the start."""
        return sum(usd * min(max((now - start) / (end - start), 0.0), 1.0) for start, end, usd in self._plan)

    def decide(self, view: View) -> Records | None:
        """Child orders for half to all of what is behind the plan."""
        c, book = self.config, view[self.config.instrument]
        if self._cash_start is None:
            self._cash_start = self.cash
        # What was bought and sold so far is what cash says, fees included: those are the allocators' too.
        done = self._cash_start - self.cash
        target = self._planned(view.seconds + c.slice)
        behind = (target - self._planned_before) * self._split - done
        # A fund that is ahead of its plan waits: it never trades against the flow.
        behind[behind * (target - self._planned(view.seconds - 3.0 * c.slice)) <= 0.0] = 0.0
        size = np.abs(behind) * (0.5 + 0.5 * self._jitter.random(self.size))
        side = np.where(behind > 0, Side.BUY, Side.SELL)
        reason = np.where(behind > 0, Reason.CREATION, Reason.REDEMPTION)
        return self.market(book, side, size / book.mid, reason=reason, slippage=c.slippage)
