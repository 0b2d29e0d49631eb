"""Where a market tips: what runs of a sweep come to over two keys, how many of them pass a threshold, and the line at which half of them do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binomtest

from abm.random import stream
from abm.scenario import ScenarioError, meant
from analysis.compare import INTERVAL
from analysis.sweep import Sweep

CONFIDENCE = INTERVAL[1] - INTERVAL[0]
_RESAMPLES = 1000

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Phase:
    """A measure over two keys."""

    x: str
    y: str
    measure: str
    unit: str
    """1 is a fraction; empty where the sweep does not say."""
    threshold: float | None
    below: bool
    """Whether a run counts that is below the threshold, and not above it."""
    log: frozenset[str]
    """Which of the two keys go by logarithms."""
    cells: pd.DataFrame
    """One row a cell, by x and y: x, y, median, low and high (of nine runs in ten), runs, lost (failed, or without a number); with a threshold
    also share (of runs that pass it), share_low and share_high (Wilson, 90 %).
    """
    line: pd.DataFrame | None
    """One row for each x: x, critical (y at which half the runs pass the threshold), low, high (interval of 90 %), and the values of y between
    which it lies. Infinite where half the runs pass nowhere, or everywhere. None without a threshold, or where y has no numbers.
    """


def phase(
    sweep: Sweep,
    x: str,
    y: str,
    measure: str,
    threshold: float | None = None,
    *,
    below: bool = False,
    where: Mapping[str, str] | None = None,
) -> Phase:
    """Cells of a measure over two keys, and the critical line.

    The critical line is where the share of runs that pass the threshold crosses one half, for each x on its own, between two values of y on a
    straight line (of their logarithms, where the key was varied so). Before that the shares of a column are made to go one way (isotonic
    regression, weighted by runs), the way in which they go in the whole map, so that they cross once. Its interval is a bootstrap over the
    replications, the same ones in all cells, since these may have the same seeds. It says nothing of what is between two values of y that were
    played: those stand beside it. A logistic law is not fitted: where all runs of a cell do the same, as they do a step away from a sharp line,
    it has no slope.

    Args:
        sweep: A grid over both keys.
        x: Key along the map.
        y: Key up the map.
        measure: One of the sweep's measures.
        threshold: Of the measure; a run passes it that is above.
        below: Or below.
        where: Of other keys that were varied the value, as it is printed.

    Raises:
        ScenarioError: There are no such keys, measures or values, other keys were varied and have no value here, or no run went well.
    """
    for name, key in (("x", x), ("y", y), *(("where", key) for key in where or {})):
        if key not in sweep.keys:
            others = meant(key, sweep.keys) or f"; there are {', '.join(sweep.keys)}"
            raise ScenarioError(f"{name}: {key!r} was not varied{others}")
    if x == y:
        raise ScenarioError(f"y: is {y}, as x is; give another key")
    if measure not in sweep.measures:
        raise ScenarioError(f"measure: {measure!r} is not in this sweep{meant(measure, sweep.measures)}")
    table = _one_map(sweep, x, y, where or {})
    values = table[measure].astype(float).where(table["error"] == "").replace([np.inf, -np.inf], np.nan)
    if values.isna().all():
        raise ScenarioError(f"measure: {measure} has no number in any of these {len(table)} runs")
    runs = pd.DataFrame(
        {"x": _axis(table[x]), "y": _axis(table[y]), "replication": table["replication"], "value": values}
    )
    log = _log(sweep, (x, y))
    numbers = pd.api.types.is_numeric_dtype(runs["y"])
    line = None if threshold is None or not numbers else _line(runs, threshold, below, y in log)
    about = sweep.manifest["measures"]
    unit = about[measure].get("unit", "") if isinstance(about, dict) else ""
    return Phase(x, y, measure, unit, threshold, below, log, _cells(runs, threshold, below), line)


def _one_map(sweep: Sweep, x: str, y: str, where: Mapping[str, str]) -> pd.DataFrame:
    """The runs of one map: other keys have one value each."""
    table = sweep.table
    for key, wanted in where.items():
        there = list(dict.fromkeys(map(str, _axis(table[key]))))
        if wanted not in there:
            raise ScenarioError(
                f"where: {key} is never {wanted!r}{meant(wanted, there) or f'; there are {", ".join(there)}'}"
            )
        table = table[_axis(table[key]).map(str) == wanted]
    for key in sweep.keys:
        if key not in (x, y) and _axis(table[key]).nunique() > 1:
            value = _axis(table[key]).iloc[0]
            raise ScenarioError(f"{key} was varied too; say which, such as --where {key}={value}")
    return table


def _axis(column: pd.Series) -> pd.Series:
    """Values that can be sorted and told apart: numbers, or what is printed of something else."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column.astype(float)
    return column.map(str)


def _log(sweep: Sweep, keys: tuple[str, ...]) -> frozenset[str]:
    vary = sweep.manifest.get("spec", {}).get("vary", {})
    return frozenset(key for key in keys if isinstance(vary.get(key), dict) and vary[key].get("log"))


# ------------------------------------------------------------------------------------------------------------------ cells


