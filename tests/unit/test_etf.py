"""Funds: the fixing of their net asset value, and the flows that their desks bring to the market."""

import math
from datetime import date
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import ValidationError

import abm
from abm.agents.etf import EtfAllocators, EtfConfig, Flow, Response
from abm.testing import TraderContract
from abm.world.etf import FixingClock, Fund, fixing_price, volume_weighted_median
from tests.unit.walls import SPOT, Wall, only, volume

COIN = "btc-spot"
AFTERNOON = {"start": "2026-02-05T18:00Z", "end": "2026-02-05T21:05Z", "step": "5s"}
"""13:00 to 16:05 in New York."""


class TestEtf(TraderContract):
    kind = "etf"
    config: ClassVar[dict[str, Any]] = {
        "flows": [{"day": "2026-02-05", "usd": -50e6, "source": "made up"}],
        "slice": "5s",
    }
    overrides: ClassVar[dict[str, Any]] = {"clock": {"start": "2026-02-05T19:59Z", "end": "2026-02-05T20:10Z"}}


def funds(clock: dict[str, str] = AFTERNOON, **settings: Any) -> tuple[abm.Market, EtfAllocators, Wall]:
    """A market of funds alone, with a wall at 73 100."""
    parts = {"clock": clock, "instruments": {COIN: SPOT}, "traders": {"etf": settings}, "recording": {"interval": "1h"}}
    made = abm.Market(abm.Scenario.model_validate({"name": "funds", **parts}))
    return made, only(made, EtfAllocators), Wall(made, COIN)


# ------------------------------------------------------------------------------------------------------- the fixing


def test_the_weighted_median_is_that_of_the_trades_written_out_one_by_one() -> None:
    rng = np.random.default_rng(3)
    for n in (1, 2, 5, 40):
        prices, volumes = rng.integers(100, 120, n), rng.integers(1, 9, n)
        assert volume_weighted_median(prices, volumes) == np.median(np.repeat(prices, volumes))


def test_the_fixing_is_the_mean_of_the_medians_of_its_parts() -> None:
    # An outlier of little volume does not count, nor does how much traded in a part.
    when = [0, 10, 20, 300, 310, 3599.9]
    prices = [100.0, 500.0, 101.0, 200.0, 202.0, 303.0]
    volumes = [4.0, 1.0, 5.0, 50.0, 50.0, 1.0]
    assert fixing_price(when, prices, volumes, 0, 3600) == pytest.approx((101 + 201 + 303) / 3)
    # what is outside the hour is left out; a part without trades counts for nothing
    assert fixing_price([-1, 5, 3600], [9.0, 100.0, 9.0], [1, 1, 1], 0, 3600) == 100.0
    assert math.isnan(fixing_price([], [], [], 0, 3600))


def test_the_clock_fixes_the_price_from_the_trades_of_the_hour() -> None:
    clock = AFTERNOON | {"start": "2026-02-05T19:50Z", "step": "10s"}
    busy = abm.Market(abm.load("first-hour", clock=clock))
    fixing = FixingClock(busy, COIN)
    busy.run_for("35min")
    assert fixing.prices == {}
    busy.result()  # looking at the run so far changes nothing
    busy.run_for("36min")
    trades = busy.result().trades
    seconds = (trades["time"] - trades["time"].dt.floor("D")).dt.total_seconds()
    expected = fixing_price(seconds, trades["price"], trades["quantity"], 20 * 3600, 21 * 3600)
    assert fixing.prices == {date(2026, 2, 5): pytest.approx(expected, rel=1e-12)}
    assert trades["price"].min() < expected < trades["price"].max()


def test_where_nothing_traded_there_is_no_price() -> None:
    made, _, _ = funds(AFTERNOON | {"step": "60s"}, response=None)
    fixing = FixingClock(made, COIN)
    made.run_for("185min")
    assert math.isnan(fixing.prices[date(2026, 2, 5)])


def test_a_share_is_worth_the_coins_behind_it() -> None:
    fund = Fund()
    assert fund.basket_coins == pytest.approx(22.72)
    assert fund.indicative_value(73_100.0) * fund.basket == pytest.approx(fund.basket_coins * 73_100)


# -------------------------------------------------------------------------------------------------------- the flows


def test_funds_sell_what_is_redeemed_in_the_session_and_most_of_it_in_the_fixing_hour() -> None:
    redemption = [{"day": "2026-02-05", "usd": -20e6, "source": "made up"}]
    busy = abm.Market(abm.load("first-hour", clock=AFTERNOON, **{"traders.etf.flows": redemption}))
    allocators = next(p for p in busy.populations if isinstance(p, EtfAllocators))
    cash = allocators.cash.sum()
    busy.run_for("2h")
    before = allocators.cash.sum() - cash
    busy.run_for("65min")
    after = allocators.cash.sum() - cash
    # 60 % in the hour from 20:00; of the rest, the run sees what falls between 18:00 and 20:00 of 14:30 to 20:00
    assert before == pytest.approx(8e6 * 2 / 5.5, rel=0.02)
    assert after - before == pytest.approx(12e6, rel=0.02)
    assert volume(busy, "creation") == 0.0


def test_flows_are_shared_out_among_the_groups() -> None:
    shares = [0.5, 0.3, 0.2]
    made, allocators, _ = funds(
        accounts=3, shares=shares, flows=[{"day": "2026-02-05", "usd": 1e6, "source": "x"}] * 2, fixing_share=1.0
    )
    held = allocators.holdings()
    made.run_for("185min")
    assert (allocators.holdings() - held) * 73_100 == pytest.approx(2e6 * np.array(shares), rel=1e-3)
    assert allocators.flows[date(2026, 2, 5)].sum() == pytest.approx(2e6)


