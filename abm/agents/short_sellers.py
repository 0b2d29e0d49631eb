"""Short sellers: they sell into a fall, and are squeezed when the price comes back.

A fall through the low of the last days calls them in; they are trapped where the price returns before they cover, and their covering is
the squeeze. A model of the event with only long liquidations is wrong (MECHANICS 1).
"""

import numpy as np
from pydantic import Field

from abm.agents.base import Floats, Ints, trader
from abm.agents.leveraged import LeveragedConfig, LeveragedTraders
from abm.agents.view import View
from abm.clock import Seconds


class ShortSellersConfig(LeveragedConfig):
    """Short sellers."""

    accounts: int = Field(20_000, ge=0, le=10_000_000, description="accounts", examples=[20_000])
    look: Seconds = Field(
        3600.0, gt=0, description="mean time between two looks of an account when nothing moves", examples=["1h"]
    )
    entering: Seconds = Field(
        7200.0, gt=0, description="mean time until who has no position takes one, at a signal of 1", examples=["2h"]
    )
    leverage: tuple[float, float] = Field(
        (3.0, 20.0), description="leverage: least, greatest; spread evenly in logarithms"
    )
    money: float = Field(300e6, ge=0, description="currency of all accounts together", examples=[300e6])
    size_sigma: float = Field(
        1.5, ge=0, le=4, description="standard deviation of the logarithm of an account's money", examples=[1.5]
    )
    window: Seconds = Field(10_800.0, gt=0, description="over which the fall is measured", examples=["3h"])
    fall_median: float = Field(
        0.025, gt=0, lt=1, description="median fall over it that calls an account in", examples=[0.025]
    )
    panic_median: float = Field(
        0.06,
        gt=0,
        lt=5,
        description="median adverse move within a day, and since it entered, that makes an account give up",
        examples=[0.06],
    )


@trader("short_sellers")
class ShortSellers(LeveragedTraders):
    """Accounts that are short or nothing."""

    config: ShortSellersConfig

    def leverages(self) -> Floats:
        """Spread evenly in logarithms."""
        least, greatest = self.config.leverage
        self.fall_at = self._threshold("fall", self.config.fall_median, self.size)
        """Fall over the window that calls each account in."""
        return np.asarray(least * (greatest / least) ** self.random("leverage").random(self.size))

    def money(self) -> Floats:
        """Lognormal."""
        size = np.exp(self.config.size_sigma * self.random("size").standard_normal(self.size))
        return np.asarray(self.config.money * size / size.sum() if self.size else size)

    def signal(self, view: View, who: Ints) -> Floats:
        """Short where the fall is deeper than the account waits for."""
        fall = -view[self.config.instrument].return_over(self.config.window)
        return -np.maximum(fall / self.fall_at[who] - 1.0, 0.0)
