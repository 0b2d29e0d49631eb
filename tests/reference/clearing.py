"""The clearing house in plain Python: docs/concepts/clearing.md read aloud, one rule after the other.

Slow on purpose, as the twin of matching that it is part of: whoever may be due is looked for among all accounts, and prices
of liquidation and bankruptcy are looked for tick by tick. Money is Python integers; floats stand only where the page says so.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, inf, isinf, nan
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from abm.clearing.rules import Bracket, Mark, initial_rate, read_brackets
from abm.exchange.description import MONEY_UNITS, NS, PPM
from abm.exchange.instrument import Instrument
from abm.exchange.messages import LIQUIDATION, Forced, Phase, Records, Reject, Side, What

PPB = 1_000_000_000
SAMPLES = 30


def part(amount: int, rate: int) -> int:
    """Return a part of an amount of money, in millionths, rounded down."""
    return amount * rate // PPM


def share(amount: int, lots: int, of: int) -> int:
    """Return amount x lots / of, rounded toward zero."""
    return amount * lots // of if amount >= 0 else -(-amount * lots // of)


def notional(instrument: Instrument, price: int, lots: int) -> int:
    if instrument.kind == "inverse":
        return lots * instrument.unit // price
    return price * lots * instrument.unit


def value(instrument: Instrument, price: int, position: int) -> int:
    """Return what a signed position is worth at a price."""
    worth = notional(instrument, price, abs(position))
    sign = -1 if instrument.kind == "inverse" else 1
    return sign * worth if position >= 0 else -sign * worth


def sign_of(position: int) -> int:
    return (position > 0) - (position < 0)


@dataclass(frozen=True)
class Terms:
    """One bracket in money units and millionths."""

    up_to: int | None
    initial: int
    rate: int
    deduction: int

    def holds(self, size: int) -> bool:
        return self.up_to is None or size <= self.up_to


def read_terms(brackets: Sequence[Bracket]) -> list[Terms]:
    terms: list[Terms] = []
    for bracket in brackets:
        rate, deduction = round(bracket.maintenance * PPM), 0
        if terms:
            below = terms[-1]
            assert below.up_to is not None
            deduction = below.deduction + part(below.up_to, rate - below.rate)
        up_to = None if bracket.up_to is None else round(bracket.up_to * MONEY_UNITS)
        terms.append(Terms(up_to, initial_rate(bracket.leverage), rate, deduction))
    return terms


@dataclass(eq=False)
class Queue:
    """Who is deleveraged next, as it was drawn up for a side of an instrument at a mark."""

    book: Any
    sign: int  # of the positions
    mark: int
    accounts: list[int]


@dataclass(eq=False)
class Margined:
    """What a margined instrument has beside its book."""

    terms: list[Terms]
    basis: float = 0.0
    samples: list[float] = field(default_factory=list)
    made_in: int | None = None  # slice of time in which the mark was last made
    rate: int = 0  # latest funding rate, in parts per 10^9
    paid: int = 0  # ns; when funding was last paid


@dataclass(eq=False)
class Seizure:
    """One liquidation, from its number on."""

    number: int
    parent: int
    account: int
    isolated: bool
    book: Any  # where the position to be reduced is
    sign: int
    limit: int

    @property
    def side(self) -> Side:
        return Side.SELL if self.sign > 0 else Side.BUY


class Clearing(ABC):
    """The part of the reference exchange that keeps accounts, marks and margins."""

    instruments: tuple[Instrument, ...]
    books: list[Any]
    time: int
    fund: int
    noted: Counter[tuple[Any, ...]]
    _sequence: int

    def _open_accounts(self, accounts: int, ledger: bool) -> None:
        self.ledger = ledger
        has_margin = ledger and any(instrument.margin for instrument in self.instruments)
        self.fund = accounts if has_margin else -1
        self.accounts = accounts + has_margin

        def table[T](filling: T) -> list[list[T]]:
            return [[filling] * len(self.instruments) for _ in range(self.accounts)]

        self.cash = [0] * self.accounts
        self.tier = [0] * self.accounts
        self.profit = [0] * self.accounts  # of the session
        self.fees = 0
        self.residue = 0
        self.position, self.basis, self.margin = table(0), table(0), table(0)
        self.realised, self.fees_paid, self.funding = table(0), table(0), table(0)
        self.initial, self.isolated = table(PPM), table(False)
        self.stamps, self.staged, self.paused = table(0), table(False), table(False)
        self._positions_opened = 0
        self._numbers = 0  # of liquidations
        self._in_progress = 0
        self._moves: list[tuple[Any, int, int]] = []  # (book, mark, liquidation in progress)
        self._liquidations: list[list[int]] = []
        self._queue: Queue | None = None  # for deleveraging by rank; one at a time stands
        self.margined: dict[Any, Margined] = {}
        for book in self.books:
            if self._is_margined(book):
                self.margined[book] = Margined(read_terms(book.instrument.margin.rows))
                book.mark = book.reference

    def _is_margined(self, book: Any) -> bool:
        return self.ledger and book.instrument.margin is not None

    def _is_paid_in_full(self, book: Any) -> bool:
        return self.ledger and book.instrument.kind == "spot" and book.instrument.margin is None

    def _has_money(self, book: Any) -> bool:
        return self._is_margined(book) or self._is_paid_in_full(book)

    # ------------------------------------------------------------------------------------------------------- a fill

    def _fill(
        self, book: Any, owner: int, sign: int, lots: int, price: int, rate: int, *, of_part: bool = False
    ) -> None:
        """One side of a trade, or of a transfer; `of_part`: of a liquidation's order for a part of an isolated position."""
        i, instrument = book.index, book.instrument
        position, basis = self.position[owner][i], self.basis[owner][i]
        closing = min(lots, abs(position)) if position * sign < 0 else 0
        opening = lots - closing
        worth, worth_closed = value(instrument, price, lots), value(instrument, price, closing)
        worth_opened = worth - worth_closed
        closed = released = profit = 0
        if closing:
            closed = share(basis, closing, abs(position))
            released = 0 if of_part else share(self.margin[owner][i], closing, abs(position))
            profit = -sign * worth_closed - closed
        fee = part(notional(instrument, price, lots), rate)

        self.position[owner][i] += sign * lots
        self.basis[owner][i] += sign * worth_opened - closed
        self.margin[owner][i] -= released
        if opening and (position == 0 or closing):
            self._open_position(owner, book)
        if instrument.kind == "spot":
            self.cash[owner] -= sign * worth + fee
        elif of_part:
            self.margin[owner][i] += profit
        else:
            self.cash[owner] += profit + released - fee
        if self.isolated[owner][i] and opening:
            wanted = -(-abs(worth_opened) * self._allowed_initial(owner, book) // PPM)
            posted = min(wanted, max(0, self.cash[owner]))
            self.noted["posted_less"] += posted < wanted
            self.cash[owner] -= posted
            self.margin[owner][i] += posted
        self.realised[owner][i] += profit
        self.fees_paid[owner][i] += fee
        self.profit[owner] += profit - fee
        self.fees += fee
        if self.fund >= 0 and owner != self.fund:
            self._cover_shortfall(book, owner, sign, price)

    def _open_position(self, owner: int, book: Any) -> None:
        self._positions_opened += 1
        self.stamps[owner][book.index] = self._positions_opened
        self.staged[owner][book.index] = self.paused[owner][book.index] = False

    def _cover_shortfall(self, book: Any, owner: int, sign: int, price: int) -> None:
        missing = -self.cash[owner]
        if missing <= 0 or self._crossed(owner):
            return
        self.cash[owner] = 0
        if self.isolated[owner][book.index] and self.position[owner][book.index]:
            self.noted["shortfall_from_margin"] += 1
            self.margin[owner][book.index] -= missing
            return
        self.cash[self.fund] -= missing
        self._record(
            Forced.DEFAULTED,
            book,
            account=owner,
            counterparty=self.fund,
            amount=missing,
            number=self._in_progress,
            price=price,
            side=Side.BUY if sign > 0 else Side.SELL,
        )

    def _crossed(self, owner: int) -> list[Any]:
        """Instruments in which the account has a crossed position."""
        return [
            book for book in self.margined if self.position[owner][book.index] and not self.isolated[owner][book.index]
        ]

    # ------------------------------------------------------------------------------------------ reservations, means

    def _allowed_initial(self, owner: int, book: Any) -> int:
        """The account's initial rate, or what a notice has made the lowest since."""
        return max(self.initial[owner][book.index], self.margined[book].terms[0].initial)

    def _initial_of_position(self, owner: int, book: Any) -> int:
        return part(abs(self.basis[owner][book.index]), self.initial[owner][book.index])

    def _initial_of_order(self, book: Any, owner: int, price: int, lots: int) -> int:
        return part(notional(book.instrument, price, lots), self.initial[owner][book.index])

    def _margin_reserved(self, owner: int, book: Any, counted: Any = None) -> int:
        """What the orders of an account in an instrument reserve.

        Args:
            owner: the account.
            book: a margined instrument.
            counted: (number, side, price, lots) of an order to be counted, in the place of its own if it rests.
        """
        sums = [0, 0]
        for side in (Side.BUY, Side.SELL):
            for order in self._margin_orders(owner, book, side):
                if counted is None or order.number != counted[0]:
                    sums[side] += self._initial_of_order(book, owner, order.price, order.quantity)
        if counted is not None:
            _, side, price, lots = counted
            sums[side] += self._initial_of_order(book, owner, price, lots)
        closed = 2 * self._initial_of_position(owner, book)
        position = self.position[owner][book.index]
        return max(0, sums[Side.BUY] - closed * (position < 0), sums[Side.SELL] - closed * (position > 0))

    @abstractmethod
    def _margin_orders(self, owner: int, book: Any, side: int) -> list[Any]:
        """Resting orders that count: in the exchange, which knows orders."""

    @abstractmethod
    def _cash_reserved(self, owner: int, without: Any = None) -> int:
        """Of the exchange."""

    def _free_collateral(self, owner: int) -> int:
        free = self.cash[owner] - self._cash_reserved(owner)
        for book in self._crossed(owner):
            free += self._contribution(owner, book, book.mark) - self._initial_of_position(owner, book)
        return free

    def _plain_means(self, owner: int) -> int:
        """Means of isolated positions and of spot paid in full."""
        return min(self.cash[owner] - self._cash_reserved(owner), self._free_collateral(owner))

    def _margin_check(self, book: Any, order: Any, lots: int, price: int) -> Reject:
        """Check 9 for a margined instrument."""
        i, owner = book.index, order.owner
        sign = 1 if order.side == Side.BUY else -1
        position = self.position[owner][i]
        opening = lots if position * sign >= 0 else max(0, lots - abs(position))
        if opening == 0:
            return Reject.NONE
        after = abs(position + sign * lots)
        size = notional(book.instrument, price, after)
        bracket = next((terms for terms in self.margined[book].terms if terms.holds(size)), None)
        rate, needed = self.initial[owner][i], self._allowed_initial(owner, book)
        if bracket is None or needed < bracket.initial:
            self.noted["position_limit", "beyond" if bracket is None else "leverage"] += 1
            return Reject.POSITION_LIMIT
        counted = (order.number, order.side, price, lots)
        total = self._margin_reserved(owner, book, counted)
        need = total - self._margin_reserved(owner, book)
        if not self.isolated[owner][i]:
            total += self._initial_of_position(owner, book)
        self.noted["raised_margin"] += needed > rate
        need += total * (needed - rate) // rate
        fee = max(self._rate(book, owner, "maker"), self._rate(book, owner, "taker"), 0)
        need += part(notional(book.instrument, price, opening), fee)
        at_once = value(book.instrument, price, opening) - value(book.instrument, book.mark, opening)
        need += max(0, sign * at_once)
        means = self._plain_means(owner) if self.isolated[owner][i] else self._free_collateral(owner)
        return Reject.INSUFFICIENT_FUNDS if need > 0 and need > means else Reject.NONE

    @abstractmethod
    def _rate(self, book: Any, owner: int, role: str) -> int:
        """Of the exchange."""

    # ------------------------------------------------------------------------------------------- index and the mark

    def _move_mark(self, book: Any, price: int) -> None:
        if price != book.mark:
            book.mark = price
            self._moves.append((book, price, self._in_progress))
            self._stir()

    def _make_marks_after(self, book: Any) -> None:
        """Step 2a: marks of this instrument and of those whose index it belongs to, if it has changed."""
        seen = (book.best(Side.BUY), book.best(Side.SELL), book.last, book.phase_set)
        if seen == book.seen:
            return
        book.seen = seen
        self._make_mark(book)
        for other in self.margined:
            if other is not book and book.instrument.name in self._index_of(other):
                self._make_mark(other)

    @staticmethod
    def _index_of(book: Any) -> dict[str, float]:
        mark = book.instrument.margin.mark
        return mark.index if isinstance(mark, Mark) else {}

    def _make_mark(self, book: Any) -> None:
        if book not in self.margined or book.phase is not Phase.CONTINUOUS:
            return
        rule = book.instrument.margin.mark
        if rule == "operator":
            return
        bid, ask = book.best(Side.BUY), book.best(Side.SELL)
        if rule.index:
            self._make_mark_by_index(book, rule, (bid + ask) / 2 if bid and ask else None)
        elif bid and ask:
            self._move_mark(book, (bid + ask + 1) // 2)

    def _index(self, book: Any, rule: Mark) -> float | None:
        """Index in ticks of the instrument; None where no book tells it."""
        weights, prices = [], []
        for source in self.books:
            bid, ask = source.best(Side.BUY), source.best(Side.SELL)
            if source.instrument.name in rule.index and source.phase is Phase.CONTINUOUS and bid and ask:
                weights.append(rule.index[source.instrument.name])
                prices.append((bid + ask) / 2 * (source.instrument.tick / book.instrument.tick))
        if not prices:
            return None
        middle = median(prices)
        clipped = [min(max(price, middle * (1 - rule.clip)), middle * (1 + rule.clip)) for price in prices]
        self.noted["clipped"] += clipped != prices
        weighted = total = 0.0
        for weight, price in zip(weights, clipped, strict=True):
            weighted += weight * price
            total += weight
        return weighted / total

    def _make_mark_by_index(self, book: Any, rule: Mark, own_mid: float | None) -> None:
        state = self.margined[book]
        index = self._index(book, rule)
        if index is None:
            self.noted["no_index"] += 1
            return
        now = self.time // max(1, round(rule.window * NS) // SAMPLES)
        if state.made_in is not None:
            ended = min(now - state.made_in, SAMPLES)
            state.samples = (state.samples + [state.basis] * ended)[-SAMPLES:]
        state.made_in = now
        mean = 0.0
        for sample in state.samples:
            mean += sample
        mean = mean / len(state.samples) if state.samples else 0.0
        if own_mid is not None:
            state.basis = own_mid - index
        by_funding = index * (1 + state.rate / PPB * self._until_payment(book))
        by_basis = index + mean
        by_trade = float(book.last) if book.last else by_basis
        mark = sorted((by_funding, by_basis, by_trade))[1]
        self.noted["mark", (by_funding, by_basis, by_trade).index(mark)] += 1
        self._move_mark(book, min(max(floor(mark + 0.5), 1), book.highest))

    def _until_payment(self, book: Any) -> float:
        """Part of the funding interval that is left."""
        funding = book.instrument.margin.funding
        if funding is None:
            return 0.0
        interval = round(funding.interval * NS)
        left: float = (self.margined[book].paid + interval - self.time) / interval
        return min(1.0, max(0.0, left))

    # ----------------------------------------------------------------------------------------- equity and maintenance

    def _contribution(self, owner: int, book: Any, mark: int) -> int:
        worth = value(book.instrument, mark, self.position[owner][book.index])
        return worth if book.instrument.kind == "spot" else worth - self.basis[owner][book.index]

    def _bracket(self, book: Any, size: int) -> Terms:
        terms = self.margined[book].terms
        return next((bracket for bracket in terms if bracket.holds(size)), terms[-1])

    def _maintenance(self, owner: int, book: Any, mark: int) -> int:
        size = notional(book.instrument, mark, abs(self.position[owner][book.index]))
        bracket = self._bracket(book, size)
        return max(0, part(size, bracket.rate) - bracket.deduction)

    def _balance(self, owner: int, book: Any, mark: int | None = None) -> tuple[int, int]:
        """Equity and maintenance of what is held against each other for a position: itself if isolated, else the account.

        Args:
            owner: the account.
            book: instrument of the position.
            mark: of that instrument, instead of the true one.
        """
        mark = book.mark if mark is None else mark
        i = book.index
        if self.isolated[owner][i]:
            worth = value(book.instrument, mark, self.position[owner][i])
            equity = self.margin[owner][i] + worth - self.basis[owner][i]
            return equity, self._maintenance(owner, book, mark)
        equity, maintenance = self.cash[owner], 0
        for other in self._crossed(owner):
            at = mark if other is book else other.mark
            equity += self._contribution(owner, other, at)
            maintenance += self._maintenance(owner, other, at)
        return equity, maintenance

    def _is_short_of_margin(self, owner: int, book: Any, mark: int | None = None) -> bool:
        """Whether an open position, or the account of a crossed one, is due, paused or not."""
        equity, maintenance = self._balance(owner, book, mark)
        return owner != self.fund and self.position[owner][book.index] != 0 and equity <= maintenance

    def _liquidation_price(self, owner: int, book: Any) -> int | None:
        """Return the tick nearest to the profit side at which the position or its account would be due."""
        ticks = range(1, book.highest + 1)
        from_profit = reversed(ticks) if self.position[owner][book.index] > 0 else ticks
        return next((tick for tick in from_profit if self._is_short_of_margin(owner, book, tick)), None)

    def _bankruptcy_price(self, owner: int, book: Any) -> int:
        """Return the furthest tick in the direction of loss at which equity is not negative."""
        ticks = range(1, book.highest + 1)
        if self.position[owner][book.index] > 0:
            return next((tick for tick in ticks if self._balance(owner, book, tick)[0] >= 0), book.highest)
        return next((tick for tick in reversed(ticks) if self._balance(owner, book, tick)[0] >= 0), 1)

    # -------------------------------------------------------------------------------------------------- liquidation

    def _liquidate_one(self, book: Any) -> bool:
        """Step 4. Return whether anyone was liquidated."""
        if book not in self.margined or book.phase is not Phase.CONTINUOUS:
            return False
        due = [owner for owner in range(self.accounts) if self._is_short_of_margin(owner, book)]
        due = [owner for owner in due if not self._is_paused(owner, book)]
        if not due:
            return False

        def turn(owner: int) -> tuple[bool, int, int]:
            short = self.position[owner][book.index] < 0
            price = self._liquidation_price(owner, book)
            assert price is not None
            return short, price if short else -price, self.stamps[owner][book.index]

        self.noted["due_at_once", min(len(due), 3)] += 1
        self._liquidate(book, min(due, key=turn))
        return True

    def _is_paused(self, owner: int, book: Any) -> bool:
        """A crossed account is paused as a whole."""
        if self.isolated[owner][book.index]:
            return self.paused[owner][book.index]
        beside = any(self.paused[owner][other.index] for other in self._crossed(owner) if other is not book)
        self.noted["paused_beside"] += beside
        return beside or self.paused[owner][book.index]

    def _liquidate(self, found_in: Any, owner: int) -> None:
        isolated = self.isolated[owner][found_in.index]
        parent = self._parent(found_in, owner)
        self._numbers += 1
        self._in_progress = self._numbers
        self.noted["liquidation", "isolated" if isolated else "crossed", found_in.instrument.kind] += 1
        self.noted["parent", parent > 0] += 1
        for order in self._by_arrival():
            if order.owner == owner and (not isolated or order.instrument == found_in.index):
                self._cancel(order, What.LIQUIDATION_CANCELLED)
        book = found_in
        if not isolated:
            able = [other for other in self._crossed(owner) if other.phase is Phase.CONTINUOUS]
            self.noted["halted_beside"] += len(able) < len(self._crossed(owner))
            book = max(able, key=lambda other: (self._maintenance(owner, other, other.mark), -other.index))
            self.noted["reduced_elsewhere"] += book is not found_in
        sign = sign_of(self.position[owner][book.index])
        limit = self._bankruptcy_price(owner, book)
        self._reduce_position(Seizure(self._numbers, parent, owner, isolated, book, sign, limit))

    def _reduce_position(self, seizure: Seizure) -> None:
        """Steps 4 to 7."""
        owner, book = seizure.account, seizure.book
        rules = book.instrument.margin.liquidation
        lots, first_stage = self._lots_to_close(owner, book)
        if first_stage:
            self.staged[owner][book.index] = True
        cash_before = self.cash[owner]
        of_part = seizure.isolated and lots < abs(self.position[owner][book.index])
        fills, stopped = self._enter_forced(book, owner, seizure.side, lots, seizure.limit, seizure.number, of_part)
        self.noted["part_of_isolated"] += of_part
        filled = sum(lots for _, lots in fills)
        amount = self._pay_fund(seizure, fills, cash_before)
        self._record_seizure(
            Forced.LIQUIDATED, seizure, quantity=filled, amount=amount, price=fills[-1][0] if fills else 0
        )
        self.noted["style", rules.style, "part" if lots > filled else "whole"] += 1
        self.noted["liquidation_stopped"] += stopped
        if first_stage:
            if self.position[owner][book.index]:
                self._pause(owner, book, rules.pause)
        elif stopped:
            pass  # the rest waits until trading is continuous again
        elif filled < lots:
            if self._is_short_of_margin(owner, book):
                self._transfer(seizure)
            else:
                self.noted["sound_with_lots_left"] += 1

    def _lots_to_close(self, owner: int, book: Any) -> tuple[int, bool]:
        """Return lots of the order, and whether they are a first stage."""
        rules, i = book.instrument.margin.liquidation, book.index
        position = self.position[owner][i]
        lots = abs(position)
        if rules.style == "staged":
            size = notional(book.instrument, book.mark, lots)
            if size > round(rules.staged_above * MONEY_UNITS) and not self.staged[owner][i]:
                return -(-lots * round(rules.stage * PPM) // PPM), True
        if rules.style != "ladder" or book.instrument.kind == "inverse":
            return lots, False
        return self._ladder(owner, book, position, round(rules.fee * PPM) / PPM), False

    def _ladder(self, owner: int, book: Any, position: int, fee: float) -> int:
        """Lots that make it compliant."""
        sign, lots, mark = sign_of(position), abs(position), book.mark
        price = book.best(Side.BUY if sign > 0 else Side.SELL) or mark
        equity, maintenance = self._balance(owner, book)
        rate = self._bracket(book, notional(book.instrument, mark, lots)).rate / PPM
        each = book.instrument.unit * (mark * rate - sign * (mark - price) - fee * price)
        self.noted["ladder", each > 0] += 1
        return lots if each <= 0 else min(max(ceil((maintenance - equity) / each), 1), lots)

    def _pay_fund(self, seizure: Seizure, fills: list[tuple[int, int]], cash_before: int) -> int:
        """Step 6. Return what the fund gets."""
        owner, book, i = seizure.account, seizure.book, seizure.book.index
        rules, instrument = book.instrument.margin.liquidation, book.instrument
        filled = sum(lots for _, lots in fills)
        gained = self.cash[owner] - cash_before
        is_open = self.position[owner][i] != 0
        equity = self._balance(owner, book)[0] if is_open or not seizure.isolated else gained
        from_margin = False
        if rules.style == "ladder":
            wanted = part(sum(notional(instrument, price, lots) for price, lots in fills), round(rules.fee * PPM))
            amount = min(wanted, max(0, equity))
            from_margin = seizure.isolated and is_open
        else:
            worth = sum(value(instrument, price, lots) for price, lots in fills)
            wanted = max(0, seizure.sign * (worth - value(instrument, seizure.limit, filled)))
            amount = min(wanted, max(0, gained if seizure.isolated else equity))
        self.noted["fee_capped"] += amount < wanted
        if from_margin:
            self.margin[owner][i] -= amount
        else:
            self.cash[owner] -= amount
        self.cash[self.fund] += amount
        return amount

    def _pause(self, owner: int, book: Any, seconds: float) -> None:
        self.paused[owner][book.index] = True
        stamp = self.stamps[owner][book.index]
        self.noted["paused"] += 1

        def resume() -> bool:
            if self.stamps[owner][book.index] == stamp:
                self.noted["resumed", self.position[owner][book.index] != 0] += 1
                self.paused[owner][book.index] = False
            return True

        self._set_timer(self.time + round(seconds * NS), book, resume)

    @abstractmethod
    def _by_arrival(self) -> list[Any]:
        """Of the exchange."""

    @abstractmethod
    def _cancel(self, order: Any, what: What, why: Reject = Reject.NONE, *, detail: int = 0) -> None:
        """Of the exchange."""

    @abstractmethod
    def _set_timer(self, time: int, book: Any, action: Callable[[], bool]) -> None:
        """Of the exchange."""

    @abstractmethod
    def _enter_forced(
        self, book: Any, owner: int, side: Side, lots: int, limit: int, number: int, of_part: bool
    ) -> tuple[list[tuple[int, int]], bool]:
        """Let the order of a liquidation trade. Return its fills and whether a rule stopped trading."""

    # -------------------------------------------------------------------------------------------------- the transfer

    def _transfer(self, seizure: Seizure) -> None:
        """Give all that is left of the position to the fund or to others."""
        owner, book = seizure.account, seizure.book
        rules = book.instrument.margin.liquidation
        cash_before, first = self.cash[owner], len(self._liquidations)
        rest = abs(self.position[owner][book.index])
        if rules.deficit == "socialise" or (rules.takes_over and self._fund_can_take(seizure, rest)):
            self._give(seizure, self.fund, rest, Forced.TAKEN_OVER)
        else:
            rest = self._deleverage(seizure, rest)
            if rest:
                self.noted["nobody_left"] += 1
                self._give(seizure, self.fund, rest, Forced.TAKEN_OVER)
        if seizure.isolated and rules.style != "ladder":
            gained = max(0, self.cash[owner] - cash_before)
            self.cash[owner] -= gained
            self.cash[self.fund] += gained
            amount = LIQUIDATION.names.index("amount")  # type: ignore[union-attr]
            assert len(self._liquidations) > first
            self._liquidations[-1][amount] = gained
            self.noted["transfer_gained"] += gained > 0

    def _fund_can_take(self, seizure: Seizure, lots: int) -> bool:
        """Whether the fund's equity after its own fill would not be negative."""
        book, fund, i = seizure.book, self.fund, seizure.book.index
        tables = (self.position, self.basis, self.margin, self.realised, self.fees_paid, self.stamps)
        kept = [table[fund][i] for table in tables]
        flags = self.staged[fund][i], self.paused[fund][i]
        cash, profit, opened = self.cash[fund], self.profit[fund], self._positions_opened
        self._fill(book, fund, seizure.sign, lots, seizure.limit, 0)
        equity = self.cash[fund]
        for other in self.margined:
            equity += self._contribution(fund, other, other.mark)
        for table, number in zip(tables, kept, strict=True):
            table[fund][i] = number
        self.staged[fund][i], self.paused[fund][i] = flags
        self.cash[fund], self.profit[fund], self._positions_opened = cash, profit, opened
        return equity >= 0

    def _give(self, seizure: Seizure, other: int, lots: int, what: Forced) -> None:
        """Transfer lots at the bankruptcy price, the buyer's fill first."""
        sides = [(seizure.account, -seizure.sign), (other, seizure.sign)]
        for owner, sign in sorted(sides, key=lambda side: -side[1]):
            self._fill(seizure.book, owner, sign, lots, seizure.limit, 0)
        self._record_seizure(what, seizure, quantity=lots, counterparty=other, price=seizure.limit)

    def _deleverage(self, seizure: Seizure, rest: int) -> int:
        """Take opposite positions: the fund's own, then those of others. Return lots that nobody had."""
        book, style = seizure.book, seizure.book.instrument.margin.liquidation.deficit
        own = self.position[self.fund][book.index]
        if own * seizure.sign < 0:
            self.noted["deleveraged_fund"] += 1
            lots = min(rest, abs(own))
            self._give(seizure, self.fund, lots, Forced.DELEVERAGED)
            rest -= lots
        self.noted["deleverage", style] += rest > 0
        return self._by_rank(seizure, rest) if style == "rank" else self._by_water(seizure, rest)

    def _leverage(self, owner: int, book: Any) -> float:
        equity, _ = self._balance(owner, book)
        if equity <= 0:
            return inf
        return notional(book.instrument, book.mark, abs(self.position[owner][book.index])) / equity

    def _opposite(self, seizure: Seizure) -> list[int]:
        """Accounts with a position on the other side, oldest first."""
        i = seizure.book.index
        owners = [owner for owner in range(self.accounts) if self.position[owner][i] * seizure.sign < 0]
        return sorted((owner for owner in owners if owner != self.fund), key=lambda owner: self.stamps[owner][i])

    def _by_rank(self, seizure: Seizure, rest: int) -> int:
        book, i = seizure.book, seizure.book.index
        while rest:
            queue = self._queue
            if queue is None or not self._stands(queue, book, -seizure.sign):
                queue = self._queue = Queue(book, -seizure.sign, book.mark, self._ranked(seizure))
                if not queue.accounts:
                    break
            other = queue.accounts[0]
            held = abs(self.position[other][i]) if self.position[other][i] * seizure.sign < 0 else 0
            lots = min(rest, held)
            if lots:
                self._give(seizure, other, lots, Forced.DELEVERAGED)
                rest -= lots
            else:
                self.noted["queue_left"] += 1
            if lots == held:
                queue.accounts.pop(0)
        return rest

    def _stands(self, queue: Queue, book: Any, sign: int) -> bool:
        if queue.book is not book or queue.sign != sign:
            self.noted["queue", "of another"] += 1
            return False
        redraw = round(book.instrument.margin.liquidation.redraw * PPM)
        if abs(book.mark - queue.mark) * PPM > redraw * queue.mark:
            self.noted["queue", "mark moved"] += 1
            return False
        self.noted[
            "queue", ("stands" if book.mark == queue.mark else "mark near") if queue.accounts else "used up"
        ] += 1
        return bool(queue.accounts)

    def _ranked(self, seizure: Seizure) -> list[int]:
        """Accounts on the other side by score, the highest first."""
        return sorted(self._opposite(seizure), key=lambda owner: -self._score(owner, seizure.book))

    def _score(self, owner: int, book: Any) -> float:
        basis, leverage = self.basis[owner][book.index], self._leverage(owner, book)
        profit = value(book.instrument, book.mark, self.position[owner][book.index]) - basis
        if profit == 0:
            return 0.0
        relative = profit / max(abs(basis), 1)
        if profit > 0:
            return relative * leverage
        return relative / leverage if leverage else -inf

    def _by_water(self, seizure: Seizure, rest: int) -> int:
        """Make the highest leverage that remains as low as possible."""
        if not rest:
            return 0
        self._queue = None
        book, i = seizure.book, seizure.book.index
        owners = sorted(self._opposite(seizure), key=lambda owner: -self._leverage(owner, book))
        held = [abs(self.position[owner][i]) for owner in owners]
        leverages = [self._leverage(owner, book) for owner in owners]
        equities = [max(0, self._balance(owner, book)[0]) for owner in owners]
        lot = max(1, notional(book.instrument, book.mark, 1))
        count, level = 0, 0.0
        for count in range(1, len(owners) + 1):
            over, equity = sum(held[:count]) - rest, sum(equities[:count])
            level = over * lot / equity if equity else (inf if over >= 0 else -inf)
            if level >= (leverages[count] if count < len(owners) else 0.0):
                break
        gifts = [0] * count
        for k in range(count):
            remains = level * equities[k] / lot if equities[k] and not isinf(level) else 0.0
            gifts[k] = min(max(floor(held[k] - remains), 0), held[k], rest - sum(gifts))
        self.noted["water", "rounding"] += 0 < sum(gifts) < rest
        while sum(gifts) < min(rest, sum(held[:count])):
            for k in range(count):
                if gifts[k] < held[k] and sum(gifts) < rest:
                    gifts[k] += 1
        for owner, lots in zip(owners, gifts, strict=False):
            if lots:
                self._give(seizure, owner, lots, Forced.DELEVERAGED)
        return rest - sum(gifts)

    # ------------------------------------------------------------------------------------------------------- records

    def _parent(self, book: Any, owner: int) -> int:
        """The liquidation, 0 = the message itself, whose move of the mark took it to the liquidation price."""
        price = self._liquidation_price(owner, book)
        moves = [(mark, in_progress) for moved, mark, in_progress in self._moves if moved is book]
        if not moves or price is None:
            return 0
        is_long = self.position[owner][book.index] > 0
        latest = len(moves) - 1
        while latest > 0 and (moves[latest - 1][0] <= price if is_long else moves[latest - 1][0] >= price):
            latest -= 1
            self.noted["parent_further_back"] += 1
        return moves[latest][1]

    def _record_seizure(self, what: Forced, seizure: Seizure, **fields: int) -> None:
        self._record(
            what,
            seizure.book,
            account=seizure.account,
            number=seizure.number,
            parent=seizure.parent,
            limit=seizure.limit,
            side=seizure.side,
            **fields,
        )

    def _record(self, what: Forced, book: Any, *, counterparty: int = -1, **fields: int) -> None:
        self.noted["forced", what] += 1
        self._stir()
        row = dict.fromkeys(LIQUIDATION.names or (), 0) | fields
        row |= {"time": self.time, "message": self._sequence, "counterparty": counterparty}
        row |= {"mark": book.mark, "instrument": book.index, "what": what}
        self._liquidations.append(list(row.values()))

    def _drain_liquidations(self) -> Records:
        rows, self._liquidations = [tuple(row) for row in self._liquidations], []
        return np.array(rows, LIQUIDATION)

    @abstractmethod
    def _stir(self) -> None:
        """Note that something happened that others may have to follow."""

    # ----------------------------------------------------------------------------------------- between two passes

    def _book(self, name: str) -> Any:
        return next(book for book in self.books if book.instrument.name == name)

    def credit(
        self,
        rows: npt.ArrayLike,
        why: str,
        *,
        cash: npt.ArrayLike = 0.0,
        coins: npt.ArrayLike = 0.0,
        instrument: str | None = None,
    ) -> None:
        """Cash, and coins at the cost of the reference price."""
        for owner, units in self._money(rows, cash):
            self.cash[owner] += units
        if instrument is None:
            return
        book = self._book(instrument)
        for owner, number in zip(*np.broadcast_arrays(rows, coins), strict=True):
            lots = floor(number / book.instrument.lot + 1e-6)
            if lots and not self.position[owner][book.index] and book in self.margined:
                self._open_position(owner, book)
            self.position[owner][book.index] += lots
            self.basis[owner][book.index] += value(book.instrument, self._first_mark(book), lots)

    @staticmethod
    def _first_mark(book: Any) -> int:
        ticks: int = book.instrument.ticks(book.instrument.reference_price)
        return ticks

    def debit(self, rows: npt.ArrayLike, why: str, *, cash: npt.ArrayLike = 0.0) -> None:
        amounts = self._money(rows, cash)
        if any(units > self._plain_means(owner) for owner, units in amounts):
            raise ValueError(f"{why}: more than is free")
        for owner, units in amounts:
            self.cash[owner] -= units

    @staticmethod
    def _money(rows: npt.ArrayLike, amount: npt.ArrayLike) -> list[tuple[int, int]]:
        owners = np.asarray(rows)
        amounts = np.broadcast_to(np.asarray(amount, np.float64), owners.shape)
        return [(int(owner), round(float(units) * MONEY_UNITS)) for owner, units in zip(owners, amounts, strict=True)]

    def set_terms(self, rows: npt.ArrayLike, instrument: str, leverage: npt.ArrayLike, isolated: npt.ArrayLike) -> None:
        book, owners = self._book(instrument), np.asarray(rows)
        leverages = np.broadcast_to(np.asarray(leverage, np.float64), owners.shape)
        modes = np.broadcast_to(np.asarray(isolated, np.bool_), owners.shape)
        for owner in owners:
            orders = self._margin_orders(owner, book, Side.BUY) + self._margin_orders(owner, book, Side.SELL)
            if self.position[owner][book.index] or orders:
                raise ValueError(f"account {owner} has a position or orders in {instrument}")
        least = self.margined[book].terms[0].initial
        if any(wanted < 1 or initial_rate(float(wanted)) < least for wanted in leverages):
            raise ValueError("leverage out of range")
        if book.instrument.kind == "spot" and modes.any():
            raise ValueError("isolated spot")
        for owner, wanted, mode in zip(owners, leverages, modes, strict=True):
            self.initial[owner][book.index] = initial_rate(float(wanted))
            self.isolated[owner][book.index] = bool(mode)

    def add_margin(self, rows: npt.ArrayLike, instrument: str, amount: npt.ArrayLike) -> None:
        book, i = self._book(instrument), self._book(instrument).index
        amounts = self._money(rows, amount)
        for owner, units in amounts:
            if not self.isolated[owner][i] or not self.position[owner][i]:
                raise ValueError(f"account {owner} has no isolated position in {instrument}")
            remains = self._balance(owner, book)[0] + units
            if units > 0 and units > self._plain_means(owner):
                raise ValueError(f"account {owner} has not so much free")
            if units < 0 and (self.margin[owner][i] + units < 0 or remains < self._initial_of_position(owner, book)):
                raise ValueError(f"account {owner} needs its margin")
        for owner, units in amounts:
            self.cash[owner] -= units
            self.margin[owner][i] += units

    def pay_funding(self, instrument: str, rate: float) -> float:
        book, i = self._book(instrument), self._book(instrument).index
        state, parts = self.margined[book], round(rate * PPB)
        for owner in range(self.accounts):
            position = self.position[owner][i]
            owed = notional(book.instrument, book.mark, abs(position)) * parts * sign_of(position)
            paid = -(-owed // PPB)  # payers round up, receivers down
            self.residue += paid
            self.funding[owner][i] -= paid
            self._take(owner, book, paid)
        state.rate, state.paid = parts, self.time
        return parts / PPB

    def _take(self, owner: int, book: Any, amount: int) -> None:
        """Take money from the margin of an isolated position, else from cash."""
        if self.isolated[owner][book.index]:
            self.margin[owner][book.index] -= amount
        else:
            self.cash[owner] -= amount

    def settle_variation(self, instrument: str, price: float) -> None:
        book, i = self._book(instrument), self._book(instrument).index
        tick = book.instrument.ticks(price)
        for owner in range(self.accounts):
            worth = value(book.instrument, tick, self.position[owner][i])
            gain = worth - self.basis[owner][i]
            self._take(owner, book, -gain)
            self.realised[owner][i] += gain
            self.profit[owner] += gain
            self.basis[owner][i] = worth

    def expire(self, instrument: str, price: float) -> None:
        book, i = self._book(instrument), self._book(instrument).index
        self.settle_variation(instrument, price)
        self._sequence += 1  # what it records stands in the next report
        self._in_progress = 0
        for owner in range(self.accounts):
            position = self.position[owner][i]
            if position:
                self._fill(book, owner, -sign_of(position), abs(position), book.instrument.ticks(price), 0)
        self._sequence -= 1

    def set_brackets(self, instrument: str, brackets: str | Sequence[Bracket]) -> None:
        rows = read_brackets(brackets) if isinstance(brackets, str) else brackets
        self.margined[self._book(instrument)].terms = read_terms(rows)

    def charge_interest(self, rate: float) -> None:
        for owner in range(self.accounts):
            if owner == self.fund:
                continue
            interest = max(0, -self.cash[owner]) * round(rate * PPB) // PPB
            self.noted["interest"] += interest > 0
            self.cash[owner] -= interest
            self.fees += interest

    def socialise_losses(self) -> None:
        deficit = max(0, -self.cash[self.fund])
        winners = [owner for owner in range(self.accounts) if self.profit[owner] > 0 and owner != self.fund]
        total = sum(self.profit[owner] for owner in winners)
        for owner in winners:
            owed = self.profit[owner] * min(deficit, total) // total
            paid = min(owed, max(0, self._plain_means(owner)))
            self.noted["socialised", paid < owed] += deficit > 0
            self.cash[owner] -= paid
            self.cash[self.fund] += paid
        self.profit = [0] * self.accounts

    def free_cash(self) -> npt.NDArray[np.int64]:
        """What accounts may pay out; negative where something is missing."""
        return np.array([self._plain_means(owner) for owner in range(self.accounts)], np.int64)

    def equity(self, rows: npt.ArrayLike | None = None) -> npt.NDArray[np.int64]:
        owners = range(self.accounts) if rows is None else np.asarray(rows)
        total = []
        for owner in owners:
            equity = self.cash[owner]
            for book in self.margined:
                if self.isolated[owner][book.index]:
                    equity += self._balance(owner, book)[0]
                else:
                    equity += self._contribution(owner, book, book.mark)
            total.append(equity)
        return np.array(total, np.int64)

    def liquidation_prices(self, instrument: str) -> npt.NDArray[np.float64]:
        """Ticks, nan where there is none."""
        book = self._book(instrument)
        prices = [self._liquidation_price(owner, book) for owner in range(self.accounts)]
        return np.array([nan if price is None else price for price in prices], np.float64)
