"""The figure: what each node of the example pays, and what its creditors would get if all had more or less."""

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from abm.contagion.measures import eisenberg_noe
from experiments.papers import Measured
from experiments.papers.eisenberg_noe_2001.model import Config


def draw(config: Config, measured: Measured) -> Figure:
    """Draw payments beside obligations, and recovery against the endowments' scale."""
    table = measured.drawn
    colours = sns.color_palette("colorblind", len(table))
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(10, 4.2), layout="constrained")
        left, right = fig.subplots(1, 2)
    left.bar(table.index, table["obligations"], color="none", edgecolor="0.4", linewidth=1)
    left.bar(table.index, table["payments"], color=colours, edgecolor="0.4", linewidth=1)
    for node, row in table.iterrows():
        words = f"fails in\nround {row['round']:.0f}" if row["round"] else "pays all"
        left.annotate(words, (node, row["obligations"]), (0, 3), "data", "offset points", ha="center", fontsize=8)
    left.set(
        xlabel="node",
        ylabel="owed (outline) and paid (filled), currency",
        xticks=table.index,
        ylim=(0, 1.15 * table["obligations"].max() or 1),
    )
    scales = np.linspace(0, 2, 201)
    recovery = np.array(
        [eisenberg_noe(config.liabilities, scale * np.array(config.endowment))["recovery"] for scale in scales]
    )
    for node, colour in enumerate(colours):
        right.plot(scales, recovery[:, node], color=colour, label=f"node {node}")
    right.axvline(1, color="0.7", linestyle=":", linewidth=1)
    right.annotate("the example", (1, 0.02), (4, 0), textcoords="offset points", color="0.45", fontsize=9)
    right.set(
        xlabel="endowments, as multiple of the example's",
        ylabel="fraction of its debts that a node pays",
        xlim=(0, 2),
        ylim=(0, 1.03),
    )
    if len(table) <= 10:
        right.legend(frameon=False, loc="lower right")
    fig.suptitle(
        "Who cannot pay all pays all it has, and so its creditors may fail too",
        x=0.01,
        ha="left",
        fontsize=11,
        fontweight="bold",
    )
    for ax in (left, right):
        sns.despine(ax=ax)
    return fig
