"""The way in: what traders send is checked, delayed by each one's latency, and put in order of arrival."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from abm.exchange.calendar import Sessions
from abm.exchange.compilation import kernel
from abm.exchange.description import Frozen
from abm.exchange.exchange import Exchange
from abm.exchange.messages import ANONYMOUS, MESSAGE, Kind, Records, Reject

NS_PER_MS = 1_000_000

BuyingPower = Callable[[Records], npt.NDArray[np.bool_]]
"""A check before arrival: which of these orders their owners can pay for. Cash in the ledger is checked by the exchange itself."""

Refusal = Callable[[Records], npt.NDArray[np.bool_]]
"""Which of these messages are refused because their owners are frozen: a credit hub that failed knows (`Resolution.refused`)."""


class Latency(Frozen):
    """Time from a trader's decision to the exchange, drawn for each message: `base` plus a random part of mean `spread`."""

    base: float = Field(0.0, ge=0, description="milliseconds", examples=[1.0])
    spread: float = Field(0.0, ge=0, description="milliseconds", examples=[0.5])
    shape: Literal["exponential", "lognormal", "uniform"] = Field(
        "exponential", description="distribution of the random part"
    )

    def draw(self, rng: np.random.Generator, size: int) -> npt.NDArray[np.int64]:
        """Latencies of `size` messages, in ns."""
        if self.spread == 0:
            return np.full(size, round(self.base * NS_PER_MS), np.int64)
        if self.shape == "exponential":
            part = rng.exponential(self.spread, size)
        elif self.shape == "uniform":
            part = rng.uniform(0, 2 * self.spread, size)
        else:  # lognormal with sigma 1: the mean is exp(1/2) times the median
            part = self.spread * rng.lognormal(-0.5, 1.0, size)
        return np.round((self.base + part) * NS_PER_MS).astype(np.int64)


class Limits(Frozen):
    """Checks that a venue makes before an order reaches the book."""

    messages_per_second: Annotated[int, Field(ge=1)] | None = Field(
        None, description="of one owner, over a second of arrival", examples=[100]
    )


_NO_DELAYS = np.zeros(0, np.int64)


class Batch:
    """What one trader, or population, sends at one moment.

    Args:
        messages: `MESSAGE` records, `time` when they were sent (ns).
        delays: latencies in ns drawn from the sender's own stream, at least as many as there are owners among the messages; None for none.
    """

    __slots__ = ("delays", "messages")

    def __init__(self, messages: Records, delays: npt.NDArray[np.int64] | None = None) -> None:
        self.messages = messages
        self.delays = _NO_DELAYS if delays is None else delays


@kernel
def collect(
    messages: Records,
    delays: npt.NDArray[np.int64],
    scratch: npt.NDArray[np.int64],
    sent: Records,
    place: int,
    earliest: int,
    latest: int,
) -> None:
    """Copy messages to `sent` from `place` on, with the times of their arrival, which are held between two.

    Each has the latency of its owner: what an owner sends at one moment arrives in the order it was sent. No `delays`, no latency.
    `scratch` holds a zero for each owner from -1 on, and does so again in the end.
    """
    drawn = 0
    for m in range(len(messages)):
        row = sent[place + m] = messages[m]
        time = row.time
        if len(delays) > 0:
            owner = row.owner + 1
            if scratch[owner] == 0:
                scratch[owner] = delays[drawn] + 1
                drawn += 1
            time += scratch[owner] - 1
        sent[place + m].time = min(max(time, earliest), latest)
    if len(delays) > 0:
        for m in range(len(messages)):
            scratch[messages[m].owner + 1] = 0


@kernel
def by_arrival(sent: Records, tape: Records) -> None:
    """Copy as many messages as `tape` holds in the order of their times; equal ones keep their place.

    Sorted by one byte of the time after the other, from the least: that takes no comparisons, and a step has few bytes.
    """
    n = len(tape)
    times, order = np.empty(n, np.int64), np.arange(n)
    other_times, other_order, counts = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(257, np.int64)
    earliest = latest = sent[0].time
    for m in range(n):
        times[m] = sent[m].time
        earliest, latest = min(earliest, times[m]), max(latest, times[m])
    for shift in range(0, 64, 8):
        if (latest - earliest) >> shift == 0:
            break
        counts[:] = 0
        for k in range(n):
            counts[(((times[k] - earliest) >> shift) & 255) + 1] += 1
        for byte in range(256):
            counts[byte + 1] += counts[byte]
        for k in range(n):
            byte = ((times[k] - earliest) >> shift) & 255
            other_times[counts[byte]], other_order[counts[byte]] = times[k], order[k]
            counts[byte] += 1
        times, order, other_times, other_order = other_times, other_order, times, order
    for m in range(n):
        tape[m] = sent[order[m]]


