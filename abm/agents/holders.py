"""Holders: most do nothing; some coins move each day, and some holders wait with cash where others once bought.

MECHANICS 4. A holder is a cohort of coins with what was paid for them. Coins move at a rate per day (a hazard) that depends on the gain on
them and on the day's return: long-term holders distribute gains, short-term holders panic when they lose; only part of what moves is sold
on this market. Resting demand lies where many coins were bought. Stocks are finite on both sides.
"""

import math

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from scipy.special import expit, ndtr

from abm.agents.base import Floats, Numbers, Population, TraderConfig, trader
from abm.agents.view import View
from abm.clock import Seconds
from abm.exchange.description import MONEY_UNITS, Frozen
from abm.exchange.messages import Reason, Records, Side, join

DAY = 86400.0
_GRID = 1000  # prices at which the density of bids is reckoned


class Zone(Frozen):
    """Resting demand between two prices."""

    low: float = Field(gt=0, description="currency", examples=[66_000])
    high: float = Field(gt=0, description="currency", examples=[71_000])
    coins: float = Field(
        ge=0, description="coins wanted, spread over the zone as the coins that were bought there", examples=[20_000]
    )
    source: str = Field(min_length=1, description="where the figure comes from", examples=["MECHANICS 4"])

    @model_validator(mode="after")
    def _ordered(self) -> "Zone":
        if self.high <= self.low:
            raise ValueError("high must be greater than low")
        return self


class HoldersConfig(TraderConfig):
    """What all holders are told; how many coins at what cost move how often, each kind of holder says."""

    accounts: int = Field(400, ge=0, le=10_000_000, description="accounts", examples=[400])
    coins: float
    cost_basis: tuple[tuple[float, float], ...]
    hazard: float
    market_share: float = Field(
        0.05, ge=0, le=1, description="part of what moves that is sold on this market", examples=[0.05]
    )
    lump: float = Field(3.0, gt=0, description="mean coins that move at a time", examples=[3])
    every: Seconds = Field(60.0, gt=0, description="time between two rounds of sales", examples=["1min"])
    slippage: float = Field(
        0.003, gt=0, lt=0.5, description="no trade further than this fraction from the mid", examples=[0.003]
    )

    @model_validator(mode="after")
    def _costs(self) -> "HoldersConfig":
        prices = [price for price, _ in self.cost_basis]
        if any(price <= 0 or weight <= 0 for price, weight in self.cost_basis) or prices != sorted(set(prices)):
            raise ValueError("cost_basis needs rising prices above 0 and weights above 0")
        if 0 < self.accounts < len(prices):
            raise ValueError(f"accounts: {self.accounts} for {len(prices)} prices in cost_basis; give one for each")
        return self


class LongTermHoldersConfig(HoldersConfig):
    """Long-term holders."""

    coins: float = Field(12e6, ge=0, description="coins held by all accounts together", examples=[12e6])
    cost_basis: tuple[tuple[float, float], ...] = Field(
        (
            (6e3, 8),
            (20e3, 9),
            (30e3, 8),
            (43e3, 7),
            (63e3, 9),
            (67.5e3, 8),
            (76e3, 4),
            (87.5e3, 11),
            (96e3, 9),
            (105e3, 8),
            (116e3, 5),
        ),
        min_length=1,
        description="price paid in currency, and weight; lost coins are left out",
        examples=[[[43e3, 7], [67.5e3, 8]]],
    )
    hazard: float = Field(
        0.0012, ge=0, le=1, description="part of the coins that moves in a day when nothing happens", examples=[0.0012]
    )
    gain_effect: float = Field(
        1.5, ge=0, le=100, description="rise of the hazard with the logarithm of the gain", examples=[1.5]
    )
    fall_effect: float = Field(
        2.0, ge=0, le=100, description="rise of it for each 10 % fallen in a day beyond 5 %", examples=[2]
    )
    zones: tuple[Zone, ...] = Field((), description="resting demand, with its source; made from `rebuy` where left out")
    rebuy: float = Field(
        0.03, ge=0, le=1, description="coins bid for near the price of each that was bought", examples=[0.03]
    )
    reach: float = Field(
        0.25, gt=0, lt=1, description="how far below the price of the start that goes, as a fraction", examples=[0.25]
    )
    cluster: float = Field(
        0.03,
        gt=0,
        lt=0.5,
        description="bids are as dense as costs within this fraction of their price",
        examples=[0.03],
    )
    display: float = Field(0.05, gt=0, le=1, description="fraction of a resting order that is shown", examples=[0.05])


