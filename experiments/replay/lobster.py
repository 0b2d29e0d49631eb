"""Feed a day of real LOBSTER messages through the exchange and compare its book with the venue's after each message.

What is sent is in `abm.lobster.tape`, with the rules that follow from what such files leave out. What is compared: price and
size at each of the levels asked for, both sides, after each message. A level is *known* while none of it is adopted.
"""

import time
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from abm.exchange import Exchange
from abm.exchange.instrument import Instrument
from abm.exchange.messages import OUTCOME, TRADE, Records, Status
from abm.lobster.files import Book, Messages, Type
from abm.lobster.tape import BUY, SELL, Execution, Tape

MAX_SIZE = 10**12


@dataclass(frozen=True)
class Difference:
    """One price and size that the engine and the book file do not share (ticks, shares; 0 = no level)."""

    row: int
    side: str
    level: int
    engine: tuple[int, int]
    file: tuple[int, int]


@dataclass(frozen=True)
class LobsterReport:
    """What came of a replay. Rows count from 1.

    Attributes:
        messages: Messages of the file, by name of type.
        executions: Visible executions, by what could be held against them.
        out_of_turn: Rows of the executions that the file itself has out of turn, by cause.
        wrong_maker: Rows where the engine's maker, size or price is not the file's, or its queue not the file's.
        unseen: Messages beyond the levels of the book, not sent.
        unexplained: Rows about an order that, by the file's own book, cannot be there.
        strays: Trades of the engine that no execution of the file asked for.
        rejected: Messages the engine rejected.
        adopted_levels: Levels adopted.
        adopted_shares: Shares adopted.
        forgotten_levels: Levels that fell out of view with orders in them.
        levels_known: Levels compared whose queue was known.
        levels_unknown: Levels compared with adopted shares.
        mismatches_known: Of the known ones, those that differ.
        mismatches_unknown: Of the others, those that differ.
        first: The first differences.
        same_in_one_pass: Whether one pass over all messages gave the trades and outcomes of a pass for each.
        sent: Messages sent to the engine.
        one_pass_s: Seconds of one pass over all of them.
        single_passes_s: Seconds of a pass for each message of the file, the book read after each.
    """

    rows: int
    levels: int
    messages: dict[str, int]
    executions: dict[str, int]
    out_of_turn: dict[str, list[int]]
    wrong_maker: list[int]
    unseen: int
    unexplained: list[int]
    strays: int
    rejected: int
    adopted_levels: int
    adopted_shares: int
    forgotten_levels: int
    levels_known: int
    levels_unknown: int
    mismatches_known: int
    mismatches_unknown: int
    first: list[Difference]
    same_in_one_pass: bool
    sent: int
    one_pass_s: float
    single_passes_s: float

    @property
    def holds(self) -> bool:
        """Whether the engine is right wherever the file says what right is."""
        return not (self.mismatches_known or self.wrong_maker or self.strays or self.rejected) and self.same_in_one_pass


def replay_lobster(messages: Messages, book: Book, levels: int, tick: Decimal) -> LobsterReport:
    """Replay checked files of equal length.

    Args:
        messages: The message file.
        book: The order-book file.
        levels: Levels of each side to compare, at most those of the book.
        tick: Tick in dollars, the one the files were read with.

    Returns:
        The report; `holds` says whether the replay succeeded.
    """
    tape = Tape(messages, book)
    sent = tape.records()
    highest = max(int(book.price.max()), int(sent["price"].max(initial=0)))
    instrument = Instrument(
        name="lobster", tick=float(tick), lot=1, max_price=float(tick * (highest + 2)), max_order=MAX_SIZE
    )
    Exchange([instrument]).match(sent[:1])  # so that loading the kernels is not timed
    started = time.perf_counter()
    whole = Exchange([instrument]).match(sent)
    one_pass_s = time.perf_counter() - started
    started = time.perf_counter()
    single = _pass_for_each_row(Exchange([instrument]), tape, sent, levels)
    single_passes_s = time.perf_counter() - started

    wrong, strays = _judged(tape, single.trades, sent)
    unknown = _adopted(tape, book, levels)
    price, size = book.price[..., :levels], book.size[..., :levels]
    differs = (single.price != price) | (single.size != size)
    first = [
        Difference(
            row=int(row) + 1,
            side=("bid", "ask")[side],
            level=int(level) + 1,
            engine=(int(single.price[side, row, level]), int(single.size[side, row, level])),
            file=(int(price[side, row, level]), int(size[side, row, level])),
        )
        for row, side, level in np.argwhere(differs.transpose(1, 0, 2))[:5]
    ]
    counts = np.bincount(messages.type, minlength=len(Type) + 1)
    return LobsterReport(
        rows=len(messages),
        levels=levels,
        messages={kind.name.lower(): int(counts[kind]) for kind in Type},
        executions={kind.value: tape.executions[kind] for kind in Execution},
        out_of_turn={kind.value: [row + 1 for row in rows] for kind, rows in tape.out_of_turn.items()},
        wrong_maker=sorted({row + 1 for row in [*wrong, *single.wrongly_first]}),
        unseen=tape.unseen,
        unexplained=[row + 1 for row in tape.unexplained],
        strays=strays,
        rejected=int(np.count_nonzero(single.outcomes["status"] == Status.REJECTED)),
        adopted_levels=len(tape.spells),
        adopted_shares=sum(spell.shares for spell in tape.spells),
        forgotten_levels=tape.forgotten,
        levels_known=int(np.count_nonzero((price > 0) & ~unknown)),
        levels_unknown=int(np.count_nonzero((price > 0) & unknown)),
        mismatches_known=int(np.count_nonzero(differs & ~unknown)),
        mismatches_unknown=int(np.count_nonzero(differs & unknown)),
        first=first,
        same_in_one_pass=np.array_equal(single.trades, whole.trades)
        and np.array_equal(single.outcomes, whole.outcomes),
        sent=len(sent),
        one_pass_s=one_pass_s,
        single_passes_s=single_passes_s,
    )


