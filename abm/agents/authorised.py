"""Who keeps the share of a spot fund near what stands behind it: authorised participants, and market makers of the share.

MECHANICS 2. Market makers quote the share around its indicative net asset value and lean with their inventory, so that its price departs
from the value as others trade. Where its bid is above the value by more than a participant's threshold, the participant sells it and later
creates; where its ask is below by as much, it buys and later redeems. Each trade in the share is hedged in coins at once, or in a
perpetual. At the opening of the fixing a participant orders, in whole baskets, what its trades since the last order came to; the price is
that of the fixing, and baskets settle a session later: in kind, against coins, or in cash, in which case the fund's desk trades the coins
in the hour of the fixing and the participant gives its hedge up in the same hour.
"""

import math
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from abm.agents.base import Coins, Numbers, Population, TraderConfig, trader
from abm.agents.etf import EtfAllocators, EtfConfig
from abm.agents.hedging import hedge, recent_volatility
from abm.agents.view import BPS, View
from abm.clock import Seconds
from abm.exchange.calendar import Hours
from abm.exchange.gateway import Latency
from abm.exchange.messages import Flag, Reason, Records, Side, TimeInForce, join
from abm.world.etf import FIXING, FixingClock, Fund, Order, PrimaryMarket

Floats = npt.NDArray[np.float64]


class AuthorisedParticipantsConfig(TraderConfig):
    """Authorised participants; one account is one firm. Each starts with enough shares and coins for `limit` baskets either way."""

    instrument: str = Field("btc-etf", description="the fund's share", examples=["btc-etf"])
    accounts: int = Field(4, ge=0, le=1000, description="firms", examples=[4])
    tier: int = Field(1, ge=0, le=255, description="fee tier: an index into the instrument's fees", examples=[1])
    latency: Latency = Field(Latency(base=2.0, spread=5.0), description="time from a decision to the exchange")
    fund: Fund = Field(Fund(), description="what stands behind a share")
    funds: str = Field(
        "",
        description="trader of kind etf whose first group is this fund, with its custody and its desk; none = custody is outside the market",
        examples=["etf"],
    )
    redemption: Literal["in_kind", "cash"] = Field("in_kind", description="what baskets settle in, both ways")
    hedge: str = Field("btc-spot", description="instrument that it hedges in", examples=["btc-spot", "btc-perp"])
    leverage: float = Field(5.0, ge=1, le=100, description="with which it holds a hedge that has margin", examples=[5])
    calm_bps: tuple[float, float] = Field(
        (5.0, 10.0), description="distance from the value that pays, in the calm: least and greatest of the firms"
    )
    stress_bps: tuple[float, float] = Field((30.0, 100.0), description="the same in stress; in proportion between")
    calm_volatility: float = Field(0.42, gt=0, le=10, description="a year, realised in `window`", examples=[0.42])
    stress_volatility: float = Field(1.2, gt=0, le=10, description="a year, from which on it is stress [A]")
    window: Seconds = Field(3600.0, gt=0, description="over which volatility is measured", examples=["1h"])
    limit: int = Field(50, ge=1, description="baskets that a firm is short or long before they settle", examples=[50])
    cash: float = Field(150e6, ge=0, description="currency that a firm starts with", examples=[150e6])
    clip: float = Field(0.5, gt=0, description="baskets in an order", examples=[0.5])
    hours: Hours = Field(Hours(), description="the session of the share")
    fixing: Hours = Field(FIXING, description="the hour of the fixing; at its opening baskets are ordered")
    look: Seconds = Field(5.0, gt=0, description="time between two looks in the session", examples=["5s"])
    slippage: float = Field(
        0.005, gt=0, lt=0.5, description="no hedge further than this fraction from the mid", examples=[0.005]
    )

    @property
    def traded(self) -> tuple[str, ...]:
        """Names of the share and of what hedges it."""
        return (self.instrument, self.hedge)

    @model_validator(mode="after")
    def _ordered(self) -> "AuthorisedParticipantsConfig":
        for name in ("calm_bps", "stress_bps"):
            least, greatest = getattr(self, name)
            if not 0 <= least <= greatest:
                raise ValueError(f"{name} must be two numbers of at least 0, the smaller first")
        if min(self.stress_bps) < min(self.calm_bps) or max(self.stress_bps) < max(self.calm_bps):
            raise ValueError("stress_bps must not be below calm_bps")
        if self.redemption == "cash" and not self.funds:
            raise ValueError("redemption in cash needs funds: name the trader of kind etf whose desk trades the coins")
        if self.stress_volatility <= self.calm_volatility:
            raise ValueError("stress_volatility must be above calm_volatility")
        return self


