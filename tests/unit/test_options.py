"""Option values, and the surface of implied volatility between its two ends."""

import csv
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.integrate import quad
from scipy.stats import norm

from abm.world.fundamental import YEAR
from abm.world.options import (
    DAYS,
    OptionSurface,
    Quotes,
    SurfaceTerms,
    Svi,
    black_scholes,
    delta_strike,
    expected_variance,
    fit_svi,
    quotes_of,
    realised_volatility,
)

with (Path(__file__).parent.parent / "reference" / "slices.csv").open(encoding="utf-8") as lines:
    SLICES = list(csv.DictReader(line for line in lines if not line.startswith("#")))


def quotes(row: dict[str, str]) -> Quotes:
    return Quotes(*(float(row[name]) / 100 for name in ("atm", "rr25", "bf25")))


@pytest.mark.parametrize("row", SLICES, ids=[row["source"] for row in SLICES])
def test_the_printed_slices_have_the_quotes_they_were_fitted_to(row: dict[str, str]) -> None:
    printed = Svi(*(float(row[name]) for name in ("a", "b", "rho", "s")))
    # five decimals of a variance of .02 are a hundredth of a volatility point
    assert quotes_of(printed, float(row["days"]) / DAYS) == pytest.approx(quotes(row), abs=1e-4)


@pytest.mark.parametrize("row", SLICES, ids=[row["source"] for row in SLICES])
def test_the_fit_finds_the_printed_parameters_to_their_last_digit(row: dict[str, str]) -> None:
    years = float(row["days"]) / DAYS
    fitted = fit_svi(quotes(row), years, float(row["s"]))
    for name in ("a", "b", "rho"):
        decimals = len(row[name].partition(".")[2])
        assert round(getattr(fitted, name), decimals) == float(row[name])
    assert quotes_of(fitted, years) == pytest.approx(quotes(row), abs=1e-9)


@pytest.mark.parametrize("strike", [50_000.0, 73_100.0, 90_000.0])
@pytest.mark.parametrize("call", [True, False])
def test_a_value_is_the_mean_payoff_of_a_lognormal_price(strike: float, call: bool) -> None:
    spot, volatility, years = 73_100.0, 0.85, 22 / DAYS
    sd = volatility * math.sqrt(years)

    def payoff(z: float) -> float:
        gain = spot * math.exp(sd * z - sd**2 / 2) - strike
        return max(gain if call else -gain, 0.0) * norm.pdf(z)

    kink = (math.log(strike / spot) + sd**2 / 2) / sd
    mean = sum(quad(payoff, *between)[0] for between in ((-10, kink), (kink, 10)))
    assert float(black_scholes(spot, strike, volatility, years, call).price) == pytest.approx(mean, rel=1e-7)


def test_sensitivities_are_slopes_of_the_value() -> None:
    strike, years, call = np.array([50e3, 60e3, 73e3, 90e3]), 22 / DAYS, np.array([False, True, False, True])

    def value(spot: float = 73_100.0, volatility: float = 0.85) -> np.ndarray:
        return black_scholes(spot, strike, volatility, years, call).price

    at, h, dv = black_scholes(73_100.0, strike, 0.85, years, call), 1.0, 1e-4
    assert at.delta == pytest.approx((value(73_100 + h) - value(73_100 - h)) / (2 * h), rel=1e-6)
    assert at.gamma == pytest.approx((value(73_100 + h) - 2 * value() + value(73_100 - h)) / h**2, rel=1e-4)
    assert at.vega == pytest.approx((value(volatility=0.85 + dv) - value(volatility=0.85 - dv)) / (2 * dv), rel=1e-6)
    assert (at.delta < 0).tolist() == (~call).tolist()


@pytest.mark.parametrize("delta", [0.25, -0.25, 0.1, -0.4])
def test_a_strike_has_the_delta_it_was_found_for(delta: float) -> None:
    years, svi = 30 / DAYS, fit_svi(Quotes(0.85, -0.13, 0.03), 30 / DAYS, 0.18)
    k = delta_strike(lambda x: math.sqrt(svi.variance(x) / years), years, delta)
    volatility = math.sqrt(svi.variance(k) / years)
    assert float(black_scholes(1.0, math.exp(k), volatility, years, delta > 0).delta) == pytest.approx(delta, abs=1e-9)


def test_a_slice_that_cannot_be_has_the_nearest_one_and_variance_everywhere() -> None:
    steep = fit_svi(Quotes(0.4, -0.6, 0.0), 7 / DAYS, 0.05)
    assert steep.rho == -1.0
    assert (steep.variance(np.linspace(-3, 3, 101)) > 0).all()


