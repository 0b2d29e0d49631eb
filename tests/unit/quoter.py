"""A trader that keeps the price on a path, so that one can see what others do there."""

from collections.abc import Sequence

import numpy as np

import abm
from abm.agents.view import View
from tests.unit.walls import Wall


class Quoter(Wall):
    """A wall whose price follows a path."""

    def __init__(
        self,
        market: abm.Market,
        instrument: str = "btc-spot",
        prices: Sequence[float] = (73_100.0,),
        hours: Sequence[float] = (0.0,),
        size: float = 1e5,
    ) -> None:
        """Join a market.

        Args:
            market: The market.
            instrument: What it quotes.
            prices: Points of the path, in currency; straight lines between them.
            hours: When they are reached, since the start.
            size: Coins or shares on each side.
        """
        self.prices, self.hours = prices, hours
        super().__init__(market, instrument, size)

    def act(self, view: View) -> None:
        self.price = float(np.interp(view.seconds / 3600.0, self.hours, self.prices))
        super().act(view)


def market(
    kind: str, end: str = "2026-02-05T01:00Z", step: str = "1min", seed: int = 1, **settings: object
) -> abm.Market:
    """The market of `first-hour` with one kind of trader alone, without price bands.

    Args:
        kind: Kind of trader.
        end: End of the run.
        step: Duration of a step.
        seed: Seed of the run.
        **settings: Of the trader.
    """
    plain = abm.load("first-hour")
    traders: dict[str, object] = {name: None for name in plain.traders if name != kind}
    clock = {"end": end, "step": step}
    changes = {"clock": clock, "seed": seed, "traders": traders | {kind: settings}, "recording.interval": "1h"}
    return abm.Market(abm.load("first-hour", **changes, **{"instruments.btc-spot.rules": []}))