@trader("authorised_participants")
class AuthorisedParticipants(Population):
    """Firms that trade the share against what stands behind it, and create and redeem baskets."""

    channel = "arbitrage"
    config: AuthorisedParticipantsConfig

    def setup(self) -> None:
        """Draw thresholds, wake in sessions, and note when baskets are ordered, priced and settled."""
        c, clock, units = self.config, self.model.scenario.clock, self.model.scenario.clock.units
        funds = self.model.scenario.traders.get(c.funds)
        if c.funds and not (isinstance(funds, EtfConfig) and funds.accounts):
            raise ValueError(f"traders.{self.name}.funds: {c.funds!r} is not a trader of kind etf with accounts here")
        place = self.random("threshold").random(self.size)
        self._calm, self._stress = (
            (least + (greatest - least) * place) * BPS for least, greatest in (c.calm_bps, c.stress_bps)
        )
        if self.model.on_margin[self.model.exchange.index(c.hedge)]:
            self.set_leverage(c.hedge, c.leverage)
        self.fixing = FixingClock(self.model, c.fund.underlying, c.fixing)
        """Prices at which baskets are created and redeemed."""
        self.ordered = np.zeros(self.size, np.int64)
        """Baskets that each firm has ordered at today's fixing; redemptions count below zero."""
        self._primary: PrimaryMarket | None = None
        self._exposed = True  # whether it may hold something that is not hedged
        self._sessions: list[tuple[float, float]] = []  # in seconds since the start of the run, as the following
        self._fixings: list[tuple[float, float]] = []
        self._zone = ZoneInfo(c.hours.timezone)
        for opens, closes in c.hours.between(clock.start, clock.end):
            start, end = clock.seconds_at(opens), clock.seconds_at(closes)
            cut_off, fixed = map(clock.seconds_at, c.fixing.on(opens.astimezone(self._zone).date()))
            self._sessions.append((start, end))
            self._fixings.append((cut_off, fixed))
            # Two looks more hedge what was traded last.
            self.wake_every(max(c.look, clock.step), start=max(0.0, start), end=end + 2 * c.look)
            for event, at in ((self._order, cut_off), (self._price, fixed), (self._settle, end)):
                if at > 0.0:
                    self.model.schedule_event(event, at=math.ceil(units(at)))

    def endow(self) -> tuple[Numbers, Coins]:
        """Cash, and shares and coins for the limit."""
        c = self.config
        shares = float(c.limit * c.fund.basket)
        return c.cash, {c.instrument: shares, c.fund.underlying: c.limit * c.fund.basket_coins}

    # ------------------------------------------------------------------ the primary market

    def _desk(self) -> EtfAllocators | None:
        """The funds of which the first is this one."""
        named = (each for each in self.model.populations if each.name == self.config.funds)
        return next((each for each in named if isinstance(each, EtfAllocators)), None)

    @property
    def primary(self) -> PrimaryMarket:
        """Where it creates and redeems."""
        if self._primary is None:  # in `setup` the funds may not have joined yet
            c, desk = self.config, self._desk()
            custody = None if desk is None else desk.first
            self._primary = PrimaryMarket(self.model, c.fund, c.instrument, custody, c.redemption == "in_kind")
        return self._primary

    def _unordered(self) -> Floats:
        """Shares that each firm sold, less those it bought, and has not yet ordered to create (or redeem)."""
        c = self.config
        coming = (self.primary.due(self.rows) + self.ordered) * c.fund.basket
        return c.limit * c.fund.basket - self.holdings(c.instrument) - coming

    def _order(self) -> None:
        """Order whole baskets for what was traded; in cash, the fund's desk has the hour for their coins."""
        c = self.config
        self.ordered = np.trunc(self._unordered() / c.fund.basket).astype(np.int64)
        desk, now = self._desk(), self.model.seconds
        if c.redemption == "cash" and desk is not None:
            coins = np.zeros(desk.size)
            coins[0] = self.ordered.sum() * c.fund.basket_coins
            desk.order(coins, now, next(closes for _, closes in self._fixings if closes > now))

    def _price(self) -> None:
        """Put the price of the fixing on today's orders; where nothing traded, that of the mid."""
        c, now = self.config, self.model.seconds
        day = self.model.scenario.clock.utc(self.model.time_ns).astimezone(self._zone).date()
        price = self.fixing.prices.get(day, math.nan)
        if math.isnan(price):
            price = self.model.view()[c.fund.underlying].mid
        settles = min((closes for _, closes in self._sessions if closes > now), default=math.inf)
        for row, baskets in zip(self.rows.tolist(), self.ordered.tolist(), strict=True):
            if baskets:
                self.primary.orders.append(Order(row, baskets, price, settles))
        self.ordered, self._exposed = np.zeros_like(self.ordered), True

    def _settle(self) -> None:
        """Settle the orders of the session before."""
        c, desk = self.config, self._desk()
        baskets, self._exposed = self.primary.settle(), True
        if c.redemption == "in_kind" and desk is not None:
            desk.in_kind[0] += baskets * c.fund.basket_coins

    # ------------------------------------------------------------------ the share and its hedge

    def threshold(self, volatility: float) -> Floats:
        """Distance from the value, as a fraction, from which on a trade pays each firm, at a realised volatility a year."""
        c = self.config
        stress = (volatility - c.calm_volatility) / (c.stress_volatility - c.calm_volatility)
        return self._calm + (self._stress - self._calm) * min(max(stress, 0.0), 1.0)

    def decide(self, view: View) -> Records | None:
        """Hedge what was traded, and in the session trade the share where it pays."""
        sent = self._hedges(view) if self._exposed or self.ordered.any() else []
        # What is left without a hedge, or is about to be traded, is looked at again.
        self._exposed = any(len(orders) for orders in sent)
        if any(opens <= view.seconds < closes for opens, closes in self._sessions):
            trades = self._arbitrage(view)
            if len(trades):
                self._exposed = True
                self.wake()  # to hedge in the next step
                sent.append(trades)
        return join(sent)

    def _hedges(self, view: View) -> list[Records]:
        """Orders for the coins that stand against the shares it sold, or bought, and has not settled."""
        c, now = self.config, view.seconds
        coins = c.fund.basket_coins
        passed = next(
            ((now - opens) / (closes - opens) for opens, closes in self._fixings if opens <= now < closes), 0.0
        )
        # The price of what is ordered becomes known over the hour. In cash, the risk goes with it; in kind, coins have to be there.
        hedged = self._unordered() * c.fund.coins_per_share + self.ordered * (1.0 - passed) * coins
        spot = np.full(self.size, c.limit * coins)
        if c.redemption == "in_kind":
            spot += (self.primary.due(self.rows) + self.ordered * passed) * coins
        if c.hedge == c.fund.underlying:
            return [hedge(self, view[c.hedge], spot + hedged, c.slippage, c.leverage)]
        return [
            hedge(self, view[c.fund.underlying], spot, c.slippage),
            hedge(self, view[c.hedge], hedged, c.slippage, c.leverage),
        ]

    def _arbitrage(self, view: View) -> Records:
        """Sell the share where its bid is far enough above the value, buy it where its ask is below."""
        c, share, coin = self.config, view[self.config.instrument], view[self.config.fund.underlying]
        value = c.fund.indicative_value(coin.mid)
        nearest = float(self._calm.min())
        if (share.bid or 0.0) <= value * (1.0 + nearest) and (share.ask or math.inf) >= value * (1.0 - nearest):
            return join([])
        gap = self.threshold(recent_volatility(coin, c.window, self.model.scenario.clock.step, c.calm_volatility))
        held, basket = self.holdings(c.instrument), c.fund.basket
        sent = []
        for side, best, room in (
            (Side.SELL, share.bid, held),
            (Side.BUY, share.ask, 2.0 * c.limit * basket - held),
        ):
            if best is None:
                continue
            price = value * (1.0 + gap if side == Side.SELL else 1.0 - gap)
            who = np.flatnonzero(best > price if side == Side.SELL else best < price)
            quantity = np.minimum(c.clip * basket, room)[who]
            terms: dict[str, Any] = {"who": who, "reason": Reason.ARBITRAGE, "tif": TimeInForce.IOC}
            sent.append(self.limit(share, side, price[who], quantity, **terms))
        return join(sent)


