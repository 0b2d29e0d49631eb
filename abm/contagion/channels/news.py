"""Macro news: the same news moves the value of several assets; see `abm.world.news`."""

from collections.abc import Iterator

from abm.contagion.channels.base import Channel
from abm.contagion.graph import Edge


class News(Channel):
    """Factors and events move fundamentals by their loadings: d ln V = own + sum_k b_k d f_k.

    Ross (1976), Journal of Economic Theory 13:341. Where it is off, each asset has only news of its own.
    """

    name = "news"

    def edges(self) -> Iterator[Edge]:
        """Factor to asset: the loading b_k, a pure number that may be negative."""
        described = self.market.scenario
        for instrument in described.instruments:
            for factor, loading in described.loadings(instrument).items():
                yield Edge(f"factor:{factor}", instrument, loading)
