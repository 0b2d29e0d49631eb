"""The figure of a comparison: each observation's bounds, and what runs say, on one scale."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from analysis.compare import Row

_PALETTE = sns.color_palette("colorblind", 10)
_ROLES = {
    "input": ("put in", "D", _PALETTE[7]),
    "fitted": ("fitted", "s", _PALETTE[1]),
    "predicted": ("predicted", "o", _PALETTE[0]),
}
_FURTHEST = 6.0
"""Half widths of the bounds from their middle beyond which a value is drawn at the edge, with an arrow."""


def comparison_figure(rows: Sequence[Row], title: str) -> Figure:
    """Each observation with two bounds as a line: its bounds lie at -1 and 1, the dot is the median of the runs, the bar nine tenths of them."""
    drawn = [row for row in rows if np.isfinite([row.low, row.high, row.simulated]).all() and row.high > row.low]
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(9, 1.4 + 0.32 * max(len(drawn), 1)), layout="constrained")
        ax = fig.subplots()
        sns.despine(ax=ax, left=True)
        ax.axvspan(-1, 1, color="#e8e8e8", linewidth=0)
        for place, row in enumerate(drawn):
            middle, half = (row.low + row.high) / 2.0, (row.high - row.low) / 2.0
            least, value, most = ((np.array([row.least, row.simulated, row.most]) - middle) / half).tolist()
            label, marker, colour = _ROLES[row.role]
            ax.plot(np.clip([least, most], -_FURTHEST, _FURTHEST), [place] * 2, color=colour, linewidth=1.6)
            edge = np.clip(value, -_FURTHEST, _FURTHEST)
            marker = marker if edge == value else "<" if value < 0 else ">"
            ax.plot(
                edge,
                place,
                marker,
                color=colour,
                markersize=6,
                fillstyle="full" if row.inside else "none",
                clip_on=False,
            )
            ax.plot((row.observed - middle) / half, place, "|", color="#222222", markersize=9)
        ax.set_yticks(range(len(drawn)), [row.observation for row in drawn])
        ax.set_ylim(len(drawn) - 0.4, -0.6)
        ax.set_xlim(-_FURTHEST, _FURTHEST)
        ax.set_xlabel(
            "distance from the middle of the bounds, in half widths of them (grey: within)\n"
            "tick: observed; bar: nine of ten runs; hollow: outside; arrow: further out than drawn"
        )
        for role in dict.fromkeys(row.role for row in drawn):
            label, marker, colour = _ROLES[role]
            ax.plot([], [], marker, color=colour, label=label)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1 - 1.6 / (len(drawn) + 2)), ncols=3, frameon=False)
        ax.set_title(title, loc="left", fontsize=11, fontweight="bold")
    return fig
