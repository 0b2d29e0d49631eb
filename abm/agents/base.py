"""What all traders are: `Population`, which decides for a block of accounts at once, and `Trader`, one account in plain Python.

Both are Mesa agents, send the same messages, and are made known by the decorator `trader`, with a configuration that says its units.
"""

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import mesa
import numpy as np
import numpy.typing as npt
from mesa.time import Schedule
from pydantic import Field, model_validator

from abm.agents import orders as order_arrays
from abm.agents.execution import ParentOrders, Style
from abm.agents.view import Book, View
from abm.clock import seconds
from abm.exchange.description import MONEY_UNITS, NS, Frozen
from abm.exchange.gateway import Batch, Latency
from abm.exchange.instrument import Instrument
from abm.exchange.messages import MESSAGE, Flag, Kind, Reason, Records, Side, TimeInForce, join
from abm.random import Block, Draws, Wakeups

if TYPE_CHECKING:
    import pandas as pd

    from abm.contagion.graph import Edge
    from abm.market import Market
    from abm.scenario import Scenario

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Numbers = float | npt.NDArray[Any] | Sequence[float]
Coins = Numbers | Mapping[str, Numbers]


class TraderConfig(Frozen):
    """What every kind of trader is told."""

    kind: str = Field("", description="kind of trader; the key in `traders` where it is not given", examples=["noise"])
    instrument: str = Field("btc-spot", description="name of the instrument it trades", examples=["btc-spot"])
    accounts: int = Field(1, ge=0, le=10_000_000, description="accounts", examples=[1000])
    latency: Latency = Field(Latency(base=10.0, spread=40.0), description="time from a decision to the exchange")
    tier: int = Field(0, ge=0, le=255, description="fee tier: an index into the instrument's fees", examples=[1])

    @property
    def traded(self) -> tuple[str, ...]:
        """Names of all instruments it trades."""
        return (self.instrument,)


class BooksConfig(TraderConfig):
    """What a trader is told who trades several `books`, each on terms of its own."""

    instrument: str = Field("", description="the first of `books`; leave it out", examples=["btc-spot"])
    books: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _first_book(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        books = value.get("books", cls.model_fields["books"].default)
        if not isinstance(books, Mapping):
            return value
        books = {name: terms for name, terms in books.items() if terms is not None}
        first = next(iter(books), "")
        if value.get("instrument", first) not in ("", first):
            raise ValueError(f"instrument: leave it out, or give {first}: books says what it trades")
        return {**value, "books": books, "instrument": first}

    @property
    def traded(self) -> tuple[str, ...]:
        """Names of `books`."""
        return tuple(self.books)


_KINDS: dict[str, type["Population"]] = {}


def trader[T: type["Population"]](kind: str) -> Callable[[T], T]:
    """Make a class known as a kind of trader; the annotation of its attribute `config` names its configuration class."""

    def register(cls: T) -> T:
        config = next(
            base.__annotations__["config"] for base in cls.__mro__ if "config" in inspect.get_annotations(base)
        )
        if isinstance(config, str):  # annotations of a module with `from __future__ import annotations`
            config = vars(sys.modules[cls.__module__]).get(config)
        if not (isinstance(config, type) and issubclass(config, TraderConfig)):
            raise TypeError(f"{cls.__name__}.config must be annotated with a subclass of TraderConfig")
        known = _KINDS.get(kind)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"the kind {kind!r} is taken by {known.__module__}.{known.__qualname__}")
        cls.kind = kind
        cls.config_class = config
        _KINDS[kind] = cls
        return cls

    return register


def kinds() -> dict[str, type["Population"]]:
    """All kinds of traders that are known, by name."""
    return dict(sorted(_KINDS.items()))


