"""Stylised facts of a run or of candles: the eleven of Cont (2001, Quantitative Finance 1:223), and those of the order book.

`stylised_facts` gives the table, `stylised_curves` what the figure draws. Both take a run, candles, or a `Sample` made of either.
What they are held against, real values and bands, is data: `configs/observations/stylised.csv` and `stylised-curves.csv`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from abm.record import Result
from abm.scenario import configs
from analysis.compare import read_observations
from analysis.estimators import (
    NAN,
    Numbers,
    aggregate,
    autocorrelation,
    burstiness,
    curvature,
    decay,
    ewma_residuals,
    hill,
    hourly_profile,
    impact_curve,
    kurtosis_slope,
    leverage,
    log_bins,
    log_lags,
    log_slope,
    loss_gain_ratio,
    power_law,
    time_scale_asymmetry,
    without_hours,
)
from analysis.samples import DAY, FEWEST, Sample, key, run_sample, sample, spacing

HOUR = pd.Timedelta("1h")
MOMENTS = ("skewness", "excess_kurtosis", "excess_kurtosis_12", "kurtosis_slope", "excess_kurtosis_residual")
"""Statistics without an interval: of a law with a tail exponent under 4 they need not exist, and samples say little about them."""
POSITIVE = ("hill", "loss_gain_ratio", "hill_residual", "intraday_ratio", "spread_bps")
"""Statistics that are above 0 by definition."""
BLOCKS = 20
"""Parts a table is cut into for the interval of a statistic."""
SCALES = (1, 3, 12, 48, 288)
"""Intervals put together for aggregational Gaussianity; each needs 100 sums."""
SIGN_LAGS = (10, 1000)
"""Lags, in taker orders, over which the memory of order signs is fitted; the second at most a 20th of the orders."""

_ROWS = {
    "moves": "returns",
    "quotes": "quotes",
    "depth": "depths at several distances",
    "orders": "taker orders",
    "parents": "parent orders",
}


# --------------------------------------------------------------------------------------------------------------- facts


@dataclass(frozen=True)
class Fact:
    """A fact, the statistics it is told by, and how they are measured."""

    name: str
    table: str
    """Table of the sample that it is measured on: moves, quotes, depth, orders or parents."""
    rows: int
    """Rows below which nothing is said."""
    measure: Callable[[pd.DataFrame], Iterable[float]]
    """The statistics, in their order, from that table."""
    statistics: dict[str, str]
    """What each statistic is."""
    needs: tuple[str, ...] = ()
    """Columns that the table may lack."""
    otherwise: str = "a series that does not move"
    """Why there may be no value though there are rows enough."""


def _returns(moves: pd.DataFrame) -> Numbers:
    return moves["ret"].to_numpy(np.float64)


def _tails(returns: Numbers) -> tuple[float, float]:
    return hill(returns), float(stats.kurtosis(returns))


def _aggregation(moves: pd.DataFrame) -> tuple[float, float]:
    returns = _returns(moves)
    return float(stats.kurtosis(aggregate(returns, 12))), kurtosis_slope(returns, _scales(returns))


def _scales(returns: Numbers) -> tuple[int, ...]:
    return tuple(scale for scale in SCALES if len(returns) >= 100 * scale)


def _clustering(moves: pd.DataFrame) -> Numbers:
    return autocorrelation(np.abs(_returns(moves)), np.array([1, 10, 100]))


def _slow_decay(moves: pd.DataFrame) -> tuple[float, float]:
    size, time = np.abs(_returns(moves)), moves["time"]
    # A daily cycle bends the curve within a hundred lags; of fewer days its mean would be the volatility of those days.
    within_day = spacing(time) <= HOUR
    return decay(without_hours(time, size) if within_day and time.iloc[-1] - time.iloc[0] >= 5 * DAY else size, 1, 100)


def _rank_correlation(moves: pd.DataFrame, column: str) -> tuple[float]:
    traded = moves[column]
    return (float(stats.spearmanr(traded, np.abs(_returns(moves))).statistic) if traded.nunique() > 1 else NAN,)


def _sign_memory(orders: pd.DataFrame) -> tuple[float]:
    return (decay(orders["sign"].to_numpy(), *_sign_lags(len(orders))).exponent,)


def _sign_lags(n: int) -> tuple[int, int]:
    return SIGN_LAGS[0], min(SIGN_LAGS[1], n // 20)


def _impact(table: pd.DataFrame, volume: str) -> tuple[float]:
    return (power_law(impact_curve(table[volume].to_numpy(), table["mid_move"].to_numpy())).exponent,)


def _intraday(moves: pd.DataFrame) -> tuple[float, float]:
    if spacing(moves["time"]) > HOUR:
        return NAN, NAN
    profile = hourly_profile(moves["time"], np.abs(_returns(moves)))
    return float(profile.max() / (profile.min() or NAN)), curvature(profile.to_numpy())


FACTS = (
    Fact(
        "absence of autocorrelation",
        "moves",
        FEWEST,
        lambda moves: autocorrelation(_returns(moves), np.array([1])),
        {"acf_1": "autocorrelation of returns at lag 1"},
    ),
    Fact(
        "heavy tails",
        "moves",
        500,
        lambda moves: _tails(_returns(moves)),
        {"hill": "tail exponent, largest 5 % of absolute returns", "excess_kurtosis": "kurtosis less 3"},
    ),
    Fact(
        "gain/loss asymmetry",
        "moves",
        500,
        lambda moves: (float(stats.skew(_returns(moves))), loss_gain_ratio(_returns(moves))),
        {"skewness": "skewness of returns", "loss_gain_ratio": "mean of the largest 5 % of losses over that of gains"},
    ),
    Fact(
        "aggregational Gaussianity",
        "moves",
        1200,
        _aggregation,
        {
            "excess_kurtosis_12": "kurtosis less 3 of the returns over 12 intervals",
            "kurtosis_slope": "slope of log kurtosis on log intervals put together (1, 3, 12, 48, 288; each of 100 sums or more)",
        },
    ),
    Fact(
        "intermittency",
        "moves",
        500,
        lambda moves: (burstiness(_returns(moves)),),
        {"burstiness": "of the waits between the largest 5 % of absolute returns: 0 at random, 1 in bursts"},
    ),
    Fact(
        "volatility clustering",
        "moves",
        500,
        _clustering,
        {f"acf_abs_{lag}": f"autocorrelation of absolute returns at lag {lag}" for lag in (1, 10, 100)},
    ),
    Fact(
        "conditional heavy tails",
        "moves",
        500,
        lambda moves: _tails(ewma_residuals(_returns(moves))),
        {
            "hill_residual": "tail exponent of returns over the EWMA volatility before them (decay .94)",
            "excess_kurtosis_residual": "kurtosis less 3 of the same",
        },
    ),
    Fact(
        "slow decay",
        "moves",
        2000,
        _slow_decay,
        {
            "acf_abs_exponent": "g of lag^-g through the autocorrelation of absolute returns, lags 1-100, hours of the day taken out",
            "acf_abs_power_aic": "Akaike's criterion of an exponential less that of the power law: above 0, slower than exponential",
        },
        otherwise="absolute returns have no memory whose decay could be fitted",
    ),
    Fact(
        "leverage effect",
        "moves",
        500,
        lambda moves: (leverage(_returns(moves)),),
        {"leverage": "correlation of a return with the mean absolute return of the next 12 intervals"},
    ),
    Fact(
        "volume and volatility",
        "moves",
        FEWEST,
        lambda moves: _rank_correlation(moves, "volume"),
        {"volume_volatility": "rank correlation of volume and absolute return"},
        needs=("volume",),
    ),
    Fact(
        "volume and volatility",
        "moves",
        FEWEST,
        lambda moves: _rank_correlation(moves, "trades"),
        {"trades_volatility": "rank correlation of number of trades and absolute return"},
        needs=("trades",),
    ),
    Fact(
        "asymmetry in time scales",
        "moves",
        1200,
        lambda moves: (time_scale_asymmetry(_returns(moves)),),
        {
            "time_scale_asymmetry": "correlation of coarse volatility with the next fine one, less the reverse; 12 intervals"
        },
    ),
    Fact(
        "intraday pattern",
        "moves",
        500,
        _intraday,
        {
            "intraday_ratio": "mean absolute return, busiest hour of the day over quietest",
            "intraday_curvature": "curvature of mean absolute return over the session: above 0 where U-shaped",
        },
        otherwise="bars of an hour or less are needed",
    ),
    Fact(
        "spread",
        "quotes",
        FEWEST,
        lambda quotes: (float(quotes["spread_bps"].median()),),
        {"spread_bps": "median spread, basis points"},
    ),
    Fact(
        "depth profile",
        "depth",
        FEWEST,
        lambda depth: (log_slope(depth.columns.to_numpy(np.float64), depth.mean().to_numpy()),),
        {"depth_exponent": "b of depth within x of the mid ~ x^b, both sides"},
        otherwise="depth within three distances is needed",
    ),
    Fact(
        "memory of order signs",
        "orders",
        10_000,
        _sign_memory,
        {"sign_acf_exponent": "g of lag^-g through the autocorrelation of the signs of taker orders, lags 10-1000"},
        otherwise="signs have no memory whose decay could be fitted",
    ),
    Fact(
        "concave impact",
        "moves",
        500,
        lambda moves: _impact(moves, "signed_volume"),
        {"impact_exponent": "d of mean move of the mid ~ volume^d, net taker volume of an interval"},
        needs=("signed_volume",),
        otherwise="the mid does not move with net taker volume",
    ),
    Fact(
        "concave impact",
        "parents",
        500,
        lambda parents: _impact(parents, "volume"),
        {"parent_impact_exponent": "the same of parent orders (5 or more taker orders of an account on one side)"},
        otherwise="the mid does not move with parent orders",
    ),
)
"""The facts, in the order of the table."""


# --------------------------------------------------------------------------------------------------------------- table


def as_sample(source: Result | pd.DataFrame | Sample, instrument: str = "") -> Sample:
    """A run, bars or candles as a sample; a sample as it is."""
    if isinstance(source, Result):
        return run_sample(source, instrument)
    return source if isinstance(source, Sample) else sample(source)


def stylised_facts(
    source: Result | pd.DataFrame | Sample,
    instrument: str = "",
    reference: str = "stylised.csv",
    intervals: bool = True,
) -> pd.DataFrame:
    """The stylised facts of a run or of candles, beside those of real data and the bands they should lie in.

    Args:
        source: A run, bars with time and close (see `analysis.samples.sample`), or a sample.
        instrument: Instrument of a run; the first where none is named.
        reference: File in `configs/observations` (or path) of real values and bands; ids are a statistic, or
            `<statistic>@<interval>` where it depends on the interval.
        intervals: Whether 90 % intervals are wanted; they take twenty times as long as the rest.

    Returns:
        One row for each statistic: fact, statistic, value; low and high, its 90 % interval (`interval90`); reference, the same of real
        data; band_low and band_high; inside, whether the value lies in the band (NA where there is no value or no band); about,
        what it is; note, why there is no value.

    Raises:
        ScenarioError: A column is missing, or there are too few rows; one line.
    """
    measured = as_sample(source, instrument)
    known = read_observations(reference)
    rows = []
    for fact in FACTS:
        table = getattr(measured, fact.table)
        note = _lacking(fact, table)
        values = np.full(len(fact.statistics), NAN) if note else np.array([*fact.measure(table)], np.float64)
        lows, highs = interval90(fact, table, values) if intervals and not note else (np.full_like(values, NAN),) * 2
        for (statistic, about), value, low, high in zip(fact.statistics.items(), values, lows, highs, strict=True):
            ids = [i for i in (f"{statistic}@{key(measured.interval)}", statistic) if i in known.index]
            seen = known.loc[ids[0]] if ids else pd.Series(NAN, ["value", "low", "high"])
            rows.append(
                {
                    "fact": fact.name,
                    "statistic": statistic,
                    "value": value,
                    "low": low,
                    "high": high,
                    "reference": seen["value"],
                    "band_low": seen["low"],
                    "band_high": seen["high"],
                    "about": about,
                    "note": note or ("" if np.isfinite(value) else fact.otherwise),
                }
            )
    facts = pd.DataFrame(rows)
    bottom, top = facts["band_low"].fillna(-np.inf), facts["band_high"].fillna(np.inf)
    judged = facts["value"].notna() & (np.isfinite(bottom) | np.isfinite(top))
    facts.insert(8, "inside", facts["value"].between(bottom, top).astype("boolean").where(judged))
    return facts


def _lacking(fact: Fact, table: pd.DataFrame) -> str:
    """What a table lacks for a fact; nothing if it has all."""
    if table.empty:
        return f"no {_ROWS[fact.table]} in these data"
    missing = [column.replace("_", " ") for column in fact.needs if column not in table]
    if missing:
        return f"no {missing[0]} in these data"
    return f"{fact.rows:,} {_ROWS[fact.table]} are needed, {len(table):,} are there" if len(table) < fact.rows else ""


def interval90(fact: Fact, table: pd.DataFrame, values: Numbers) -> tuple[Numbers, Numbers]:
    """Lower and upper end of the 90 % interval of each statistic of a fact, about its values.

    By a jackknife that leaves out one of 20 blocks in time after another (Kuensch 1989, Annals of Statistics 17:1217), of the
    logarithm where the statistic is above 0 by definition. Unlike blocks drawn anew, what is left has one joint only, so that memory over
    a hundred lags survives; and it needs no chance. Dependence longer than a block makes it too narrow.
    """
    parts = np.array_split(np.arange(len(table)), BLOCKS)
    left = np.array([[*fact.measure(table.drop(table.index[part]))] for part in parts])
    positive = np.array([statistic in POSITIVE for statistic in fact.statistics])
    left[:, positive] = np.log(left[:, positive])
    half = stats.t.ppf(0.95, BLOCKS - 1) * np.sqrt((BLOCKS - 1) * left.var(axis=0))
    half[[statistic in MOMENTS for statistic in fact.statistics]] = NAN
    return tuple(np.where(positive, values * np.exp(sign * half), values + sign * half) for sign in (-1.0, 1.0))


# -------------------------------------------------------------------------------------------------------------- curves


def stylised_curves(source: Result | pd.DataFrame | Sample, instrument: str = "") -> pd.DataFrame:
    """The curves behind the facts: curve, x, y. Those that a sample cannot give, or has too few rows for, are left out.

    Curves: density (of returns within 12 standard deviations, in these), acf and acf_abs (lags), kurtosis (less 3; intervals put together),
    intraday (hour of the day, UTC; absolute return over its mean), impact (see `impact_curve`), sign_acf (lags in taker orders).
    """
    curves = [pd.DataFrame({"curve": name, "x": x, "y": y}) for name, x, y in _curves(as_sample(source, instrument))]
    return pd.concat(curves, ignore_index=True)


def reference_curves(interval: pd.Timedelta, reference: str = "stylised-curves.csv") -> pd.DataFrame:
    """The same curves of real data: source, curve, x, y. Those of returns only where they are kept for this interval."""
    curves = pd.read_csv(configs() / "observations" / reference)
    return curves[curves["reference"].isin([key(interval), "orders"])].drop(columns="reference")


def _curves(measured: Sample) -> Iterable[tuple[str, Any, Any]]:
    moves, orders = measured.moves, measured.orders
    enough = {
        statistic: not _lacking(fact, getattr(measured, fact.table)) for fact in FACTS for statistic in fact.statistics
    }
    returns = _returns(moves)
    count, edges = np.histogram(returns / returns.std(), bins=np.arange(-12.25, 12.5, 0.5))
    yield "density", (edges[:-1] + edges[1:])[count > 0] / 2, count[count > 0] / len(returns) / 0.5
    lags = log_lags(1, min(300, len(returns) // 5), 40)
    yield "acf", lags, autocorrelation(returns, lags)
    yield "acf_abs", lags, autocorrelation(np.abs(returns), lags)
    scales = np.array(_scales(returns))
    yield "kurtosis", scales, np.array([stats.kurtosis(aggregate(returns, scale)) for scale in scales])
    if enough["intraday_ratio"] and measured.interval <= HOUR:
        profile = hourly_profile(moves["time"], np.abs(returns))
        yield "intraday", profile.index.to_numpy(), profile.to_numpy()
    if enough["impact_exponent"]:
        curve = impact_curve(moves["signed_volume"].to_numpy(), moves["mid_move"].to_numpy())
        yield "impact", curve["size"].to_numpy(), curve["mean"].to_numpy()
    if enough["sign_acf_exponent"]:
        yield (
            "sign_acf",
            *log_bins(autocorrelation(orders["sign"].to_numpy(), np.arange(_sign_lags(len(orders))[1] + 1)), 1),
        )
