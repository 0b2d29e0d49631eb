"""The figure of a forecast: the prices of an ensemble's members as a fan, and the levels they may reach."""

from collections.abc import Sequence

import matplotlib as mpl
import matplotlib.dates as mdates
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from analysis.forecast import HOUR, Level, Paths

_PALETTE = sns.color_palette("colorblind", 10)
_FAN, _LEVEL, _INK = _PALETTE[0], _PALETTE[3], "#222222"
_DRAWN = 8
"""Members whose own path is drawn."""
_PAST = 48
"""Hours before that are drawn, at most."""


def forecast_figure(found: Paths, levels: Sequence[Level], title: str) -> Figure:
    """Where nine tenths and half of the members lie at each time, their median, some of them, and the levels."""
    at, n = pd.Timestamp(found.at), found.close.shape[1]
    times = [at + k * HOUR for k in range(n + 1)]
    close = np.concatenate((np.full((len(found.close), 1), found.start), found.close), axis=1)
    past = found.past[-min(_PAST, max(n // 2, 1)) - 1 :]
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(9, 5.2), layout="constrained")
        ax = fig.subplots()
    sns.despine(ax=ax)
    ax.grid(axis="y", color="#e5e5e5", linewidth=0.6)
    ax.set_axisbelow(True)
    for least, most, shade, label in ((0.05, 0.95, 0.18, "nine in ten"), (0.25, 0.75, 0.3, "half")):
        ax.fill_between(
            times, *np.quantile(close, (least, most), axis=0), color=_FAN, alpha=shade, linewidth=0, label=label
        )
    for k, path in enumerate(close[:_DRAWN]):
        ax.plot(times, path, color=_FAN, linewidth=0.5, alpha=0.6, label="some of the members" if k == 0 else None)
    ax.plot(times, np.median(close, axis=0), color=_FAN, linewidth=1.8, label="median")
    ax.plot(
        [at - (len(past) - 1 - k) * HOUR for k in range(len(past))], past, color=_INK, linewidth=1.2, label="before"
    )
    for level in levels:
        ax.axhline(level.price, color=_LEVEL, linewidth=1.0, linestyle="--")
        ax.annotate(
            f"{level.price:,.6g}",
            (times[-1], level.price),
            xytext=(3, 2),
            textcoords="offset points",
            fontsize=8,
            color=_LEVEL,
        )
    if found.played < n:
        ax.axvline(times[found.played], color=_INK, linewidth=0.8, linestyle=":")
        top = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "xytext": (4, -10)}
        ax.annotate("resampled from here", (times[found.played], 1.0), **top, fontsize=8)
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    ax.yaxis.set_minor_formatter(lambda value, _: f"{value:,.6g}")
    ax.tick_params(axis="y", which="minor", labelsize=8)
    ax.set_ylabel("price (USD, logarithmic)")
    locator = mdates.AutoDateLocator(minticks=4, maxticks=9, tz="UTC")
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator, tz="UTC"))
    ax.set_xlabel("time (UTC)")
    ax.set_xlim(at - (len(past) - 1) * HOUR, times[-1])
    fig.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=5)
    ax.set_title(title, loc="left", fontsize=11, fontweight="bold")
    return fig
