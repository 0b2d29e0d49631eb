"""Fundamental values: what jumps and the pace of news add to the random walk."""

import math

import numpy as np
import pytest
from pydantic import ValidationError

import abm
from abm.clock import Clock
from abm.world.fundamental import Fundamental, Jumps, Pace, fundamental_path

CLOCK = Clock.model_validate({"start": "2026-01-05T00:00Z", "end": "2026-07-04T00:00Z", "step": "10s"})


def test_jumps_come_as_often_and_as_large_as_they_are_told_to() -> None:
    """P(size > x) = (x / least)^-tail at random times, up and down alike."""
    jumps = Jumps(per_day=50.0, least=0.004, tail=3.0)
    moves = jumps.draw(CLOCK, 1, "coin")
    found = moves[moves != 0]
    together = 50 * 10 / 86_400  # how likely another one falls into the same step
    expected = 180 * 50
    assert len(found) == pytest.approx(expected, abs=4 * math.sqrt(expected) + together * expected)
    for ratio in (1.5, 2.0, 4.0):
        share = ratio**-3.0
        error = math.sqrt(share / len(found))
        assert (np.abs(found) > 0.004 * ratio).mean() == pytest.approx(share, abs=4 * error + together)
    assert (found > 0).mean() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(len(found)))


def test_the_walk_between_jumps_is_the_one_without() -> None:
    plain = Fundamental(volatility=0.4)
    jumping = plain.model_copy(update={"jumps": Jumps(per_day=2.0, least=0.004, tail=3.0)})
    moves = [np.diff(np.log(fundamental_path(config, 100.0, CLOCK, 3, "coin"))) for config in (plain, jumping)]
    added = moves[1] - moves[0]
    at = np.abs(added) > 1e-9
    assert at.sum() == pytest.approx(2 * 180, abs=4 * math.sqrt(2 * 180))
    assert (np.abs(added[at]) >= 0.004 - 1e-9).all()


def test_a_claim_jumps_with_what_it_is_a_claim_on() -> None:
    with pytest.raises(ValidationError, match="loadings, pace and jumps are those of what it is a claim on"):
        Fundamental(of="coin", jumps=Jumps(per_day=1.0, least=0.004, tail=3.0))
    with pytest.raises(ValidationError, match="tail"):
        Jumps(per_day=1.0, least=0.004, tail=2.0)  # sizes would have no variance


def test_the_pace_is_lognormal_with_its_memory_and_one_on_average() -> None:
    pace = Pace(deviation=0.5, half_life=3600).path(CLOCK, 1, "coin")
    logarithm = np.log(pace)
    # 180 days are some 1 500 memories of 2.9 hours (twice the half-life over ln 2).
    assert logarithm.std() == pytest.approx(0.5, rel=4 / math.sqrt(2 * 1500))
    assert pace.mean() == pytest.approx(1.0, abs=4 * 0.55 / math.sqrt(1500))
    assert np.corrcoef(logarithm[:-360], logarithm[360:])[0, 1] == pytest.approx(0.5, abs=0.06)


def test_jumps_follow_the_pace() -> None:
    second = np.arange(CLOCK.steps) >= CLOCK.steps // 2
    found = Jumps(per_day=5.0, least=0.004, tail=3.0).draw(CLOCK, 1, "coin", np.where(second, 1.8, 0.2)) != 0
    for part, rate in ((second, 1.8), (~second, 0.2)):
        expected = 90 * 5 * rate
        assert found[part].sum() == pytest.approx(expected, abs=4 * math.sqrt(expected))


def test_trading_follows_the_pace() -> None:
    scenario = abm.load(
        "first-hour",
        traders={"retail": None, "value": None},
        fundamentals={"btc-spot": {"pace": {"deviation": 1.0, "half_life": "10min"}}},
    )
    market = abm.Market(scenario)
    paces = []
    for _ in range(60):
        paces.append(market.pace("btc-spot"))
        market.run_for("1min")
    volume = market.result().bars["volume"].to_numpy()
    assert np.corrcoef(np.log(paces), np.log(volume))[0, 1] > 0.5


def test_a_claim_has_the_pace_of_what_it_is_a_claim_on() -> None:
    values = {"btc-spot": {"pace": {"deviation": 1.0, "half_life": "10min"}}, "btc-perp": {"of": "btc-spot"}}
    market = abm.Market(abm.load("calm", clock={"end": "2026-01-05T00:10Z"}, fundamentals=values, traders={}))
    assert market.pace("btc-spot") == market.pace("btc-perp") != 1.0