def test_a_flow_follows_the_formula() -> None:
    response, none = Response(), np.zeros(1)
    rise = response.fraction(0.04, none, 0.0, 0.0, none)[0]
    assert rise == pytest.approx(response.trend * math.tanh(1.0))
    fall = response.fraction(-0.14, np.array([-0.004]), 0.25, -0.05, np.array([0.001]))[0]
    parts = (
        -response.trend * math.tanh(3.5),
        response.memory * -0.004,
        -response.loss * 0.25,
        response.news * -0.05,
        0.001,
    )
    assert fall == pytest.approx(sum(parts))


def test_a_session_answers_the_last_day_and_is_decided_anew_when_the_fixing_opens() -> None:
    clock = {"start": "2026-02-05T00:00Z", "end": "2026-02-05T21:05Z", "step": "30s"}
    quiet = {"noise": 0.0, "loss": 0.0, "news": 0.0}
    made, allocators, wall = funds(clock, response=quiet, slice="30s", flow_before=-100e6)
    response, worth = Response(**quiet), 1.285e6 * 73_100
    made.run_for("12h")
    wall.price *= 0.96
    made.run_for("3h")
    before = np.full(5, -100e6 / worth)
    first = response.fraction(-0.04, before, 0.0, 0.0, np.zeros(5))[0]
    assert allocators.flows[date(2026, 2, 5)].sum() == pytest.approx(0.4 * first * worth * 0.96, rel=1e-3)
    wall.price *= 0.9
    made.run_for("365min")
    second = response.fraction(0.864 - 1.0, before, 0.0, 0.0, np.zeros(5))[0]
    coins = allocators.holdings().sum()
    planned = allocators.flows[date(2026, 2, 5)].sum()
    # what the desks sold by then is not redeemed again
    assert planned == pytest.approx(second * worth * 0.864, rel=5e-3)
    assert coins == pytest.approx(1.285e6 - 0.4 * first * worth * -0.96 / (73_100 * 0.96), rel=5e-3)
    assert planned < 0


def test_the_flow_of_a_session_is_remembered_in_the_next() -> None:
    clock = {"start": "2026-02-05T14:00Z", "end": "2026-02-06T21:05Z", "step": "60s"}
    given = [{"day": "2026-02-05", "usd": -900e6, "source": "made up"}]
    made, allocators, _ = funds(
        clock, flows=given, response={"noise": 0.0, "loss": 0.0, "news": 0.0}, slice="60s", slippage=0.1
    )
    made.run_for("31h")
    first, second = (allocators.flows[date(2026, 2, day)].sum() for day in (5, 6))
    assert first == pytest.approx(-900e6)
    # the wall stands still: memory is all there is
    assert second == pytest.approx(0.35 * first, rel=0.02)


def test_losses_and_news_move_flows_and_noise_has_the_deviation_of_all_funds_together() -> None:
    def first(**settings: Any) -> float:
        made, allocators, _ = funds(AFTERNOON | {"step": "60s"}, **settings)
        made.run_for("10min")
        return float(allocators.flows[date(2026, 2, 5)].sum()) / (0.4 * 1.285e6 * 73_100)

    quiet = {"noise": 0.0, "news": 0.0}
    loss = 1 - 73_100 / 84_100
    assert first(response=quiet) == pytest.approx(-Response().loss * loss)
    assert first(response=quiet, average_cost=60_000) == 0.0
    made, allocators, _ = funds(AFTERNOON | {"step": "60s"}, response={"noise": 0.0, "loss": 0.0})
    made._fundamentals[COIN][1:] *= 0.9
    made.run_for("121min")
    worth = 1.285e6 * 73_100
    assert allocators.flows[date(2026, 2, 5)].sum() == pytest.approx(Response().news * math.log(0.9) * worth)
    made, allocators, _ = funds()
    draws = np.array([allocators._draw_surprise() for _ in range(4000)]) @ allocators._split
    assert draws.std() == pytest.approx(Response().noise, rel=0.05)


def test_without_a_response_only_what_is_put_in_flows() -> None:
    made, allocators, _ = funds(response=None)
    made.run_for("185min")
    assert volume(made, "redemption") == volume(made, "creation") == 0.0
    assert allocators.flows[date(2026, 2, 5)].sum() == 0.0


def test_a_desk_trades_what_is_ordered_in_coins_and_not_what_came_in_kind() -> None:
    made, allocators, _ = funds(response=None)
    held = allocators.holdings()
    made.run_for("1h")
    allocators.order(np.array([100.0, -50.0, 0, 0, 0]), 3600.0, 7200.0)
    made.house.credit(allocators.rows[2:3], "creation", coins=10.0, instrument=COIN)
    allocators.in_kind[2] += 10.0
    made.run_for("61min")
    assert (allocators.holdings() - held).round(3).tolist() == [100.0, -50.0, 10.0, 0.0, 0.0]


def test_a_fund_ahead_of_its_plan_waits() -> None:
    made, allocators, _ = funds(response=None, flows=[{"day": "2026-02-05", "usd": -20e6, "source": "x"}])
    made.run_for("10min")
    allocators._wanted += 100.0  # as though it had sold too much
    made.run_for("10min")
    assert volume(made, "creation") == 0.0


def test_flows_need_a_weekday_and_the_fixing_a_session() -> None:
    with pytest.raises(ValidationError, match="is a Saturday: there is no session"):
        Flow(day=date(2026, 2, 7), usd=1.0, source="x")
    with pytest.raises(ValidationError, match="fixing must lie within hours"):
        EtfConfig.model_validate({"fixing": {"opens": "08:00", "closes": "09:00"}})
    with pytest.raises(ValidationError, match="give one for each group"):
        EtfConfig(accounts=2)
