"""The figure: what is still held after each slice, and the cost of a sale against its risk for every risk aversion."""

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from experiments.papers import Measured
from experiments.papers.almgren_chriss_2000.model import Config, cost, trajectory


def draw(config: Config, measured: Measured) -> Figure:
    """Draw the trajectory, and the efficient frontier with the sales on it."""
    line, dots = sns.color_palette("colorblind", 2)
    days = np.linspace(0, config.horizon, config.slices + 1)
    found = measured.drawn
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(10, 4.2), layout="constrained")
        left, right = fig.subplots(1, 2)
    _, held = trajectory(config)
    left.plot(days, held / 1e6, color=line, linewidth=1.2, label="optimal trajectory")
    left.plot(
        days, np.append(config.shares, found.held.mean(axis=0)) / 1e6, "o", color=dots, label="sold on the exchange"
    )
    left.plot(days[[0, -1]], [config.shares / 1e6, 0], color="grey", linestyle=":", linewidth=1, label="even sale")
    left.set(xlabel="time, days", ylabel="shares still held, millions", ylim=(0, None))
    left.legend(frameon=False)
    aversions = config.risk_aversion * np.geomspace(1e-3, 1e2, 200)
    frontier = np.array([cost(config, trajectory(config, aversion)[1]) for aversion in aversions]) / 1e6
    right.plot(frontier[:, 1], frontier[:, 0], color=line, linewidth=1.2)
    error = measured.estimates["mean cost"].error
    right.errorbar(
        found.cost.std() / 1e6,
        found.cost.mean() / 1e6,
        2 * error / 1e6,
        2 * measured.estimates["sd of cost"].error / 1e6,
        fmt="o",
        color=dots,
        label=f"sold on the exchange ({len(found.cost):,} sales, 2 standard errors)",
    )
    right.set(xlabel="sd of the cost, millions of currency", ylabel="mean cost, millions of currency")
    right.set_ylim(top=1.12 * frontier[:, 0].max())
    right.legend(frameon=False, loc="upper right")
    fig.suptitle(
        "A sale in a hurry costs more and risks less: the execution style lies on the efficient frontier",
        x=0.01,
        ha="left",
        fontsize=11,
        fontweight="bold",
    )
    for ax in (left, right):
        sns.despine(ax=ax)
    return fig
