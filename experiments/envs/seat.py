"""What all agents of an environment share: a task that says what is seen, done and earned, and the account in which it is done."""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from abm.agents.base import Trader, TraderConfig
from abm.agents.view import BPS, Book, View
from abm.exchange.description import Frozen
from abm.exchange.gateway import Latency
from abm.exchange.instrument import Instrument
from abm.market import Market

Floats = npt.NDArray[np.float64]

NEAR_BPS = 10.0
"""Depth is looked at within so many basis points of the mid."""
_MINUTE, _WINDOW = 60.0, 300.0


class Feature(NamedTuple):
    """One number of an observation or of an action."""

    name: str
    unit: str
    low: float
    high: float
    about: str


OF_THE_MARKET = (
    Feature("time_left", "1", 0.0, 1.0, "share of the decisions that are still to come"),
    Feature("spread", "bp", 0.0, 1000.0, "best ask less best bid; 1000 where a side is empty"),
    Feature("imbalance", "1", -1.0, 1.0, "bid less ask depth within 10 bp of the mid, over their sum; 0 without any"),
    Feature("return_1min", "bp", -1000.0, 1000.0, "return of the mid over the last minute"),
    Feature("volatility", "bp per square root of a minute", 0.0, 1000.0, "of the mid, over the last five minutes"),
)
"""What every agent sees first."""


class Task(Frozen):
    """What one agent is to do, with which means."""

    instrument: str = Field("", description="what it trades; the scenario's first instrument where left out")
    tier: int = Field(0, ge=0, le=255, description="fee tier: an index into the instrument's fees", examples=[1])
    latency: Latency = Field(Latency(base=1.0, spread=2.0), description="time from a decision to the exchange")

    sees: ClassVar[tuple[Feature, ...]] = OF_THE_MARKET
    """What an observation holds, in this order."""
    does: ClassVar[tuple[Feature, ...]] = ()
    """What an action holds, in this order."""

    def means(self, instrument: Instrument) -> tuple[float, float]:
        """Cash (currency) and coins that its account starts with."""
        raise NotImplementedError

    def seat(self, market: Market, name: str) -> "Seat":
        """Its account in a market that has not begun."""
        raise NotImplementedError

    def unfit(self, instrument: Instrument) -> str:
        """Why it cannot be done with an instrument, in one line; empty if it can."""
        if instrument.kind == "inverse" or (instrument.kind != "spot" and instrument.margin is None):
            return f"instrument: {instrument.name} is of kind {instrument.kind}; choose spot, or a linear contract with margin"
        return ""


class Seat(Trader):
    """The account of an agent: an ordinary trader that does in each interval what it is told, and reckons what that was worth.

    What it sends ends with the interval, so that an agent sees the market without its own orders and never has more out than it asked for.
    """

    kind = "learner"

    def __init__(self, market: Market, name: str, task: Task) -> None:
        """Join a market."""
        self._told: Floats = np.zeros(len(task.does))
        self._interval = 0.0
        cash, coins = task.means(market.scenario.instruments[task.instrument])
        config = TraderConfig(kind=self.kind, instrument=task.instrument, tier=task.tier, latency=task.latency)
        super().__init__(market, name, config, cash=cash, coins=coins)

    def setup(self) -> None:
        """Act only when told to."""

    def begin(self) -> None:
        """Take note of what it has, and of the price, as its task begins."""
        self.arrival, self._held, self._equity = self.book.mid, self.position(), self.equity

    def tell(self, action: Floats, interval: float) -> None:
        """Say what it is to do from now on, for so many seconds."""
        self._told, self._interval = action, interval
        self.wake()

    def act(self, view: View) -> None:
        """Do what it was told."""
        self.place(view[self.config.instrument], self._told)

    def place(self, book: Book, action: Floats) -> None:
        """Send the orders of an action."""
        raise NotImplementedError

    def settle(self) -> bool:
        """Whether something has to be sent now that the time is over; if so, it is."""
        return False

    def state(self) -> Floats:
        """What it sees beside the market, in the order of its task's features after the common ones."""
        raise NotImplementedError

    def reward(self) -> float:
        """What the last interval was worth."""
        raise NotImplementedError

    def about(self) -> Mapping[str, float]:
        """What it has done so far, in coins and currency."""
        raise NotImplementedError

    @property
    def done(self) -> bool:
        """Whether its task is done before the time is over."""
        return False

    @property
    def book(self) -> Book:
        """The book it trades in, as it is now."""
        return self.model.view()[self.config.instrument]

    @property
    def traded(self) -> float:
        """Coins bought since its task began, less those sold."""
        return self.position() - self._held

    @property
    def earned(self) -> float:
        """Change of its equity since its task began, currency; what it held at the start is valued as it is now."""
        return self.equity - self._equity


def of_the_market(seat: Seat, time_left: float) -> Floats:
    """The features that every agent sees."""
    book, model = seat.book, seat.model
    bids, asks = model.exchange.depth_within(book.index, NEAR_BPS)
    spread = book.spread_bps
    moves = np.diff(np.log(book.mids(_WINDOW)))
    volatility = moves.std() * np.sqrt(_MINUTE / model.scenario.clock.step) / BPS if len(moves) else 0.0
    return np.array(
        [
            time_left,
            OF_THE_MARKET[1].high if spread is None else spread,
            (bids - asks) / (bids + asks) if bids + asks else 0.0,
            book.return_over(_MINUTE) / BPS,
            volatility,
        ]
    )
