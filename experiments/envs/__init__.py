"""Environments for reinforcement learning on the simulator's own markets: Gymnasium's for one agent, PettingZoo's for several.

Importing this package registers `exit-cascade/Execution-v0` and `exit-cascade/MarketMaking-v0`. It needs the extra `gym`.
It stands beside `abm` and not in it, since it uses markets as anyone may and no market knows of it: `abm` needs no Gymnasium.
"""

try:
    import gymnasium
    import pettingzoo  # noqa: F401
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"{missing.name} is not installed; the environments need the extra gym: pip install 'exit-cascade[gym]'",
        name=missing.name,
    ) from None

from experiments.envs.environments import Execution, MarketMaking, SharedMarket
from experiments.envs.execution import ExecutionTask
from experiments.envs.market_making import MarketMakingTask

__all__ = ["Execution", "ExecutionTask", "MarketMaking", "MarketMakingTask", "SharedMarket"]

gymnasium.register(id="exit-cascade/Execution-v0", entry_point="experiments.envs.environments:Execution")
gymnasium.register(id="exit-cascade/MarketMaking-v0", entry_point="experiments.envs.environments:MarketMaking")
