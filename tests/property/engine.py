"""The compiled exchange dressed as the twin, so that one test body serves both."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from abm.exchange import Exchange, Instrument, Report, Side
from abm.exchange.memory import QUEUES, SELL, WAITING
from abm.exchange.messages import Records


class Engine:
    """An `Exchange` with the attributes of `tests.reference.exchange.ReferenceExchange`."""

    def __init__(self, instruments: Sequence[Instrument], *, accounts: int = 0, ledger: bool = False) -> None:
        self.exchange = Exchange(instruments, accounts=accounts, ledger=ledger, note_shifts=True)
        self.instruments = self.exchange.instruments

    def __getattr__(self, name: str) -> Any:
        return getattr(self.exchange if hasattr(self.exchange, name) else self.exchange.accounts, name)

    def match(self, tape: Records) -> Report:
        return self.exchange.match(tape)

    def levels(self, instrument: int, side: int) -> list[int]:
        """Prices at which orders rest, hidden ones too, best first: told by the bitmap."""
        ticks = non_empty_ticks(self.exchange, instrument * QUEUES + side)
        top = self.instruments[instrument].n_ticks - 1
        found = sorted({min(max(tick, 1), top) for tick in ticks})
        return found[::-1] if side == Side.BUY else found

    def queue(self, instrument: int, side: int, price: int) -> Records:
        """Orders at a price; market orders that await an auction stand, as in the twin, at the end of the range."""
        beyond = 0 if side == Side.SELL else price + 1
        top = self.instruments[instrument].n_ticks - 1
        at_end = price == (top if side == Side.BUY else 1)
        rows = [self.exchange.queue(instrument, Side(side), beyond)] if at_end else []
        return np.concatenate([*rows, self.exchange.queue(instrument, Side(side), price)])


def non_empty_ticks(exchange: Exchange, queue: int) -> list[int]:
    """Ticks of a queue that the bitmap of its blocks marks as holding an order."""
    tables = exchange._memory.tables
    first = int(tables["queues"]["block0"][queue])
    ends = np.append(tables["queues"]["block0"], len(tables["blocks"]))
    words = tables["blocks"]["word"][first : int(ends[queue + 1])]
    return [64 * int(b) + bit for b in np.flatnonzero(words) for bit in range(64) if int(words[b]) >> bit & 1]


def assert_levels_agree(exchange: Exchange) -> None:
    """The index of non-empty levels, the chains of the levels, their totals, and the orders say the same."""
    memory = exchange._memory
    tables = memory.tables
    known = np.unique(tables["orders"]["order"])  # the table of ids may have two thousand million rows
    live = [exchange.order(int(order)) for order in known[tables["ids"]["slot"][known] > 0]]
    for number, queue in enumerate(tables["queues"]):
        i, q = divmod(number, QUEUES)
        rows = [row for row in live if row is not None and row["instrument"] == i and not row["out"]]
        mine = [row for row in rows if queue_of(tables, int(row["order"])) == q]
        ticks = non_empty_ticks(exchange, number)
        assert sorted({int(row["price"]) for row in mine}) == ticks
        assert queue["best"] == ((max(ticks) if queue["high"] else min(ticks)) if ticks else queue["none"])
        for tick in ticks:
            block = tables["blocks"][int(queue["block0"]) + (tick >> 6)]
            level = tables["levels"][64 * int(block["page"]) + (tick & 63)]
            chain = exchange._rows(read_any_queue, i, q, tick)
            assert sorted(chain["order"]) == sorted(row["order"] for row in mine if row["price"] == tick)
            assert level["quantity"] == chain["quantity"][~chain["hidden"]].sum()
            assert level["count"] == (~chain["hidden"]).sum()
            assert not np.any(~chain["hidden"][1:] & chain["hidden"][:-1]), "a displayed order behind a hidden one"
        for level, shift in ((1, 6), (2, 12), (3, 18)):
            start = int(queue[f"up{level}"])
            marked = {tick >> shift for tick in ticks}
            above = {node >> 6 for node in marked}
            for node in above:
                word = int(tables["upper"]["bits"][start + node])
                assert {64 * node + bit for bit in range(64) if word >> bit & 1} == {
                    x for x in marked if x >> 6 == node
                }


def queue_of(tables: dict[str, Records], order: int) -> int:
    """Which queue of its instrument an order stands in."""
    slot = int(tables["ids"]["slot"][order])
    flags = int(tables["orders"]["flags"][slot])
    by_mark = bool(tables["terms"]["flags"][slot] & 16) if flags & WAITING else False
    return (flags & SELL) + (2 if flags & WAITING else 0) + (2 if by_mark else 0)


def read_any_queue(engine: Records, i: int, q: int, tick: int, rows: Records) -> int:
    """`reading.read_queue`, under a name of its own for queues of stops."""
    from abm.exchange.reading import read_queue

    return int(read_queue(engine, i, q, tick, rows))
