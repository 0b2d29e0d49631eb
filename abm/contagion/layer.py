"""The contagion layer of a run: its channels, what they carry after each step, and the network as it stands."""

from typing import TYPE_CHECKING

from abm.contagion.channels import CHANNELS, Channel
from abm.contagion.channels.correlation import Correlation
from abm.contagion.channels.sentiment import Sentiment
from abm.contagion.graph import Network, network

if TYPE_CHECKING:
    from abm.exchange.exchange import Report
    from abm.market import Market


class Contagion:
    """The channels that are on.

    Args:
        market: The market; its traders join later.
    """

    def __init__(self, market: "Market") -> None:
        self._market = market
        self.channels: dict[str, Channel] = {
            each.name: each(market) for each in CHANNELS if market.scenario.channels.on(each.name)
        }
        """By name."""
        self._spread = [c for c in self.channels.values() if type(c).spread is not Channel.spread]

    def spread(self, report: "Report") -> None:
        """Have each channel carry on what a step brought."""
        for channel in self._spread:
            channel.spread(report)

    def network(self) -> Network:
        """The network as it is now; see `abm.contagion.graph`."""
        return network(self._market, self.channels.values())

    def inferred(self, instrument: str) -> float:
        """Factor on an instrument's value that other markets' prices tell; see `Correlation`."""
        correlation = self.channels.get(Correlation.name)
        return correlation.inferred(instrument) if isinstance(correlation, Correlation) else 1.0

    def mood(self, trader: str) -> float:
        """Mood of the community that a trader belongs to, from -1 (fear) to 1 (greed); see `Sentiment`."""
        sentiment = self.channels.get(Sentiment.name)
        return sentiment.mood(trader) if isinstance(sentiment, Sentiment) else 0.0
