"""Estimators of stylised facts: plain functions from arrays to numbers, each with the source of its formula.

Returns are logarithmic, one for each interval, in time order. Nothing here depends on their unit, except where it says so.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize, stats
from statsmodels.tsa.stattools import acf

Numbers = npt.NDArray[np.float64]

NAN = float("nan")
TAIL = 0.05
"""Share of the largest absolute returns that counts as the tail."""
EWMA_DECAY = 0.94
"""Weight of the variance before in the volatility that returns are divided by (RiskMetrics 1996, for days)."""


class PowerLaw(NamedTuple):
    """y = scale x^exponent."""

    scale: float
    exponent: float


# ------------------------------------------------------------------------------------------------------------- returns


def hill(returns: Numbers, share: float = TAIL) -> float:
    """Tail exponent of absolute returns from their k largest, k = share x n (Hill 1975, Annals of Statistics 3:1163).

    The largest 5 % reach into the body: of Student's law with 3 degrees of freedom they give 2.65, with 4 3.2, of a normal one 6.
    """
    size = np.sort(np.abs(returns))
    k = int(share * len(size))
    if k < 1 or size[-k - 1] <= 0:
        return NAN
    excess = float(np.log(size[-k:] / size[-k - 1]).mean())
    return 1.0 / excess if excess > 0 else NAN


def loss_gain_ratio(returns: Numbers, share: float = TAIL) -> float:
    """Mean of the largest losses over mean of the largest gains, the same number of each."""
    k = max(int(share * len(returns)), 1)
    ordered = np.sort(returns)
    gain = float(ordered[-k:].mean())
    return -float(ordered[:k].mean()) / gain if gain > 0 else NAN


def aggregate(returns: Numbers, times: int) -> Numbers:
    """Returns over `times` intervals that do not overlap; what is left over at the end is dropped."""
    n = len(returns) // times
    return returns[: n * times].reshape(n, times).sum(axis=1)


def kurtosis_slope(returns: Numbers, scales: tuple[int, ...]) -> float:
    """Slope of log kurtosis (3 for a normal law) on log scale: below 0 where sums of returns come nearer to normal."""
    kurtosis = [float(stats.kurtosis(aggregate(returns, scale), fisher=False)) for scale in scales]
    return float(stats.linregress(np.log(scales), np.log(kurtosis)).slope)


def burstiness(returns: Numbers, share: float = TAIL) -> float:
    """(s - m)/(s + m) of the waits between large absolute returns: 0 if they come at random, 1 if in bursts.

    Goh and Barabasi (2008), EPL 81:48002. Large are the `share` largest.
    """
    waits = np.diff(np.flatnonzero(np.abs(returns) > np.quantile(np.abs(returns), 1.0 - share)))
    if len(waits) < 2:
        return NAN
    spread, mean = float(waits.std()), float(waits.mean())
    return (spread - mean) / (spread + mean)


def ewma_residuals(returns: Numbers, decay: float = EWMA_DECAY) -> Numbers:
    """Returns over the volatility expected from those before: s^2[t] = decay s^2[t-1] + (1 - decay) r^2[t-1].

    Stands in for the residuals of a GARCH model. The first 1/(1 - decay) returns, over which the recursion forgets its
    start, are dropped, and so are those before which nothing ever moved.
    """
    variance = pd.Series(returns**2).ewm(alpha=1.0 - decay, adjust=False).mean().shift().to_numpy()
    settled = (np.arange(len(returns)) >= 1.0 / (1.0 - decay)) & (variance > 0)
    return returns[settled] / np.sqrt(variance[settled])


def local_deviations(time: pd.Series, returns: Numbers, window: int = 270) -> Numbers:
    """Returns over what is usual just then: of a law without jumps they are nearly normal (Lee and Mykland 2008, Rev. Financial Studies 21:2535).

    What is usual is the bipower variation of the `window` returns before, which jumps hardly move, times how much each quarter of an
    hour of the day (UTC) usually has: its median absolute return (after Boudt, Croux and Laurent 2011, J. Empirical Finance 18:353).
    Not a number in the first window, and where nothing moved.
    """
    quarter = (time.dt.hour * 4 + time.dt.minute // 15).to_numpy()
    usual = np.ones(len(returns))
    for _ in range(2):  # the pattern is of returns over the local volatility, and that of returns over the pattern
        size = pd.Series(np.abs(returns / usual))
        local = np.sqrt((size * size.shift()).rolling(window - 1).mean().shift() * np.pi / 2.0).to_numpy()
        middle = (
            pd.Series(np.divide(size, local, out=np.full(len(size), NAN), where=local > 0)).groupby(quarter).median()
        )
        usual *= (middle / np.sqrt((middle**2).mean())).where(middle > 0, 1.0).reindex(quarter).to_numpy()
    return np.divide(returns, usual * local, out=np.full(len(returns), NAN), where=local > 0)


def jump_threshold(per_day: int, level: float = 0.01) -> float:
    """Local deviations that the largest of a day's returns exceeds in `level` of days if there are no jumps (Lee and Mykland 2008, lemma 1).

    Args:
        per_day: Returns in a day.
        level: How often it is said that there was a jump though there was none, days.
    """
    root = math.sqrt(2.0 * math.log(per_day))
    centre = root - (math.log(math.pi) + math.log(math.log(per_day))) / (2.0 * root)
    return centre - math.log(-math.log1p(-level)) / root


def leverage(returns: Numbers, lags: int = 12) -> float:
    """Correlation of a return with the mean absolute return of the next `lags` intervals: below 0 where falls bring volatility.

    Cont (2001) has squares; absolute values do not hang on the few largest returns.
    """
    after = np.convolve(np.abs(returns), np.ones(lags) / lags, "valid")[1:]
    return float(np.corrcoef(returns[: len(after)], after)[0, 1])


def time_scale_asymmetry(returns: Numbers, times: int = 12) -> float:
    """How much better coarse volatility tells the next fine one than the reverse (Mueller et al. 1997, J. Empirical Finance 4:213).

    Coarse: the absolute return over `times` intervals. Fine: the sum of the absolute returns in them. The difference of
    the correlations coarse[t], fine[t+1] and fine[t], coarse[t+1]; above 0 where information flows from coarse to fine.
    """
    coarse, fine = np.abs(aggregate(returns, times)), aggregate(np.abs(returns), times)
    return float(np.corrcoef(coarse[:-1], fine[1:])[0, 1] - np.corrcoef(fine[:-1], coarse[1:])[0, 1])


# -------------------------------------------------------------------------------------------------------------- memory


def log_lags(first: int, last: int, points: int = 20) -> npt.NDArray[np.int64]:
    """Whole lags from first to last, as evenly spaced on a log scale as whole numbers can be."""
    return np.unique(np.geomspace(first, last, points).round().astype(np.int64))


def log_bins(correlation: Numbers, first: int) -> tuple[Numbers, Numbers]:
    """Means of an autocorrelation, of lags 0, 1, .., in some 20 bins even on a log scale from `first` on: their mean lags, the means."""
    edges = log_lags(first, len(correlation), 21)
    bins = [np.arange(low, high) for low, high in pairwise(edges)]
    return np.array([lags.mean() for lags in bins]), np.array([correlation[lags].mean() for lags in bins])


def autocorrelation(series: Numbers, lags: npt.NDArray[np.int64]) -> Numbers:
    """Autocorrelation at each lag; not a number at all where the series does not move."""
    if np.ptp(series) == 0:
        return np.full(len(lags), NAN)
    return np.asarray(acf(series, nlags=int(np.max(lags)), fft=True), np.float64)[lags]


class Decay(NamedTuple):
    """How an autocorrelation falls with the lag."""

    exponent: float
    """g of the power law a lag^-g."""
    power_over_exponential: float
    """Akaike's criterion of a exp(-lag/b) less that of the power law: above 0 the power law fits better."""


