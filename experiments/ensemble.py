"""Many runs, each once: here or on several workers, what they came to kept in one file, so that the same command goes on where it stopped."""

import contextlib
import functools
import gc
import hashlib
import json
import logging
import math
import os
import signal
import sqlite3
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from queue import Empty, SimpleQueue
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import abm
from abm.record import Result
from abm.scenario import Scenario, ScenarioError, configs
from experiments.progress import Advance, progress, say

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

_log = logging.getLogger(__name__)

Measure = Callable[[Result], Mapping[str, float]]

LIVES = 2
"""How often a run may be begun whose worker dies."""
_STAYS = "what was kept before stays, and the same command goes on from there"
_WAIT = 0.2  # seconds between two looks at whether there was a Ctrl-C


@dataclass(frozen=True)
class Outcome:
    """What one run came to. Equal wherever it was played: `seconds` does not count."""

    scenario: str
    """Hash of the scenario: of everything the run depends on, the seed included."""
    seed: int
    measures: Mapping[str, float]
    """What was measured; empty where the run failed."""
    seconds: float = field(compare=False)
    error: str = ""
    """What went wrong, in one line; empty where nothing did. An audit that fails is an error."""


def play(
    scenarios: Sequence[Scenario],
    measure: str,
    *,
    store: Path | None = None,
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
        measure: What is measured of a run: `module:function`, of a `Result`, giving numbers by name.
        store: SQLite file of the outcomes. What stands in it is not played again, except what failed.
        workers: Processes that play; 1: this one.
        scheduler: Address of a dask scheduler whose workers (one thread each) play instead, such as `tcp://10.0.0.1:8786`.

    Raises:
        ScenarioError: The measure is not there, the store is no store, or nobody answers at the scheduler's address.
    """

    def __init__(self, measure: str, *, store: Path | None = None, workers: int = 1, scheduler: str = "") -> None:
        _measure(measure)
        if workers < 1:
            raise ScenarioError(f"workers: {workers} is none; give 1 or more")
        self._measure, self._workers, self._scheduler = measure, workers, scheduler
        self._store = _Store(store, measure)
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None
        self._quiet = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None) -> None:
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

    def _waiting(self, wanted: Mapping[str, Scenario]) -> dict[str, Scenario]:
        kept = {key: self._store.get(key, each) for key, each in wanted.items()}
        return {key: wanted[key] for key, outcome in kept.items() if outcome is None or outcome.error}

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
        there = "memory" if self._store.path is None else str(self._store.path)
        _log.info("%d runs, of which %d are kept in %s", len(wanted), len(wanted) - len(waiting), there)
        if waiting:
            self._fill(waiting, len(wanted), label, silent)
        outcomes = {key: self._store.get(key, each) for key, each in wanted.items()}
        return [outcome for key in hashes if (outcome := outcomes[key]) is not None]

    def _fill(self, waiting: dict[str, Scenario], total: int, label: str, silent: bool) -> None:
        """Play what waits, and keep each outcome the moment it is there."""
        done = total - len(waiting)
        try:
            with progress(label or "runs", silent) as advance:
                counted = _Counted(advance, done, total)
                with contextlib.closing(self._played(waiting, counted)) as outcomes:
                    for outcome in outcomes:
                        self._store.put(outcome, waiting[outcome.scenario])
                        counted.over(outcome)
                        of = waiting[outcome.scenario]
                        _log.debug("%s, seed %d: %s", of.name, of.seed, outcome.error or f"{outcome.seconds:.1f} s")
        except KeyboardInterrupt:
            if self._store.path is None:
                raise
            there = [self._store.get(key, each) for key, each in waiting.items()]
            done += sum(outcome is not None and not outcome.error for outcome in there)
            kept = f"{done} of {total} runs are kept in {self._store.path}"
            raise KeyboardInterrupt(f"{kept}; the same command goes on from there") from None

    def _played(self, waiting: dict[str, Scenario], counted: "_Counted") -> Generator[Outcome]:
        if self._workers > 1 or self._scheduler:
            yield from self._spread(waiting, counted)
            return
        for scenario in waiting.values():
            yield _one(scenario, self._measure, progress=counted.part)

    # ------------------------------------------------------------------------------------------------------- workers

    def _spread(self, waiting: dict[str, Scenario], counted: "_Counted") -> Generator[Outcome]:
        """Never more runs out than there are workers, so that a worker that dies takes one run with it and not what waits behind it."""
        client = self._connected()
        queue = deque((scenario, key, LIVES) for key, scenario in waiting.items())
        landed: SimpleQueue[Future[Outcome]] = SimpleQueue()
        flying: dict[Any, tuple[Future[Outcome], Scenario, str, int]] = {}
        try:
            while queue or flying:
                for _ in range(min(len(queue), len(client.nthreads()) - len(flying))):
                    scenario, key, lives = queue.popleft()
                    future = client.submit(_one, scenario, self._measure, version(self._measure, scenario), pure=False)
                    flying[future.key] = future, scenario, key, lives
                    future.add_done_callback(landed.put)
                try:
                    future = landed.get(timeout=_WAIT)
                except Empty:
                    counted.part(0, 1)
                    continue
                _, scenario, key, lives = flying.pop(future.key)
                outcome = _landed(future, key, scenario.seed)
                if outcome is None and lives > 1:
                    _log.info("%s, seed %d: its worker died; it is begun again", scenario.name, scenario.seed)
                    queue.append((scenario, key, lives - 1))
                    continue
                died = Outcome(
                    key, scenario.seed, {}, 0.0, f"the worker died, {LIVES} times (killed, or out of memory)"
                )
                yield outcome or died
        except OSError as error:
            raise ScenarioError(f"the scheduler has gone ({_line(error)}); {_STAYS}") from None
        finally:
            with contextlib.suppress(OSError):
                client.cancel([future for future, *_ in flying.values()])

    def _connected(self) -> "Client":
        if self._client is not None:
            return self._client
        import dask
        from distributed import Client, LocalCluster
        from distributed.utils import silence_logging_cmgr

        self._quiet.enter_context(silence_logging_cmgr(logging.CRITICAL))  # what goes wrong is told once, in one line
        if self._scheduler:
            try:
                self._client = Client(self._scheduler, timeout=10)
            except (OSError, ValueError) as error:
                raise ScenarioError(
                    f"scheduler {self._scheduler}: {_line(error)}; start one with: dask scheduler"
                ) from None
            if not self._client.nthreads():
                say(f"scheduler {self._scheduler}: waiting for workers")
            _log.info(
                "plays on the workers of %s: %s", self._scheduler, ", ".join(self._client.nthreads()) or "none yet"
            )
            return self._client
        with dask.config.set({"distributed.scheduler.allowed-failures": 0}):  # LIVES says how often
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
        self._client = Client(self._cluster)
        _log.info("plays on %d processes of this machine", self._workers)
        return self._client


def _landed(future: "Future[Outcome]", key: str, seed: int) -> Outcome | None:
    """What a worker has sent back; None if it died."""
    from distributed import KilledWorker

    try:
        return replace(future.result(), scenario=key)  # as the sender knows it, whatever code the worker has
    except KilledWorker:
        return None
    except CancelledError:
        raise ScenarioError(f"the scheduler has gone; {_STAYS}") from None
    except Exception as error:  # it could not even begin, as where a module is missing over there
        return Outcome(key, seed, {}, 0.0, _line(error))


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


# ------------------------------------------------------------------------------------------------------------- one run


def _one(
    scenario: Scenario, measure: str, sender: str = "", progress: Callable[[int, int], None] | None = None
) -> Outcome:
    """Play one run; `sender` is the version of whoever asked, where that is another process."""
    started = time.perf_counter()
    measures: dict[str, float] = {}
    error = ""
    try:
        if sender and sender != version(measure, scenario):
            raise ScenarioError(
                f"the worker has another version ({version(measure, scenario)}) than the command ({sender})"
            )
        result = abm.run(scenario, progress)
        if result.audit.passed:
            measures = {str(name): float(value) for name, value in _measure(measure)(result).items()}
        else:
            error = f"the audit failed: {'; '.join(result.audit.faults)}"
        del result
    except Exception as wrong:
        error = _line(wrong)
    gc.collect()  # a market refers to itself, and the next one needs its room
    return Outcome(scenario.hash, scenario.seed, measures, time.perf_counter() - started, error)


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


@functools.cache
def _measure(name: str) -> Measure:
    module, _, function = name.partition(":")
    try:
        found: Measure = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ScenarioError(
            f"measure {name!r}: {_line(error)}; write module:function, such as analysis.compare:measured"
        ) from None
    return found


def version(measure: str, scenario: Scenario) -> str:
    """What an outcome depends on beside its scenario: the code of the simulator, of the measure and of the traders, and the observations."""
    modules = {_measure(measure).__module__, *(type(trader).__module__ for trader in scenario.traders.values())}
    return _digest(tuple(sorted(module for module in modules if not module.startswith("abm."))), scenario.observations)


@functools.cache
def _digest(modules: tuple[str, ...], observations: str) -> str:
    files = {*Path(abm.__file__).parent.rglob("*.py"), *configs().rglob("*.csv"), Path(observations)}
    for module in modules:
        files |= _siblings(sys.modules[module])
    parts = [observations, *sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file())]
    return f"{abm.__version__}+{hashlib.sha256(''.join(parts).encode()).hexdigest()[:12]}"


def _siblings(module: ModuleType) -> set[Path]:
    """The source of a module, and of those beside it that it may use."""
    file = getattr(module, "__file__", None)
    return set(Path(file).parent.glob("*.py")) if file else set()


# --------------------------------------------------------------------------------------------------------------- store

_OURS, _LAYOUT = 0x61626D31, 1
_TABLE = """CREATE TABLE IF NOT EXISTS runs (
    scenario TEXT, measure TEXT, version TEXT, name TEXT, seed INTEGER, measures TEXT, seconds REAL, error TEXT,
    PRIMARY KEY (scenario, measure, version))"""


class _Store:
    """The outcomes of one measure in a SQLite file; in memory, for as long as this lives, where there is no path."""

    def __init__(self, path: Path | None, measure: str) -> None:
        self.path, self._measure = path, measure
        self._base: sqlite3.Connection | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        with self._told():
            self._base = sqlite3.connect(path or ":memory:", timeout=60.0, isolation_level=None)
        try:
            self._check()
        except ScenarioError:
            self.close()
            raise

    def close(self) -> None:
        if self._base is not None:
            self._base.close()

    def get(self, key: str, scenario: Scenario) -> Outcome | None:
        row = self._asked(
            "SELECT seed, measures, seconds, error FROM runs WHERE scenario = ? AND measure = ? AND version = ?",
            key,
            self._measure,
            version(self._measure, scenario),
        ).fetchone()
        return row and Outcome(key, row[0], _numbers(row[1]), row[2], row[3])

    def put(self, outcome: Outcome, scenario: Scenario) -> None:
        self._asked(
            "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            outcome.scenario,
            self._measure,
            version(self._measure, scenario),
            scenario.name,
            outcome.seed,
            json.dumps(dict(outcome.measures)),
            outcome.seconds,
            outcome.error,
        )

    def _asked(self, command: str, *values: Any) -> sqlite3.Cursor:
        assert self._base is not None
        with self._told():
            return self._base.execute(command, values)

    def _check(self) -> None:
        """Refuse what is not ours; make the table in a file that is new."""
        ours, layout = (self._asked(f"PRAGMA {what}").fetchone()[0] for what in ("application_id", "user_version"))
        if not ours and not self._asked("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for command in (
                "BEGIN IMMEDIATE",
                f"PRAGMA application_id = {_OURS}",
                f"PRAGMA user_version = {_LAYOUT}",
                _TABLE,
                "COMMIT",
            ):
                self._asked(command)
        elif ours != _OURS:
            raise ScenarioError(f"{self.path}: is not a store of runs; name another, or remove it")
        elif layout != _LAYOUT:
            raise ScenarioError(
                f"{self.path}: has layout {layout} and not {_LAYOUT}; name another store, or remove it to begin anew"
            )
        pages, size = (self._asked(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "page_size"))
        cut = self.path is not None and self.path.stat().st_size < pages * size
        if cut or self._asked("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
            raise ScenarioError(f"{self.path}: is damaged; remove it, and its runs are played again")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Say in one line what SQLite met."""
        try:
            yield
        except sqlite3.Error as error:
            fix = {
                sqlite3.SQLITE_NOTADB: "it is not a store of runs; name another, or remove it",
                sqlite3.SQLITE_CORRUPT: "it is damaged; remove it, and its runs are played again",
                sqlite3.SQLITE_FULL: f"free some space; {_STAYS}",
                sqlite3.SQLITE_IOERR: f"see to the disk; {_STAYS}",
                sqlite3.SQLITE_BUSY: "another command is writing to it; wait for it, or name another store",
            }.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "name a file that can be written")
            raise ScenarioError(f"{self.path}: {error}; {fix}") from None


def _numbers(text: str) -> dict[str, float]:
    return {name: math.nan if value != value else value for name, value in json.loads(text).items()}
