"""The product's own figures: the compiled pass, small batches, and what starting costs."""

import os
import subprocess
import sys
import tempfile
from statistics import median
from time import perf_counter
from typing import NamedTuple

from abm.exchange import Exchange, OrderBook
from abm.exchange.messages import Kind, Records
from experiments.bench.tape import INSTRUMENT, N_TICKS, Pass, Totals

BATCH = 100

# Each runs in a process of its own, and is timed from outside: interpreter, imports and all.
_FIRST_MATCH = """
import abm
import numpy as np
from abm.exchange import Exchange, Instrument, MESSAGE
exchange = Exchange([Instrument(name="bench", tick=1.0, lot=1.0, max_price=1000.0)])
tape = np.zeros(2, MESSAGE)
tape["owner"], tape["order"], tape["price"], tape["quantity"], tape["side"] = -1, (1, 2), 500, 10, (0, 1)
assert len(exchange.match(tape).trades) == 1
"""
_EVERYTHING = (
    _FIRST_MATCH
    + """
exchange.view(), exchange.depth(0, 5), exchange.depth_within(0, 10.0), exchange.cost_to_trade(0, 0, 100.0)
exchange.queue_position(1), exchange.order(1), exchange.open_orders(-1), exchange.queue(0, 0, 500)
"""
)


def play(messages: Records, exchange: Exchange | None = None) -> Pass:
    """One pass over a tape by an exchange of one instrument; a new one unless given: no ledger, every feature compiled in.

    The exchange has room for the tape before the time is taken, as the C++ book has: it was sent the same messages as
    mere ticks of the clock, which change nothing else.
    """
    exchange = exchange or Exchange([INSTRUMENT])
    ticks = messages.copy()
    ticks["kind"], ticks["time"] = Kind.CLOCK, 0
    exchange.match(ticks)
    start = perf_counter()
    report = exchange.match(messages)
    seconds = perf_counter() - start
    view, depth = exchange.view(), exchange.depth(0, N_TICKS)
    totals = Totals(
        volume=int(report.trades["quantity"].sum()),
        trades=len(report.trades),
        live=int(depth.bid_orders.sum() + depth.ask_orders.sum()),
        best_bid=int(view.best_bid[0]),
        best_ask=int(view.best_ask[0]),
    )
    return Pass(seconds, totals)


def play_in_batches(messages: Records) -> float:
    """Seconds that `OrderBook.process` takes for the whole tape, a hundred messages a call."""
    book = OrderBook(instrument=INSTRUMENT)
    batches = [messages[i : i + BATCH] for i in range(0, len(messages), BATCH)]
    start = perf_counter()
    for batch in batches:
        book.process(batch)
    return perf_counter() - start


class Start(NamedTuple):
    """Seconds of a whole process: the first on a machine, which compiles all, and a later one up to its first match."""

    cold: float
    warm: float


def time_start(repeat: int) -> Start:
    """Time processes that start on an empty and then on a filled folder of compiled kernels."""
    with tempfile.TemporaryDirectory(prefix="abm-bench-") as folder:
        cold = _time_process(_EVERYTHING, folder)
        return Start(cold, median(_time_process(_FIRST_MATCH, folder) for _ in range(repeat)))


def _time_process(program: str, cache: str) -> float:
    start = perf_counter()
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "NUMBA_CACHE_DIR": cache}, check=True)
    return perf_counter() - start
