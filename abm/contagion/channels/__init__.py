"""All channels, one class each, and the scenario's switches for them."""

from pydantic import Field

from abm.contagion.channels.base import Channel, ChannelConfig
from abm.contagion.channels.carried import Arbitrage, CommonHolders, Flight, MarketMaking
from abm.contagion.channels.collateral import Collateral
from abm.contagion.channels.correlation import Correlation, CorrelationConfig
from abm.contagion.channels.credit import Credit
from abm.contagion.channels.margin_notices import MarginNotices, MarginNoticesConfig
from abm.contagion.channels.news import News
from abm.contagion.channels.sentiment import Sentiment, SentimentConfig
from abm.exchange.description import Frozen

CHANNELS: tuple[type[Channel], ...] = (
    News,
    CommonHolders,
    MarginNotices,
    MarketMaking,
    Collateral,
    Arbitrage,
    Correlation,
    Flight,
    Sentiment,
    Credit,
)
"""In the order in which they carry on what a step brought."""


class Channels(Frozen):
    """Which channels carry anything, and on what terms. Each can be switched `off`."""

    news: ChannelConfig = Field(ChannelConfig(), description="common news moves several assets (key news)")
    common_holders: ChannelConfig = Field(ChannelConfig(), description="funds sell one asset because another fell")
    margin_notices: MarginNoticesConfig = Field(
        MarginNoticesConfig(), description="who lacks margin on one asset sells others"
    )
    market_making: ChannelConfig = Field(ChannelConfig(), description="firms quote several assets out of one capital")
    collateral: ChannelConfig = Field(ChannelConfig(), description="coins behind loans are sold as they fall")
    arbitrage: ChannelConfig = Field(ChannelConfig(), description="prices follow each other: index, fund share, coin")
    correlation: CorrelationConfig = Field(CorrelationConfig(), description="one asset is traded as another moved")
    flight: ChannelConfig = Field(ChannelConfig(), description="from risky assets to cash and the dollar")
    sentiment: SentimentConfig = Field(SentimentConfig(), description="fear spreads between communities")
    credit: ChannelConfig = Field(ChannelConfig(), description="a hub fails: accounts are frozen and claims cut")

    def on(self, name: str) -> bool:
        """Whether a channel is on; also for names of none."""
        return bool(getattr(self, name).on) if name in type(self).model_fields else True


__all__ = ["CHANNELS", "Channel", "ChannelConfig", "Channels"]
