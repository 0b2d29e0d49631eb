"""Hedging: how much a price has moved of late, and orders that bring what accounts hold to a target, as far as their means go."""

from typing import Any

import numpy as np
import numpy.typing as npt

from abm.agents.base import Population
from abm.agents.view import Book
from abm.exchange.messages import Reason, Records, Side
from abm.world.options import realised_volatility

_MINUTE = 60.0
_KEPT = 0.05  # of free margin, for fees and what an order loses at once


def recent_volatility(book: Book, window: float, step: float, before: float) -> float:
    """Realised volatility a year of a book's mid, from returns of a minute.

    Args:
        book: Of the instrument.
        window: Seconds that end now.
        step: Seconds of a step.
        before: Volatility a year of what lies before the run.
    """
    stride = max(1, round(_MINUTE / step))
    mids = book.mids(window)[::-1][::stride][::-1]  # the latest is one of them
    return realised_volatility(mids, stride * step, max(1, round(window / (stride * step))), before)


def hedge(
    population: Population,
    book: Book,
    target: npt.NDArray[np.float64],
    slippage: float,
    leverage: float = 1.0,
    who: npt.NDArray[Any] | None = None,
) -> Records:
    """Trade from what accounts hold of an instrument to what they want to hold.

    Args:
        population: Whose accounts.
        book: Of the instrument.
        target: Coins, short where negative; one for each of `who`.
        slippage: No worse price than this fraction from the mid.
        leverage: With which they hold an instrument that has margin: what opens is cut to their free margin.
        who: Accounts counted from 0; all of them where absent.
    """
    held = population.holdings(book.instrument.name, who)
    gap = target - held
    size = np.abs(gap)
    if book.instrument.margin is not None:
        closes = np.where(gap * held < 0, np.minimum(size, np.abs(held)), 0.0)
        room = np.maximum(population.free_margin(who), 0.0) * leverage * (1.0 - _KEPT) / book.mark
        size = np.minimum(size, closes + room)
    side = np.where(gap > 0, Side.BUY, Side.SELL)
    return population.market(book, side, size, who=who, reason=Reason.HEDGE, slippage=slippage)
