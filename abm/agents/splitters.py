"""Order splitters: large hidden orders, traded a piece at a time, whose sizes have a power-law tail.

Signs of market orders then have a long memory: with P(length > n) = n^-tail their autocorrelation falls as lag^-(tail - 1) (Lillo, Mike
and Farmer 2005, Physical Review E 71:066122).
"""

import math

import numpy as np
import numpy.typing as npt
from numba import njit
from pydantic import Field
from scipy.special import ndtri

from abm.agents.attention import Attention
from abm.agents.base import Floats, Ints, Numbers, Population, TraderConfig, trader
from abm.agents.execution import DAY
from abm.agents.view import View
from abm.exchange.messages import Reason, Records, Side

HIDDEN_ORDER = np.dtype([("left", np.int64), ("side", np.int64), ("net", np.int64)])
"""Pieces not yet traded, the side, and what its account bought less what it sold so far, in pieces."""

_BUY, _SELL = int(Side.BUY), int(Side.SELL)


@njit(cache=True)
def _begin(hidden: Records, place: int, tail: float, most: float, length: float, side: float) -> None:
    order = hidden[place]
    buys = side < 0.5 - 0.5 * order.net / most
    room = most - order.net if buys else most + order.net
    order.left = np.int64(max(min(math.ceil((1.0 - length) ** (-1.0 / tail)), room), 1.0))
    order.side = _BUY if buys else _SELL


@njit(cache=True)
def _trade(hidden: Records, tail: float, most: float, luck: Floats, who: Ints, side: npt.NDArray[np.uint8]) -> None:
    for k in range(len(luck)):
        place = np.int64(luck[k, 0] * len(hidden))
        who[k], side[k] = place, hidden[place].side
        hidden[place].net += 1 if side[k] == _BUY else -1
        hidden[place].left -= 1
        if hidden[place].left == 0:
            _begin(hidden, place, tail, most, luck[k, 1], luck[k, 2])


class HiddenOrders:
    """A fixed number of hidden orders, each replaced by a new one when it has traded its last piece (Lillo, Mike, Farmer 2005)."""

    def __init__(self, tail: float, luck: Floats, most: float = math.inf) -> None:
        """Begin all of them.

        Args:
            tail: Lengths are ceil(U^(-1/tail)) pieces with U uniform.
            luck: Uniform draws in [0, 1), two for each hidden order.
            most: Pieces that an account holds at most, long or short; the nearer it is to that, the likelier it goes the other way.
        """
        self.tail, self.most = tail, most
        self.orders = np.zeros(len(luck), HIDDEN_ORDER)
        """One `HIDDEN_ORDER` record for each."""
        for place, (length, side) in enumerate(luck):
            _begin(self.orders, place, tail, most, length, side)

    def trade(self, luck: Floats) -> tuple[Ints, npt.NDArray[np.uint8]]:
        """Trade pieces one after the other, each of an order drawn at random.

        Args:
            luck: Uniform draws in [0, 1), three for each piece.

        Returns:
            Whose piece it is, and its `Side`.
        """
        who, side = np.empty(len(luck), np.int64), np.empty(len(luck), np.uint8)
        _trade(self.orders, self.tail, self.most, luck, who, side)
        return who, side


class OrderSplittersConfig(TraderConfig):
    """Order splitters; each account works one hidden order at a time."""

    accounts: int = Field(
        20, ge=0, le=1_000_000, description="hidden orders at any time, one an account", examples=[20]
    )
    tail: float = Field(
        1.5,
        gt=1,
        le=10,
        description="tail exponent of the pieces of a hidden order; memory is longer near 1",
        examples=[1.5],
    )
    most: float | None = Field(
        None,
        gt=0,
        description="pieces an account may be long or short of by its hidden orders: near that it rather goes the other way. None: any number",
        examples=[600],
    )
    pieces: float = Field(20.0, gt=0, le=1e6, description="pieces a minute, all accounts together", examples=[20])
    size: float = Field(0.02, gt=0, description="mean coins or shares of a piece", examples=[0.02])
    size_sigma: float = Field(
        0.0,
        ge=0,
        le=3,
        description="standard deviation of its logarithm; each account keeps to its own: the middles of equal parts of the law, a part each",
        examples=[1.0],
    )
    attention: Attention = Field(Attention(), description="how the number of pieces answers moves of the price")
    slippage: float = Field(
        0.002, gt=0, lt=0.5, description="no trade further than this fraction from the mid", examples=[0.002]
    )
    cash: float = Field(10_000_000.0, ge=0, description="mean currency of an account at the start", examples=[1e7])
    coins: float = Field(
        130.0, ge=0, description="mean coins or shares of an account at the start; none of a derivative", examples=[130]
    )


@trader("order_splitters")
class OrderSplitters(Population):
    """Hidden orders that trade at once, piece by piece; a piece that cannot be paid for is left out."""

    config: OrderSplittersConfig

    def setup(self) -> None:
        """Begin a hidden order for each account; decide in every step."""
        c = self.config
        luck = self.random("pieces")
        self._draw, self._mean = self.random("number"), c.pieces * self.model.scenario.clock.step / 60.0
        self._began = self.model.scenario.clock.start.timestamp() % DAY
        self._hidden = HiddenOrders(c.tail, self.random("begin").random((self.size, 2)), c.most or math.inf)
        # Of a few accounts drawn at random a month would hang on whether one of them is large.
        widths = c.size_sigma * ndtri((np.arange(self.size) + 0.5) / max(self.size, 1))
        self._relative = np.exp(widths) / np.exp(widths).mean() if self.size else widths
        self._luck = self.block(lambda n: luck.random((n, 3)))
        self.every_step = True

    def endow(self) -> tuple[Numbers, Numbers]:
        """In proportion to the pieces that each account trades."""
        spot = self.model.scenario.instruments[self.config.instrument].kind == "spot"
        return self.config.cash * self._relative, self.config.coins * self._relative if spot else 0.0

    def decide(self, view: View) -> Records | None:
        """The pieces of this step."""
        book, c = view[self.config.instrument], self.config
        rate = self._mean * self.model.pace(c.instrument)
        n = int(self._draw.poisson(rate * c.attention.factor(book, view.seconds, self._began)))
        if n == 0:
            return None
        who, side = self._hidden.trade(self._luck.take(n))
        return self.market(
            book, side, c.size * self._relative[who], who=who, reason=Reason.EXECUTION, slippage=c.slippage
        )
