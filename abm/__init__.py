"""Agent-based market simulator: one exchange, many kinds of traders, and how a fall becomes a cascade.

Importing this package costs nothing: what a name needs is loaded when the name is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from abm.agents.base import Population, Trader, TraderConfig, trader
    from abm.market import Market, run
    from abm.record import Result, read_result
    from abm.scenario import Scenario, ScenarioError, load

_HOME = {
    "Market": "abm.market",
    "Population": "abm.agents.base",
    "Result": "abm.record",
    "Scenario": "abm.scenario",
    "ScenarioError": "abm.scenario",
    "Trader": "abm.agents.base",
    "TraderConfig": "abm.agents.base",
    "load": "abm.scenario",
    "read_result": "abm.record",
    "run": "abm.market",
    "trader": "abm.agents.base",
}

__all__ = [
    "Market",
    "Population",
    "Result",
    "Scenario",
    "ScenarioError",
    "Trader",
    "TraderConfig",
    "load",
    "read_result",
    "run",
    "trader",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the module of a public name the first time it is asked for."""
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'abm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
