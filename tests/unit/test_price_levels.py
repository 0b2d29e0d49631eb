"""Levels that wake accounts, against a plain search through all of them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abm.agents.price_levels import PriceLevels

ACCOUNTS = 6
price = st.one_of(st.floats(1.0, 1e6), st.sampled_from([100.0, 100.01, 99.99, 100.0 * math.exp(5e-4)]))
level = st.one_of(price, st.sampled_from([math.nan, math.inf, 0.0, -1.0]))
step = st.one_of(
    st.tuples(st.just("set"), st.dictionaries(st.integers(0, ACCOUNTS - 1), level)),
    st.tuples(st.just("move"), price),
)


@settings(deadline=None, max_examples=300)
@given(st.booleans(), st.lists(step, max_size=30))
def test_who_is_woken_is_whose_level_is_reached(falls: bool, steps: list[tuple[str, object]]) -> None:
    levels, twin = PriceLevels(ACCOUNTS, 100.0, falls=falls), {}
    for what, value in steps:
        if what == "set":
            assert isinstance(value, dict)
            levels.set(np.array(list(value), np.int64), np.array(list(value.values()), np.float64))
            twin |= value
            twin = {account: at for account, at in twin.items() if 0 < at < math.inf}
            continue
        assert isinstance(value, float)
        due = sorted(account for account, at in twin.items() if (value <= at if falls else value >= at))
        assert levels.reached(value).tolist() == due
        twin = {account: at for account, at in twin.items() if account not in due}


def test_a_level_can_be_dropped() -> None:
    levels = PriceLevels(3, 100.0, falls=True)
    levels.set(np.arange(3), np.array([90.0, 91.0, 92.0]))
    levels.drop(np.array([1]))
    assert levels.reached(50.0).tolist() == [0, 2]
    assert levels.reached(50.0).tolist() == []


@pytest.mark.parametrize("falls", [True, False])
def test_a_price_beyond_all_buckets_wakes_too(falls: bool) -> None:
    levels = PriceLevels(1, 100.0, falls=falls)
    levels.set(np.array([0]), np.array([1e-9 if falls else 1e12]))
    assert levels.reached(2e-9 if falls else 5e11).tolist() == []
    assert levels.reached(1e-9 if falls else 1e12).tolist() == [0]