class Gateway:
    """Arranges what traders send into a tape.

    A trader's latencies come from its own stream, so that one more trader changes nobody else's arrival.

    Args:
        exchange: where the tape goes; gives each new order its id.
        limits: what is refused at the door.
        buying_power: an additional check of means, asked once a tape.
        frozen: which messages come from frozen accounts, asked once a tape.
        start: the moment that is time 0, for the calendars of the instruments; without it they do not open or close.
    """

    def __init__(
        self,
        exchange: Exchange,
        limits: Limits | None = None,
        buying_power: BuyingPower | None = None,
        frozen: Refusal | None = None,
        start: datetime | None = None,
    ) -> None:
        self._exchange = exchange
        self._limits = limits or Limits()
        self._buying_power = buying_power
        self._frozen = frozen
        calendars = any(instrument.calendar is not None for instrument in exchange.instruments)
        self._sessions = Sessions(exchange.instruments, start) if start is not None and calendars else None
        self._owners = len(exchange.accounts.cash)
        self._scratch = np.zeros(self._owners + 1, np.int64)
        self._sent = np.zeros(1024, MESSAGE)
        clock = np.zeros(1, MESSAGE)
        clock["kind"], clock["owner"], clock["instrument"] = Kind.CLOCK, ANONYMOUS, -1
        self._clock = Batch(clock)
        self._window: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] = (
            np.empty(0, np.int64),
            np.empty(0, np.int64),
        )

    def arrange(self, batches: Sequence[Batch], end: int) -> Records:
        """The tape of everything sent, in order of arrival (ties: in the order given), and a clock message at `end`.

        The messages that open and close instruments by their calendars come first among those of one time.

        Messages carry the time they were sent in `time` and leave with that of their arrival, at the earliest now and at the latest `end`.
        What is refused here stays on the tape as a `REFUSED` message with its reason.
        """
        self._clock.messages["time"] = end
        sent = [batch for batch in batches if len(batch.messages)]
        sent.append(self._clock)
        if self._sessions is not None:
            sent.insert(0, Batch(self._sessions.until(end)))
        count = sum([len(batch.messages) for batch in sent])
        if len(self._sent) < count:
            self._sent = np.zeros(2 * count, MESSAGE)
        place, earliest = 0, self._exchange.time
        for batch in sent:
            messages = batch.messages
            scratch = self._scratch_for(messages)
            collect(messages, batch.delays, scratch, self._sent, place, earliest, end)
            place += len(messages)
        tape = np.empty(count, MESSAGE)
        by_arrival(self._sent, tape)
        self._refuse(tape[:-1])
        return tape

    def _scratch_for(self, messages: Records) -> npt.NDArray[np.int64]:
        """A zero for each owner; of an exchange without accounts, for as many as were heard of."""
        if self._owners == 0:
            owners = int(messages["owner"].max(initial=0)) + 1
            if len(self._scratch) < owners + 1:
                self._scratch = np.zeros(2 * owners + 1, np.int64)
        return self._scratch

    def _refuse(self, tape: Records) -> None:
        if self._frozen is not None:
            refuse(tape, self._frozen(tape), Reject.FROZEN)
        if self._buying_power is not None:
            refuse(tape, ~self._buying_power(tape), Reject.INSUFFICIENT_FUNDS)
        if self._limits.messages_per_second is not None:
            refuse(tape, self._too_many(tape, self._limits.messages_per_second), Reject.RATE_LIMIT)

    def _too_many(self, tape: Records, most: int) -> npt.NDArray[np.bool_]:
        """Messages that are more than `most` of their owner within a second, refused ones counted too."""
        past_owner, past_time = self._window
        owner = np.concatenate([past_owner, tape["owner"].astype(np.int64)])
        time = np.concatenate([past_time, tape["time"]])
        by_owner = np.lexsort((np.arange(len(time)), owner))
        owners, times = owner[by_owner], time[by_owner]
        earlier = np.arange(len(times)) - most
        late = np.zeros(len(times), np.bool_)
        some = earlier >= 0
        back = earlier[some]
        late[some] = (owners[back] == owners[some]) & (times[some] - times[back] < 1_000_000_000) & (owners[some] >= 0)
        refused = np.zeros(len(times), np.bool_)
        refused[by_owner] = late
        recent = time > time[-1] - 1_000_000_000 if len(time) else np.zeros(0, np.bool_)
        self._window = (owner[recent], time[recent])
        return refused[len(past_owner) :]


def refuse(tape: Records, which: npt.NDArray[np.bool_], reason: Reject) -> None:
    """Turn messages into refusals that keep their place on the tape."""
    if which.any():
        tape["tif"][which] = reason
        tape["kind"][which] = Kind.REFUSED
