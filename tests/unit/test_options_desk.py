"""Options dealers: what they hedge, when, and what it does to a price; and the skew that comes of it."""

import math
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

import abm
from abm.agents.base import Coins, Numbers, TraderConfig
from abm.agents.options_desk import OptionsDesk, OptionsDeskConfig
from abm.agents.view import View
from abm.exchange.gateway import Latency
from abm.exchange.messages import Records, join
from abm.testing import TraderContract
from abm.world.options import black_scholes
from tests.unit.walls import PERPETUAL, SPOT, Wall, only, volume

COIN, PERP, PRICE = "btc-spot", "btc-perp", 73_100.0
EXPIRY = "2026-02-27T08:00Z"
PUTS = [
    {"expiry": EXPIRY, "strike": strike, "coins": coins, "source": "made up"}
    for strike, coins in ((60_000, 4_000.0), (55_000, 3_000.0), (50_000, 3_000.0))
]
FLAT = {"rr25": 0.0, "bf25": 0.0, "s": 0.1, "days": 30}
STILL: dict[str, Any] = {
    "demand": 0.0,
    "window": "1000d",
    "surface": {"calm": [FLAT | {"atm": 0.42}], "crash": [FLAT | {"atm": 0.85}]},
}
"""A surface without a smile that does not move: volatility is that of before the run, and nobody buys in the fall."""


@abm.trader("test_other_side_of_hedges")
class OtherSide(abm.Population):
    """Takes what is missing of a perpetual at the start, and holds it."""

    def setup(self) -> None:
        pass

    def endow(self) -> tuple[Numbers, Coins]:
        return 1e9, 0.0

    def balance(self, instrument: str, lots: int) -> npt.NDArray[np.int64]:
        return np.array([lots])


class TestOptionsDesk(TraderContract):
    kind = "options_desk"
    config: ClassVar[dict[str, Any]] = {
        "instrument": COIN,
        "open_interest": PUTS,
        "band": [1e-5, 2e-5],
        "look": 1,
        "clock": [5, 10],
    }


class TestOptionsDeskInPerpetuals(TraderContract):
    kind = "options_desk"
    config: ClassVar[dict[str, Any]] = {**TestOptionsDesk.config, "instrument": PERP}
    overrides: ClassVar[dict[str, Any]] = {
        "instruments": {PERP: PERPETUAL},
        "traders": {"other": {"kind": "test_other_side_of_hedges"}},
    }
    beside = ("market_makers", "other")

    def market(self, beside: tuple[str, ...] | None = None, **config: Any) -> abm.Market:
        # somebody has to hold the other side of the hedge, even where nobody else is there
        return super().market(None if beside is None else (*beside, "other"), **config)


def desk(
    hours: int = 2, step: str = "10s", spot: dict[str, Any] = SPOT, walls: bool = True, **settings: Any
) -> tuple[abm.Market, OptionsDesk]:
    """A market with a desk, and a wall on every book that a test can move."""
    settings = {"instrument": COIN, "open_interest": PUTS, "band": [0.005, 0.01], **settings}
    traders: dict[str, Any] = {"options_desk": settings}
    instruments: dict[str, Any] = {COIN: spot}
    if settings["instrument"] == PERP:
        traders["other"], instruments[PERP] = {"kind": "test_other_side_of_hedges"}, PERPETUAL
    clock = {"start": "2026-02-05T00:00Z", "end": f"2026-02-05T{hours:02d}:00Z", "step": step}
    parts = {"clock": clock, "recording": {"interval": "1h"}}
    made = abm.Market(
        abm.Scenario.model_validate({"name": "desk", "instruments": instruments, "traders": traders, **parts})
    )
    for name in instruments if walls else ():
        Wall(made, name)
    return made, only(made, OptionsDesk)


def move(made: abm.Market, factor: float) -> None:
    for wall in made.populations:
        if isinstance(wall, Wall):
            wall.price *= factor


# ------------------------------------------------------------------------------------------------------------ hedging


