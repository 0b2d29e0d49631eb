"""The figure: how often a cascade is at least so large, measured and by the closed form."""

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from experiments.papers import Measured
from experiments.papers.liquidation_cascade_2026.model import Config, borel_tanner


def draw(config: Config, measured: Measured) -> Figure:
    """Draw the distribution of totals at each ratio."""
    colours = sns.color_palette("colorblind", len(measured.drawn))
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(8, 5), layout="constrained")
        ax = fig.subplots()
    for colour, (ratio, totals) in zip(colours, measured.drawn.items(), strict=True):
        sizes = np.arange(config.start, int(totals.max()) + 2)
        beyond = 1 - np.concatenate(([0.0], np.cumsum(borel_tanner(sizes[:-1], ratio, config.start))))
        ax.plot(sizes, np.maximum(beyond, 1e-12), color=colour, linewidth=1.2)
        seen = np.unique(np.geomspace(config.start, totals.max(), 40).astype(int))
        share = np.array([(totals >= size).mean() for size in seen])
        ax.plot(seen, share, "o", color=colour, markersize=4, label=f"R = {ratio:g}")
    ax.set(xscale="log", yscale="log", ylim=(0.5 / config.runs, 1.5))
    ax.set_xlabel("liquidations in a cascade")
    ax.set_ylabel("share of cascades at least so large")
    ax.set_title(
        "Cascades on a flat book: measured (dots), Borel-Tanner (lines)", loc="left", fontsize=11, fontweight="bold"
    )
    ax.legend(frameon=False)
    sns.despine(ax=ax)
    return fig
