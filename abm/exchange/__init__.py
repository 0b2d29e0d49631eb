"""The exchange: messages in, trades out. It knows nothing of traders, of time outside the market, or of files other than its checkpoint."""

from abm.exchange.calendar import Calendar
from abm.exchange.checkpoint import CheckpointError
from abm.exchange.description import MONEY_UNITS
from abm.exchange.exchange import Accounts, Exchange, Report
from abm.exchange.gateway import Batch, Gateway, Latency, Limits
from abm.exchange.instrument import Breaker, FeeTier, Instrument, MarketWideBreaker, PriceBand, VolatilityAuction
from abm.exchange.messages import (
    ANONYMOUS,
    EVENT,
    MESSAGE,
    OUTCOME,
    TRADE,
    Flag,
    Kind,
    Phase,
    Reason,
    Reject,
    SelfTrade,
    Side,
    Status,
    TimeInForce,
    What,
)
from abm.exchange.orderbook import Fill, OrderBook, Receipt
from abm.exchange.reading import Cost, Depth, QueuePosition, View

__all__ = [
    "ANONYMOUS",
    "EVENT",
    "MESSAGE",
    "MONEY_UNITS",
    "OUTCOME",
    "TRADE",
    "Accounts",
    "Batch",
    "Breaker",
    "Calendar",
    "CheckpointError",
    "Cost",
    "Depth",
    "Exchange",
    "FeeTier",
    "Fill",
    "Flag",
    "Gateway",
    "Instrument",
    "Kind",
    "Latency",
    "Limits",
    "MarketWideBreaker",
    "OrderBook",
    "Phase",
    "PriceBand",
    "QueuePosition",
    "Reason",
    "Receipt",
    "Reject",
    "Report",
    "SelfTrade",
    "Side",
    "Status",
    "TimeInForce",
    "View",
    "VolatilityAuction",
    "What",
]
