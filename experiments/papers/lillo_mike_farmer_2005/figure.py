"""The figure: autocorrelation of the signs of trades by lag."""

from itertools import pairwise

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from experiments.papers import Measured
from experiments.papers.lillo_mike_farmer_2005.model import Config, autocorrelation


def draw(config: Config, measured: Measured) -> Figure:
    """Draw what was measured, as means over groups of lags, and the closed form."""
    colours = sns.color_palette("colorblind", len(config.alphas))
    last = config.lags[1]
    edges = np.unique(np.geomspace(1, last + 1, 40).round().astype(int))
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(8, 5), layout="constrained")
        ax = fig.subplots()
    ax.axvspan(*config.lags, color="0.93", linewidth=0)
    for colour, alpha in zip(colours, config.alphas, strict=True):
        acf = measured.drawn[alpha]
        means = [acf[low:high].mean() for low, high in pairwise(edges)]
        ax.plot(np.sqrt(edges[:-1] * (edges[1:] - 1)), means, "o", color=colour, markersize=4)
        ax.plot(np.arange(1, last + 1), autocorrelation(last, alpha, config.hidden)[1:], color=colour, linewidth=1.2)
        gamma = measured.estimates[f"gamma at alpha {alpha:g}"]
        ax.plot([], [], "o-", color=colour, label=rf"$\alpha$ = {alpha:g}: $\gamma$ = {gamma.value:.2f}")
    ax.set(xscale="log", yscale="log", xlabel="lag (trades)", ylabel="autocorrelation of the signs of trades")
    ax.set_title(
        "Split orders leave a long memory: measured (dots), closed form (lines)",
        loc="left",
        fontsize=11,
        fontweight="bold",
    )
    ax.legend(frameon=False)
    sns.despine(ax=ax)
    return fig
