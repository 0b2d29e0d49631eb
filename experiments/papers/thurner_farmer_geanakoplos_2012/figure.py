"""The figure: how large falls of the price are, and how long volatility is remembered, by what funds may borrow."""

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from experiments.papers import Measured
from experiments.papers.thurner_farmer_geanakoplos_2012.model import Config, autocorrelation

FURTHEST = 200
"""Greatest lag that is drawn."""


def draw(config: Config, measured: Measured) -> Figure:
    """Draw the distribution of falls from cheap prices, and the autocorrelation of absolute returns, at each leverage."""
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(10.5, 4.6), layout="constrained")
        left, right = fig.subplots(1, 2)
    colours = sns.color_palette("viridis_r", len(config.leverages))
    for colour, (leverage, prices) in zip(colours, measured.drawn.items(), strict=True):
        returns = np.diff(np.log(prices), axis=0)
        label = f"leverage up to {leverage:g}" if leverage else "no funds"
        falls = np.sort(-returns[(returns < 0) & (prices[:-1] < config.value)])[::-1]
        beyond = np.arange(1, len(falls) + 1) / len(falls)
        drawn = np.unique(np.geomspace(1, len(falls), 400).astype(np.int64)) - 1
        left.plot(falls[drawn], beyond[drawn], color=colour, linewidth=1.6, label=label)
        size = np.abs(returns)
        lags = np.unique(np.geomspace(1, min(FURTHEST, len(size) // 4), 30).astype(np.int64))
        right.plot(lags, [autocorrelation(size, lag).mean() for lag in lags], "o-", color=colour, markersize=3, lw=1.2)
    left.set(xscale="log", yscale="log", xlim=(0.003, None), ylim=(1 / len(prices), 1.3))
    left.set(xlabel="fall of the log price in a step", ylabel="share of falls at least so large, price below value")
    left.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    left.legend(frameon=False, loc="lower left")
    right.axhline(0.0, color="0.7", linewidth=0.8)
    right.set(xscale="log", xlabel="lag, steps", ylabel="autocorrelation of absolute returns")
    right.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    for ax in (left, right):
        sns.despine(ax=ax)
    fig.suptitle(
        "The more funds may borrow, the likelier are large falls, and the more volatility lasts",
        x=0.01,
        ha="left",
        fontsize=11,
        fontweight="bold",
    )
    return fig
