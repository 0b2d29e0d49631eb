"""The exchange in plain Python: docs/concepts/matching.md read aloud, one rule after the other.

What accounts hold, and margin, is in `tests.reference.clearing`, of which this is the matching.

It is slow on purpose. Books are lists that are scanned, numbers are Python integers and fractions, nothing is kept that
can be counted again. The compiled pass must agree with it record for record.
"""

import copy
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, auto
from fractions import Fraction
from math import ceil, floor
from types import SimpleNamespace
from typing import Any

import numpy as np

from abm.exchange.description import NS, PPM
from abm.exchange.instrument import Instrument, MarketWideBreaker, PriceBand
from abm.exchange.messages import (
    ANONYMOUS,
    EVENT,
    OUTCOME,
    TRADE,
    Flag,
    Kind,
    Phase,
    Reason,
    Records,
    Reject,
    SelfTrade,
    Side,
    Status,
    TimeInForce,
    What,
)
from tests.reference.clearing import Clearing

QUEUE = np.dtype([("order", "i4"), ("owner", "i4"), ("quantity", "i8"), ("reserve", "i8"), ("hidden", "?")])

ORDERS = (Kind.LIMIT, Kind.MARKET, Kind.STOP, Kind.STOP_LIMIT, Kind.TRAILING_STOP, Kind.PEGGED)
STOPS = (Kind.STOP, Kind.STOP_LIMIT, Kind.TRAILING_STOP)
BY_ORDER = (Kind.CANCEL, Kind.REDUCE, Kind.REPLACE)
AT_ONCE = (TimeInForce.IOC, TimeInForce.FOK)
POST = Flag.POST_ONLY | Flag.POST_SLIDE


class State(Enum):
    """Where an order is."""

    RESTING = auto()  # in the book
    WAITING = auto()  # outside the book: a stop not yet triggered, a peg without a price
    SITTING_OUT = auto()  # outside the book until trading is continuous again: a peg, a reduce-only order
    TRIGGERED = auto()  # in the activation queue
    DONE = auto()


@dataclass(eq=False)
class Order:
    """One order id and all that is known of it."""

    number: int
    arrival: int  # stamp of creation, shared with the timers
    owner: int
    instrument: int
    kind: int
    side: int
    quantity: int  # lots left, shown or not
    limit: int  # the price its sender gave; 0 = none
    price: int  # where it rests, and how far it reaches when it trades
    trigger: int  # price of a stop, distance of a trailing stop and of a peg
    display: int
    tif: int
    expiry: int
    flags: int
    self_trade: int
    reason: int
    dated: bool = False  # it ends at its expiry
    state: State = State.DONE
    shown: int = 0
    traded: int = 0
    decremented: int = 0
    ended: tuple[Status, Reject] = (Status.REJECTED, Reject.NONE)
    extreme: int = 0  # highest (sell) or lowest (buy) reference a trailing stop has seen; 0 = none yet
    stop_price: int = 0  # price at which a stop triggers; 0 = not known yet
    stop_since: int = 0  # stamp: since when it stands at that price
    pegged_to: int = 0  # best price a peg was last placed by; 0 = none
    of_part: bool = False  # a liquidation's order for a part of an isolated position


@dataclass(eq=False)
class RuleState:
    """One rule of an instrument, with what it remembers."""

    rule: Any
    width: Fraction
    tenth: int = 0  # ns; 0 = the reference is static
    fired: bool = False  # market-wide: since the close was set


@dataclass(eq=False)
class Book:
    """One instrument."""

    index: int
    instrument: Instrument
    phase: Phase
    reference: int
    close: int  # from which market-wide rules count
    rules: list[RuleState]
    last: int = 0
    mark: int = 0
    day_end: int = 0
    phase_set: int = 0  # how often the phase was set: a halt's timers are void when it has moved on
    displayed: tuple[list[Order], list[Order]] = field(default_factory=lambda: ([], []))
    hidden: tuple[list[Order], list[Order]] = field(default_factory=lambda: ([], []))
    activation: list[Order] = field(default_factory=list)
    prints: list[tuple[int, int]] = field(default_factory=list)  # (time, price) of every trade
    fresh: list[int] = field(default_factory=list)  # prices traded that market-wide rules have not looked at
    seen: tuple[int, ...] = (0, 0, 0, 0)  # best bid, best ask, last, phase_set when marks were last made after it

    @property
    def highest(self) -> int:
        return self.instrument.n_ticks - 1

    def resting(self, side: int) -> list[Order]:
        return self.displayed[side] + self.hidden[side]

    def level(self, side: int, price: int) -> list[Order]:
        """Orders at one price in priority order."""
        return [order for order in self.resting(side) if order.price == price]

    def prices(self, side: int) -> list[int]:
        """Prices with orders, best first."""
        return sorted({order.price for order in self.resting(side)}, reverse=side == Side.BUY)

    def best(self, side: int) -> int:
        """Best price with an order of any sort; 0 = none."""
        return next(iter(self.prices(side)), 0)

    def best_displayed(self, side: int, *, pegs: bool = True) -> int:
        unseen = (Kind.MARKET,) if pegs else (Kind.MARKET, Kind.PEGGED)
        prices = [order.price for order in self.displayed[side] if order.kind not in unseen]
        return best_of(side, prices) if prices else 0

    def quantity_at_best(self, side: int) -> int:
        best = self.best_displayed(side)
        return sum(order.shown for order in self.displayed[side] if order.price == best and order.kind != Kind.MARKET)


def best_of(side: int, prices: Iterable[int]) -> int:
    """Return the highest price for buyers, the lowest for sellers."""
    return max(prices) if side == Side.BUY else min(prices)


def written(number: float) -> Fraction:
    """Return a fraction of the configuration as it is written there: 0.1 is one tenth."""
    return Fraction(Decimal(str(number)))


def nanoseconds(seconds: float) -> int:
    return round(seconds * NS)


def ppm(rate: float) -> int:
    return round(rate * PPM)


