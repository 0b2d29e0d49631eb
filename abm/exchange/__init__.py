"""The exchange: messages in, trades out. It knows nothing of traders, of time outside the market, or of files other than its checkpoint."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from abm.exchange.calendar import Calendar
    from abm.exchange.checkpoint import CheckpointError
    from abm.exchange.description import MONEY_UNITS
    from abm.exchange.exchange import Accounts, Exchange, Report
    from abm.exchange.gateway import Batch, Gateway, Latency, Limits
    from abm.exchange.instrument import Breaker, FeeTier, Instrument, MarketWideBreaker, PriceBand, VolatilityAuction
    from abm.exchange.messages import (
        ANONYMOUS,
        EVENT,
        LIQUIDATION,
        MESSAGE,
        OUTCOME,
        SHIFT,
        TRADE,
        Flag,
        Forced,
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

_HOME = {
    "Calendar": "abm.exchange.calendar",
    "CheckpointError": "abm.exchange.checkpoint",
    "MONEY_UNITS": "abm.exchange.description",
    "Accounts": "abm.exchange.exchange",
    "Exchange": "abm.exchange.exchange",
    "Report": "abm.exchange.exchange",
    "Batch": "abm.exchange.gateway",
    "Gateway": "abm.exchange.gateway",
    "Latency": "abm.exchange.gateway",
    "Limits": "abm.exchange.gateway",
    "Breaker": "abm.exchange.instrument",
    "FeeTier": "abm.exchange.instrument",
    "Instrument": "abm.exchange.instrument",
    "MarketWideBreaker": "abm.exchange.instrument",
    "PriceBand": "abm.exchange.instrument",
    "VolatilityAuction": "abm.exchange.instrument",
    "ANONYMOUS": "abm.exchange.messages",
    "EVENT": "abm.exchange.messages",
    "Flag": "abm.exchange.messages",
    "Forced": "abm.exchange.messages",
    "Kind": "abm.exchange.messages",
    "LIQUIDATION": "abm.exchange.messages",
    "SHIFT": "abm.exchange.messages",
    "MESSAGE": "abm.exchange.messages",
    "OUTCOME": "abm.exchange.messages",
    "Phase": "abm.exchange.messages",
    "Reason": "abm.exchange.messages",
    "Reject": "abm.exchange.messages",
    "SelfTrade": "abm.exchange.messages",
    "Side": "abm.exchange.messages",
    "Status": "abm.exchange.messages",
    "TRADE": "abm.exchange.messages",
    "TimeInForce": "abm.exchange.messages",
    "What": "abm.exchange.messages",
    "Fill": "abm.exchange.orderbook",
    "OrderBook": "abm.exchange.orderbook",
    "Receipt": "abm.exchange.orderbook",
    "Cost": "abm.exchange.reading",
    "Depth": "abm.exchange.reading",
    "QueuePosition": "abm.exchange.reading",
    "View": "abm.exchange.reading",
}

__all__ = [
    "ANONYMOUS",
    "EVENT",
    "LIQUIDATION",
    "MESSAGE",
    "MONEY_UNITS",
    "OUTCOME",
    "SHIFT",
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
    "Forced",
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


def __getattr__(name: str) -> Any:
    """Load the module of a public name the first time it is asked for: kernels here and in `abm.clearing` use each other."""
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'abm.exchange' has no attribute {name!r}")