class _Seen(NamedTuple):
    """What the engine did and showed, a pass for each row."""

    trades: Records
    outcomes: Records
    price: npt.NDArray[np.int64]  # ticks, shape (2, rows, levels)
    size: npt.NDArray[np.int64]
    wrongly_first: list[int]  # rows that the file executes out of turn and the engine would not


def _pass_for_each_row(engine: Exchange, tape: Tape, sent: Records, levels: int) -> _Seen:
    """Send what belongs to each row of the file, and read the book after it."""
    trades, outcomes = [np.empty(0, TRADE)], [np.empty(0, OUTCOME)]
    price = np.zeros((2, len(tape.starts), levels), np.int64)
    size = np.zeros_like(price)
    wrongly_first = []
    for row, (first, after) in enumerate(pairwise([*tape.starts, len(sent)])):
        if row in tape.overtakers:
            place = engine.queue_position(tape.overtakers[row])
            if place is None or place[0] == 0:
                wrongly_first.append(row)
        if first == after:  # nothing was sent: the book is the one before
            price[:, row], size[:, row] = price[:, row - 1], size[:, row - 1]
            continue
        report = engine.match(sent[first:after])
        if len(report.trades):
            trades.append(report.trades)
        outcomes.append(report.outcomes)
        depth = engine.depth(0, levels)
        bids, asks = len(depth.bid_price), len(depth.ask_price)
        price[BUY, row, :bids], size[BUY, row, :bids] = depth.bid_price, depth.bid_quantity
        price[SELL, row, :asks], size[SELL, row, :asks] = depth.ask_price, depth.ask_quantity
    return _Seen(np.concatenate(trades), np.concatenate(outcomes), price, size, wrongly_first)


def _judged(tape: Tape, trades: Records, sent: Records) -> tuple[list[int], int]:
    """Rows of executions that did not hit what they had to, whole and at its price; number of stray trades."""
    asked = np.array(list(tape.makers), np.int64)
    makers = np.array(list(tape.makers.values()), np.int64)
    wanted = np.isin(trades["message"], asked)
    hits = trades[wanted]
    right = np.zeros(len(asked), bool)
    place = np.searchsorted(asked, hits["message"])
    whole = (hits["maker"] == makers[place]) & (hits["quantity"] == sent["quantity"][asked[place]])
    right[place] = whole & (hits["price"] == sent["price"][asked[place]])
    right &= np.bincount(place, minlength=len(asked)) == 1
    rows = np.searchsorted(np.array(tape.starts), asked[~right], side="right") - 1
    return rows.tolist(), int(np.count_nonzero(~wanted))


def _adopted(tape: Tape, book: Book, levels: int) -> npt.NDArray[np.bool_]:
    """Where the book file shows a level that has adopted shares: shape (2, rows, levels)."""
    unknown = np.zeros((2, len(book), levels), bool)
    for spell in tape.spells:
        rows = slice(spell.first_row, spell.end_row)
        unknown[spell.side, rows] |= book.price[spell.side, rows, :levels] == spell.price
    return unknown
