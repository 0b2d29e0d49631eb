"""What simple policies earn: `python -m experiments.envs.baselines [SEEDS]`.

A policy is a function from an observation to an action. None of these has been trained: whoever has trained one holds it against them.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from abm.agents.quoting import optimal_spread, reservation_price
from experiments.envs.environments import Execution, MarketMaking, Seen

Policy = Callable[[Seen], Seen]

SEEDS = 40
RISK_AVERSION, DECAY = 0.002, 0.33
"""Of Avellaneda and Stoikov's dealer: per basis point, inventory in sizes. The best of five pairs at seeds 1000 to 1007."""


def randomly(env: Execution | MarketMaking, seed: int) -> Policy:
    """Any action is as likely as any other."""
    env.action_space.seed(seed)
    return lambda _seen: env.action_space.sample()


def twap(env: Execution, _seed: int, price: float = 1.0) -> Policy:
    """The same quantity in each interval, and whatever the one before has left (the style `TWAP`), at a limit price.

    Args:
        env: The environment.
        price: As in an action: 1 takes from the book, 0 waits at the mid.
    """
    decisions = env.episode.decisions
    return lambda seen: np.array([1.0 / max(round(float(seen[0]) * decisions), 1), price], np.float32)


def at_once(_env: Execution, _seed: int) -> Policy:
    """All of it, from the first interval on, as far into the book as an order may go."""
    return lambda _seen: np.ones(2, np.float32)


def symmetric(env: MarketMaking, _seed: int, half_spread_bps: float = 2.0) -> Policy:
    """Always the same distance from the mid, whatever it holds."""
    distance = half_spread_bps / env.episode.tasks["agent"].reach_bps
    return lambda _seen: np.full(2, distance, np.float32)


def avellaneda_stoikov(env: MarketMaking, _seed: int) -> Policy:
    """The quotes of Avellaneda and Stoikov (2008), with the volatility and the time left that it sees; see `abm.agents.quoting`."""
    task, minutes = env.episode.tasks["agent"], env.episode.plan.duration / 60.0
    names = [feature.name for feature in task.sees]

    def quote(seen: Seen) -> Seen:
        now = dict(zip(names, seen.tolist(), strict=True))
        left, held = now["time_left"] * minutes, now["inventory"] * task.limit / task.size
        centre = reservation_price(0.0, held, RISK_AVERSION, now["volatility"], left)
        half = 0.5 * optimal_spread(RISK_AVERSION, now["volatility"], left, DECAY)
        return np.clip(np.array([half - centre, half + centre]) / task.reach_bps, 0.0, 1.0).astype(np.float32)

    return quote


EXECUTION: Mapping[str, Callable[[Execution, int], Policy]] = {
    "random": randomly,
    "at once": at_once,
    "TWAP, takes": twap,
    "TWAP, waits at the mid": partial(twap, price=0.0),
}
MARKET_MAKING: Mapping[str, Callable[[MarketMaking, int], Policy]] = {
    "random": randomly,
    "symmetric, 0.5 bp": partial(symmetric, half_spread_bps=0.5),
    "symmetric, 2 bp": symmetric,
    "Avellaneda-Stoikov": avellaneda_stoikov,
}


def earned[E: (Execution, MarketMaking)](
    env: E, policies: Mapping[str, Callable[[E, int], Policy]], seeds: Sequence[int]
) -> pd.DataFrame:
    """One row for each policy and seed: the sum of the rewards, and the last `info`."""
    rows = []
    for name, make in policies.items():
        for seed in seeds:
            seen, _ = env.reset(seed=seed)
            policy, total, over = make(env, seed), 0.0, False
            while not over:
                seen, reward, over, _, info = env.step(policy(seen))
                total += reward
            rows.append({"policy": name, "reward": total, **info, "seed": seed})
    return pd.DataFrame(rows)


def main(seeds: int) -> None:
    for env, policies, measures in (
        (Execution(), EXECUTION, ("reward", "shortfall")),
        (MarketMaking(), MARKET_MAKING, ("reward", "wealth", "inventory")),
    ):
        by = earned(env, policies, range(1, seeds + 1)).groupby("policy", sort=False)[list(measures)]
        table = by.agg(["mean", "sem", "std"])
        print(f"{type(env).__name__}, {seeds} seeds", table.to_string(float_format="{:.2f}".format), sep="\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS)