def decay(series: Numbers, first: int, last: int) -> Decay:
    """Fit a power law and an exponential to the autocorrelation over lags first to last, bins even on a log scale.

    Least squares of the autocorrelation itself, for its logarithm would drop what is negative and so what has decayed.
    Subtracting the sample mean lowers the autocorrelation of a series with memory by the variance of that mean (Hosking
    1996, J. Econometrics 73:261); both laws are lowered so before they are compared. Not a number where the mean over the lags is
    within three standard errors of none: there is no memory then whose decay could be measured.
    """
    n = len(series)
    every = autocorrelation(series, np.arange(last + 1))
    memory = float(every[first:].mean())
    if not memory > 3.0 / np.sqrt(n * (last - first + 1)):
        return Decay(NAN, NAN)
    lags, found = log_bins(every, first)
    scale = max(float(found[0]), memory)
    power = _fitted(lambda lag, a, g: a * lag**-g, lags, found, n, (scale * first**0.5, 0.5), (100.0, 5.0))
    exponential = _fitted(lambda lag, a, b: a * np.exp(-lag / b), lags, found, n, (scale, last / 3.0), (100.0, 1e6))
    return Decay(float(power.x[1]), float(len(lags) * np.log(exponential.cost / power.cost)))


def _fitted(
    law: Callable[..., Numbers],
    lags: Numbers,
    found: Numbers,
    n: int,
    start: tuple[float, float],
    most: tuple[float, float],
) -> optimize.OptimizeResult:
    """Least squares of law(lags, a, b), lowered by the variance of the mean of n values that have this autocorrelation."""
    all_lags = np.geomspace(1.0, n - 1.0, 200)

    def residuals(values: Numbers) -> Numbers:
        of_mean = 2.0 / n * np.trapezoid((1.0 - all_lags / n) * law(all_lags, *values), all_lags)
        return law(lags, *values) - of_mean - found

    return optimize.least_squares(residuals, start, bounds=((0.0, 1e-3), most), x_scale=np.abs(start))


