"""What a calibration minimises, and its identifiability on models whose answer is known."""

import numpy as np
import pytest

from analysis.calibration import LEVEL, UNIFORM, Parameter, Target, identifiability, medians, terms

PRICE, SOLD = Target("price", 73_000, 72_000, 74_000), Target("sold", 2e9, 1.8e9, 2.4e9)


def test_the_misfit_is_counted_in_half_widths_and_bounded() -> None:
    runs = [{"price": 73_500.0, "sold": 2.3e9}, {"price": 90_000.0, "sold": 9e9}, {"price": 60_000.0, "sold": 2.6e9}]
    moments = medians([PRICE, SOLD], runs)
    assert moments == {"price": 73_500.0, "sold": 2.6e9}
    assert terms([PRICE, SOLD], moments, 1e12) == pytest.approx({"price": 0.25, "sold": 4.0})
    assert terms([PRICE, SOLD], moments, 2.0) == pytest.approx({"price": 0.25 / 1.125, "sold": 4.0 / 3.0})
    far, further = (terms([PRICE], {"price": price}, 25.0)["price"] for price in (60_000, 50_000))
    assert 20 < far < further < 25
    assert terms([SOLD], medians([SOLD], [*runs, {}]), 25.0) == {"sold": 25.0}  # a run that says nothing


def test_shares_of_a_range() -> None:
    linear, log = Parameter("a", 10.0, 20.0), Parameter("b", 1.0, 100.0, log=True)
    assert (linear.value(0.25), linear.share(12.5)) == (12.5, 0.25)
    assert (log.value(0.5), log.share(10.0)) == (pytest.approx(10.0), pytest.approx(0.5))
    assert (log.value(0.0), log.value(1.0)) == (1.0, 100.0)
    assert Parameter("c", 1, 10, whole=True).value(0.5) == 6.0


def test_a_quadratic_with_a_direction_that_nothing_determines() -> None:
    """Moments see a and b only by their sum: the difference stays as the ranges left it."""
    slope = 20.0
    derivatives = np.zeros((3, 2, 3))
    derivatives[:, 0, 0] = derivatives[:, 0, 1] = slope
    derivatives[:, 1, 2] = 2 * slope
    precisions, directions = identifiability(["a", "b", "c"], derivatives, np.zeros(2))
    a, b, c = precisions
    # curvature along (a + b) / sqrt 2 is 2 slope^2, along (a - b) / sqrt 2 none
    known, unknown = 1.0 / (2 * slope**2 + UNIFORM), 1.0 / UNIFORM
    assert a.error == pytest.approx(np.sqrt((known + unknown) / 2))
    assert b.error == pytest.approx(a.error)
    assert c.error == pytest.approx(1.0 / np.sqrt(4 * slope**2 + UNIFORM))
    assert (a.identified, b.identified, c.identified) == (False, False, True)
    assert a.told == pytest.approx(1.0 - UNIFORM * (known + unknown) / 2)
    (direction,) = directions
    assert direction.told == pytest.approx(0.0)
    weights = np.array(list(direction.weights.values()))
    assert weights[0] == pytest.approx(-weights[1])
    assert weights @ weights == pytest.approx(1.0)
    assert weights[2] == pytest.approx(0.0, abs=1e-12)


def test_the_noise_of_the_seeds_makes_errors_larger() -> None:
    derivatives = np.full((3, 1, 1), 20.0)
    exact, noisy = (identifiability(["a"], derivatives, np.array([noise]))[0][0] for noise in (0.0, 3.0))
    assert exact.error == pytest.approx(1.0 / np.sqrt(400 + UNIFORM))
    assert noisy.error == pytest.approx(1.0 / np.sqrt(400 / 4 + UNIFORM))


def test_noise_alone_identifies_nothing_and_an_effect_beyond_it_does() -> None:
    """One parameter of three moves the moments; the seeds scatter derivatives by twice its effect over the root of their number."""
    rng = np.random.default_rng(5)
    found = np.zeros(3)
    for _ in range(300):
        derivatives = rng.normal(0.0, 10.0, (3, 4, 3))
        derivatives[:, :, 0] += 30.0
        precisions, _ = identifiability(["a", "b", "c"], derivatives, np.zeros(4))
        found += [each.identified for each in precisions]
    assert found[0] == 300
    assert found[1] / 300 < 3 * (1.0 - LEVEL)
    assert found[2] / 300 < 3 * (1.0 - LEVEL)


def test_an_unbiased_curvature_where_a_direction_is_sloppy_and_derivatives_are_noisy() -> None:
    """Two parameters with one and the same effect: noise must not make their difference known."""
    rng = np.random.default_rng(6)
    determined = 0
    for _ in range(200):
        derivatives = rng.normal(0.0, 8.0, (4, 3, 2)) + 60.0
        determined += not identifiability(["a", "b"], derivatives, np.zeros(3))[1]
    assert determined / 200 < 3 * (1.0 - LEVEL)


def test_one_seed_and_runs_that_failed() -> None:
    derivatives = np.array([[[30.0, np.nan]]])
    a, b = identifiability(["a", "b"], derivatives, np.zeros(1))[0]
    assert a.identified
    assert (b.told, b.identified) == (pytest.approx(0.0), False)
