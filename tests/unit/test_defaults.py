"""Measures on balance sheets: cases solved by hand, plain twins, and what bad input is answered."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.sparse import coo_array, csr_array
from scipy.stats import norm

from abm.contagion.measures import (
    BlackScholesMerton,
    Books,
    EisenbergNoe,
    Furfine,
    LinearDebtRank,
    RogersVeraart,
    Valuation,
    balance_sheets,
    debtrank,
    eisenberg_noe,
    gai_kapadia,
    neva,
    overlap_cascade,
    watts,
)

Floats = npt.NDArray[np.float64]

OWED = [[0, 10, 0, 0, 2], [0, 0, 9, 0, 3], [0, 0, 0, 8, 3], [1, 0, 0, 0, 6], [2, 2, 2, 2, 0]]
MEANS = [1, 3, 4, 6, 4]


def three_banks() -> nx.DiGraph:
    """A owes B 10, B owes C 8, C owes A 5, and each owes to others outside."""
    graph = nx.DiGraph()
    graph.add_node("A", external_assets=4, external_liabilities=3)
    graph.add_node("B", external_assets=6, external_liabilities=2)
    graph.add_node("C", external_assets=10, external_liabilities=1)
    graph.add_weighted_edges_from([("A", "B", 10), ("B", "C", 8), ("C", "A", 5)])
    return graph


def random_network(rng: np.random.Generator, most: int = 9) -> tuple[Floats, Floats, Floats]:
    """Debts, external assets and external liabilities."""
    n = int(rng.integers(1, most))
    owed = rng.exponential(1.0, (n, n)) * (rng.random((n, n)) < rng.random())
    np.fill_diagonal(owed, 0.0)
    return owed, rng.exponential(2.0, n) * (rng.random(n) < 0.8), rng.exponential(0.7, n) * (rng.random(n) < 0.7)


# ------------------------------------------------------------------------------------------------------ what is given


def test_a_graph_becomes_matrices_in_its_own_order_and_parallel_edges_add_up() -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("late", capital=3)
    graph.add_node("early", capital=5)
    graph.add_edge("early", "late", weight=2)
    graph.add_edge("early", "late", weight=0.5)
    graph.add_edge("late", "early", weight=1)
    sheets = balance_sheets(graph, "capital")
    assert sheets.nodes == ("late", "early")
    assert sheets.liabilities.toarray().tolist() == [[0, 1], [2.5, 0]]
    assert sheets.amounts["capital"].tolist() == [3, 5]


@pytest.mark.parametrize(
    "given",
    [
        lambda owed: np.array(owed),
        lambda owed: csr_array(np.array(owed, float)),
        lambda owed: coo_array(np.array(owed, float)),
        lambda owed: pd.DataFrame(owed),
        lambda owed: nx.from_numpy_array(np.array(owed, float), create_using=nx.DiGraph),
    ],
)
@pytest.mark.parametrize("amounts", [list, tuple, np.array, pd.Series, lambda x: dict(enumerate(x))])
def test_a_network_may_be_given_in_many_ways(given: Callable[..., Any], amounts: Callable[..., Any]) -> None:
    table = eisenberg_noe(given(OWED), amounts(MEANS))
    np.testing.assert_allclose(table["payments"], [4, 25 / 3, 11, 7, 8], atol=1e-12)


def test_entries_of_a_sparse_matrix_that_stand_twice_add_up_and_it_is_left_as_it_was() -> None:
    twice = csr_array((np.array([1.0, 2.0]), np.array([1, 1]), np.array([0, 2, 2])), shape=(2, 2))
    assert gai_kapadia(twice, 0, [9, 2.5]).rounds.tolist() == [0, 1]
    assert twice.nnz == 2


def test_what_is_given_by_label_is_matched_by_label() -> None:
    series = pd.Series({"C": 10.0, "A": 4.0, "B": 6.0})
    pd.testing.assert_frame_equal(eisenberg_noe(three_banks(), series), eisenberg_noe(three_banks()))
    assert eisenberg_noe(three_banks()).index.tolist() == ["A", "B", "C"]


BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: gai_kapadia(nx.DiGraph(), 0, 1), "the network has no nodes; add at least one"),
    (lambda: gai_kapadia([], 0, 1), "must be a square matrix, row owes to column, not of shape (0,)"),
    (lambda: gai_kapadia(np.zeros((0, 0)), 0, 1), "the network has no nodes; add at least one"),
    (lambda: gai_kapadia([[0, 1, 2], [0, 0, 1]], 0, 1), "not of shape (2, 3)"),
    (lambda: gai_kapadia([[0, -1], [0, 0]], 0, 1), "node 0 owes -1.0 to 1: must be finite and not negative; mend"),
    (lambda: gai_kapadia([[0, 0], [math.nan, 0]], 0, 1), "node 1 owes nan to 0: must be finite"),
    (lambda: gai_kapadia([[0, 1], [1, math.inf]], 0, 1), "node 1 owes inf to 1: must be finite"),
    (lambda: gai_kapadia([[0, 1], [1, 3]], 0, 1), "node 1 owes to itself; remove that edge"),
    (lambda: gai_kapadia([[0, 1], [1, 0]], 2, 1), "shocked node 2 is not in the network; its nodes begin with 0"),
    (lambda: gai_kapadia(three_banks(), ["A", "D"], 1), "shocked node 'D' is not in the network; its nodes begin"),
    (lambda: gai_kapadia(three_banks(), "AB", 1), "shocked node 'AB' is not in the network"),
    (lambda: gai_kapadia(three_banks(), "A"), "node 'A' has no attribute 'capital'; set it, or give capital as"),
    (lambda: gai_kapadia(OWED, 0), "capital = 'capital' names a node attribute, but a matrix has none; give numbers"),
    (lambda: gai_kapadia(three_banks(), "A", {"A": 1, "B": 2}), "capital: node 'C' is missing; give a number for each"),
    (lambda: gai_kapadia(three_banks(), "A", {"A": 1, "Z": 2}), "capital: 'Z' is not a node of the network"),
    (lambda: gai_kapadia(three_banks(), "A", [1, 2]), "capital must be one number for each of 3 nodes, not of shape"),
    (lambda: gai_kapadia(three_banks(), "A", [1, -2, 3]), "capital of node 'B' = -2.0: must be finite and not"),
    (lambda: gai_kapadia(three_banks(), "A", [1, math.nan, 3]), "capital of node 'B' = nan: must be finite and not"),
    (lambda: gai_kapadia(three_banks(), "A", [1, "x", 3]), "capital of node 'B' = 'x' is not a number"),
    (lambda: gai_kapadia(three_banks(), "A", 1, recovery=2), "recovery = 2: must lie between 0 and 1"),
    (lambda: gai_kapadia(nx.path_graph(3), 0, 1), "the graph is not directed; give a DiGraph"),
    (lambda: gai_kapadia(nx.DiGraph([("A", "B")]), "A", 1), "edge 'A' -> 'B' has no attribute 'weight'; set it"),
    (
        lambda: gai_kapadia(nx.DiGraph([("A", "B", {"weight": "much"})]), "A", 1),
        "edge 'A' -> 'B': weight = 'much' is not a number",
    ),
    (
        lambda: gai_kapadia(nx.MultiDiGraph([("A", "B", {"weight": 3}), ("A", "B", {"weight": -1})]), "A", 1),
        "edge 'A' -> 'B': weight = -1.0: must be finite and not negative",
    ),
    (lambda: gai_kapadia(pd.DataFrame(OWED, columns=list("abcde")), 0, 1), "rows and columns of the table must be"),
    (lambda: gai_kapadia(pd.DataFrame([[0, 1], [0, 0]], list("aa"), list("aa")), "a", 1), "node 'a' stands twice"),
    (lambda: balance_sheets(OWED), "list is no graph; give a networkx DiGraph or MultiDiGraph"),
    (lambda: balance_sheets(three_banks(), "capital"), "node 'A' has no attribute 'capital'"),
    (lambda: eisenberg_noe(OWED, [1, 3, 4, 6]), "external_assets must be one number for each of 5 nodes"),
    (lambda: eisenberg_noe(three_banks(), seniority="last"), "no seniority 'last'; it is 'external_first' or 'equal'"),
    (
        lambda: eisenberg_noe(three_banks(), {"A": 1, "B": 6, "C": 10}),
        "node 'A' needs its claims to pay external creditors first; use seniority='equal', or neva",
    ),
    (lambda: neva(three_banks(), loss=5), "loss of node 'A' exceeds its external assets; lower it"),
    (lambda: neva(OWED, MEANS, valuation=BlackScholesMerton([0.1, 0.2])), "one for each of 5 nodes"),
    (lambda: BlackScholesMerton(-0.1), "volatility = -0.1: must be finite and not negative"),
    (lambda: BlackScholesMerton(0.1, -1), "maturity = -1: must be finite and not negative"),
    (lambda: RogersVeraart(1.5), "external = 1.5: must lie between 0 and 1"),
    (lambda: Furfine(-1), "recovery = -1: must lie between 0 and 1"),
    (lambda: debtrank(three_banks(), {"A": 1}, 0), "equity of node 'A' = 0.0: must be finite and above 0"),
    (lambda: debtrank(three_banks(), {"D": 1}, 1), "shocked node 'D' is not in the network"),
    (lambda: debtrank(three_banks(), {"A": 1.5}, 1), "shock of node 'A' = 1.5: is a fraction of its equity, at most 1"),
    (lambda: debtrank(three_banks(), {"A": -1}, 1), "shock of node 'A' = -1.0: must be finite and not negative"),
    (lambda: watts(three_banks(), "A", 0), "threshold of node 'A' = 0.0: must be finite and above 0"),
    (lambda: watts(three_banks(), "A", 1.5), "threshold of node 'A' = 1.5: is a fraction, at most 1"),
    (lambda: overlap_cascade([1, 2], 1), "holdings must be banks x assets, not of shape (2,)"),
    (lambda: overlap_cascade(np.zeros((0, 3)), 1), "holdings of 0 banks in 3 assets"),
    (lambda: overlap_cascade([[1, -2]], 1), "bank 0 holds -2.0 of 1: must be finite and not negative"),
    (lambda: overlap_cascade([[1, 2]], 1, shocked=3), "shocked node 3 is not in the network"),
    (lambda: overlap_cascade([[1, 2]], 1, devalued={7: 0.1}), "devalued asset 7 is not among the holdings"),
    (lambda: overlap_cascade([[1, 2]], 1, devalued={1: 1.1}), "asset 1 falls by 1.1: is a fraction of its price"),
    (lambda: overlap_cascade([[1, 2]], 1, impact=-1), "impact = -1: must be finite and not negative"),
    (lambda: overlap_cascade(nx.DiGraph([(0, 1)]), 1), "node 0 has no attribute 'bipartite'; set it to 0 for a bank"),
    (lambda: overlap_cascade(portfolios(turned=True), 1), "edge 'x' -> 'A' must lead from a bank to an asset; turn it"),
    (lambda: overlap_cascade(portfolios()), "node 'A' has no attribute 'equity'"),
]


@pytest.mark.parametrize(("call", "line"), BAD, ids=[line for _, line in BAD])
def test_bad_input_is_answered_in_one_line_that_says_where(call: Callable[[], Any], line: str) -> None:
    with pytest.raises(ValueError) as wrong:  # noqa: PT011
        call()
    assert line in str(wrong.value)
    assert "\n" not in str(wrong.value)


# ---------------------------------------------------------------------------------------------------------- clearing


@pytest.mark.parametrize("method", ["fictitious_default", "fixed_point", "linear_programme"])
def test_the_reference_network(method: Any) -> None:
    # 0 has 1 + 1 + 2 of 12; 1 has 3 + 2 + 10/3 of 12; the others can pay
    table = eisenberg_noe(OWED, MEANS, method=method)
    np.testing.assert_allclose(table["payments"], [4, 25 / 3, 11, 7, 8], atol=1e-10)
    np.testing.assert_allclose(table["equity"], [0, 0, 1.25, 9, 7.75], atol=1e-10)
    np.testing.assert_allclose(table["recovery"], [1 / 3, 25 / 36, 1, 1, 1], atol=1e-10)
    assert table["round"].tolist() == [1, 2, 0, 0, 0]


def test_external_creditors_first() -> None:
    # What A, B, C have after them: 1, 4, 9. C pays 5; A has 1 + 5 = 6 of 10; B has 4 + 6 = 10 of 8; C has 9 + 8 of 5
    table = eisenberg_noe(three_banks())
    assert table["obligations"].tolist() == [10, 8, 5]
    np.testing.assert_allclose(table["payments"], [6, 8, 5], atol=1e-12)
    np.testing.assert_allclose(table["equity"], [0, 2, 12], atol=1e-12)
    # The same as a valuation: A is worth 4 - 3 + 5 - 10 = -4, and a claim on it (-4 + 10) / 10
    valued = neva(three_banks())
    np.testing.assert_allclose(valued["book_equity"], [-4, 6, 12], atol=1e-12)
    np.testing.assert_allclose(valued["equity"], [-4, 2, 12], atol=1e-12)
    np.testing.assert_allclose(valued["claim_value"], [0.6, 1, 1], atol=1e-12)


def test_external_creditors_in_proportion() -> None:
    # A owes 13 and has 4 + 5: B gets 90/13 of it. B owes 10 and has 6 + 90/13; C owes 6 and has 10 + 8
    table = eisenberg_noe(three_banks(), seniority="equal")
    assert table["obligations"].tolist() == [13, 10, 6]
    np.testing.assert_allclose(table["payments"], [9, 10, 6], atol=1e-12)
    np.testing.assert_allclose(table["equity"], [0, 38 / 13, 12], atol=1e-12)
    # As a valuation: A is worth -4 as before, and a claim on it (-4 + 13) / 13
    valued = neva(three_banks(), seniority="equal")
    np.testing.assert_allclose(valued["equity"], [-4, 38 / 13, 12], atol=1e-12)
    np.testing.assert_allclose(valued["claim_value"], [9 / 13, 1, 1], atol=1e-12)


def test_external_creditors_who_need_what_a_bank_is_paid() -> None:
    # A has 1 - 3 + 5 = 3 left for B of 10; B has 4 + 3 = 7 of 8
    valued = neva(three_banks(), {"A": 1, "B": 6, "C": 10})
    np.testing.assert_allclose(valued["claim_value"], [0.3, 7 / 8, 1], atol=1e-12)
    # Nothing is left where they take it all, and equity says what they lose: 0 - 6 + 5 - 10
    worse = neva(three_banks(), 0, {"A": 6, "B": 0, "C": 0})
    assert worse["claim_value"]["A"] == 0
    assert worse["equity"]["A"] == pytest.approx(-11 + worse["claim_value"]["C"] * 5 - 5, abs=1e-12)


def test_external_liabilities_of_the_graph_are_not_overlooked() -> None:
    given = neva(three_banks(), external_liabilities=[3, 2, 1])
    pd.testing.assert_frame_equal(neva(three_banks()), given)
    assert neva(three_banks(), external_liabilities=0)["equity"]["C"] == 13
    graph = three_banks()
    del graph.nodes["B"]["external_liabilities"]
    with pytest.raises(ValueError, match="node 'B' has no attribute 'external_liabilities'"):
        neva(graph)


# --------------------------------------------------------------------------------------------------------- valuation


@pytest.mark.parametrize("seniority", ["external_first", "equal"])
def test_a_valuation_at_maturity_is_the_clearing_vector(seniority: Any) -> None:
    rng = np.random.default_rng(30)
    failed = 0
    for _ in range(300):
        owed, assets, debts = random_network(rng)
        if seniority == "external_first":
            debts = np.minimum(debts, assets)
        table = eisenberg_noe(owed, assets, debts, seniority=seniority)
        valued = neva(owed, assets, debts, seniority=seniority)
        ranking = table["obligations"]
        np.testing.assert_allclose(valued["claim_value"] * ranking, table["payments"], atol=1e-10)
        np.testing.assert_allclose(valued["equity"].clip(lower=0), table["equity"], atol=1e-10)
        failed += int((table["round"] > 0).sum())
    assert failed > 300


def rogers_veraart(owed: Floats, means: Floats, alpha: float, beta: float) -> list[float]:
    """Their algorithm in plain Python: nobody is taken to fail until he cannot pay, and then pays alpha e + beta of what he gets."""
    n = len(means)
    total = [sum(row) for row in owed]
    pays = list(total)
    for _ in range(20_000):
        gets = [sum(owed[j][i] / total[j] * pays[j] for j in range(n) if total[j]) for i in range(n)]
        pays = [
            total[i] if means[i] + gets[i] >= total[i] - 1e-12 else alpha * means[i] + beta * gets[i] for i in range(n)
        ]
    return pays


def test_costs_of_default() -> None:
    rng = np.random.default_rng(59)
    for _ in range(6):
        owed, means, _ = random_network(rng, 6)
        alpha, beta = rng.random(2)
        valued = neva(owed, means, valuation=RogersVeraart(alpha, beta))
        np.testing.assert_allclose(
            valued["claim_value"] * owed.sum(axis=1), rogers_veraart(owed, means, alpha, beta), atol=1e-9
        )
    for _ in range(200):
        owed, means, _ = random_network(rng)
        share = float(rng.choice([0.0, 0.5, 0.9]))
        table = eisenberg_noe(owed, means, recovery=share)
        valued = neva(owed, means, valuation=RogersVeraart(share, share))
        np.testing.assert_allclose(valued["claim_value"] * table["obligations"], table["payments"], atol=1e-10)


def test_contagion_by_default_only_is_the_cascade_of_gai_and_kapadia() -> None:
    rng = np.random.default_rng(35)
    fell = 0
    for _ in range(300):
        owed, assets, _ = random_network(rng)
        book = assets + owed.sum(axis=0) - owed.sum(axis=1)
        assets, capital = assets + np.maximum(-book, 0), np.maximum(book, 0)
        first = int(rng.integers(len(assets)))
        debts = np.zeros(len(assets))
        debts[first] = capital[first] + 1  # it is under water by 1, whatever the others do
        share = float(rng.choice([0.0, 0.4]))
        cascade = gai_kapadia(owed, first, capital, recovery=share)
        valued = neva(owed, assets, debts, valuation=Furfine(share))
        assert (valued["equity"] < -1e-9).tolist() == cascade.failed.tolist()
        np.testing.assert_allclose(valued["claim_value"], np.where(cascade.failed, share, 1.0))
        fell += int(cascade.failed.sum())
    assert fell > 450


def test_the_linear_valuation_is_linear_debtrank() -> None:
    rng = np.random.default_rng(10)
    for _ in range(200):
        owed, assets, _ = random_network(rng)
        book = assets + owed.sum(axis=0) - owed.sum(axis=1)
        assets = assets + np.maximum(0.1 - book, 0)
        book = np.maximum(book, 0.1)
        loss = np.minimum(assets, book) * rng.random(len(assets))
        valued = neva(owed, assets, loss=loss, valuation=LinearDebtRank())
        ranked = debtrank(owed, loss / book, book, linear=True)
        np.testing.assert_allclose(1 - valued["equity"].clip(lower=0) / book, ranked.distress, atol=1e-9)
        np.testing.assert_allclose(valued["claim_value"], 1 - ranked.distress, atol=1e-9)
        assert ranked.total == pytest.approx((book * ranked.distress).sum() / book.sum())


@pytest.mark.parametrize(("share", "volatility", "maturity"), [(1.0, 0.3, 1.0), (0.6, 0.8, 0.25), (0.0, 0.2, 2.0)])
def test_a_valuation_before_maturity_is_the_mean_over_what_assets_become(
    share: float, volatility: float, maturity: float
) -> None:
    # A owes 80 to B and has 100; B has a claim only. So E of A is 20, and a claim on A is the mean of what A will pay
    for outside in (0.0, 30.0):
        valued = neva(
            [[0, 80], [0, 0]], [100, 0], [outside, 0], valuation=BlackScholesMerton(volatility, maturity, share)
        )
        wide = volatility * math.sqrt(maturity)

        def paid(z: float, outside: float = outside, wide: float = wide) -> float:
            left = 100 * math.exp(wide * z - wide**2 / 2) - outside
            return float(norm.pdf(z)) * (1.0 if left >= 80 else share * max(left, 0.0) / 80)

        edges = sorted((math.log((outside + owed) / 100) + wide**2 / 2) / wide for owed in (1e-12, 80))
        mean = quad(paid, -12, 12, points=[edge for edge in edges if -12 < edge < 12], limit=500, epsabs=1e-12)[0]
        assert valued["claim_value"][0] == pytest.approx(mean, abs=1e-9)
        assert valued["equity"][1] == pytest.approx(80 * mean, abs=1e-7)


def test_without_volatility_a_valuation_before_maturity_is_that_at_maturity() -> None:
    rng = np.random.default_rng(73)
    for k in range(100):
        network = random_network(rng)
        calm = BlackScholesMerton(0.0) if k % 2 else BlackScholesMerton(np.full(len(network[1]), 0.5), 0.0)
        pd.testing.assert_frame_equal(neva(*network, valuation=calm), neva(*network), atol=1e-10)


def test_uncertainty_costs_sound_banks_something_and_a_valuation_may_be_ones_own() -> None:
    @dataclass(frozen=True)
    class Half(Valuation):
        """Everybody pays half."""

        def claims(self, equity: Floats, books: Books) -> Floats:
            return np.full(len(equity), 0.5)

    sound = neva(OWED, [20] * 5)
    unsure = neva(OWED, [20] * 5, valuation=BlackScholesMerton(0.5))
    assert (sound["claim_value"] == 1).all()
    # 0 has 20 + 3 and owes 12; 4 would pay with what it is owed by others alone, were its own assets worth nothing
    assert unsure["claim_value"][0] < 0.99
    assert unsure["claim_value"][4] == 1
    np.testing.assert_allclose(
        neva(OWED, MEANS, valuation=Half())["equity"], MEANS + np.sum(OWED, axis=0) / 2 - np.sum(OWED, axis=1)
    )
    assert neva(OWED, MEANS, valuation=EisenbergNoe()).equals(neva(OWED, MEANS))


# ---------------------------------------------------------------------------------------------------------- DebtRank


def test_distress_along_a_chain() -> None:
    # 0 owes 1 half of 1's equity, 1 owes 2 two fifths of 2's. 0 fails: h = 1, 1/2, 1/5. Claims, 5 and 4, are the weights
    chain = [[0, 5, 0], [0, 0, 4], [0, 0, 0]]
    found = debtrank(chain, {0: 1}, 10)
    np.testing.assert_allclose(found.distress, [1, 0.5, 0.2])
    assert found.value == pytest.approx((0.5 * 5 + 0.2 * 4) / 9)
    assert found.rounds == 2
    linear = debtrank(chain, {0: 1}, 10, linear=True)
    np.testing.assert_allclose(linear.distress, [1, 0.5, 0.2])
    assert linear.value == pytest.approx(0.7 / 3)  # equities are the weights
    assert linear.total == pytest.approx(1.7 / 3)
    assert debtrank(chain, {0: 1}, 10, weights=[1, 0, 1]).value == pytest.approx(0.1)


def test_distress_round_a_ring() -> None:
    ring = [[0, 5, 0], [0, 0, 5], [5, 0, 0]]
    # Once: .4 -> .2 -> .1 -> .05 back to 0, which has had its turn
    np.testing.assert_allclose(debtrank(ring, {0: 0.4}, 10).distress, [0.45, 0.2, 0.1])
    # Always: h0 = .4 + h2/2, h1 = h0/2, h2 = h1/2
    h = 0.4 / (1 - 1 / 8)
    np.testing.assert_allclose(debtrank(ring, {0: 0.4}, 10, linear=True).distress, [h, h / 2, h / 4], atol=1e-14)
    # What cannot be lost a second time is not passed on
    np.testing.assert_allclose(debtrank(ring, {0: 1}, 10, linear=True).distress, [1, 0.5, 0.25])
    # A ring that passes on all: a tenth at each turn, until all is lost
    np.testing.assert_allclose(debtrank(ring, {0: 0.1}, 5, linear=True).distress, [1, 1, 1])
    with pytest.raises(RuntimeError, match="a loop of debts"):
        debtrank(np.array(ring) * (1 - 1e-9), {0: 1e-9}, 5, linear=True)


def test_distress_of_a_star() -> None:
    out = np.zeros((6, 6))
    out[0, 1:] = 3
    np.testing.assert_allclose(debtrank(out, {0: 0.5}, 10).distress, [0.5] + [0.15] * 5)
    assert debtrank(out, {0: 0.5}, 10).value == pytest.approx(0.15)
    # The centre is owed by all: 5 x .3 x .8 is more than all it has
    for linear in (False, True):
        assert debtrank(out.T, [0] + [0.8] * 5, 10, linear=linear).distress[0] == 1
        assert debtrank(out.T, [0] + [0.4] * 5, 10, linear=linear).distress[0] == pytest.approx(0.6)


def test_what_comes_after_its_turn_is_not_passed_on_but_by_the_linear_one() -> None:
    # 0 owes 1 and 2 half of their equity, 1 owes 2 another .4, 2 owes 3 all of its. 2 has lost .5 when it passes on, .7 in the end
    diamond = [[0, 5, 5, 0], [0, 0, 4, 0], [0, 0, 0, 10], [0, 0, 0, 0]]
    np.testing.assert_allclose(debtrank(diamond, {0: 1}, 10).distress, [1, 0.5, 0.7, 0.5])
    np.testing.assert_allclose(debtrank(diamond, {0: 1}, 10, linear=True).distress, [1, 0.5, 0.7, 0.7])
    # A debt of three times the equity counts as all of it, once
    np.testing.assert_allclose(debtrank([[0, 30], [0, 0]], {0: 0.2}, 10).distress, [0.2, 0.2])
    np.testing.assert_allclose(debtrank([[0, 30], [0, 0]], {0: 0.2}, 10, linear=True).distress, [0.2, 0.6])


def test_without_debts_there_is_no_distress_but_the_shock() -> None:
    found = debtrank(np.zeros((2, 2)), {1: 0.5}, 10)
    assert (found.value, found.total, found.rounds) == (0, 0, 0)
    assert found.distress.tolist() == [0, 0.5]


# ---------------------------------------------------------------------------------------------------------- cascades


def test_a_bank_stands_at_exactly_its_capital() -> None:
    # Five debtors owe a fifth of .2 each, which is the capital .04; four owe a fourth
    for debtors, fails in ((4, True), (5, False), (6, False)):
        star = np.zeros((debtors + 1, debtors + 1))
        star[1:, 0] = 0.2 / debtors
        assert bool(gai_kapadia(star, 1, 0.04).failed[0]) is fails
        assert gai_kapadia(star, [1, 2], 0.04).failed[0]
    # Three times .1 is a little more than .3 in binary numbers, and yet not more than the capital
    assert not gai_kapadia([[0, 0, 0, 0]] + [[0.1, 0, 0, 0]] * 3, [1, 2, 3], 0.3).failed[0]


def test_failures_come_in_rounds() -> None:
    graph = nx.DiGraph()
    graph.add_weighted_edges_from([("A", "B", 3), ("A", "C", 1), ("B", "C", 1), ("C", "D", 5), ("D", "A", 9)])
    nx.set_node_attributes(graph, {"A": 1, "B": 2, "C": 1.5, "D": 5}, "capital")
    cascade = gai_kapadia(graph, "A")  # C loses 1 by A, and 1 more by B; D loses just what it can bear
    assert dict(zip(cascade.nodes, cascade.rounds.tolist(), strict=True)) == {"A": 0, "B": 1, "C": 2, "D": -1}
    assert cascade.extent == 0.75
    assert gai_kapadia(graph, "A", recovery=0.5).failed.tolist() == [True, False, False, False]
    assert gai_kapadia(graph, []).extent == 0
    assert gai_kapadia([[0, 5], [0, 0]], 0, 0, recovery=1).extent == 0.5  # no capital, but no loss either


def test_many_follow_a_few_by_thresholds() -> None:
    # A path: each inner node has two neighbours, the last one
    assert watts(nx.path_graph(5), 0, 0.5).rounds.tolist() == [0, 1, 2, 3, 4]
    assert watts(nx.path_graph(5), 0, 0.51).rounds.tolist() == [0, -1, -1, -1, -1]
    assert watts(nx.path_graph(5), [0, 2], 0.51).rounds.tolist() == [0, 1, 0, -1, -1]
    assert watts(nx.path_graph(3, create_using=nx.DiGraph), 1, 1).rounds.tolist() == [-1, 0, 1]
    # A third of three is reached by one, whatever the edges weigh and how many are parallel
    many = nx.MultiDiGraph([(1, 0, {"weight": 9}), (1, 0), (2, 0), (3, 0)])
    assert watts(many, 1, 1 / 3).extent == 0.5
    assert watts(many, 1, 0.34).extent == 0.25
    nx.set_node_attributes(many, 0.6, "threshold")
    assert watts(many, [1, 2]).failed.tolist() == [True, True, True, False]


def test_sales_lower_prices_for_all_who_hold_the_same() -> None:
    # A and B hold half of an asset each. A sells: it is worth exp(-1.0536/2) = .5905, and B has lost 50 x .4095 = 20.47
    for equity, fails in ((20, True), (21, False)):
        cascade = overlap_cascade([[50], [50]], [5, equity], shocked=0)
        assert cascade.rounds.tolist() == [0, 1 if fails else -1]
        assert cascade.prices[0] == pytest.approx(math.exp(-1.0536 * (1 if fails else 0.5)))


def portfolios(turned: bool = False) -> nx.DiGraph:
    graph = nx.DiGraph()
    graph.add_node("x", bipartite=1)
    graph.add_nodes_from(["A", "B", "C"], bipartite=0)
    graph.add_nodes_from(["y", "z"], bipartite=1)
    graph.add_weighted_edges_from([("A", "y", 6), ("B", "y", 2), ("B", "z", 8), ("C", "z", 4)])
    if turned:
        graph.add_edge("x", "A", weight=1)
    return graph


def test_holdings_may_be_a_graph_or_a_table() -> None:
    graph = portfolios()
    # y falls by a half: A loses 3, more than its 2. It sells 6 of the 8 of y, so that B has lost 2 - .5 2 exp(-.75)
    held = overlap_cascade(graph, {"A": 2, "B": 1.5, "C": 9}, devalued={"y": 0.5}, impact=1.0)
    assert (list(held.nodes), list(held.assets)) == (["A", "B", "C"], ["x", "y", "z"])
    assert 2 - math.exp(-0.75) > 1.5
    assert held.rounds.tolist() == [1, 2, -1]
    np.testing.assert_allclose(held.prices, [1, 0.5 * math.exp(-1), math.exp(-8 / 12)])
    table = pd.DataFrame([[0, 6, 0], [0, 2, 8], [0, 0, 4]], list("ABC"), list("xyz"))
    for other in (table, csr_array(table.to_numpy(float))):
        fallen = {"y" if other is table else 1: 0.5}
        np.testing.assert_array_equal(
            overlap_cascade(other, [2, 1.5, 9], devalued=fallen, impact=1.0).prices, held.prices
        )
    nx.set_node_attributes(graph, {"A": 2, "B": 1.5, "C": 9}, "equity")
    assert overlap_cascade(graph.to_undirected(), devalued={"y": 0.5}, impact=1.0).rounds.tolist() == [1, 2, -1]
    assert overlap_cascade(graph, shocked="C", impact=0).extent == pytest.approx(1 / 3)
