"""The figure: how much a unit of order flow moves the price, and how much of the value is still unknown, auction by auction."""

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from abm.agents.informed import equilibrium
from experiments.papers import Measured
from experiments.papers.kyle_1985.model import Config, slopes


def draw(config: Config, measured: Measured) -> Figure:
    """Draw impact and remaining variance against time, for each number of auctions."""
    colours = sns.color_palette("colorblind", len(config.auctions))
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(10, 4.2), layout="constrained")
        left, right = fig.subplots(1, 2)
    for colour, count in zip(colours, config.auctions, strict=True):
        solved, found = equilibrium(count, config.variance, config.noise), measured.drawn[count]
        time = np.arange(count + 1) / count
        left.step(time, np.append(solved.impact, solved.impact[-1]), where="post", color=colour, linewidth=1.2)
        learnt = [measured.estimates[slopes(count, n)[1]] for n in range(count)]
        errors = [2 * estimate.error for estimate in learnt]
        left.errorbar(
            time[:-1] + 0.5 / count,
            [estimate.value for estimate in learnt],
            errors,
            fmt="o",
            color=colour,
            markersize=4,
            label="1 auction" if count == 1 else f"{count} auctions",
        )
        right.plot(time, np.append(config.variance, solved.variance), color=colour, linewidth=1.2)
        right.plot(time, ((found.value[:, None] - found.price) ** 2).mean(axis=0), "o", color=colour, markersize=4)
    right.plot([0, 1], [config.variance, 0], color="grey", linestyle=":", linewidth=1)
    right.annotate("auctions without end", (0.55, 0.38 * config.variance), ha="right", color="grey", fontsize=9)
    left.set(
        xlabel="time in the round", ylabel="impact $\\lambda$: value on order flow, currency a unit", ylim=(0, None)
    )
    right.set(xlabel="time in the round", ylabel="variance of value less price, currency$^2$", ylim=(0, None))
    left.legend(frameon=False)
    fig.suptitle(
        "Order flow moves the price by what it tells about the value: measured (dots), equilibrium (lines)",
        x=0.01,
        ha="left",
        fontsize=11,
        fontweight="bold",
    )
    for ax in (left, right):
        sns.despine(ax=ax)
    return fig