class ShortTermHoldersConfig(HoldersConfig):
    """Short-term holders."""

    coins: float = Field(5e6, ge=0, description="coins held by all accounts together", examples=[5e6])
    cost_basis: tuple[tuple[float, float], ...] = Field(
        ((76e3, 8), (87.5e3, 11), (96e3, 9), (105e3, 8), (116e3, 5)),
        min_length=1,
        description="price paid in currency, and weight; the mean is 94.0 thousand",
        examples=[[[87.5e3, 1], [96e3, 1]]],
    )
    hazard: float = Field(
        0.006, ge=0, le=1, description="part of the coins that moves in a day when nothing happens", examples=[0.006]
    )
    panic_effect: float = Field(5.0, ge=0, le=10_000, description="rise of the hazard in panic, at most", examples=[5])
    weak: float = Field(
        1.0, gt=0, le=1, description="part of the coins whose holders panic at all, and once", examples=[0.04]
    )
    panic_fall: float = Field(
        0.04, ge=0, lt=1, description="fall over panic_window beyond which half of them may panic", examples=[0.04]
    )
    panic_window: Seconds = Field(86_400.0, gt=0, description="time over which that fall is measured", examples=["3d"])
    panic_spread: float = Field(
        0.0,
        ge=0,
        le=2,
        description="standard deviation, of the logarithm, of that fall between holders; 0: all have the same",
        examples=[0.4],
    )
    panic_loss: float = Field(
        0.10, ge=0, le=5, description="loss, as a logarithm, at which half of the holders panic", examples=[0.1]
    )
    panic_width: float = Field(
        0.04, gt=0, le=5, description="scale, as a logarithm, of how that differs between holders", examples=[0.04]
    )


def bought_below(prices: Floats, cost: Floats, weight: Floats) -> Floats:
    """Part of the coins that were bought below each price; a cohort is spread evenly to halfway to its neighbours.

    Args:
        prices: Currency.
        cost: What each cohort paid in currency, rising.
        weight: Coins of each cohort, in any unit.
    """
    halfway = (cost[1:] + cost[:-1]) / 2.0
    # The outermost cohorts reach as far outwards as inwards; a single one has no neighbours, and stands at its price.
    inner = (halfway[0], halfway[-1]) if len(halfway) else (cost[0], cost[0])
    edges = np.concatenate(([2.0 * cost[0] - inner[0]], halfway, [2.0 * cost[-1] - inner[1]]))
    return np.asarray(np.interp(prices, edges, np.concatenate(([0.0], np.cumsum(weight) / weight.sum()))))