class ReferenceExchange(Clearing):
    """The whole exchange.

    Args:
        instruments: what is traded.
        accounts: owners are 0..accounts-1 and positions are kept; 0 = nobody is known.
        ledger: cash is kept too, and buying power checked for instruments of kind spot and those with margin; with the latter
            there is one more account, the insurance fund.
    """

    def __init__(self, instruments: Sequence[Instrument], *, accounts: int = 0, ledger: bool = False) -> None:
        self.instruments = tuple(instruments)
        self.time = 0
        self.books = [self._open(index, instrument) for index, instrument in enumerate(instruments)]
        self.orders: dict[int, Order] = {}  # every id ever used, in order of arrival
        self._entered_again = False  # a REPLACE that made its order a new one is answered as an order is
        self.noted: Counter[tuple[Any, ...]] = Counter()  # which rules were at work, for tests of coverage
        self._stamps = 0
        self._sequence = -1
        self._timers: list[tuple[int, int, Book, Callable[[], bool]]] = []
        self._trades: list[tuple[int, ...]] = []
        self._events: list[tuple[int, ...]] = []
        self._stirred = 0
        self._open_accounts(accounts, ledger)

    @staticmethod
    def _open(index: int, instrument: Instrument) -> Book:
        rules = []
        for rule in instrument.rules:
            if isinstance(rule, MarketWideBreaker):
                rules.append(RuleState(rule, written(rule.fall)))
            else:
                tenth = max(1, nanoseconds(rule.window) // 10) if rule.window else 0
                rules.append(RuleState(rule, written(rule.width), tenth))
        reference = 0 if instrument.reference_price is None else instrument.ticks(instrument.reference_price)
        return Book(index, instrument, Phase[instrument.opening.upper()], reference, reference, rules)

    # ---------------------------------------------------------------------------------------------------- reading

    def match(self, tape: Records) -> tuple[Records, Records, Records, Records]:
        """Process a tape of MESSAGE records; return its trades, outcomes, events and liquidations."""
        self._trades, self._events, outcomes = [], [], []
        assert tape.dtype.names is not None
        for row in tape:
            message = SimpleNamespace(**{name: int(row[name]) for name in tape.dtype.names})
            self._sequence += 1
            if not outcomes:  # what was set since the last pass may have made accounts due
                self._begin()
                self._follow()
            outcomes.append(self._process(message))
        return (
            np.array(self._trades, TRADE),
            np.array(outcomes, OUTCOME),
            np.array(self._events, EVENT),
            self._drain_liquidations(),
        )

    def queue(self, instrument: int, side: int, price: int) -> Records:
        """Orders resting at a price in priority order (market orders in a call first): order, owner, shown, reserve, hidden."""
        book = self.books[instrument]
        rows = [
            (order.number, order.owner, order.shown, order.quantity - order.shown, order in book.hidden[side])
            for order in sorted(book.level(side, price), key=lambda order: order.kind != Kind.MARKET)
        ]
        return np.array(rows, QUEUE)

    def levels(self, instrument: int, side: int) -> list[int]:
        """Prices at which orders rest, hidden ones too, best first."""
        return self.books[instrument].prices(side)

    def view(self) -> SimpleNamespace:
        """Best displayed prices and quantities, last, mark, reference and phase, a list over instruments each."""
        return SimpleNamespace(
            best_bid=[book.best_displayed(Side.BUY) for book in self.books],
            best_ask=[book.best_displayed(Side.SELL) for book in self.books],
            bid_quantity=[book.quantity_at_best(Side.BUY) for book in self.books],
            ask_quantity=[book.quantity_at_best(Side.SELL) for book in self.books],
            last=[book.last for book in self.books],
            mark=[book.mark for book in self.books],
            reference=[book.reference for book in self.books],
            phase=[int(book.phase) for book in self.books],
        )

    def open_orders(self, owner: int) -> list[int]:
        """Ids of the orders of an owner that rest or wait, oldest first."""
        return [order.number for order in self._by_arrival() if order.owner == owner]

    @property
    def cash_reserved(self) -> list[int]:
        return [self._cash_reserved(owner) for owner in range(self.accounts)]

    @property
    def position_reserved(self) -> list[list[int]]:
        return [[self._coins_reserved(owner, book) for book in self.books] for owner in range(self.accounts)]

    # ------------------------------------------------------------------------------------------------- the message

    def _process(self, message: SimpleNamespace) -> tuple[int, int, int]:
        while self._fire_next_timer(message.time):
            pass
        self._begin()
        self.time = message.time
        reject = self._check_kind_and_instrument(message)
        known = self.orders.get(message.order) if message.kind in BY_ORDER else None
        before = known.traded if known else 0
        self._entered_again = False
        refused = reject is Reject.NONE and message.kind == Kind.REFUSED
        if reject is Reject.NONE and not refused:
            reject = self._handle(message)
        if refused:  # check 2
            outcome = (0, Status.REJECTED, message.tif)
        elif reject is not Reject.NONE:
            outcome = (0, Status.REJECTED, reject)
        elif message.kind in ORDERS or self._entered_again:
            order = self.orders[message.order]
            outcome = (order.traded - before, *self._status(order))
        else:
            outcome = (0, Status.DONE, Reject.NONE)
        self.noted["reject", reject] += 1
        self._follow(self._first_concerned(message))
        return outcome

    def _first_concerned(self, message: SimpleNamespace) -> int:
        if message.kind in BY_ORDER:
            order = self.orders.get(message.order)
            return order.instrument if order else 0
        return message.instrument if 0 <= message.instrument < len(self.books) and message.kind != Kind.CLOCK else 0

    def _begin(self) -> None:
        """Before a message or a timer."""
        self._moves.clear()
        self._in_progress = 0

    def _status(self, order: Order) -> tuple[Status, Reject]:
        if order.state is State.DONE:
            return order.ended
        stopped = order.kind == Kind.LIMIT and order.state is State.SITTING_OUT  # its own trade stopped trading
        if order.state is State.RESTING or stopped:
            return Status.RESTING, Reject.NONE
        return Status.PENDING, Reject.NONE

    def _check_kind_and_instrument(self, message: SimpleNamespace) -> Reject:
        """Check 1."""
        if message.kind > max(Kind):
            return Reject.UNKNOWN_KIND
        if message.kind == Kind.CLOCK or message.kind in BY_ORDER:
            return Reject.NONE
        if message.kind == Kind.MASS_CANCEL and message.instrument == -1:
            return Reject.NONE
        return Reject.NONE if 0 <= message.instrument < len(self.books) else Reject.UNKNOWN_INSTRUMENT

    def _handle(self, message: SimpleNamespace) -> Reject:
        """Check 3, then what the message asks for."""
        if message.owner < ANONYMOUS or (self.accounts and message.owner >= self.accounts):
            return Reject.UNKNOWN_OWNER
        if message.kind in ORDERS:
            return self._new_order(message)
        if message.kind in BY_ORDER:
            return self._by_order(message)
        if message.kind == Kind.MASS_CANCEL:
            return self._mass_cancel(message)
        if message.kind == Kind.CLOCK:
            for book in self.books:
                self._make_mark(book)
            return Reject.NONE
        return self._operate(message, self.books[message.instrument])

    def _new_order(self, message: SimpleNamespace) -> Reject:
        book = self.books[message.instrument]
        if self._has_money(book) and message.owner == ANONYMOUS:
            return Reject.UNKNOWN_OWNER
        reject = self._malformed(message, book)
        if reject is not Reject.NONE:
            return reject
        if message.order <= 0:
            return Reject.UNKNOWN_ORDER
        if message.order in self.orders:
            return Reject.DUPLICATE_ID
        order = Order(
            number=message.order,
            arrival=self._stamp(),
            dated=message.tif == TimeInForce.GTD or (message.tif == TimeInForce.DAY and book.day_end > message.time),
            owner=message.owner,
            instrument=message.instrument,
            kind=message.kind,
            side=message.side,
            quantity=message.quantity,
            limit=message.price if message.kind in (Kind.LIMIT, Kind.STOP_LIMIT, Kind.PEGGED) else 0,
            price=message.price,
            trigger=message.trigger,
            display=message.display if message.display < message.quantity else 0,
            tif=message.tif,
            expiry=message.expiry if message.tif == TimeInForce.GTD else book.day_end,
            flags=message.flags,
            self_trade=message.self_trade,
            reason=message.reason,
        )
        self.orders[order.number] = order
        if book.phase is Phase.HALTED:
            return Reject.HALTED
        if book.phase is Phase.CLOSED:
            return Reject.CLOSED
        if order.kind == Kind.PEGGED:
            return self._new_peg(book, order)
        if order.kind in STOPS:
            return self._new_stop(book, order)
        return self._enter(book, order)

    @staticmethod
    def _malformed(message: SimpleNamespace, book: Book) -> Reject:
        """Check 4."""
        kind, flags = message.kind, message.flags
        in_range = range(1, book.instrument.n_ticks)
        if message.side not in (Side.BUY, Side.SELL):
            return Reject.BAD_SIDE
        if not 1 <= message.quantity <= book.instrument.max_order_lots:
            return Reject.BAD_QUANTITY
        if kind in (Kind.LIMIT, Kind.STOP_LIMIT) and message.price not in in_range:
            return Reject.BAD_PRICE
        if kind == Kind.PEGGED and message.price != 0 and message.price not in in_range:
            return Reject.BAD_PRICE
        if kind in (Kind.STOP, Kind.STOP_LIMIT) and message.trigger not in in_range:
            return Reject.BAD_TRIGGER
        if kind == Kind.TRAILING_STOP and message.trigger < 1:
            return Reject.BAD_TRIGGER
        if kind == Kind.PEGGED and message.trigger < 0:
            return Reject.BAD_TRIGGER
        if message.tif > max(TimeInForce):
            return Reject.BAD_TIME_IN_FORCE
        if kind == Kind.MARKET and message.tif not in (TimeInForce.GTC, TimeInForce.IOC):
            return Reject.BAD_TIME_IN_FORCE
        if kind in (Kind.STOP, Kind.TRAILING_STOP) and message.tif == TimeInForce.FOK:
            return Reject.BAD_TIME_IN_FORCE
        if kind == Kind.PEGGED and message.tif in AT_ONCE:
            return Reject.BAD_TIME_IN_FORCE
        if message.tif == TimeInForce.GTD and message.expiry <= message.time:
            return Reject.EXPIRED
        if flags & POST and (kind != Kind.LIMIT or message.tif in AT_ONCE or flags & POST == POST):
            return Reject.BAD_COMBINATION
        if flags & Flag.HIDDEN and (kind not in (Kind.LIMIT, Kind.STOP_LIMIT) or message.display != 0):
            return Reject.BAD_COMBINATION
        if message.display < 0 or (message.display > 0 and kind not in (Kind.LIMIT, Kind.STOP_LIMIT)):
            return Reject.BAD_COMBINATION
        if flags & Flag.REDUCE_ONLY and (kind == Kind.PEGGED or flags & Flag.HIDDEN or message.display != 0):
            return Reject.BAD_COMBINATION
        return Reject.NONE

    # --------------------------------------------------------------------------------------------- checks 6 to 11

    def _enter(self, book: Book, order: Order) -> Reject:
        """Let a limit or market order into trading, or say why not; a rejected order is done."""
        if order.kind == Kind.MARKET:
            order.price = book.highest if order.side == Side.BUY else 1
            order.tif = TimeInForce.IOC
        reject, quantity, price = self._check_entry(book, order)
        if reject is not Reject.NONE:
            self._end(order, Status.REJECTED, reject)
            return reject
        order.quantity, order.price = quantity, price
        self._work(book, order)
        return Reject.NONE

    def _check_entry(self, book: Book, order: Order) -> tuple[Reject, int, int]:
        """Checks 6 to 11 of a limit or market order. Return the quantity and price it enters with."""
        quantity, price = order.quantity, order.price
        if book.phase is Phase.HALTED:
            return Reject.HALTED, quantity, price
        if book.phase is Phase.CLOSED:
            return Reject.CLOSED, quantity, price
        call = book.phase is Phase.CALL
        if call and (order.tif == TimeInForce.FOK or order.flags & (POST | Flag.REDUCE_ONLY)):
            return Reject.WRONG_PHASE, quantity, price
        if order.flags & Flag.REDUCE_ONLY:
            quantity = min(quantity, self._reducible(order))
            if quantity == 0:
                return Reject.REDUCE_ONLY, quantity, price
        if order.kind == Kind.LIMIT and not call:
            for state in book.rules:
                bound = self._bound(book, state, order.side)
                if isinstance(state.rule, PriceBand) and bound is not None and beyond(order.side, price, bound):
                    return Reject.PRICE_BAND, quantity, price
        funds = self._check_funds(book, order, quantity, price)
        if funds is not Reject.NONE:
            return funds, quantity, price
        if order.tif == TimeInForce.FOK and self._fillable(book, order, quantity) < quantity:
            return Reject.NOT_FILLABLE, quantity, price
        best = book.best(1 - order.side)
        if order.flags & POST and best and not beyond(order.side, best, price):
            if order.flags & Flag.POST_ONLY:
                return Reject.WOULD_TRADE, quantity, price
            price = best - 1 if order.side == Side.BUY else best + 1
            self.noted["slid"] += 1
            if not 1 <= price <= book.highest:
                return Reject.BAD_PRICE, quantity, price
        return Reject.NONE, quantity, price

    def _reducible(self, order: Order) -> int:
        """Lots of the owner's position that the order would close."""
        if not 0 <= order.owner < self.accounts:
            return 0
        position = self.position[order.owner][order.instrument]
        return max(0, -position if order.side == Side.BUY else position)

    def _check_funds(self, book: Book, order: Order, quantity: int, price: int) -> Reject:
        """Check 9, with the order's own reservation free."""
        if not self._has_money(book):
            return Reject.NONE
        if self._is_paid_in_full(book):
            return Reject.NONE if self._affords(book, order, quantity, price) else Reject.INSUFFICIENT_FUNDS
        if order.owner == self.fund or order.flags & Flag.REDUCE_ONLY:
            return Reject.NONE
        if order.kind == Kind.MARKET:
            best = book.best(1 - order.side) if book.phase is Phase.CONTINUOUS else 0
            price = best or book.mark
        return self._margin_check(book, order, quantity, price)

    def _affords(self, book: Book, order: Order, quantity: int, price: int) -> bool:
        """Check 9 for spot that is paid in full."""
        if order.side == Side.SELL:
            return self._free_coins(order.owner, book, order) >= quantity
        if order.kind == Kind.MARKET and book.phase is Phase.CONTINUOUS:
            quantity, price = 1, book.best(Side.SELL)
        notional = price * quantity * book.instrument.unit
        rate = max(self._rate(book, order.owner, "maker"), self._rate(book, order.owner, "taker"))
        return notional + notional * rate // PPM <= self._free_cash(order.owner, order)

    def _fillable(self, book: Book, order: Order, enough: int) -> int:
        """Check 10: lots that an FOK order may count on."""
        _, bound = self._collar(book, order.side)
        prevention = order.self_trade not in (SelfTrade.ALLOW, SelfTrade.CANCEL_RESTING)
        lots = 0
        for price in book.prices(1 - order.side):
            if beyond(order.side, price, order.price) or (bound is not None and beyond(order.side, price, bound)):
                break
            level = book.level(1 - order.side, price)
            own = [resting for resting in level if self._is_own(order, resting)]
            if own and prevention:
                shown = [resting for resting in level if resting in book.displayed[1 - order.side]]
                if book.instrument.matching == "pro_rata":
                    counted = [resting for resting in shown if resting not in own]
                else:
                    counted = shown[: shown.index(own[0])] if own[0] in shown else shown
                return lots + sum(resting.shown for resting in counted if not resting.flags & Flag.REDUCE_ONLY)
            for resting in level:
                skipped = resting in own and order.self_trade == SelfTrade.CANCEL_RESTING
                if not skipped and not resting.flags & Flag.REDUCE_ONLY:
                    lots += resting.quantity
            if lots >= enough:
                break
        return lots

    # ------------------------------------------------------------------------------------------ continuous trading

    def _work(self, book: Book, order: Order) -> None:
        """Trade what can be traded and let the rest of the order rest, or cancel it."""
        if book.phase is Phase.CALL:
            self._rest(book, order)
            return
        why = self._trade(book, order)
        if order.quantity == 0:
            self._end_exhausted(order)
        elif why is not Reject.NONE or order.kind == Kind.MARKET or order.tif in AT_ONCE:
            self._end(order, Status.CANCELLED, why)
        elif book.phase is not Phase.CONTINUOUS and order.flags & Flag.REDUCE_ONLY:
            order.state = State.SITTING_OUT
        else:
            self._rest(book, order)

    def _trade(self, book: Book, order: Order) -> Reject:
        """Trade until nothing is left or in reach. Return why the rest must go; NONE = its time in force decides."""
        while order.quantity > 0:
            best = book.best(1 - order.side)
            if not best or beyond(order.side, best, order.price):
                return Reject.NONE
            rule, bound = self._collar(book, order.side)
            if bound is not None and beyond(order.side, best, bound):
                self.noted["rule", rule.rule] += 1
                if isinstance(rule, PriceBand):
                    return Reject.PRICE_BAND
                self._halt(book, getattr(rule, "halt", 0), rule.call)
                rests = order.kind == Kind.LIMIT and order.tif not in AT_ONCE
                return Reject.NONE if rests else Reject.HALTED
            meet = self._share_level if book.instrument.matching == "pro_rata" else self._meet_first
            why = meet(book, order, best)
            if why is not Reject.NONE:
                return why
        return Reject.NONE

    def _meet_first(self, book: Book, order: Order, price: int) -> Reject:
        """Price-time: deal with the first order of the level."""
        resting = book.level(1 - order.side, price)[0]
        if self._is_own(order, resting):
            mode = order.self_trade
            self.noted["self_trade", mode, "price_time"] += 1
            if mode in (SelfTrade.CANCEL_RESTING, SelfTrade.CANCEL_BOTH):
                self._cancel(resting, What.SELF_TRADE_CANCELLED, Reject.SELF_TRADE)
            if mode in (SelfTrade.CANCEL_INCOMING, SelfTrade.CANCEL_BOTH):
                return Reject.SELF_TRADE
            if mode == SelfTrade.CANCEL_RESTING:
                return Reject.NONE
            if mode == SelfTrade.DECREMENT:
                self._decrement(book, order, resting)
                return Reject.NONE
        if not self._cut_to_position(resting):
            return Reject.NONE
        return self._hit(book, order, resting)

    def _hit(self, book: Book, order: Order, resting: Order) -> Reject:
        """Trade with one resting order."""
        lots = min(order.quantity, resting.shown, self._payable(book, order, resting.price))
        if lots == 0:
            return Reject.INSUFFICIENT_FUNDS
        self._print(book, order, resting, lots)
        self._refresh(book, resting)
        return Reject.NONE

    def _share_level(self, book: Book, order: Order, price: int) -> Reject:
        """Pro-rata: share the order over the shown orders of the level once; if none is shown, serve a hidden one."""
        level = book.level(1 - order.side, price)
        own = [resting for resting in level if self._is_own(order, resting)]
        if own:
            self.noted["self_trade", order.self_trade, "pro_rata"] += 1
        if order.self_trade == SelfTrade.ALLOW:
            own = []
        if order.self_trade in (SelfTrade.CANCEL_RESTING, SelfTrade.CANCEL_BOTH):
            for resting in own:
                self._cancel(resting, What.SELF_TRADE_CANCELLED, Reject.SELF_TRADE)
        others = [resting for resting in level if resting not in own and self._cut_to_position(resting)]
        shown = [resting for resting in others if resting in book.displayed[1 - order.side]]
        if shown:
            quantity = min(order.quantity, self._payable(book, order, price))
            if quantity == 0:
                return Reject.INSUFFICIENT_FUNDS
            shares = shared([resting.shown for resting in shown], quantity)
            for resting, lots in zip(shown, shares, strict=True):
                if lots:
                    self._print(book, order, resting, lots)
            for resting in shown:
                self._refresh(book, resting)
        if own and order.self_trade != SelfTrade.CANCEL_RESTING:
            return Reject.SELF_TRADE
        if others and not shown:
            return self._hit(book, order, others[0])
        return Reject.NONE

    def _decrement(self, book: Book, order: Order, resting: Order) -> None:
        lots = min(order.quantity, resting.shown)
        order.quantity -= lots
        order.decremented += lots
        resting.quantity -= lots
        resting.shown -= lots
        resting.decremented += lots
        self._event(What.SELF_TRADE_DECREMENTED, book, order=resting, quantity=lots)
        self._refresh(book, resting)

    def _cut_to_position(self, resting: Order) -> bool:
        """Cut a reduce-only order to its owner's position. Return whether anything is left of it."""
        if not resting.flags & Flag.REDUCE_ONLY:
            return True
        allowed = self._reducible(resting)
        if allowed == 0:
            self._cancel(resting, What.REDUCE_ONLY_CANCELLED, Reject.REDUCE_ONLY)
            return False
        if allowed < resting.quantity:
            self.noted["reduce_only_cut"] += 1
            resting.quantity = resting.shown = allowed
        return True

    def _print(self, book: Book, order: Order, resting: Order, lots: int) -> None:
        """One trade of continuous trading, at the resting order's price."""
        for side in (order, resting):
            side.quantity -= lots
            side.traded += lots
        resting.shown -= lots
        self._record_trade(book, resting.price, lots, maker=resting, taker=order, aggressor=order.side)

    def _refresh(self, book: Book, resting: Order) -> None:
        """After an order lost shown lots: show the next part of an iceberg at the back, or end what is exhausted."""
        if resting.shown > 0:
            return
        self._take_out(resting)
        if resting.quantity > 0:
            self.noted["iceberg_refreshed"] += 1
            self._rest(book, resting)
        else:
            self._end_exhausted(resting)

    def _rest(self, book: Book, order: Order) -> None:
        """Put an order at the back of its level."""
        order.state = State.RESTING
        if order.flags & Flag.HIDDEN:
            order.shown = order.quantity
            book.hidden[order.side].append(order)
        else:
            order.shown = min(order.quantity, order.display or order.quantity)
            book.displayed[order.side].append(order)

    def _take_out(self, order: Order) -> None:
        """Take an order out of the book and of the activation queue, if it is there."""
        book = self.books[order.instrument]
        for queue in (*book.displayed, *book.hidden, book.activation):
            if order in queue:
                queue.remove(order)
        order.shown = 0

    def _end_exhausted(self, order: Order) -> None:
        """End an order of which nothing is left."""
        if order.decremented:
            self._end(order, Status.CANCELLED, Reject.SELF_TRADE)
        else:
            self._end(order, Status.FILLED, Reject.NONE)

    def _end(self, order: Order, status: Status, why: Reject) -> None:
        self._take_out(order)
        order.state, order.ended = State.DONE, (status, why)

    def _cancel(self, order: Order, what: What, why: Reject = Reject.NONE, *, detail: int = 0) -> None:
        """End an order other than by its owner's message."""
        self._event(what, self.books[order.instrument], order=order, quantity=order.quantity, detail=detail)
        self._end(order, Status.CANCELLED, why)

    def _is_own(self, order: Order, resting: Order) -> bool:
        return order.owner != ANONYMOUS and order.owner == resting.owner

    # ------------------------------------------------------------------------- cancel, reduce, replace, mass cancel

    def _by_order(self, message: SimpleNamespace) -> Reject:
        order = self.orders.get(message.order)
        if order is None:
            return Reject.UNKNOWN_ORDER
        if order.state is State.DONE:
            return Reject.ORDER_DONE
        if order.owner != message.owner:
            return Reject.NOT_OWNER
        if message.kind == Kind.CANCEL:
            self._end(order, Status.CANCELLED, Reject.NONE)
            return Reject.NONE
        if message.kind == Kind.REDUCE:
            if not 1 <= message.quantity <= order.quantity:
                return Reject.BAD_QUANTITY
            self._reduce(order, message.quantity)
            return Reject.NONE
        return self._replace(self.books[order.instrument], order, message)

    def _reduce(self, order: Order, lots: int) -> None:
        """Take lots away, reserve first, and keep the place in the queue."""
        order.quantity -= lots
        order.shown = min(order.shown, order.quantity)
        if order.quantity == 0:
            self._end(order, Status.CANCELLED, Reject.NONE)

    def _replace(self, book: Book, order: Order, message: SimpleNamespace) -> Reject:
        if not 1 <= message.quantity <= book.instrument.max_order_lots:
            return Reject.BAD_QUANTITY
        if order.kind in (*STOPS, Kind.PEGGED):
            if message.price != order.limit or message.quantity > order.quantity:
                return Reject.NOT_REPLACEABLE
            self._reduce(order, order.quantity - message.quantity)
            return Reject.NONE
        if not 1 <= message.price <= book.highest:
            return Reject.BAD_PRICE
        if message.price == order.price and message.quantity <= order.quantity:
            self._reduce(order, order.quantity - message.quantity)
            return Reject.NONE
        renewed = copy.copy(order)
        renewed.kind, renewed.price, renewed.quantity = Kind.LIMIT, message.price, message.quantity
        reject, quantity, price = self._check_entry(book, renewed)
        if reject is not Reject.NONE:
            return reject
        self._take_out(order)
        order.kind, order.limit, order.price, order.quantity = Kind.LIMIT, price, price, quantity
        order.self_trade, order.decremented = message.self_trade, 0
        self._entered_again = True
        self._work(book, order)
        return Reject.NONE

    def _mass_cancel(self, message: SimpleNamespace) -> Reject:
        if message.owner == ANONYMOUS:
            return Reject.UNKNOWN_OWNER
        for order in self._by_arrival():
            if order.owner == message.owner and message.instrument in (-1, order.instrument):
                self._cancel(order, What.MASS_CANCELLED)
        return Reject.NONE

    def _by_arrival(self) -> list[Order]:
        """Orders that rest or wait, oldest first."""
        return [order for order in self.orders.values() if order.state is not State.DONE]

    # ------------------------------------------------------------------------------------------- stops and triggers

    def _new_stop(self, book: Book, order: Order) -> Reject:
        reference = self._stop_reference(book, order)
        if order.kind != Kind.TRAILING_STOP:
            self._stand(order, order.trigger)
        elif reference:
            self._trail(book, order, reference)
        if self._is_through(order, reference):
            order.kind = Kind.LIMIT if order.kind == Kind.STOP_LIMIT else Kind.MARKET
            order.dated = order.dated and order.kind == Kind.LIMIT  # a market order at once, with no time of its own
            return self._enter(book, order)
        order.state = State.WAITING
        return Reject.NONE

    @staticmethod
    def _stop_reference(book: Book, order: Order) -> int:
        return book.mark if order.flags & Flag.BY_MARK else book.last

    @staticmethod
    def _is_through(order: Order, reference: int) -> bool:
        return bool(reference and order.stop_price) and not beyond(order.side, order.stop_price, reference)

    def _stand(self, order: Order, price: int) -> None:
        if price != order.stop_price:
            order.stop_price, order.stop_since = price, self._stamp()

    def _trail(self, book: Book, order: Order, reference: int) -> None:
        """Move the trigger of a trailing stop behind the best reference it has seen."""
        if order.side == Side.SELL:
            order.extreme = max(order.extreme, reference)
            price = order.extreme - order.trigger
        else:
            order.extreme = min(order.extreme or reference, reference)
            price = order.extreme + order.trigger
        self._stand(order, min(max(price, 1), book.highest))

    def _queue_stops(self, book: Book) -> None:
        """Move trailing stops, then let all that are through join the activation queue."""
        waiting = [
            order
            for order in self._by_arrival()
            if order.instrument == book.index and order.kind in STOPS and order.state is State.WAITING
        ]
        for order in waiting:
            reference = self._stop_reference(book, order)
            if order.kind == Kind.TRAILING_STOP and reference:
                self._trail(book, order, reference)
        through = [order for order in waiting if self._is_through(order, self._stop_reference(book, order))]

        def turn(order: Order) -> tuple[int, int, int, int]:
            nearest = order.stop_price if order.side == Side.BUY else -order.stop_price
            return order.flags & Flag.BY_MARK, order.side, nearest, order.stop_since

        for order in sorted(through, key=turn):
            order.state = State.TRIGGERED
            book.activation.append(order)

    def _activate(self, book: Book, order: Order) -> None:
        """Let a triggered stop enter."""
        self._event(What.TRIGGERED, book, order=order, quantity=order.quantity)
        order.kind = Kind.LIMIT if order.kind == Kind.STOP_LIMIT else Kind.MARKET
        self._enter_or_cancel(book, order)

    def _enter_or_cancel(self, book: Book, order: Order) -> None:
        reject = self._enter(book, order)
        if reject is not Reject.NONE:
            self._cancel(order, What.ACTIVATION_CANCELLED, reject, detail=reject)

    # --------------------------------------------------------------------------------------------------------- pegs

    def _new_peg(self, book: Book, order: Order) -> Reject:
        if book.phase is not Phase.CONTINUOUS:
            order.state = State.SITTING_OUT
            return Reject.NONE
        price = self._peg_price(book, order)
        reject = self._check_funds(book, order, order.quantity, price) if price else Reject.NONE
        if reject is not Reject.NONE:
            self._end(order, Status.REJECTED, reject)
            return reject
        self._place_peg(book, order)
        return Reject.NONE

    @staticmethod
    def _peg_price(book: Book, order: Order) -> int:
        """Return where a peg rests now; 0 = nowhere."""
        best = book.best_displayed(order.side, pegs=False)
        if not best:
            return 0
        price = best - order.trigger if order.side == Side.BUY else best + order.trigger
        if not 1 <= price <= book.highest:
            return 0
        if order.limit and beyond(order.side, price, order.limit):
            return order.limit
        return price

    def _place_peg(self, book: Book, order: Order) -> None:
        order.pegged_to = book.best_displayed(order.side, pegs=False)
        order.price = self._peg_price(book, order)
        if order.price and self._check_funds(book, order, order.quantity, order.price) is Reject.NONE:
            self._rest(book, order)
        else:
            self.noted["peg_unaffordable" if order.price else "peg_waits"] += 1
            order.state = State.WAITING

    def _follow_with_pegs(self, book: Book, side: int) -> None:
        pegs = [
            order
            for order in self._by_arrival()
            if order.instrument == book.index
            and order.kind == Kind.PEGGED
            and order.side == side
            and order.state is not State.SITTING_OUT
        ]
        best = book.best_displayed(side, pegs=False)
        if any(peg.pegged_to != best for peg in pegs):
            self.noted["pegs_moved"] += 1
            self._stir()
            for peg in pegs:
                self._take_out(peg)
                peg.state = State.WAITING
            for peg in pegs:
                self._place_peg(book, peg)

    # ------------------------------------------------------------------------------------- what follows; the timers

    def _follow(self, first: int = 0) -> None:
        """What follows an entry: every instrument in turn, its own first, until nothing is set off any more."""
        while True:
            before = self._stirred
            for book in self.books[first:]:
                self._follow_up(book)
            if self._stirred == before and first == 0:
                return
            first = 0

    def _follow_up(self, book: Book) -> None:
        while True:
            self._market_wide(book)
            self._follow_with_pegs(book, Side.BUY)
            self._follow_with_pegs(book, Side.SELL)
            self._make_marks_after(book)
            self._queue_stops(book)
            if self._liquidate_one(book):
                continue
            if not book.activation or book.phase not in (Phase.CONTINUOUS, Phase.CALL):
                return
            self._activate(book, book.activation.pop(0))

    def _stir(self) -> None:
        self._stirred += 1

    def _stamp(self) -> int:
        self._stamps += 1
        return self._stamps

    def _set_timer(self, time: int, book: Book, action: Callable[[], bool]) -> None:
        """Set a timer. Its action returns whether it was still valid."""
        self._timers.append((time, self._stamp(), book, action))

    def _fire_next_timer(self, now: int) -> bool:
        """Fire the first timer that is due. An order good till a date is its own timer."""
        due = [timer for timer in self._timers if timer[0] <= now]
        for order in self._by_arrival():
            if order.dated and order.expiry <= now:
                due.append((order.expiry, order.arrival, self.books[order.instrument], self._expiry_of(order)))
        if not due:
            return False
        timer = min(due, key=lambda timer: timer[:2])
        if timer in self._timers:
            self._timers.remove(timer)
        self._begin()
        self.time, _, book, action = timer
        if action():
            self._follow(book.index)
        return True

    def _expiry_of(self, order: Order) -> Callable[[], bool]:
        def expire() -> bool:
            if order.tif == TimeInForce.DAY:
                self.noted["day_expired"] += 1
            self._cancel(order, What.EXPIRED)
            return True

        return expire

    # ------------------------------------------------------------------------------------- the operator; the phases

    def _operate(self, message: SimpleNamespace, book: Book) -> Reject:
        if message.kind in (Kind.PHASE, Kind.UNCROSS):
            if message.side > max(Phase):
                return Reject.BAD_SIDE
            phase = Phase(message.side)
            if message.kind == Kind.UNCROSS:
                self._uncross(book, phase)
                return Reject.NONE
            if message.expiry > 0:
                book.day_end = message.expiry
            if phase is Phase.CONTINUOUS and book.phase is not Phase.CONTINUOUS:
                self._uncross(book, phase)
            else:
                self._set_phase(book, phase)
            return Reject.NONE
        if not 1 <= message.price <= book.highest:
            return Reject.BAD_PRICE
        if message.kind == Kind.MARK:
            self._move_mark(book, message.price)
        else:
            self._set_reference(book, message.price)
            self._set_close(book, message.price)
        return Reject.NONE

    def _set_phase(self, book: Book, phase: Phase) -> None:
        book.phase_set += 1
        if phase is not Phase.CONTINUOUS:
            self._sit_out(book)
        if phase is not book.phase:
            book.phase = phase
            if phase is Phase.CLOSED and book.last:
                self._set_close(book, book.last)
            self._event(What.PHASE_CHANGED, book, detail=phase)

    @staticmethod
    def _depends(order: Order) -> bool:
        return order.kind == Kind.PEGGED or bool(order.flags & Flag.REDUCE_ONLY)

    def _sit_out(self, book: Book) -> None:
        """Take out what depends on something else: pegs, and reduce-only orders in the book."""
        for order in self._by_arrival():
            in_book = order.state is State.RESTING or (order.kind == Kind.PEGGED and order.state is State.WAITING)
            if order.instrument == book.index and in_book and self._depends(order):
                self._take_out(order)
                order.state = State.SITTING_OUT

    def _return(self, book: Book) -> None:
        """Let those that sat out enter again, for as long as trading is continuous."""
        for order in self._by_arrival():
            if order.instrument != book.index or order.state is not State.SITTING_OUT:
                continue
            if book.phase is not Phase.CONTINUOUS:
                return
            self.noted["returned", order.kind] += 1
            if order.kind == Kind.PEGGED:
                self._place_peg(book, order)
            else:
                self._enter_or_cancel(book, order)

    def _set_reference(self, book: Book, price: int) -> None:
        book.reference = price

    def _set_close(self, book: Book, price: int) -> None:
        book.close = price
        book.fresh.clear()
        for state in book.rules:
            state.fired = False

    # ----------------------------------------------------------------------------------------------------- auctions

    def _uncross(self, book: Book, phase: Phase) -> None:
        self._sit_out(book)
        price, volume = auction_price(book)
        if volume:
            buys, sells = auction_order(book, Side.BUY), auction_order(book, Side.SELL)
            left = volume
            while left:
                buy, sell = buys[0], sells[0]
                lots = min(buy.quantity, sell.quantity, left)
                self._record_trade(book, price, lots, maker=sell, taker=buy, aggressor=Side.AUCTION)
                left -= lots
                for order, served in ((buy, buys), (sell, sells)):
                    order.quantity -= lots
                    order.traded += lots
                    order.shown = max(0, order.shown - lots)  # the shown part first, then the reserve
                    self._refresh(book, order)
                    if order.quantity == 0:
                        served.pop(0)
        for order in self._by_arrival():
            at_once = order.kind == Kind.MARKET or order.tif in AT_ONCE
            if order.instrument == book.index and order.state is State.RESTING and at_once:
                self._cancel(order, What.AUCTION_CANCELLED)
        if volume:
            book.last = price
            self._set_reference(book, price)
        self._event(What.UNCROSSED, book, quantity=volume, price=price)
        self._set_phase(book, phase)
        self._return(book)

    # -------------------------------------------------------------------------------------------------------- rules

    def _mean(self, book: Book, state: Any) -> int:
        """Mean price of the trades of the last ten tenths of a window, of the latest tenth that traded before; 0 = none."""
        if not state.tenth:
            return 0
        now = self.time // state.tenth
        prices = [price for time, price in book.prints if time // state.tenth in range(now - 10, now)]
        if not prices:
            earlier = [time // state.tenth for time, _ in book.prints if time // state.tenth < now]
            prices = [price for time, price in book.prints if earlier and time // state.tenth == max(earlier)]
        if prices:
            self.noted["mean_renewed"] += 1
        return sum(prices) // len(prices) if prices else 0

    def _bound(self, book: Book, state: Any, side: int) -> int | None:
        """Return the last price that one rule allows an order of this side."""
        if isinstance(state.rule, MarketWideBreaker):
            return None
        reference = self._mean(book, state) or book.reference
        if not reference:
            return None
        return floor(reference * (1 + state.width)) if side == Side.BUY else ceil(reference * (1 - state.width))

    def _collar(self, book: Book, side: int) -> tuple[Any, int | None]:
        """Return the rule that binds an order of this side in continuous trading, and the last price it allows."""
        binding, bound = None, None
        for state in book.rules:
            limit = self._bound(book, state, side)
            if limit is not None and (bound is None or beyond(side, bound, limit)):
                binding, bound = state.rule, limit
        return binding, bound

    def _market_wide(self, book: Book) -> None:
        for state in book.rules:
            if not isinstance(state.rule, MarketWideBreaker) or state.fired or not book.close:
                continue
            if any(price <= book.close * (1 - state.width) for price in book.fresh):
                state.fired = True
                self.noted["rule", state.rule.rule] += 1
                for name in state.rule.instruments:
                    halted = next(other for other in self.books if other.instrument.name == name)
                    if halted.phase is Phase.CLOSED:
                        continue
                    if state.rule.halt:
                        self._halt(halted, state.rule.halt, state.rule.call)
                    else:
                        self._set_phase(halted, Phase.CLOSED)
        book.fresh.clear()

    def _halt(self, book: Book, halt: float, call: float) -> None:
        """Stop trading for `halt` seconds, call for `call` seconds, then uncross; with no halt the call begins now."""
        if not halt:
            self._call(book, call)
            return
        self._set_phase(book, Phase.HALTED)
        self._set_timer(self.time + nanoseconds(halt), book, self._unless_set(book, lambda: self._call(book, call)))

    def _call(self, book: Book, call: float) -> None:
        self._set_phase(book, Phase.CALL)
        end = self._unless_set(book, lambda: self._uncross(book, Phase.CONTINUOUS))
        self._set_timer(self.time + nanoseconds(call), book, end)

    @staticmethod
    def _unless_set(book: Book, action: Callable[[], None]) -> Callable[[], bool]:
        """Make an action void if the phase is set by anyone until then."""
        phase_set = book.phase_set

        def act() -> bool:
            if book.phase_set != phase_set:
                return False
            action()
            return True

        return act

    # --------------------------------------------------------------------------------------------------- settlement

    def _rate(self, book: Book, owner: int, role: str) -> int:
        """Return the fee rate of an account in millionths of the notional."""
        fees = book.instrument.fees
        return ppm(getattr(fees[min(self.tier[owner], len(fees) - 1)], role))

    def _cost(self, book: Book, owner: int, lots: int, price: int) -> int:
        """Return money units that a buyer pays as taker."""
        notional = price * lots * book.instrument.unit
        return notional + notional * self._rate(book, owner, "taker") // PPM

    def _payable(self, book: Book, order: Order, price: int) -> int:
        """Return how many lots of a market buy its owner can pay at this price; other orders are covered already."""
        if not self._is_paid_in_full(book) or order.kind != Kind.MARKET or order.side == Side.SELL:
            return order.quantity
        free, lots = self._free_cash(order.owner, order), order.quantity
        lots = min(lots, max(0, free) // (price * book.instrument.unit))
        return bisect_right(range(1, lots + 1), free, key=lambda n: self._cost(book, order.owner, n, price))

    def _cash_reserved(self, owner: int, without: Order | None = None) -> int:
        total = 0
        for book in self.books:
            if self._is_margined(book):
                total += self._margin_reserved(owner, book)
            elif self._is_paid_in_full(book):
                for order in book.resting(Side.BUY):
                    if order.owner == owner and (without is None or order.number != without.number):
                        notional = order.quantity * order.price * book.instrument.unit
                        total += notional + notional * max(0, self._rate(book, owner, "maker")) // PPM
        return total

    def _margin_orders(self, owner: int, book: Book, side: int) -> list[Order]:
        return [order for order in book.resting(side) if order.owner == owner and not order.flags & Flag.REDUCE_ONLY]

    def _coins_reserved(self, owner: int, book: Book, without: Order | None = None) -> int:
        if not self._is_paid_in_full(book):
            return 0
        return sum(
            order.quantity
            for order in book.resting(Side.SELL)
            if order.owner == owner and (without is None or order.number != without.number)
        )

    def _free_cash(self, owner: int, without: Order) -> int:
        """Cash that a buyer of spot may use: what its own order sets free, and the means there are beside it."""
        released = self._cash_reserved(owner) - self._cash_reserved(owner, without)
        return released + max(0, self._plain_means(owner))

    def _free_coins(self, owner: int, book: Book, without: Order) -> int:
        return int(self.position[owner][book.index]) - self._coins_reserved(owner, book, without)

    def _settle(self, book: Book, price: int, lots: int, parties: tuple[tuple[Order, int, str], ...]) -> None:
        """Let both orders have their fill."""
        for order, sign, role in parties:
            if not 0 <= order.owner < self.accounts:
                continue
            if self._has_money(book):
                rate = 0 if order.number < 0 else self._rate(book, order.owner, role)
                self._fill(book, order.owner, sign, lots, price, rate, of_part=order.of_part)
            else:
                self.position[order.owner][book.index] += sign * lots

    def _enter_forced(
        self, book: Book, owner: int, side: Side, lots: int, limit: int, number: int, of_part: bool
    ) -> tuple[list[tuple[int, int]], bool]:
        order = Order(
            number=-number,
            arrival=self._stamp(),
            owner=owner,
            instrument=book.index,
            kind=Kind.LIMIT,
            side=side,
            quantity=lots,
            limit=limit,
            price=limit,
            trigger=0,
            display=0,
            tif=TimeInForce.IOC,
            expiry=0,
            flags=0,
            self_trade=SelfTrade.ALLOW,
            reason=Reason.LIQUIDATION,
            of_part=of_part,
        )
        first = len(self._trades)
        self._work(book, order)
        price, quantity = names_of(TRADE).index("price"), names_of(TRADE).index("quantity")
        fills = [(trade[price], trade[quantity]) for trade in self._trades[first:]]
        if order.ended[1] is Reject.PRICE_BAND:
            self.noted["liquidation_banded"] += 1
        return fills, order.ended[1] is Reject.HALTED

    # ------------------------------------------------------------------------------------------------------ records

    def _record_trade(self, book: Book, price: int, lots: int, *, maker: Order, taker: Order, aggressor: int) -> None:
        buyer, seller = (taker, maker) if taker.side == Side.BUY else (maker, taker)
        role_of_taker = "maker" if aggressor == Side.AUCTION else "taker"
        roles = (role_of_taker, "maker") if taker is buyer else ("maker", role_of_taker)
        self._settle(book, price, lots, ((buyer, 1, roles[0]), (seller, -1, roles[1])))
        book.last = price
        if aggressor != Side.AUCTION:
            book.prints.append((self.time, price))
            book.fresh.append(price)
        self._trades.append(
            (
                self.time,
                self._sequence,
                lots,
                price,
                maker.number,
                taker.number,
                maker.owner,
                taker.owner,
                book.index,
                aggressor,
                maker.reason,
                taker.reason,
            )
        )

    def _event(
        self, what: What, book: Book, *, order: Order | None = None, quantity: int = 0, price: int = 0, detail: int = 0
    ) -> None:
        self.noted["what", what] += 1
        self._stir()
        number, owner = (order.number, order.owner) if order else (0, ANONYMOUS)
        self._events.append((self.time, self._sequence, quantity, number, owner, price, book.index, what, detail))


def names_of(layout: np.dtype[np.void]) -> tuple[str, ...]:
    assert layout.names is not None
    return layout.names


def beyond(side: int, price: int, limit: int) -> bool:
    """Return whether an order of this side that may go as far as `limit` may not go to `price`."""
    return price > limit if side == Side.BUY else price < limit


def shared(sizes: list[int], quantity: int) -> list[int]:
    """Share a quantity over orders in proportion to their sizes; what rounding leaves goes in time priority."""
    total = sum(sizes)
    if quantity >= total:
        return list(sizes)
    shares = [quantity * size // total for size in sizes]
    left = quantity - sum(shares)
    for i, size in enumerate(sizes):
        more = min(left, size - shares[i])
        shares[i] += more
        left -= more
    return shares


def auction_volume(book: Book, price: int) -> tuple[int, int]:
    """Return the lots that would trade at a price, and by how much the two sides differ there."""
    bought = sum(order.quantity for order in book.resting(Side.BUY) if order.price >= price)
    sold = sum(order.quantity for order in book.resting(Side.SELL) if order.price <= price)
    return min(bought, sold), abs(bought - sold)


def auction_price(book: Book) -> tuple[int, int]:
    """Return price and volume of the uncross; (0, 0) where nothing trades."""
    bid, ask = book.best(Side.BUY), book.best(Side.SELL)
    if not bid or not ask or ask > bid:
        return 0, 0
    reference = book.reference or book.last
    orders = book.resting(Side.BUY) + book.resting(Side.SELL)
    if not reference and all(order.kind == Kind.MARKET for order in orders):
        return 0, 0
    reference = reference or (bid + ask) // 2

    def rank(price: int) -> tuple[int, int, int, int]:
        volume, difference = auction_volume(book, price)
        return -volume, difference, abs(price - reference), price

    price = min(range(ask, bid + 1), key=rank)
    return price, auction_volume(book, price)[0]


def auction_order(book: Book, side: int) -> list[Order]:
    """Return the orders of a side as an auction serves them."""

    def turn(order: Order) -> tuple[bool, int]:
        return order.kind != Kind.MARKET, -order.price if side == Side.BUY else order.price

    return sorted(book.resting(side), key=turn)  # stable: displayed before hidden, then time