def test_the_surface_begins_calm_and_goes_through_the_crash_that_was_put_in() -> None:
    terms = SurfaceTerms()
    surface = OptionSurface(terms, terms.calm[-1].atm)
    for (_, quoted), tenor in zip(surface.quotes(), terms.calm, strict=True):
        assert quoted == pytest.approx(tenor.quotes(), abs=1e-9)
    # the volatility whose mean over 30 days, on its way back, is the crash's 85 %
    month = terms.crash[-1]
    share = expected_variance(1.0, 0.0, terms.reversion, month.days)
    calm = terms.calm[-1].atm ** 2
    surface.move(math.sqrt(calm + (month.atm**2 - calm) / share), terms.crash_fall, 0.0)
    (_, week), (_, quoted) = surface.quotes()
    assert quoted == pytest.approx(month.quotes(), abs=1e-9)
    # the other tenor follows from the speed of return alone, which was fitted to it: half a point and no more
    assert week == pytest.approx(terms.crash[0].quotes(), abs=5e-3)


def test_volatility_lifts_the_near_end_most_and_a_fall_and_demand_lower_the_puts_side() -> None:
    surface = OptionSurface(SurfaceTerms(), 0.42)

    def quoted(volatility: float, fall: float, demand: float) -> tuple[Quotes, Quotes]:
        surface.move(volatility, fall, demand)
        (_, week), (_, month) = surface.quotes()
        return week, month

    calm, rough, fallen, bought = quoted(0.42, 0, 0), quoted(0.9, 0, 0), quoted(0.9, 0.1, 0), quoted(0.9, 0.1, 0.1)
    assert calm[0].atm == pytest.approx(calm[1].atm)
    assert rough[0].atm > rough[1].atm > calm[1].atm  # inverted
    for before, after in ((rough, fallen), (fallen, bought)):
        assert after[1].rr25 < before[1].rr25 < 0
        assert after[1].atm == pytest.approx(before[1].atm)
    quiet = quoted(0.2, 0, 0)
    assert quiet[0].atm < quiet[1].atm < calm[1].atm


def test_no_calendar_spread_is_free_and_every_variance_is_above_nothing() -> None:
    surface, k = OptionSurface(SurfaceTerms(), 0.42), np.linspace(-1.0, 1.0, 81)
    for volatility, fall, demand in product((0.2, 0.42, 0.8, 1.2, 2.0), (0.0, 0.1, 0.3), (0.0, 0.2)):
        surface.move(volatility, fall, demand)
        years = np.array([1, 7, 14, 22, 30, 60]) / DAYS
        variance = surface.volatility(k, years[:, None]) ** 2 * years[:, None]
        assert (np.diff(variance, axis=0) > 0).all()


def test_between_two_slices_total_variance_is_linear_in_time() -> None:
    surface = OptionSurface(SurfaceTerms(), 0.9)
    week, month, between = (float(surface.volatility(-0.1, days / DAYS)) ** 2 * days for days in (7.0, 30.0, 18.5))
    assert between == pytest.approx((week + month) / 2)
    assert float(surface.volatility(-0.1, 60 / DAYS)) == float(surface.volatility(-0.1, 30 / DAYS))


def test_expected_variance_lies_between_now_and_the_calm() -> None:
    assert expected_variance(1.0, 0.2, 0.07, 1e-6) == pytest.approx(1.0)
    assert expected_variance(1.0, 0.2, 0.07, 1e6) == pytest.approx(0.2, abs=1e-4)
    # the mean of an exponential return, by the sum over its days
    days = (np.arange(30_000) + 0.5) / 1000
    assert expected_variance(1.0, 0.2, 0.07, 30) == pytest.approx((0.2 + 0.8 * np.exp(-0.07 * days)).mean(), rel=1e-6)


def test_realised_volatility_is_that_of_the_path_and_of_what_was_before_it() -> None:
    sigma, minutes = 0.9, 200_000
    moves = sigma * math.sqrt(60 / YEAR) * np.random.default_rng(1).standard_normal(minutes)
    path = 73_100 * np.exp(np.cumsum(moves))
    assert realised_volatility(path, 60, minutes, 0.42) == pytest.approx(sigma, rel=0.01)
    assert realised_volatility(path[:1], 60, 720, 0.42) == pytest.approx(0.42)
    half = realised_volatility(path[-361:], 60, 720, 0.0)
    assert half == pytest.approx(realised_volatility(path[-361:], 60, 360, 0.0) / math.sqrt(2))


def test_terms_of_a_surface_fit_together() -> None:
    calm = SurfaceTerms().calm
    with pytest.raises(ValidationError, match="must name the same days"):
        SurfaceTerms(crash=calm[:1])
    with pytest.raises(ValidationError, match=r"crash\.atm must be above calm\.atm"):
        SurfaceTerms(crash=calm)
