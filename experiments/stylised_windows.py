"""How far months of the real market differ: `python -m experiments.stylised_windows DATA`.

A run of thirty days is one draw. So are thirty days of bitcoin: this cuts the 5-minute candles of 2025 (bars/BTCUSDT_5m_2025.csv.gz in DATA) into
twelve windows of that length, measures each as a run is measured, and holds it against the same bands. And it measures jumps and how volume
comes and goes, for `fundamentals` of the scenario `calm`.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.estimators import autocorrelation, jump_threshold, local_deviations
from analysis.samples import DAY, Sample, read_candles, sample
from analysis.stylised import stylised_facts

CANDLES = Path("bars", "BTCUSDT_5m_2025.csv.gz")
WINDOW = 30 * DAY


def windows(candles: pd.DataFrame) -> pd.DataFrame:
    """Of each statistic that has a band: least, median and greatest value among the whole windows, and in how many it lies inside."""
    begins = pd.date_range(candles["time"].iloc[0], candles["time"].iloc[-1] - WINDOW, freq=WINDOW)
    facts = pd.concat(
        stylised_facts(sample(candles[candles["time"].between(begin, begin + WINDOW, "left")]), intervals=False)
        for begin in begins
    )
    judged = facts[facts["inside"].notna()]
    by = judged.groupby("statistic", sort=False)
    table = by["value"].agg(["min", "median", "max"]).join(by[["band_low", "band_high"]].first())
    return table.assign(inside=by["inside"].sum(), windows=by.size())


def jumps(measured: Sample) -> "pd.Series[float]":
    """How many jumps there are a day, how large they are, and their tail exponent in local deviations (Hill 1975)."""
    returns = measured.moves["ret"].to_numpy()
    beyond = jump_threshold(round(DAY / measured.interval))
    deviations = local_deviations(measured.moves["time"], returns)
    found = np.abs(deviations) > beyond
    days = np.isfinite(deviations).sum() * measured.interval / DAY
    smallest = np.abs(returns[found] / deviations[found]) * beyond  # that would have been one just then
    return pd.Series(
        {
            "beyond": beyond,
            "per_day": found.sum() / days,
            "least": float(smallest.mean()),
            "mean": float(np.abs(returns[found]).mean()),
            "tail": 1.0 / float(np.log(np.abs(deviations[found]) / beyond).mean()),
            "share_of_variance": float((returns[found] ** 2).sum() / (returns**2).sum()),
        }
    )


def activity(candles: pd.DataFrame) -> "pd.Series[float]":
    """How hourly volume varies: deviation and autocorrelation of its logarithm, hours of the day taken out, means over the whole windows."""
    volume = candles.set_index("time")["volume"].resample("1h").sum()
    logarithm = np.log(volume[volume > 0])
    logarithm -= logarithm.groupby(logarithm.index.hour).transform("mean")
    hours = int(WINDOW / pd.Timedelta("1h"))
    parts = [logarithm.to_numpy()[k : k + hours] for k in range(0, len(logarithm) - hours + 1, hours)]
    found = {"deviation": np.mean([part.std() for part in parts])}
    lags = np.array([1, 3, 6, 12, 24])
    memory = np.mean([autocorrelation(part, lags) for part in parts], axis=0)
    return pd.Series(found | {f"memory_{lag}h": value for lag, value in zip(lags, memory, strict=True)})


def main(data: Path) -> None:
    candles = read_candles(data / CANDLES)
    print(windows(candles).to_string(float_format="{:.3g}".format))
    print(jumps(sample(candles)).to_string(float_format="{:.3g}".format))
    print(activity(candles).to_string(float_format="{:.3g}".format))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
