"""Laws of the measures on balance sheets, whatever the network: bounds, what more of something can only do, and plain twins."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from abm.contagion.measures import (
    BlackScholesMerton,
    EisenbergNoe,
    Furfine,
    LinearDebtRank,
    RogersVeraart,
    debtrank,
    eisenberg_noe,
    gai_kapadia,
    neva,
    overlap_cascade,
    watts,
)

Floats = npt.NDArray[np.float64]

often = settings(max_examples=150, deadline=None)
whole = st.integers(0, 9).map(float)  # sums of whole numbers are exact, so that twins agree on what is just reached
fraction = st.integers(0, 16).map(lambda k: k / 16)
VALUATIONS = (
    EisenbergNoe(),
    RogersVeraart(0.7, 0.4),
    Furfine(0.25),
    LinearDebtRank(),
    BlackScholesMerton(0.4, 0.5),
    BlackScholesMerton(0.9, 1.0, 0.5),
)


@st.composite
def networks(draw: Any) -> tuple[Floats, list[float], list[float], list[float]]:
    """Debts, and three lists of as many numbers."""
    n = draw(st.integers(1, 7))
    owed = np.array(draw(st.lists(st.lists(whole, min_size=n, max_size=n), min_size=n, max_size=n)))
    owed *= np.array(draw(st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=n, max_size=n)))
    np.fill_diagonal(owed, 0.0)
    some = st.lists(whole, min_size=n, max_size=n)
    return owed, draw(some), draw(some), draw(some)


def first(network: Any, data: st.DataObject) -> list[int]:
    return data.draw(st.lists(st.integers(0, len(network[1]) - 1), min_size=1, max_size=3, unique=True))


# ------------------------------------------------------------------------------------------------ clearing, valuation


@often
@given(networks(), st.sampled_from(["external_first", "equal"]))
def test_nobody_pays_more_than_it_owes_or_has_and_more_assets_harm_nobody(network: Any, seniority: Any) -> None:
    owed, assets, more, debts = network
    if seniority == "external_first":
        debts = np.minimum(debts, assets)
    poor = eisenberg_noe(owed, assets, debts, seniority=seniority)
    rich = eisenberg_noe(owed, np.add(assets, more), debts, seniority=seniority)
    assert (poor["payments"] >= 0).all() and (poor["payments"] <= poor["obligations"]).all()
    assert (poor["equity"] >= -1e-9).all()
    assert (rich["payments"] >= poor["payments"] - 1e-9).all()
    assert (rich["equity"] >= poor["equity"] - 1e-9).all()
    assert ((rich["round"] > 0) <= (poor["round"] > 0)).all()
    sound = poor["round"] == 0
    assert (poor["payments"][sound] == poor["obligations"][sound]).all()
    assert (poor["equity"][~sound] == 0).all()
    # What there was went to the owners or outside
    outside = (poor["recovery"] * debts).sum() if seniority == "equal" else np.sum(debts)
    assert math.isclose(poor["equity"].sum() + outside, sum(assets), abs_tol=1e-8)


@often
@given(networks(), st.sampled_from(["external_first", "equal"]))
def test_the_valuation_at_maturity_is_the_clearing_vector(network: Any, seniority: Any) -> None:
    owed, assets, _, debts = network
    if seniority == "external_first":
        debts = np.minimum(debts, assets)
    table = eisenberg_noe(owed, assets, debts, seniority=seniority)
    valued = neva(owed, assets, debts, seniority=seniority)
    np.testing.assert_allclose(valued["claim_value"] * table["obligations"], table["payments"], atol=1e-10)
    np.testing.assert_allclose(valued["equity"].clip(lower=0), table["equity"], atol=1e-10)


@often
@given(networks(), st.sampled_from(VALUATIONS), st.sampled_from(["external_first", "equal"]), fraction)
def test_values_are_fractions_solve_their_equation_and_fall_with_a_loss(
    network: Any, valuation: Any, seniority: Any, part: float
) -> None:
    owed, assets, _, debts = network
    valued = neva(owed, assets, debts, valuation=valuation, seniority=seniority)
    hurt = neva(owed, assets, debts, loss=np.multiply(assets, part), valuation=valuation, seniority=seniority)
    for table, kept in ((valued, 1.0), (hurt, 1.0 - part)):
        value, equity = table["claim_value"].to_numpy(), table["equity"].to_numpy()
        assert (value >= 0).all() and (value <= 1).all()
        assert (equity <= table["book_equity"]).all()
        own, lent = valuation.keeps(equity < -1e-9)
        net = own * np.multiply(assets, kept) - debts + lent * (value @ owed) - owed.sum(axis=1)
        np.testing.assert_allclose(equity, net, atol=1e-9)
    assert (hurt["equity"] <= valued["equity"] + 1e-9).all()
    if not isinstance(valuation, BlackScholesMerton):  # there assets of less worth are also of less uncertain worth
        assert (hurt["claim_value"] <= valued["claim_value"] + 1e-9).all()


@often
@given(networks(), st.floats(0.05, 1), st.floats(0.05, 1))
def test_more_uncertainty_about_assets_makes_no_claim_worth_more(network: Any, one: float, other: float) -> None:
    owed, assets, _, debts = network
    calm, wild = sorted((one, other))
    try:
        before, after = (neva(owed, assets, debts, valuation=BlackScholesMerton(each)) for each in (calm, wild))
    except (
        RuntimeError
    ):  # among banks that have failed a loop may pass on all but nothing of a loss: there neva gives up and says so
        reject()
    sound = before["equity"] >= 0  # to creditors of a bank that has failed uncertainty is the only hope
    if sound.all():
        assert (after["claim_value"] <= before["claim_value"] + 1e-9).all()


# ----------------------------------------------------------------------------------------------------------- DebtRank


def once(owed: Floats, shock: list[float], equity: list[float]) -> list[float]:
    """DebtRank in plain Python, with the three states of the paper."""
    n = len(shock)
    h, states = list(shock), ["D" if x > 0 else "U" for x in shock]
    while "D" in states:
        lost = [sum(min(1, owed[j][i] / equity[i]) * h[j] for j in range(n) if states[j] == "D") for i in range(n)]
        h = [min(1.0, h[i] + lost[i]) for i in range(n)]
        states = ["I" if states[i] in "DI" else "D" if h[i] > 0 else "U" for i in range(n)]
    return h


@often
@given(networks(), st.data(), st.booleans())
def test_distress_is_a_fraction_that_grows_with_the_shock(network: Any, data: st.DataObject, linear: bool) -> None:
    owed, equity = network[0], np.add(network[1], 10)
    shares = st.lists(fraction, min_size=len(equity), max_size=len(equity))
    one, other = data.draw(shares), data.draw(shares)
    small, large = np.minimum(one, other), np.maximum(one, other)
    if not linear:
        small = np.where(large > 0, np.maximum(small, 1 / 32), 0)  # who is shocked at all has its turn at once
        large = np.maximum(small, large)
    try:
        less, more = (debtrank(owed, shock, equity, linear=linear) for shock in (small, large))
    except RuntimeError:
        assert linear
        return
    for found in (less, more):
        assert (found.distress >= found.shock).all() and (found.distress <= 1).all()
        assert 0 <= found.value <= found.total <= 1 + 1e-12
    assert (more.distress >= less.distress - 1e-12).all()
    assert more.total >= less.total - 1e-12


@often
@given(networks(), st.data())
def test_debtrank_is_that_of_the_plain_twin_and_at_most_the_linear_one(network: Any, data: st.DataObject) -> None:
    owed, equity = network[0], np.add(network[1], 20)
    shock = data.draw(st.lists(fraction, min_size=len(equity), max_size=len(equity)))
    found = debtrank(owed, shock, equity)
    np.testing.assert_allclose(found.distress, once(owed, shock, equity.tolist()), atol=1e-12)
    linear = debtrank(owed, shock, equity * 3, linear=True)  # so that no loop passes on all of it
    assert (linear.distress >= debtrank(owed, shock, equity * 3).distress - 1e-12).all()


# ----------------------------------------------------------------------------------------------------------- cascades


def fallen(owed: Floats, shocked: list[int], capital: list[float]) -> list[int]:
    """Rounds of failures in plain Python."""
    n = len(capital)
    rounds = [0 if i in shocked else -1 for i in range(n)]
    for number in range(1, n + 1):
        lost = [sum(owed[j][i] for j in range(n) if rounds[j] >= 0) for i in range(n)]
        for i in range(n):
            if rounds[i] < 0 and lost[i] > capital[i]:
                rounds[i] = number
    return rounds


@often
@given(networks(), st.data())
def test_a_cascade_is_that_of_the_plain_twin_and_grows_with_shocks_and_shrinks_with_capital(
    network: Any, data: st.DataObject
) -> None:
    owed, capital, more, _ = network
    shocked = first(network, data)
    cascade = gai_kapadia(owed, shocked, capital)
    assert cascade.rounds.tolist() == fallen(owed, shocked, capital)
    assert (gai_kapadia(owed, shocked[:1], capital).failed <= cascade.failed).all()
    assert (gai_kapadia(owed, shocked, np.add(capital, more)).failed <= cascade.failed).all()
    assert (gai_kapadia(owed, shocked, capital, recovery=0.5).failed <= cascade.failed).all()
    assert len(shocked) / len(capital) <= cascade.extent <= 1
    assert np.array_equal(gai_kapadia(owed * 0.3, shocked, np.multiply(capital, 0.3)).rounds, cascade.rounds)


@often
@given(networks(), st.data())
def test_thresholds_are_those_of_the_plain_twin(network: Any, data: st.DataObject) -> None:
    owed, n = network[0], len(network[1])
    shocked = first(network, data)
    shares = data.draw(st.lists(st.integers(1, 12), min_size=n, max_size=n))  # of twelve
    rounds = [0 if i in shocked else -1 for i in range(n)]
    for number in range(1, n + 1):
        was = list(rounds)
        for i in range(n):
            seen = [was[j] >= 0 for j in range(n) if owed[j][i] > 0]
            if rounds[i] < 0 and seen and 12 * sum(seen) >= shares[i] * len(seen):
                rounds[i] = number
    found = watts(owed, shocked, [k / 12 for k in shares])
    assert found.rounds.tolist() == rounds
    assert (watts(owed, shocked, 1).failed <= found.failed).all()


def sold(
    holdings: Floats, equity: list[float], shocked: list[int], falls: dict[int, float], impact: float
) -> tuple[list[int], list[float]]:
    """Fire sales in plain Python: rounds of failures, and prices."""
    banks, assets = range(len(holdings)), range(len(holdings[0]))
    rounds = [0 if i in shocked else -1 for i in banks]
    number = 0
    while True:
        number += 1
        prices = []
        for j in assets:
            total, gone = sum(holdings[i][j] for i in banks), sum(holdings[i][j] for i in banks if rounds[i] >= 0)
            prices.append((1 - falls.get(j, 0)) * math.exp(-impact * (gone / total if total else 0)))
        new = [
            i
            for i in banks
            if rounds[i] < 0 and sum(holdings[i][j] * (1 - prices[j]) for j in assets) > equity[i] * (1 + 1e-12)
        ]
        if not new:
            return rounds, prices
        for i in new:
            rounds[i] = number


@often
@given(st.data(), st.integers(1, 6), st.integers(1, 5), st.sampled_from([0.0, 0.5, 1.0536, 3.0]))
def test_fire_sales_are_those_of_the_plain_twin_and_grow_with_impact(
    data: st.DataObject, banks: int, assets: int, impact: float
) -> None:
    rows = st.lists(st.one_of(st.just(0.0), whole), min_size=assets, max_size=assets)
    holdings = np.array(data.draw(st.lists(rows, min_size=banks, max_size=banks)))
    equity = data.draw(st.lists(st.floats(0, 9), min_size=banks, max_size=banks))
    shocked = data.draw(st.lists(st.integers(0, banks - 1), max_size=2, unique=True))
    falls = data.draw(st.dictionaries(st.integers(0, assets - 1), fraction, max_size=2))
    cascade = overlap_cascade(holdings, equity, shocked=shocked, devalued=falls, impact=impact)
    rounds, prices = sold(holdings, equity, shocked, falls, impact)
    assert cascade.rounds.tolist() == rounds
    np.testing.assert_allclose(cascade.prices, prices, rtol=1e-12)
    larger = overlap_cascade(holdings, equity, shocked=shocked, devalued=falls, impact=impact + 1)
    assert (cascade.failed <= larger.failed).all()
    assert (cascade.prices >= larger.prices).all()


@often
@given(networks(), st.data(), st.sampled_from(VALUATIONS))
def test_numbering_does_not_matter(network: Any, data: st.DataObject, valuation: Any) -> None:
    owed, assets, capital, debts = network
    order = np.array(data.draw(st.permutations(range(len(assets)))))
    there, a, c, d = owed[np.ix_(order, order)], *(np.array(x)[order] for x in (assets, capital, debts))
    shocked = first(network, data)
    moved = [int(np.flatnonzero(order == node)[0]) for node in shocked]
    assert np.array_equal(gai_kapadia(there, moved, c).rounds, gai_kapadia(owed, shocked, capital).rounds[order])
    one, other = neva(owed, assets, debts, valuation=valuation), neva(there, a, d, valuation=valuation)
    np.testing.assert_allclose(other["equity"], one["equity"].to_numpy()[order], atol=1e-9)


def test_prices_fall_with_what_is_sold() -> None:
    prices = [overlap_cascade(np.ones((10, 1)), 9, shocked=range(k)).prices[0] for k in range(10)]
    assert all(high > low for high, low in pairwise(prices))
    assert prices[0] == 1
