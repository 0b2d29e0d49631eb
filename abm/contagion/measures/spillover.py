"""Contagion as returns show it: who moves with whom, whose shocks explain whose variance, and who is first.

Tables have a column for each asset and a row for each interval, oldest first. No measure here depends on the unit of returns, except where it
says so. Bad input raises a ValueError of one line that names the column and what to do; nothing warns.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from scipy.optimize import linprog
from statsmodels.tsa.vector_ar.var_model import VAR

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

_NEGLIGIBLE = (
    1e-7  # of a column's standard deviation: what is left of it given the others, where it says nothing of its own
)


# --------------------------------------------------------------------------------------------------- correlation, corrected


def corrected_correlation(
    calm: pd.DataFrame, crisis: pd.DataFrame, source: str, confidence: float = 0.95
) -> pd.DataFrame:
    """Correlations with the market where a crisis began, rid of the rise that its larger variance alone brings.

    Forbes and Rigobon (2002, J. Finance 57:2223, eq. 11): rho* = rho / sqrt(1 + delta (1 - rho^2)), delta the variance of the source
    in the crisis over that in calm, less 1. It holds if the source moves the others and not the reverse, and nothing moves both.

    Standard errors are of Fisher's z = artanh(rho) by the delta method, for normal returns: with n rows in crisis, m in calm,
    var z* = (1 - rho*^2) / ((1 + delta)(n - 3)) + rho*^2 / 2 (1/(n - 3) + 1/(m - 3)), var z = 1/(m - 3) and
    cov = rho* rho / (2 (m - 3)), since rho* takes its variance of the source from the calm rows. At delta = 0 known it is Fisher's 1/(n - 3).

    Args:
        calm: Returns before the crisis; at least 4 rows.
        crisis: Returns in it, of the same assets; at least 4 rows, none of those of `calm`.
        source: Column where the crisis began.
        confidence: Of the interval, such as 0.95.

    Returns:
        A row for each other asset: `calm` and `crisis` (correlations as they are), `delta`, `corrected`, its interval `low` to `high`,
        and of the test that the corrected correlation is above the calm one: `z` and the one-sided `p_value`. Small: contagion.

    Raises:
        ValueError: A table is not usable, the columns differ, or an argument is out of range.
    """
    _between(confidence, "confidence")
    before, after, ratio = _two_regimes(calm, crisis)
    if source not in calm.columns:
        raise ValueError(f"source: no column {source!r}; it is one of {', '.join(map(str, calm.columns))}")
    at = list(calm.columns).index(source)
    others = np.arange(len(calm.columns)) != at
    was, is_now, delta = before[at, others], after[at, others], float(ratio[at]) - 1.0
    corrected = _corrected(is_now, delta)

    n, m = len(crisis) - 3, len(calm) - 3
    variance = (1 - corrected**2) / ((1 + delta) * n) + corrected**2 / 2 * (1 / n + 1 / m)
    of_difference = variance + 1 / m - corrected * was / m
    z = (np.arctanh(corrected) - np.arctanh(was)) / np.sqrt(of_difference)
    reach = stats.norm.ppf((1 + confidence) / 2) * np.sqrt(variance)
    return pd.DataFrame(
        {
            "calm": was,
            "crisis": is_now,
            "delta": delta,
            "corrected": corrected,
            "low": np.tanh(np.arctanh(corrected) - reach),
            "high": np.tanh(np.arctanh(corrected) + reach),
            "z": z,
            "p_value": stats.norm.sf(z),
        },
        index=calm.columns[others],
    )


def corrected_correlations(calm: pd.DataFrame, crisis: pd.DataFrame) -> pd.DataFrame:
    """Corrected correlations of the crisis for each source (row) and each market (column); see `corrected_correlation`.

    Not symmetric: each row is corrected by the variances of its own source. The diagonal is 1.
    """
    _, after, ratio = _two_regimes(calm, crisis)
    return pd.DataFrame(_corrected(after, ratio[:, None] - 1.0), index=calm.columns, columns=calm.columns)


def _corrected(rho: Floats, delta: Floats | float) -> Floats:
    return np.asarray(rho / np.sqrt(1 + delta * (1 - rho**2)), np.float64)


def _two_regimes(calm: pd.DataFrame, crisis: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
    """Correlations in calm and in crisis, and each column's variance in crisis over that in calm."""
    found = _table(calm, 4, "calm"), _table(crisis, 4, "crisis")
    if not calm.columns.equals(crisis.columns):
        odd = [*calm.columns.symmetric_difference(crisis.columns), *calm.columns][0]
        raise ValueError(f"crisis has not the columns of calm, see {odd!r}; take both from one table")
    correlations = []
    for name, values in zip(("calm", "crisis"), found, strict=True):
        rho = np.asarray(np.corrcoef(values, rowvar=False), np.float64)
        same = np.argwhere(np.triu(1 - np.abs(rho) < _NEGLIGIBLE**2, 1))
        if len(same):
            one, other = calm.columns[same[0]]
            raise ValueError(f"columns {one!r} and {other!r} of {name} move as one; drop one of them")
        correlations.append(rho)
    return correlations[0], correlations[1], found[1].var(axis=0, ddof=1) / found[0].var(axis=0, ddof=1)


