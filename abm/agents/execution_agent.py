"""An institution that has one large order to trade, and a time to begin: what such an order does to the market, and what it costs."""

import math
from typing import Literal

from pydantic import Field, model_validator

from abm.agents.base import Numbers, Population, TraderConfig, trader
from abm.agents.execution import TWAP, Style
from abm.agents.view import View
from abm.clock import Seconds
from abm.exchange.messages import Reason, Records, Side


class ExecutionAgentConfig(TraderConfig):
    """An institution with one parent order."""

    accounts: int = Field(1, ge=0, le=1, description="one, or none", examples=[1])
    side: Literal["buy", "sell"] = Field("sell", description="what it does", examples=["sell"])
    quantity: float = Field(1000.0, gt=0, description="coins or shares to trade", examples=[1000])
    start: Seconds = Field(0.0, ge=0, description="when it begins, from the start of the run", examples=["1h"])
    style: Style = Field(
        TWAP(), description="how it is worked", examples=[{"style": "participation", "rate": 0.1, "duration": "4h"}]
    )
    cash: float | None = Field(
        None, ge=0, description="currency it starts with; none: twice what it needs at the reference price"
    )
    coins: float | None = Field(None, ge=0, description="coins or shares it starts with; none: what it sells")

    @model_validator(mode="after")
    def _has_what_it_sells(self) -> "ExecutionAgentConfig":
        if self.side == "sell" and self.coins is not None and self.coins < self.quantity:
            raise ValueError(f"coins = {self.coins:g} are less than quantity = {self.quantity:g}; raise coins")
        return self


@trader("execution_agent")
class ExecutionAgent(Population):
    """One account that works one parent order, and knows what that has cost so far.

    Costs are those of its fills, fees left out, and not a number before the first.
    """

    config: ExecutionAgentConfig

    def setup(self) -> None:
        """Wake once, at the start of its order."""
        self._parent = -1
        self.model.schedule_event(
            self.wake, at=max(self.model.scenario.clock.units(self.config.start), self.model.time)
        )

    def endow(self) -> tuple[Numbers, Numbers]:
        """The coins it sells, or the cash it needs; cash only where the instrument has margin."""
        c = self.config
        instrument = self.model.scenario.instruments[c.instrument]
        pays = c.side == "buy" or instrument.margin is not None
        cash = 2.0 * c.quantity * (instrument.reference_price or 0.0) if pays else 0.0
        coins = 0.0 if pays else c.quantity
        return cash if c.cash is None else c.cash, coins if c.coins is None else c.coins

    def decide(self, view: View) -> Records | None:
        """Hand the order to the desk, which sends its children."""
        c = self.config
        side = Side.BUY if c.side == "buy" else Side.SELL
        numbers = self.work(view[c.instrument], side, c.quantity, c.style, reason=Reason.EXECUTION)
        self._parent = int(numbers[0]) if len(numbers) else -1
        return None

    @property
    def filled(self) -> float:
        """Coins or shares traded so far."""
        return self._of("filled", 0.0)

    @property
    def arrival_price(self) -> float:
        """The mid price when it began, in currency."""
        return self._of("arrival_price")

    @property
    def average_price(self) -> float:
        """Mean price of its fills, in currency."""
        return self._of("average_price")

    @property
    def shortfall(self) -> float:
        """Implementation shortfall (Perold 1988) of what is filled: currency lost by not trading at the arrival price."""
        return self._of("shortfall")

    @property
    def shortfall_bps(self) -> float:
        """Implementation shortfall in basis points of the arrival price."""
        return self._of("shortfall_bps")

    @property
    def done(self) -> bool:
        """Whether nothing more will be traded."""
        return bool(self._of("done", 0.0))

    def _of(self, column: str, before: float = math.nan) -> float:
        if self._parent < 0 or self.desk is None:
            return before
        return float(self.desk.table()[column].iloc[self._parent])
