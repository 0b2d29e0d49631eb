"""The contract of all traders, held against each kind that is registered."""

from typing import Any

import pytest

import abm
import abm.agents
from abm.agents.base import Coins, Numbers, kinds
from abm.agents.view import View
from abm.exchange.messages import Records, Side
from abm.testing import TraderContract

PERP = {
    "instruments": {
        "btc-perp": {
            "kind": "perpetual",
            "tick": 0.1,
            "lot": 0.001,
            "max_price": 250_000,
            "reference_price": 73_100,
            "margin": {"mark": {"index": {"btc-spot": 1.0}}},
        }
    }
}
# What a kind needs beyond its defaults: attributes of its contract.
NEEDS: dict[str, dict[str, Any]] = {
    "noise": {"config": {"accounts": 50}},
    "retail": {"config": {"accounts": 500}},
}
KINDS = [kind for kind, cls in kinds().items() if cls.__module__.startswith(abm.agents.__name__)]


def contract(kind: str) -> type[TraderContract]:
    """The contract of one kind, as a class that pytest collects."""
    name = "Test" + "".join(part.title() for part in kind.split("_"))
    return type(name, (TraderContract,), {"kind": kind, **NEEDS.get(kind, {}), "__module__": __name__})


globals().update({cls.__name__: cls for cls in map(contract, KINDS)})


def test_every_kind_has_its_contract() -> None:
    assert {cls.kind for cls in TraderContract.__subclasses__()} >= set(KINDS)


@abm.trader("test_borrows_chance")
class BorrowsChance(abm.Population):
    """Buys or sells by Mesa's random numbers."""

    def endow(self) -> tuple[Numbers, Coins]:
        return 1e6, 10.0

    def decide(self, view: View) -> Records | None:
        side = Side.BUY if self.model.random.random() < 0.5 else Side.SELL
        return self.market(view["btc-spot"], side, 0.01)


def test_a_trader_that_breaks_the_contract_is_found() -> None:
    broken = type("Broken", (TraderContract,), {"kind": "test_borrows_chance", "__test__": False})()
    broken.test_it_survives_a_halt()
    with pytest.raises(AssertionError):
        broken.test_its_chance_is_its_own()
