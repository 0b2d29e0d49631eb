"""What traders with leverage have in common: positions with a stop and a profit to take, top-ups, panic, liquidation, and a smaller return.

A kind says by `signal` who wants to be long or short, and by `open_positions` what is held as the run begins. Nobody's account is looked at
before its time: accounts look at the market at random times, more often when it moves, and `PriceLevels` wakes those whose stop, profit or
top-up the mark has reached. Distances are in parts of the margin, so that they narrow with leverage: a stop at half of the margin is 5 % away
at 10x.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit
from pydantic import Field

from abm.agents.attention import stir
from abm.agents.base import Coins, Floats, Ints, Numbers, Population, TraderConfig
from abm.agents.price_levels import PriceLevels
from abm.agents.view import Book, View
from abm.clock import Seconds
from abm.exchange.messages import Flag, Reason, Records, Side, TimeInForce, join

DAY = 86_400.0
_MOST_ATTENTION = 10.0


class LeveragedConfig(TraderConfig):
    """Traders with leverage."""

    instrument: str = Field("btc-perp", description="perpetual or future it trades", examples=["btc-perp"])
    accounts: int = Field(100_000, ge=0, le=10_000_000, description="accounts", examples=[100_000])
    isolated: float = Field(
        0.6, ge=0, le=1, description="share of accounts whose positions stand alone", examples=[0.6]
    )
    look: Seconds = Field(
        21_600.0, gt=0, description="mean time between two looks of an account when nothing moves", examples=["6h"]
    )
    attention: float = Field(
        1.0,
        ge=0,
        le=10,
        description="looks become this much more frequent for each per cent moved in an hour, or in a day for its length",
    )
    pulse: Seconds = Field(10.0, gt=0, description="time between two rounds of looks", examples=["5s"])
    entering: Seconds = Field(
        3 * DAY,
        gt=0,
        description="mean time until who has no position takes one, at a signal of 1 and when nothing moves",
        examples=["3d"],
    )
    stake: tuple[float, float] = Field(
        (0.1, 0.9), description="part of its cash that an account puts behind a position: least, greatest"
    )
    holding: Seconds = Field(
        4 * DAY, gt=0, description="mean time after which a position is closed for no reason", examples=["4d"]
    )
    stops: float = Field(0.35, ge=0, le=1, description="share of positions with a stop", examples=[0.35])
    stop_median: float = Field(
        0.5, gt=0, le=5, description="median loss at which it is set, in margins", examples=[0.5]
    )
    profits: float = Field(0.4, ge=0, le=1, description="share of positions with a profit to take", examples=[0.4])
    profit_median: float = Field(
        1.0, gt=0, le=100, description="median profit that is taken, in margins", examples=[1.0]
    )
    top_ups: float = Field(
        0.15, ge=0, le=1, description="share of accounts that add their free cash to a losing isolated position"
    )
    top_up_at: float = Field(0.7, gt=0, lt=1, description="loss, in margins, at which they do", examples=[0.7])
    panic_median: float = Field(
        0.12,
        gt=0,
        lt=5,
        description="median adverse move within a day, and since it entered, that makes an account give up",
        examples=[0.12],
    )
    threshold_sigma: float = Field(
        0.6, ge=0, le=2, description="standard deviation of the logarithm of stops, profits and panic"
    )
    return_after: Seconds = Field(
        DAY / 2, gt=0, description="mean time until who was liquidated looks again", examples=["12h"]
    )
    return_share: float = Field(
        0.4, ge=0, le=1, description="share of the liquidated who bring new money", examples=[0.4]
    )
    return_money: float = Field(
        0.5, ge=0, le=1, description="how much, in parts of what they began with", examples=[0.5]
    )
    return_leverage: float = Field(0.5, gt=0, le=1, description="factor on their leverage then", examples=[0.5])
    slippage: float = Field(
        0.005, gt=0, lt=0.5, description="no trade further than this fraction from the mid", examples=[0.005]
    )


@njit(cache=True)
def _sort_out(
    drawn: Ints,
    lots: Ints,
    basis: Ints,
    worth: float,
    side: Any,
    panic_at: Floats,
    nerve: float,
    back_at: Floats,
    day: float,
    now: float,
) -> tuple[Ints, Ints, npt.NDArray[np.bool_], Ints]:
    """Of accounts drawn at random, each once and in their order: whose position is gone, who holds one and whether he gives up, who is free.

    `worth` is that of a lot, in the units of `basis`. A move frightens who lost by it: no more of it counts than came since the account entered.
    """
    drawn.sort()
    gone, held, free = (np.empty(len(drawn), np.int64), np.empty(len(drawn), np.int64), np.empty(len(drawn), np.int64))
    gives_up = np.empty(len(drawn), np.bool_)
    n_gone = n_held = n_free = 0
    before = -1
    for who in drawn:
        if who == before:
            continue
        before = who
        if lots[who] != 0:
            held[n_held] = who
            own = worth * lots[who] / basis[who] - 1.0
            # In fear longs bear less; what shorts fear is a rise
            gives_up[n_held] = (
                -max(day, own) > panic_at[who] * nerve if lots[who] > 0 else min(day, own) > panic_at[who]
            )
            n_held += 1
        elif side[who] != 0:
            gone[n_gone] = who
            n_gone += 1
        elif back_at[who] <= now:
            free[n_free] = who
            n_free += 1
    return gone[:n_gone], held[:n_held], gives_up[:n_held], free[:n_free]


class LeveragedTraders(Population):
    """Accounts that take positions with leverage, hold them, and leave or are made to leave."""

    config: LeveragedConfig

    # ------------------------------------------------------------------ what a kind says

    def leverages(self) -> Floats:
        """Leverage that each account asks for."""
        raise NotImplementedError

    def signal(self, view: View, who: Ints) -> Floats:
        """How much accounts without a position want to be long (or, negative, short); 1 is strong."""
        raise NotImplementedError

    def money(self) -> Floats:
        """Currency of each account at the start."""
        raise NotImplementedError

    # ------------------------------------------------------------------ the rest is common

    def setup(self) -> None:
        """Draw what each account is like; nobody looks in the first pulse."""
        c, n = self.config, self.size
        index = self.model.exchange.index(c.instrument)
        self._index, self._book = index, self.model.exchange.instruments[index]
        rows = slice(self.first, self.first + n)
        self._lots, self._basis = self.model.position[rows, index], self.model.exchange.accounts.basis[rows, index]
        margin = self._book.margin
        if margin is None:
            raise ValueError(
                f"traders.{self.name}.instrument: {c.instrument} has no margin; leverage needs a perpetual or future"
            )
        if self._book.kind == "inverse":
            raise ValueError(
                f"traders.{self.name}.instrument: {c.instrument} is inverse; leverage here needs a linear perpetual or future"
            )
        self.leverage = np.minimum(np.maximum(self.leverages(), 1.0), margin.rows[0].leverage)
        """Of each account."""
        self.isolated = self.random("mode").random(n) < c.isolated
        """Whether its positions stand alone."""
        self.set_leverage(c.instrument, self.leverage, self.isolated)
        self.side = np.zeros(n, np.int8)
        """Its position as it knows it: 1 long, -1 short, 0 none."""
        self.liquidated = np.zeros(n, bool)
        """Accounts that lost a position to the clearing house, and have not taken another since."""
        self.panic_at = self._threshold("panic", c.panic_median, n)
        price = self._book.reference_price or 1.0
        self._falls, self._rises = (PriceLevels(n, price, falls=falls) for falls in (True, False))
        self._topped = self.random("top_up").random(n) >= c.top_ups  # or will not top up
        self._back_at = np.zeros(n)
        self._new: list[Ints] = []
        self._draw, self._levels, self._looks = self.random("decision"), self.random("levels"), self.random("look")
        self._next_pulse = c.pulse
        self._fees = max(fee.taker for fee in self._book.fees)
        self.every_step = True

    def endow(self) -> tuple[Numbers, Coins]:
        """Cash alone."""
        self._wallet = self.money()
        return self._wallet, 0.0

    def seen_since_entry(self, who: Ints) -> tuple[Numbers, Numbers]:
        """Lowest and highest price (currency) since accounts entered what they hold at the start."""
        price = self._book.reference_price or 1.0
        return price, price

    def opened(self) -> None:
        """Set the levels of what is held at the start: none where prices have been since, as that position would be gone."""
        who = np.flatnonzero(self._lots)
        self.side[who] = np.sign(self._lots[who])
        self.set_levels(who, *self.seen_since_entry(who))

    def _threshold(self, purpose: str, median: float, n: int) -> Floats:
        return np.asarray(median * np.exp(self.config.threshold_sigma * self.random(purpose).standard_normal(n)))

    def decide(self, view: View) -> Records | None:
        """Orders of those whose level was reached, and each pulse of those who look."""
        if self.size == 0:
            return None
        book, parts = view[self.config.instrument], []
        falls, rises = self._falls.reached(book.mark), self._rises.reached(book.mark)
        if len(falls) or len(rises):
            parts.append(self._woken(book, np.concatenate((falls, rises))))
        if view.seconds >= self._next_pulse:
            self._next_pulse += self.config.pulse
            if self._new:
                self._settle(np.unique(np.concatenate(self._new)))
                self._new.clear()
            parts += self._look(view, book)
        return join(parts) if parts else None

    def _positions(self, who: Ints) -> Ints:
        """Lots held by accounts."""
        return self._lots[who]

    # ------------------------------------------------------------------ positions that are open

    def _settle(self, who: Ints) -> None:
        """Learn what new orders have brought, and set the levels of the positions they opened."""
        lots = self._positions(who)
        self.side[who] = np.sign(lots)
        self.set_levels(who[lots != 0])

    def set_levels(self, who: Ints, low: Numbers = np.inf, high: Numbers = 0.0) -> None:
        """Give positions of accounts their stops, profits and top-ups; a level between `low` and `high` is left out."""
        c, n = self.config, len(who)
        if n == 0:
            return
        lots = self._positions(who)
        entry = (
            np.abs(self.model.exchange.accounts.basis[self.rows[who], self._index])
            / (np.abs(lots) * float(self._book.unit))
            * self._book.tick
        )
        draws = self._levels.random((2, n))
        widths = np.exp(c.threshold_sigma * self._levels.standard_normal((2, n)))
        stop = np.where(draws[0] < c.stops, c.stop_median * widths[0], np.inf)
        adds = ~self._topped[who] & self.isolated[who]
        nearest = np.minimum(stop, np.where(adds, c.top_up_at, np.inf))
        profit = np.where(draws[1] < c.profits, c.profit_median * widths[1], np.inf)
        sign, unit = np.sign(lots), entry / self.leverage[who]
        against, along = entry - sign * nearest * unit, entry + sign * profit * unit
        falls, rises = np.where(lots > 0, against, along), np.where(lots > 0, along, against)
        self._falls.set(who, np.where(falls < low, falls, np.nan))
        self._rises.set(who, np.where(rises > high, rises, np.nan))

    def _woken(self, book: Book, who: Ints) -> Records:
        """Close the positions of accounts whose stop or profit was reached, or add margin to them; forget those that are gone."""
        lots = self._positions(who)
        self._note_liquidated(who[lots == 0])
        who, lots = who[lots != 0], lots[lots != 0]
        entry = (
            self.model.exchange.accounts.basis[self.rows[who], self._index]
            / (lots * float(self._book.unit))
            * self._book.tick
        )
        gains = (book.mark - entry) * lots > 0
        adds = ~gains & ~self._topped[who] & self.isolated[who]
        self._top_up(who[adds])
        leaves, gains = who[~adds], gains[~adds]
        reason = np.where(gains, Reason.TAKE_PROFIT, np.where(lots[~adds] < 0, Reason.SHORT_COVER, Reason.STOP_LOSS))
        return self._close(book, leaves, reason)

    def _top_up(self, who: Ints) -> None:
        """Put all free cash behind isolated positions, and set their levels anew."""
        cash = self.free_margin(who)
        can = who[cash > 0]
        if len(can):
            self.model.house.add_margin(self.rows[can], self.config.instrument, np.floor(cash[cash > 0]))
        self._topped[who] = True
        self.set_levels(who)

    def _close(self, book: Book, who: Ints, reason: npt.ArrayLike) -> Records:
        """Orders that end positions; who is not out by the next pulse tries again."""
        lots = self._positions(who)
        self._falls.drop(who)
        self._rises.drop(who)
        self._new.append(who)
        side = np.where(lots > 0, Side.SELL, Side.BUY)
        return self._at_once(book, side, np.abs(lots) * self._book.lot, who, reason, Flag.REDUCE_ONLY)

    def _at_once(
        self,
        book: Book,
        side: npt.NDArray[Any],
        quantity: Floats,
        who: Ints,
        reason: npt.ArrayLike,
        flags: Flag = Flag.NONE,
    ) -> Records:
        away = np.where(side == Side.BUY, 1.0 + self.config.slippage, 1.0 - self.config.slippage)
        return self.limit(
            book, side, book.mid * away, quantity, who=who, reason=reason, tif=TimeInForce.IOC, flags=flags
        )

    # ------------------------------------------------------------------ looking

    def _look(self, view: View, book: Book) -> list[Records]:
        """Orders of the accounts that look at the market now."""
        c = self.config
        day, rate = book.return_over(DAY), min(1.0 + c.attention * stir(book), _MOST_ATTENTION)
        count = self._looks.poisson(self.size * c.pulse / c.look * rate)
        if count == 0:
            return []
        drawn = self._looks.integers(0, self.size, count)
        gone, held, gives_up, free = _sort_out(
            drawn,
            self._lots,
            self._basis,
            book.mid / self._book.tick * self._book.unit,
            self.side,
            self.panic_at,
            self.nerve,
            self._back_at,
            day,
            view.seconds,
        )
        self._note_liquidated(gone, view.seconds)
        leaves = gives_up | (self._draw.random(len(held)) < c.look / rate / c.holding)
        held, gives_up = held[leaves], gives_up[leaves]
        reason = np.where(gives_up, np.where(self._lots[held] > 0, Reason.PANIC, Reason.SHORT_COVER), Reason.NOISE)
        return [self._close(book, held, reason), self._enter(view, book, free)]

    def _enter(self, view: View, book: Book, who: Ints) -> Records:
        """Orders of accounts that take a position: by their signal, with part of their cash."""
        c = self.config
        signal = self.signal(view, who)
        enters = self._draw.random(len(who)) < np.abs(signal) * (c.look / c.entering)
        part = c.stake[0] + (c.stake[1] - c.stake[0]) * self._draw.random(len(who))
        cash = self.free_margin(who)
        enters &= cash > 0
        who, signal, part, cash = who[enters], signal[enters], part[enters], cash[enters]
        # What a unit of notional takes at the worst price: margin, fee, and the loss against the mark at once
        worst = abs(book.mid * (1.0 + c.slippage) / book.mark - 1.0) + 2.0 * c.slippage
        takes = (1.0 + worst) * (1.0 / self.leverage[who] + self._fees) + worst
        quantity = part * cash / takes / book.mid
        self._new.append(who)
        self.liquidated[who] = False
        return self._at_once(book, np.where(signal > 0, Side.BUY, Side.SELL), quantity, who, self.reasons(who))

    def reasons(self, who: Ints) -> npt.ArrayLike:
        """Why accounts enter."""
        return Reason.TREND

    def _note_liquidated(self, who: Ints, now: float | None = None) -> None:
        """Accounts whose position is gone without their doing: some come back later with new money and less leverage."""
        if len(who):
            who = who[self.side[who] != 0]
        if len(who) == 0:
            return
        c = self.config
        self.side[who] = 0
        self.liquidated[who] = True
        self._topped[who] = True
        since = self.model.seconds if now is None else now
        self._back_at[who] = since + self._draw.exponential(c.return_after, len(who))
        returns = who[self._draw.random(len(who)) < c.return_share]
        self._back_at[np.setdiff1d(who, returns)] = np.inf
        self.leverage[returns] = np.maximum(1.0, self.leverage[returns] * c.return_leverage)
        free = returns[~self.model.house.terms_fixed(self.rows[returns], c.instrument)]
        self.set_leverage(c.instrument, self.leverage[free], self.isolated[free], free)
        self.model.house.credit(self.rows[returns], "deposits", cash=self._wallet[returns] * c.return_money)
