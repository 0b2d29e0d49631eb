"""Allocators who hold coins through exchange-traded funds: what they put in and take out reaches the market through the funds' desks.

The flow of a session answers the last day's return, the flow of the session before, the unrealised loss against the average cost, and the
news (MECHANICS 2); or it is put in, with its source. Cash redemptions and creations trade in the hour in which the net asset value is
fixed, 15:00-16:00 in New York, and the rest from the opening on. These are primary flows: what is traded in a fund's shares is something
else, and comes to the funds as orders of authorised participants.
"""

from dataclasses import dataclass
from datetime import date
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from abm.agents.base import Numbers, Population, TraderConfig, trader
from abm.agents.view import Book, View
from abm.clock import Seconds
from abm.exchange.calendar import Hours
from abm.exchange.description import Frozen
from abm.exchange.messages import Reason, Records, Side
from abm.world.etf import FIXING

DAY = 86400.0

Floats = npt.NDArray[np.float64]


class Flow(Frozen):
    """The net flow of one session."""

    day: date = Field(description="New York date of the session", examples=["2026-02-05"])
    usd: float = Field(description="net flow of all funds in currency; negative: redemptions", examples=[-4.5e8])
    source: str = Field(
        min_length=1, description="where the figure comes from", examples=["observations.csv etf.flow.mtd"]
    )

    @field_validator("day")
    @classmethod
    def _weekday(cls, value: date) -> date:
        if value.weekday() >= 5:
            raise ValueError(f"{value} is a {value:%A}: there is no session; move it to a weekday")
        return value


class Response(Frozen):
    """How the flow of a session answers the market, as a fraction of what is held. All [A]."""

    trend: float = Field(0.006, ge=0, le=1, description="most that a day's return moves", examples=[0.006])
    scale: float = Field(0.04, gt=0, le=1, description="return that moves .76 of that", examples=[0.04])
    memory: float = Field(0.35, ge=0, lt=1, description="part of the last session's flow that repeats", examples=[0.35])
    noise: float = Field(
        0.0025, ge=0, le=1, description="standard deviation of what has other reasons, all funds together"
    )
    loss: float = Field(
        0.01,
        ge=0,
        le=1,
        description="redeemed in a day for each unit of unrealised loss: .01 makes 25 % under water .25 % a day",
        examples=[0.01],
    )
    news: float = Field(
        0.02, ge=0, le=1, description="put in for each unit that the news of a day adds to the value", examples=[0.02]
    )

    def fraction(self, day_return: float, before: Floats, loss: float, news: float, surprise: Floats) -> Floats:
        """Flow of a session as a fraction of what is held, trend tanh(r/scale) + memory f' - loss l + news n + noise.

        Args:
            day_return: r, return of the price over the last day.
            before: f', flow of the last session as such a fraction, of each group.
            loss: l, price below the average cost, as a fraction of the cost; 0 where it is above.
            news: n, logarithm of what the news made of the value since the last session.
            surprise: Noise of each group, of the standard deviation that it has.
        """
        common = self.trend * np.tanh(day_return / self.scale) - self.loss * loss + self.news * news
        return np.asarray(common + self.memory * before + surprise)


class EtfConfig(TraderConfig):
    """Allocators in funds; one account is a group of funds."""

    accounts: int = Field(5, ge=0, le=1000, description="groups of the 143 funds", examples=[5])
    shares: tuple[float, ...] = Field(
        (0.55, 0.2, 0.12, 0.08, 0.05), description="share of each group in coins and flows"
    )
    coins: float = Field(1.285e6, ge=0, description="coins held by all funds together", examples=[1.285e6])
    cash: float = Field(2e9, ge=0, description="currency that can come in, all funds together", examples=[2e9])
    average_cost: float = Field(84_100.0, gt=0, description="what holders paid for a coin, currency", examples=[84_100])
    flows: tuple[Flow, ...] = Field((), description="net flows by session, with their source")
    response: Response | None = Field(
        Response(), description="flows of the sessions that `flows` does not name; none = there are none"
    )
    flow_before: float = Field(
        0.0, description="currency that came in in the session before the run, all funds", examples=[-4e8]
    )
    hours: Hours = Field(Hours(), description="the session")
    fixing: Hours = Field(FIXING, description="the hour of the fixing")
    fixing_share: float = Field(0.6, ge=0, le=1, description="part of a flow that trades in that hour", examples=[0.6])
    slice: Seconds = Field(15.0, gt=0, description="time between two child orders", examples=["15s"])
    slippage: float = Field(
        0.005, gt=0, lt=0.5, description="no trade further than this fraction from the mid", examples=[0.005]
    )

    @model_validator(mode="after")
    def _each_has_a_share(self) -> "EtfConfig":
        if self.accounts and len(self.shares) != self.accounts:
            raise ValueError(
                f"shares has {len(self.shares)} entries for {self.accounts} accounts; give one for each group"
            )
        if self.accounts and (min(self.shares) < 0 or sum(self.shares) <= 0):
            raise ValueError("shares must not be negative, nor all 0")
        return self

    @model_validator(mode="after")
    def _fixed_within_the_session(self) -> "EtfConfig":
        if self.hours.timezone != self.fixing.timezone or not (
            self.hours.opens < self.fixing.opens and self.fixing.closes <= self.hours.closes
        ):
            raise ValueError("fixing must lie within hours, after their opening, in the same timezone")
        return self


@dataclass
class _Parcel:
    """A flow to be traded evenly between two times."""

    start: float
    end: float
    usd: Floats  # by group; negative: sales
    coins: Floats  # the same where it was ordered in coins
    released: float = 0.0  # part of it that has become due

    def up_to(self, now: float) -> float:
        """Part of it that is due by a time."""
        return min(max((now - self.start) / (self.end - self.start), 0.0), 1.0)


