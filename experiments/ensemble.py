"""Many runs, each once: here or on several workers, what they came to kept in one file, so that the same command goes on where it stopped."""

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from abm.scenario import Scenario, ScenarioError
from analysis.sweep import table_file, whole_file
from experiments.database import STAYS
from experiments.one_run import FREE, Job, Limits, OtherVersion, Played, line, measured_by, play_one, too_long, version
from experiments.progress import Advance, progress, say
from experiments.store import Outcome, Store

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

_log = logging.getLogger(__name__)

LIVES = 2
"""How often a run may be begun whose worker dies."""
_GRACE = 5.0
"""Seconds beyond its limit after which a run that does not stop by itself is stopped with its worker."""
_WAIT = 0.2  # seconds between two looks at whether there was a Ctrl-C
_SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,  # LIVES says how often
    "distributed.worker.profile.enabled": False,  # nobody reads the samples, which are taken a hundred times a second
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.tick.interval": "500ms",
}


def play(
    scenarios: Sequence[Scenario],
    measure: str,
    *,
    store: Path | str | None = None,
    workers: int = 1,
    label: str = "",
    scheduler: str = "",
    silent: bool = False,
) -> list[Outcome]:
    """Play each scenario once; see `Ensemble` for the arguments.

    Returns:
        The outcomes, in the order of the scenarios.
    """
    with Ensemble(measure, store=store, workers=workers, scheduler=scheduler) as ensemble:
        return ensemble.play(scenarios, label, silent)


