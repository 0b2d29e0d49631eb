"""Execution: parent orders, cut into child orders over time by a style.

A style says how much of a parent should be done by when. `ParentOrders`, the desk of a population, sends the children, counts what they
fill order by order, and makes up for what is behind. Volumes and times of a parent are its own, so that any number of parents of one
account, in one instrument too, go on side by side: a fill belongs to the child whose id the trade carries, and a child to one parent.
"""

import math
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit
from pydantic import Field, model_validator

from abm.agents.view import BPS, Book, View
from abm.clock import Seconds
from abm.exchange.description import NS, Fraction, Frozen, Positive
from abm.exchange.messages import MESSAGE, Kind, Reason, Records, Side, join

if TYPE_CHECKING:
    import pandas as pd

    from abm.agents.base import Population
    from abm.exchange.exchange import Report

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DAY = 86_400.0
NEVER = int(np.iinfo(np.int64).max)

_CRYPTO = (
    4.1,
    3.8,
    3.7,
    3.5,
    3.2,
    3.1,
    3.2,
    3.9,
    3.7,
    3.6,
    3.4,
    3.4,
    4.2,
    6.0,
    7.5,
    6.9,
    5.7,
    4.9,
    4.1,
    4.1,
    3.8,
    3.3,
    3.4,
    3.4,
)
_SESSION = (13.0, 8.5, 7.5, 6.8, 6.3, 5.9, 5.6, 5.6, 5.8, 6.2, 6.9, 8.4, 13.5)

CURVES: dict[str, tuple[float, float, tuple[float, ...]]] = {
    "flat": (0.0, DAY, (1.0,)),
    "crypto": (0.0, DAY, _CRYPTO),
    "session": (14.5 * 3600.0, 6.5 * 3600.0, _SESSION),
}
"""Intraday volume: the second of the UTC day at which it begins, how long it lasts, and the volume of each equal part of that time.

crypto: mean share of the day's bitcoin spot volume, per cent by hour, 5-minute candles of 2025; it peaks as New York opens. session: the U of a
New York session by half hours, in winter; the shape is that of Admati and Pfleiderer (1988), the figures are assumed.
"""

# ------------------------------------------------------------------------------------------------------------------ styles


class Standing(NamedTuple):
    """What a style decides by; arrays with one entry for each parent."""

    quantity: Ints
    """Lots."""
    elapsed: Floats
    """Seconds from its start to its next slice."""
    began: Floats
    """Second of the UTC day at its start."""
    volume: Ints
    """Lots that have traded in the instrument since its start, its own included."""


class _Style(Frozen):
    style: str
    duration: Seconds = Field(
        3600.0, gt=0, description="time after which `finish` deals with what is left", examples=["1h"]
    )
    finish: Literal["market", "drop"] = Field(
        "market", description="what is left at the end: sent as one order that trades at once, or dropped"
    )
    slippage: Fraction | None = Field(
        0.01, description="no child that trades at once goes further than this fraction from the mid; none: anywhere"
    )

    @property
    def every(self) -> float:
        """Seconds between two slices."""
        return self.duration

    @property
    def rests(self) -> bool:
        """Whether children rest in the book; the others trade at once."""
        return True

    @property
    def shown(self) -> float | None:
        """Fraction of a resting child that is displayed; None for all."""
        return None

    def price(self, book: Book, side: npt.NDArray[np.uint8]) -> Floats:
        """Where children rest, in currency: the best price of their own side."""
        return np.where(side == Side.BUY, book.bid or book.mid, book.ask or book.mid)

    def reach(self, standing: Standing) -> Floats:
        """Lots of each parent that should be done, or on their way, until the next slice."""
        raise NotImplementedError


class _Sliced(_Style):
    passive: bool = Field(
        False,
        description="whether children rest at the best price of their own side for a slice; else they trade at once",
    )

    @property
    def rests(self) -> bool:
        """As configured."""
        return self.passive


