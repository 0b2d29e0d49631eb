"""Long-term holders: most do nothing; some distribute old coins day by day, and some wait with cash where others once bought.

MECHANICS 4. Coins move at a rate per day (a hazard) that rises with the gain on them and in a fall; only part of what moves is sold here.
Resting demand lies in zones where the cost basis of coins is dense, given with its source. Stocks are finite on both sides.
"""

import numpy as np
from pydantic import Field, model_validator

from abm.agents.base import Numbers, Population, TraderConfig, trader
from abm.agents.view import View
from abm.clock import Seconds
from abm.exchange.description import Frozen
from abm.exchange.messages import Reason, Records, Side, join

DAY = 86400.0


class Zone(Frozen):
    """Resting demand between two prices."""

    low: float = Field(gt=0, description="currency", examples=[66_000])
    high: float = Field(gt=0, description="currency", examples=[71_000])
    coins: float = Field(ge=0, description="coins wanted, spread evenly over the zone", examples=[20_000])
    source: str = Field(min_length=1, description="where the figure comes from", examples=["MECHANICS 4"])

    @model_validator(mode="after")
    def _ordered(self) -> "Zone":
        if self.high <= self.low:
            raise ValueError("high must be greater than low")
        return self


class HoldersConfig(TraderConfig):
    """Long-term holders."""

    accounts: int = Field(400, ge=0, le=10_000_000, description="accounts", examples=[400])
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
        description="price paid in currency, and weight",
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
    market_share: float = Field(
        0.05, ge=0, le=1, description="part of what moves that is sold on this market", examples=[0.05]
    )
    lump: float = Field(3.0, gt=0, description="mean size of a sale in coins", examples=[3])
    every: Seconds = Field(60.0, gt=0, description="time between two rounds of sales", examples=["1min"])
    slippage: float = Field(
        0.003, gt=0, lt=0.5, description="no trade further than this fraction from the mid", examples=[0.003]
    )
    zones: tuple[Zone, ...] = Field((), description="resting demand, with its source")
    display: float = Field(0.05, gt=0, le=1, description="fraction of a resting order that is shown", examples=[0.05])

    @model_validator(mode="after")
    def _costs(self) -> "HoldersConfig":
        if any(price <= 0 or weight < 0 for price, weight in self.cost_basis) or not any(w for _, w in self.cost_basis):
            raise ValueError("cost_basis needs prices above 0 and weights that are not negative, nor all 0")
        return self


@trader("long_term_holders")
class LongTermHolders(Population):
    """Distribution above, resting demand below."""

    config: HoldersConfig

    def setup(self) -> None:
        """Give each account a cohort and a place in each zone."""
        c, n = self.config, self.size
        price, weight = np.array(c.cost_basis, np.float64).T
        self.cost = self.random("cohort").choice(price, n, p=weight / weight.sum())
        """What each account paid for a coin, in currency."""
        where = self.random("zone")
        wide = np.array([[z.low, z.high] for z in c.zones]).reshape(-1, 2)
        self._bids = wide[:, :1] + (wide[:, 1:] - wide[:, :1]) * where.random((len(c.zones), n))
        weight = where.exponential(1.0, (len(c.zones), n))
        self._wanted = (
            np.array([[z.coins] for z in c.zones]).reshape(-1, 1)
            * weight
            / np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)
        )
        self._sales = self.random("sale")
        self._bids_placed = False
        self._last_round = 0.0
        self.wake_every(c.every)

    def endow(self) -> tuple[Numbers, Numbers]:
        """Equal holdings, and the cash for their bids."""
        c = self.config
        fees = self.model.scenario.instruments[c.instrument].fees
        fee = fees[min(c.tier, len(fees) - 1)]
        # One currency unit more than the bids need covers the rounding of prices and fees.
        cash = (self._bids * self._wanted).sum(axis=0) * (1.0 + max(fee.taker, fee.maker)) + 1.0
        return cash, c.coins / max(self.size, 1)

    def decide(self, view: View) -> Records | None:
        """Once, all bids; then in each round the sales of those whose coins move."""
        c, book = self.config, view[self.config.instrument]
        if not self._bids_placed:
            self._bids_placed = True
            terms = {"reason": Reason.ACCUMULATION, "display": c.display}
            bids = [
                self.limit_buy(book, price, wanted, **terms)
                for price, wanted in zip(self._bids, self._wanted, strict=True)
            ]
            return join(bids) if bids else None
        days = (view.seconds - self._last_round) / DAY
        self._last_round = view.seconds
        gain = np.log(book.mid / self.cost)
        fall = max(0.0, -book.return_over(DAY) - 0.05) / 0.1
        hazard = c.hazard * (1.0 + c.gain_effect * np.maximum(gain, 0.0) + c.fall_effect * fall)
        expected = self.free_holdings() * hazard * c.market_share * days
        sales = self._sales.poisson(expected / c.lump)
        who = np.flatnonzero(sales)
        if len(who) == 0:
            return None
        quantity = c.lump * self._sales.gamma(sales[who])
        return self.market(book, Side.SELL, quantity, who=who, reason=Reason.DISTRIBUTION, slippage=c.slippage)
