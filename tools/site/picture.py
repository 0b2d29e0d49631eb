"""The picture of the README: `python -m tools.site.picture RUN docs/images/cascade.png`, RUN being a run of `february-2026-quick`.

What was observed stands beside what was simulated. The picture is transparent, in colours that read on white and on black.
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.dates as mdates
import pandas as pd
from matplotlib.figure import Figure

import abm
from abm.record import LOST
from analysis.compare import read_observations

_INK, _PRICE, _SEEN, _FORCED = "#7d8590", "#3b96d2", "#e69f00", "#d55e00"


def cascade(result: abm.Result, instrument: str = "btc-perp") -> Figure:
    """The price with what was observed of it, and below it what was liquidated in each hour."""
    bars = result.bars[result.bars["instrument"] == instrument]
    colours = dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "text.color"), _INK)
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, **colours}):
        fig = Figure(figsize=(9, 4.6), layout="constrained")
        price, forced = fig.subplots(nrows=2, sharex=True, height_ratios=[2.4, 1])
        price.plot(bars["time"], bars["mid"] / 1e3, color=_PRICE, linewidth=1.4, label="simulated, one seed")
        _observed(price, result, instrument)
        price.set_ylabel("bitcoin (thousand USD)")
        price.legend(frameon=False, loc="lower left")
        hours = _forced(result, instrument).resample("1h").sum() / 1e6
        forced.bar(hours.index, hours, width=pd.Timedelta("1h"), align="edge", color=_FORCED)
        forced.set_ylabel("liquidated\n(million USD an hour)")
        forced.xaxis.set_major_locator(mdates.DayLocator(tz="UTC"))
        forced.xaxis.set_major_formatter(mdates.DateFormatter("%-d Feb", tz="UTC"))
        forced.set_xlim(bars["time"].iloc[0], bars["time"].iloc[-1])
    return fig


def _observed(ax: Any, result: abm.Result, instrument: str) -> None:
    """Prices at a moment as dots, the low and the high of a day as a line over that day."""
    seen = read_observations(result.scenario["observations"])
    spot = seen[seen["market"] == instrument.replace("-perp", "-spot")]
    at = spot[spot["measure"] == "price"]
    ax.plot(at["from_utc"], at["value"] / 1e3, "o", color=_SEEN, label="observed: moments, and the range of a day")
    for _, row in spot[spot["measure"].isin(("low", "high"))].iterrows():
        ax.hlines(row["value"] / 1e3, row["from_utc"], row["to_utc"], color=_SEEN, linewidth=2)


def _forced(result: abm.Result, instrument: str) -> "pd.Series[float]":
    """Notional that accounts lost, at the mark, by time."""
    rows = result.liquidations
    rows = rows[rows["what"].isin(LOST) & (rows["instrument"] == instrument)]
    return pd.Series((rows["quantity"] * rows["mark"]).to_numpy(), index=pd.DatetimeIndex(rows["time"]))


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(prog="picture", description="The picture of the README.")
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    chosen = parser.parse_args()
    cascade(abm.read_result(chosen.run)).savefig(chosen.out, dpi=120, transparent=True)


if __name__ == "__main__":
    main()
