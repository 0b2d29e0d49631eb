"""Retail traders with leverage: they follow trends and each other, many hold longs from higher prices, and their liquidations are the cascade.

Leverage and sizes are MECHANICS 1 and 13: drawn by number of accounts, then scaled so that each leverage has its share of the open interest
(without that the book empties within minutes). Positions held at the start were entered on the days before, at prices of those days, and are
still there only if nothing since would have liquidated them; so liquidation prices cluster where they really did.
"""

from collections.abc import Mapping

import numpy as np
from pydantic import Field, model_validator

from abm.agents.base import Floats, Ints, Numbers, trader
from abm.agents.leveraged import DAY, LeveragedConfig, LeveragedTraders
from abm.agents.view import View
from abm.clock import Seconds
from abm.exchange.description import Frozen

_WICK = 0.005  # [A] how much further than a day's range some venue's mark went
_TRIES = 8  # entries drawn for a position before it is held not to exist any more
_BODY = 0.95  # share of sizes that are lognormal; the rest is the Pareto tail


class Leverage(Frozen):
    """Who trades with how much leverage."""

    at: tuple[float, ...] = Field(
        (2, 3, 5, 10, 20, 25, 50, 75, 100, 125), description="leverage", examples=[[2, 5, 20]]
    )
    accounts: tuple[float, ...] = Field(
        (0.05, 0.08, 0.17, 0.27, 0.20, 0.08, 0.09, 0.02, 0.03, 0.01), description="share of the accounts"
    )
    open_interest: tuple[float, ...] = Field(
        (0.25, 0.15, 0.45, 0.09, 0.035, 0.008, 0.009, 0.002, 0.004, 0.002), description="share of the open interest"
    )
    scale: float = Field(1.0, gt=0, le=10, description="factor on all of them", examples=[0.5])

    @model_validator(mode="after")
    def _shares(self) -> "Leverage":
        if not len(self.at) == len(self.accounts) == len(self.open_interest) > 0:
            raise ValueError("at, accounts and open_interest need the same number of entries, at least one")
        if (
            min(self.at) < 1
            or min(self.accounts + self.open_interest) < 0
            or not (sum(self.accounts) and sum(self.open_interest))
        ):
            raise ValueError("leverage must be at least 1, and shares not negative, nor all 0")
        return self


class Days(Frozen):
    """Prices of a time before the start at which positions were entered."""

    low: float = Field(gt=0, description="currency", examples=[71_888])
    high: float = Field(gt=0, description="currency", examples=[76_972])
    weight: float = Field(1.0, ge=0, description="weight of this time among all, such as its volume", examples=[38.4])


class RetailLeverageConfig(LeveragedConfig):
    """Retail traders with leverage."""

    leverage: Leverage = Field(Leverage(), description="who trades with how much leverage")
    longs: float = Field(
        1.5e9, ge=0, description="currency held long at the start, all accounts together", examples=[1.5e9]
    )
    shorts: float = Field(
        0.75e9, ge=0, description="currency held short at the start, all accounts together", examples=[0.75e9]
    )
    invested: float = Field(
        0.6, ge=0, le=1, description="share of accounts that held a position before the start", examples=[0.6]
    )
    history: tuple[Days, ...] = Field(
        (), description="days before the start, oldest first, on which positions were entered; else at the start"
    )
    size_sigma: float = Field(
        2.0, ge=0, le=4, description="standard deviation of the logarithm of position sizes", examples=[2.0]
    )
    size_tail: float = Field(0.9, gt=0, le=10, description="exponent of the Pareto tail of sizes", examples=[0.9])
    size_ratio: float = Field(65_000.0, gt=1, description="greatest size, in medians", examples=[65_000])
    spare: float = Field(0.5, ge=0, le=10, description="median cash beside the margin, in margins", examples=[0.5])
    contrarians: float = Field(
        0.4, ge=0, le=1, description="share of accounts that trade against the trend: they buy dips", examples=[0.4]
    )
    trend: float = Field(0.5, ge=0, le=10, description="mean weight of the trend in the signal", examples=[0.5])
    herding: float = Field(0.3, ge=0, le=10, description="mean weight of the sentiment in the signal", examples=[0.3])
    opinion: float = Field(
        1.0, ge=0, le=10, description="weight of an account's own opinion in the signal", examples=[1.0]
    )
    lean: float = Field(
        0.0, ge=-5, le=5, description="mean of that opinion; above 0 more want to be long than short", examples=[0.43]
    )
    window: Seconds = Field(14_400.0, gt=0, description="over which a trend is measured", examples=["4h"])
    strong: float = Field(0.02, gt=0, lt=1, description="move over the window that is a strong trend", examples=[0.02])
    mood: Seconds = Field(21_600.0, gt=0, description="half-life of the sentiment", examples=["6h"])

    @model_validator(mode="after")
    def _ordered(self) -> "RetailLeverageConfig":
        for day in self.history:
            if day.low > day.high:
                raise ValueError("history: low must not be above high")
        if self.history and not any(day.weight for day in self.history):
            raise ValueError("history: weights must not be all 0")
        return self