class Population(mesa.Agent):  # type: ignore[misc]
    """A block of accounts that one Mesa agent owns and decides for.

    A kind of trader overrides `decide`, and where it needs to `endow` (what its accounts start with) and `setup` (its own state, and
    when it wakes). Attributes that describe accounts are arrays with one entry for each of them.
    """

    kind: ClassVar[str] = ""
    channel: ClassVar[str] = ""
    """The channel of contagion that it carries, if any: where that is off, it keeps what it has and sends nothing."""
    for_fund: ClassVar[bool] = False
    """Whether it has no account of its own and acts for the insurance fund."""
    config_class: ClassVar[type[TraderConfig]] = TraderConfig
    config: TraderConfig
    model: "Market"

    def __init__(self, model: "Market", name: str | None = None, config: TraderConfig | None = None) -> None:
        """Join a market.

        Args:
            model: The market.
            name: Name that keys its random streams and its rows in tables; made from the class name where absent.
            config: Its configuration; the defaults of its kind where absent.
        """
        super().__init__(model)
        self.config = self.config_class() if config is None else config
        self.size = self.config.accounts
        self.silent = not model.scenario.channels.on(self.channel)
        """Whether it sends nothing, as its channel is off."""
        self.awake = False
        """Whether it decides in the next step."""
        self.every_step = False
        """Whether it decides in every step."""
        self.desk: ParentOrders | None = None
        """Where its parent orders are worked, from the first one on."""
        self.name = model.unused_name(name or self.kind or type(self).__name__.lower())
        self.first = model.admit(self)
        self.rows = np.arange(self.first, self.first + self.size, dtype=np.int32)
        self._everyone = np.arange(self.size)
        self._instruments: tuple[Instrument, ...] = model.exchange.instruments
        self._means = (
            order_arrays.terms_of(self._instruments, self.config.tier),
            *(model.cash, model.cash_reserved, model.position, model.position_reserved),
            # By column, as accounts trade few instruments and memory that is never written takes none
            np.zeros((self.size, 1 + len(self._instruments)), np.int64, order="F"),
        )
        delay, latency = self.random("latency"), self.config.latency
        self._delays = self.block(lambda k: latency.draw(delay, k))
        self.setup()
        cash, coins = self.endow()
        model.open_account(self, cash, coins)

    # ------------------------------------------------------------------ what a kind of trader says of itself

    def setup(self) -> None:
        """Prepare its own state and say when it wakes; by default it decides in every step."""
        self.every_step = True

    def endow(self) -> tuple[Numbers, Coins]:
        """Cash (currency) and coins or shares that its accounts start with: scalars or one for each account.

        Coins are of its instrument, or a mapping from names of instruments of kind spot.
        """
        return 0.0, 0.0

    def open_positions(self) -> Mapping[str, tuple[Numbers, Numbers]]:
        """Derivatives that its accounts hold at the start: by name, coins (short where negative) and entry prices (currency).

        For each long somebody is short: what all populations hold together is made up by one that can `balance`.
        """
        return {}

    def opened(self) -> None:
        """Take note of the positions that it holds at the start, which are in the ledger now."""

    def balance(self, instrument: str, lots: int) -> npt.NDArray[np.int64] | None:
        """Take the other side of what others hold of a derivative at the start.

        Args:
            instrument: Its name.
            lots: What is missing, short where negative.

        Returns:
            Lots of each account, which add up to that; None if this is not its business.
        """
        return None

    def decide(self, view: View) -> Records | None:
        """The messages it sends now, oldest first; None for nothing.

        Args:
            view: What anyone may see at the start of the step.
        """
        return None

    def owed(self) -> Numbers:
        """Currency that each account owes to brokers outside the market."""
        return 0.0

    def elsewhere(self, has: Floats) -> None:
        """Add what accounts have in books that it keeps beside the ledger, such as a pool's, less what they owe there.

        Args:
            has: Currency of each account of the market, whoever's it is; changed in place.
        """

    def faults(self) -> tuple[str, ...]:
        """What is wrong with books that it keeps beside the ledger, one line each; empty if nothing is."""
        return ()

    def gauges(self) -> Mapping[str, float]:
        """What is to be seen of it over time besides its trades: numbers by name, asked for at the end of each bar."""
        return {}

    def about(self) -> Mapping[str, Any]:
        """What the summary of a run says of it besides its accounts, as plain values."""
        return {}

    # ------------------------------------------------------------------ what links assets

    @classmethod
    def parts(cls, name: str, config: TraderConfig, scenario: "Scenario") -> Mapping[str, TraderConfig]:
        """The populations that a configuration stands for, by name; several where a channel that links its assets is off."""
        return {name: config}

    def carries(self) -> dict[str, Floats]:
        """What each account could bring from a loss elsewhere to each instrument, in currency: by default what it holds of it."""
        mids = {name: self.model.view()[name].mid for name in self.config.traded}
        return {name: np.abs(self.holdings(name)) * mid for name, mid in mids.items()}

    def links(self) -> Iterable["Edge"]:
        """Edges of its channel that only its own books know; by default none."""
        return ()

    @property
    def mood(self) -> float:
        """Mood of the community that it belongs to, from -1 (fear) to 1 (greed); 0 without one."""
        return self.model.contagion.mood(self.name)

    @property
    def nerve(self) -> float:
        """Factor on its thresholds of panic: 1 in no mood or a good one, one half in full fear."""
        return float(2.0 ** min(self.mood, 0.0))

    def margin_notice(self, instrument: str, before: float, after: float) -> None:
        """A clearing house has announced that an instrument's initial margin will change.

        Args:
            instrument: Its name.
            before: Initial margin so far, as a fraction of the notional.
            after: Initial margin from then on.
        """

    # ------------------------------------------------------------------ time and chance

    def random(self, purpose: str) -> np.random.Generator:
        """A random stream of its own: the same for the same seed, name and purpose, whoever else is in the market."""
        return self.model.streams.of(self.name, purpose)

    def block[D: Draws](self, draw: Callable[[int], D], size: int = 8192) -> Block[D]:
        """A block of draws from random streams of its own; see `abm.random.Block`."""
        return self.model.streams.keep(Block(draw, size))

    def wakeups(self, mean: float) -> Wakeups:
        """Random times, `mean` seconds apart on average, at which each of its accounts looks at the market; its stream is `look`."""
        return self.model.streams.keep(Wakeups(self.random("look"), self.size, mean))

    def wake(self) -> None:
        """Decide in the next step."""
        self.awake = True

    def wake_every(self, interval: str | float, start: str | float = 0.0, end: str | float | None = None) -> None:
        """Wake at regular times, counted from the start of the run; never less than a step apart."""
        units = self.model.scenario.clock.units
        first = max(units(start), self.model.time)
        last = None if end is None else units(end)
        if last is None or first <= last:
            self.model.schedule_recurring(
                self.wake, Schedule(interval=max(1.0, units(interval)), start=first, end=last)
            )

    # ------------------------------------------------------------------ what it has

    @property
    def cash(self) -> Floats:
        """Cash in currency."""
        return np.asarray(self.model.cash[self.first : self.first + self.size] / MONEY_UNITS)

    def free_cash(self, who: npt.NDArray[Any] | None = None) -> Floats:
        """Cash in currency that no resting order holds back, of some accounts (counted from 0) or all."""
        rows = self._rows(who)
        return np.asarray((self.model.cash[rows] - self.model.cash_reserved[rows]) / MONEY_UNITS)

    def holdings(self, instrument: str | None = None, who: npt.NDArray[Any] | None = None) -> Floats:
        """Coins or shares held by some accounts (counted from 0) or all."""
        index = self.model.exchange.index(instrument or self.config.instrument)
        return np.asarray(self.model.position[self._rows(who), index] * self._instruments[index].lot)

    def free_holdings(self, instrument: str | None = None, who: npt.NDArray[Any] | None = None) -> Floats:
        """Coins or shares that no resting sale holds back, of some accounts (counted from 0) or all."""
        index, rows = self.model.exchange.index(instrument or self.config.instrument), self._rows(who)
        lots = self.model.position[rows, index] - self.model.position_reserved[rows, index]
        return np.asarray(lots * self._instruments[index].lot)

    def margin_equity(self, who: npt.NDArray[Any] | None = None) -> Floats:
        """Cash, posted margin, and what positions with margin add at the mark, in currency, of some accounts (counted from 0) or all."""
        rows = self.rows if who is None else self.rows[who]
        return self.model.house.equity(rows) / MONEY_UNITS

    def free_margin(self, who: npt.NDArray[Any] | None = None) -> Floats:
        """Currency that some accounts (counted from 0) or all may still put behind positions, or pay out."""
        rows = self.rows if who is None else self.rows[who]
        return np.asarray(self.model.house.free_cash(rows) / MONEY_UNITS)

    def set_leverage(
        self,
        instrument: str,
        leverage: npt.ArrayLike,
        isolated: npt.ArrayLike = False,
        who: npt.NDArray[Any] | None = None,
    ) -> None:
        """Set leverage and margin mode of accounts that have neither position nor orders in an instrument with margin."""
        self.model.house.set_terms(self.rows if who is None else self.rows[who], instrument, leverage, isolated)

    def _rows(self, who: npt.NDArray[Any] | None) -> Any:
        return slice(self.first, self.first + self.size) if who is None else self.rows[who]

    # ------------------------------------------------------------------ what it can send

    def limit_buy(self, book: Book, price: Numbers, quantity: Numbers, **terms: Any) -> Records:
        """Limit orders to buy; see `limit`. Prices are rounded down to a tick."""
        return self.limit(book, Side.BUY, price, quantity, **terms)

    def limit_sell(self, book: Book, price: Numbers, quantity: Numbers, **terms: Any) -> Records:
        """Limit orders to sell; see `limit`. Prices are rounded up to a tick."""
        return self.limit(book, Side.SELL, price, quantity, **terms)

    def limit(
        self,
        book: Book,
        side: npt.ArrayLike,
        price: Numbers,
        quantity: Numbers,
        *,
        who: npt.NDArray[Any] | None = None,
        reason: npt.ArrayLike = Reason.UNSPECIFIED,
        tif: npt.ArrayLike = TimeInForce.GTC,
        lifetime: str | float | None = None,
        display: float | None = None,
        flags: Flag = Flag.NONE,
    ) -> Records:
        """Limit orders, one for each account.

        Args:
            book: Where.
            side: `Side`, one for all or one for each.
            price: Currency; rounded to a tick away from the market.
            quantity: Coins or shares; rounded down to lots, and orders of no lot are left out.
            who: Accounts counted from 0 within the population; all of them where absent.
            reason: `Reason`, one for all or one for each.
            tif: `TimeInForce`, one for all or one for each.
            lifetime: If given, orders that would be good till cancelled end after this time.
            display: If given, the fraction shown of each order (iceberg).
            flags: Post-only, hidden and so on.
        """
        expiry = 0 if lifetime is None else self.model.time_ns + round(seconds(lifetime) * NS)
        return self._orders(book, Kind.LIMIT, who, side, price, quantity, reason, tif, expiry, display or 0.0, flags)

    def market(
        self,
        book: Book,
        side: npt.ArrayLike,
        quantity: Numbers,
        *,
        who: npt.NDArray[Any] | None = None,
        reason: npt.ArrayLike = Reason.UNSPECIFIED,
        slippage: float | None = None,
    ) -> Records:
        """Orders that trade at once, one for each account; what finds nobody is cancelled.

        Args:
            book: Where.
            side: `Side`, one for all or one for each.
            quantity: Coins or shares; rounded down to lots, and orders of no lot are left out.
            who: Accounts counted from 0 within the population; all of them where absent.
            reason: `Reason`, one for all or one for each.
            slippage: If given, no worse price than this fraction from the mid.
        """
        if slippage is not None:
            away = np.where(np.asarray(side) == Side.BUY, 1.0 + slippage, 1.0 - slippage)
            return self.limit(book, side, book.mid * away, quantity, who=who, reason=reason, tif=TimeInForce.IOC)
        return self._orders(book, Kind.MARKET, who, side, 0.0, quantity, reason, TimeInForce.IOC, 0, 0.0, Flag.NONE)

    def cancel_all(self, book: Book | None = None, who: npt.NDArray[Any] | None = None) -> Records:
        """End all orders of the accounts, in one book or in all."""
        rows = self.rows if who is None else self.rows[who]
        messages = np.zeros(len(rows), MESSAGE)
        messages["kind"] = Kind.MASS_CANCEL
        messages["owner"] = rows
        messages["instrument"] = -1 if book is None else book.index
        return messages

    def work(
        self,
        book: Book,
        side: npt.ArrayLike,
        quantity: Numbers,
        style: Style,
        *,
        who: npt.NDArray[Any] | None = None,
        reason: npt.ArrayLike = Reason.EXECUTION,
    ) -> Ints:
        """Have parent orders worked, one for each account, whose child orders are sent from now on; see `ParentOrders.work`."""
        if self.desk is None:
            self.desk = ParentOrders(self)
        return self.desk.work(book, side, quantity, style, who=who, reason=reason)

    def _orders(
        self,
        book: Book,
        kind: Kind,
        who: npt.NDArray[Any] | None,
        side: npt.ArrayLike,
        price: Numbers,
        quantity: Numbers,
        reason: npt.ArrayLike,
        tif: npt.ArrayLike,
        expiry: int,
        display: float,
        flags: Flag,
    ) -> Records:
        who = self._everyone if who is None else who
        n, instrument = len(who), book.instrument
        out = np.empty(n, MESSAGE)
        written: int = order_arrays.write(
            out,
            int(kind),
            book.index,
            self.first,
            instrument.tick,
            instrument.lot,
            instrument.n_ticks,
            expiry,
            float(display),
            int(flags),
            order_arrays.each(who, n, np.int64),
            order_arrays.each(side, n, np.int64),
            order_arrays.each(price, n, np.float64),
            order_arrays.each(quantity, n, np.float64),
            order_arrays.each(reason, n, np.int64),
            order_arrays.each(tif, n, np.int64),
        )
        return out[:written]

    def due(self, now_ns: int) -> bool:
        """Whether it has anything to decide or to send at a time (ns)."""
        if self.silent:
            return False
        return self.awake or self.every_step or (self.desk is not None and self.desk.next_ns <= now_ns)

    def orders(self, view: View) -> Batch | None:
        """What it decides and what its desk sends, cut to what its accounts can pay for, with ids and its latencies. The market calls this."""
        decides, self.awake = self.awake or self.every_step, False
        if self.size == 0:
            return None
        decided = self.decide(view) if decides else None
        children = self.desk.children(view) if self.desk is not None else None
        parts = [part for part in (decided, children) if part is not None and len(part)]
        if not parts:
            return None
        messages, market = join(parts), self.model
        first_id = market.exchange.take_ids(len(messages))
        kept = order_arrays.fit(messages, self.first, first_id, view.time_ns, market.tops(), *self._means)
        return Batch(messages[:kept], self._delays.take(kept)) if kept else None


