"""What can be sold at once: the bid side of a book, and what selling down it brings."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from abm.exchange.exchange import Exchange

Floats = npt.NDArray[np.float64]


class Bids(NamedTuple):
    """What liquidators can sell to at once: the bid side of a book, best first. `of` reads it from an exchange."""

    price: npt.NDArray[Any]
    """Ticks, falling."""
    quantity: npt.NDArray[Any]
    """Lots."""

    @classmethod
    def of(cls, exchange: Exchange, instrument: str, levels: int = 1000) -> "Bids":
        """The best `levels` of the displayed bids."""
        depth = exchange.depth(exchange.index(instrument), levels)
        return cls(depth.bid_price, depth.bid_quantity)


class Sale:
    """What selling brings, down the bids; what was sold stays sold."""

    def __init__(self, price: Floats, lots: Floats) -> None:
        self._price = price  # money units a lot after fees, falling
        self._lots = np.concatenate([[0.0], np.cumsum(lots)])
        self._money = np.concatenate([[0.0], np.cumsum(price * lots)])
        self.sold = 0

    def lots_above(self, price: float) -> int:
        """Lots still bid for at more than this."""
        return int(self._lots[np.searchsorted(-self._price, -price, side="left")]) - self.sold

    def proceeds(self, lots: int) -> float:
        """Money units that the next lots would bring."""
        sold = (self.sold, self.sold + lots)
        low, high = np.interp(sold, self._lots, self._money)
        return float(high - low)
