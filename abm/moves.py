"""Who moved the mids: the changes that the pass noted, summed by hour, instrument, trader and reason while a run plays."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from numba import njit

from abm.exchange.messages import Reason, Records

if TYPE_CHECKING:
    from abm.market import Market

_BY = ["quote", "trade"]
_HOUR = 3_600_000_000_000  # ns
_REASONS = [reason.name.lower() for reason in Reason]


@njit(cache=True)
def sum_shifts(
    shifts: Records, whose: npt.NDArray[np.int16], ticks: npt.NDArray[np.float64], sums: npt.NDArray[np.float64]
) -> None:
    """Sum up changes of mids by whose doing they were.

    Args:
        shifts: `SHIFT` records.
        whose: Population of each account.
        ticks: Tick of each instrument, in currency.
        sums: Changes in currency so far: instruments x (populations, and the exchange) x reasons x (quotes, trades).
    """
    for shift in shifts:
        population = whose[shift.owner] if shift.owner >= 0 else sums.shape[1] - 1
        sums[shift.instrument, population, shift.reason, shift.traded] += 0.5 * shift.change * ticks[shift.instrument]


class Moves:
    """Takes the changes from a market's exchange, bar by bar."""

    def __init__(self, market: "Market") -> None:
        """Begin with a market that is being set up."""
        self._market = market
        self._instruments = market.exchange.instruments
        self._ticks = np.array([instrument.tick for instrument in self._instruments])
        start = np.datetime64(market.scenario.clock.start.replace(tzinfo=None), "ns")
        self._before = int(start.astype(np.int64)) % _HOUR  # of the first hour (UTC), before the run began
        self._hour = 0
        self._rows: list[tuple[int, str, str, str, str, float]] = []
        self._whose = np.empty(0, np.int16)
        self._sums = np.zeros((len(self._instruments), 0, len(_REASONS), 2))

    def take(self, bar_start_ns: int) -> None:
        """Sum up the changes of the bar that ends now."""
        market = self._market
        if (bar_start_ns + self._before) // _HOUR != self._hour:
            self._close()
            self._hour = (bar_start_ns + self._before) // _HOUR
        if self._sums.shape[1] != 1 + len(market.populations):  # at first, and where somebody has joined
            self._close()
            self._sums = np.zeros((len(self._instruments), 1 + len(market.populations), len(_REASONS), 2))
            self._whose = np.full(len(market.cash), len(market.populations), np.int16)
            for p, population in enumerate(market.populations):
                self._whose[population.rows] = p
        sum_shifts(market.exchange.take_shifts(), self._whose, self._ticks, self._sums)

    def table(self) -> pd.DataFrame:
        """All so far, one row for each hour, instrument, trader, reason, and trades or quotes; times in ns since the start of the run."""
        self._close()
        return pd.DataFrame(self._rows, columns=["time", "instrument", "trader", "reason", "by", "change"])

    def _close(self) -> None:
        """Write the sums of an hour down."""
        known = self._market.populations[: self._sums.shape[1] - 1]  # others have joined since
        names = [*(population.name for population in known), ""]
        start = max(0, self._hour * _HOUR - self._before)
        for k, p, reason, traded in zip(*np.nonzero(self._sums), strict=True):
            change = float(self._sums[k, p, reason, traded])
            self._rows.append((start, self._instruments[k].name, names[p], _REASONS[reason], _BY[traded], change))
        self._sums[:] = 0.0