# ------------------------------------------------------------------------------------------------- variance decomposition


@dataclass(frozen=True)
class Spillover:
    """Whose shocks make whose forecast errors (Diebold and Yilmaz 2012, Int. J. Forecasting 28:57)."""

    shares: pd.DataFrame
    """Part of the forecast-error variance of the row's asset that comes from shocks to the column's; rows sum to 1."""

    @property
    def from_others(self) -> pd.Series:
        """Part of each asset's variance that comes from others: 0 to 1; eq. 7 has it divided by the number of assets."""
        return 1.0 - self._own

    @property
    def to_others(self) -> pd.Series:
        """Sum of what each asset gives to the variances of others: 0 to their number."""
        return self.shares.sum(axis=0) - self._own

    @property
    def net(self) -> pd.Series:
        """Given less received; sums to 0. Above 0: a source of shocks."""
        return self.to_others - self.from_others

    @property
    def total(self) -> float:
        """Part of all variance that comes from others: 0 to 1 (eq. 6, there in per cent)."""
        return float(self.from_others.mean())

    def graph(self) -> "nx.DiGraph[Any]":
        """The table as a network: an edge from the source of shocks to who takes them, `weight` its share."""
        graph: nx.DiGraph[Any] = nx.DiGraph()
        graph.add_nodes_from(self.shares.columns)
        for taker, row in self.shares.iterrows():
            graph.add_edges_from((giver, taker, {"weight": float(w)}) for giver, w in row.items() if giver != taker)
        return graph

    @property
    def _own(self) -> pd.Series:
        return pd.Series(np.diag(self.shares), index=self.shares.index)


def spillover_table(returns: pd.DataFrame, lags: int = 1, horizon: int = 10) -> Spillover:
    """Spillovers from the generalised variance decomposition of a vector autoregression with a constant.

    The order of the columns does not matter. Shocks are not made orthogonal: what assets have in common within an interval is
    counted as given by each to each, so a table of strongly correlated assets is full whoever began.

    Args:
        returns: Or volatilities; two columns or more, no one of them given by the others.
        lags: Of the autoregression, in rows.
        horizon: Of the forecast, in rows.

    Raises:
        ValueError: The table is not usable or too short for so many lags, or an asset is foretold without error.
    """
    _whole(lags, 1, "lags")
    _whole(horizon, 1, "horizon")
    values = _table(returns, 2)
    assets = values.shape[1]
    _in_time_order(returns, "returns", lags + (assets * lags + 1) + assets)
    values = _standardised(values)
    _refuse_singular(values, returns.columns, "is a combination of those before it")
    # Arrays, not the table: statsmodels would ask for the frequency of a time index.
    fit = VAR(values).fit(lags, trend="c")
    _refuse_singular(fit.resid, returns.columns, "is foretold without error by the past and those before it")
    shares = generalised_shares(fit.ma_rep(horizon - 1), fit.sigma_u)
    return Spillover(pd.DataFrame(shares, index=returns.columns, columns=returns.columns))


