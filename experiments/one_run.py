"""One run, wherever it is played: what is measured of it, which of its tables are kept, what it may take, and what went wrong where."""

import contextlib
import functools
import gc
import hashlib
import io
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import psutil
from pydantic import Field

import abm
from abm.exchange.description import Frozen
from abm.record import Result
from abm.scenario import Scenario, ScenarioError, configs
from experiments.store import Outcome

Measure = Callable[[Result], Mapping[str, float]]


class Limits(Frozen):
    """What a run may take."""

    seconds: float | None = Field(
        None, gt=0, description="wall time of a run, with what it takes to build it", examples=[60]
    )
    gigabytes: float | None = Field(
        None, gt=0, description="memory by which the process may grow during a run", examples=[4]
    )


FREE = Limits()
"""No limits."""


@dataclass(frozen=True)
class Job:
    """What is asked of whoever plays runs, the same for all of them."""

    measure: str
    """`module:function`, or several with `+` between them."""
    limits: Limits = FREE
    tables: tuple[str, ...] = ()
    """Tables of the `Result` that are kept."""
    topic: str = ""
    """Where a worker says that it begins a run, and by when it should be over; empty: nowhere."""


class Played(NamedTuple):
    """An outcome, and the tables of the run as Parquet files."""

    outcome: Outcome
    tables: Mapping[str, bytes]


class OtherVersion(Exception):
    """A worker has other code than whoever asked; the text is one line."""


class _Refused(Exception):
    """A run that cannot count; the text is one line, and says all."""


def too_long(limits: Limits) -> str:
    """What is said of a run that was stopped for the time it took."""
    return f"took longer than {limits.seconds:g} s (limits.seconds) and was stopped"


def play_one(
    scenario: Scenario, job: Job, sender: str = "", progress: Callable[[int, int], None] | None = None
) -> Played:
    """Play one run.

    Args:
        scenario: What is played.
        job: What is asked of it.
        sender: Version of whoever asks, where that is another process.
        progress: Called with the steps done, and the steps in all.

    Raises:
        OtherVersion: This process has another version than the sender.
    """
    here = version(job.measure, scenario)
    if sender and sender != here:
        raise OtherVersion(f"has another version of the code ({here}) than the command ({sender})")
    if job.limits.seconds is not None:
        _begin(scenario, job)
    started, watch = time.perf_counter(), _Watch(job.limits, progress)
    measures: dict[str, float] = {}
    tables: dict[str, bytes] = {}
    error = where = ""
    gc.freeze()  # what was there before is not looked through when the market is cleared away
    try:
        result = abm.run(scenario, watch)
        watch.stage = "audit"
        if not result.audit.passed:
            raise _Refused(f"the audit failed: {'; '.join(result.audit.faults)}")
        watch.stage = "measure"
        measures, tables = _taken(job.measure, result), {name: parquet(result, name) for name in job.tables}
        del result
        watch.stage = ""
    except _Refused as refused:
        error = str(refused)
    except (Exception, SystemExit) as wrong:
        error, where = line(wrong), traceback.format_exc()
    gc.collect()  # a market refers to itself, and the next one needs its room
    gc.unfreeze()
    seconds = time.perf_counter() - started
    return Played(Outcome(scenario.hash, scenario.seed, measures, seconds, error, watch.stage, where), tables)


def line(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


class _Watch:
    """Knows at which stage a run is, and stops one that takes too much.

    It is asked between two parts of a run. A run that does not come to the end of a part is stopped from outside, with its worker.
    """

    def __init__(self, limits: Limits, progress: Callable[[int, int], None] | None) -> None:
        self.stage = "build"
        self._limits, self._progress = limits, progress
        self._began, self._before = time.perf_counter(), _resident() if limits.gigabytes else 0

    def __call__(self, done: int, total: int) -> None:
        self.stage = "run"
        limits = self._limits
        if limits.seconds and time.perf_counter() - self._began > limits.seconds:
            raise _Refused(too_long(limits))
        if limits.gigabytes and _resident() - self._before > limits.gigabytes * 1e9:
            raise _Refused(f"took more than {limits.gigabytes:g} GB (limits.gigabytes) and was stopped")
        if self._progress is not None:
            self._progress(done, total)


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


_COMPILING = 900.0  # seconds for what is compiled once on a machine, or loaded once by a process
_warm = False


def _begin(scenario: Scenario, job: Job) -> None:
    """Say by when the run should be over; what a process does only once does not count."""
    global _warm
    if not _warm:
        _tell(job, scenario, _COMPILING)
        with contextlib.suppress(Exception):  # what is wrong is wrong in the run, too
            abm.Market(scenario).run_for(min(2, scenario.clock.steps))
        _warm = True
    _tell(job, scenario, job.limits.seconds or 0.0)


def _tell(job: Job, scenario: Scenario, seconds: float) -> None:
    """Where somebody listens, say within how many seconds there will be an answer."""
    if job.topic:
        from distributed import get_worker

        worker = get_worker()
        worker.log_event(job.topic, {"run": scenario.hash, "worker": worker.address, "seconds": seconds})


def _taken(measure: str, result: Result) -> dict[str, float]:
    """What each function says of a run, together.

    Raises:
        ValueError: Two of them say something under one name.
    """
    taken: dict[str, float] = {}
    for function in measured_by(measure):
        for name, value in function(result).items():
            if name in taken:
                raise ValueError(f"{name!r} is measured by two functions of {measure}; name it otherwise in one")
            taken[str(name)] = float(value)
    return taken


def parquet(result: Result, table: str) -> bytes:
    """A table of a run as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    getattr(result, table).to_parquet(buffer, index=False, compression="zstd")
    return buffer.getvalue()


# ---------------------------------------------------------------------------------------------------- what it depends on


@functools.cache
def measured_by(measure: str) -> tuple[Measure, ...]:
    """The functions of a measure.

    Raises:
        ScenarioError: One is not there.
    """
    found = []
    for name in measure.split("+"):
        module, _, function = name.partition(":")
        try:
            found.append(getattr(import_module(module), function))
        except (ImportError, AttributeError, ValueError) as error:
            raise ScenarioError(
                f"measure {name!r}: {line(error)}; write module:function, such as analysis.compare:measured"
            ) from None
    return tuple(found)


def version(measure: str, scenario: Scenario) -> str:
    """What an outcome depends on beside its scenario: the code of the simulator, of the measure and of the traders, and the observations."""
    modules = {function.__module__ for function in measured_by(measure)}
    modules |= {type(trader).__module__ for trader in scenario.traders.values()}
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
