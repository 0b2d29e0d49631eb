"""Hedgers: miners, refiners and owners of what futures are written on, who have sold what they own or will produce.

They are the other side of what funds hold of a future at the start, as commercials are in the reports of futures exchanges, and keep it: what a
position loses, the metal or the oil gains. The cash behind it is all that they may lose.
"""

import numpy as np
from pydantic import Field

from abm.agents.base import Ints, Population, TraderConfig, trader


class HedgersConfig(TraderConfig):
    """Hedgers."""

    instrument: str = Field("gold", description="future that they hold the other side of", examples=["gold"])
    accounts: int = Field(10, ge=0, le=100_000, description="accounts", examples=[10])
    margin: float = Field(
        1.0, gt=0, le=10, description="cash behind a position, as a part of its worth at the start", examples=[1.0]
    )


@trader("hedgers")
class Hedgers(Population):
    """Accounts that take the other side of a future at the start, in equal parts, and keep it."""

    config: HedgersConfig

    def setup(self) -> None:
        """They never decide."""
        margin = self.model.scenario.instruments[self.config.instrument].margin
        if margin is None:
            raise ValueError(f"traders.{self.name}.instrument: {self.config.instrument} has no margin; name a future")
        if self.config.margin < 1.0 / margin.leverage:
            raise ValueError(
                f"traders.{self.name}.margin: {self.config.margin:g} is below the initial margin; raise it"
            )
        # So much that the cash covers the initial margin with something to spare
        self.set_leverage(self.config.instrument, min(1.0 / self.config.margin + 1.0, margin.leverage))

    def balance(self, instrument: str, lots: int) -> Ints | None:
        """Equal parts of what is missing, long or short, with the cash behind it."""
        if instrument != self.config.instrument or self.size == 0:
            return None
        traded = self.model.scenario.instruments[instrument]
        each = np.full(self.size, lots // self.size, np.int64)
        each[: lots - int(each.sum())] += 1
        worth = np.abs(each) * traded.lot * (traded.reference_price or 0.0)
        self.model.house.credit(self.rows, "opening", cash=self.config.margin * worth + 1.0)
        return each
