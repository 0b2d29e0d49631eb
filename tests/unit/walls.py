"""Markets whose prices a test sets: one kind of trader, and a wall of orders on each side of every book."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

import abm
from abm.agents.base import TraderConfig
from abm.agents.view import View
from abm.exchange.gateway import Latency
from abm.exchange.messages import MESSAGE, Kind, Phase

SPOT = {"tick": 0.01, "lot": 0.0001, "max_price": 1_000_000, "reference_price": 73_100}


def derivative(kind: str, spot: str, price: float, **margin: Any) -> dict[str, Any]:
    """A perpetual or future on a spot instrument, whose margin does not depend on the size of a position."""
    terms = {"brackets": [{"leverage": 100, "maintenance": 0.004}], "mark": {"index": {spot: 1.0}}, **margin}
    return {"kind": kind, "tick": 0.1, "lot": 0.001, "max_price": 1_000_000, "reference_price": price, "margin": terms}


PERPETUAL = derivative("perpetual", "btc-spot", 73_100, funding={})


class Wall(abm.Trader):
    """Bids and offers `size` a basis point around `price` in every step, so that this is the mid whatever others trade."""

    def __init__(self, market: abm.Market, instrument: str, size: float = 10_000.0) -> None:
        """Join a market at the reference price."""
        self.price = market.scenario.instruments[instrument].reference_price or 0.0
        self.size_of = {"buy": size, "sell": size}
        spot = market.scenario.instruments[instrument].kind == "spot"
        config = TraderConfig(instrument=instrument, latency=Latency())
        super().__init__(market, f"wall-{instrument}", config, cash=2e12, coins=20.0 * size if spot else 0.0)

    def setup(self) -> None:
        self.every_step = True

    def act(self, view: View) -> None:
        self.cancel()
        self.buy(self.config.instrument, self.size_of["buy"], self.price * (1 - 1e-4))
        self.sell(self.config.instrument, self.size_of["sell"], self.price * (1 + 1e-4))


def market(
    traders: Mapping[str, Any],
    instruments: Mapping[str, Any] | None = None,
    hours: float = 1.0,
    step: str = "1s",
    **more: Any,
) -> tuple[abm.Market, dict[str, Wall]]:
    """A market of some traders, without fees or news, and its walls by instrument; `more` are other keys of the scenario."""
    start = datetime(2026, 2, 5, tzinfo=UTC)
    scenario = abm.Scenario.model_validate(
        {
            "name": "walls",
            "clock": {"start": start, "end": start + timedelta(hours=hours), "step": step},
            "instruments": {"btc-spot": SPOT, **(instruments or {})},
            "traders": traders,
            "recording": {"interval": "1h"},
            **more,
        }
    )
    made = abm.Market(scenario)
    return made, {name: Wall(made, name) for name in scenario.instruments}


def only[T: abm.Population](market: abm.Market, cls: type[T]) -> T:
    """The population of a class."""
    return next(p for p in market.populations if isinstance(p, cls))


def volume(market: abm.Market, reason: str, instrument: str | None = None) -> float:
    """Coins that takers traded for a reason."""
    flows = market.result().flows
    mine = (flows["role"] == "taker") & (flows["reason"] == reason)
    if instrument is not None:
        mine &= flows["instrument"] == instrument
    return float(flows[mine]["volume"].sum())


def set_phase(market: abm.Market, instrument: str, phase: Phase) -> None:
    """Have the operator open, close or halt an instrument."""
    message = np.zeros(1, MESSAGE)
    message["kind"], message["side"], message["time"], message["owner"] = Kind.PHASE, phase, market.time_ns, -1
    message["instrument"] = market.exchange.index(instrument)
    market.exchange.match(message)
