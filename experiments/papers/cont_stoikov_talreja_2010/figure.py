"""The figure: both tables, measured and exact, by the orders at the best ask."""

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from experiments.papers import Measured
from experiments.papers.cont_stoikov_talreja_2010.model import EXECUTES, MOVES, Config, exact, name


def draw(config: Config, measured: Measured) -> Figure:
    """Draw one panel for each table, one line for each length of the bid queue."""
    colours = sns.color_palette("viridis", config.queues)
    known = exact(config)
    asks = np.arange(1, config.queues + 1)
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(10, 4.8), layout="constrained")
        axes = fig.subplots(1, 2, sharey=True)
    titles = {MOVES: "The mid moves up first", EXECUTES: "The last bid order executes first"}
    for ax, (what, title) in zip(axes, titles.items(), strict=True):
        for bid, colour in zip(asks, colours, strict=True):
            found = [measured.drawn[what][bid, ask] for ask in asks]
            ax.plot(asks, [known[name(what, bid, ask)] for ask in asks], color=colour, linewidth=1.2)
            values, errors = [each.value for each in found], [2 * each.error for each in found]
            ax.errorbar(asks, values, errors, fmt="o", color=colour, markersize=5, label=f"{bid}")
        ax.set(ylim=(0, 1), xticks=asks, xlabel="orders at the best ask")
        ax.set_title(title, loc="left", fontsize=10)
        sns.despine(ax=ax)
    axes[0].set_ylabel("probability")
    axes[0].legend(frameon=False, title="orders at\nthe best bid", ncols=2)
    fig.suptitle(
        "Races on the real book (dots, 2 standard errors) and the linear system (lines)",
        x=0.01,
        ha="left",
        fontsize=11,
        fontweight="bold",
    )
    return fig
