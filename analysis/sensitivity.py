"""What the output of a sweep depends on: Sobol's indices, the elementary effects of Morris, and slopes where points fill the space of keys."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from abm.scenario import ScenarioError, meant
from analysis.sweep import Sweep

CONFIDENCE = 0.9
"""Of the intervals, as everywhere else."""
_RESAMPLES, _SEED = 1000, 1
_KINDS = ("saltelli", "morris", "latin", "sobol")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sensitivity:
    """What one measure of a sweep depends on.

    The replications of a point are averaged, and of what is left the seeds still make a part. A key that only makes runs differ by chance
    (another order comes first, and everything after it is another run) then seems to matter: its total index comes to `noise`, its mu* to
    the mean that differences of such averages have. And the indices of all others shrink, since noise is in the variance that is shared out.
    More replications shrink it. Where points have the same seeds, what a seed does to all points alike takes no part in this, and is not
    counted; what seeds do in one point and not in the other is.
    """

    measure: str
    unit: str
    """1 is a fraction; empty where the sweep does not say."""
    kind: str
    """`saltelli`, `morris`, `latin` or `sobol`."""
    table: pd.DataFrame
    """One row a key. Of saltelli: key, first, first_error, total, total_error. Of morris: key, mu, mu_star, mu_star_error, sigma (in the unit
    of the measure, for the whole range of a key). Of latin and sobol: key, slope, slope_error (in the unit of the measure, for the whole
    range). Errors are half the width of an interval of 90 %: bootstrap over the samples, and Student's t of a slope.
    """
    pairs: pd.DataFrame | None
    """One row for each two keys: key, other, second, second_error; None where the design has no such points."""
    noise: float
    """What seeds alone make. Of morris: the mu* of a key that does nothing but change who is lucky. Of the others: their share of the variance
    between points. Not a number with one replication.
    """
    linear: float
    """Share of the variance between points that the slopes of latin and sobol explain together: R2, adjusted for their number, so that slopes
    which explain no more than chance come to about 0. Not a number of the other designs.
    """
    points: int
    replications: int
    lost: int
    """Runs that failed, or have no number; their points have others."""


def sensitivity(sweep: Sweep, measure: str) -> Sensitivity:
    """Indices of one measure.

    Sobol's first and total indices by the estimators of Saltelli et al. (2010, Computer Physics Communications), of the second order by
    Saltelli (2002, the same); mu* and sigma by Campolongo, Cariboni and Saltelli (2007, Environmental Modelling and Software). Slopes by
    least squares over all keys together.

    Args:
        sweep: Whose design is `saltelli`, `morris`, `latin` or `sobol`.
        measure: One of its measures.

    Raises:
        ScenarioError: It has another design, no such measure, a point at which no run went well (saltelli and morris need all points), too few
            points for slopes, or the measure is the same everywhere.
    """
    design = sweep.manifest["design"]
    if design["kind"] not in _KINDS:
        raise ScenarioError(f"design: is {design['kind']}; this needs one of {', '.join(_KINDS)} (abm sweep)")
    if measure not in sweep.measures:
        raise ScenarioError(f"measure: {measure!r} is not in this sweep{meant(measure, sweep.measures)}")
    runs = _runs(sweep, measure)
    means = _means(runs, sweep, measure)
    if np.ptp(means) <= 1e-12 * np.abs(means).max():
        raise ScenarioError(
            f"measure: {measure} is {means[0]:.6g} at all points; it depends on nothing that was varied"
        )
    chance = _chance(runs)
    about = sweep.manifest["measures"]
    pairs, linear, noise = None, float("nan"), chance / float(means.var())
    if design["kind"] == "saltelli":
        table, pairs = _sobol(design, means)
    elif design["kind"] == "morris":
        table, noise = _morris(design, sweep, means), _step_of_chance(chance, design["levels"])
    else:
        table, linear = _slopes(sweep, runs)
    return Sensitivity(
        measure,
        about[measure].get("unit", "") if isinstance(about, dict) else "",
        design["kind"],
        table,
        pairs,
        noise,
        linear,
        len(means),
        runs.shape[1],
        int(runs.isna().to_numpy().sum()),
    )


# ------------------------------------------------------------------------------------------------------------ replications


def _runs(sweep: Sweep, measure: str) -> pd.DataFrame:
    """The measure by point and replication; not a number where a run failed."""
    table = sweep.table
    good = table[measure].astype(float).where(table["error"] == "").replace([np.inf, -np.inf], np.nan)
    return good.groupby([table["point"], table["replication"]]).first(skipna=False).unstack()


def _means(runs: pd.DataFrame, sweep: Sweep, measure: str) -> Floats:
    """Mean of each point; refuses one without, but for slopes, which do with the others."""
    design = sweep.manifest["design"]
    asked = design.get("points", len(runs))
    empty = runs.index[runs.isna().all(axis=1)]
    if design["kind"] in ("latin", "sobol"):
        _check_enough(len(runs) - len(empty), len(sweep.keys))
    elif len(runs) < asked or len(empty):
        missing = len(empty) + asked - len(runs)
        errors = sweep.table.loc[sweep.table["point"].isin(empty), "error"]
        first = next((error for error in errors if error), "") or f"{measure} is not a number there"
        raise ScenarioError(
            f"{missing} of {asked} points have no run that went well, and the design cannot lack one; the first: {first}; "
            "mend it, and the sweep goes on"
        )
    return runs.mean(axis=1).dropna().to_numpy()


def _check_enough(points: int, keys: int) -> None:
    if points < keys + 3:
        raise ScenarioError(
            f"design: {points} points with runs that went well for {keys} slopes; play {keys + 3} or more"
        )


def _chance(runs: pd.DataFrame) -> float:
    """Variance that seeds give to the mean of a point, on average over the points; not a number where no point has two runs.

    What a seed does to all points alike is taken off first. Where points have seeds of their own, that is nothing but some chance, of which
    one part in the number of points goes with it.
    """
    whole = runs.dropna()
    points, several = whole.shape
    if several < 2 or points < 2:
        return float("nan")
    values = whole.to_numpy()
    rest = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    return float((rest**2).sum() / ((points - 1) * (several - 1)) / several)


def _step_of_chance(chance: float, levels: int) -> float:
    """The mu* of differences of two averages that chance alone makes (the mean of |N(0, 2 v)| is 2 sqrt(v / pi)), over the step of the design."""
    return float(2.0 * np.sqrt(chance / np.pi) / _delta(levels))


def _delta(levels: int) -> float:
    return levels / (2.0 * (levels - 1))


# --------------------------------------------------------------------------------------------------------------- indices


def _sobol(design: dict[str, Any], means: Floats) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    from SALib.analyze import sobol

    second = bool(design.get("second_order", True))
    found = sobol.analyze(
        dict(design["problem"]),
        means,
        calc_second_order=second,
        num_resamples=_RESAMPLES,
        conf_level=CONFIDENCE,
        seed=_SEED,
    )
    keys = list(design["problem"]["names"])
    table = pd.DataFrame(
        {
            "key": keys,
            "first": found["S1"],
            "first_error": found["S1_conf"],
            "total": found["ST"],
            "total_error": found["ST_conf"],
        }
    )
    if not second:
        return table, None
    rows = [
        (keys[i], keys[j], found["S2"][i, j], found["S2_conf"][i, j])
        for i in range(len(keys))
        for j in range(i + 1, len(keys))
    ]
    return table, pd.DataFrame(rows, columns=["key", "other", "second", "second_error"])


def _morris(design: dict[str, Any], sweep: Sweep, means: Floats) -> pd.DataFrame:
    from SALib.analyze import morris

    keys = list(design["problem"]["names"])
    inputs = sweep.table.groupby("point")[keys].first().to_numpy(dtype=float)
    found = morris.analyze(
        dict(design["problem"]),
        inputs,
        means,
        num_resamples=_RESAMPLES,
        conf_level=CONFIDENCE,
        num_levels=design["levels"],
        seed=_SEED,
    )
    return pd.DataFrame(
        {
            "key": keys,
            "mu": np.asarray(found["mu"]),
            "mu_star": np.asarray(found["mu_star"]),
            "mu_star_error": np.asarray(found["mu_star_conf"]),
            "sigma": np.asarray(found["sigma"]),
        }
    )


def _slopes(sweep: Sweep, runs: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """What each key does over its whole range, the others being as they are, and how much of the variance that is."""
    from statsmodels.api import OLS, add_constant

    means = runs.mean(axis=1).dropna()
    values = sweep.table.groupby("point")[sweep.keys].first().loc[means.index]
    shares = pd.DataFrame({key: _shares(sweep, key, values[key]) for key in sweep.keys})
    fit = OLS(means, add_constant(shares - 0.5)).fit()
    interval = fit.conf_int(1.0 - CONFIDENCE)
    slopes = fit.params[sweep.keys]
    table = pd.DataFrame(
        {"key": sweep.keys, "slope": slopes.to_numpy(), "slope_error": (interval[1][sweep.keys] - slopes).to_numpy()}
    )
    return table, float(fit.rsquared_adj)


def _shares(sweep: Sweep, key: str, values: pd.Series) -> pd.Series:
    """How far along its range each value of a key is, from 0 to 1: of its logarithm where it is drawn by factors."""
    axis = sweep.manifest["spec"]["vary"][key]
    if "from" not in axis:
        raise ScenarioError(f"vary.{key} has values, and slopes go between the ends of ranges; give from and to")
    ends = np.array([axis["from"], axis["to"]], np.float64)
    way = values.astype(float)
    if axis.get("log"):
        ends, way = np.log(ends), np.log(way)
    return (way - ends[0]) / (ends[1] - ends[0])
