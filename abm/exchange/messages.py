"""What traders and the operator say to the exchange, and what it answers: enumerations and record layouts.

Everything that crosses the boundary of the matching pass is a NumPy structured array with one of the layouts below:
`MESSAGE` in, `OUTCOME` (one for each message), `TRADE` and `EVENT` out. Prices are integer ticks, quantities integer
lots, times nanoseconds since the start of the run (int64).
"""

from collections.abc import Sequence
from enum import IntEnum, IntFlag

import numpy as np
import numpy.typing as npt

Records = npt.NDArray[np.void]
"""A one-dimensional structured array."""

ANONYMOUS = -1
"""Owner of an order that belongs to nobody: never a self-trade, never in a ledger."""


class Side(IntEnum):
    """Side of an order. `AUCTION` stands in a trade that had no aggressor."""

    BUY = 0
    SELL = 1
    AUCTION = 2


class Kind(IntEnum):
    """What a message asks for. From `PHASE` on only the operator of the exchange may send it."""

    LIMIT = 0
    MARKET = 1
    CANCEL = 2
    REDUCE = 3
    REPLACE = 4
    MASS_CANCEL = 5
    STOP = 6
    STOP_LIMIT = 7
    TRAILING_STOP = 8
    PEGGED = 9
    PHASE = 10
    UNCROSS = 11
    MARK = 12
    REFERENCE = 13
    CLOCK = 14
    REFUSED = 15


class TimeInForce(IntEnum):
    """How long an order stays: until cancelled, not at all, all or nothing, the session, a given time."""

    GTC = 0
    IOC = 1
    FOK = 2
    DAY = 3
    GTD = 4


class Flag(IntFlag):
    """Properties of an order that combine."""

    NONE = 0
    POST_ONLY = 1
    POST_SLIDE = 2
    REDUCE_ONLY = 4
    HIDDEN = 8
    BY_MARK = 16


class SelfTrade(IntEnum):
    """What happens where an incoming order meets a resting order of the same owner."""

    ALLOW = 0
    CANCEL_RESTING = 1
    CANCEL_INCOMING = 2
    CANCEL_BOTH = 3
    DECREMENT = 4


class Phase(IntEnum):
    """State of trading of an instrument."""

    CONTINUOUS = 0
    CALL = 1
    HALTED = 2
    CLOSED = 3


class Status(IntEnum):
    """What became of a message by the end of its own entry, before anything that it set off."""

    REJECTED = 0
    RESTING = 1
    FILLED = 2
    CANCELLED = 3
    PENDING = 4
    DONE = 5


class Reject(IntEnum):
    """Why a message was rejected, or why the rest of an order was cancelled."""

    NONE = 0
    UNKNOWN_KIND = 1
    UNKNOWN_INSTRUMENT = 2
    UNKNOWN_OWNER = 3
    BAD_SIDE = 4
    BAD_QUANTITY = 5
    BAD_PRICE = 6
    BAD_TIME_IN_FORCE = 7
    BAD_COMBINATION = 8
    BAD_TRIGGER = 9
    EXPIRED = 10
    DUPLICATE_ID = 11
    UNKNOWN_ORDER = 12
    ORDER_DONE = 13
    NOT_OWNER = 14
    WOULD_TRADE = 15
    NOT_FILLABLE = 16
    REDUCE_ONLY = 17
    SELF_TRADE = 18
    HALTED = 19
    CLOSED = 20
    WRONG_PHASE = 21
    PRICE_BAND = 22
    INSUFFICIENT_FUNDS = 23
    NOT_REPLACEABLE = 24
    OFF_TICK = 25
    OFF_LOT = 26
    TOO_LARGE = 27
    RATE_LIMIT = 28
    POSITION_LIMIT = 29
    FROZEN = 30


class What(IntEnum):
    """What happened to an order, or to an instrument, other than by a message of its owner."""

    EXPIRED = 0
    SELF_TRADE_CANCELLED = 1
    SELF_TRADE_DECREMENTED = 2
    REDUCE_ONLY_CANCELLED = 3
    MASS_CANCELLED = 4
    AUCTION_CANCELLED = 5
    TRIGGERED = 6
    ACTIVATION_CANCELLED = 7
    PHASE_CHANGED = 8
    UNCROSSED = 9
    LIQUIDATION_CANCELLED = 10


class Forced(IntEnum):
    """What the clearing house did to an account, by its own orders or outside the book."""

    LIQUIDATED = 0
    TAKEN_OVER = 1
    DELEVERAGED = 2
    DEFAULTED = 3