def _passes(values: pd.Series, threshold: float, below: bool) -> pd.Series:
    """1 or 0; not a number where there is none."""
    passes = values < threshold if below else values > threshold
    return passes.astype(float).where(values.notna())


def _cells(runs: pd.DataFrame, threshold: float | None, below: bool) -> pd.DataFrame:
    rows = []
    for (x, y), mine in runs.groupby(["x", "y"], sort=True):
        good = mine["value"].dropna()
        low, middle, high = np.quantile(good, (INTERVAL[0], 0.5, INTERVAL[1])) if len(good) else [np.nan] * 3
        row: dict[str, Any] = {"x": x, "y": y, "median": middle, "low": low, "high": high}
        row |= {"runs": len(good), "lost": len(mine) - len(good)}
        if threshold is not None:
            hits = int(_passes(good, threshold, below).sum())
            ends = binomtest(hits, len(good)).proportion_ci(CONFIDENCE, "wilson") if len(good) else (np.nan, np.nan)
            share = hits / len(good) if len(good) else np.nan
            row |= {"share": share, "share_low": float(ends[0]), "share_high": float(ends[1])}
        rows.append(row)
    return pd.DataFrame(rows)


# -------------------------------------------------------------------------------------------------------- the critical line


def _line(runs: pd.DataFrame, threshold: float, below: bool, log: bool) -> pd.DataFrame:
    passes = runs.assign(passes=_passes(runs["value"], threshold, below))
    shares = passes.groupby("y")["passes"].mean().dropna()
    rising = len(shares) < 2 or float(np.polyfit(np.arange(len(shares)), shares, 1)[0]) > -1e-9
    rng = stream(1, "phase", "bootstrap")
    rows = []
    for x, column in passes.groupby("x", sort=True):
        hits = column.pivot_table("passes", "y", "replication", aggfunc="first", dropna=False)
        hits = hits.loc[hits.notna().any(axis=1)]
        if hits.empty:
            continue
        played = hits.index.to_numpy(dtype=float)
        several = hits.shape[1]
        drawn = np.vstack([np.arange(several), rng.integers(several, size=(_RESAMPLES, several))])
        values = (hits.to_numpy() if rising else 1.0 - hits.to_numpy())[:, drawn]
        weights = np.sum(~np.isnan(values), axis=-1).T
        places = _crossing(np.log(played) if log else played, isotonic(np.nansum(values, axis=-1).T, weights))
        found = np.where(np.isfinite(places), np.exp(places), places) if log else places
        low, high = np.quantile(found[1:], INTERVAL, method="inverted_cdf")
        before, after = played[played <= found[0]], played[played >= found[0]]
        between = before[-1] if len(before) else -np.inf, after[0] if len(after) else np.inf
        rows.append((x, found[0], low, high, *between))
    return pd.DataFrame(rows, columns=["x", "critical", "low", "high", "between_low", "between_high"])


def isotonic(sums: Floats, weights: Floats) -> Floats:
    """Means that never fall, nearest to those there are in the sum of weighted squares: max over i <= k of min over j >= k of the mean of i to j.

    Robertson, Wright and Dykstra (1988), Order Restricted Statistical Inference, theorem 1.4.4.

    Args:
        sums: Of the values in each place, cases x places.
        weights: How many values there are, likewise; a place may have none in some case, but not all of a case.
    """
    first = np.zeros((len(sums), 1))
    total, many = (np.hstack([first, np.cumsum(each, axis=1)]) for each in (sums, weights))
    with np.errstate(invalid="ignore"):
        means = (total[:, None, 1:] - total[:, :-1, None]) / (many[:, None, 1:] - many[:, :-1, None])  # cases, i, j
    n = sums.shape[1]
    means[:, np.arange(n)[:, None] > np.arange(n)] = np.nan  # i above j
    least = np.fmin.accumulate(means[:, :, ::-1], axis=2)[:, :, ::-1]
    least[:, np.arange(n)[:, None] > np.arange(n)] = np.nan
    return np.fmax.accumulate(least, axis=1)[:, np.arange(n), np.arange(n)]


def _crossing(places: Floats, shares: Floats) -> Floats:
    """Where shares that never fall reach one half, in each case: the middle of where they are just that; infinite where it is beyond all places.

    Args:
        places: Of the shares, rising.
        shares: Cases x places.
    """
    last = len(places) - 1
    reach, stay = np.argmax(shares >= 0.5, axis=1), last - np.argmax(shares[:, ::-1] <= 0.5, axis=1)
    ends = _between(places, shares, reach - 1) + _between(places, shares, stay)
    return np.where(shares[:, 0] > 0.5, -np.inf, np.where(shares[:, -1] < 0.5, np.inf, 0.5 * ends))


def _between(places: Floats, shares: Floats, low: npt.NDArray[np.int64]) -> Floats:
    """The place of one half on the straight line between a place and the next, in each case; at the ends, the one there is."""
    last, cases = len(places) - 1, np.arange(len(shares))
    one, other = np.clip(low, 0, last), np.clip(low + 1, 0, last)
    rise = shares[cases, other] - shares[cases, one]
    part = np.divide(0.5 - shares[cases, one], rise, out=np.zeros_like(rise), where=rise > 0)
    return places[one] + part * (places[other] - places[one])