def generalised_shares(responses: Floats, covariance: Floats) -> Floats:
    """Generalised forecast-error variance decomposition, its rows divided by their sums.

    Pesaran and Shin (1998, Economics Letters 58:17), as in Diebold and Yilmaz (2012, eqs. 2-3):
    theta_ij = sum_h (e_i' A_h S e_j)^2 / (s_jj sum_h e_i' A_h S A_h' e_i), h from 0 to H - 1.

    Args:
        responses: A_h, coefficients of the moving average; shape (H, n, n), the first the unit matrix.
        covariance: S, of the shocks; shape (n, n).

    Returns:
        Shape (n, n): row i is whose variance, column j whose shock.
    """
    shocked = responses @ covariance
    # The variance that the formula divides by is the same along a row, so it goes out with the sum of the row.
    theta = (shocked**2).sum(axis=0) / np.diag(covariance)
    return np.asarray(theta / theta.sum(axis=1, keepdims=True), np.float64)


def rolling_spillover(
    returns: pd.DataFrame, window: int, lags: int = 1, horizon: int = 10, every: int = 1
) -> pd.DataFrame:
    """`spillover_table` of each `window` rows, moved on by `every` rows.

    Returns:
        A row for each window, by its last time. Columns have two levels: `total`, and `from_others`, `to_others`, `net` by asset.
    """
    times, tables = _rolling(returns, window, every, lambda part: spillover_table(part, lags, horizon))
    parts = {name: pd.DataFrame([getattr(t, name) for t in tables]) for name in ("from_others", "to_others", "net")}
    parts = {"total": pd.DataFrame({"": [t.total for t in tables]}), **parts}
    return pd.concat(parts, axis=1).set_index(times)


# ------------------------------------------------------------------------------------------------------- conditional risk


class CoVaR(NamedTuple):
    """Quantiles of a system given an institution; returns, so that losses are below 0."""

    beta: float
    """Slope of the system's quantile on the institution's return."""
    path: pd.DataFrame
    """By time: the institution's `var` (its quantile) and `median`, the system's `covar` given the one and `covar_at_median` given the
    other, and `delta` = covar - covar_at_median. All rows are the same where there are no states."""

    @property
    def delta(self) -> float:
        """Mean of `path["delta"]`, in the unit of returns: how much lower the system's quantile is in the institution's distress."""
        return float(self.path["delta"].mean())


def delta_covar(
    system: pd.Series, institution: pd.Series, q: float = 0.05, states: pd.DataFrame | None = None
) -> CoVaR:
    """What an institution in distress adds to the risk of a system (Adrian and Brunnermeier 2016, AER 106:1705, section II).

    Quantile regressions at q: institution = a + c' states gives its VaR, at 1/2 its median; system = a + beta institution + c' states
    gives the CoVaR. delta = beta (VaR - median). A measure of tails that move together, not of a cause.

    Args:
        system: Returns of the system.
        institution: Returns of the institution, at the same times.
        q: Quantile, between 0 and 1: 0.05 for the lower tail of returns. At 1 - q of losses this is what the paper has.
        states: What was known before each return, at the same times (shift it yourself); a column for each.

    Raises:
        ValueError: A series is not usable, times differ, q is not in (0, 1), or its tail has fewer rows than there are coefficients.
    """
    _between(q, "q")
    response, cause = _pair((system, institution), ("system", "institution"), 2)
    regressors = np.ones((len(cause), 1))
    if states is not None:
        known = _table(states, 2, "states", columns=1)
        _same_times(institution, states, "institution", "states")
        regressors = np.column_stack((regressors, known))
        columns = [*states.columns, "institution"]
        of_unit_size = _standardised(np.column_stack((known, cause)))
        _refuse_singular(of_unit_size, columns, "is a combination of those before it", "states")
    _in_time_order(institution, "institution", math.ceil((regressors.shape[1] + 1) / min(q, 1 - q)))

    var, median = (regressors @ _quantile_plane(cause, regressors, level) for level in (q, 0.5))
    plane = _quantile_plane(response, np.column_stack((regressors, cause)), q)
    beta, given_states = float(plane[-1]), regressors @ plane[:-1]
    path = {"var": var, "median": median, "covar": given_states + beta * var}
    path |= {"covar_at_median": given_states + beta * median, "delta": beta * (var - median)}
    return CoVaR(beta, pd.DataFrame(path, index=institution.index))