class _Scheduled(_Sliced):
    slices: int = Field(60, ge=1, le=1_000_000, description="children, at equal intervals", examples=[60])

    @property
    def every(self) -> float:
        """An equal part of the duration."""
        return self.duration / self.slices

    def done_by(self, elapsed: Floats, began: Floats) -> Floats:
        """Fraction of the quantity that the schedule has done after so many seconds."""
        raise NotImplementedError

    def reach(self, standing: Standing) -> Floats:
        """What the schedule has done by the next slice."""
        return np.rint(standing.quantity * self.done_by(standing.elapsed, standing.began))


class TWAP(_Scheduled):
    """The same quantity in each slice: the average price in time."""

    style: Literal["twap"] = Field("twap", description="the style")

    def done_by(self, elapsed: Floats, began: Floats) -> Floats:
        """Time elapsed over duration."""
        return np.minimum(elapsed / self.duration, 1.0)


class VWAP(_Scheduled):
    """In each slice a quantity in proportion to the volume that usually trades then."""

    style: Literal["vwap"] = Field("vwap", description="the style")
    curve: Literal["flat", "crypto", "session"] | tuple[Annotated[float, Field(ge=0)], ...] = Field(
        "crypto",
        description="intraday volume: a day of crypto, a New York session, flat; or the volumes of equal parts of the UTC day",
        examples=["session", [1, 2, 3, 2]],
    )

    @model_validator(mode="after")
    def _has_volume(self) -> "VWAP":
        if not isinstance(self.curve, str) and sum(self.curve) <= 0:
            raise ValueError("curve needs a volume above 0 in some part of the day")
        return self

    def done_by(self, elapsed: Floats, began: Floats) -> Floats:
        """Usual volume until then over that of the whole duration; where that is nothing, time elapsed over duration."""
        start, whole = self._until(began), self._until(began + self.duration)
        usual = whole - start
        part = self._until(began + np.minimum(elapsed, self.duration)) - start
        even = np.minimum(elapsed / self.duration, 1.0)
        return np.where(usual > 0, part / np.where(usual > 0, usual, 1.0), even)

    def _until(self, second: Floats) -> Floats:
        """Days of volume from a midnight until so many seconds later."""
        opens, lasts, volumes = CURVES[self.curve] if isinstance(self.curve, str) else (0.0, DAY, self.curve)
        total = np.concatenate(([0.0], np.cumsum(volumes))) / sum(volumes)
        days = np.floor(second / DAY)
        return days + np.interp(second - days * DAY, opens + lasts * np.linspace(0, 1, len(total)), total)


class AlmgrenChriss(_Scheduled):
    """Fast at first, the faster the more risk matters beside impact: x_j = X sinh(kappa (T - t_j)) / sinh(kappa T) is still held at t_j.

    Almgren and Chriss (2000), Journal of Risk 3(2):5, with linear impact: trading v coins a day costs `temporary` v a coin, and each
    coin moves the price by `permanent` for good.
    """

    style: Literal["almgren_chriss"] = Field("almgren_chriss", description="the style")
    risk_aversion: Positive = Field(1e-6, description="of the cost's variance, per currency", examples=[1e-6])
    volatility: Positive = Field(description="of the price, currency per square root of a day", examples=[0.95])
    temporary: Positive = Field(description="currency a coin, per coin a day: eta", examples=[2.5e-6])
    permanent: float = Field(0.0, ge=0, description="currency a coin: gamma", examples=[2.5e-7])

    @model_validator(mode="after")
    def _impact_fades(self) -> "AlmgrenChriss":
        if self.net_impact <= 0:
            raise ValueError(
                "temporary must exceed permanent x slice (days) / 2; use more slices or a smaller permanent"
            )
        return self

    @property
    def net_impact(self) -> float:
        """Temporary impact less what slices share of the permanent one, eta - gamma tau / 2; currency a coin, per coin a day."""
        return self.temporary - 0.5 * self.permanent * self.every / DAY

    @property
    def kappa(self) -> float:
        """Urgency a day: 2 (cosh(kappa tau) - 1) / tau^2 = risk aversion x volatility^2 / net impact."""
        tau = self.every / DAY
        return 2.0 * math.asinh(0.5 * tau * self.volatility * math.sqrt(self.risk_aversion / self.net_impact)) / tau

    def done_by(self, elapsed: Floats, began: Floats) -> Floats:
        """1 - sinh(kappa (T - t)) / sinh(kappa T), in a form that does not overflow."""
        kappa = self.kappa / DAY
        left = self.duration - np.minimum(elapsed, self.duration)
        if kappa * self.duration < 1e-6:  # nothing is urgent
            return 1.0 - left / self.duration
        return 1.0 - np.exp(kappa * (left - self.duration)) * np.expm1(-2.0 * kappa * left) / math.expm1(
            -2.0 * kappa * self.duration
        )


