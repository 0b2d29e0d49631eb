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
from abm.exchange.messages import MESSAGE, Kind, Records, Reject, join

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


class Batch:
    """What one trader, or population, sends at one moment.

    Args:
        messages: `MESSAGE` records, `time` when they were sent (ns).
        delays: latencies in ns drawn from the sender's own stream, at least as many as there are owners among the messages; None for none.
    """

    __slots__ = ("delays", "messages")

    def __init__(self, messages: Records, delays: npt.NDArray[np.int64] | None = None) -> None:
        self.messages = messages
        self.delays = delays


@kernel
def delay(messages: Records, delays: npt.NDArray[np.int64], scratch: npt.NDArray[np.int64]) -> None:
    """Add to the time of each message the latency of its owner: what an owner sends at one moment arrives in the order it was sent.

    `scratch` holds a zero for each owner from -1 on, and does so again in the end.
    """
    drawn = 0
    for m in range(len(messages)):
        owner = messages[m].owner + 1
        if scratch[owner] == 0:
            scratch[owner] = delays[drawn] + 1
            drawn += 1
        messages[m].time += scratch[owner] - 1
    for m in range(len(messages)):
        scratch[messages[m].owner + 1] = 0


@kernel
def by_arrival(sent: Records, tape: Records, earliest: int, latest: int) -> None:
    """Copy messages to `tape` in the order of their times, which are held between two; equal ones, and the last of all, keep their place."""
    times = np.empty(len(sent), np.int64)
    for m in range(len(sent)):
        sent[m].time = min(max(sent[m].time, earliest), latest)
        times[m] = sent[m].time
    order = np.argsort(times, kind="mergesort")
    for m in range(len(sent)):
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
        self._sessions = Sessions(exchange.instruments, start) if start is not None else None
        self._scratch = np.zeros(64, np.int64)
        self._clock = np.zeros(1, MESSAGE)
        self._clock["kind"], self._clock["owner"], self._clock["instrument"] = Kind.CLOCK, -1, -1
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
        parts = [] if self._sessions is None else [self._sessions.until(end)]
        parts += [batch.messages for batch in batches if len(batch.messages)]
        clock = self._clock.copy()
        clock["time"] = end
        for batch in batches:
            if batch.delays is not None and len(batch.messages):
                delay(batch.messages, batch.delays, self._scratch_for(batch.messages))
        sent = join([*parts, clock])
        tape = np.empty_like(sent)
        by_arrival(sent, tape, self._exchange.time, end)
        self._refuse(tape[:-1])
        return tape

    def _scratch_for(self, messages: Records) -> npt.NDArray[np.int64]:
        owners = len(self._exchange.accounts.cash) or int(messages["owner"].max()) + 1
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
    tape["tif"][which] = reason
    tape["kind"][which] = Kind.REFUSED
