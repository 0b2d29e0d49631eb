"""Market makers: firms that quote both sides on several levels, lean against their inventory, and step back when it gets rough.

Depth follows D(x) = D100 (x / 100 bp)^exponent (MECHANICS 1), spread and size follow volatility (MECHANICS 8; the square root in the size
is MECHANICS 13), quotes lean with inventory as in Avellaneda and Stoikov (2008). One compiled pass decides for all firms.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit
from pydantic import Field, model_validator

from abm.agents.base import Numbers, Population, TraderConfig, trader
from abm.agents.view import BPS, View
from abm.clock import Seconds
from abm.exchange.gateway import Latency
from abm.exchange.messages import MESSAGE, Flag, Kind, Reason, Records, TimeInForce
from abm.random import Block
from abm.world.fundamental import YEAR

FIRM = np.dtype(
    [
        ("target_lots", np.int64),  # inventory it wants
        ("limit_lots", np.int64),  # largest distance from it
        ("share", np.float64),  # of all firms' depth
        ("half_spread", np.float64),  # in one-minute volatilities
        ("pull_at", np.float64),  # one-minute move, in volatilities, that makes it step back
        ("fair", np.float64),  # what it takes for the price, in ticks
        ("size", np.float64),  # fraction of its full size, below 1 after it stepped back
        ("back_at", np.float64),  # seconds; away until then
        ("next_look", np.float64),  # seconds
        ("quoted_at", np.float64),  # seconds
        ("quoted_price", np.float64),  # centre of its quotes, in ticks; 0 = none
        ("quoted_lots", np.int64),  # inventory when it quoted
        ("equity_from", np.float64),  # lot-ticks; where losses are counted from
        ("loss_limit", np.float64),  # lot-ticks
    ],
    align=True,
)
# Variance of one-minute returns with two memories, and what all firms together hold
STATE = np.dtype([("fast", np.float64), ("slow", np.float64), ("lots", np.int64)])
TERMS = np.dtype(
    [
        (name, np.float64)
        for name in (
            "depth_lot_ticks",
            "exponent",
            "outermost_bps",
            "calm_sigma",
            "size_exponent",
            "lean",
            "impact",
            "stop_side_at",
            "pull_min",
            "pull_max",
            "return_size",
            "return_half_life",
            "look_min",
            "look_max",
            "keep",
            "stale",
            "fair_half_life",
            "fast_half_life",
            "slow_half_life",
        )
    ]
    + [("levels", np.int64), ("max_tick", np.int64)]
)
_MASS_CANCEL, _LIMIT, _GTC, _SLIDE = int(Kind.MASS_CANCEL), int(Kind.LIMIT), int(TimeInForce.GTC), int(Flag.POST_SLIDE)
_REASON = int(Reason.MARKET_MAKING)


@njit(cache=True)
def _withdraw(m: Any, owner: int, instrument: int) -> None:
    m.kind, m.owner, m.instrument, m.side, m.order = _MASS_CANCEL, owner, instrument, 0, 0
    m.price, m.quantity, m.tif, m.flags, m.reason = 0, 0, 0, 0, 0


@njit(cache=True)
def quotes(
    firms: Records,
    state: Records,
    terms: Records,
    out: Records,
    uniform: npt.NDArray[np.float64],
    first: int,
    instrument: int,
    now: float,
    dt: float,
    mid: float,
    news: float,
    minute_return: float,
    position: npt.NDArray[np.int64],
    equity: npt.NDArray[np.float64],
) -> int:
    """What all firms send in one step, written to `out`.

    Args:
        firms: One `FIRM` record for each; changed.
        state: One `STATE` record; changed.
        terms: One `TERMS` record.
        out: Room for `firms x (1 + 2 levels)` messages.
        uniform: Two uniform draws for each firm.
        first: The first firm's account.
        instrument: Number of the instrument.
        now: Seconds since the start of the run.
        dt: Seconds of a step.
        mid: Mid price in ticks.
        news: What a step's news does to the value, as a factor.
        minute_return: Return of the mid over the last minute; not a number while the run is younger.
        position: Lots each firm holds.
        equity: Cash of each firm and the worth of its inventory beyond its target, in lot-ticks.

    Returns:
        How many messages are written.
    """
    p, s = terms[0], state[0]
    n = 0
    rough = 0.0
    if not np.isnan(minute_return):
        # Nobody is alarmed by what is usual in the calm, however quiet the last hour was.
        rough = abs(minute_return) / max(math.sqrt(s.slow), p.calm_sigma)
        square = minute_return * minute_return
        s.fast += (square - s.fast) * (1.0 - 0.5 ** (dt / p.fast_half_life))
        s.slow += (square - s.slow) * (1.0 - 0.5 ** (dt / p.slow_half_life))
    sigma = max(math.sqrt(s.fast), 0.25 * p.calm_sigma)
    scale = sigma / p.calm_sigma
    thinner = scale**-p.size_exponent
    lots_held = position.sum()
    # What takers made the firms buy tells them something, as in Kyle (1985): they all see the trades.
    learnt = news * math.exp(-p.impact * (lots_held - s.lots) * mid)
    s.lots = lots_held
    for f in range(len(firms)):
        firm = firms[f]
        firm.fair *= learnt
        firm.fair += (mid - firm.fair) * (1.0 - 0.5 ** (dt / p.fair_half_life))
        if now < firm.back_at:
            continue
        firm.size += (1.0 - firm.size) * (1.0 - 0.5 ** (dt / p.return_half_life))
        lost = firm.equity_from - equity[f]
        if rough > firm.pull_at or lost > firm.loss_limit:
            firm.back_at = now + p.pull_min + (p.pull_max - p.pull_min) * uniform[2 * f]
            firm.size = p.return_size
            firm.equity_from = equity[f]
            firm.fair = mid
            if firm.quoted_price > 0.0:
                firm.quoted_price = 0.0
                _withdraw(out[n], first + f, instrument)
                n += 1
            continue
        if lost < 0.0:
            firm.equity_from = equity[f]
        if now < firm.next_look:
            continue
        firm.next_look = now + p.look_min + (p.look_max - p.look_min) * uniform[2 * f + 1]
        inventory = (position[f] - firm.target_lots) / max(firm.limit_lots, 1)
        half = max(1.0, firm.half_spread * sigma * mid)
        centre = firm.fair - p.lean * half * min(max(inventory, -1.0), 1.0)
        moved = abs(centre - firm.quoted_price) > p.keep * half
        traded = position[f] != firm.quoted_lots
        if firm.quoted_price > 0.0 and not (moved or traded or now - firm.quoted_at > p.stale):
            continue
        firm.quoted_price, firm.quoted_at, firm.quoted_lots = centre, now, position[f]
        _withdraw(out[n], first + f, instrument)
        n += 1
        outer = max(p.outermost_bps * 1e-4 * mid, 4.0 * half)
        ratio = (outer / half) ** (1.0 / max(p.levels - 1, 1))
        distance, within = half, 0.0
        for _ in range(p.levels):
            reaches = p.depth_lot_ticks / mid * (distance / mid * 100.0) ** p.exponent
            lots = (reaches - within) * firm.share * thinner * firm.size
            within = reaches
            for side in range(2):
                adds = inventory if side == 0 else -inventory
                if adds > p.stop_side_at:
                    continue
                quantity = np.int64(lots * min(1.0, 1.0 - adds))
                price = math.floor(centre - distance) if side == 0 else math.ceil(centre + distance)
                if quantity < 1 or price < 1 or price > p.max_tick:
                    continue
                m = out[n]
                m.kind, m.owner, m.instrument, m.side, m.order = _LIMIT, first + f, instrument, side, 0
                m.price, m.quantity, m.tif, m.flags, m.reason = np.int32(price), quantity, _GTC, _SLIDE, _REASON
                n += 1
            distance *= ratio
    return n


class MarketMakersConfig(TraderConfig):
    """Market makers; one account is one firm."""

    accounts: int = Field(10, ge=0, le=1000, description="firms", examples=[10])
    tier: int = Field(1, ge=0, le=255, description="fee tier: an index into the instrument's fees", examples=[1])
    latency: Latency = Field(Latency(base=1.0, spread=2.0), description="time from a decision to the exchange")
    capital: tuple[float, ...] = Field(
        (450e6, 450e6, 450e6) + (90e6,) * 7, description="currency, one for each firm", examples=[[450e6, 90e6]]
    )
    book_share: float = Field(
        0.15, gt=0, le=1, description="share of its capital that a firm commits to this book", examples=[0.15]
    )
    depth_usd: float = Field(
        8e6, ge=0, description="currency a side within 100 bp in the calm, all firms together", examples=[8e6]
    )
    depth_exponent: float = Field(
        0.67, gt=0, le=2, description="depth within x grows as x to this power", examples=[0.67]
    )
    levels: int = Field(10, ge=1, le=100, description="quotes a side", examples=[10])
    outermost_bps: float = Field(
        150.0, gt=0, le=5000, description="distance of the last quote, basis points", examples=[150]
    )
    half_spread: tuple[float, float] = Field(
        (0.03, 0.27),
        description="least and greatest half-spread among the firms, in one-minute volatilities",
        examples=[[0.03, 0.27]],
    )
    calm_volatility: float = Field(
        0.42, gt=0, le=5, description="a year; where size and spread are as given", examples=[0.42]
    )
    size_exponent: float = Field(
        0.5, ge=0, le=3, description="size shrinks as volatility to this power", examples=[0.5]
    )
    inventory_limit: float = Field(
        0.1, gt=0, le=1, description="largest inventory, as a share of the coins committed", examples=[0.1]
    )
    news: float = Field(
        1.0, ge=0, le=1, description="part of the news that quotes follow at once, without a trade", examples=[1]
    )
    impact_bps: float = Field(
        0.248,
        ge=0,
        le=1000,
        description="shift of quotes for a million of currency that takers made the firms trade, bp",
        examples=[0.248],
    )
    lean: float = Field(
        1.0, ge=0, le=10, description="shift of quotes at full inventory, in half-spreads", examples=[1]
    )
    stop_side_at: float = Field(
        0.9, gt=0, le=1, description="inventory, of its limit, where the side that adds to it goes", examples=[0.9]
    )
    pull_sigmas: tuple[float, float] = Field(
        (3.0, 8.0), description="one-minute move that makes firms step back, in volatilities: least, greatest"
    )
    pull: tuple[Seconds, Seconds] = Field(
        (10.0, 120.0), description="shortest and longest time away", examples=[["10s", "2min"]]
    )
    return_size: float = Field(
        0.25, gt=0, le=1, description="fraction of its size a firm returns with", examples=[0.25]
    )
    return_half_life: Seconds = Field(450.0, gt=0, description="half-life of what is missing then", examples=["7.5min"])
    loss_limit: float = Field(
        0.015, gt=0, lt=1, description="loss, of the capital in the book, that makes a firm step back", examples=[0.015]
    )
    look: tuple[Seconds, Seconds] = Field(
        (1.0, 2.0), description="shortest and longest time between two looks", examples=[["1s", "2s"]]
    )
    keep: float = Field(
        0.5,
        ge=0,
        description="quotes stay while their centre moves by less than this many half-spreads",
        examples=[0.5],
    )
    stale: Seconds = Field(60.0, gt=0, description="quotes are renewed after this time", examples=["1min"])
    memory: Seconds = Field(
        60.0, gt=0, description="half-life with which the price a firm believes in follows the mid", examples=["1min"]
    )
    fast: Seconds = Field(
        300.0, gt=0, description="half-life of the volatility that spread and size follow", examples=["5min"]
    )
    slow: Seconds = Field(
        3600.0, gt=0, description="half-life of the volatility that a move is measured by", examples=["1h"]
    )

    @model_validator(mode="after")
    def _each_has_capital(self) -> "MarketMakersConfig":
        if len(self.capital) != self.accounts:
            raise ValueError(
                f"capital has {len(self.capital)} entries for {self.accounts} accounts; give one for each firm"
            )
        if min(self.capital, default=1.0) <= 0:
            raise ValueError("capital must be greater than 0 for each firm")
        for name in ("half_spread", "pull_sigmas", "pull", "look"):
            least, greatest = getattr(self, name)
            if not 0 <= least <= greatest:
                raise ValueError(f"{name} must be two numbers of at least 0, the smaller first")
        return self


@trader("market_makers")
class MarketMakers(Population):
    """Firms that quote both sides of a book."""

    config: MarketMakersConfig

    def setup(self) -> None:
        """Lay out the firms; all quote in the first step and differ from then on."""
        c, n = self.config, self.size
        instrument = self.model.scenario.instruments[c.instrument]
        price = instrument.reference_price or 0.0
        draw = self.random("firm").random((2, n))
        committed = np.asarray(c.capital, np.float64) * c.book_share
        self._coins = committed / 2.0 / price
        self._firms = firms = np.zeros(n, FIRM)
        firms["target_lots"] = np.floor(self._coins / instrument.lot)
        firms["limit_lots"] = np.floor(c.inventory_limit * self._coins / instrument.lot)
        firms["share"] = committed / committed.sum() if n else committed
        firms["half_spread"] = c.half_spread[0] + (c.half_spread[1] - c.half_spread[0]) * draw[0]
        firms["pull_at"] = c.pull_sigmas[0] + (c.pull_sigmas[1] - c.pull_sigmas[0]) * draw[1]
        firms["fair"] = price / instrument.tick
        firms["size"] = 1.0
        firms["equity_from"] = -np.inf  # the first step's worth takes its place
        firms["loss_limit"] = c.loss_limit * committed / (instrument.tick * instrument.lot)
        sigma = c.calm_volatility * math.sqrt(60.0 / YEAR)
        self._state = np.zeros(1, STATE)
        self._state["fast"] = self._state["slow"] = sigma**2
        self._terms = np.zeros(1, TERMS)
        for name, value in {
            "depth_lot_ticks": c.depth_usd / (instrument.tick * instrument.lot),
            "exponent": c.depth_exponent,
            "outermost_bps": c.outermost_bps,
            "calm_sigma": sigma,
            "size_exponent": c.size_exponent,
            "lean": c.lean,
            "impact": c.impact_bps * BPS / 1e6 * instrument.tick * instrument.lot,  # of a lot-tick
            "stop_side_at": c.stop_side_at,
            "pull_min": c.pull[0],
            "pull_max": c.pull[1],
            "return_size": c.return_size,
            "return_half_life": c.return_half_life,
            "look_min": c.look[0],
            "look_max": c.look[1],
            "keep": c.keep,
            "stale": c.stale,
            "fair_half_life": c.memory,
            "fast_half_life": c.fast,
            "slow_half_life": c.slow,
            "levels": c.levels,
            "max_tick": instrument.n_ticks - 1,
        }.items():
            self._terms[name] = value
        self._state["lots"] = int(firms["target_lots"].sum())
        self._out = np.zeros(n * (1 + 2 * c.levels), MESSAGE)
        self._value = self.model.fundamental(c.instrument)  # as of the last step
        luck = self.random("time")
        self._luck = Block(lambda k: luck.random(k))
        self.every_step = True

    def endow(self) -> tuple[Numbers, Numbers]:
        """The committed capital, half in cash and half in coins."""
        return np.asarray(self.config.capital) * self.config.book_share / 2.0, self._coins

    @property
    def away(self) -> npt.NDArray[np.bool_]:
        """Which firms have stepped back."""
        return np.asarray(self._firms["back_at"] > self.model.seconds)

    def decide(self, view: View) -> Records | None:
        """Quotes of the firms that look now, each after the withdrawal of its old ones."""
        book = view[self.config.instrument]
        tick = book.instrument.tick
        block = slice(self.first, self.first + self.size)
        position = self.model.position[block, book.index]
        mid = book.mid / tick
        # Worth of what it did, in lot-ticks: the coins it always holds are hedged elsewhere.
        equity = self.model.cash[block] / float(book.instrument.unit) + (position - self._firms["target_lots"]) * mid
        step_s = self.model.scenario.clock.step
        minute = book.return_over(60.0) if view.seconds >= 60.0 else math.nan
        value = self.model.fundamental(self.config.instrument)
        n: Any = quotes(
            self._firms,
            self._state,
            self._terms,
            self._out,
            self._luck.take(2 * self.size),
            self.first,
            book.index,
            view.seconds,
            step_s,
            mid,
            (value / self._value) ** self.config.news,
            minute,
            position,
            equity,
        )
        self._value = value
        return self._out[:n]
