"""The bench of the environments: decisions a second, beside the same market without agents, and what a reset takes."""

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import abm
from experiments.bench.report import Figure, Report
from experiments.envs import Execution, MarketMaking, SharedMarket

REACH_RESET = 250.0  # ms
REACH_SHARE = 0.5


def measure(repeat: int, scenario: str) -> Report:
    """Time episodes of each environment with random actions, in turn with the same time of its market without agents.

    Args:
        repeat: Pairs of an episode and a bare run; medians are shown.
        scenario: In which.
    """
    report = Report(
        "Medians; random actions. Ratio: to the same market without agents, stopped at the same moments. A reset sets up a market and plays "
        "until the first decision.",
        "decides every",
    )
    report.note_load()
    for env in (Execution(scenario), MarketMaking(scenario), SharedMarket(scenario)):
        _beside(report, env, repeat)
    return report


def _beside(report: Report, env: Any, repeat: int) -> None:
    played: list[tuple[float, float, float]] = []  # seconds of a reset, of a decision, and of its time without agents
    for seed in range(repeat + 1):
        start = perf_counter()
        env.reset(seed=seed)
        reset = perf_counter() - start
        played.append((reset, *_decision(env)))
    reset, decision, alone = (median(column) for column in zip(*played[1:], strict=True))  # the first fills caches
    name, every = type(env).__name__, f"{env.episode.every:g} s"
    ratio = median(bare / with_agents for _, with_agents, bare in played[1:])
    report.figures += [
        Figure(name, every, 1.0 / decision, "/s", ratio, f"{REACH_SHARE:.2f}", ratio >= REACH_SHARE),
        Figure(f"{name}, bare market", every, 1.0 / alone, "/s"),
        Figure(f"{name}, reset", "", reset * 1e3, "ms", None, f"< {REACH_RESET:.0f} ms", reset * 1e3 < REACH_RESET),
    ]


def _decision(env: Any) -> tuple[float, float]:
    """Seconds of one decision of an episode that has begun, and of as much time of the same market without agents."""
    episode, act = env.episode, _actor(env)
    start = perf_counter()
    while not episode.over:
        env.step(act())
    seconds = perf_counter() - start
    market = abm.Market(episode.market.scenario)
    market.run_for(episode.scenario.clock.units(episode.plan.begins))
    start = perf_counter()
    for _ in range(episode.decided):
        market.run_for(episode.scenario.clock.units(episode.every))
    return seconds / episode.decided, (perf_counter() - start) / episode.decided


def _actor(env: Any) -> Callable[[], Any]:
    """Random actions of whoever is there."""
    if isinstance(env, SharedMarket):
        return lambda: {name: env.action_space(name).sample() for name in env.agents}
    return lambda: env.action_space.sample()
