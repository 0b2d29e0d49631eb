"""Value traders: each has a worth in mind and rests a bid below it and an offer above it. Patient, and with finite means.

Together they are the latent order book: what is bid within a discount x of the fundamental value grows as x to a power above one, so
that demand grows faster than in proportion to the discount (MECHANICS 13; Donier, Bonart, Mastromatteo and Bouchaud 2015 for the
power 2, which makes impact grow with the square root of volume). Accounts learn from the price too, each to its own degree, so that
demand and supply form anew around where the market trades. In a future or perpetual they rest both sides on margin.
"""

import numpy as np
from pydantic import Field

from abm.agents.base import Ints, Numbers, Population, TraderConfig, trader
from abm.agents.view import Book, View
from abm.clock import Seconds
from abm.exchange.messages import Phase, Reason, Records, join

_HOUR = 3600.0
_HOURS = 8760.0  # in a year
_LEVERAGE = 4.0  # in derivatives: both sides rest at once, and what is held must be carried too


class ValueConfig(TraderConfig):
    """Value traders."""

    accounts: int = Field(300, ge=0, le=10_000_000, description="accounts", examples=[300])
    demand: float = Field(
        1.5e9,
        ge=0,
        description="currency bid within `within` below the value; as much is offered above",
        examples=[1.5e9],
    )
    within: float = Field(0.2, gt=0, lt=1, description="fraction of the value", examples=[0.2])
    power: float = Field(
        1.5, ge=1, le=5, description="demand within a discount x grows as x to this power", examples=[1.5]
    )
    reach: float = Field(0.3, gt=0, lt=1, description="largest discount or premium anyone waits for", examples=[0.3])
    nearest: float = Field(
        0.001, ge=0, lt=1, description="smallest discount or premium anyone waits for", examples=[0.001]
    )
    anchoring: float = Field(
        0.5,
        ge=0,
        le=1,
        description="mean weight of the price itself in what an account holds for the value; each has its own, as far from it as 0 and 1 allow",
        examples=[0.5],
    )
    look: Seconds = Field(600.0, gt=0, description="mean time between two looks of an account", examples=["10min"])
    pulse: Seconds = Field(5.0, gt=0, description="time between two rounds of looks", examples=["1min"])
    alarm: float | None = Field(
        None,
        gt=0,
        description="change of the value, in an account's own discounts, that makes it look at once. None: no news does",
        examples=[1.0],
    )
    caution: float = Field(
        0.0,
        ge=0,
        le=2,
        description="discounts grow as what the market lost in hours of late, over `calm_volatility`, to this power",
        examples=[0.5],
    )
    calm_volatility: float = Field(
        0.42, gt=0, le=5, description="a year; up to it discounts are as drawn", examples=[0.42]
    )
    memory: Seconds = Field(21_600.0, gt=0, description="time constant of what they remember of falls", examples=["6h"])
    learning: Seconds | None = Field(
        None,
        gt=0,
        description="time constant with which they take prices that stay away from the value for the value. None: they do not",
        examples=["2d"],
    )
    display: float = Field(0.1, gt=0, le=1, description="fraction of a resting order that is shown", examples=[0.1])


@trader("value")
class ValueTraders(Population):
    """Resting demand and supply around the fundamental value."""

    config: ValueConfig

    def setup(self) -> None:
        """Spread the accounts over discounts."""
        c = self.config
        self.discount = c.nearest + (c.reach - c.nearest) * self.random("discount").random(self.size)
        """Each account's distance from the value, as a fraction."""
        least = max(2.0 * c.anchoring - 1.0, 0.0)
        self.anchoring = least + 2.0 * (c.anchoring - least) * self.random("anchoring").random(self.size)
        """Each account's weight of the price in what it holds for the value."""
        self._wakeups = self.wakeups(c.look)
        self._arrived = False
        self._seen = np.full(self.size, self.model.worth(c.instrument))
        self._fallen, self._learnt, self._before = 0.0, 0.0, self.model.seconds
        traded = self._instruments[self.model.exchange.index(c.instrument)]
        self._owned = traded.kind == "spot"
        if not self._owned and traded.margin is not None:
            self.set_leverage(c.instrument, min(_LEVERAGE, traded.margin.leverage))
        self.wake_every(max(c.pulse, self.model.scenario.clock.step))

    def endow(self) -> tuple[Numbers, Numbers]:
        """Means in proportion to the density of demand at each account's discount."""
        c = self.config
        weight = self.discount ** (c.power - 1.0)
        total = c.demand * (c.reach / c.within) ** c.power
        self._stake = total * weight / weight.sum() if self.size else weight
        return self._stake, self._stake / self.model.worth(c.instrument) if self._owned else 0.0

    def decide(self, view: View) -> Records | None:
        """Those who look take their orders back and place them anew: all cash below the value, all coins above it."""
        book = view[self.config.instrument]
        if book.phase == Phase.CLOSED:
            return None
        value = self.model.worth(self.config.instrument)
        elapsed, self._before = view.seconds - self._before, view.seconds
        asks_for, believed = self._caution(book, elapsed), value * self._lesson(book.mid / value, elapsed)
        who = self._looking(view.seconds, value)
        if len(who) == 0:
            return None
        discount = self.discount[who] * asks_for
        held_for = believed * (book.mid / believed) ** self.anchoring[who]
        below, above = held_for * np.exp(-discount), held_for * np.exp(discount)
        fee = book.instrument.fees[min(self.config.tier, len(book.instrument.fees) - 1)].taker
        held = self.holdings(who=who)
        if self._owned:
            bids, offers = self.cash[who] / (below * (1.0 + fee)), held
        else:
            bids, offers = self._stake[who] / below - held, self._stake[who] / above + held
        terms = {"who": who, "reason": Reason.VALUE, "display": self.config.display}
        return join(
            [
                self.cancel_all(book, who),
                self.limit_buy(book, below, np.maximum(bids, 0.0), **terms),
                self.limit_sell(book, above, np.maximum(offers, 0.0), **terms),
            ]
        )

    def _caution(self, book: Book, elapsed: float) -> float:
        """How many times as large a discount they ask for as in a calm: the deviation of falls, as of a symmetric return, over that of a calm."""
        c = self.config
        if c.caution == 0.0:
            return 1.0
        fall = min(np.log(book.mid / book.mid_before(_HOUR)), 0.0)
        self._fallen += -np.expm1(-elapsed / c.memory) * (fall**2 - self._fallen)
        risk = np.sqrt(2.0 * self._fallen * _HOURS)
        return float(max(risk / c.calm_volatility, 1.0) ** c.caution)

    def _lesson(self, price: float, elapsed: float) -> float:
        """What prices of late have taught of the value, as a factor; `price` is in values."""
        if self.config.learning is None:
            return 1.0
        self._learnt += -np.expm1(-elapsed / self.config.learning) * (np.log(price) - self._learnt)
        return float(np.exp(self._learnt))

    def _looking(self, now: float, value: float) -> Ints:
        """Whose turn it is, and who has heard that the value is no longer what its orders stand for."""
        # At the opening the book is as patient people have left it.
        who = self._wakeups.due(now) if self._arrived else np.arange(self.size)
        self._arrived = True
        if self.config.alarm is not None:
            alarmed = np.abs(np.log(value / self._seen)) > self.config.alarm * self.discount
            who = np.union1d(who, np.flatnonzero(alarmed))
            self._seen[who] = value
        return who