@pytest.mark.parametrize("instrument", [COIN, PERP])
def test_the_desk_starts_hedged(instrument: str) -> None:
    made, dealers = desk(instrument=instrument)
    delta, _ = dealers.sensitivities(PRICE, 0.0)
    by_hand = 0.0
    for put in PUTS:
        years = dealers.contracts["expires"][0] / (365 * 86400)
        volatility = float(dealers.surface.volatility(math.log(put["strike"] / PRICE), years))
        by_hand += put["coins"] * float(black_scholes(PRICE, put["strike"], volatility, years, False).delta)
    assert delta == pytest.approx(by_hand)
    assert delta < 0
    base = 0.0 if instrument == PERP else 1.5 * 10_000
    assert dealers.holdings(instrument).sum() - base == pytest.approx(delta, abs=0.01)
    made.run_for("1h")
    # all have hedged anew by then: what they traded is what time took from the delta, and no more
    later, _ = dealers.sensitivities(PRICE, 3600.0)
    assert volume(made, "hedge", instrument) < 2 * abs(later - delta)
    assert made.result().audit.passed


@pytest.mark.parametrize("instrument", [COIN, PERP])
def test_into_a_fall_it_sells_its_gamma_times_the_fall(instrument: str) -> None:
    made, dealers = desk(instrument=instrument, **STILL)
    made.run_for("1min")
    held, before = dealers.holdings(instrument).sum(), dealers.gamma
    assert before < 0
    move(made, 0.98)
    made.run_for("3min")
    sold = held - dealers.holdings(instrument).sum()
    slope = -(before + dealers.gamma) / 2
    assert sold == pytest.approx(slope * 0.02 * PRICE, rel=0.01)
    assert made.result().audit.passed


def test_where_volatility_rises_it_sells_too() -> None:
    _, dealers = desk()
    before, _ = dealers.sensitivities(PRICE, 0.0)
    dealers.surface.move(1.0, 0.0, 0.0)
    after, _ = dealers.sensitivities(PRICE, 0.0)
    assert after < 1.5 * before < 0


def test_without_a_move_of_its_band_and_before_its_time_a_firm_does_nothing() -> None:
    made, dealers = desk(**STILL, band=[0.005, 0.01], clock=["1h", "1h"])
    made.run_for("1min")
    dealers._hedged_at[:] = 0.0
    made.run_for("2min")
    move(made, 0.9965)
    made.run_for("3min")
    assert volume(made, "hedge") == 0.0
    move(made, 0.9965)
    made.run_for("2min")
    trades = made.result().trades
    sold = set(trades[trades["taker_reason"] == "hedge"]["taker_account"])
    assert sold == set(dealers.rows[dealers._band <= 1 - 0.9965**2].tolist())
    assert 0 < len(sold) < dealers.size
    made.run_for("70min")
    trades = made.result().trades
    assert set(trades[trades["taker_reason"] == "hedge"]["taker_account"]) == set(dealers.rows.tolist())


class FlatBook(abm.Population):
    """Bids of one size at each tick, which do not come back: a price that falls in proportion to what is sold."""

    each: ClassVar[float] = 2.12

    def setup(self) -> None:
        self.wake()

    def endow(self) -> tuple[Numbers, Coins]:
        return 1e9, 0.0

    def decide(self, view: View) -> Records:
        book = view[COIN]
        levels = PRICE - np.arange(1, 1500)
        return join([self.limit_buy(book, price, self.each) for price in levels])


class Seller(abm.Trader):
    """Sells 200 coins, once."""

    def setup(self) -> None:
        self.wake()

    def act(self, view: View) -> None:
        self.sell(COIN, 200.0)


