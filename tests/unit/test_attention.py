"""Attention: what the rate of trading is after a move, before there is a history, and by the hour."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from abm.agents.attention import Attention, stir
from abm.agents.execution import CURVES, DAY
from abm.world.fundamental import YEAR


def _book(mid: float, before: float) -> Any:
    return SimpleNamespace(mid=mid, mid_before=lambda horizon: before)


def test_nothing_moved_leaves_the_share_that_does_not_look_at_prices() -> None:
    attention = Attention(horizons=(300, 3600), weights=(0.3, 0.2))
    assert attention.factor(_book(100.0, 100.0), elapsed=7200.0, began=0.0) == pytest.approx(0.5)


def test_a_calm_move_leaves_the_rate_as_it_is_and_a_large_one_at_most_so_many_times() -> None:
    attention = Attention(horizons=(300,), weights=(0.3,), calm_volatility=0.4, most=5.0)
    calm = 0.4 * math.sqrt(300.0 / YEAR)
    assert attention.factor(_book(100.0 * math.exp(calm), 100.0), 7200.0, 0.0) == pytest.approx(1.0)
    assert attention.factor(_book(100.0 * math.exp(-3 * calm), 100.0), 7200.0, 0.0) == pytest.approx(0.7 + 0.3 * 9)
    assert attention.factor(_book(100.0 * math.exp(50 * calm), 100.0), 7200.0, 0.0) == 5.0


def test_what_came_before_the_start_was_calm() -> None:
    attention = Attention(horizons=(300, 3600), weights=(0.3, 0.2))
    assert attention.factor(_book(100.0, 100.0), elapsed=600.0, began=0.0) == pytest.approx(0.7)
    assert attention.factor(_book(110.0, 100.0), elapsed=0.0, began=0.0) == pytest.approx(1.0)


def test_a_day_of_the_curve_is_a_day_of_trading_by_the_clock_of_the_market() -> None:
    attention, volumes = Attention(curve="crypto"), CURVES["crypto"][2]
    rates = [attention.factor(_book(1.0, 1.0), 3600.0 * hour, began=3 * 3600.0) for hour in range(24)]
    assert sum(rates) == pytest.approx(24)
    assert rates[2] / rates[0] == pytest.approx(volumes[5] / volumes[3])
    assert attention.factor(_book(1.0, 1.0), 5.0 * DAY, 3 * 3600.0) == pytest.approx(rates[0])


@pytest.mark.parametrize(("hour", "day", "is_"), [(0.02, 0.03, 2.0), (0.0, -0.12, 12 / 24**0.5), (-0.03, -0.12, 3.0)])
def test_what_stirs_is_the_move_of_an_hour_or_that_of_a_day_for_its_length(hour: float, day: float, is_: float) -> None:
    book: Any = SimpleNamespace(return_over=lambda window: {3600.0: hour, 86_400.0: day}[window])
    assert stir(book) == pytest.approx(is_)