class Reason(IntEnum):
    """Why a trader sent an order; every trade carries the reasons of both its sides."""

    UNSPECIFIED = 0
    NOISE = 1
    VALUE = 2
    TREND = 3
    MARKET_MAKING = 4
    PANIC = 5
    STOP_LOSS = 6
    TAKE_PROFIT = 7
    LIQUIDATION = 8
    DELEVERAGING = 9
    REDEMPTION = 10
    CREATION = 11
    MINING = 12
    DISTRIBUTION = 13
    ACCUMULATION = 14
    TREASURY = 15
    HEDGE = 16
    ARBITRAGE = 17
    MARGIN_NOTICE = 18
    MARGIN_CALL = 19
    SHORT_COVER = 20
    EXECUTION = 21
    INFORMED = 22
    REPLAY = 23


MESSAGE = np.dtype(
    [
        ("time", np.int64),  # ns since the start of the run; never falls along a tape
        ("quantity", np.int64),  # lots
        ("display", np.int64),  # lots shown of an iceberg; 0 = all
        ("expiry", np.int64),  # ns; only with GTD
        ("order", np.int32),  # id of the order it creates, or speaks of
        ("price", np.int32),  # ticks
        ("trigger", np.int32),  # ticks; of a trailing stop and a peg: distance
        ("owner", np.int32),  # account, or ANONYMOUS
        ("instrument", np.int16),
        ("kind", np.uint8),
        ("side", np.uint8),
        ("tif", np.uint8),
        ("flags", np.uint8),
        ("self_trade", np.uint8),
        ("reason", np.uint8),
    ],
    align=True,
)

# Packed, so that equal records are equal bytes: the event log is hashed
OUTCOME = np.dtype(
    [
        ("filled", np.int64),  # lots that the order traded as it entered
        ("status", np.uint8),
        ("reject", np.uint8),
    ]
)

TRADE = np.dtype(
    [
        ("time", np.int64),
        ("message", np.int64),  # sequence number, since the exchange began, of the message that caused it
        ("quantity", np.int64),
        ("price", np.int32),
        ("maker", np.int32),  # order ids; in an auction the maker is the sell order
        ("taker", np.int32),
        ("maker_owner", np.int32),
        ("taker_owner", np.int32),
        ("instrument", np.int16),
        ("aggressor", np.uint8),  # Side of the taker, or Side.AUCTION
        ("maker_reason", np.uint8),
        ("taker_reason", np.uint8),
    ]
)

EVENT = np.dtype(
    [
        ("time", np.int64),
        ("message", np.int64),
        ("quantity", np.int64),  # lots cancelled, decremented, triggered; volume of an uncross
        ("order", np.int32),  # 0 where the event is the instrument's
        ("owner", np.int32),
        ("price", np.int32),  # of an uncross
        ("instrument", np.int16),
        ("what", np.uint8),
        ("detail", np.uint8),  # the Reject of an ACTIVATION_CANCELLED, the Phase of a PHASE_CHANGED
    ],
    align=True,
)


LIQUIDATION = np.dtype(
    [
        ("time", np.int64),
        ("message", np.int64),  # sequence number of the message that moved the mark to the account's liquidation price
        ("quantity", np.int64),  # lots that changed hands
        ("amount", np.int64),  # money units: to the insurance fund; of a DEFAULTED, that it paid
        ("number", np.int32),  # of the liquidation, from 1; its orders have the id -number
        ("parent", np.int32),  # the liquidation whose order moved the mark there; 0 = the message itself
        ("account", np.int32),
        ("counterparty", np.int32),  # who got the position: the fund, a deleveraged account; -1 the book
        ("price", np.int32),  # ticks: of the last fill (0 none), or of the transfer
        ("limit", np.int32),  # ticks: the bankruptcy price
        ("mark", np.int32),
        ("instrument", np.int16),
        ("what", np.uint8),  # Forced
        ("side", np.uint8),  # of the order, or of the account in the transfer: SELL closes a long position
    ],
    align=True,
)


SHIFT = np.dtype(
    [
        ("time", np.int64),
        ("change", np.int32),  # of best bid and best ask together, in ticks: twice that of the mid
        (
            "owner",
            np.int32,
        ),  # whose order, withdrawal or liquidation it was; ANONYMOUS: the exchange, by its rules, phases and auctions
        ("instrument", np.int16),
        ("reason", np.uint8),  # Reason of that order
        ("traded", np.uint8),  # 1: it traded, 0: quotes came or went
    ],
    align=True,
)
"""A change of a mid price and whose doing it was."""


def join(parts: Sequence[Records], dtype: np.dtype[np.void] = MESSAGE) -> Records:
    """Records of one layout one after the other. NumPy alone compares the layouts field by field, which takes longer than the copy."""
    if len(parts) == 1:
        return parts[0]
    raw = np.dtype((np.void, dtype.itemsize))
    return np.concatenate([part.view(raw) for part in parts]).view(dtype) if parts else np.zeros(0, dtype)