@dataclass(frozen=True)
class _Decision:
    """When a part of a session's flow is decided, and until when it is to be traded."""

    day: date
    at: float
    until: float
    share: float  # of the session's flow that is decided by then


@trader("etf")
class EtfAllocators(Population):
    """Funds that buy and sell what their allocators put in and take out."""

    config: EtfConfig

    def setup(self) -> None:
        """Note when each session's flow is decided, and wake for its child orders."""
        c, clock, zone = self.config, self.model.scenario.clock, ZoneInfo(self.config.hours.timezone)
        self._split = np.asarray(c.shares, np.float64)[: self.size] / (sum(c.shares) or 1.0)
        self._jitter, self._surprises = self.random("slice"), self.random("flow")
        self._decisions: list[_Decision] = []
        for opens, closes in c.hours.between(clock.start, clock.end):
            day = opens.astimezone(zone).date()
            start, fixing, fixed, end = map(clock.seconds_at, (opens, *c.fixing.on(day), closes))
            self._decisions += [
                _Decision(day, start, fixing, 1.0 - c.fixing_share),
                _Decision(day, fixing, fixed, 1.0),
            ]
            # Two slices more catch up with what the last ones left.
            self.wake_every(max(c.slice, clock.step), start=max(0.0, start), end=end + 2 * c.slice)
        self._parcels: list[_Parcel] = []
        self._wanted = np.zeros(self.size)  # coins that should have been bought (or, negative, sold) so far
        self._coins_start: Floats | None = None
        self._value = self.model.fundamental(c.instrument)
        price = self.model.scenario.instruments[c.instrument].reference_price or 0.0
        self._fraction_before = np.full(self.size, c.flow_before / max(c.coins * price, 1.0))
        self.flows: dict[date, Floats] = {}
        """Flow of each session so far, by group, in currency, whether put in or decided."""
        self.in_kind = np.zeros(self.size)
        """Coins that came to each group in kind, less those that left so: nothing its desk has traded."""

    def endow(self) -> tuple[Numbers, Numbers]:
        """Coins and cash by share."""
        return self.config.cash * self._split, self.config.coins * self._split

    def order(self, coins: Floats, start: float, end: float) -> None:
        """Have the desks buy, or where negative sell, coins evenly between two times.

        Args:
            coins: By group.
            start: Seconds since the start of the run.
            end: The same; no later than the session's end.
        """
        self._parcels.append(_Parcel(start, end, np.zeros(self.size), coins))

    def _decide_flow(self, decision: _Decision, book: Book) -> None:
        """Plan the part of a session's flow that is decided now."""
        c = self.config
        worth = self.holdings() * book.mid
        put_in = [flow.usd for flow in c.flows if flow.day == decision.day]
        so_far = self.flows.get(decision.day)
        if so_far is None:
            self._surprise, so_far = self._draw_surprise(), np.zeros(self.size)
        total = sum(put_in) * self._split if put_in else self._answer(book) * worth
        planned = decision.share * total - so_far
        self.flows[decision.day] = so_far + planned
        parcel = _Parcel(decision.at, decision.until, planned, np.zeros(self.size))
        # In a run that begins within the session, what was due before is not made up for.
        parcel.released = parcel.up_to(0.0)
        self._parcels.append(parcel)
        if decision.share == 1.0:
            self._fraction_before = self.flows[decision.day] / np.maximum(worth, 1.0)
            self._value = self.model.fundamental(c.instrument)

    def _draw_surprise(self) -> Floats:
        """What each group does for reasons of its own, as a fraction of what it holds: all together have the noise of the formula."""
        noise = self.config.response.noise if self.config.response else 0.0
        together = float(np.sqrt((self._split**2).sum())) or 1.0
        return noise / together * self._surprises.standard_normal(self.size)

    def _answer(self, book: Book) -> Floats:
        """Flow of a session as a fraction of what each group holds."""
        c = self.config
        if c.response is None:
            return np.zeros(self.size)
        loss = max(0.0, 1.0 - book.mid / c.average_cost)
        news = float(np.log(self.model.fundamental(c.instrument) / self._value))
        return c.response.fraction(book.return_over(DAY), self._fraction_before, loss, news, self._surprise)

    def decide(self, view: View) -> Records | None:
        """Child orders for half to all of what is behind the plan."""
        c, book, now = self.config, view[self.config.instrument], view.seconds
        if self._coins_start is None:
            self._coins_start = self.holdings()
        while self._decisions and self._decisions[0].at <= now:
            self._decide_flow(self._decisions.pop(0), book)
        self._parcels = [parcel for parcel in self._parcels if parcel.end > now - 3.0 * c.slice]
        direction = np.zeros(self.size)
        for parcel in self._parcels:
            part = parcel.up_to(now + c.slice)
            amount = parcel.usd / book.mid + parcel.coins
            self._wanted += (part - parcel.released) * amount
            parcel.released = part
            direction += amount * (part > 0.0)
        behind = self._wanted - (self.holdings() - self._coins_start - self.in_kind)
        # A fund that is ahead of its plan waits: it never trades against the flow.
        behind[behind * direction <= 0.0] = 0.0
        if not behind.any():
            return None
        size = np.abs(behind) * (0.5 + 0.5 * self._jitter.random(self.size))
        side = np.where(behind > 0, Side.BUY, Side.SELL)
        reason = np.where(behind > 0, Reason.CREATION, Reason.REDEMPTION)
        return self.market(book, side, size, reason=reason, slippage=c.slippage)