def test_a_fall_is_amplified_by_the_gamma_the_dealers_are_short() -> None:
    """MECHANICS 7, r = r0 / (1 - lambda Gamma$), through the book: a dollar sold lowers the price by lambda, and its fall has Gamma$ sold."""

    def fall(accounts: int) -> tuple[float, float]:
        at_the_money = [{"expiry": EXPIRY, "strike": PRICE, "coins": 20_000.0, "source": "made up"}]
        habits = {"band": [1e-6, 1e-6], "look": 1, **STILL}
        coarse = SPOT | {"tick": 1.0, "lot": 0.001}
        made, dealers = desk(1, "1s", coarse, False, accounts=accounts, open_interest=at_the_money, **habits)
        FlatBook(made, config=TraderConfig(latency=Latency()))
        made.run_for("5s")
        start, gamma = made.view()[COIN].mid, dealers.gamma
        seller = Seller(made, coins=1_000)
        made.run_for("2min")
        assert seller.position(COIN) == 800
        return start - made.view()[COIN].mid, gamma

    alone, _ = fall(0)
    amplified, gamma = fall(1)
    # a dollar is sold at 1 / (bids a tick) ticks; Gamma$ / S is what a dollar of fall makes the dealers sell
    assert amplified / alone == pytest.approx(1 / (1 + gamma / FlatBook.each), rel=0.03)
    assert amplified > 1.8 * alone


# -------------------------------------------------------------------------------------------------------- the surface


def test_in_a_calm_nothing_happens_to_the_surface() -> None:
    made, dealers = desk()
    made.run_for("2h")
    calm = dealers.config.surface.calm
    assert dealers.skew == pytest.approx(calm[-1].rr25, abs=1e-3)
    assert dealers.term_structure <= 0.0
    assert dealers.history["sold"].max() == 0.0


def test_in_a_fall_the_skew_falls_and_the_term_structure_inverts() -> None:
    made, dealers = desk(hours=6, step="1min", window="2h")
    for _ in range(20):
        move(made, 0.992)
        made.run_for("10min")
    history = dealers.history
    at_lows = history.groupby("price")["rr25_30d"].last()  # the index rises
    assert at_lows.is_monotonic_increasing and len(at_lows) == 20
    assert history["rr25_30d"].iloc[-1] < 2 * dealers.config.surface.calm[-1].rr25
    assert dealers.term_structure > 0.05
    assert (history["gamma"] < 0).all()
    assert history["sold"].is_monotonic_increasing
    # customers buy by how low it went, whatever the way there
    fallen = 20 * -math.log(0.992)
    assert history["sold"].iloc[-1] == pytest.approx(dealers.config.demand * 10_000 * fallen, rel=1e-6)
    assert dealers.contracts["coins"].sum() == pytest.approx(10_000 + history["sold"].iloc[-1])
    bought = dealers.contracts[len(PUTS) :]
    assert (bought["strike"] < PRICE).all()
    assert (np.diff(bought["strike"]) < 0).all()


def test_a_rebound_sells_no_more_protection_and_buys_the_hedge_back() -> None:
    made, dealers = desk(hours=6, step="1min", **STILL | {"demand": 0.5})
    move(made, 0.95)
    made.run_for("10min")
    sold, held = dealers.history["sold"].iloc[-1], dealers.holdings(COIN).sum()
    move(made, 1 / 0.95)
    made.run_for("10min")
    move(made, 0.96)
    made.run_for("10min")
    move(made, 1 / 0.96)
    made.run_for("1h")
    assert dealers.history["sold"].iloc[-1] == sold > 0
    assert dealers.holdings(COIN).sum() > held


def test_what_has_expired_is_hedged_no_more() -> None:
    soon = [{"expiry": "2026-02-05T01:00Z", "strike": PRICE, "coins": 1_000.0, "source": "made up"}]
    made, dealers = desk(open_interest=soon)
    made.run_for("30min")
    assert dealers.sensitivities(PRICE, 1800.0)[0] < -100
    made.run_for("90min")
    assert dealers.sensitivities(PRICE, 7200.0) == (0.0, 0.0)
    assert dealers.holdings(COIN).sum() == pytest.approx(1.5 * 1_000, abs=1e-3)


def test_configurations_fit_together() -> None:
    with pytest.raises(ValidationError, match="band must be two numbers above 0"):
        OptionsDeskConfig(band=(0.01, 0.005))
    with pytest.raises(ValidationError, match="source"):
        OptionsDeskConfig.model_validate({"open_interest": [{"expiry": EXPIRY, "strike": 1, "coins": 1}]})