class Holders(Population):
    """Cohorts of coins that move by a hazard; a kind of holder says which."""

    config: HoldersConfig

    def setup(self) -> None:
        """Give each cohort its accounts, side by side, in proportion to its coins and at least one."""
        c, n = self.config, self.size
        self._paid, weight = np.array(c.cost_basis, np.float64).T
        self._weight = weight / weight.sum()
        spare = max(n - len(weight), 0)
        self._members = (n > 0) + np.diff(np.round(np.cumsum(self._weight) * spare), prepend=0.0).astype(np.int64)
        """Accounts of each cohort."""
        self._starts = np.concatenate(([0], np.cumsum(self._members)[:-1]))
        self.moved = 0.0
        """Coins that moved since the start, sold on this market or not."""
        self.realised_loss = 0.0
        """What was lost on them in currency: coins moved at a loss times cost less price."""
        self.panicked = np.zeros(len(weight))
        """Coins of each cohort that moved in panic, sold on this market or not."""
        self._moves, self._here, self._who, self._why = map(self.random, ("move", "here", "who", "reason"))
        self._last_round = self.model.seconds
        self.wake_every(c.every, start=self.model.seconds)

    def endow(self) -> tuple[Numbers, Numbers]:
        """Coins, with what was paid for them: the ledger goes on from there, so that the cost of what is bought later is known."""
        c, n = self.config, self._members
        if self.size:
            coins, cost = np.repeat(c.coins * self._weight / n, n), np.repeat(self._paid, n)
            self.model.house.credit(self.rows, "opening", coins=coins, instrument=c.instrument, cost=cost)
        return 0.0, 0.0

    @property
    def window(self) -> float:
        """Over which time a return moves holders, seconds."""
        return DAY

    def hazard(self, gain: Floats, change: float) -> tuple[Floats, Floats]:
        """Parts of the coins that move in a day: at leisure, and in panic.

        Args:
            gain: Logarithm of price over cost, of each cohort.
            change: Return over the `window` that ends now.
        """
        raise NotImplementedError

    def cohorts(self) -> tuple[Floats, Floats]:
        """Coins of each cohort, and what they cost on average in currency (nan where none are left)."""
        accounts, market = self.model.exchange.accounts, self.model
        index = market.exchange.index(self.config.instrument)
        rows = slice(self.first, self.first + self.size)
        lots = np.add.reduceat(accounts.position[rows, index], self._starts)
        basis = np.add.reduceat(accounts.basis[rows, index], self._starts)
        coins = lots * market.exchange.instruments[index].lot
        return coins, np.divide(basis / MONEY_UNITS, coins, out=np.full(len(coins), np.nan), where=coins > 0)

    def decide(self, view: View) -> Records | None:
        """The sales of those whose coins move in this round."""
        c, book = self.config, view[self.config.instrument]
        days = (view.seconds - self._last_round) / DAY
        self._last_round = view.seconds
        coins, cost = self.cohorts()
        cost = np.where(coins > 0, cost, book.mid)
        calm, panic = self.hazard(np.log(book.mid / cost), book.return_over(self.window))
        number = self._moves.poisson(coins * (calm + panic) * days / c.lump)
        if not number.any():
            return None
        cohort = np.repeat(np.arange(len(number)), number)
        # Each coin of a cohort is as likely to move as any other.
        held = self.holdings()
        upto = np.cumsum(held)
        picked = (upto - held)[self._starts][cohort] + self._who.random(len(cohort)) * coins[cohort]
        who = np.minimum(np.searchsorted(upto, picked, side="right"), self.size - 1)
        size = np.minimum(c.lump * self._moves.standard_exponential(len(cohort)), held[who])
        self.moved += float(size.sum())
        self.realised_loss += float((size * np.maximum(cost - book.mid, 0.0)[cohort]).sum())
        panics = self._why.random(len(cohort)) * (calm + panic)[cohort] < panic[cohort]
        self.panicked += np.bincount(cohort[panics], size[panics], len(number))
        here = self._here.random(len(cohort)) < c.market_share
        reason = np.where(panics[here], Reason.PANIC, Reason.DISTRIBUTION)
        return self.market(book, Side.SELL, size[here], who=who[here], reason=reason, slippage=c.slippage)


