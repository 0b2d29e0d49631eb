"""The process of its own that plays a run: it is told what to do through a pipe, and tells what it sees. It never waits for who reads."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from abm.market import Market
from abm.scenario import ScenarioError, load_with
from experiments.app.snapshot import Snapshot, Watch

_LOOK = 0.1  # seconds between two snapshots
_BATCH = 0.03  # seconds that a few steps take, between two looks at the pipe
_NICE = 5  # so that the page is answered first where there are few processors


@dataclass(frozen=True)
class Order:
    """What a worker is told; what is None stays as it was."""

    running: bool | None = None
    steps: int = 0
    """So many steps more, and then a pause."""
    watched: str | None = None
    """The instrument that is looked at."""
    pace: float | None = None
    """Seconds of the market in a second, at most; 0: as fast as it goes."""


@dataclass(frozen=True)
class Failed:
    """Why a run cannot go on, in one line."""

    why: str


class _Sender:
    """Sends what is newest, in a thread of its own: the run goes on meanwhile, and what was not sent in time is dropped."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._newest, self._wake = connection, None, threading.Condition()
        self._sending = False
        threading.Thread(target=self._send, daemon=True).start()

    def send(self, what: Any) -> None:
        with self._wake:
            self._newest = what
            self._wake.notify_all()

    def flush(self) -> None:
        """Wait until all is sent."""
        with self._wake:
            self._wake.wait_for(lambda: self._newest is None and not self._sending)

    def _send(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._newest is not None)
                what, self._newest, self._sending = self._newest, None, True
            with contextlib.suppress(OSError):  # nobody reads any more: the loop finds that out
                self._connection.send(what)
            with self._wake:
                self._sending = False
                self._wake.notify_all()


def play(connection: Connection, scenario: str, changes: Sequence[Mapping[str, Any]], memory: float) -> None:
    """Play a run until it is over, or until nobody is at the other end of the pipe.

    Args:
        connection: From which `Order`s come, and into which `Snapshot`s go, or one `Failed`.
        scenario: Name of a kept scenario.
        changes: Laid over it.
        memory: Bytes that the process may have at most.
    """
    _bound(memory)
    sender = _Sender(connection)
    try:
        _Play(connection, sender, Market(load_with(scenario, changes))).until_over()
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        return
    except MemoryError:
        sender.send(Failed(f"the run needs more than the {memory / 1e9:g} GB that one may have (abm app --memory)"))
    except (ScenarioError, ValueError) as error:
        sender.send(Failed(" ".join(str(error).split())))
    sender.flush()


class _Play:
    """One run, as it is told."""

    def __init__(self, connection: Connection, sender: _Sender, market: Market) -> None:
        self._connection, self._sender, self._market = connection, sender, market
        self._watch = Watch(market)
        self._total = market.scenario.clock.steps
        self._watched = self._watch.names[0]
        self._until = 0  # step at which it pauses
        self._pace = 0.0
        self._since: tuple[float, float] = (0.0, 0.0)  # from when on the pace counts: real time, time of the market
        self._wall = 0.0
        self._batch = 1

    def until_over(self) -> None:
        looked = 0.0
        self._look()
        while self._market.steps_done < self._total:
            left = self._until - self._market.steps_done
            wait = None if left <= 0 else self._ahead()
            if self._connection.poll(wait):
                self._obey(self._connection.recv())
                self._look()
                continue
            if wait == 0.0:
                self._advance(min(left, self._batch))
            if time.perf_counter() - looked >= _LOOK or self._market.steps_done >= self._until:
                looked = time.perf_counter()
                self._look()

    def _advance(self, steps: int) -> None:
        """Some steps, about as many as are done in a short while."""
        began = time.perf_counter()
        self._market.run_for(self._even(steps))
        took = time.perf_counter() - began
        self._wall += took
        self._batch = max(1, min(2 * self._batch, int(self._batch * _BATCH / max(took, 1e-6)), 10_000))

    def _even(self, steps: int) -> int:
        """So many that the last one ends with a bar where one ends among them: bars are read when they are whole."""
        bar = max(1, round(self._watch.grid.bar / self._market.scenario.clock.step))
        to_bar = -self._market.steps_done % bar or bar
        return steps - (steps - to_bar) % bar if steps > to_bar else steps

    def _ahead(self) -> float:
        """Seconds that the run is ahead of its pace; not more than until the next look."""
        if not self._pace:
            return 0.0
        due = self._since[0] + (self._market.seconds - self._since[1]) / self._pace
        return min(_LOOK, max(0.0, due - time.perf_counter()))

    def _obey(self, order: Order) -> None:
        if order.watched in self._watch.names:
            self._watched = order.watched
        if order.running is not None:
            self._until = self._total if order.running else self._market.steps_done
        if order.steps:
            self._until = min(self._total, self._market.steps_done + order.steps)
        if order.pace is not None:
            self._pace = order.pace
        self._since = (time.perf_counter(), self._market.seconds)

    def _look(self) -> None:
        running = self._market.steps_done < self._until
        snapshot: Snapshot = self._watch.take(self._watched, self._wall, running, _resident())
        self._sender.send(snapshot)


def _bound(memory: float) -> None:
    """Let the process have no more memory than that, and give way to others."""
    if sys.platform == "win32":
        return
    import resource

    os.nice(_NICE)
    if sys.platform == "linux":  # elsewhere the limit is not kept
        resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))


def _resident() -> float:
    """Most memory that the process has had, bytes; 0 where that is not known."""
    if sys.platform == "win32":
        return 0.0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)
