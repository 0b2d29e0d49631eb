"""A small market of bitcoin's two books, thirty hours long, in which news liquidates who has borrowed: a cascade for tests, in two seconds."""

from typing import Any

import abm

SPOT, PERP = "btc-spot", "btc-perp"


def small_cascade(seed: int = 1, **more: Any) -> abm.Scenario:
    """The scenario; other keys are laid over."""
    terms = {"depth_usd": 4e6, "impact_bps": 5.0, "calm_volatility": 0.4}
    plain: dict[str, Any] = {
        "name": "small-cascade",
        "description": "Thirty hours in which news liquidates who has borrowed",
        "caveat": "made for tests",
        "seed": seed,
        "clock": {"start": "2026-02-04T18:00Z", "end": "2026-02-06T00:00Z", "step": "1min"},
        "recording": {"interval": "5min"},
        "instruments": {
            SPOT: {"tick": 0.1, "lot": 0.001, "max_price": 200_000, "reference_price": 73_100},
            PERP: {
                "kind": "perpetual",
                "tick": 0.1,
                "lot": 0.001,
                "max_price": 200_000,
                "reference_price": 73_100,
                "margin": {"mark": {"index": {SPOT: 1.0}}},
            },
        },
        "fundamentals": {
            SPOT: {"volatility": 0.2, "loadings": {"coins": 1.0}},
            PERP: {"of": SPOT},
        },
        "news": {
            "factors": {"coins": 0.1},
            "calendar": [
                {
                    "at": "2026-02-05T19:00Z",
                    "kind": "policy",
                    "what": "a shock",
                    "moves": {"coins": -0.09},
                    "over": "10min",
                    "source": "made",
                }
            ],
        },
        "traders": {
            "makers": {
                "kind": "market_makers",
                "accounts": 4,
                "capital": [2e7] * 4,
                "books": {SPOT: terms, PERP: terms},
            },
            "noise": {"accounts": 20, "orders_per_second": 0.05, "volume_per_day": 500, "cash": 2e7, "coins": 300},
            "basis_arbitrage": {"accounts": 10},
            "leverage": {"kind": "retail_leverage", "instrument": PERP, "accounts": 2_000, "longs": 6e7, "shorts": 2e7},
        },
        "inputs": {"news.calendar": "made"},
        "observations": "february-2026.csv",
        "compare": {"btc.ret.feb5": {"role": "predicted"}},
    }
    return abm.Scenario.model_validate({**plain, **more})
