"""Papers about the flow of orders: closed forms by another road, the parts they are measured with, and small samples of each."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.linalg import eigh_tridiagonal
from scipy.special import zeta
from scipy.stats import binom

from abm.scenario import ScenarioError
from experiments.papers import Estimate, find
from experiments.papers.cont_stoikov_talreja_2010 import model as races
from experiments.papers.judgement import Row, judge, read
from experiments.papers.lillo_mike_farmer_2005 import model as memory
from experiments.papers.zero_intelligence_2003 import model as random_orders

Floats = npt.NDArray[np.float64]


def reproduced(name: str, *changes: str) -> list[Row]:
    """A small sample, held against the table or the closed form with tolerances wider by its standard errors."""
    paper = find(name)
    config = paper.configured(changes, quick=True)
    return judge(paper, config, paper.model.measure(config, lambda *_: None), quick=True)


def failed(rows: list[Row]) -> list[str]:
    return [row.quantity for row in rows if row.passed is False]


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("cont-stoikov-talreja", "furthest=4", "furthest lies within limit_orders; raise it or list fewer"),
        (
            "cont-stoikov-talreja",
            "cancellations=[0]",
            "queues would grow beyond 400 orders; lower the first of limit_orders",
        ),
        ("zero-intelligence", "epsilons=[0.2,0.1]", "epsilons must rise"),
        ("zero-intelligence", "late=20", "late must be shorter than duration"),
        ("zero-intelligence", "early=2", "early must be shorter than late / 50; lower it, or the last of epsilons"),
        (
            "lillo-mike-farmer",
            "lags=[50,1000]",
            "lags must lie above 100, the smaller first, up to 50000 and a tenth of",
        ),
        ("lillo-mike-farmer", "bins=900", "bins: there are not as many lags; lower it"),
    ],
)
def test_parameters_that_do_not_fit_together_are_refused(name: str, change: str, line: str) -> None:
    with pytest.raises(ScenarioError, match=f"{name}: ") as wrong:
        find(name).configured([change])
    assert line in str(wrong.value)


# --------------------------------------------------------------------------------------------- Cont, Stoikov, Talreja


def spectrum(births: Floats, deaths: Floats, start: int) -> tuple[Floats, Floats]:
    """Rates w and weights c of the survival sum(c exp(-w t)) of a queue: its generator is symmetric in its reversible measure."""
    rates, vectors = eigh_tridiagonal(births + deaths, -np.sqrt(births[:-1] * deaths[1:]))
    root = np.exp(np.concatenate(([0.0], np.cumsum(np.log(births[:-1] / deaths[1:])))) / 2)
    return rates, vectors[start] / root[start] * (root @ vectors)


def deaths_only(rates: Floats) -> tuple[Floats, Floats]:
    """The same of a sum of exponential times with different rates."""
    return rates, np.array(
        [np.prod(np.delete(rates, i) / (np.delete(rates, i) - rate)) for i, rate in enumerate(rates)]
    )


def second_first(one: tuple[Floats, Floats], other: tuple[Floats, Floats]) -> float:
    """P(the other empties first) = integral of one's survival and the other's density."""
    (w, c), (v, d) = one, other
    return float((c[:, np.newaxis] * d * v / (w[:, np.newaxis] + v)).sum())


@pytest.mark.parametrize("changes", [{}, {"limit_orders": (3.0,), "cancellations": (0.4,), "market_orders": 1.3}])
def test_the_linear_system_agrees_with_the_spectra_of_the_queues(changes: dict[str, Any]) -> None:
    config = races.Config(**changes)
    theta, mu, n = config.cancellations[0], config.market_orders, np.arange(1.0, 61.0)
    births = np.append(np.full(59, config.limit_orders[0]), 0.0)
    found = races.exact(config)
    best = {orders: spectrum(births, mu + n * theta, orders - 1) for orders in range(1, config.queues + 1)}
    for bid, ask in config.states:
        assert found[races.name(races.MOVES, bid, ask)] == pytest.approx(second_first(best[bid], best[ask]), abs=1e-9)
        mid_first = second_first(deaths_only(mu + np.arange(bid) * theta), best[ask])
        assert found[races.name(races.EXECUTES, bid, ask)] == pytest.approx(1 - mid_first, abs=1e-9)
        assert found[races.name(races.PRINTED, ask, bid)] == pytest.approx(mid_first, abs=1e-9)


def test_races_on_the_book_end_as_the_linear_system_says() -> None:
    rows = reproduced("cont-stoikov-talreja", "queues=2", "runs=3000", "books=300", "furthest=8")
    assert failed(rows) == []
    assert sum(row.passed is True for row in rows) == 8
    assert all(row.error < 0.01 for row in rows)


def test_a_wrong_rate_would_be_noticed() -> None:
    """The races of other rates do not pass for those of the table."""
    paper = find("cont-stoikov-talreja")
    config = races.Config(runs=4000, books=400, limit_orders=(1.0, 1.51), cancellations=(1.0,))
    table = read(paper.folder / "reference.csv")
    quantity = races.name(races.EXECUTES, 2, 4)
    found = Estimate.share(races.race(config, (2, 4), races.EXECUTES), config.runs)
    assert abs(found.value - table[quantity].value) > 0.005 + 4 * found.error
    assert found.value == pytest.approx(races.exact(config)[quantity], abs=4 * found.error)


def test_the_number_of_books_at_once_changes_the_draws_only() -> None:
    for books in (7, 1000):
        config = races.Config(runs=2000, books=books)
        share = races.race(config, (1, 3), races.MOVES) / config.runs
        assert share == pytest.approx(races.exact(config)[races.name(races.MOVES, 1, 3)], abs=4 * 0.01)


# -------------------------------------------------------------------------------------- Smith, Farmer and the others


@pytest.mark.statistical
def test_random_orders_give_the_spread_and_the_diffusion_of_the_ensemble() -> None:
    rows = reproduced("zero-intelligence")
    assert failed(rows) == []
    assert len(rows) == len(read(find("zero-intelligence").folder / "reference.csv"))


@pytest.mark.parametrize("epsilon", [0.1, 0.2])
def test_few_books_give_the_spread_and_the_diffusion_of_the_ensemble(epsilon: float) -> None:
    table = read(find("zero-intelligence").folder / "reference.csv")
    found = random_orders.watch(random_orders.Config(runs=80), epsilon, 0.02)
    for quantity, estimate in (
        ("spread", found.spread),
        ("early diffusion", found.early),
        ("late diffusion", found.late),
    ):
        row = table[f"{quantity} at epsilon {epsilon:g}" + ", tick 0.02" * (quantity == "spread")]
        assert row.tolerance is not None
        assert estimate.value == pytest.approx(row.value, abs=row.tolerance * row.value + 4 * estimate.error)
        assert estimate.error < 0.12 * row.value
    assert found.disturbed == 0


def test_units_of_price_time_and_size_do_not_matter() -> None:
    """Twice the price scale, three times the pace, orders of five units: the same in units of the model."""
    plain = random_orders.watch(random_orders.Config(runs=100, epsilons=(0.1,)), 0.1, 0.02)
    other = random_orders.Config(runs=100, epsilons=(0.1,), alpha=1.5, mu=6.0, sigma=5, early=0.02 / 3 * 5, seed=2)
    scaled = random_orders.watch(other, 0.1, 0.02)
    for one, two in zip(plain[:3], scaled[:3], strict=True):
        assert one.value == pytest.approx(two.value, abs=4 * float(np.hypot(one.error, two.error)))


def test_a_band_that_is_too_narrow_is_noticed() -> None:
    config = random_orders.Config(runs=50, epsilons=(0.2,), reach=1.5)
    assert random_orders.watch(config, 0.2, 0.02).disturbed > 0


def test_the_mid_is_looked_at_as_it_stands_when_the_time_comes() -> None:
    times, seen, mids = np.array([1.0, 2.0, 4.0]), np.zeros(2, np.int64), np.zeros((2, 3))
    for clock, mid in (((0.5, 2.5), (10.0, 20.0)), ((1.5, 3.9), (11.0, 21.0)), ((9.0, 4.0), (12.0, 22.0))):
        random_orders._look(times, seen, mids, np.array(clock), np.array(mid))
    assert mids.tolist() == [[11.0, 12.0, 12.0], [20.0, 20.0, 22.0]]


# ---------------------------------------------------------------------------------------------- Lillo, Mike, Farmer


@pytest.mark.parametrize(("alpha", "hidden", "lag"), [(1.3, 20, 1), (1.3, 20, 300), (1.7, 5, 40), (2.5, 1, 10)])
def test_the_closed_form_is_a_sum_over_binomial_weights(alpha: float, hidden: int, lag: int) -> None:
    k = np.arange(lag)
    left = zeta(alpha, k + 1.0) / (1 + zeta(alpha))
    expected = float((binom.pmf(k, lag - 1, 1 / hidden) * left).sum() / hidden)
    assert memory.autocorrelation(lag, alpha, hidden)[lag] == pytest.approx(expected, rel=1e-10)


def test_the_autocorrelation_is_the_mean_product() -> None:
    signs = np.random.default_rng(1).choice([-1.0, 1.0], 500)
    expected = [np.mean(signs[: 500 - lag] * signs[lag:]) for lag in range(31)]
    np.testing.assert_allclose(memory.correlated(signs, 30), expected, atol=1e-12)


def test_the_exponent_of_a_power_law_is_found() -> None:
    lags = np.arange(10_001.0)
    acf = np.append(1.0, 0.3 * lags[1:] ** -0.45)
    assert memory.exponent(memory.Config(), acf) == pytest.approx(0.45, abs=0.005)


def test_signs_of_trades_remember_as_long_as_the_ensemble() -> None:
    rows = reproduced("lillo-mike-farmer")
    assert failed(rows) == []
    assert len(rows) == len(read(find("lillo-mike-farmer").folder / "reference.csv"))


def test_short_orders_are_met_by_the_closed_form() -> None:
    """With a tail of 4 hardly an order is long, and the autocorrelation is over within a hundred trades."""
    config = memory.Config(runs=4, stretch=200_000, alphas=(4.0,), hidden=2, lags=(101, 400), bins=3)
    (signs, missing), *_ = memory.stretches(config, 4.0)
    assert missing == 0
    np.testing.assert_allclose(
        memory.correlated(signs, 20)[1:], memory.autocorrelation(20, 4.0, 2)[1:], atol=5 / 200_000**0.5
    )