def _quantile_plane(response: Floats, regressors: Floats, q: float) -> Floats:
    """Coefficients of a quantile regression, the first of a constant, from its linear programme (Koenker and Bassett 1978, Econometrica 46:33).

    They are the prices of its dual: max y'a where X'a = (1 - q) X'1 and 0 <= a <= 1. Iterated least squares, as statsmodels has it, stops
    where a step is short; in samples of a hundred that was up to a tenth of a standard deviation away.
    """
    centre, scale = response.mean(), response.std()
    means, scales = regressors.mean(axis=0), regressors.std(axis=0)
    means[0], scales[0] = 0.0, 1.0
    columns = (regressors - means) / scales  # in standard units, for the solver's tolerance is absolute
    balance = (1 - q) * columns.sum(axis=0)
    solved = linprog(-(response - centre) / scale, A_eq=columns.T, b_eq=balance, bounds=(0, 1), method="highs")
    plane = -solved.eqlin.marginals * scale / scales
    plane[0] += centre - plane[1:] @ means[1:]
    return np.asarray(plane, np.float64)


# -------------------------------------------------------------------------------------------------------- absorption ratio


def absorption_ratio(returns: pd.DataFrame, n_components: int | None = None, half_life: float | None = None) -> float:
    """Part of all variance that the leading principal components take: high where markets are one.

    Kritzman, Li, Page and Rigobon (2011, J. Portfolio Management 37:112): the sum of the n largest eigenvalues of the covariance over
    the sum of all. Of covariances, so assets that move more count for more: divide columns by their standard deviations if they shall not.

    Args:
        returns: Two columns or more.
        n_components: A fifth of the assets if None, at least one; fewer than there are assets.
        half_life: Rows over which the weight of a row halves, back from the last; None for equal weights. The paper has half a window.
    """
    values = _table(returns, 2)
    assets = values.shape[1]
    leading = max(1, round(assets / 5)) if n_components is None else n_components
    _whole(leading, 1, "n_components")
    if leading >= assets:
        raise ValueError(f"n_components: {leading} of {assets} assets; take fewer than there are assets")
    weights = None
    if half_life is not None:
        if not 0 < half_life < math.inf:
            raise ValueError(f"half_life: {half_life}; give a number of rows above 0")
        weights = 0.5 ** (np.arange(len(values))[::-1] / half_life)
    eigenvalues = np.linalg.eigvalsh(np.cov(values, rowvar=False, aweights=weights))
    return float(eigenvalues[-leading:].sum() / eigenvalues.sum())


def rolling_absorption_ratio(
    returns: pd.DataFrame,
    window: int,
    n_components: int | None = None,
    half_life: float | None = None,
    every: int = 1,
) -> pd.Series:
    """`absorption_ratio` of each `window` rows, moved on by `every` rows; by the last time of each window."""
    times, ratios = _rolling(returns, window, every, lambda part: absorption_ratio(part, n_components, half_life))
    return pd.Series(ratios, index=times, name="absorption_ratio")


def absorption_shift(ratio: pd.Series, short: int = 15, long: int = 252) -> pd.Series:
    """Standardised shift: mean of the last `short` ratios less that of the last `long`, over the standard deviation of the latter.

    Kritzman, Li, Page and Rigobon (2011), there of days: above 1 came before most of the worst falls. Not a number where nothing moved.
    """
    _whole(short, 1, "short")
    _whole(long, short + 1, "long")
    values = pd.Series(_series(ratio, "ratio", long), index=ratio.index)
    shift = (values.rolling(short).mean() - values.rolling(long).mean()) / values.rolling(long).std()
    return shift.iloc[long - 1 :].rename("absorption_shift")


