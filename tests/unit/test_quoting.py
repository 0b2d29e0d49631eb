"""Quoting rules: each is derived again by another road than its formula."""

import math

import numpy as np
import pytest
from numba import njit
from scipy.optimize import brentq, minimize_scalar

from abm.agents.quoting import (
    asymptotic_distances,
    fill_rate,
    inventory_limit,
    optimal_spread,
    reservation_price,
)


def utility(cash: float, inventory: float, mid: float, gamma: float, sigma: float, remaining: float) -> float:
    """Expected -exp(-gamma wealth) of a dealer who holds on to its inventory while the mid is a Brownian motion."""
    wealth, variance = cash + inventory * mid, inventory**2 * sigma**2 * remaining
    return -math.exp(-gamma * wealth + gamma**2 * variance / 2)


@pytest.mark.parametrize("inventory", [-3.0, 0.0, 2.0])
def test_the_reservation_price_is_half_way_between_the_prices_of_indifference(inventory: float) -> None:
    gamma, sigma, remaining, mid = 0.1, 2.0, 0.7, 100.0
    now = utility(0.0, inventory, mid, gamma, sigma, remaining)

    def indifferent(units: int) -> float:
        return float(
            brentq(
                lambda price: utility(-units * price, inventory + units, mid, gamma, sigma, remaining) / now - 1,
                mid - 50,
                mid + 50,
                xtol=1e-12,
            )
        )

    middle = (indifferent(1) + indifferent(-1)) / 2
    assert reservation_price(mid, inventory, gamma, sigma, remaining) == pytest.approx(middle, abs=1e-9)
    # and the spread holds the distance between the two, and what the dealer asks of each beyond it
    beyond = minimize_scalar(
        lambda away: -math.exp(-1.5 * away) * (1 - math.exp(-gamma * away)), bounds=(0, 10), options={"xatol": 1e-10}
    ).x
    apart = indifferent(-1) - indifferent(1)
    assert optimal_spread(gamma, sigma, remaining, 1.5) == pytest.approx(apart + 2 * beyond, abs=1e-6)


def test_orders_at_a_quote_fall_by_the_same_factor_with_each_step_away() -> None:
    rates = fill_rate(np.array([0.0, 1.0, 2.0]), 140.0, 1.5)
    assert rates[0] == 140
    assert rates[1] / rates[0] == pytest.approx(rates[2] / rates[1]) == pytest.approx(math.exp(-1.5))


@pytest.mark.parametrize(("gamma", "sigma"), [(0.01, 0.3), (0.001, 0.3), (0.01, 0.1)])
def test_asymptotic_distances_are_near_those_of_the_slowest_mode(gamma: float, sigma: float) -> None:
    """Gueant, Lehalle and Fernandez-Tapia (2013): far from the end quotes are ln(f_q / f_(q+1)) / k and a constant, f the eigenvector of a matrix."""
    scale, decay, reach = 0.9, 0.3, 150
    inventory = np.arange(-reach, reach + 1)
    eta = scale * (1 + gamma / decay) ** -(1 + decay / gamma)
    matrix = np.diag(0.5 * decay * gamma * sigma**2 * inventory.astype(float) ** 2)
    matrix -= eta * (np.eye(2 * reach + 1, k=1) + np.eye(2 * reach + 1, k=-1))
    slowest = np.abs(np.linalg.eigh(matrix)[1][:, 0])
    near = slice(reach - 8, reach + 9)
    held = inventory[near].astype(float)
    logarithm = np.log(slowest)
    constant = math.log(1 + gamma / decay) / gamma
    bid = (logarithm - np.roll(logarithm, -1))[near] / decay + constant
    ask = (logarithm - np.roll(logarithm, 1))[near] / decay + constant
    found = asymptotic_distances(held, gamma, sigma, scale, decay)
    np.testing.assert_allclose(found[0], bid, rtol=0.01)
    np.testing.assert_allclose(found[1], ask, rtol=0.01)


def test_asymptotic_distances_do_not_depend_on_the_unit() -> None:
    """Orders of d coins are orders of one parcel of d coins: a parcel costs d times as much."""
    size, gamma, sigma, scale, decay, held = 4.0, 0.02, 0.5, 3.0, 0.7, 12.0
    coins = asymptotic_distances(held, gamma, sigma, scale, decay, size)
    parcels = asymptotic_distances(held / size, gamma, size * sigma, scale, decay / size)
    assert coins == pytest.approx([distance / size for distance in parcels])


def test_a_dealer_who_does_not_mind_risk_leans_on_nothing() -> None:
    bid, ask = asymptotic_distances(5.0, 1e-12, 2.0, 140.0, 1.5)
    assert bid == pytest.approx(1 / 1.5, rel=1e-4)
    assert ask == pytest.approx(1 / 1.5, rel=1e-4)


def test_a_dealer_who_is_long_bids_further_away_and_offers_nearer() -> None:
    bid, ask = asymptotic_distances(np.array([-4.0, 0.0, 4.0]), 0.1, 2.0, 140.0, 1.5)
    assert (np.diff(bid) > 0).all()
    assert (np.diff(ask) < 0).all()
    assert bid[1] == pytest.approx(ask[1])
    np.testing.assert_allclose(bid, ask[::-1])


def test_the_inventory_limit_is_what_one_bad_period_in_a_hundred_allows() -> None:
    # 1.5 % of 90 million at 1 % an hour and 73 100: 1.35e6 / (2.33 x 731) coins
    assert inventory_limit(1e6, 1.35e6, 0.01, 73_100.0) == pytest.approx(792.615, abs=1e-2)
    limits = inventory_limit(500.0, np.array([0.5e6, 1.35e6]), 0.01, 73_100.0)
    assert limits == pytest.approx([293.56, 500.0], abs=1e-2)


def test_compiled_code_gets_the_same() -> None:
    @njit
    def compiled(mid: float, held: float) -> tuple[float, float, float, float, float, float]:
        bid, ask = asymptotic_distances(held, 0.1, 2.0, 140.0, 1.5, 1.0)
        centre = reservation_price(mid, held, 0.1, 2.0, 0.5)
        spread = optimal_spread(0.1, 2.0, 0.5, 1.5)
        return bid, ask, centre, spread, fill_rate(bid, 140.0, 1.5), inventory_limit(100.0, 1e3, 0.01, mid)

    bid, ask = asymptotic_distances(3.0, 0.1, 2.0, 140.0, 1.5)
    plain = [bid, ask, reservation_price(100.0, 3.0, 0.1, 2.0, 0.5), optimal_spread(0.1, 2.0, 0.5, 1.5)]
    plain += [fill_rate(bid, 140.0, 1.5), inventory_limit(100.0, 1e3, 0.01, 100.0)]
    assert compiled(100.0, 3.0) == pytest.approx(plain, rel=1e-14)
