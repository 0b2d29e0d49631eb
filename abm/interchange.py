"""Results in the forms that other tools read: candles for pandas, arrays for xarray."""

from importlib.util import find_spec
from typing import Any

import pandas as pd

from abm.clock import seconds
from abm.record import Result

_HOW = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum", "trades": "sum"}


def candles(result: Result, interval: str | float, instrument: str = "") -> pd.DataFrame:
    """Candles of an instrument, from the bars of a run.

    Args:
        result: A run.
        interval: Such as `"5min"`, or seconds: a whole number of the run's bars (`recording.interval`).
        instrument: Its name; the first where none is given.

    Returns:
        open, high, low, close (prices of trades in currency; the last one where there was none), volume (coins or shares) and trades, by the
        time at which each candle begins (UTC), a whole multiple of the interval; of the first and the last the run may cover a part.

    Raises:
        ValueError: There is no such instrument, or bars do not add up to the interval.
    """
    names = list(result.summary["instruments"])
    chosen, width, bar = instrument or names[0], seconds(interval), result.scenario["recording"]["interval"]
    if chosen not in names:
        raise ValueError(f"{chosen} is not traded here; there is {', '.join(names)}")
    if not 1 <= width / bar == round(width / bar):
        raise ValueError(f"{interval!r} is not a whole number of bars of {bar:g} s (recording.interval)")
    bars = result.bars[result.bars["instrument"] == chosen].set_index("time")
    return bars.groupby(pd.DatetimeIndex(bars.index).floor(pd.Timedelta(seconds=width))).agg(_HOW)


def dataset(result: Result) -> Any:
    """The bars of a run as an `xarray.Dataset`: a variable for each column, by `instrument` and `time` (of each bar's beginning, UTC).

    Raises:
        ModuleNotFoundError: xarray is not installed.
    """
    if find_spec("xarray") is None:
        raise ModuleNotFoundError(
            "to_xarray needs the package xarray; install it with: pip install 'exit-cascade[xarray]'"
        )
    bars = result.bars.assign(
        time=result.bars["time"].dt.tz_localize(None), instrument=result.bars["instrument"].astype(str)
    )
    arrays = bars.set_index(["time", "instrument"]).to_xarray()
    keys = ("scenario", "scenario_hash", "seed", "event_log_hash")
    return arrays.assign_attrs({key: result.summary[key] for key in keys})
