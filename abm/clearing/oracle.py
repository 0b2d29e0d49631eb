"""The price by which a contract goes, some time behind the market's."""

from abm.exchange.description import PPM


class Oracle:
    """The price by which a pool goes: the market's of some time ago.

    Args:
        price: Money units a lot.
        deviation: It moves when the market is further away than this fraction,
        heartbeat_ns: or has not moved for so long.
    """

    def __init__(self, price: int, deviation: float, heartbeat_ns: int) -> None:
        if price < 1:
            raise ValueError("oracle: a lot must be worth at least one money unit")
        self.price, self.moved = price, 0
        """Money units a lot, and when it last moved, in ns."""
        self._deviation, self._heartbeat = round(deviation * PPM), heartbeat_ns

    def update(self, time: int, market: int) -> bool:
        """Look at the market in a block; a market without a price (less than one money unit a lot) changes nothing.

        Returns:
            Whether the price was set anew.
        """
        far = abs(market - self.price) * PPM > self._deviation * self.price
        if market < 1 or not (far or time - self.moved >= self._heartbeat):
            return False
        self.price, self.moved = market, time
        return True
