"""The figure of the stylised facts: a run, or candles, beside real data, in six panels."""

from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from scipy import stats

_PALETTE = sns.color_palette("colorblind", 10)
_OURS: dict[str, Any] = {"color": _PALETTE[0], "marker": "o", "markersize": 3.5, "linewidth": 1.3, "zorder": 3}
_REAL: dict[str, Any] = {"color": _PALETTE[1], "marker": "s", "markersize": 3.0, "linewidth": 1.0, "linestyle": "--"}
_GUIDE: dict[str, Any] = {"color": "#777777", "linewidth": 0.9, "linestyle": ":"}
_PLAIN: dict[str, Any] = {"marker": "", "alpha": 0.6}


class _Panel(NamedTuple):
    title: str
    curves: tuple[str, ...]
    """The first is drawn with markers, a second without."""
    x: str
    y: str
    scales: tuple[str, str]
    guide: Callable[[Any], Any]
    """A law to compare with."""
    limits: tuple[float, float]
    """Of the guide."""
    note: str


_PANELS = (
    _Panel(
        "Distribution of returns",
        ("density",),
        "return (standard deviations)",
        "density",
        ("linear", "log"),
        stats.norm.pdf,
        (-4.7, 4.7),
        "dotted: normal",
    ),
    _Panel(
        "Autocorrelation",
        ("acf_abs", "acf"),
        "lag (intervals)",
        "autocorrelation",
        ("log", "linear"),
        lambda lag: 0.0 * lag,
        (1, 300),
        "markers: absolute returns; plain: returns",
    ),
    _Panel(
        "Kurtosis over longer times",
        ("kurtosis",),
        "intervals put together",
        "kurtosis less 3",
        ("log", "symlog"),
        lambda scale: 0.0 * scale,
        (1, 300),
        "dotted: normal",
    ),
    _Panel(
        "Shape of the day",
        ("intraday",),
        "hour of the day (UTC)",
        "absolute return over its mean",
        ("linear", "linear"),
        lambda hour: 1.0 + 0.0 * hour,
        (0, 23),
        "dotted: flat",
    ),
    _Panel(
        "Impact",
        ("impact",),
        "net taker volume (over its mean size)",
        "move of the mid (standard deviations)",
        ("log", "log"),
        lambda size: 0.5 * np.sqrt(size),
        (0.03, 5),
        "dotted: square root; under 0 left out",
    ),
    _Panel(
        "Memory of order signs",
        ("sign_acf",),
        "lag (taker orders)",
        "autocorrelation of signs",
        ("log", "log"),
        lambda lag: 0.6 * lag**-0.5,
        (1, 1000),
        "dotted: power -1/2",
    ),
)


def stylised_figure(ours: pd.DataFrame, real: pd.DataFrame, name: str, interval: str) -> Figure:
    """Draw the curves of `stylised_curves` beside those of `reference_curves`.

    Args:
        ours: curve, x, y.
        real: source, curve, x, y.
        name: What ours is called.
        interval: Length of an interval, as in 5min.
    """
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(12.5, 7.6), layout="constrained")
        axes = fig.subplots(nrows=2, ncols=3)
    for ax, panel in zip(axes.flat, _PANELS, strict=True):
        _draw(ax, panel, ours, real)
    handles = [
        mpl.lines.Line2D([], [], label=f"{name} (interval {interval})", **_OURS),
        mpl.lines.Line2D([], [], label="real data, named in each panel", **_REAL),
    ]
    fig.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    return fig


def _draw(ax: Any, panel: _Panel, ours: pd.DataFrame, real: pd.DataFrame) -> None:
    notes = []
    for curve in reversed(panel.curves):
        plain = _PLAIN if curve != panel.curves[0] else {}
        theirs, mine = (table[table["curve"] == curve] for table in (real, ours))
        ax.plot(theirs["x"], theirs["y"], **_REAL | plain)
        ax.plot(mine["x"], mine["y"], **_OURS | plain)
        notes = [*theirs["source"].unique(), *(["ours: none"] if mine.empty else [])]
    ax.set_xscale(panel.scales[0])
    ax.set_yscale(panel.scales[1], **{"log": {"nonpositive": "mask"}}.get(panel.scales[1], {}))
    x = (np.geomspace if panel.scales[0] == "log" else np.linspace)(*panel.limits, 100)
    ax.plot(x, panel.guide(x), **_GUIDE)
    for axis, scale in zip((ax.xaxis, ax.yaxis), panel.scales, strict=True):
        if scale != "linear" and panel.curves != ("density",):
            axis.set_major_formatter("{x:g}")
    ax.set_title(panel.title, loc="left", fontsize=10, fontweight="bold", pad=16)
    beneath = ax.text(0, 1.02, "; ".join([*notes, panel.note]), transform=ax.transAxes, fontsize=7.5, color="#777777")
    beneath.set_in_layout(False)  # or a long one would widen its column
    ax.set_xlabel(panel.x)
    ax.set_ylabel(panel.y)
    ax.grid(axis="y", color="#e5e5e5", linewidth=0.6)
    ax.set_axisbelow(True)
    sns.despine(ax=ax)
