"""The venue: one account that sends the messages of LOBSTER files again, so that others trade in a real market's book and have impact.

It stands for everybody who was there. Without others the best prices are those of the file at all times. With them it decides nothing and its
messages meet the book as it is now: an order that the file executes rests on where its taker met somebody else, a cancel of an order that is gone is
refused and changes nothing, and an execution is a taker's order with the price of the file as its limit, which trades with whoever stands there.
"""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from abm.agents.base import Numbers, trader
from abm.agents.replayer import FileConfig, Playback, refuse_far
from abm.clock import Clock, Utc
from abm.exchange.description import NS
from abm.exchange.exchange import Exchange
from abm.exchange.gateway import Latency
from abm.exchange.instrument import Instrument
from abm.exchange.messages import MESSAGE, Kind, Records, Side
from abm.lobster.files import Messages, read_pair
from abm.lobster.tape import Tape

_MOST = 1e12
"""Currency that an account is given at most, as money is counted in integers."""


class LobsterConfig(FileConfig):
    """A venue's messages and best levels."""

    latency: Latency = Field(Latency(), description="added to recorded times; by default they are those of arrival")
    path: str = Field(
        min_length=1,
        description="LOBSTER message file, csv or csv.gz, whose sizes are lots; relative to the scenario's file, or absolute. It must cover the run",
        examples=["AAPL_2012-06-21_message_10.csv.gz"],
    )
    book: str = Field(
        min_length=1,
        description="LOBSTER order-book file of the same rows: what stood before the first row, and what comes into view later",
        examples=["AAPL_2012-06-21_orderbook_10.csv.gz"],
    )
    midnight: Utc | None = Field(
        None,
        description="the midnight that the file's times count from, where the venue is; none: the one (UTC) before the run, as in files of a run",
        examples=["2012-06-21T00:00-04:00"],
    )

    @property
    def files(self) -> dict[str, Path]:
        """Where the files are, by key."""
        return super().files | {"book": self._folder / self.book}


def read_market(config: LobsterConfig, clock: Clock, instrument: Instrument) -> Records:
    """What LOBSTER files say of the time of a run, as messages in order of time.

    What earlier rows leave in the book comes first, at time 0.

    Args:
        config: Where the files are, and what their times count from.
        clock: Of the run.
        instrument: What is traded; it has the tick of the files, and a lot for each unit of their sizes.

    Returns:
        `MESSAGE` records for instrument 0, times in ns since the start, ids from 1; see `abm.lobster.tape` for what stands for what.

    Raises:
        ValueError: A file is damaged, does not go with the instrument or does not cover the run; one line says the file, the reason and the fix.
    """
    files = config.files
    messages, book = read_pair(files["path"], files["book"], Decimal(str(instrument.tick)))
    start = pd.Timestamp(clock.start)
    origin = start.normalize() if config.midnight is None else pd.Timestamp(config.midnight)
    start_ns, length = (start - origin).value, clock.steps * clock.step_ns
    _refuse_gap(files["path"], messages, origin, start_ns, clock)
    row = int(np.searchsorted(messages.time_ns, start_ns, side="right")) - 1
    best = book.price[:, max(row, 0), 0]
    if best.all():
        refuse_far(files["path"], float(best.mean() * instrument.tick), instrument)
    sent = Tape(messages, book).records()
    _refuse_unfit(files["path"], sent, instrument)
    sent["time"] -= start_ns
    first, after = np.searchsorted(sent["time"], (0, length))
    return np.concatenate([_standing(sent[:first], instrument), sent[first:after]])


def _refuse_gap(path: Path, messages: Messages, origin: pd.Timestamp, start_ns: int, clock: Clock) -> None:
    """A run may begin a second, or a step, before the first row, and end as much after the last one."""
    first, last = int(messages.time_ns[0]), int(messages.time_ns[-1])
    end_ns, slack = start_ns + clock.steps * clock.step_ns, max(clock.step_ns, NS)
    if first - start_ns > slack or end_ns - last > slack:
        told = (f"{origin + pd.Timedelta(time):%Y-%m-%dT%H:%M:%S}" for time in (first, last))
        raise ValueError(
            f"{path}: rows from {' to '.join(told)} UTC do not cover the run; move clock.start and clock.end into them, or set midnight"
        )


def _refuse_unfit(path: Path, sent: Records, instrument: Instrument) -> None:
    orders = sent[sent["kind"] == Kind.LIMIT]
    highest, largest = int(orders["price"].max(initial=0)), int(orders["quantity"].max(initial=0))
    where = f"instruments.{instrument.name}"
    if highest >= instrument.n_ticks:
        raise ValueError(f"{path}: there are prices up to {highest * instrument.tick:g}; raise {where}.max_price")
    if largest > instrument.max_order_lots:
        raise ValueError(f"{path}: there are orders up to {largest * instrument.lot:g}; raise {where}.max_order")


def _standing(earlier: Records, instrument: Instrument) -> Records:
    """What messages leave in a book: its orders under their ids, oldest first, and then the last phase of trading."""
    terms = {"name", "kind", "tick", "lot", "max_price", "max_order"}
    exchange = Exchange([Instrument(**instrument.model_dump(include=terms))])
    earlier["owner"] = 0
    exchange.match(earlier)
    orders, phases = exchange.orders_of(0), earlier[earlier["kind"] == Kind.PHASE][-1:]
    standing = np.zeros(len(orders), MESSAGE)
    for field in ("order", "side", "price", "quantity", "reason"):
        standing[field] = orders[field]
    phases["time"] = 0
    return np.concatenate([standing, phases])


@trader("lobster")
class Venue(Playback):
    """One account that sends what LOBSTER files say."""

    config: LobsterConfig

    def read(self, clock: Clock, instrument: Instrument) -> Records:
        """The files, as messages."""
        return read_market(self.config, clock, instrument)

    def endow(self) -> tuple[Numbers, Numbers]:
        """So much that none of its orders is cut: what all that it ever bids for would cost, and all that it ever offers."""
        instrument = self.model.scenario.instruments[self.config.instrument]
        orders = self._flow[self._flow["kind"] == Kind.LIMIT]
        buys, fee = orders["side"] == Side.BUY, max(tier.taker for tier in instrument.fees)
        coins = orders["quantity"] * instrument.lot
        value = coins * orders["price"] * instrument.tick
        if instrument.kind != "spot":  # both sides are margin
            return min((1.0 + fee) * float(value.sum()) + 1.0, _MOST), 0.0
        cash, offered = (1.0 + fee) * float(value[buys].sum()) + 1.0, float(value[~buys].sum())
        return min(cash, _MOST), float(coins[~buys].sum()) * min(1.0, _MOST / max(offered, 1.0))
