"""The figure: how profits are spread with quotes that lean against the inventory, and with quotes that do not."""

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from experiments.papers import Measured
from experiments.papers.avellaneda_stoikov_2008.model import STRATEGIES, Config


def draw(config: Config, measured: Measured) -> Figure:
    """Draw the distribution of profits for each risk aversion, a panel for each."""
    gammas = sorted(config.risk_aversions)
    colours = sns.color_palette("colorblind", len(STRATEGIES))
    everything = np.concatenate([found.profit for found in measured.drawn.values()])
    edges = np.linspace(*np.quantile(everything, (0.0005, 0.9995)), 70)
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(3.4 * len(gammas), 3.8), layout="constrained")
        panels = np.atleast_1d(fig.subplots(1, len(gammas), sharex=True, sharey=True))
    for ax, gamma in zip(panels, gammas, strict=True):
        for colour, strategy in zip(colours, STRATEGIES, strict=True):
            profit = measured.drawn[gamma, strategy].profit
            label = f"{strategy}: {profit.mean():.1f} $\\pm$ {profit.std():.1f}"
            ax.hist(profit, edges, density=True, histtype="stepfilled", color=colour, alpha=0.25)
            ax.hist(profit, edges, density=True, histtype="step", color=colour, linewidth=1.4, label=label)
        ax.set_title(f"risk aversion {gamma:g}", fontsize=10)
        ax.set_xlabel("profit, currency")
        ax.legend(frameon=False, fontsize=8, loc="upper left")
        sns.despine(ax=ax)
    panels[0].set_ylim(0, panels[0].get_ylim()[1] * 1.25)
    panels[0].set_ylabel("share of runs, per currency")
    fig.suptitle(
        "Quotes that lean against the inventory: less profit, and much less risk (mean $\\pm$ sd)",
        x=0.01,
        ha="left",
        fontsize=11,
        fontweight="bold",
    )
    return fig
