"""A small market of two coins with news, market makers and noise of their own, and funds that hold both."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import abm

BTC, ETH, SILVER = "btc-spot", "eth-spot", "silver"
PRICES = {BTC: 70_000.0, ETH: 2_000.0}


def two_assets(
    seed: int = 1,
    hours: float = 1.0,
    channels: Mapping[str, Any] | None = None,
    traders: Mapping[str, Any] | None = None,
    loadings: Mapping[str, Mapping[str, float]] | None = None,
    **more: Any,
) -> abm.Scenario:
    """The scenario; a trader that is None is left out, other keys are laid over."""
    start = datetime(2026, 2, 5, tzinfo=UTC)
    who: dict[str, Any] = {
        "funds": {
            "kind": "multi_asset_funds",
            "accounts": 20,
            "capital": 120e6,
            "style": "leverage",
            "leverage": [3, 3],
            "weights": dict.fromkeys(PRICES, 0.5),
            "every": "10min",
            "slice": "1min",
            "band": 0.0,
            "slippage": 0.02,
            "size_sigma": 0.3,
        }
    }
    for name, price in PRICES.items():
        terms = {"depth_usd": 20e6, "impact_bps": 5.0, "calm_volatility": 0.6}
        who[f"makers-{name}"] = {"kind": "market_makers", "accounts": 4, "capital": [50e6] * 4, "books": {name: terms}}
        who[f"noise-{name}"] = {
            "kind": "noise",
            "instrument": name,
            "accounts": 20,
            "orders_per_second": 0.3,
            "volume_per_day": 3e8 / price,
            "cash": 20e6,
            "coins": 20e6 / price,
        }
    plain = {
        "name": "two-assets",
        "seed": seed,
        "clock": {"start": start, "end": start + timedelta(hours=hours), "step": "10s"},
        "instruments": {
            name: {"tick": 0.01, "lot": 0.001, "max_price": 10 * price, "reference_price": price}
            for name, price in PRICES.items()
        },
        "fundamentals": {name: {"volatility": 0.6, "loadings": (loadings or {}).get(name, {})} for name in PRICES},
        "channels": channels or {},
        "traders": {**who, **(traders or {})},
        "recording": {"interval": "1min"},
    }
    return abm.Scenario.model_validate(plain | more)