class Trader(Population):
    """One account that decides in plain Python: override `act`, and say what to do with `buy`, `sell`, `cancel`, `hold`.

    Example:
        class Contrarian(abm.Trader):
            def act(self, view):
                if view["btc-spot"].return_over("5min") < -0.005:
                    self.buy("btc-spot", 0.01)

        market = abm.Market(abm.load("first-hour"))
        mine = Contrarian(market, cash=10_000)
    """

    every: ClassVar[str] = "1s"
    """How often it acts."""

    def __init__(
        self,
        model: "Market",
        name: str | None = None,
        config: TraderConfig | None = None,
        *,
        cash: float = 0.0,
        coins: float = 0.0,
    ) -> None:
        """Join a market.

        Args:
            model: The market.
            name: Name that keys its random streams; made from the class name where absent.
            config: Its configuration; the defaults of its kind where absent.
            cash: Currency it starts with.
            coins: Coins or shares of its instrument that it starts with.
        """
        self._start = (cash, coins)
        self._outbox: list[Records] = []
        super().__init__(model, name, config)
        if self.size != 1:
            raise ValueError(f"{self.name}: a Trader is one account, not {self.size}; write a Population for more")

    def setup(self) -> None:
        """Act at the interval `every`, from now on."""
        self.wake_every(self.every, start=self.model.seconds)

    def endow(self) -> tuple[Numbers, Coins]:
        """What it was given when it was made."""
        return self._start

    def act(self, view: View) -> None:
        """Look at the market and say what to do."""

    def decide(self, view: View) -> Records | None:
        """What `act` asked for, in that order."""
        self.act(view)
        if not self._outbox:
            return None
        messages = join(self._outbox)
        self._outbox.clear()
        return messages

    def buy(self, instrument: str, quantity: float, price: float | None = None, **terms: Any) -> int:
        """Send an order to buy: a market order, or a limit order where a price (currency) is given. Returns its id, 0 if it is too small."""
        return self._send(Side.BUY, instrument, quantity, price, terms)

    def sell(self, instrument: str, quantity: float, price: float | None = None, **terms: Any) -> int:
        """Send an order to sell: a market order, or a limit order where a price (currency) is given. Returns its id, 0 if it is too small."""
        return self._send(Side.SELL, instrument, quantity, price, terms)

    def cancel(self, order: int | None = None) -> None:
        """Cancel one order, or all."""
        message = self.cancel_all()
        if order is not None:
            message["kind"] = Kind.CANCEL
            message["order"] = order
        self._outbox.append(message)

    def hold(self) -> None:
        """Do nothing, in so many words."""

    def position(self, instrument: str | None = None) -> float:
        """Coins or shares held."""
        return float(self.holdings(instrument)[0])

    @property
    def equity(self) -> float:
        """Cash, margin and profit of what it holds with margin (at the mark), and other coins and shares at the mid prices; in currency."""
        view = self.model.view()
        coins = sum(
            int(self.model.position[self.first, index]) * instrument.lot * view[instrument.name].mid
            for index, instrument in enumerate(self._instruments)
            if instrument.margin is None
        )
        return float(self.margin_equity()[0]) + coins

    @property
    def trades(self) -> "pd.DataFrame":
        """Its own trades: time (UTC), instrument, side, price (currency), quantity (coins or shares), and whether it was the maker."""
        return self.model.recorder.trades_of(self.first)

    def _send(self, side: Side, instrument: str, quantity: float, price: float | None, terms: dict[str, Any]) -> int:
        book = self.model.view()[instrument]
        if price is None:
            order = self.market(book, side, quantity, **terms)
        else:
            order = self.limit(book, side, price, quantity, **terms)
        if len(order) == 0:
            return 0
        order["order"] = self.model.exchange.take_ids(1)
        self._outbox.append(order)
        return int(order["order"][0])
