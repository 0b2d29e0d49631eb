"""The bench of contagion: a step's spreading over a large network, and what other markets cost beside their messages."""

from collections.abc import Mapping
from datetime import timedelta
from statistics import median
from time import perf_counter
from typing import Any

import abm
from abm.agents import TraderConfig
from abm.agents.correlation_traders import CorrelationTradersConfig
from abm.random import stream
from abm.scenario import Scenario, load
from experiments.bench.report import Figure, Report

ASSETS, HOLDERS = 200, 2_000
STEPS = 200
REACH_SPREAD = 5.0
FIRST = "btc"

_GROUP = 50  # accounts of a population of funds: each is a node
_HEARD = 10  # communities that one listens to, as an Erdos-Renyi graph has on average


def measure(repeat: int, hours: float) -> Report:
    """Time the spreading, and runs of one asset and of all of `markets` in turn.

    Args:
        repeat: Pairs of runs; medians are shown.
        hours: Market time of each run.
    """
    report = Report(
        "Medians. Spreading is what the contagion layer takes in a step; an export reads all exposures.", "on"
    )
    report.note_load()
    spread, export, edges = _spreading()
    where = f"{ASSETS} assets, {HOLDERS:,} holders"
    report.figures += [
        Figure(
            "spreading, a step", where, spread * 1e3, "ms", None, f"< {REACH_SPREAD:.0f}", spread * 1e3 < REACH_SPREAD
        ),
        Figure("export of the network", f"{edges:,} edges", export * 1e3, "ms"),
    ]
    _beside(report, repeat, hours)
    return report


def large(assets: int = ASSETS, holders: int = HOLDERS) -> Scenario:
    """Many assets, funds of which each account holds several, and as many communities that watch and listen to some."""
    draw = stream(1, "bench", "contagion")
    names = [f"asset-{k}" for k in range(assets)]
    funds: dict[str, Any] = {}
    for k in range(holders // _GROUP):
        weights = {names[j]: 1.0 for j in sorted(draw.choice(assets, min(10, assets), replace=False).tolist())}
        fund = {"kind": "multi_asset_funds", "accounts": _GROUP, "instrument": next(iter(weights)), "weights": weights}
        funds[f"funds-{k}"] = fund | {"every": "1d", "slice": "1d"}
    communities: dict[str, Any] = {}
    for k in range(holders):
        watched, heard = (draw.choice(n, min(_HEARD, n - 1), replace=False).tolist() for n in (assets, holders))
        listens = {f"c{j}": 1.0 for j in heard if j != k}
        communities[f"c{k}"] = {"watches": {names[j]: 1.0 for j in watched}, "listens": listens}
    return Scenario.model_validate(
        {
            "name": "large",
            "clock": {"start": "2026-02-05T00:00Z", "end": "2026-02-06T00:00Z", "step": "1s"},
            "instruments": {
                name: {"tick": 0.01, "lot": 0.01, "max_price": 200, "reference_price": 100} for name in names
            },
            "traders": funds,
            "channels": {"sentiment": {"communities": communities, "every": "1s"}},
        }
    )


def _spreading() -> tuple[float, float, int]:
    """Seconds of one step's spreading and of one export, and edges of the network."""
    market = abm.Market(large())
    spread, taken = market.contagion.spread, []

    def timed(report: Any) -> None:
        start = perf_counter()
        spread(report)
        taken.append(perf_counter() - start)

    market.contagion.spread = timed  # type: ignore[method-assign]
    market.run_for(STEPS)
    start = perf_counter()
    graph = market.contagion.network()
    return median(taken), perf_counter() - start, graph.number_of_edges()


def only(scenario: Scenario, asset: str) -> Scenario:
    """What is left of a scenario without the instruments of other assets and without all traders who know of them; makers keep its books."""
    kept = {name: of for name, of in scenario.instruments.items() if name.partition("-")[0] == asset}
    channel = scenario.channels.correlation
    follows = {name: leaders for name, leaders in channel.follows.items() if {name, *leaders} <= set(kept)}
    traders: dict[str, TraderConfig] = {}
    for name, config in scenario.traders.items():
        if isinstance(config, CorrelationTradersConfig) and config.instrument not in follows:
            continue
        mine = {book: terms for book, terms in getattr(config, "books", {}).items() if book in kept}
        if mine:
            traders[name] = config.model_copy(update={"books": mine, "instrument": next(iter(mine))})
        elif not _names(config.model_dump()) & (set(scenario.instruments) - set(kept)):
            traders[name] = config
    channels = scenario.channels.model_copy(update={"correlation": channel.model_copy(update={"follows": follows})})
    return scenario.model_copy(
        update={"instruments": kept, "traders": traders, "channels": channels, "observations": ""}
    )


def _names(value: Any) -> set[str]:
    """All words in a configuration."""
    if isinstance(value, Mapping):
        return set().union(*({key} | _names(item) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return set().union(*map(_names, value))
    return {value} if isinstance(value, str) else set()


def _beside(report: Report, repeat: int, hours: float) -> None:
    """Runs of one asset and of all, in turn: how the time grows beside the messages."""
    every = _until(load("markets"), hours)
    _run(_until(every, 0.1))  # compiles
    pairs = [(_run(only(every, FIRST)), _run(every)) for _ in range(repeat)]
    for k, (name, scenario) in enumerate(((FIRST, only(every, FIRST)), ("all", every))):
        seconds = median(pair[k][0] for pair in pairs)
        rate = median(pair[k][1] / pair[k][0] for pair in pairs)
        where = f"{name}: {len(scenario.instruments)} instruments"
        report.figures += [
            Figure(f"{hours:g} h of markets", where, seconds, "s"),
            Figure("messages in it", where, rate, "messages/s"),
        ]
    growth = median((b[0] / a[0]) / (b[1] / a[1]) for a, b in pairs)
    report.figures.append(
        Figure("growth of the time to that of messages", "", growth, "times", None, "<= 1", growth <= 1.0)
    )


def _until(scenario: Scenario, hours: float) -> Scenario:
    """The first hours of it."""
    end = scenario.clock.start + timedelta(hours=hours)
    return scenario.model_copy(update={"clock": scenario.clock.model_copy(update={"end": end})})


def _run(scenario: Scenario) -> tuple[float, int]:
    """Seconds and messages of a run, without setting it up."""
    market = abm.Market(scenario)
    start = perf_counter()
    market.run_for(scenario.clock.steps)
    return perf_counter() - start, int(market.result().summary["messages"])
