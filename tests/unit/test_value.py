"""Value traders: where they wait, and how they step back in a fall."""

from typing import Any

import numpy as np
import pytest

import abm
from abm.agents.value import ValueTraders
from abm.exchange.messages import Kind, Side
from tests.unit.walls import market, only

COIN = "btc-spot"
PRICE = 73_100.0


def falling(fall_per_hour: float, hours: int, after: int = 0, **settings: Any) -> tuple[abm.Market, ValueTraders]:
    """A wall that falls by a logarithm an hour for some hours, and then stands."""
    terms = {"look": "1s", "pulse": "5min", "anchoring": 0.0, "accounts": 100} | settings  # so that all look each time
    made, walls = market({"value": terms}, hours=hours + after + 1.0, step="5min")
    for minute in range(0, 60 * (hours + after), 5):
        walls[COIN].price = PRICE * np.exp(-fall_per_hour * min(minute / 60.0, hours))
        made.run_for("5min")
    return made, only(made, ValueTraders)


def bids(made: abm.Market, traders: ValueTraders) -> np.ndarray[Any, Any]:
    """Prices at which all of them would buy now, highest first."""
    book = made.view()[COIN]
    orders = traders.decide(made.view())
    assert orders is not None
    buys = orders[(orders["kind"] == Kind.LIMIT) & (orders["side"] == Side.BUY)]
    return np.sort(buys["price"] * book.instrument.tick)[::-1]


@pytest.mark.parametrize(
    ("mean", "least", "most"), [(0.0, 0.0, 0.0), (0.3, 0.0, 0.6), (0.5, 0.0, 1.0), (0.7, 0.4, 1.0), (1.0, 1.0, 1.0)]
)
def test_each_gives_the_price_a_weight_of_its_own(mean: float, least: float, most: float) -> None:
    made, _ = market({"value": {"anchoring": mean, "accounts": 2_000}})
    weights = only(made, ValueTraders).anchoring
    assert weights.min() == pytest.approx(least, abs=0.01)
    assert weights.max() == pytest.approx(most, abs=0.01)
    assert weights.mean() == pytest.approx(mean, abs=0.02)


@pytest.mark.parametrize("caution", [0.0, 0.5, 1.0])
def test_discounts_grow_as_the_deviation_of_falls_over_that_of_a_calm_to_a_power(caution: float) -> None:
    _, traders = falling(0.01, hours=6, caution=caution, memory="6h", calm_volatility=0.42)
    made = traders.model
    asks_for = traders._caution(made.view()[COIN], made.seconds - traders._before)
    # Hours are whole only from the second on, so the first adds the squares of its parts.
    remembered = np.exp(-5 / 6) * (1 - np.exp(-1 / 6)) / 3 + 1 - np.exp(-5 / 6)
    risk = np.sqrt(2 * 0.01**2 * remembered * 8760)
    assert risk > 1.0
    assert asks_for == pytest.approx((risk / 0.42) ** caution, rel=0.02)


def test_a_rise_or_a_calm_makes_nobody_cautious() -> None:
    for drift in (-0.01, 0.0, 0.001):  # a rise, nothing, and a fall as slow as in a calm
        _, traders = falling(drift, hours=4, caution=1.0)
        assert traders._caution(traders.model.view()[COIN], traders.model.seconds - traders._before) == 1.0


@pytest.mark.parametrize(("learning", "learnt"), [(None, 0.0), ("6h", 1 - np.exp(-2)), ("12h", 1 - np.exp(-1))])
def test_a_price_that_stays_is_taken_for_the_value_by_and_by(learning: str | None, learnt: float) -> None:
    terms = {"look": "1s", "pulse": "5min", "anchoring": 0.0, "accounts": 100, "demand": 1e6, "learning": learning}
    made, walls = market({"value": terms}, hours=13.0, step="5min")
    walls[COIN].price = 0.8 * PRICE
    made.run_for("12h")
    traders = only(made, ValueTraders)
    orders = traders.decide(made.view())
    assert orders is not None
    asks = orders["price"][(orders["kind"] == Kind.LIMIT) & (orders["side"] == Side.SELL)]
    held_for = asks.min() * made.view()[COIN].instrument.tick / np.exp(traders.discount.min())
    assert np.log(held_for / PRICE) == pytest.approx(learnt * np.log(0.8), abs=0.005)


def test_bids_retreat_in_a_fall_and_return_after_it() -> None:
    plain = bids(*falling(0.01, hours=4, demand=1e6))
    during = bids(*falling(0.01, hours=4, demand=1e6, caution=0.5))
    after = bids(*falling(0.01, hours=4, after=20, demand=1e6, caution=0.5))
    # Who has bought already bids no more, so those are compared who wait far below.
    far = slice(-20, None)
    assert (np.log(PRICE / during[far]) > 1.3 * np.log(PRICE / plain[far])).all()
    assert after[far] == pytest.approx(plain[far], rel=1e-3)