class Ensemble:
    """Plays runs, one batch after the other, on workers that stay; a context manager.

    Args:
        measure: What is measured of a run: `module:function`, of a `Result`, giving numbers by name; several with `+` between them.
        store: Where outcomes are kept: SQLite file, or URL of a database. What stands there is not played again, except what failed.
        workers: Processes that play; 1: this one, but one of its own where there are limits, so that a run that hangs can be stopped.
        scheduler: Address of a dask scheduler whose workers (one thread each) play instead, such as `tcp://10.0.0.1:8786`.
        limits: What a run may take; one that takes more is stopped, and its outcome says so.
        tables: Tables of the `Result` that are kept of each run, below `folder`.
        folder: Where they are kept (`analysis.sweep.table_file`). A run of which they are not there is played again.

    Raises:
        ScenarioError: The measure is not there, the store is no store, or nobody answers at the scheduler's address.
    """

    def __init__(
        self,
        measure: str,
        *,
        store: Path | str | None = None,
        workers: int = 1,
        scheduler: str = "",
        limits: Limits = FREE,
        tables: Sequence[str] = (),
        folder: Path | None = None,
    ) -> None:
        measured_by(measure)
        if workers < 1:
            raise ScenarioError(f"workers: {workers} is none; give 1 or more")
        self._job = Job(measure, limits, tuple(tables))
        self._workers, self._scheduler, self._folder = workers, scheduler, folder or Path()
        self._begun: dict[str, _Begun] = {}  # by hash of a run
        self._leaving: dict[str, threading.Thread] = {}  # workers that are being begun anew
        self._store = Store(store, measure)
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None
        self._quiet = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None) -> None:
        for leaving in list(self._leaving.values()) if kind is None else ():
            leaving.join(timeout=60.0)
        if self._client is not None:
            self._client.close()
        if self._cluster is not None:
            if kind is not None:  # what they are playing is of no use to anybody
                for nanny in self._cluster.workers.values():
                    nanny.auto_restart = False
                    with contextlib.suppress(ProcessLookupError, TypeError):
                        os.kill(nanny.pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
            self._cluster.close()
        self._quiet.close()
        self._store.close()

    def missing(self, scenarios: Sequence[Scenario]) -> list[Scenario]:
        """Those that `play` would play, each once: what the store does not have, or has as failed."""
        return list(self._waiting({scenario.hash: scenario for scenario in scenarios}).values())

    def kept(self, scenarios: Sequence[Scenario]) -> list[Outcome]:
        """What the store has of them that went well, each once."""
        there = [self._kept(key, each) for key, each in {scenario.hash: scenario for scenario in scenarios}.items()]
        return [outcome for outcome in there if outcome is not None and not outcome.error]

    def _waiting(self, wanted: Mapping[str, Scenario]) -> dict[str, Scenario]:
        kept = {key: self._kept(key, each) for key, each in wanted.items()}
        return {key: wanted[key] for key, outcome in kept.items() if outcome is None or outcome.error}

    def _kept(self, key: str, scenario: Scenario) -> Outcome | None:
        """What is kept of a run; nothing is where one of its tables is missing."""
        outcome = self._store.get(key, version(self._job.measure, scenario))
        if outcome is None or outcome.error:
            return outcome
        whole = all(table_file(self._folder, table, key).is_file() for table in self._job.tables)
        return outcome if whole else None

    def _keep(self, played: Played, scenario: Scenario) -> None:
        """Keep what came of a run, the outcome last."""
        outcome = played.outcome
        try:
            for table, content in played.tables.items():
                path = table_file(self._folder, table, outcome.scenario)
                path.parent.mkdir(parents=True, exist_ok=True)
                with whole_file(path) as part:
                    part.write_bytes(content)
        except OSError as error:
            raise ScenarioError(f"{path}: {error.strerror or error}; see to the disk; {STAYS}") from None
        self._store.put(outcome, scenario.name, version(self._job.measure, scenario))

    def play(self, scenarios: Sequence[Scenario], label: str = "", silent: bool = False) -> list[Outcome]:
        """Play what the store does not have; one that is given twice is played once.

        Args:
            scenarios: Any number, each with its seed.
            label: What stands before the progress on stderr.
            silent: Show no progress.

        Raises:
            ScenarioError: The store cannot be written, or the scheduler has gone.
            KeyboardInterrupt: Ctrl-C; the text says what is kept.
        """
        hashes = [scenario.hash for scenario in scenarios]
        wanted = dict(zip(hashes, scenarios, strict=True))
        waiting = self._waiting(wanted)
        there = self._store.where or "memory"
        _log.info("%d runs, of which %d are kept in %s", len(wanted), len(wanted) - len(waiting), there)
        if waiting:
            self._fill(waiting, len(wanted), label, silent)
        outcomes = {key: self._kept(key, each) for key, each in wanted.items()}
        return [outcome for key in hashes if (outcome := outcomes[key]) is not None]

    def _fill(self, waiting: dict[str, Scenario], total: int, label: str, silent: bool) -> None:
        """Play what waits, and keep each outcome the moment it is there."""
        done = total - len(waiting)
        try:
            with progress(label or "runs", silent) as advance:
                counted = _Counted(advance, done, total)
                with contextlib.closing(self._played(waiting, counted)) as runs:
                    for played in runs:
                        self._keep(played, waiting[played.outcome.scenario])
                        counted.over(played.outcome)
                        of = waiting[played.outcome.scenario]
                        _log.debug(
                            "%s, seed %d: %s",
                            of.name,
                            of.seed,
                            played.outcome.error or f"{played.outcome.seconds:.1f} s",
                        )
        except KeyboardInterrupt:
            if not self._store.where:
                raise
            there = [self._kept(key, each) for key, each in waiting.items()]
            done += sum(outcome is not None and not outcome.error for outcome in there)
            kept = f"{done} of {total} runs are kept in {self._store.where}"
            raise KeyboardInterrupt(f"{kept}; the same command goes on from there") from None

    def _played(self, waiting: dict[str, Scenario], counted: "_Counted") -> Generator[Played]:
        if self._workers > 1 or self._scheduler or self._job.limits != FREE:
            yield from self._spread(waiting, counted)
            return
        for scenario in waiting.values():
            yield play_one(scenario, self._job, progress=counted.part)

    # ------------------------------------------------------------------------------------------------------- workers

    def _spread(self, waiting: dict[str, Scenario], counted: "_Counted") -> Generator[Played]:
        """Never more runs out than there are workers, so that a worker that dies takes one run with it and not what waits behind it."""
        client = self._connected()
        queue = deque((scenario, key, LIVES) for key, scenario in waiting.items())
        landed: SimpleQueue[Future[Played]] = SimpleQueue()
        flying: dict[Any, _Flight] = {}

        def launch() -> None:
            busy = {flight.worker for flight in flying.values()} | self._leaving.keys()
            free = [worker for worker in client.nthreads() if worker not in busy] if queue else []
            for worker in free[: len(queue)]:
                flight = self._launched(client, worker, *queue.popleft())
                flying[flight.future.key] = flight
                flight.future.add_done_callback(landed.put)

        try:
            while queue or flying:
                launch()
                yield from self._stopped(client, flying)
                try:
                    future = landed.get(timeout=_WAIT)
                except Empty:
                    counted.part(0, 1)
                    continue
                flight = flying.pop(future.key, None)
                if flight is None:  # it was stopped
                    continue
                launch()  # a worker does not wait until what it sent is fetched and kept
                played = _landed(future, flight.key)
                future.release()  # else what its worker has of it is made again when the worker goes
                if played is None and flight.lives > 1:
                    _log.info(
                        "%s, seed %d: its worker died; it is begun again", flight.scenario.name, flight.scenario.seed
                    )
                    queue.append((flight.scenario, flight.key, flight.lives - 1))
                    continue
                yield played or flight.failed("worker", f"the worker died, {LIVES} times (killed, or out of memory)")
        except OSError as error:
            raise ScenarioError(f"the scheduler has gone ({line(error)}); {STAYS}") from None
        finally:
            with contextlib.suppress(OSError):
                client.cancel([flight.future for flight in flying.values()])

    def _launched(self, client: "Client", worker: str, scenario: Scenario, key: str, lives: int) -> "_Flight":
        """A run that a worker is given; another takes it where that one goes before."""
        self._begun.pop(key, None)
        future = client.submit(
            play_one,
            scenario,
            self._job,
            version(self._job.measure, scenario),
            pure=False,
            workers=[worker],
            allow_other_workers=True,
        )
        return _Flight(future, scenario, key, lives, worker)

    def _stopped(self, client: "Client", flying: "dict[Any, _Flight]") -> Generator[Played]:
        """Those that are far over their time and have not stopped by themselves: their workers are begun anew."""
        for flight in list(flying.values()):
            begun = self._begun.get(flight.key)
            if begun is None or time.monotonic() < begun.since + begun.seconds + _GRACE:
                continue
            del flying[flight.future.key]
            client.cancel([flight.future], force=True)
            leaving = threading.Thread(target=self._restart, args=(client, begun.worker), daemon=True)
            self._leaving[begun.worker] = leaving
            leaving.start()
            yield flight.failed("run", too_long(self._job.limits), time.monotonic() - begun.since)

    def _restart(self, client: "Client", worker: str) -> None:
        """Have a worker killed and begun anew, which takes its nanny some seconds."""
        try:
            client.restart_workers([worker], raise_for_error=False)
        except ValueError:  # nobody is there who could begin it anew
            client.retire_workers([worker], close_workers=True)
        except (OSError, CancelledError):  # the scheduler is going, which others tell
            pass
        finally:
            del self._leaving[worker]

    def _listen(self, client: "Client") -> "Client":
        """Have workers say when they begin a run that has a limit."""
        topic = f"abm-{uuid.uuid4()}"

        def begun(event: tuple[float, Mapping[str, Any]]) -> None:
            said = event[1]
            self._begun[said["run"]] = _Begun(time.monotonic(), said["seconds"], said["worker"])

        client.subscribe_topic(topic, begun)
        self._job = replace(self._job, topic=topic)
        return client

    def _connected(self) -> "Client":
        if self._client is not None:
            return self._client
        import dask
        from distributed import Client, LocalCluster
        from distributed.utils import silence_logging_cmgr

        self._quiet.enter_context(silence_logging_cmgr(logging.CRITICAL))  # what goes wrong is told once, in one line
        if self._scheduler:
            try:
                self._client = self._listen(Client(self._scheduler, timeout=10))
            except (OSError, ValueError) as error:
                raise ScenarioError(
                    f"scheduler {self._scheduler}: {line(error)}; start one with: dask scheduler"
                ) from None
            if not self._client.nthreads():
                say(f"scheduler {self._scheduler}: waiting for workers")
            _log.info(
                "plays on the workers of %s: %s", self._scheduler, ", ".join(self._client.nthreads()) or "none yet"
            )
            return self._client
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise SystemExit(1)  # a worker that reads a script anew; the process that began it says so
        with dask.config.set(_SETTINGS), _told():
            self._cluster = LocalCluster(
                n_workers=self._workers,
                threads_per_worker=1,
                memory_limit=None,  # a worker that is over a limit would be stopped for good, not only its run
                dashboard_address="127.0.0.1:0",  # the usual port may be taken
                scheduler_kwargs={"dashboard": False},
                silence_logs=logging.CRITICAL,
                # Ctrl-C goes to all processes of a terminal; this one answers it
                preload=["import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"],
            )
        self._client = self._listen(Client(self._cluster))
        return self._client


@contextlib.contextmanager
def _told() -> Generator[None]:
    """Say why workers did not begin."""
    try:
        yield
    except RuntimeError as error:
        raise ScenarioError(
            f"workers did not begin ({line(error)}); in a script of your own, put what it does below: "
            'if __name__ == "__main__":'
        ) from None


class _Begun(NamedTuple):
    """That a worker is at a run."""

    since: float
    seconds: float
    """How long that may take."""
    worker: str


@dataclass(frozen=True)
class _Flight:
    """A run that a worker has, or will have as soon as it is free."""

    future: "Future[Played]"
    scenario: Scenario
    key: str
    lives: int
    worker: str

    def failed(self, stage: str, error: str, seconds: float = 0.0) -> Played:
        """What is said of it where it does not come back."""
        return Played(Outcome(self.key, self.scenario.seed, {}, seconds, error, stage), {})


def _landed(future: "Future[Played]", key: str) -> Played | None:
    """What a worker has sent back; None if it died.

    Raises:
        ScenarioError: No worker can play: the scheduler has gone, or they have other code.
    """
    from distributed import KilledWorker

    try:
        played = future.result()
    except KilledWorker:
        return None
    except CancelledError:
        raise ScenarioError(f"the scheduler has gone; {STAYS}") from None
    except OtherVersion as error:
        raise ScenarioError(f"a worker {error}; begin it anew with this code; {STAYS}") from None
    except OSError:
        raise
    except Exception as error:  # it could not even begin, as where a module is missing over there
        raise ScenarioError(
            f"a worker cannot play ({line(error)}); it needs this version of the code; {STAYS}"
        ) from None
    return played._replace(outcome=replace(played.outcome, scenario=key))  # as the sender knows it


class _Counted:
    """Progress in runs: how many are over, how fast, how many failed."""

    def __init__(self, advance: Advance, done: int, total: int) -> None:
        self._advance, self._before, self._done, self._total = advance, done, done, total
        self._failed, self._started = 0, time.monotonic()

    def over(self, outcome: Outcome) -> None:
        self._done += 1
        self._failed += bool(outcome.error)
        self.part(0, 1)

    def part(self, done: int, of: int) -> None:
        """So much of a run, which is over only when it has been measured."""
        note = f"{self._done} of {self._total} runs"
        if self._done > self._before:
            note += f", {60.0 * (self._done - self._before) / (time.monotonic() - self._started):.3g} a minute"
        if self._failed:
            note += f", {self._failed} failed"
        self._advance(self._done + min(done / of, 0.999), self._total, note)
