"""Clearing: whose cash, coins and positions are whose, who falls short, and the proof that nothing came from nowhere. No Mesa here.

The kernels here are part of the same compiled pass as matching: they stand between the levels and orders of `abm.exchange`, which they
use, and its entry of orders, which uses them. So nothing is imported before it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from abm.clearing.house import ClearingHouse
    from abm.clearing.hub import CreditHub
    from abm.clearing.ledger import Audit, Ledger
    from abm.clearing.lending import LendingPool, Pool
    from abm.clearing.rules import Bracket, Funding, Liquidation, Margin, Mark

_HOME = {
    "Audit": "abm.clearing.ledger",
    "Bracket": "abm.clearing.rules",
    "ClearingHouse": "abm.clearing.house",
    "CreditHub": "abm.clearing.hub",
    "Funding": "abm.clearing.rules",
    "Ledger": "abm.clearing.ledger",
    "LendingPool": "abm.clearing.lending",
    "Liquidation": "abm.clearing.rules",
    "Margin": "abm.clearing.rules",
    "Mark": "abm.clearing.rules",
    "Pool": "abm.clearing.lending",
}

__all__ = [
    "Audit",
    "Bracket",
    "ClearingHouse",
    "CreditHub",
    "Funding",
    "Ledger",
    "LendingPool",
    "Liquidation",
    "Margin",
    "Mark",
    "Pool",
]


def __getattr__(name: str) -> Any:
    """Load the module of a public name the first time it is asked for."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'abm.clearing' has no attribute {name!r}")