# -------------------------------------------------------------------------------------------------------- transfer entropy


class TransferEntropy(NamedTuple):
    """What the past of a source tells of the next value of a target, beyond the target's own past; bits."""

    raw: float
    """As counted. Above 0 even for independent series, as samples are finite."""
    effective: float
    """Raw less the mean over shuffled sources: 0 on average for independent series."""
    p_value: float
    """Part of shuffled sources, with the real one counted among them, that tell at least as much."""


def transfer_entropy(
    source: pd.Series,
    target: pd.Series,
    lags: int = 1,
    bins: int | Sequence[float] | None = 3,
    shuffles: int = 199,
    *,
    rng: np.random.Generator | int,
) -> TransferEntropy:
    """Transfer entropy from source to target (Schreiber 2000, PRL 85:461, eq. 4), with k = l = lags.

    T = sum p(y', y, x) log2 [p(y' | y, x) / p(y' | y)], y' the next symbol of the target, y and x the last `lags` of target and source.
    Effective as in Marschinski and Kantz (2002, Eur. Phys. J. B 30:275). What is shuffled are the source's words of `lags` symbols, which
    keeps their frequencies. The p-value is exact where the target hangs on no more than `lags` of its own past.

    Args:
        source: Series that may tell.
        target: Series that may be told of, at the same times.
        lags: Symbols of the past, of both.
        bins: Number of bins of equal counts; or the quantiles that part them, such as (0.05, 0.95) for two tails and a middle;
            or None where values are symbols already.
        shuffles: Their number; 0.05 times one more should be whole, so that a test at 5 % has that size.
        rng: Generator, or seed of one.

    Raises:
        ValueError: A series is not usable, times differ, all values fall into one bin, or there are more words than rows.
    """
    _whole(lags, 1, "lags")
    _whole(shuffles, 1, "shuffles")
    cause, effect = _pair((source, target), ("source", "target"), lags + 2)
    x, y = _symbols(cause, bins, "source"), _symbols(effect, bins, "target")
    rows, symbols, words = len(y) - lags, int(y.max()) + 1, (int(x.max()) + 1) ** lags
    cells = symbols ** (lags + 1) * words
    if cells > rows:
        raise ValueError(f"target has {rows} rows after the lags for {cells} words; give more rows, fewer bins or lags")

    told, past = y[lags:] + symbols * _words(y, lags), _words(x, lags)
    shape = words, symbols**lags, symbols

    def information(words_of_source: Codes) -> float:
        counts = np.bincount(told + symbols ** (lags + 1) * words_of_source, minlength=cells).reshape(shape)
        given_own, given_both = _entropy(counts.sum(axis=0)), _entropy(counts)
        return given_own - _entropy(counts.sum(axis=(0, 2))) + _entropy(counts.sum(axis=2)) - given_both

    chance = np.random.default_rng(rng)
    raw = information(past)
    shuffled = np.array([information(chance.permutation(past)) for _ in range(shuffles)])
    as_much = int((shuffled >= raw - 1e-12).sum())  # the same counts may sum to a last digit more or less
    return TransferEntropy(raw, raw - float(shuffled.mean()), (1 + as_much) / (1 + shuffles))


def _symbols(values: Floats, bins: int | Sequence[float] | None, name: str) -> Codes:
    """Values as symbols 0, 1, ...; those that do not occur are not counted."""
    if bins is None:
        symbols = values
    else:
        if isinstance(bins, int | np.integer):
            _whole(bins, 2, "bins")
            parts = np.arange(1, bins) / bins
        else:
            parts = np.sort(np.asarray(bins, np.float64))
            for part in parts:
                _between(float(part), "bins")
        symbols = np.searchsorted(np.quantile(values, parts), values).astype(np.float64)
    codes = np.unique(symbols, return_inverse=True)[1].astype(np.int64)
    if codes.max() < 1:
        raise ValueError(f"{name} has all values in one bin; give other bins, or None if values are symbols")
    return codes