# -------------------------------------------------------------------------------------------------------------- impact


def impact_curve(volume: Numbers, move: Numbers, bins: int = 20) -> pd.DataFrame:
    """Mean move of the mid in the direction of a signed volume, given its size: `size`, `mean` and its standard `error`, by bin.

    Bins have equal counts, smallest sizes first; there are none where there are fewer than ten volumes for each. Size is in
    units of the mean absolute volume, move in units of the standard deviation of moves (Bouchaud, Bonart, Donier and Gould
    2018, Trades, Quotes and Prices, ch. 11-12). Volumes of 0 have no direction and are left out.
    """
    signed = volume != 0
    size, response = np.abs(volume[signed]), np.sign(volume[signed]) * move[signed] / (move.std() or NAN)
    enough = len(size) >= 10 * bins
    parts = np.array_split(np.argsort(size, kind="stable"), bins) if enough else []
    return pd.DataFrame(
        {
            "size": [size[part].mean() / size.mean() for part in parts],
            "mean": [response[part].mean() for part in parts],
            "error": [response[part].std(ddof=1) / np.sqrt(len(part)) for part in parts],
        }
    )


def power_law(curve: pd.DataFrame) -> PowerLaw:
    """Weighted least squares of mean = scale size^exponent over the bins of an `impact_curve`.

    On the means rather than on their logarithms: bins of small orders often have a mean below 0, and to drop those would
    flatten the curve. Not a number where the means are not above 0 on the whole.
    """
    size, mean, error = (curve[name].to_numpy() for name in ("size", "mean", "error"))
    if not (len(curve) and (error > 0).all()):
        return PowerLaw(NAN, NAN)
    start = float(np.average(mean, weights=error**-2))
    if start <= 0:
        return PowerLaw(NAN, NAN)

    def residuals(values: Numbers) -> Numbers:
        return (values[0] * size ** values[1] - mean) / error

    found = optimize.least_squares(residuals, (start, 0.5), bounds=((0.0, -1.0), (np.inf, 4.0)), x_scale="jac")
    return PowerLaw(float(found.x[0]), float(found.x[1]))


def log_slope(x: Numbers, y: Numbers) -> float:
    """Slope of the regression of log y on log x; not a number for fewer than three points, or where one is not above 0."""
    if len(x) < 3 or not (y > 0).all():
        return NAN
    return float(stats.linregress(np.log(x), np.log(y)).slope)


# ------------------------------------------------------------------------------------------------------- time of the day


def hourly_profile(time: pd.Series, size: Numbers) -> pd.Series:
    """Mean size in each hour of the day (UTC), over the mean of these means."""
    profile = pd.Series(size).groupby(time.dt.hour.to_numpy()).mean()
    return profile / profile.mean()


def without_hours(time: pd.Series, size: Numbers) -> Numbers:
    """Sizes over the mean size of their hour of the day (Andersen and Bollerslev 1997, J. Empirical Finance 4:115)."""
    profile = hourly_profile(time, size)
    return size / profile.where(profile > 0, 1.0).reindex(time.dt.hour.to_numpy()).to_numpy()


def curvature(profile: Numbers) -> float:
    """Coefficient c of a + b x + c x^2 through a profile, x from -1 to 1 over the session: above 0 where it is U-shaped."""
    edges = np.linspace(-1.0, 1.0, len(profile) + 1)
    return float(np.polynomial.Polynomial.fit((edges[:-1] + edges[1:]) / 2, profile, 2).convert().coef[2])
