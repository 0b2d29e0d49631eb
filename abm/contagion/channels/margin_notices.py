"""Margin notices and margin calls: a clearing house asks for more margin on one asset, and who lacks it sells that, or something else."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, model_validator

from abm.clearing.rules import Bracket
from abm.clock import Utc
from abm.contagion.channels.base import Channel, ChannelConfig
from abm.contagion.graph import Edge, held_by, holders
from abm.exchange.description import MONEY_UNITS, Fraction, Frozen
from abm.exchange.instrument import Instrument

if TYPE_CHECKING:
    from abm.market import Market

HOUSE = "house:clearing"


class Notice(Frozen):
    """One raise, or cut, of an initial margin."""

    instrument: str = Field(description="whose margin changes", examples=["silver"])
    announced: Utc = Field(description="when it became known, UTC", examples=["2026-02-05T22:00Z"])
    at: Utc = Field(description="when it takes effect, UTC", examples=["2026-02-06T22:00Z"])
    before: Fraction = Field(description="initial margin so far, fraction of the notional", examples=[0.15])
    after: Fraction = Field(description="initial margin from then on", examples=[0.18])
    source: str = Field("", description="where it is from", examples=["observations: margin.silver"])

    @model_validator(mode="after")
    def _in_order(self) -> "Notice":
        if self.at < self.announced:
            raise ValueError("at must not be before announced")
        return self


class MarginNoticesConfig(ChannelConfig):
    """Margin notices."""

    calendar: tuple[Notice, ...] = Field((), description="notices, in any order")

    def wrong(self, instruments: Mapping[str, Instrument]) -> str:
        """What does not fit the instruments, in one line; empty if nothing."""
        now = {name: 1.0 / item.margin.leverage for name, item in instruments.items() if item.margin}
        for notice in sorted(self.calendar, key=lambda each: each.at):
            where = f"channels.margin_notices.calendar: {notice.instrument}"
            if notice.instrument not in now:
                return f"{where} is not an instrument with margin here"
            if abs(notice.before / now[notice.instrument] - 1.0) > 0.01:
                return f"{where}: before is {notice.before:g}, and its margin then is {now[notice.instrument]:.4g}"
            now[notice.instrument] = notice.after
        return ""


class MarginNotices(Channel):
    """From the announcement on, constrained holders sell 1 - m_old / m_new of what it is about, or raise the money by selling other assets.

    MECHANICS 9; Brunnermeier and Pedersen (2009), Review of Financial Studies 22:2201: margins tie the liquidity of what one capital
    holds together.
    As a notice takes effect the house's brackets change by m_new / m_old, and who is then below maintenance is liquidated by the next pass.
    Where it is off, margins stay as they are.
    """

    name = "margin_notices"

    def __init__(self, market: "Market") -> None:
        super().__init__(market)
        self.brackets: dict[str, tuple[Bracket, ...]] = {}
        """Margin brackets that a notice has changed, by instrument."""
        calendar = market.scenario.channels.margin_notices.calendar
        self._clocks = [_NoticeClock(self, notice) for notice in calendar]  # Mesa holds its callbacks weakly

    def edges(self) -> Iterator[Edge]:
        """House to holder: the margin in use, in currency; a raise takes from the holder in proportion to it."""
        market = self.market
        margined = np.flatnonzero(market.on_margin)
        house = market.house
        for name, _, rows in holders(market):
            lots = held_by(market, rows)
            held = np.zeros(len(rows), np.bool_)
            for k in margined:
                held |= lots[:, k] != 0
            some = rows[held]
            if len(some):
                used = np.maximum(house.equity(some) - house.free_cash(some), 0)
                yield Edge(HOUSE, name, float(used.sum()) / MONEY_UNITS)

    def announce(self, notice: Notice) -> None:
        """Tell all holders."""
        for population in self.market.populations:
            population.margin_notice(notice.instrument, notice.before, notice.after)

    def take_effect(self, notice: Notice) -> None:
        """Have the house ask for the new margin: initial and maintenance change alike, in all brackets."""
        margin = self.market.scenario.instruments[notice.instrument].margin
        assert margin is not None
        factor = notice.after * margin.leverage  # of the brackets at the start
        rows = tuple(
            Bracket(
                up_to=row.up_to,
                leverage=max(1.0, row.leverage / factor),
                maintenance=min(row.maintenance * factor, 0.99),
            )
            for row in margin.rows
        )
        self.brackets[notice.instrument] = rows
        self.market.house.set_brackets(notice.instrument, rows)


class _NoticeClock:
    """Has one notice announced and followed when the time comes. Mesa's events take no arguments."""

    def __init__(self, channel: MarginNotices, notice: Notice) -> None:
        self._channel, self._notice = channel, notice
        market, clock = channel.market, channel.market.scenario.clock
        for moment, act in ((notice.announced, self._announce), (notice.at, self._take_effect)):
            units = clock.units(clock.seconds_at(moment))
            if 0.0 <= units < clock.steps:
                market.schedule_event(act, at=math.ceil(units))

    def _announce(self) -> None:
        self._channel.announce(self._notice)

    def _take_effect(self) -> None:
        self._channel.take_effect(self._notice)