def _words(symbols: Codes, lags: int) -> Codes:
    """Before each symbol from the one at `lags` on: the last `lags` symbols as one number."""
    base = int(symbols.max()) + 1
    return np.asarray(
        sum(base ** (lag - 1) * symbols[lags - lag : len(symbols) - lag] for lag in range(1, lags + 1)), np.int64
    )


def _entropy(counts: Codes) -> float:
    """In bits."""
    p = counts[counts > 0] / counts.sum()
    return -float((p * np.log2(p)).sum())


# ------------------------------------------------------------------------------------------------------------ lead and lag


class LeadLag(NamedTuple):
    """Who is first. Lags above 0: x leads y."""

    lag: Any
    """Where the correlation is largest in size; a Timedelta where times are."""
    correlation: float
    """There."""
    ratio: float
    """Sum of squared correlations at lags above 0 over that below 0 (LLR; Huth and Abergel 2014, J. Empirical Finance 26:41): above 1 if x leads."""
    curve: pd.Series
    """Correlation by lag."""


def lead_lag(x: pd.Series, y: pd.Series, max_lag: int) -> LeadLag:
    """Cross-correlation of x[t] with y[t + lag], lags from -max_lag to max_lag rows, for returns over the same intervals.

    Deviations are from the means of all rows, and sums are over n whatever the lag (Box and Jenkins).

    Raises:
        ValueError: A series is not usable, times differ, or there are too few rows.
    """
    _whole(max_lag, 1, "max_lag")
    first, second = (_standardised(values) for values in _pair((x, y), ("x", "y"), max_lag + 3))
    n, lags = len(first), range(-max_lag, max_lag + 1)
    curve = [float(first[max(-lag, 0) : n - lag] @ second[max(lag, 0) : n + lag]) / n for lag in lags]
    return _peak(pd.Series(curve, index=pd.Index(lags, name="lag"), name="correlation"))


def hayashi_yoshida(x: pd.Series, y: pd.Series, max_lag: Any, step: Any) -> LeadLag:
    """Lead and lag of two series seen at times of their own, without putting them on one grid.

    The covariance of Hayashi and Yoshida (2005, Bernoulli 11:359), with y moved back by each lag as in Hoffmann, Rosenbaum and Yoshida
    (2013, Bernoulli 19:426): U(lag) = sum dX_i dY_j over the pairs whose intervals (s_i-1, s_i] and (t_j-1, t_j] - lag overlap. Their
    estimate is the lag where |U| is largest. As correlation: U / sqrt(sum dX^2 sum dY^2).

    Args:
        x: Levels, such as logarithms of prices, at the times of its index: numbers, or dates and times.
        y: The same, at its own times.
        max_lag: Largest lag, in the unit of the index; what `pd.Timedelta` takes where that has dates and times.
        step: Between lags, likewise.

    Raises:
        ValueError: A series is not usable, one index is of times and the other of numbers, or lags are not above 0.
    """
    levels = _series(x, "x", 3), _series(y, "y", 3)
    dated = _dated(x.index, y.index)
    times = [_numbered(index, dated) for index in (x.index, y.index)]
    lags = _lags(max_lag, step, dated)
    # Times that are not whole numbers are as exact as the largest of them: two ends nearer than that are the same.
    whole = all(np.issubdtype(each.dtype, np.integer) for each in (*times, lags))
    same: Any = 0 if whole else 4 * np.spacing(max(float(np.abs(each).max()) for each in (*times, lags)))
    moves = np.diff(levels[0])
    size = math.sqrt(float(moves @ moves) * float((np.diff(levels[1]) ** 2).sum()))
    curve = [float(moves @ _moved(times[0] + lag, times[1], levels[1], same)) / size for lag in lags]
    labels = pd.to_timedelta(lags, unit="ns") if dated else pd.Index(lags)
    return _peak(pd.Series(curve, index=labels.rename("lag"), name="correlation"))


