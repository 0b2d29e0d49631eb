"""The contract of all traders, held against each kind that is registered."""

from pathlib import Path
from typing import Any, ClassVar

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
VENUE = {"instruments": {"btc-spot-b": {"tick": 0.01, "lot": 0.0001, "max_price": 250_000, "reference_price": 73_300}}}
OFTEN = {"every": "20s", "slice": "5s", "band": 0.0}
SHARE = {"instruments": {"btc-etf": {"tick": 0.01, "lot": 1, "max_price": 1_000, "reference_price": 41.52}}}
# What a kind needs beyond its defaults: attributes of its contract
NEEDS: dict[str, dict[str, Any]] = {
    "allocators": {"config": OFTEN},
    "basis_arbitrage": {"config": {"look": 1}, "overrides": PERP},
    "correlation_traders": {
        "config": {"look": "5s", "pulse": "1s", "gain": 1000, "band": 0.0},
        "overrides": VENUE
        | {
            "traders": {"market_makers": {"books": {"btc-spot-b": {"depth_usd": 8e6}}}},
            "channels": {"correlation": {"follows": {"btc-spot": {"btc-spot-b": 1.0}}}},
        },
    },
    "fcn": {"config": {"every": 1}},
    "fundamentalists": {"config": {"look": "5s"}},
    "hedgers": {"config": {"instrument": "btc-perp"}, "overrides": PERP},
    "liquidation_desk": {"overrides": PERP},
    "index_arbitrage": {
        "config": {
            "look": 1,
            "instrument": "btc-spot-b",
            "components": {"btc-spot": 1.0},
            "baskets": 20,
            "primary": "30s",
        },
        "overrides": VENUE,
    },
    "authorised_participants": {"overrides": SHARE},
    "share_market_makers": {"overrides": SHARE},
    "options_desk": {"config": {"instrument": "btc-spot"}},
    "market_makers": {"beside": ("noise",), "nobody": {"accounts": 0, "capital": []}},
    "etf": {"nobody": {"accounts": 0, "shares": []}},
    "retail_leverage": {"config": {"accounts": 300, "look": "1min", "invested": 0.0}, "overrides": PERP},
    "short_sellers": {
        "config": {"accounts": 300, "look": "1min", "fall_median": 1e-6, "window": "20s"},
        "overrides": PERP,
    },
    "multi_asset_funds": {"config": OFTEN | {"style": "leverage"}},
    "candles": {"config": {"path": str(Path(__file__).with_name("candles.csv"))}},
    "lobster": {
        "config": {
            "path": str(Path(__file__).with_name("lobster_message.csv")),
            "book": str(Path(__file__).with_name("lobster_book.csv")),
        }
    },
    "replayer": {"config": {"path": str(Path(__file__).with_name("flow.csv"))}},
    "trend_followers": {"config": OFTEN | {"windows": ["20s", "1min"]}},
    "venue_arbitrage": {
        "config": {"look": 1, "venues": {"btc-spot": 0.5, "btc-spot-b": 0.5}, "transfer": "30s"},
        "overrides": VENUE,
    },
    "noise": {"config": {"accounts": 50}},
    "retail": {"config": {"accounts": 500}},
}
KINDS = [kind for kind, cls in kinds().items() if cls.__module__.startswith(abm.agents.__name__)]


def contract(kind: str) -> type[TraderContract]:
    """The contract of one kind, as a class that pytest collects."""
    name = "Test" + "".join(part.title() for part in kind.split("_"))
    return type(name, (TraderContract,), {"kind": kind, **NEEDS.get(kind, {}), "__module__": __name__})


globals().update({cls.__name__: cls for cls in map(contract, KINDS)})


class TestValueOnMargin(TraderContract):
    kind = "value"
    config: ClassVar[dict[str, Any]] = {"instrument": "btc-perp", "look": "10s"}
    overrides: ClassVar[dict[str, Any]] = PERP


class TestFundsThatDraw(TraderContract):
    kind = "multi_asset_funds"
    config: ClassVar[dict[str, Any]] = OFTEN | {
        "style": "leverage",
        "weights": {"btc-spot": 1.0, "btc-spot-b": 1.0},
        "draw": {"assets": 1, "crowding": 0.5},
    }
    overrides: ClassVar[dict[str, Any]] = VENUE


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
