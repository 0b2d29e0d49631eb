"""Hedgers: the other side of what funds hold of a future, and nothing more."""

import numpy as np
import pytest

import abm
from abm.agents.hedgers import Hedgers
from tests.unit.walls import Wall, only

GOLD = {
    "kind": "future",
    "tick": 0.1,
    "lot": 1,
    "max_price": 20_000,
    "reference_price": 4_900,
    "margin": {"brackets": [{"leverage": 12.5, "maintenance": 0.0727}]},
}


def made(weight: float) -> tuple[abm.Market, Hedgers, Wall]:
    """Funds that hold gold, long or short, and hedgers; gold behind a wall."""
    funds = {
        "kind": "multi_asset_funds",
        "style": "leverage",
        "instrument": "gold",
        "weights": {"gold": weight},
        "every": "1d",
    }
    market = abm.Market(
        abm.Scenario.model_validate(
            {
                "name": "gold",
                "clock": {"start": "2026-02-04T00:00Z", "end": "2026-02-04T01:00Z", "step": "10s"},
                "instruments": {"gold": GOLD},
                "traders": {"funds": funds, "hedgers": {"accounts": 3}},
            }
        )
    )
    return market, only(market, Hedgers), Wall(market, "gold")


@pytest.mark.parametrize("weight", [1.0, -1.0])
def test_they_hold_the_other_side_and_keep_it(weight: float) -> None:
    market, hedgers, wall = made(weight)
    held = hedgers.holdings("gold")
    assert (np.sign(held) == -np.sign(weight)).all()
    assert np.ptp(held) <= 1
    assert market.position[:, 0].sum() == 0
    wall.price *= 1.0 + 0.3 * weight  # against them
    market.run_for("5min")
    assert (hedgers.holdings("gold") == held).all()
    assert hedgers.margin_equity().sum() == pytest.approx((1.0 - 0.3) * np.abs(held).sum() * 4_900, rel=1e-3)
    assert market.result().audit.passed


def test_they_need_something_with_margin() -> None:
    with pytest.raises(abm.ScenarioError, match=r"traders.hedgers.instrument: gold has no margin; name a future"):
        abm.Market(
            abm.load(
                "first-hour",
                instruments={"gold": {k: v for k, v in GOLD.items() if k != "margin"}},
                traders={"hedgers": {}},
            )
        )
