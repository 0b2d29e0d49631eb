"""Margin accounts of funds at brokers outside the market: what is lent against shares, and when it is called back.

Regulation T of the Federal Reserve (12 CFR 220.12) has half of a purchase paid by who buys; what is held may fall in price without being sold for
it, but nothing is bought then before half is paid again. Rule 4210 of FINRA has the equity in an account be a quarter of what its shares
are worth, below which the broker calls.
"""

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from abm.exchange.description import Fraction, Frozen

Floats = npt.NDArray[np.float64]


class MarginAccount(Frozen):
    """Terms of loans against shares, by default those of Regulation T."""

    shares: tuple[str, ...] = Field(
        min_length=1,
        description="instruments paid in full that are lent against; others have no loan value, and those that are not held do not matter",
        examples=[["spx", "ndx"]],
    )
    initial: Fraction = Field(0.5, description="part of a purchase that is not lent", examples=[0.5])
    maintenance: Fraction = Field(
        0.25, description="equity below which shares are sold, as a part of their worth", examples=[0.25]
    )

    @model_validator(mode="after")
    def _ordered(self) -> "MarginAccount":
        if self.maintenance > self.initial:
            raise ValueError("maintenance must not be above initial: what was just bought would be called")
        return self


def carried(wanted: Floats, held: Floats, needs: Floats, equity: Floats) -> Floats:
    """What of some exposures the equity carries, all of them in proportion; what is held of them already may stay.

    Args:
        wanted: Currency in each instrument, short where negative (accounts, instruments).
        held: The same of what is held.
        needs: Currency that `wanted` takes beyond what is lent against it (accounts,).
        equity: Currency of each account (accounts,).
    """
    part = np.divide(equity, needs, out=np.ones(len(needs)), where=needs > equity)
    stays = np.where(held * wanted > 0, np.minimum(np.abs(held), np.abs(wanted)), 0.0)
    return np.asarray(np.sign(wanted) * np.maximum(np.abs(wanted) * part[:, None], stays))


def called(worth: Floats, debt: Floats, maintenance: float) -> Floats:
    """Part of its shares that each account must sell so that its equity in them is the maintenance margin m again: 1 - (W - D) / (m W), if above 0.

    Args:
        worth: W, currency that its shares are worth.
        debt: D, currency lent against them.
        maintenance: m, fraction of W.
    """
    lacks = np.divide(worth - debt, maintenance * worth, out=np.ones(len(worth)), where=worth > 0)
    return np.asarray(np.clip(1.0 - lacks, 0.0, 1.0))
