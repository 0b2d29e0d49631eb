"""The figure: how often a shock becomes contagion, by how many assets a bank holds."""

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from experiments.papers import Measured
from experiments.papers.caccioli_2014.model import Config, extent, frequency


def draw(config: Config, measured: Measured) -> Figure:
    """Draw the frequency for both shocks, and below it how far contagion goes."""
    colours = dict(zip(("bank", "asset"), sns.color_palette("colorblind", 2), strict=True))
    labels = {"bank": "a bank fails", "asset": f"an asset falls by {config.fall:.0%}"}
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(8, 6), layout="constrained")
        above, below = fig.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    for shock, degrees in config.degrees.items():
        for ax, name in ((above, frequency), (below, extent)):
            known = [degree for degree in degrees if name(shock, degree) in measured.estimates]
            found = np.array([measured.estimates[name(shock, degree)] for degree in known]).reshape(-1, 2)
            ax.errorbar(
                known, found[:, 0], 2 * found[:, 1], fmt="o-", color=colours[shock], label=labels[shock], markersize=5
            )
    above.set(ylabel=f"frequency: over {config.contagion:.0%} of banks fail", ylim=(-0.02, 1.05))
    below.set(
        xlabel="mean number of assets that a bank holds, $\\mu_b$",
        ylabel="extent: banks failing",
        ylim=(0, 1.08),
        xlim=(0, None),
        xticks=range(0, int(max(map(max, filter(None, config.degrees.values())), default=1)) + 3, 2),
    )
    above.legend(frameon=False)
    fig.suptitle(
        "Holding more assets first spreads failures among banks, then prevents them",
        x=0.01,
        ha="left",
        fontsize=11,
        fontweight="bold",
    )
    for ax in (above, below):
        sns.despine(ax=ax)
    return fig
