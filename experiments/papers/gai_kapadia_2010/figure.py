"""The figure: how often one failure becomes contagion, and how far it goes then, by the mean number of debtors."""

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from experiments.papers import Measured
from experiments.papers.gai_kapadia_2010.model import CLOSES, OPENS, Config, extent, frequency


def draw(config: Config, measured: Measured) -> Figure:
    """Draw both against the mean degree, and shade the window of the closed form."""
    blue, orange = sns.color_palette("colorblind", 2)
    found = measured.estimates
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(8, 5), layout="constrained")
        ax = fig.subplots()
    if OPENS in found:
        ax.axvspan(found[OPENS].value, found[CLOSES].value, color="0.93", linewidth=0)
        ax.annotate(
            "window in networks without end",
            ((found[OPENS].value + found[CLOSES].value) / 2, 0.03),
            ha="center",
            color="0.45",
            fontsize=9,
        )
    for name, colour, label in (
        (extent, orange, "extent: mean fraction of banks that fail then"),
        (frequency, blue, f"frequency: more than {config.contagion:.0%} of the banks fail"),
    ):
        degrees = [z for z in config.degrees if name(z) in found]
        values = np.array([found[name(z)] for z in degrees]).reshape(-1, 2)
        ax.errorbar(degrees, values[:, 0], 2 * values[:, 1], fmt="o-", color=colour, label=label, markersize=5)
    ax.set(
        xlabel="mean number of debtors of a bank, $z$",
        ylabel="fraction (of failures, of banks)",
        xlim=(0, max(config.degrees) * 1.06),
        ylim=(0, 1.05),
    )
    fig.legend(frameon=False, loc="outside lower center", ncols=2)
    fig.suptitle(
        "Links make contagion rarer beyond a point, but no milder when it comes",
        x=0.01,
        ha="left",
        fontsize=11,
        fontweight="bold",
    )
    sns.despine(ax=ax)
    return fig