class ShareMarketMakersConfig(TraderConfig):
    """Market makers of the share; one account is one firm. What they hold is hedged elsewhere, up to the limit that they lean against."""

    instrument: str = Field("btc-etf", description="the fund's share", examples=["btc-etf"])
    accounts: int = Field(3, ge=0, le=1000, description="firms", examples=[3])
    tier: int = Field(1, ge=0, le=255, description="fee tier: an index into the instrument's fees", examples=[1])
    # The same for all: quotes must not meet those that others are withdrawing.
    latency: Latency = Field(Latency(base=1.0), description="time from a decision to the exchange")
    fund: Fund = Field(Fund(), description="what stands behind a share")
    shares: float = Field(
        1_000_000.0, ge=0, description="shares that a firm wants to hold; it has cash for as many", examples=[1e6]
    )
    half_spread_bps: tuple[float, float] = Field(
        (1.5, 3.0), description="half-spread in the calm: least and greatest of the firms"
    )
    spacing_bps: float = Field(3.0, gt=0, description="between two quotes of a side, in the calm", examples=[3])
    levels: int = Field(4, ge=1, le=50, description="quotes a side", examples=[4])
    quantity: float = Field(20_000.0, gt=0, description="shares at each quote of a firm", examples=[20_000])
    lean_bps: float = Field(
        60.0, ge=0, description="shift of quotes when a firm holds none, or twice what it wants", examples=[60]
    )
    calm_volatility: float = Field(
        0.42, gt=0, le=10, description="a year; above it spread and spacing grow in proportion", examples=[0.42]
    )
    window: Seconds = Field(3600.0, gt=0, description="over which volatility is measured", examples=["1h"])
    hours: Hours = Field(Hours(), description="the session of the share")
    look: Seconds = Field(10.0, gt=0, description="time between two looks in the session", examples=["10s"])
    keep: float = Field(
        0.5, ge=0, description="quotes stay while their centre moves by less than this many half-spreads"
    )
    stale: Seconds = Field(
        60.0, gt=0, description="quotes, and the volatility they follow, are renewed after this time", examples=["1min"]
    )

    @model_validator(mode="after")
    def _ordered(self) -> "ShareMarketMakersConfig":
        if not 0 < self.half_spread_bps[0] <= self.half_spread_bps[1]:
            raise ValueError("half_spread_bps must be two numbers above 0, the smaller first")
        return self