class Participation(_Sliced):
    """A fraction of all that has traded since the start, looked at anew in each slice."""

    style: Literal["participation"] = Field("participation", description="the style")
    rate: float = Field(0.1, gt=0, lt=1, description="fraction of the volume, its own included", examples=[0.1])
    interval: Seconds = Field(60.0, gt=0, description="time between two slices", examples=["1min"])

    @property
    def every(self) -> float:
        """As configured."""
        return self.interval

    def reach(self, standing: Standing) -> Floats:
        """The fraction of what has traded so far: what comes is not known."""
        return np.rint(self.rate * standing.volume)


class Iceberg(_Style):
    """One limit order of which a part is displayed."""

    style: Literal["iceberg"] = Field("iceberg", description="the style")
    display: float = Field(0.1, ge=1e-4, le=1, description="fraction displayed", examples=[0.1])
    distance_bps: float = Field(
        0.0, ge=0, le=5000, description="from the mid at the start to the limit, basis points away from the market"
    )

    @property
    def shown(self) -> float | None:
        """As configured."""
        return self.display

    def price(self, book: Book, side: npt.NDArray[np.uint8]) -> Floats:
        """Away from the mid, as configured."""
        return book.mid * np.where(side == Side.BUY, 1.0 - self.distance_bps * BPS, 1.0 + self.distance_bps * BPS)

    def reach(self, standing: Standing) -> Floats:
        """All of it at once."""
        return standing.quantity.astype(np.float64)


Style = Annotated[TWAP | VWAP | AlmgrenChriss | Participation | Iceberg, Field(discriminator="style")]
"""A style of execution; in YAML a mapping whose `style` says which."""

# -------------------------------------------------------------------------------------------------------------- the desk

WORKING, ENDING, DROPPED, DONE = range(4)
"""States of a parent: worked; its last order, which trades at once, is sent; nothing more is sent; nothing of it is left anywhere."""

PARENT = np.dtype(
    [
        ("quantity", np.int64),  # lots
        ("filled", np.int64),
        ("cost", np.float64),  # ticks x lots
        ("arrival", np.float64),  # mid at its start, currency
        ("start_ns", np.int64),
        ("next_ns", np.int64),  # next slice
        ("volume", np.int64),  # lots that had traded in the instrument at its start
        ("left", np.int64),  # lots of its child that have not traded, as far as is known
        ("child", np.int32),  # id of its latest order
        ("old", np.int32),  # id of the one before, which may trade until its cancellation arrives
        ("account", np.int32),  # counted from 0 within the population
        ("instrument", np.int16),
        ("style", np.int16),
        ("side", np.uint8),
        ("reason", np.uint8),
        ("state", np.uint8),
        ("rests", np.bool_),  # its child was sent to wait in the book
        ("withdrawn", np.bool_),  # its child was cancelled, and is gone by the next step
    ],
    align=True,
)


