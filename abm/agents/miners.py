"""Miners: new coins come to them block by block, and they sell what power and policy ask for, reserves last.

MECHANICS 3. The hashprice falls with the coin's price, the power bill does not: a fall makes miners sell more coins.
"""

import numpy as np
from mesa.time import Priority
from pydantic import Field, model_validator

from abm.agents.base import Numbers, Population, TraderConfig, trader
from abm.agents.view import View
from abm.clock import Seconds
from abm.exchange.messages import Reason, Records, Side

DAY = 86400.0
_EFFICIENCY = ((29.5, 0.15), (21.5, 0.25), (18.0, 0.25), (16.0, 0.20), (13.5, 0.12), (9.5, 0.03))
"""J/TH, share of the fleet."""


def hashprice(price: float, difficulty: float, subsidy: float = 3.125, fees: float = 0.01) -> float:
    """Revenue of a unit of hashrate in USD/PH/s/day.

    Args:
        price: USD per coin.
        difficulty: Difficulty of the network.
        subsidy: Coins per block.
        fees: Transaction fees as a fraction of the subsidy.
    """
    return 86400e15 / (difficulty * 2.0**32) * subsidy * (1.0 + fees) * price


class MinersConfig(TraderConfig):
    """Miners; one account is one firm."""

    accounts: int = Field(20, ge=0, le=100_000, description="firms", examples=[20])
    difficulty: float = Field(141.67e12, gt=0, description="difficulty of the network", examples=[141.67e12])
    subsidy: float = Field(3.125, ge=0, description="coins per block", examples=[3.125])
    block_interval: Seconds = Field(600.0, gt=0, description="mean time between blocks", examples=["10min"])
    reserve: float = Field(1.8e6, ge=0, description="coins in reserve, all firms together", examples=[1.8e6])
    cash_days: tuple[float, float] = Field(
        (20.0, 180.0), description="days of power that firms have in cash: least, greatest"
    )
    sell_share: tuple[float, float] = Field(
        (0.6, 1.0), description="part of production that firms sell: least, greatest"
    )
    power_median: float = Field(0.055, gt=0, lt=1, description="median price of power, USD/kWh", examples=[0.055])
    power_sigma: float = Field(0.22, ge=0, le=2, description="standard deviation of its logarithm", examples=[0.22])
    low_cash_days: float = Field(
        60.0, ge=0, description="below so many days of power in cash, reserves are sold", examples=[60]
    )
    reserve_rate: float = Field(
        0.02, ge=0, le=1, description="largest part of the reserve sold in a day", examples=[0.02]
    )
    every: Seconds = Field(3600.0, gt=0, description="time between two sales of a firm", examples=["1h"])
    slippage: float = Field(
        0.005, gt=0, lt=0.5, description="no trade further than this fraction from the mid", examples=[0.005]
    )

    @model_validator(mode="after")
    def _ordered(self) -> "MinersConfig":
        for name in ("cash_days", "sell_share"):
            least, greatest = getattr(self, name)
            if not 0 <= least <= greatest:
                raise ValueError(f"{name} must be two numbers of at least 0, the smaller first")
        return self


@trader("miners")
class Miners(Population):
    """Firms that mine and sell."""

    config: MinersConfig

    def setup(self) -> None:
        """Draw the fleet, and wait for the first block."""
        c, n = self.config, self.size
        weight = np.exp(self.random("hashrate").standard_normal(n))
        self._share = weight / weight.sum() if n else weight
        joules, shares = np.array(_EFFICIENCY).T
        efficiency = self.random("efficiency").choice(joules, n, p=shares)
        power = c.power_median * np.exp(c.power_sigma * self.random("power").standard_normal(n))
        hashrate_ph = c.difficulty * 2.0**32 / 600.0 / 1e15
        self.power_bill = 24.0 * efficiency * power * hashrate_ph * self._share
        """Currency a day: 24 e c a PH (a J/TH is a kW/PH)."""
        self.sells = c.sell_share[0] + (c.sell_share[1] - c.sell_share[0]) * self.random("policy").random(n)
        """Part of its production that a firm sells."""
        self._days = c.cash_days[0] + (c.cash_days[1] - c.cash_days[0]) * self.random("treasury").random(n)
        self._blocks = self.random("blocks")
        self._unsold = np.zeros(n)  # coins of production that are to be sold
        self._bills_due_since = 0.0
        self.blocks = 0
        """Blocks found since the start."""
        if n:
            self._wait_for_block()
            self.wake_every(c.every, start=self.random("phase").random() * c.every)

    def _wait_for_block(self) -> None:
        after = self._blocks.exponential(self.model.scenario.clock.units(self.config.block_interval))
        self.model.schedule_event(self._find_block, after=after, priority=Priority.LOW)

    def _find_block(self) -> None:
        """A block: new coins for all firms, by hashrate, as a pool would share them out."""
        coins = self.config.subsidy * self._share
        self.model.house.credit(self.rows, "block reward", coins=coins, instrument=self.config.instrument)
        self._unsold += coins * self.sells
        self.blocks += 1
        self._wait_for_block()

    def endow(self) -> tuple[Numbers, Numbers]:
        """Some days of power in cash, and the reserve by hashrate."""
        return self.power_bill * self._days, self.config.reserve * self._share

    def decide(self, view: View) -> Records | None:
        """Sell production, or as much as pays for power; where cash runs low, some of the reserve."""
        c, book = self.config, view[self.config.instrument]
        days = (view.seconds - self._bills_due_since) / DAY
        self._bills_due_since = view.seconds
        # Bills are paid at the month's end; until then they only make firms sell.
        short = self.cash < c.low_cash_days * self.power_bill
        for_power = np.where(short, self.power_bill * days / book.mid, 0.0)
        from_reserve = np.minimum(np.maximum(for_power - self._unsold, 0.0), c.reserve_rate * days * self.holdings())
        quantity = self._unsold + from_reserve
        self._unsold[:] = 0.0
        return self.market(book, Side.SELL, quantity, reason=Reason.MINING, slippage=c.slippage)
