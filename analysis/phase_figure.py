"""The figure of a phase diagram: a heat map over two keys, with the line at which half the runs pass a threshold."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from analysis.phase import Phase

_INK = "#222222"


def phase_figure(found: Phase, title: str) -> Figure:
    """Medians of the cells; with a threshold beside them the share of runs that pass it, and the critical line with its interval.

    Args:
        found: What is drawn.
        title: Name of the sweep.
    """
    columns, rows = found.cells["x"].nunique(), found.cells["y"].nunique()
    maps = 1 if found.threshold is None else 2
    with mpl.rc_context(sns.axes_style("white")):
        size = (maps * (2.6 + 0.62 * columns), 2.3 + 0.5 * rows)
        fig = Figure(figsize=size, layout="constrained")
        axes = fig.subplots(ncols=maps, squeeze=False, sharey=True)[0]
    factor, unit = _scale(found)
    _map(axes[0], found, found.cells.assign(median=found.cells["median"] * factor), "median", {"cmap": "crest"})
    axes[0].set_title(f"median {found.measure}{unit}", loc="left", fontsize=10)
    if found.threshold is not None:
        shares = {"cmap": "flare", "vmin": 0.0, "vmax": 1.0}
        _map(axes[1], found, found.cells, "share", shares)
        side = "below" if found.below else "above"
        edge = f"{found.threshold * factor:,.6g}{unit.replace('(', '').replace(')', '')}"
        axes[1].set_title(f"share of runs {side} {edge}", loc="left", fontsize=10)
        axes[1].set_ylabel("")
        for text in axes[1].texts:  # beside the line
            text.set(x=text.get_position()[0] - 0.45, ha="left")
        if found.line is not None:
            _line(axes[1], found)
    fig.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return fig


def _scale(found: Phase) -> tuple[float, str]:
    """By what numbers are multiplied, and the unit they have then."""
    if found.unit == "1":
        return 100.0, " (%)"
    large = float(found.cells["median"].abs().max()) >= 1e5
    if found.unit == "USD" and large:
        return 1e-6, " (million USD)"
    return 1.0, f" ({found.unit})" if found.unit else ""


def _map(ax: Any, found: Phase, cells: pd.DataFrame, column: str, how: dict[str, Any]) -> None:
    """A heat map whose rows rise; a cell without a run is left white."""
    grid = cells.pivot_table(column, "y", "x", aggfunc="first", dropna=False, sort=True)
    large = float(np.nanmax(np.abs(grid.to_numpy())))
    fmt = ".2f" if column == "share" or large < 10 else ".0f" if large >= 1000 else ".3g"
    sns.heatmap(
        grid,
        ax=ax,
        annot=grid.size <= 150,
        fmt=fmt,
        annot_kws={"fontsize": 8},
        linewidths=0.4,
        cbar_kws={"shrink": 0.9},
        **how,
    )
    ax.invert_yaxis()
    ax.set_xticks(np.arange(len(grid.columns)) + 0.5, [_tick(value) for value in grid.columns], rotation=0)
    ax.set_yticks(np.arange(len(grid.index)) + 0.5, [_tick(value) for value in grid.index], rotation=0)
    ax.set_xlabel(found.x)
    ax.set_ylabel(found.y)


def _tick(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _line(ax: Any, found: Phase) -> None:
    """The critical line: a point in each column that has one, with its interval."""
    assert found.line is not None
    ys = np.sort(found.cells["y"].unique())
    xs = list(dict.fromkeys(found.cells.sort_values("x")["x"]))
    line = found.line
    middle, low, high = (_height(line[name].to_numpy(dtype=float), ys, found) for name in ("critical", "low", "high"))
    places = np.array([xs.index(x) for x in line["x"]]) + 0.5
    there = np.isfinite(line["critical"].to_numpy(dtype=float))
    white = [withStroke(linewidth=4, foreground="white")]
    shown = np.where(there, middle, np.nan)
    ax.plot(places, shown, color=_INK, linewidth=1.8, path_effects=white)
    ax.plot(places, shown, "o", color=_INK, markersize=4)
    ax.vlines(places[there], low[there], high[there], color=_INK, linewidth=1.2, path_effects=white)


def _height(values: Any, ys: Any, found: Phase) -> Any:
    """Where a value of y stands among the rows; what is beyond them stands at the edge of the map."""
    log = found.y in found.log
    rows = np.arange(len(ys)) + 0.5
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = np.log(np.maximum(values, 0.0)) if log else values
    return np.interp(scaled, np.log(ys) if log else ys, rows, left=0.0, right=float(len(ys)))
