"""Shapley values: games whose values are known, and the laws that single them out."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abm.random import stream
from analysis.shapley import Coalition, exact, interactions, on_the_way, orders, sampled, standard_error, subsets

PLAYERS = ("a", "b", "c", "d", "e")


def game(worth: Callable[[Coalition], float], players: tuple[str, ...] = PLAYERS) -> dict[Coalition, float]:
    return {coalition: worth(coalition) for coalition in subsets(players)}


def test_in_an_additive_game_each_has_his_own() -> None:
    own = dict(zip(PLAYERS, (3.0, -1.0, 0.0, 2.5, 10.0), strict=True))
    additive = game(lambda coalition: 7.0 + sum(own[player] for player in coalition))
    shares = exact(PLAYERS, additive)
    assert shares.values == pytest.approx(list(own.values()))
    assert not shares.errors.any()
    drawn = sampled(PLAYERS, additive, orders(PLAYERS, 4, stream(1, "a", "b")))
    assert drawn.values == pytest.approx(list(own.values()))
    assert drawn.errors == pytest.approx(0.0)
    assert all(value == pytest.approx(0.0) for value in interactions(PLAYERS, additive).values())


def test_the_glove_game() -> None:
    """One has a left glove and two have right ones; a pair is worth 1: two thirds and a sixth each (Shapley's own kind of example)."""
    players = ("left", "right", "other")
    glove = game(lambda coalition: float("left" in coalition and len(coalition) > 1), players)
    assert exact(players, glove).values == pytest.approx([2 / 3, 1 / 6, 1 / 6])
    between = interactions(players, glove)
    assert between["left", "right"] == pytest.approx(0.5)
    assert between["right", "other"] == pytest.approx(-0.5)  # one is as good as the other


@pytest.mark.parametrize(
    ("weights", "quota", "values"),
    [
        ((1, 1, 1, 1, 1), 3, (1 / 5,) * 5),
        ((50, 49, 1), 51, (2 / 3, 1 / 6, 1 / 6)),
        ((4, 3, 2, 1), 6, (5 / 12, 1 / 4, 1 / 4, 1 / 12)),
    ],
)
def test_majorities(weights: tuple[int, ...], quota: int, values: tuple[float, ...]) -> None:
    """Shapley and Shubik (1954): how often somebody turns a coalition into a winning one."""
    players = PLAYERS[: len(weights)]
    of = dict(zip(players, weights, strict=True))
    voting = game(lambda coalition: float(sum(of[player] for player in coalition) >= quota), players)
    assert exact(players, voting).values == pytest.approx(values)


def test_what_is_drawn_comes_near_within_its_error() -> None:
    """The airport game: who needs the longer runway pays for its last part alone."""
    lengths = dict(zip(PLAYERS, (1.0, 2.0, 3.0, 4.0, 10.0), strict=True))
    airport = game(lambda coalition: max((lengths[player] for player in coalition), default=0.0))
    known = np.cumsum(np.diff([0.0, *lengths.values()]) / np.arange(5, 0, -1))
    assert exact(PLAYERS, airport).values == pytest.approx(known)
    drawn = sampled(PLAYERS, airport, orders(PLAYERS, 400, stream(1, "airport", "orders")))
    assert (drawn.errors > 0).all()
    assert (np.abs(drawn.values - known) < 3.5 * drawn.errors).all()
    each = []
    for k in range(400):
        way = stream(2, "airport", str(k)).permutation(PLAYERS).tolist()
        adds = np.diff([airport[frozenset(way[:many])] for many in range(6)])
        each.append([adds[way.index(player)] for player in PLAYERS])
    assert drawn.errors.sum() < standard_error(np.array(each)).sum()  # of as many orders without their reverses


values = st.lists(st.floats(-1e6, 1e6), min_size=2**4, max_size=2**4)


@settings(max_examples=60, deadline=None)
@given(values, values, st.floats(-10, 10))
def test_the_laws_of_shapley(one: list[float], other: list[float], factor: float) -> None:
    """Efficiency, symmetry, the null player, linearity; for what is drawn as for all orders."""
    players = PLAYERS[:4]
    first, second = (dict(zip(subsets(players), worths, strict=True)) for worths in (one, other))
    ways = orders(players, 6, stream(3, "laws", "orders"))
    for shares in (exact(players, first), sampled(players, first, ways)):
        whole = first[frozenset(players)] - first[frozenset()]
        assert shares.values.sum() == pytest.approx(whole, abs=1e-6)
    both = {coalition: first[coalition] + factor * second[coalition] for coalition in first}
    expected = exact(players, first).values + factor * exact(players, second).values
    assert exact(players, both).values == pytest.approx(expected, abs=1e-5)
    null = {coalition: first[coalition - {"b"}] for coalition in first}
    for shares in (exact(players, null), sampled(players, null, ways)):
        assert shares.values[1] == 0.0
    swapped = {frozenset({"a": "c", "c": "a"}.get(p, p) for p in coalition): v for coalition, v in first.items()}
    alike = {coalition: first[coalition] + swapped[coalition] for coalition in first}
    shares = exact(players, alike).values
    assert shares[0] == pytest.approx(shares[2], abs=1e-5)


def test_games_of_several_numbers_are_several_games() -> None:
    rng = stream(5, "games", "values")
    many = {coalition: rng.random((2, 3)) for coalition in subsets(PLAYERS)}
    shares = exact(PLAYERS, many)
    assert shares.values.shape == (5, 2, 3)
    one = exact(PLAYERS, {coalition: value[1, 2] for coalition, value in many.items()})
    assert shares.values[:, 1, 2] == pytest.approx(one.values)
    drawn = sampled(PLAYERS, many, orders(PLAYERS, 4, rng))
    assert drawn.pairs is not None and drawn.pairs.shape == (2, 5, 2, 3)
    assert drawn.values.sum(axis=0) == pytest.approx(many[frozenset(PLAYERS)] - many[frozenset()])


def test_orders_come_with_their_reverse_and_a_longer_list_begins_like_a_shorter_one() -> None:
    drawn = orders(PLAYERS, 6, stream(1, "x", "y"))
    assert all(order == reverse[::-1] for order, reverse in zip(drawn[0::2], drawn[1::2], strict=True))
    assert orders(PLAYERS, 10, stream(1, "x", "y"))[:6] == drawn
    with pytest.raises(ValueError, match="even number"):
        orders(PLAYERS, 3, stream(1, "x", "y"))


def test_coalitions_on_the_way_are_asked_for_once() -> None:
    ways = on_the_way([("a", "b", "c"), ("c", "b", "a")])
    assert len(ways) == len(set(ways)) == 6  # nobody, all, and two of each size
    assert {len(coalition) for coalition in ways} == {0, 1, 2, 3}
    assert len(subsets(PLAYERS)) == 32 and len(list(combinations(PLAYERS, 2))) == 10
    assert np.isnan(standard_error(np.ones((1, 3)))).all()