def shared(total: float, sizes: Floats, most: float) -> Floats:
    """A total in proportion to sizes, no part above `most`; what that cuts off goes to the others while they have room."""
    parts, free = np.full(len(sizes), most), np.ones(len(sizes), np.bool_)
    while free.any():
        parts[free] = sizes[free] * ((total - parts[~free].sum()) / sizes[free].sum())
        over = free & (parts > most)
        if not over.any():
            break
        parts[over], free[over] = most, False
    return parts


@trader("retail_leverage")
class RetailLeverage(LeveragedTraders):
    """Many small accounts and a few large ones, mostly long."""

    config: RetailLeverageConfig

    def leverages(self) -> Floats:
        """By share of accounts."""
        mix = self.config.leverage
        shares = np.asarray(mix.accounts) / sum(mix.accounts)
        self._class = self.random("leverage").choice(len(mix.at), self.size, p=shares)
        self.sentiment = 0.0
        """What the crowd feels, from -1 to 1."""
        against = self.random("contrarian").random(self.size) < self.config.contrarians
        self._follows = (
            self.config.trend * self.random("trend").exponential(1.0, self.size) * np.where(against, -1.0, 1.0)
        )
        self._herds = self.config.herding * self.random("herd").exponential(1.0, self.size)
        self._opinion = self.random("opinion")
        return np.asarray(mix.at, np.float64)[self._class] * mix.scale

    def sizes(self) -> Floats:
        """Notional of each account relative to the others: lognormal with a Pareto tail, larger at low leverage."""
        c, n = self.config, self.size
        draw = self.random("size")
        size = np.exp(c.size_sigma * draw.standard_normal(n))
        start = np.exp(c.size_sigma * 1.645)  # where the lognormal's last twentieth begins
        tail = start * draw.pareto(c.size_tail, n) + start
        return np.minimum(np.where(draw.random(n) < _BODY, np.minimum(size, start), tail), c.size_ratio) / self.leverage

    def money(self) -> Floats:
        """The margin of the position that an account has, or would have had, and what it has beside."""
        c, draw, sizes = self.config, self.random("entry"), self.sizes()
        long = draw.random(self.size) < c.longs / max(c.longs + c.shorts, 1e-12)
        invested = draw.random(self.size) < c.invested * (c.longs + c.shorts > 0)
        self._side = np.where(invested, np.where(long, 1, -1), 0)
        self._entry = self._entries(draw, self._maintenance(self._scaled(sizes)))
        notional = self._scaled(sizes)  # of those that are left
        spare = c.spare * np.exp(self.random("spare").standard_normal(self.size))
        self._coins = np.where(
            self._side != 0, self._side * np.floor(notional / self._entry / self._book.lot) * self._book.lot, 0.0
        )
        # A thousandth more than the margin covers the rounding of positions and margins
        return notional / self.leverage * (1.001 + spare) + 1.0

    def _entries(self, draw: np.random.Generator, rate: Floats) -> Floats:
        """Price (currency) at which each account entered; positions that nothing would have left of since are gone, with side 0.

        Args:
            draw: Where chance comes from.
            rate: Maintenance margin of each account's position, as a fraction.
        """
        c, n, side = self.config, self.size, self._side
        now = self._book.reference_price or 0.0
        self._since = (np.full(n, now), np.full(n, now))
        if not c.history:
            return np.full(n, now)
        low, high, weight = (np.array([getattr(day, name) for day in c.history]) for name in ("low", "high", "weight"))
        # Lowest and highest price after each day, that of the start included
        after_low = np.minimum.accumulate(np.append(low[1:], now)[::-1])[::-1]
        after_high = np.maximum.accumulate(np.append(high[1:], now)[::-1])[::-1]
        entry, gone = np.full(n, now), side != 0
        for _ in range(_TRIES):
            who = np.flatnonzero(gone)
            day = draw.choice(len(weight), len(who), p=weight / weight.sum())
            price = low[day] + (high[day] - low[day]) * draw.random(len(who))
            sign = side[who]
            falls_at = price * (1.0 - sign / self.leverage[who]) / (1.0 - sign * rate[who])
            lives = np.where(
                sign > 0, after_low[day] * (1.0 - _WICK) > falls_at, after_high[day] * (1.0 + _WICK) < falls_at
            )
            entry[who[lives]] = price[lives]
            for seen, after in zip(self._since, (after_low, after_high), strict=True):
                seen[who[lives]] = after[day[lives]]
            gone[who[lives]] = False
        self._side = np.where(gone, 0, side)
        return entry

    def _maintenance(self, notional: Floats) -> Floats:
        """Rate of the bracket of each position."""
        assert self._book.margin is not None
        rows = self._book.margin.rows
        bracket = np.searchsorted([row.up_to or np.inf for row in rows], notional)
        return np.array([row.maintenance for row in rows])[np.minimum(bracket, len(rows) - 1)]

    def _scaled(self, sizes: Floats) -> Floats:
        """Notional in currency: each leverage's share of what is held long, and of what is held short, as far as brackets allow."""
        c = self.config
        assert self._book.margin is not None
        brackets = self._book.margin.rows
        most = [
            max((row.up_to or np.inf for row in brackets if row.leverage >= at * c.leverage.scale), default=np.inf)
            for at in c.leverage.at
        ]
        notional = sizes * 0.0
        shares = np.asarray(c.leverage.open_interest) / sum(c.leverage.open_interest)
        for group in range(len(shares)):
            mine = self._class == group
            for side, total in ((1, c.longs), (-1, c.shorts)):
                held = mine & (self._side == side)
                if held.any():
                    notional[held] = shared(total * shares[group], sizes[held], most[group])
            # Who holds nothing is as large as those who do
            per_size = notional[mine].sum() / max(sizes[mine & (self._side != 0)].sum(), 1e-12)
            idle = mine & (self._side == 0)
            notional[idle] = np.minimum(sizes[idle] * per_size, most[group])
        return notional

    def seen_since_entry(self, who: Ints) -> tuple[Numbers, Numbers]:
        """From the day after that of the entry on."""
        low, high = (seen[who] for seen in self._since)
        # Nobody asks for these again, and there may be millions of accounts
        del self._since, self._entry, self._side, self._coins, self._class
        return low, high

    def open_positions(self) -> Mapping[str, tuple[Numbers, Numbers]]:
        """Those of the days before."""
        return {self.config.instrument: (self._coins, self._entry)} if self.size else {}

    def signal(self, view: View, who: Ints) -> Floats:
        """Trend, sentiment and an opinion of one's own: how much accounts want to be long."""
        c, book = self.config, view[self.config.instrument]
        trend = np.tanh(book.return_over(c.window) / c.strong)
        day = np.tanh(book.return_over(DAY) / (2.0 * c.strong))
        own = c.lean + self._opinion.standard_normal(len(who))
        wants = self._follows[who] * trend + self._herds[who] * (self.sentiment + self.mood) + c.opinion * own
        crowd = float(np.mean(np.sign(wants))) if len(who) else 0.0
        self.sentiment += (0.5 * (crowd + day) - self.sentiment) * (1.0 - 0.5 ** (c.pulse / c.mood))
        return np.asarray(wants)
