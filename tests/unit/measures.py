"""Measures of runs that tests ask for by name, some of which go wrong."""

import ctypes
import os
import signal
import time
from pathlib import Path

from abm.record import Result


def close(result: Result) -> dict[str, float]:
    return {"close": float(result.bars["close"].iloc[-1]), "nothing": float("nan")}


def counted(result: Result) -> dict[str, float]:
    """Leaves a line for each run in the file that the environment names."""
    with Path(os.environ["ABM_COUNTED"]).open("a") as file:
        file.write(f"{result.summary['seed']}\n")
    return close(result)


def raises(result: Result) -> dict[str, float]:
    if result.summary["seed"] == 2:
        raise RuntimeError("seed 2\nis not liked")
    return counted(result)


def kills(result: Result) -> dict[str, float]:
    """Seed 2 kills whoever plays it each time, seed 3 the first time."""
    seed, before = result.summary["seed"], Path(os.environ["ABM_COUNTED"])
    if seed == 2 or (seed == 3 and "3" not in before.read_text().split()):
        with before.open("a") as file:
            file.write(f"{seed}\n")
        os.kill(os.getpid(), signal.SIGKILL)
    return counted(result)


def driver(result: Result) -> dict[str, float]:
    """The driver dies at the end of the third run."""
    answer = counted(result)
    if len(Path(os.environ["ABM_COUNTED"]).read_text().split()) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer


def words(_result: Result) -> dict[str, str]:
    return {"close": "high"}


def slow(result: Result) -> dict[str, float]:
    """Takes a while, in which somebody may be killed."""
    answer = counted(result)
    time.sleep(0.3)
    return answer


def hangs(result: Result) -> dict[str, float]:
    """Seed 2 never comes back, and lets nobody else in its process do anything either."""
    if result.summary["seed"] == 2:
        ctypes.PyDLL(None).sleep(600)
    return counted(result)
