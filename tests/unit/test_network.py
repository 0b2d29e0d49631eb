"""The clearing vector: the paper's conditions, a reference network, and three ways that must agree."""

import numpy as np
import pytest

from abm.clearing.network import clear

METHODS = ("fictitious_default", "fixed_point", "linear_programme")

# docs/concepts/lending.md, "Reference network"
OWED = [[0, 10, 0, 0, 2], [0, 0, 9, 0, 3], [0, 0, 0, 8, 3], [1, 0, 0, 0, 6], [2, 2, 2, 2, 0]]
MEANS = (1, 3, 4, 6, 4)


def random_network(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sparse or dense, rich or poor, with nodes that owe nothing and nodes that have nothing."""
    n = int(rng.integers(1, 13))
    owed = rng.exponential(1.0, (n, n)) * (rng.random((n, n)) < rng.random())
    np.fill_diagonal(owed, 0.0)
    return owed, rng.exponential(2 * rng.random(), n) * (rng.random(n) < 0.8)


@pytest.mark.parametrize("method", METHODS)
def test_reference_network(method) -> None:  # type: ignore[no-untyped-def]
    answer = clear(OWED, MEANS, method=method)
    np.testing.assert_allclose(answer.obligations, [12, 12, 11, 7, 8], atol=0)
    np.testing.assert_allclose(answer.payments, [4, 25 / 3, 11, 7, 8], atol=1e-10)
    np.testing.assert_allclose(answer.equity, [0, 0, 1.25, 9, 7.75], atol=1e-10)
    np.testing.assert_allclose(answer.recovery, [1 / 3, 25 / 36, 1, 1, 1], atol=1e-10)
    assert answer.waves == ((0,), (1,))
    assert answer.in_default.tolist() == [True, True, False, False, False]


def test_three_ways_agree_and_fulfil_the_conditions_on_1000_random_networks() -> None:
    rng = np.random.default_rng(236)
    defaults = 0
    for _ in range(1000):
        owed, means = random_network(rng)
        answers = [clear(owed, means, method=method) for method in METHODS]  # type: ignore[arg-type]
        first = answers[0]
        for other in answers[1:]:
            np.testing.assert_allclose(other.payments, first.payments, atol=1e-9)
        total = first.obligations
        shares = owed / np.where(total > 0, total, 1)[:, None]
        has = means + shares.T @ first.payments
        np.testing.assert_allclose(first.payments, np.minimum(total, has), atol=1e-9)  # limited liability, priority
        np.testing.assert_allclose(first.equity.sum(), means.sum(), atol=1e-9)  # no value is lost
        assert (np.abs(first.equity[first.in_default]) < 1e-9).all()
        defaults += int(first.in_default.sum())
    assert defaults > 1000  # the networks are not all sound


@pytest.mark.parametrize("method", METHODS)
def test_the_greatest_of_several_vectors_is_found(method) -> None:  # type: ignore[no-untyped-def]
    # Two owe each other and have nothing: any (x, x) clears
    assert clear([[0, 5], [5, 0]], [0, 0], method=method).payments.tolist() == [5, 5]


def test_a_defaulter_pays_only_what_bankruptcy_leaves() -> None:
    chain = [[0, 4, 0], [0, 0, 3], [0, 0, 0]]
    for method in METHODS[:2]:
        assert clear(chain, [2, 1.5, 0], method=method).payments.tolist() == [2, 3, 0]  # type: ignore[arg-type]
        half = clear(chain, [2, 1.5, 0], method=method, recovery=0.5)  # type: ignore[arg-type]
        assert half.payments.tolist() == [1, 1.25, 0]
        assert half.waves == ((0,), (1,))
        none = clear(chain, [2, 1.5, 0], method=method, recovery=0.0)  # type: ignore[arg-type]
        assert none.payments.tolist() == [0, 0, 0]


def test_ways_agree_with_costs_of_bankruptcy() -> None:
    rng = np.random.default_rng(2013)
    for _ in range(300):
        owed, means = random_network(rng)
        recovery = float(rng.choice([0.0, 0.3, 0.9]))
        a, b = (clear(owed, means, method=method, recovery=recovery) for method in METHODS[:2])  # type: ignore[arg-type]
        np.testing.assert_allclose(a.payments, b.payments, atol=1e-9)


def test_numbering_does_not_matter() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        owed, means = random_network(rng)
        order = rng.permutation(len(means))
        np.testing.assert_allclose(
            clear(owed[np.ix_(order, order)], means[order]).payments, clear(owed, means).payments[order], atol=1e-10
        )


def test_nobody_owes_anything() -> None:
    answer = clear(np.zeros((2, 2)), [1.0, 0.0])
    assert (
        answer.payments.tolist() == [0, 0] and answer.equity.tolist() == [1, 0] and answer.recovery.tolist() == [1, 1]
    )
    assert clear(np.zeros((0, 0)), []).payments.tolist() == []


@pytest.mark.parametrize(
    ("owed", "means", "options", "words"),
    [
        ([[0, 1, 2], [1, 0, 2]], [1, 1], {}, r"square matrix, not of shape \(2, 3\)"),
        ([0, 1], [1, 1], {}, "square matrix"),
        ([[0, 1], [1, 0]], [1, 1, 1], {}, "each of 2 nodes"),
        ([[0, -1], [1, 0]], [1, 1], {}, r"liabilities\[0, 1\] = -1.0"),
        ([[0, 1], [float("nan"), 0]], [1, 1], {}, r"liabilities\[1, 0\] = nan"),
        ([[0, 1], [float("inf"), 0]], [1, 1], {}, r"liabilities\[1, 0\] = inf"),
        ([[0, 1], [1, 0]], [1, -2], {}, r"endowment\[1\] = -2.0"),
        ([[0, 1], [1, 0]], [float("nan"), 0], {}, r"endowment\[0\] = nan"),
        ([[3, 1], [1, 0]], [1, 1], {}, "node 0 owes to itself"),
        ([[0, 1], [1, 0]], [1, 1], {"recovery": 1.5}, "between 0 and 1"),
        ([[0, 1], [1, 0]], [1, 1], {"recovery": 0.5, "method": "linear_programme"}, "no cost of bankruptcy"),
        ([[0, 1], [1, 0]], [1, 1], {"method": "guess"}, "no method 'guess'"),
    ],
)
def test_bad_input_is_named(owed, means, options, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=words):
        clear(owed, means, **options)
