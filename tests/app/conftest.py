"""A short run with liquidations, watched all along."""

import pytest

from abm.market import Market
from abm.scenario import load_with
from experiments.app.snapshot import Watch

CHANGES = [
    {"clock": {"start": "2026-02-05T14:00Z", "end": "2026-02-05T17:00Z"}},
    {
        "traders": {
            "leverage_btc": {"accounts": 3000},
            "retail": {"accounts": 500},
            "short_sellers": {"accounts": 50},
            "etf": {"flows": [{"day": "2026-02-05", "usd": -5e9, "source": "assumed"}], "fixing_share": 0},
        }
    },
    {"fundamentals": {"btc-spot": {"volatility": 2.0}}},
    {"links": dict.fromkeys(("news", "panic", "leverage"))},
]
"""Three hours of the event's books that are over in a second or two, and in which some are liquidated."""


@pytest.fixture(scope="session")
def scenario():
    return load_with("february-2026-quick", CHANGES)


@pytest.fixture(scope="session")
def watched(scenario):
    """A run that is watched all along: its snapshots, and its result."""
    market = Market(scenario)
    watch, snapshots = Watch(market), []
    while market.steps_done < market.scenario.clock.steps:
        snapshots.append(watch.take("btc-spot", 1.0, True, 0.0))
        market.run_for(20)
    snapshots.append(watch.take("btc-spot", 1.0, True, 0.0))
    return snapshots, market.result()
