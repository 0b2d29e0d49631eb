"""Options dealers: short what customers bought, and hedged, so that they sell into a fall what the gamma they are short asks for.

MECHANICS 7. Customers hold puts and calls, given with their source; dealers hold the other side and trade its delta in a perpetual or
in coins, each after moves of its own size and at times of its own. The delta is that of the surface of implied volatility as it then is
(`abm.world.options`), so that a rise of volatility makes them sell too. At new lows customers buy more puts of 25 delta, which dealers
sell: that adds to the gamma they are short, and to the skew.

What is put in: the open interest, the two ends of the surface, how much customers buy in a fall. What comes out of the run: the hedging
and what it does to the price, and with realised volatility, the fall and the demand for puts, when and how far skew and term structure
move. Customers are outside the market: neither premiums nor what is paid at expiry move cash in the ledger.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, model_validator

from abm.agents.base import Coins, Numbers, Population, TraderConfig, trader
from abm.agents.hedging import hedge, recent_volatility
from abm.agents.view import Book, View
from abm.clock import Seconds, Utc
from abm.exchange.description import Frozen
from abm.exchange.gateway import Latency
from abm.exchange.messages import Records
from abm.world.fundamental import YEAR
from abm.world.options import OptionSurface, SurfaceTerms, black_scholes, delta_strike

if TYPE_CHECKING:
    import pandas as pd

CONTRACT = np.dtype(
    [
        ("strike", np.float64),  # currency
        ("expires", np.float64),  # seconds since the start of the run
        ("coins", np.float64),  # that customers are long
        ("call", np.bool_),
    ]
)
_NOTED = ("seconds", "price", "realised", "sold", "delta", "gamma")
_SOLD_FROM = 2.0 * 86400.0  # puts that expire sooner are not what customers buy for protection


class OpenInterest(Frozen):
    """Options of one strike and expiry that customers hold."""

    expiry: Utc = Field(description="UTC", examples=["2026-02-27T08:00Z"])
    strike: float = Field(gt=0, description="currency", examples=[60_000])
    coins: float = Field(
        description="that customers are long and dealers short; negative: the other way", examples=[8_000]
    )
    option: Literal["put", "call"] = Field("put", description="right to sell, or to buy")
    source: str = Field(
        min_length=1, description="where the figure comes from", examples=["observations: options.puts"]
    )


class OptionsDeskConfig(TraderConfig):
    """Options dealers; one account is one firm, with an equal part of the business."""

    instrument: str = Field("btc-perp", description="instrument it hedges in", examples=["btc-perp", "btc-spot"])
    accounts: int = Field(5, ge=0, le=1000, description="firms", examples=[5])
    tier: int = Field(1, ge=0, le=255, description="fee tier: an index into the instrument's fees", examples=[1])
    latency: Latency = Field(Latency(base=2.0, spread=5.0), description="time from a decision to the exchange")
    open_interest: tuple[OpenInterest, ...] = Field((), description="what customers hold at the start, with its source")
    surface: SurfaceTerms = Field(SurfaceTerms(), description="implied volatility in the calm and in a crash")
    volatility_before: float = Field(
        0.42, gt=0, le=10, description="realised volatility a year before the run", examples=[0.42]
    )
    high_before: float = Field(
        0.0, ge=0, description="highest price of the days before the run, currency; 0 = that of the start"
    )
    window: Seconds = Field(43_200.0, gt=0, description="over which volatility is measured [A]", examples=["12h"])
    demand: float = Field(
        0.5,
        ge=0,
        le=100,
        description="puts that customers buy for each unit of fall to a new low, as a part of those at the start [A]",
        examples=[0.5],
    )
    band: tuple[float, float] = Field(
        (0.005, 0.01), description="move after which a firm hedges anew: least and greatest of the firms"
    )
    clock: tuple[Seconds, Seconds] = Field(
        (900.0, 3600.0), description="time after which it does: least and greatest", examples=[["15min", "1h"]]
    )
    look: Seconds = Field(60.0, gt=0, description="time between two looks at the price", examples=["1min"])
    cash: float = Field(500e6, ge=0, description="currency of all firms together", examples=[500e6])
    leverage: float = Field(5.0, ge=1, le=100, description="with which it holds a hedge that has margin", examples=[5])
    slippage: float = Field(
        0.01, gt=0, lt=0.5, description="no trade further than this fraction from the mid", examples=[0.01]
    )

    @model_validator(mode="after")
    def _ordered(self) -> "OptionsDeskConfig":
        for name in ("band", "clock"):
            least, greatest = getattr(self, name)
            if not 0 < least <= greatest:
                raise ValueError(f"{name} must be two numbers above 0, the smaller first")
        return self


@trader("options_desk")
class OptionsDesk(Population):
    """Dealers who hedge the options they sold."""

    config: OptionsDeskConfig

    def setup(self) -> None:
        """Write down the contracts and the surface, draw each firm's habits."""
        c, n, scenario = self.config, self.size, self.model.scenario
        self._instrument = scenario.instruments[c.instrument]
        price = self._instrument.reference_price or 0.0
        self.contracts = np.array(
            [(o.strike, scenario.clock.seconds_at(o.expiry), o.coins, o.option == "call") for o in c.open_interest],
            CONTRACT,
        )
        """What customers hold: records of `CONTRACT`."""
        self.surface = OptionSurface(c.surface, c.volatility_before)
        self._highest, self._lowest = max(price, c.high_before), price
        coins, call = self.contracts["coins"], self.contracts["call"]
        self._puts = float(coins[~call].sum())
        self._puts_sold = 0.0  # coins of puts since then
        self._inventory = (
            0.0  # coins beside the hedge, since nobody sells coins he has not: as many as it can come to be short of
        )
        if self._instrument.kind == "spot":
            self._inventory = float(np.maximum(np.where(call, -coins, coins), 0.0).sum()) + c.demand * max(
                self._puts, 0.0
            )
        self._band, self._clock = (
            least + (greatest - least) * self.random(name).random(n)
            for name, (least, greatest) in (("band", c.band), ("clock", c.clock))
        )
        self._hedged_price = np.full(n, price)
        self._hedged_at = -self._clock * self.random("phase").random(n)
        self._history: list[tuple[float, ...]] = []
        if self._instrument.margin is not None:
            self.set_leverage(c.instrument, c.leverage)
        self.wake_every(c.look)

    def endow(self) -> tuple[Numbers, Coins]:
        """Cash; and where it hedges in coins, the hedge and enough of them to sell one for each put."""
        each = max(self.size, 1)
        if self._instrument.kind != "spot":
            return self.config.cash / each, {}
        return self.config.cash / each, (self._inventory + self._opening_delta()) / each

    def open_positions(self) -> Mapping[str, tuple[Numbers, Numbers]]:
        """The hedge of the options that it is short at the start, entered at the price of the start."""
        if self._instrument.kind == "spot" or not len(self.contracts):
            return {}
        hedge_each = self._opening_delta() / max(self.size, 1)
        return {self.config.instrument: (hedge_each, self._instrument.reference_price or 0.0)}

    def _opening_delta(self) -> float:
        return self.sensitivities(self._instrument.reference_price or 0.0, 0.0)[0]

    # ------------------------------------------------------------------ what it is short of

    def sensitivities(self, price: float, now: float) -> tuple[float, float]:
        """Delta (coins) and gamma (coins for each unit of currency) of what customers hold; dealers have the opposite.

        Args:
            price: Of a coin, in currency.
            now: Seconds since the start of the run. What has expired counts no more.
        """
        live = self.contracts[self.contracts["expires"] > now]
        years = (live["expires"] - now) / YEAR
        volatility = self.surface.volatility(np.log(live["strike"] / price), years)
        value = black_scholes(price, live["strike"], volatility, years, live["call"])
        return float(live["coins"] @ value.delta), float(live["coins"] @ value.gamma)

    @property
    def gamma(self) -> float:
        """Net gamma of all dealers now: coins for each unit of currency that the price moves; below 0 they sell into falls."""
        return -self.sensitivities(self.model.view()[self.config.instrument].mid, self.model.seconds)[1]

    @property
    def skew(self) -> float:
        """25-delta risk reversal of the longest slice of the surface, as last quoted: implied volatility of calls less that of puts."""
        return self.surface.quotes()[-1][1].rr25

    @property
    def term_structure(self) -> float:
        """Implied volatility at the money of the shortest slice less that of the longest; above 0 it is inverted."""
        quotes = self.surface.quotes()
        return quotes[0][1].atm - quotes[-1][1].atm

    def gauges(self) -> Mapping[str, float]:
        """Risk reversal and term structure, as last quoted."""
        return {"risk_reversal": self.skew, "term_structure": self.term_structure}

    @property
    def history(self) -> "pd.DataFrame":
        """One row for each time that somebody hedged.

        Columns: `seconds` since the start of the run, `price`, `realised` volatility, `sold` (coins of puts sold in the run), `delta` (coins
        that all firms hedge to), `gamma` (theirs), and for each slice `atm_7d`, `rr25_7d`, `bf25_7d` and so on.
        """
        import pandas as pd

        days = [f"{tenor.days:g}d" for tenor in self.config.surface.calm]
        columns = [f"{quote}_{day}" for day in days for quote in ("atm", "rr25", "bf25")]
        return pd.DataFrame(self._history, columns=[*_NOTED, *columns])

    def _sell_protection(self, price: float, now: float) -> None:
        """Sell customers the puts of 25 delta that they want at a new low, in the nearest expiry that protects."""
        wanted = self.config.demand * max(self._puts, 0.0) * math.log(max(self._lowest / price, 1.0))
        self._lowest = min(self._lowest, price)
        expiries = self.contracts["expires"][self.contracts["expires"] > now + _SOLD_FROM]
        if wanted <= 0.0 or len(expiries) == 0:
            return
        years = (expiries.min() - now) / YEAR
        k = delta_strike(lambda x: float(self.surface.volatility(x, years)), years, -0.25)
        sold = np.array([(price * math.exp(k), expiries.min(), wanted, False)], CONTRACT)
        self.contracts = np.concatenate((self.contracts, sold))
        self._puts_sold += wanted

    def _quote(self, book: Book, now: float) -> float:
        """Sell what customers want, and let the surface follow the market; the delta that is then to be hedged."""
        c, price = self.config, book.mid
        self._sell_protection(price, now)
        realised = recent_volatility(book, c.window, self.model.scenario.clock.step, c.volatility_before)
        self.surface.move(realised, 1.0 - price / self._highest, self._puts_sold / max(self._puts, 1.0))
        delta, gamma = self.sensitivities(price, now)
        quotes = [quote for _, quotes in self.surface.quotes() for quote in quotes]
        self._history.append((now, price, realised, self._puts_sold, delta, -gamma, *quotes))
        return delta

    def decide(self, view: View) -> Records | None:
        """Hedge the firms whose band the price has left, or whose time has come."""
        c, book, now = self.config, view[self.config.instrument], view.seconds
        self._highest = max(self._highest, book.mid)
        moved = np.abs(book.mid / self._hedged_price - 1.0) >= self._band
        who = np.flatnonzero(moved | (now - self._hedged_at >= self._clock))
        if len(who) == 0:
            return None
        target = np.full(len(who), (self._inventory + self._quote(book, now)) / self.size)
        self._hedged_price[who], self._hedged_at[who] = book.mid, now
        return hedge(self, book, target, c.slippage, c.leverage, who)