@trader("long_term_holders")
class LongTermHolders(Holders):
    """Distribution above, resting demand below."""

    config: LongTermHoldersConfig

    def setup(self) -> None:
        """Give each account a place in each zone of resting demand."""
        super().setup()
        c, n = self.config, self.size
        zones = c.zones or (self._zone_of_the_cohorts(),)
        where = self.random("zone")
        self._bids = np.array([self._prices(zone, where.random(n)) for zone in zones])
        weight = where.exponential(1.0, (len(zones), n))
        coins = np.array([[zone.coins] for zone in zones])
        self._wanted = coins * weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)
        self._bids_placed = False

    def _zone_of_the_cohorts(self) -> Zone:
        """Demand down from the price of the start: `rebuy` of the coins that were bought there."""
        c, high = self.config, self.model.view()[self.config.instrument].mid
        low = high * (1.0 - c.reach)
        below = bought_below(np.array([low, high]), self._paid, self._weight)
        return Zone(low=low, high=high, coins=c.rebuy * c.coins * float(below[1] - below[0]), source="cost_basis")

    def _prices(self, zone: Zone, uniform: Floats) -> Floats:
        """Prices in a zone, as dense as costs near them; evenly spread where nobody bought."""
        grid = np.linspace(zone.low, zone.high, _GRID)
        wide = 1.0 + self.config.cluster
        highest, lowest = (bought_below(prices, self._paid, self._weight) for prices in (grid * wide, grid / wide))
        near = (highest - lowest) / grid
        below = np.concatenate(([0.0], np.cumsum(near[1:] + near[:-1])))
        if below[-1] == 0.0:
            below = np.arange(_GRID, dtype=np.float64)
        return np.asarray(np.interp(uniform * below[-1], below, grid))

    def endow(self) -> tuple[Numbers, Numbers]:
        """Coins, and the cash for their bids."""
        super().endow()
        fees = self.model.scenario.instruments[self.config.instrument].fees
        fee = fees[min(self.config.tier, len(fees) - 1)]
        # One currency unit more than the bids need covers the rounding of prices and fees.
        return (self._bids * self._wanted).sum(axis=0) * (1.0 + max(fee.taker, fee.maker)) + 1.0, 0.0

    def hazard(self, gain: Floats, change: float) -> tuple[Floats, Floats]:
        """At leisure h (1 + 1.5 max(0, gain) + 2 max(0, -change - 5 %) / 10 %), and no panic."""
        c = self.config
        fall = max(0.0, -change - 0.05) / 0.1
        return c.hazard * (1.0 + c.gain_effect * np.maximum(gain, 0.0) + c.fall_effect * fall), np.zeros(len(gain))

    def decide(self, view: View) -> Records | None:
        """Once, all bids; then in each round the sales."""
        if self._bids_placed:
            return super().decide(view)
        self._bids_placed = True
        book, terms = view[self.config.instrument], {"reason": Reason.ACCUMULATION, "display": self.config.display}
        return join(
            [
                self.limit_buy(book, price, wanted, **terms)
                for price, wanted in zip(self._bids, self._wanted, strict=True)
            ]
        )


@trader("short_term_holders")
class ShortTermHolders(Holders):
    """Those who bought lately, and panic when a fall leaves them with a loss."""

    config: ShortTermHoldersConfig

    @property
    def window(self) -> float:
        """Over which time a fall makes them panic, seconds."""
        return self.config.panic_window

    def hazard(self, gain: Floats, change: float) -> tuple[Floats, Floats]:
        """At leisure h, and in panic 5 h logistic((-gain - .10) / .04) of those whose fall was passed and who have not sold yet.

        That fall is lognormal between holders; it is smaller in fear.
        """
        c = self.config
        passed = self._passed(-change / max(c.panic_fall * self.nerve, 1e-12))
        gone = self.panicked / np.maximum(c.weak * c.coins * self._weight, 1e-12)
        panic: npt.NDArray[np.float64] = np.maximum(passed - gone, 0.0) * expit((-gain - c.panic_loss) / c.panic_width)
        return np.full(len(gain), c.hazard), c.hazard * c.panic_effect * panic

    def _passed(self, fall: float) -> float:
        """Part of the holders who may panic after a fall, in units of the median of what it takes."""
        spread = self.config.panic_spread
        if fall <= 0.0 or not spread:
            return float(fall > 1.0)
        return float(ndtr(math.log(fall) / spread))
