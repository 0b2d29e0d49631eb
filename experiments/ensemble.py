"""Many runs, each once: here or on several workers, what they came to kept in one file, so that the same command goes on where it stopped."""

import contextlib
import functools
import gc
import hashlib
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from queue import Empty, SimpleQueue
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import abm
from abm.record import Result
from abm.scenario import Scenario, ScenarioError, configs
from experiments.database import STAYS
from experiments.progress import Advance, progress, say
from experiments.store import Outcome, Store

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

Measure = Callable[[Result], Mapping[str, float]]

LIVES = 2
"""How often a run may be begun whose worker dies."""
_WAIT = 0.2  # seconds between two looks at whether there was a Ctrl-C


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
        measure: What is measured of a run: `module:function`, of a `Result`, giving numbers by name.
        store: Where outcomes are kept: SQLite file, or URL of a database. What stands there is not played again, except what failed.
        workers: Processes that play; 1: this one.
        scheduler: Address of a dask scheduler whose workers (one thread each) play instead, such as `tcp://10.0.0.1:8786`.

    Raises:
        ScenarioError: The measure is not there, the store is no store, or nobody answers at the scheduler's address.
    """

    def __init__(self, measure: str, *, store: Path | str | None = None, workers: int = 1, scheduler: str = "") -> None:
        _measure(measure)
        if workers < 1:
            raise ScenarioError(f"workers: {workers} is none; give 1 or more")
        self._measure, self._workers, self._scheduler = measure, workers, scheduler
        self._store = Store(store, measure)
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
        kept = {key: self._kept(key, each) for key, each in wanted.items()}
        return {key: wanted[key] for key, outcome in kept.items() if outcome is None or outcome.error}

    def _kept(self, key: str, scenario: Scenario) -> Outcome | None:
        return self._store.get(key, version(self._measure, scenario))

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
                with contextlib.closing(self._played(waiting, counted)) as outcomes:
                    for outcome in outcomes:
                        scenario = waiting[outcome.scenario]
                        self._store.put(outcome, scenario.name, version(self._measure, scenario))
                        counted.over(outcome)
        except KeyboardInterrupt:
            if not self._store.where:
                raise
            there = [self._kept(key, each) for key, each in waiting.items()]
            done += sum(outcome is not None and not outcome.error for outcome in there)
            kept = f"{done} of {total} runs are kept in {self._store.where}"
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
                    queue.append((scenario, key, lives - 1))
                    continue
                died = Outcome(
                    key, scenario.seed, {}, 0.0, f"the worker died, {LIVES} times (killed, or out of memory)"
                )
                yield outcome or died
        except OSError as error:
            raise ScenarioError(f"the scheduler has gone ({_line(error)}); {STAYS}") from None
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
        return self._client


def _landed(future: "Future[Outcome]", key: str, seed: int) -> Outcome | None:
    """What a worker has sent back; None if it died."""
    from distributed import KilledWorker

    try:
        return replace(future.result(), scenario=key)  # as the sender knows it, whatever code the worker has
    except KilledWorker:
        return None
    except CancelledError:
        raise ScenarioError(f"the scheduler has gone; {STAYS}") from None
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
