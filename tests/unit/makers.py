"""Markets in which selling lowers the price by a known amount: one maker who follows what it has bought."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

import abm
from abm.agents.base import TraderConfig
from abm.agents.view import View
from abm.clearing.hub import CreditHub
from abm.clearing.lending import LendingPool
from abm.exchange.gateway import Latency
from abm.exchange.messages import Records, Side

ETH, BTC = "eth-spot", "btc-spot"
BOTH = {
    BTC: {"tick": 0.01, "lot": 0.0001, "max_price": 200_000, "reference_price": 73_100},
    ETH: {"tick": 0.01, "lot": 0.001, "max_price": 20_000, "reference_price": 2_400},
}


class Maker(abm.Population):
    """Bids and offers `size` at each of 80 prices a fifth of a percent apart, around a price that falls by as much for each `size` it has bought.

    `news` is the logarithm of what moves the price besides; what trades did to it is forgotten by half in `half_life` seconds.
    """

    def __init__(self, market: abm.Market, instrument: str, size: float) -> None:
        """Join a market at the reference price."""
        self.reference = market.scenario.instruments[instrument].reference_price or 0.0
        self.size_of, self.news, self.half_life, self.bought = size, 0.0, math.inf, 0.0
        super().__init__(market, f"maker-{instrument}", TraderConfig(instrument=instrument, latency=Latency()))
        self._held = self.holdings()[0]

    def endow(self) -> tuple[float, float]:
        return 1e12, 1000.0 * self.size_of

    @property
    def price(self) -> float:
        """What it quotes around."""
        now = self.bought + self.holdings()[0] - self._held
        return self.reference * math.exp(self.news - 0.002 * now / self.size_of)

    def decide(self, view: View) -> Records | None:
        held = self.holdings()[0]
        self.bought = self.bought * 0.5 ** (1.0 / self.half_life) + held - self._held
        self._held = held
        book, away = view[self.config.instrument], 0.002 * np.arange(0.25, 80.0)
        who, price = np.zeros(len(away), np.int64), self.price
        bids = self.limit(book, Side.BUY, price * np.exp(-away), self.size_of, who=who)
        offers = self.limit(book, Side.SELL, price * np.exp(away), self.size_of, who=who)
        return np.concatenate([self.cancel_all(book), bids, offers])


def market(
    traders: Mapping[str, Any], size: Mapping[str, float], hours: float = 1.0, **more: Any
) -> tuple[abm.Market, dict[str, Maker]]:
    """A market in bitcoin and ether of some traders and a maker for each, without fees or news."""
    start = datetime(2026, 2, 5, tzinfo=UTC)
    scenario = abm.Scenario.model_validate(
        {
            "name": "makers",
            "clock": {"start": start, "end": start + timedelta(hours=hours)},
            "instruments": BOTH,
            "traders": traders,
            "recording": {"interval": "1min"},
            **more,
        }
    )
    made = abm.Market(scenario)
    return made, {name: Maker(made, name, size[name]) for name in scenario.instruments}


def sound(made: abm.Market, *books: LendingPool | CreditHub) -> None:
    """Nothing is lost, in the ledger and in books beside it."""
    for audit in (made.result().audit, *(each.audit() for each in books)):
        assert audit.passed and audit.residue == 0, audit.faults