def _moved(ends: npt.NDArray[Any], times: npt.NDArray[Any], levels: Floats, same: Any) -> Floats:
    """By how much levels moved over all of their intervals that overlap each of the intervals between `ends`."""
    begin = np.searchsorted(times[1:], ends[:-1] + same, side="right")
    end = np.searchsorted(times[:-1], ends[1:] - same, side="left")
    return np.asarray(levels[end] - levels[begin], np.float64)


def _dated(one: pd.Index, other: pd.Index) -> bool:
    """Whether times are dates or durations, rather than numbers; refuses two sets that do not run on one clock."""

    def kind(index: pd.Index) -> str:
        if isinstance(index, pd.DatetimeIndex):
            return "dates without a zone" if index.tz is None else "dates with a zone"
        if isinstance(index, pd.TimedeltaIndex):
            return "durations"
        return "numbers" if pd.api.types.is_any_real_numeric_dtype(index.dtype) else "neither numbers nor times"

    if kind(one) != kind(other) or kind(one).startswith("neither"):
        raise ValueError(f"y has an index of {kind(other)}, x of {kind(one)}; give both times of one clock")
    return kind(one) != "numbers"


def _numbered(index: Any, dated: bool) -> npt.NDArray[Any]:
    """Times as numbers: nanoseconds of dates and durations."""
    return np.asarray(index.as_unit("ns").asi8 if dated else index)


def _lags(max_lag: Any, step: Any, dated: bool) -> npt.NDArray[Any]:
    """Multiples of the step from -max_lag to max_lag, as numbers."""
    reach, pace = _ticks(max_lag, "max_lag", dated), _ticks(step, "step", dated)
    steps = int(reach / pace * (1 + 1e-12))
    if steps < 1:
        raise ValueError(f"max_lag: {max_lag!r} is shorter than the step {step!r}; give at least one step")
    return np.asarray(np.arange(-steps, steps + 1) * pace)


def _ticks(span: Any, name: str, dated: bool) -> Any:
    """A span as a number: nanoseconds where times are dates. A bare number there would too easily be meant for seconds."""
    usable, ticks = isinstance(span, Real) != dated, span
    if dated and usable:
        try:
            ticks = pd.Timedelta(span).as_unit("ns").value
        except (TypeError, ValueError):
            usable = False
    if not (usable and 0 < ticks < math.inf):
        wanted = "a duration above 0, such as '10s'" if dated else "a number above 0 in the unit of the index"
        raise ValueError(f"{name}: {span!r}; give {wanted}")
    return ticks


def _peak(curve: pd.Series) -> LeadLag:
    """Of lags that are equally good the one nearest to 0, for series that move at the same times seem to lead by any less."""
    values, half = curve.to_numpy(), len(curve) // 2
    nearest = np.argsort(np.abs(np.arange(len(curve)) - half), kind="stable")
    best = int(nearest[np.argmax(np.abs(values[nearest]))])
    ahead, behind = float((values[half + 1 :] ** 2).sum()), float((values[:half] ** 2).sum())
    ratio = ahead / behind if behind > 0 else math.inf if ahead > 0 else math.nan
    return LeadLag(curve.index[best], float(values[best]), ratio, curve)


# ------------------------------------------------------------------------------------------------------- what is refused


def _table(returns: object, rows: int, name: str = "returns", columns: int = 2) -> Floats:
    """Values of a usable table; shape (rows, columns)."""
    if not isinstance(returns, pd.DataFrame):
        raise ValueError(f"{name} is a {type(returns).__name__}; give a DataFrame with a column for each asset")
    if returns.shape[1] < columns:
        raise ValueError(f"{name} has only the columns {list(returns.columns)}; give at least {columns}")
    twice = returns.columns[returns.columns.duplicated()]
    if len(twice):
        raise ValueError(f"{name} has two columns {twice[0]!r}; rename one")
    _in_time_order(returns, name, rows)
    return _numbers(returns, [f"column {label!r} of {name}" for label in returns.columns])


