"""Correlation traders: they trade one instrument because another has moved.

They see the price in another market, not what is known there, and infer it (King and Wadhwani 1990, Review of Financial Studies 3:5: a price moves
by its own news and by w times what has moved elsewhere). Who follows whom, and the weights w, are the edges of the channel `correlation`
into the instrument that they trade. With r_j the log return of leader j since the look before, dt later,

    inferred <- inferred 2^(-dt / half_life) + sum_j w_j r_j,    exposure = equity x min(limit, max(-limit, gain x inferred)),

so that a position is taken when leaders move and given back with that half-life. Nobody asks whether the instrument has moved already, or whether
the leader moved on news or on a forced sale: that makes it contagion, and no arbitrage. A leader whose market is closed says nothing until it
trades again, and then all that it has missed; in a closed instrument nothing is sent.
"""

import numpy as np
import numpy.typing as npt
from pydantic import Field

from abm.agents.base import Floats, Numbers, Population, TraderConfig, trader
from abm.agents.view import BPS, Book, View
from abm.clock import Seconds
from abm.exchange.description import Fraction
from abm.exchange.messages import Phase, Reason, Records, Side


class CorrelationTradersConfig(TraderConfig):
    """Correlation traders in one instrument: spot, of which they can sell what they hold, or one with margin."""

    accounts: int = Field(20, ge=0, le=1_000_000, description="accounts", examples=[20])
    capital: float = Field(
        50e6, ge=0, description="equity of all accounts together at the start, currency", examples=[50e6]
    )
    gain: float = Field(
        10.0, gt=0, le=1000, description="exposure for an inferred return of 1, in equity", examples=[10]
    )
    limit: float = Field(
        0.5,
        gt=0,
        le=0.5,
        description="largest exposure, in equity; of spot so much is held at the start, to sell from",
        examples=[0.5],
    )
    half_life: Seconds = Field(
        3600.0, gt=0, description="after which half of what was inferred is forgotten", examples=["1h"]
    )
    look: Seconds = Field(300.0, gt=0, description="mean time between two looks of an account", examples=["5min"])
    pulse: Seconds = Field(30.0, gt=0, description="time between two rounds of looks", examples=["30s"])
    band: float = Field(
        0.005,
        ge=0,
        lt=1,
        description="an exposure nearer to its aim than this part of the equity is left",
        examples=[0.005],
    )
    participation: Fraction = Field(
        0.1, description="most that a round takes of what is displayed within `slippage` of the mid", examples=[0.1]
    )
    slippage: float = Field(
        0.002, gt=0, lt=0.5, description="no trade further than this fraction from the mid", examples=[0.002]
    )
    account_leverage: float = Field(
        5.0, ge=1, le=1000, description="leverage that accounts are set to where there is margin", examples=[5]
    )


@trader("correlation_traders")
class CorrelationTraders(Population):
    """Takers who expect one market to go where others have gone."""

    channel = "correlation"
    config: CorrelationTradersConfig

    def setup(self) -> None:
        """Know whom to watch, from their prices at the start on."""
        c, described, view = self.config, self.model.scenario, self.model.view()
        leaders = described.channels.correlation.follows.get(c.instrument, {})
        if not leaders and not self.silent:
            raise ValueError(
                f"traders.{self.name}: nothing leads {c.instrument}; name its leaders in channels.correlation.follows.{c.instrument}"
            )
        self.leaders = tuple(leaders)
        """Whom they watch."""
        self.weights = np.array(list(leaders.values()))
        """w of each leader."""
        self.inferred = 0.0
        """Log return of the instrument that is still expected of what leaders did."""
        self._seen = np.log([view[name].mid for name in leaders])
        self._looked_at = self.model.seconds
        margin, price = described.instruments[c.instrument].margin, view[c.instrument].mid
        each = c.capital / max(self.size, 1)
        self._base = c.limit * each / price if margin is None else 0.0  # coins of each account without any signal
        self._cash = each - self._base * price
        if margin is not None:
            self.set_leverage(c.instrument, min(c.account_leverage, margin.leverage))
        self._wakeups = self.wakeups(c.look)
        self.wake_every(max(c.pulse, described.clock.step))

    def endow(self) -> tuple[Numbers, Numbers]:
        """The base in coins and the rest of the capital in cash."""
        return self._cash, self._base

    def decide(self, view: View) -> Records | None:
        """Infer what leaders tell; those who look trade towards the exposure that it asks for."""
        self._infer(view)
        book, who = view[self.config.instrument], self._wakeups.due(view.seconds)
        return self._toward(book, who) if len(who) and book.phase == Phase.CONTINUOUS else None

    def _infer(self, view: View) -> None:
        """Forget by the half-life, and take in the returns of leaders that trade."""
        books = [view[name] for name in self.leaders]
        logs = np.log([book.mid for book in books])
        seen = np.where([book.phase == Phase.CONTINUOUS for book in books], logs, self._seen)
        forgotten = 0.5 ** ((view.seconds - self._looked_at) / self.config.half_life)
        self.inferred = float(self.inferred * forgotten + self.weights @ (seen - self._seen))
        self._seen, self._looked_at = seen, view.seconds

    def _toward(self, book: Book, who: npt.NDArray[np.int64]) -> Records:
        """Orders that bring some accounts to their aim, as far as the book's depth allows."""
        c, margined = self.config, book.instrument.margin is not None
        held = self.holdings(who=who)
        equity = np.maximum(self.margin_equity(who) + (0.0 if margined else held * book.mid), 0.0)
        tilt = min(c.limit, max(-c.limit, c.gain * self.inferred))
        wanted = self._base + tilt * equity / book.mid
        change = (wanted if margined else np.maximum(wanted, 0.0)) - held
        far = np.abs(change) * book.mid > c.band * equity
        who, change = who[far], change[far]
        buys = change > 0
        return self.market(
            book,
            np.where(buys, Side.BUY, Side.SELL),
            np.abs(change) * np.where(buys, *self._parts(book, change)),
            who=who,
            reason=Reason.TREND,
            slippage=c.slippage,
        )

    def _parts(self, book: Book, change: Floats) -> tuple[float, float]:
        """Part of all purchases, and of all sales, that leaves enough of the book to others."""
        bids, asks = self.model.exchange.depth_within(book.index, self.config.slippage / BPS)
        room = self.config.participation * book.instrument.lot
        bought, sold = float(change[change > 0].sum()), float(-change[change < 0].sum())
        return min(1.0, room * asks / bought) if bought else 1.0, min(1.0, room * bids / sold) if sold else 1.0
