"""The figure of a sweep: a measure against each key that was varied."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

_PALETTE = sns.color_palette("colorblind", 10)
_INK = "#222222"
MOST_NAMES = 12
"""Values of a key that are written below its axis where they are no numbers."""


def sweep_figure(points: pd.DataFrame, keys: list[str], measure: str, unit: str) -> Figure:
    """A panel for each key: the median of each point with its interval, and a line through the medians at each value of the key.

    Args:
        points: Of `Sweep.points`.
        keys: What was varied.
        measure: One of the measures.
        unit: Its unit; 1 is a fraction.
    """
    mine, scale = points[points["measure"] == measure], 100.0 if unit == "1" else 1.0
    columns = min(len(keys), 3)
    rows = -(-len(keys) // columns)
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(9, 0.4 + 2.9 * rows), layout="constrained")
        axes = fig.subplots(rows, columns, sharey=True, squeeze=False)
    for ax, key in zip(axes.flat, keys, strict=False):
        _panel(ax, mine, key, scale)
    for ax in axes.flat[len(keys) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel(f"{measure}{f' ({per})' if (per := '%' if unit == '1' else unit) else ''}", parse_math=False)
    fig.suptitle(
        f"{measure}: median and nine in ten runs of each point", x=0.01, ha="left", fontsize=11, parse_math=False
    )
    return fig


def _panel(ax: Any, mine: pd.DataFrame, key: str, scale: float) -> None:
    at, numeric = _places(ax, mine[key])
    middle, low, high = (mine[column].to_numpy(np.float64) * scale for column in ("median", "low", "high"))
    ax.vlines(at, low, high, color=_PALETTE[0], linewidth=1.0, alpha=0.5)
    ax.plot(at, middle, "o", color=_PALETTE[0], markersize=4)
    through = pd.Series(middle, index=at).groupby(level=0).median()
    if 1 < len(through) <= max(len(mine) // 2, 2) or len(through) == len(mine):
        ax.plot(through.index, through, color=_INK, linewidth=1.2 if numeric else 0.0, marker="_", markersize=12)
    ax.set_xlabel(key, fontsize=8, parse_math=False)
    ax.grid(axis="y", color="#e5e5e5", linewidth=0.6)
    ax.set_axisbelow(True)
    sns.despine(ax=ax)


def _places(ax: Any, values: "pd.Series[Any]") -> tuple[np.ndarray, bool]:
    """Where values stand on an axis: numbers where they are, on a logarithmic axis where they span a decade, words side by side."""
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().all() and not values.map(lambda value: isinstance(value, bool)).any():
        if numbers.min() > 0 and numbers.max() >= 10 * numbers.min():
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_formatter(NullFormatter())
        return numbers.to_numpy(np.float64), True
    names = list(dict.fromkeys(map(str, values)))
    if len(names) <= MOST_NAMES:
        ax.set_xticks(range(len(names)), names, fontsize=7, rotation=20, ha="right", parse_math=False)
    return np.array([names.index(str(value)) for value in values], np.float64), False