def _series(series: object, name: str, rows: int) -> Floats:
    """Values of a usable series; shape (rows,)."""
    if not isinstance(series, pd.Series):
        raise ValueError(f"{name} is a {type(series).__name__}; give a Series, such as a column of a table")
    _in_time_order(series, name, rows)
    return _numbers(series.to_frame(), [name if series.name is None else f"{name} {series.name!r}"])[:, 0]


def _in_time_order(values: pd.DataFrame | pd.Series, name: str, rows: int) -> None:
    if len(values) < rows:
        raise ValueError(f"{name} has {len(values)} rows and needs at least {rows}; give a longer window")
    if not (values.index.is_monotonic_increasing and values.index.is_unique):
        raise ValueError(f"{name} has an index that does not increase throughout; sort it and drop duplicates")


def _numbers(table: pd.DataFrame, names: Sequence[str]) -> Floats:
    for name, dtype in zip(names, table.dtypes, strict=True):
        if not pd.api.types.is_any_real_numeric_dtype(dtype):
            raise ValueError(f"{name} has values of type {dtype}; give numbers")
    values = table.to_numpy(np.float64, na_value=math.nan)
    bad = ~np.isfinite(values)
    if bad.any():
        worst = int(np.argmax(bad.any(axis=0)))
        count, at = bad[:, worst].sum(), table.index[int(np.argmax(bad[:, worst]))]
        raise ValueError(f"{names[worst]} has {count} missing or infinite, first at {at}; drop or fill them")
    still = values.std(axis=0) <= 1e-12 * np.abs(values).max(axis=0)
    if still.any():
        raise ValueError(f"{names[int(np.argmax(still))]} is constant; drop it or give a window in which it moves")
    return values


def _pair(series: tuple[pd.Series, pd.Series], names: tuple[str, str], rows: int) -> tuple[Floats, Floats]:
    """Values of two usable series at the same times."""
    first, second = (_series(each, name, rows) for each, name in zip(series, names, strict=True))
    _same_times(*series, *names)
    return first, second


def _same_times(one: Any, other: Any, name: str, other_name: str) -> None:
    fix = "join them on their times (pd.concat(..., axis=1, join='inner'))"
    if len(one) != len(other):
        raise ValueError(f"{other_name} has {len(other)} rows and {name} {len(one)}; {fix}")
    if not one.index.equals(other.index):
        raise ValueError(f"{other_name} has not the index of {name}; {fix}")


def _standardised(values: Floats) -> Floats:
    return np.asarray((values - values.mean(axis=0)) / values.std(axis=0), np.float64)


def _refuse_singular(values: Floats, columns: Sequence[Any] | pd.Index, fault: str, name: str = "returns") -> None:
    """Refuse columns of about unit size of which one has nothing of its own, given those before it."""
    alone = np.abs(np.diag(np.linalg.qr(values, mode="r"))) / math.sqrt(len(values))
    if (alone < _NEGLIGIBLE).any():
        label = columns[int(np.argmax(alone < _NEGLIGIBLE))]
        raise ValueError(f"column {label!r} of {name} {fault} (singular covariance); drop it")


def _rolling[T](
    returns: pd.DataFrame, window: int, every: int, measure: Callable[[pd.DataFrame], T]
) -> tuple[pd.Index, list[T]]:
    """The measure of each window, and the last time of each."""
    _whole(window, 2, "window")
    _whole(every, 1, "every")
    _table(returns, window)
    found = []
    ends = range(window, len(returns) + 1, every)
    for end in ends:
        try:
            found.append(measure(returns.iloc[end - window : end]))
        except ValueError as error:
            raise ValueError(f"window to {returns.index[end - 1]}: {error}") from None
    return returns.index[[end - 1 for end in ends]], found


def _whole(number: object, least: int, name: str) -> None:
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
        raise ValueError(f"{name}: {number!r}; give a whole number of at least {least}")


def _between(number: float, name: str) -> None:
    if not 0 < number < 1:
        raise ValueError(f"{name}: {number!r}; give a number between 0 and 1, neither included")
