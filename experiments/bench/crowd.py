"""The event's population in its market, with a stopwatch at everyone who takes time; in a process of its own, since memory counts too."""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from time import perf_counter
from typing import Any, NamedTuple

import abm
from abm.exchange.gateway import Batch
from abm.scenario import Scenario, load_with
from experiments.bench.memory import peak

SCENARIO = "crowd"
FEWER = {"traders": {"retail_leverage": {"accounts": 9_000}, "short_sellers": {"accounts": 500}}}
"""Of the market that is played before time is taken, so that kernels are compiled and loaded."""
WARM_UP = 700  # steps: everyone has decided by then, the treasury last


class Cost(NamedTuple):
    """What one trader, or one part of the market, took: seconds in all, and messages it sent."""

    who: str
    kind: str  # empty where it is no trader
    accounts: int
    seconds: float
    messages: int


class Played(NamedTuple):
    """What came of a run."""

    instruments: int
    steps: int
    step: float  # seconds of market time
    set_up: float  # seconds until the first step
    seconds: float  # of wall time, all steps
    messages: int  # that traders sent
    peak: int  # bytes of memory, -1 where the system does not tell
    event_log: str
    faults: list[str]  # of the audit
    costs: list[Cost]


class Stopwatch:
    """Seconds that a method of an object takes, and how many messages it gives back."""

    def __init__(self, owner: object, method: str) -> None:
        self.seconds, self.messages = 0.0, 0
        inner = getattr(owner, method)

        def timed(*arguments: Any) -> Any:
            start = perf_counter()
            answer = inner(*arguments)
            self.seconds += perf_counter() - start
            if isinstance(answer, Batch):
                self.messages += len(answer.messages)
            return answer

        setattr(owner, method, timed)


def play(changes: Mapping[str, Any]) -> Played:
    """Play the scenario to its end. For a process of its own, in which nothing else has used memory before."""
    _warm_up(load_with(SCENARIO, [changes, FEWER]))
    gc.collect()  # a market refers to itself, and its memory is not to be counted
    start = perf_counter()
    market = abm.Market(load_with(SCENARIO, [changes]))
    set_up = perf_counter() - start
    traders = {population: Stopwatch(population, "orders") for population in market.populations}
    parts = {
        "gateway": [Stopwatch(market.gateway, "arrange")],
        "match": [Stopwatch(market.exchange, "match")],
        "recorder": [Stopwatch(market.recorder, each) for each in ("observe", "quote", "sample")],
    }
    start = perf_counter()
    market.run_for(market.scenario.clock.steps)
    seconds = perf_counter() - start
    costs = [
        Cost(each.name, each.kind, each.size, watch.seconds, watch.messages) for each, watch in traders.items()
    ] + [Cost(name, "", 0, sum(watch.seconds for watch in watches), 0) for name, watches in parts.items()]
    result = market.result()
    return Played(
        instruments=len(market.exchange.instruments),
        steps=market.steps_done,
        step=market.scenario.clock.step,
        set_up=set_up,
        seconds=seconds,
        messages=sum(cost.messages for cost in costs),
        peak=peak(),
        event_log=result.summary["event_log_hash"],
        faults=list(result.audit.faults),
        costs=[*costs, Cost("rest", "", 0, seconds - sum(cost.seconds for cost in costs), 0)],
    )


def _warm_up(fewer: Scenario) -> None:
    abm.Market(fewer).run_for(min(WARM_UP, fewer.clock.steps))


def play_alone(changes: Mapping[str, Any]) -> Played:
    """The same in a process of its own."""
    program = (
        "import json, sys; from experiments.bench.crowd import play; print(json.dumps(play(json.loads(sys.argv[1]))))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(changes)],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    *fields, costs = json.loads(done.stdout)
    return Played(*fields, [Cost(*each) for each in costs])
