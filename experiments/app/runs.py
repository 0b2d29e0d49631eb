"""The runs of all visitors: how many at once, how long each, and that none outlives whoever started it."""

import contextlib
import multiprocessing
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.app.snapshot import Snapshot
from experiments.app.worker import Failed, Order, play


@dataclass(frozen=True)
class Limits:
    """What visitors may use."""

    runs: int = 4
    """Runs at once, of all visitors together."""
    memory: float = 4e9
    """Bytes that one run may have."""
    seconds: float = 3600.0
    """Seconds that one run may last, pauses counted."""


class Busy(RuntimeError):
    """No further run can begin now; the text says why."""


class Runs:
    """Begins runs, each in a process of its own.

    Args:
        limits: What they may use.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._running: set[Run] = set()
        self._lock = threading.Lock()  # pages are served in several threads
        kind = "forkserver" if sys.platform != "win32" else "spawn"
        self._context = multiprocessing.get_context(kind)
        if kind == "forkserver":  # what is loaded once needs not be loaded for each run
            self._context.set_forkserver_preload(["experiments.app.worker"])

    def begin(self, scenario: str, changes: Sequence[Mapping[str, Any]]) -> "Run":
        """Begin a run, which waits for its first order.

        Raises:
            Busy: There are as many as there may be.
        """
        with self._lock:
            self._running = {run for run in self._running if run.alive}
            if len(self._running) >= self.limits.runs:
                raise Busy(
                    f"{len(self._running)} runs are going on here, and no more may at once; try again when one is over"
                )
            run = Run(self._context, scenario, changes, self.limits)
            self._running.add(run)
            return run

    def close(self) -> None:
        """End all of them."""
        for run in self._running:
            run.close()


class Run:
    """One run in its process."""

    def __init__(self, context: Any, scenario: str, changes: Sequence[Mapping[str, Any]], limits: Limits) -> None:
        self._pipe, other = context.Pipe()
        self._process = context.Process(
            target=play, args=(other, scenario, [*changes], limits.memory), daemon=True, name=f"abm {scenario}"
        )
        self._process.start()
        other.close()  # so that the pipe ends when the process does
        self._limits, self._began = limits, time.monotonic()
        self._lock = threading.RLock()  # who closes it may be in another thread than who looks at it
        self.newest: Snapshot | None = None
        """The last snapshot that came."""
        self.failed = ""
        """Why it cannot go on; empty where it can."""

    @property
    def alive(self) -> bool:
        """Whether its process is there."""
        return bool(self._process.is_alive())

    def tell(self, order: Order) -> None:
        """Give the run an order. One that is over takes none."""
        with contextlib.suppress(OSError):
            self._pipe.send(order)

    def look(self) -> bool:
        """Take in what has come; whether there is anything new."""
        with self._lock:
            return self._look()

    def _look(self) -> bool:
        if self.failed or (self.newest is not None and self.newest.over):
            return False
        before = self.newest
        try:
            while self._pipe.poll():
                came = self._pipe.recv()
                if isinstance(came, Failed):
                    return self._fail(came.why)
                self.newest = came
        except (EOFError, OSError):
            if self.newest is None or not self.newest.over:
                return self._fail(f"the process of the run has ended (exit status {self._process.exitcode})")
        if time.monotonic() - self._began > self._limits.seconds and not (self.newest and self.newest.over):
            return self._fail(
                f"a run may last {self._limits.seconds / 60:g} minutes here, pauses counted (abm app --minutes)"
            )
        return self.newest is not before

    def _fail(self, why: str) -> bool:
        self.failed = why
        self.close()
        return True

    def close(self) -> None:
        """End it now."""
        with self._lock:
            if self._process.is_alive():
                self._process.kill()
            self._process.join(1.0)
            self._pipe.close()