@njit(cache=True)
def count_fills(trades: Records, first: int, size: int, ids: Ints, rows: Ints, parents: Records, volume: Ints) -> None:
    """Add trades to the parents whose children they fill.

    Args:
        trades: `TRADE` records.
        first: The population's first account.
        size: How many accounts it has.
        ids: Orders of parents, ascending.
        rows: The parent of each.
        parents: `PARENT` records; changed.
        volume: Lots traded so far, by instrument; changed.
    """
    for t in range(len(trades)):
        trade = trades[t]
        volume[trade.instrument] += trade.quantity
        for maker in range(2):
            owner = trade.maker_owner if maker else trade.taker_owner
            if owner < first or owner >= first + size:
                continue
            order = trade.maker if maker else trade.taker
            place = np.searchsorted(ids, order)
            if place == len(ids) or ids[place] != order:
                continue
            parent = parents[rows[place]]
            parent.filled += trade.quantity
            parent.cost += np.float64(trade.quantity) * trade.price
            if parent.child == order:
                parent.left -= trade.quantity


class ParentOrders:
    """The desk of a population: its parent orders, whoever of its accounts they are of.

    A child never asks for more than its parent would lack if the order before it were filled to the last lot while its cancellation is
    on the way. So a parent is never overfilled, whatever the latency.
    """

    def __init__(self, owner: "Population") -> None:
        """Work for a population, and be told of each step's trades."""
        self._owner, self._model = owner, owner.model
        self._names = [instrument.name for instrument in self._model.exchange.instruments]
        self._parents = np.zeros(16, PARENT)
        self._count = 0
        self._open = np.zeros(0, np.int64)
        self._styles: dict[_Style, int] = {}
        self._ids = self._rows = np.zeros(0, np.int64)
        self._volume = np.zeros(len(self._names), np.int64)
        start = self._model.scenario.clock.start
        self._midnight = (start - start.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds()
        self.next_ns = NEVER
        """Time of the next slice of any parent, ns since the start of the run."""
        self._model.observers.append(self)

    @property
    def parents(self) -> Records:
        """All parents so far, as `PARENT` records; a parent's number is its place. Not to be written to."""
        return self._parents[: self._count]

    def work(
        self,
        book: Book,
        side: npt.ArrayLike,
        quantity: npt.ArrayLike,
        style: Style,
        *,
        who: npt.NDArray[np.int64] | None = None,
        reason: npt.ArrayLike = Reason.EXECUTION,
    ) -> Ints:
        """Take parent orders, one for each account; their first slice is due at once.

        Args:
            book: Where.
            side: `Side`, one for all or one for each.
            quantity: Coins or shares; rounded down to lots, and orders of no lot are left out.
            style: How they are worked.
            who: Accounts counted from 0 within the population; all of them where absent.
            reason: `Reason` of the children, one for all or one for each.

        Returns:
            Numbers of the parents.
        """
        accounts = np.arange(self._owner.size) if who is None else np.asarray(who)
        lots = np.broadcast_to(np.asarray(quantity, np.float64) / book.instrument.lot + 1e-9, len(accounts))
        some = np.flatnonzero(lots >= 1)
        numbers = np.arange(self._count, self._count + len(some))
        if len(some) == 0:
            return numbers
        self._make_room(len(some))
        new = self._parents[numbers]
        new["account"], new["quantity"] = accounts[some], lots[some].astype(np.int64)
        for name, value in (("side", side), ("reason", reason)):
            new[name] = np.broadcast_to(np.asarray(value), len(accounts))[some]
        new["instrument"], new["arrival"], new["volume"] = book.index, book.mid, self._volume[book.index]
        new["start_ns"] = new["next_ns"] = self.next_ns = self._model.time_ns
        new["style"] = self._styles.setdefault(style, len(self._styles))
        self._parents[numbers] = new
        self._count += len(some)
        self._open = np.concatenate((self._open, numbers))
        return numbers

    def drop(self, numbers: npt.ArrayLike) -> None:
        """End parents: what rests of them is cancelled in the next step, and nothing more is sent."""
        chosen = np.asarray(numbers)
        chosen = chosen[self._parents["state"][chosen] != DONE]
        if len(chosen):
            self._parents["state"][chosen] = DROPPED
            self._parents["next_ns"][chosen] = self.next_ns = self._model.time_ns

    def children(self, view: View) -> Records | None:
        """The messages that are due: old children go, new ones come. None for nothing.

        Args:
            view: What anyone may see at the start of the step.
        """
        if view.time_ns < self.next_ns:
            return None
        parents, now = self._parents, view.time_ns
        due = self._open[parents["next_ns"][self._open] <= now]
        self._take_stock(due)
        due = due[parents["state"][due] != DONE]
        messages = [self._withdraw(due)]
        groups = parents["style"][due].astype(np.int64) * len(self._names) + parents["instrument"][due]
        styles = tuple(self._styles)
        for group in np.unique(groups):
            style, book = styles[group // len(self._names)], view[self._names[group % len(self._names)]]
            messages += self._slice(due[groups == group], style, book, now)
        self._open = self._open[parents["state"][self._open] != DONE]
        self.next_ns = int(parents["next_ns"][self._open].min()) if len(self._open) else NEVER
        self._forget()
        return join(messages)

    def observe(self, report: "Report") -> None:
        """Count what a step has filled, and what has traded. The market calls this after each match."""
        if len(self._open) and len(report.trades):
            owner = self._owner
            count_fills(report.trades, owner.first, owner.size, self._ids, self._rows, self._parents, self._volume)

    def table(self) -> "pd.DataFrame":
        """One row for each parent.

        Columns: `account`, `instrument`, `side`, `style`, `quantity` and `filled` (coins or shares), `arrival_price` (the mid as it came),
        `average_price` of its fills, `shortfall` (currency lost by filling at that price rather than the arrival price, fees left out),
        `shortfall_bps` (of the arrival price), `start` (seconds) and `done`. Quantities of an inverse perpetual are its currency, so there the
        shortfall is not in coins; the prices hold.
        """
        import pandas as pd

        rows, instruments = self.parents, self._model.exchange.instruments
        tick, lot = (np.array([getattr(i, name) for i in instruments])[rows["instrument"]] for name in ("tick", "lot"))
        filled = rows["filled"] * lot
        average = np.divide(
            rows["cost"] * tick, rows["filled"], out=np.full(len(rows), np.nan), where=rows["filled"] > 0
        )
        worse = (average - rows["arrival"]) * np.where(rows["side"] == Side.BUY, 1.0, -1.0)
        return pd.DataFrame(
            {
                "account": rows["account"],
                "instrument": [self._names[index] for index in rows["instrument"]],
                "side": [Side(side).name.lower() for side in rows["side"]],
                "style": [[style.style for style in self._styles][index] for index in rows["style"]],
                "quantity": rows["quantity"] * lot,
                "filled": filled,
                "arrival_price": rows["arrival"],
                "average_price": average,
                "shortfall": np.where(filled > 0, worse * filled, 0.0),
                "shortfall_bps": worse / rows["arrival"] / BPS,
                "start": rows["start_ns"] / NS,
                "done": rows["state"] == DONE,
            }
        )

    # ------------------------------------------------------------------ one slice

    def _take_stock(self, due: Ints) -> None:
        """Find out which children are gone, and which parents are done with."""
        row = self._parents[due]
        row["old"] = 0
        row["left"][row["withdrawn"]] = 0
        row["withdrawn"] = False
        # What trades at once is gone by the next step, unless it came in a call and awaits the auction
        for k in np.flatnonzero((row["left"] > 0) & ~row["rests"]):
            if self._model.exchange.order(int(row["child"][k])) is None:
                row["left"][k] = 0
        over = (row["filled"] == row["quantity"]) | ((row["state"] != WORKING) & (row["left"] == 0))
        row["state"][over] = DONE
        self._parents[due] = row

    def _withdraw(self, due: Ints) -> Records:
        """Cancellations of the children that rest; the order that ends a parent may await an auction."""
        parents = self._parents
        resting = due[(parents["left"][due] > 0) & (parents["state"][due] != ENDING)]
        messages = np.zeros(len(resting), MESSAGE)
        messages["kind"], messages["order"] = Kind.CANCEL, parents["child"][resting]
        messages["owner"] = self._owner.first + parents["account"][resting]
        messages["instrument"] = parents["instrument"][resting]
        parents["withdrawn"][resting] = True
        return messages

    def _slice(self, which: Ints, style: _Style, book: Book, now: int) -> list[Records]:
        """New children of parents of one style in one book, as far as anything is to be done."""
        row = self._parents[which]
        every, ends = max(1, round(style.every * NS)), row["start_ns"] + round(style.duration * NS)
        upcoming = np.minimum(row["start_ns"] + ((now - row["start_ns"]) // every + 1) * every, ends)
        lacking, on_book = row["quantity"] - row["filled"], row["left"]
        standing = Standing(
            row["quantity"],
            (upcoming - row["start_ns"]) / NS,
            (self._midnight + row["start_ns"] / NS) % DAY,
            self._volume[book.index] - row["volume"],
        )
        working = row["state"] == WORKING
        ended = working & (now >= ends)
        behind = np.clip(style.reach(standing).astype(np.int64) - row["filled"], 0, lacking)
        wanted = np.where(working & ~ended, behind, 0)
        lots = np.minimum(wanted, lacking - on_book)
        # What is left at the end is known when nothing rests any more
        ending = ended & (on_book == 0)
        row["state"][ending] = ENDING if style.finish == "market" else DROPPED
        blocked = (wanted > 0) & (lots == 0)
        row["next_ns"] = np.where(working & ~ended & ~blocked, upcoming, now + 1)
        sent = [(np.flatnonzero(lots > 0), lots, style.rests)]
        if style.finish == "market":
            sent.append((np.flatnonzero(ending), lacking, False))
        messages = [
            self._send(row, which, chosen, size[chosen], style, book, rests)
            for chosen, size, rests in sent
            if len(chosen)
        ]
        self._parents[which] = row
        return messages

    def _send(
        self, row: Records, which: Ints, chosen: Ints, lots: Ints, style: _Style, book: Book, rests: bool
    ) -> Records:
        """Child orders of some of the parents `which`, written into their rows."""
        who, side, reason = (row[name][chosen] for name in ("account", "side", "reason"))
        quantity = lots * book.instrument.lot
        if rests:
            price = style.price(book, side)
            orders = self._owner.limit(book, side, price, quantity, who=who, reason=reason, display=style.shown)
        else:
            orders = self._owner.market(book, side, quantity, who=who, reason=reason, slippage=style.slippage)
        orders["quantity"] = lots  # whatever a float made of them
        orders["order"] = self._model.exchange.take_ids(len(chosen)) + np.arange(len(chosen))
        row["old"][chosen], row["child"][chosen] = row["child"][chosen], orders["order"]
        row["left"][chosen], row["rests"][chosen] = lots, rests
        row["withdrawn"][chosen] = False
        self._ids = np.concatenate((self._ids, orders["order"]))
        self._rows = np.concatenate((self._rows, which[chosen]))
        return orders

    # ------------------------------------------------------------------ storage

    def _make_room(self, count: int) -> None:
        if self._count + count > len(self._parents):
            grown = np.zeros(max(2 * len(self._parents), self._count + count), PARENT)
            grown[: self._count] = self.parents
            self._parents = grown

    def _forget(self) -> None:
        """Drop orders whose fills nobody waits for, once there are many of them. New ids are greater than all before, so they stay in order."""
        if len(self._ids) > 4 * len(self._open) + 64:
            rows = self._parents[self._rows]
            kept = (rows["state"] != DONE) & ((rows["child"] == self._ids) | (rows["old"] == self._ids))
            self._ids, self._rows = self._ids[kept], self._rows[kept]
