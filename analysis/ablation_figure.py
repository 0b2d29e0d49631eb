"""The figure of an ablation: what each link adds to each measure, with its errors."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

_PALETTE = sns.color_palette("colorblind", 10)
_SHARE, _ALONE, _INK = _PALETTE[0], _PALETTE[1], "#222222"
_SCALES = {"1": (100.0, "percentage points"), "bp": (1.0, "bp"), "accounts": (1.0, "accounts")}


def ablation_figure(table: pd.DataFrame, units: Mapping[str, str], title: str) -> Figure:
    """A panel for each measure: bars are Shapley values with their standard errors, diamonds what is missing with a link alone off.

    Args:
        table: Of an `Ablation`.
        units: Of its measures.
        title: What was played.
    """
    measures, links = list(units), list(dict.fromkeys(table["link"]))
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(2.2 + 2.7 * len(measures), 1.5 + 0.34 * len(links)), layout="constrained")
        axes = fig.subplots(ncols=len(measures), sharey=True, squeeze=False)[0]
    for ax, measure in zip(axes, measures, strict=True):
        sns.despine(ax=ax, left=True)
        ax.grid(axis="x", color="#e5e5e5", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.axvline(0, color=_INK, linewidth=0.8)
        _panel(ax, table[table["measure"] == measure], measure, units[measure])
    axes[0].set_yticks(range(len(links)), [link.replace("_", " ") for link in links])
    axes[0].set_ylim(len(links) - 0.4, -0.6)
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    fig.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return fig


def _panel(ax: Any, rows: pd.DataFrame, measure: str, unit: str) -> None:
    columns = [name for name in ("adds", "adds_error", "share", "share_error") if name in rows]
    largest = float(np.nanmax(np.abs(rows[columns].to_numpy()), initial=0.0))
    factor, label = _SCALES.get(unit) or ((1e-6, "million USD") if largest >= 1e5 else (1.0, "USD"))
    places = np.arange(len(rows))
    if "share" in rows:
        errors = np.nan_to_num(rows["share_error"].to_numpy()) * factor
        ax.barh(places, rows["share"] * factor, height=0.62, color=_SHARE, label="Shapley value, one standard error")
        ax.errorbar(rows["share"] * factor, places, xerr=errors, fmt="none", ecolor=_INK, elinewidth=1.2, capsize=2.5)
    ax.plot(rows["adds"] * factor, places, "D", color=_ALONE, markersize=5, label="missing where it alone is off")
    ax.set_title(measure.replace("_", " "), loc="left", fontsize=10)
    ax.set_xlabel(label)
    ax.locator_params(axis="x", nbins=5)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
