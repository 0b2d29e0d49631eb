"""What anyone may see of the market now, in the units people use: prices in currency, returns, volatility."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from abm.clock import seconds
from abm.exchange.instrument import Instrument
from abm.exchange.reading import VIEW

BPS = 1e-4
"""One basis point."""
_DAY = 86400.0

_NAMES = VIEW.names or ()
_TICKS = slice(_NAMES.index("best_bid"), _NAMES.index("mark") + 1)  # best bid, best ask, last price and mark of a top
_PHASE = _NAMES.index("phase")


class Book:
    """The top of one instrument's book at the start of a step, and the history of its mid price."""

    __slots__ = (
        "_day_before",
        "_history",
        "_step_s",
        "ask_ticks",
        "bid_ticks",
        "index",
        "instrument",
        "last_ticks",
        "mark_ticks",
        "mid",
        "phase",
        "step",
    )

    def __init__(
        self,
        instrument: Instrument,
        index: int,
        quotes: tuple[int, ...],
        phase: int,
        history: npt.NDArray[np.float64],
        step: int,
        step_s: float,
        day_before: float | None = None,
    ) -> None:
        self._day_before = day_before
        self.instrument = instrument
        self.index = index
        self.bid_ticks, self.ask_ticks, self.last_ticks, self.mark_ticks = quotes
        self.phase = phase
        """`Phase`: whether it trades, collects orders for an auction, or takes none."""
        self._history = history
        self.step = step
        self._step_s = step_s
        self.mid: float = history.item(step)
        """Mid price in currency; where a side is empty what was known last stands in (at first the reference price)."""

    @property
    def bid(self) -> float | None:
        """Best displayed bid in currency."""
        return self.bid_ticks * self.instrument.tick if self.bid_ticks else None

    @property
    def ask(self) -> float | None:
        """Best displayed ask in currency."""
        return self.ask_ticks * self.instrument.tick if self.ask_ticks else None

    @property
    def last(self) -> float | None:
        """Price of the last trade in currency."""
        return self.last_ticks * self.instrument.tick if self.last_ticks else None

    @property
    def mark(self) -> float:
        """Price at which positions are valued, in currency; the mid where the instrument has no margin."""
        return self.mark_ticks * self.instrument.tick if self.mark_ticks else self.mid

    @property
    def spread_bps(self) -> float | None:
        """Best ask less best bid, in basis points of the mid."""
        if not (self.bid_ticks and self.ask_ticks):
            return None
        return (self.ask_ticks - self.bid_ticks) * self.instrument.tick / self.mid / BPS

    def mid_before(self, ago: str | float) -> float:
        """The mid price `ago` (such as `"5min"`) before now.

        Where the run is younger than that it is the first one, or if the scenario says the price of the day before, what lies between these.
        """
        then = self.step - round(seconds(ago) / self._step_s)
        first = self._history.item(max(0, then))
        if then >= 0 or self._day_before is None:
            return first
        return first * float((self._day_before / first) ** min(-then * self._step_s / _DAY, 1.0))

    def return_over(self, window: str | float) -> float:
        """Return of the mid over the window that ends now."""
        return self.mid / self.mid_before(window) - 1.0

    def mids(self, window: str | float) -> npt.NDArray[np.float64]:
        """Mid prices of the window that ends now, one a step, oldest first."""
        return self._history[max(0, self.step - round(seconds(window) / self._step_s)) : self.step + 1]


class View:
    """What anyone may see at the start of a step: `view["btc-spot"]` is a `Book`."""

    __slots__ = ("_before", "_books", "_history", "_instruments", "_step_s", "_tops", "step", "time_ns")

    def __init__(
        self,
        instruments: tuple[Instrument, ...],
        tops: Sequence[tuple[int, ...]],
        history: npt.NDArray[np.float64],
        step: int,
        step_s: float,
        time_ns: int,
        before: Mapping[str, float] | None = None,
    ) -> None:
        self._instruments, self._before = instruments, before or {}
        self._tops = tops
        self._history = history
        self._books: dict[str, Book] = {}
        self.step = step
        self._step_s = step_s
        self.time_ns = time_ns
        """Nanoseconds since the start of the run."""

    @property
    def seconds(self) -> float:
        """Seconds since the start of the run."""
        return self.time_ns / 1e9

    def __getitem__(self, name: str) -> Book:
        book = self._books.get(name)
        if book is None:
            book = self._books[name] = self._book(name)
        return book

    def _book(self, name: str) -> Book:
        for index, instrument in enumerate(self._instruments):
            if instrument.name == name:
                top, history = self._tops[index], self._history[index]
                before = self._before.get(name)
                return Book(instrument, index, top[_TICKS], top[_PHASE], history, self.step, self._step_s, before)
        raise KeyError(f"{name!r} is not traded here; there is {', '.join(i.name for i in self._instruments)}")
