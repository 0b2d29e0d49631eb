"""Liquidation desk: it closes in the books, bit by bit, the positions that the insurance fund has taken over.

MECHANICS 1 has the fund take over what a book does not at the bankruptcy price. Venues do not keep it: they close it in the market, and their fund
bears what that loses and has what it gains. Without a desk the fund waits, and what it holds never reaches a book.
"""

from typing import ClassVar

from pydantic import Field

from abm.agents.base import BooksConfig, Population, trader
from abm.agents.view import View
from abm.clock import Seconds
from abm.exchange.description import Frozen
from abm.exchange.messages import Flag, Reason, Records, Side, TimeInForce, join


class Closing(Frozen):
    """How a position is closed in one book."""

    half_life: Seconds = Field(
        600.0, gt=0, description="time in which half of a position is closed", examples=["10min"]
    )
    least: float = Field(
        10_000.0, ge=0, description="currency that is closed at once, if a part would be less", examples=[10_000]
    )
    slippage: float = Field(
        0.01, gt=0, lt=0.5, description="no trade further than this fraction from the mid", examples=[0.01]
    )


class LiquidationDeskConfig(BooksConfig):
    """A liquidation desk."""

    accounts: int = Field(1, ge=0, le=1, description="1, the insurance fund's; 0 for nobody", examples=[1])
    books: dict[str, Closing] = Field(
        {"btc-perp": Closing()},
        description="how it closes positions, by the name of a perpetual or future",
        min_length=1,
    )


@trader("liquidation_desk")
class LiquidationDesk(Population):
    """Whoever trades in the name of the insurance fund."""

    config: LiquidationDeskConfig
    for_fund: ClassVar[bool] = True

    def setup(self) -> None:
        """It looks at its books in every step."""
        self.every_step = True
        step = self.model.scenario.clock.step
        for name in self.config.books:
            if self.model.scenario.instruments[name].margin is None:
                raise ValueError(f"traders.{self.name}.books.{name}: {name} has no margin; name a perpetual or future")
        self._shares = {name: 1.0 - 0.5 ** (step / terms.half_life) for name, terms in self.config.books.items()}

    def decide(self, view: View) -> Records | None:
        """A part of each position for what the book gives; what finds nobody is tried again."""
        parts = []
        for name, terms in self.config.books.items():
            held = float(self.holdings(name)[0])
            if held == 0.0:
                continue
            book, side = view[name], Side.SELL if held > 0.0 else Side.BUY
            few = terms.least if book.instrument.kind == "inverse" else terms.least / book.mid
            parts.append(
                self.limit(
                    book,
                    side,
                    book.mid * (1.0 - terms.slippage if side == Side.SELL else 1.0 + terms.slippage),
                    min(abs(held), max(abs(held) * self._shares[name], few, book.instrument.lot)),
                    reason=Reason.LIQUIDATION,
                    tif=TimeInForce.IOC,
                    flags=Flag.REDUCE_ONLY,
                )
            )
        return join(parts) if parts else None
