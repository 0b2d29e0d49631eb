"""Option values and the surface of implied volatility: what anyone would quote, given what the market has done.

MECHANICS 7. A slice is Gatheral's SVI without a shift, w(k) = a + b (rho k + sqrt(k^2 + s^2)), w the total variance and k = ln(K/S)
(Gatheral and Jacquier 2014, Quantitative Finance 14:59). Rates are zero, so that the forward is the price. A year has 365 days.

What is put in and what comes out: the quotes of a calm and of a crashed market are put in, and so is the speed at which variance is
expected to return, which was fitted to the at-the-money quotes of the crash. Where between the two the market stands comes out of the run:
from realised volatility, from the fall, and from the puts that customers bought in it. So the time, the depth and the order of what
happens to skew and term structure are the run's; that they cannot be very much worse than the crash that was put in is not.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from scipy.optimize import brentq, nnls
from scipy.special import ndtr

from abm.exchange.description import Frozen
from abm.world.fundamental import YEAR

Floats = npt.NDArray[np.float64]

DAYS = 365.0
_QUARTER = 0.6744897501960817  # of a standard normal variable, a quarter lies above this
_FURTHEST = 1.5  # crashes of skew and butterfly that are quoted at most: beyond, slices cease to exist


class Value(NamedTuple):
    """Value and sensitivities of options on one coin, for whoever holds them."""

    price: Floats
    """Currency."""
    delta: Floats
    """Coins."""
    gamma: Floats
    """Coins for each unit of currency that the price of a coin moves."""
    vega: Floats
    """Currency for a change of the volatility by 1 (that is 100 %)."""


def black_scholes(
    spot: npt.ArrayLike, strike: npt.ArrayLike, volatility: npt.ArrayLike, years: npt.ArrayLike, call: npt.ArrayLike
) -> Value:
    """Value of European options without interest (Black and Scholes 1973, Journal of Political Economy 81:637); arguments broadcast together.

    Args:
        spot: Price of a coin in currency.
        strike: In currency.
        volatility: A year, .42 for 42 %; above 0.
        years: To expiry; above 0.
        call: Whether each is a call; puts otherwise.
    """
    s, k, t = (np.asarray(x, np.float64) for x in (spot, strike, years))
    sd = np.asarray(volatility, np.float64) * np.sqrt(t)
    d1 = np.log(s / k) / sd + sd / 2.0
    density = np.exp(-(d1**2) / 2.0) / math.sqrt(2.0 * math.pi)
    price = s * ndtr(d1) - k * ndtr(d1 - sd)
    puts = ~np.asarray(call, np.bool_)
    # Put-call parity: a put is a call less the coin and plus the strike.
    return Value(price + puts * (k - s), ndtr(d1) - puts, density / (s * sd), s * density * np.sqrt(t))


class Quotes(NamedTuple):
    """How a slice of the surface is quoted; volatilities a year, .42 for 42 %."""

    atm: float
    """Implied volatility at the money, k = 0."""
    rr25: float
    """Risk reversal: that of the 25-delta call less that of the 25-delta put."""
    bf25: float
    """Butterfly: their mean less that at the money."""


class Svi(NamedTuple):
    """Parameters of a slice."""

    a: float
    b: float
    rho: float
    s: float

    def variance(self, k: npt.ArrayLike) -> Floats:
        """Total variance at log-strikes k: implied volatility squared times years."""
        x = np.asarray(k, np.float64)
        return np.asarray(self.a + self.b * (self.rho * x + np.sqrt(x * x + self.s * self.s)))


def delta_strike(volatility: Callable[[float], float], years: float, delta: float) -> float:
    """Log-strike at which an option has a delta.

    Args:
        volatility: Implied volatility a year at a log-strike.
        years: To expiry.
        delta: Above 0 of a call, below 0 of a put, such as .25 and -.25.
    """
    wanted = delta if delta > 0 else 1.0 + delta  # N(d1) of a put is 1 + delta

    def excess(k: float) -> float:
        sd = volatility(k) * math.sqrt(years)
        return float(ndtr(sd / 2.0 - k / sd)) - wanted

    reach = 10.0 * volatility(0.0) * math.sqrt(years)
    return float(brentq(excess, -reach, reach, xtol=1e-12))


def quotes_of(svi: Svi, years: float) -> Quotes:
    """How a slice is quoted, its 25-delta strikes found on the slice itself."""

    def volatility(k: float) -> float:
        return math.sqrt(svi.variance(k) / years)

    put, call = (volatility(delta_strike(volatility, years, delta)) for delta in (-0.25, 0.25))
    atm = volatility(0.0)
    return Quotes(atm, call - put, (call + put) / 2.0 - atm)


def fit_svi(quotes: Quotes, years: float, s: float) -> Svi:
    """The slice of a given `s` that is nearest to three quotes in total variance.

    At 25 delta the volatility is known, and so is the strike, k = sd^2/2 +- .6745 sd. With p = b (1 + rho)/2 and q = b (1 - rho)/2 the
    slice is linear, w = a + p (r + k) + q (r - k), r = sqrt(k^2 + s^2), and all of a, p, q >= 0 means b >= 0, |rho| <= 1 and a variance
    above 0 everywhere: least squares without negative numbers (Lawson and Hanson 1974), exact where such a slice has the quotes.

    Args:
        quotes: At the money, risk reversal, butterfly.
        years: To expiry.
        s: How round the slice is at the money, in log-strikes.
    """
    call, put = (quotes.atm + quotes.bf25 + side * quotes.rr25 / 2.0 for side in (1.0, -1.0))
    sd = np.array([put, quotes.atm, call]) * math.sqrt(years)
    k = np.array([-_QUARTER, 0.0, _QUARTER]) * sd + np.array([0.5, 0.0, 0.5]) * sd**2
    r = np.sqrt(k**2 + s**2)
    a, p, q = nnls(np.stack((np.ones(3), r + k, r - k), axis=1), sd**2)[0].tolist()
    return Svi(a, p + q, (p - q) / (p + q) if p + q > 0 else 0.0, s)


def realised_volatility(prices: npt.ArrayLike, interval: float, returns: int, before: float) -> float:
    """Realised volatility a year, as though what is missing at the beginning had moved as `before`.

    Args:
        prices: At equal times; shape (n,).
        interval: Seconds between two of them.
        returns: How many returns to count; fewer where there are not so many.
        before: Volatility a year of those that are missing.
    """
    moves = np.diff(np.log(np.asarray(prices, np.float64)))[-returns:]
    known = float(moves @ moves) * YEAR / interval
    return math.sqrt((known + (returns - len(moves)) * before**2) / returns)


class Tenor(Frozen):
    """Quotes of one time to expiry."""

    days: float = Field(gt=0, description="days to expiry", examples=[30])
    atm: float = Field(gt=0, le=5, description="implied volatility at the money, a year", examples=[0.42])
    rr25: float = Field(ge=-2, le=2, description="25-delta risk reversal, call less put", examples=[-0.05])
    bf25: float = Field(ge=0, le=1, description="25-delta butterfly", examples=[0.012])
    s: float = Field(gt=0, description="how round the slice is at the money, in log-strikes", examples=[0.1])

    def quotes(self) -> Quotes:
        """Its quotes."""
        return Quotes(self.atm, self.rr25, self.bf25)


class SurfaceTerms(Frozen):
    """The calm and the crashed surface, and what moves the market from one to the other."""

    calm: tuple[Tenor, ...] = Field(
        (
            Tenor(days=7, atm=0.42, rr25=-0.04, bf25=0.009, s=0.05),  # [A]
            Tenor(days=30, atm=0.42, rr25=-0.05, bf25=0.012, s=0.1),  # MECHANICS 7
        ),
        min_length=1,
        description="quotes of a calm market, by days to expiry",
    )
    crash: tuple[Tenor, ...] = Field(
        (
            Tenor(days=7, atm=1.10, rr25=-0.25, bf25=0.05, s=0.12),  # MECHANICS 7
            Tenor(days=30, atm=0.85, rr25=-0.13, bf25=0.03, s=0.18),  # MECHANICS 7
        ),
        min_length=1,
        description="quotes of a crashed market, at the same days",
    )
    reversion: float = Field(
        0.07,
        gt=0,
        le=10,
        description="part of what variance is above the calm that is expected to go in a day; .07 goes through the crash's 110 and 85 %",
        examples=[0.07],
    )
    crash_fall: float = Field(
        0.15, gt=0, lt=1, description="fall from the highest price that counts as a crash [A]", examples=[0.15]
    )
    fall_weight: float = Field(
        0.5, ge=0, le=1, description="part of the skew that answers the fall, the rest answers volatility [A]"
    )
    demand_weight: float = Field(
        1.0, ge=0, description="crashes of skew for puts sold in the run as many as there were at its start [A]"
    )

    @model_validator(mode="after")
    def _same_days(self) -> "SurfaceTerms":
        days = [tenor.days for tenor in self.calm]
        if days != [tenor.days for tenor in self.crash] or any(later <= sooner for sooner, later in pairwise(days)):
            raise ValueError("calm and crash must name the same days, rising from one to the next")
        if any(crash.atm <= calm.atm for calm, crash in zip(self.calm, self.crash, strict=True)):
            raise ValueError("crash.atm must be above calm.atm at each number of days")
        return self


def expected_variance(now: float, calm: float, reversion: float, days: float) -> float:
    """Mean variance over the coming days where it returns to the calm exponentially, as in Heston (1993, Review of Financial Studies 6:327).

    That is calm + (now - calm) (1 - e^-x)/x with x = reversion days. Where variance now is above the calm, short options are the dearer
    ones: the term structure is inverted.
    """
    x = reversion * days
    return calm + (now - calm) * -math.expm1(-x) / x


class OptionSurface:
    """Implied volatility for every strike and expiry, moved by what the market does."""

    def __init__(self, terms: SurfaceTerms, volatility: float) -> None:
        """Start from a realised volatility a year, without a fall and without demand."""
        self._terms = terms
        self._years = np.array([tenor.days for tenor in terms.calm]) / DAYS
        self._slices: list[Svi] = []
        self._quotes: list[tuple[float, Quotes]] | None = None
        self.move(volatility, 0.0, 0.0)

    def move(self, volatility: float, fall: float, demand: float) -> None:
        """Quote anew.

        Args:
            volatility: Realised, a year.
            fall: Of the price from its highest, as a fraction.
            demand: Puts that dealers have sold in the run, as a fraction of those at its start.
        """
        terms, self._slices, self._quotes = self._terms, [], None
        for calm, crash in zip(terms.calm, terms.crash, strict=True):
            atm = math.sqrt(expected_variance(volatility**2, calm.atm**2, terms.reversion, calm.days))
            stress = min(max((atm - calm.atm) / (crash.atm - calm.atm), 0.0), _FURTHEST)
            fallen = min(max(fall / terms.crash_fall, 0.0), _FURTHEST)
            skew = (1.0 - terms.fall_weight) * stress + terms.fall_weight * fallen + terms.demand_weight * demand
            rr25 = calm.rr25 + min(skew, _FURTHEST) * (crash.rr25 - calm.rr25)
            bf25 = calm.bf25 + stress * (crash.bf25 - calm.bf25)
            s = calm.s + stress * (crash.s - calm.s)
            self._slices.append(fit_svi(Quotes(atm, rr25, bf25), calm.days / DAYS, s))

    def volatility(self, k: npt.ArrayLike, years: npt.ArrayLike) -> Floats:
        """Implied volatility at log-strikes and years to expiry, which broadcast together.

        Total variance is linear in time between two slices, and the volatility is that of the nearest slice beyond them.
        """
        x, t = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(years, np.float64))
        known = np.stack([svi.variance(x) for svi in self._slices])
        nodes = self._years
        at = np.clip(np.searchsorted(nodes, t) - 1, 0, max(len(nodes) - 2, 0))
        after = np.minimum(at + 1, len(nodes) - 1)
        first, second = (np.take_along_axis(known, which[None], axis=0)[0] for which in (at, after))
        inside = np.clip(t, nodes[0], nodes[-1])
        width = np.maximum(nodes[after] - nodes[at], 1e-12)
        variance = first + (second - first) * (inside - nodes[at]) / width
        return np.asarray(np.sqrt(variance / inside))

    def quotes(self) -> Sequence[tuple[float, Quotes]]:
        """Days to expiry and quotes of each slice, read off the slices when they are first asked for."""
        if self._quotes is None:
            slices = zip(self._terms.calm, self._slices, strict=True)
            self._quotes = [(tenor.days, quotes_of(svi, tenor.days / DAYS)) for tenor, svi in slices]
        return self._quotes