@trader("share_market_makers")
class ShareMarketMakers(Population):
    """Firms that quote both sides of the share around its indicative net asset value."""

    config: ShareMarketMakersConfig

    def setup(self) -> None:
        """Draw spreads and wake in sessions."""
        c, clock = self.config, self.model.scenario.clock
        least, greatest = c.half_spread_bps
        self._half = (least + (greatest - least) * self.random("spread").random(self.size)) * BPS
        self._centre, self._quoted_at = np.zeros(self.size), np.full(self.size, -math.inf)
        self._quoted_shares = np.zeros(self.size)
        self._wider, self._measured_at = 1.0, -math.inf  # spreads, in those of the calm
        for session in c.hours.between(clock.start, clock.end):
            start, end = map(clock.seconds_at, session)
            self.wake_every(max(c.look, clock.step), start=max(0.0, start), end=end)

    def endow(self) -> tuple[Numbers, Numbers]:
        """The shares it wants, and cash for as many."""
        price = self.model.scenario.instruments[self.config.instrument].reference_price or 0.0
        return self.config.shares * price, self.config.shares

    def decide(self, view: View) -> Records | None:
        """New quotes of the firms whose centre moved, who traded, or whose quotes are old."""
        c, share, coin, now = self.config, view[self.config.instrument], view[self.config.fund.underlying], view.seconds
        if now - self._measured_at >= c.stale:
            volatility = recent_volatility(coin, c.window, self.model.scenario.clock.step, c.calm_volatility)
            self._wider, self._measured_at = max(1.0, volatility / c.calm_volatility), now
        held, half = self.holdings(), self._half * self._wider
        inventory = np.clip(held / max(c.shares, 1.0) - 1.0, -1.0, 1.0)
        centre = c.fund.indicative_value(coin.mid) * (1.0 - c.lean_bps * BPS * inventory)
        moved = np.abs(centre - self._centre) > c.keep * half * centre
        who = np.flatnonzero(moved | (held != self._quoted_shares) | (now - self._quoted_at >= c.stale))
        if len(who) == 0:
            return None
        self._centre[who], self._quoted_shares[who], self._quoted_at[who] = centre[who], held[who], now
        away = half[who, None] + c.spacing_bps * BPS * self._wider * np.arange(c.levels)
        adds = np.repeat(inventory[who], c.levels)  # the side that adds to an inventory shrinks as it fills
        middle, away, each = np.repeat(centre[who], c.levels), away.ravel(), np.repeat(who, c.levels)
        terms: dict[str, Any] = {
            "who": each,
            "reason": Reason.MARKET_MAKING,
            "flags": Flag.POST_SLIDE,
            "lifetime": 2 * c.stale,
        }
        return join(
            [
                self.cancel_all(share, who),
                self.limit_buy(share, middle * (1.0 - away), c.quantity * (1.0 - adds), **terms),
                self.limit_sell(share, middle * (1.0 + away), c.quantity * (1.0 + adds), **terms),
            ]
        )
