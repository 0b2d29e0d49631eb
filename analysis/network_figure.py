"""The figure of a contagion network: what is held in the middle, who holds it on the right, and what else acts on both on the left."""

from collections import defaultdict
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure

from abm.contagion.graph import EXPOSURE, Network

MOST = 30
"""Nodes of a column that are drawn, those with the heaviest edges."""
_PALETTE = sns.color_palette("colorblind", 10)
_COLUMNS = {"asset": 1, "holder": 2}
"""Other kinds of nodes stand in column 0."""
_WIDEST = 7.0


def network_figure(graph: Network, title: str) -> Figure:
    """Nodes in three columns; exposures as wide as their worth, edges of other channels as thin lines in their colours.

    Accounts of one population are drawn as one node.
    """
    columns, edges = _merged(graph)
    place = {
        node: (column, -(k + 0.5) / len(nodes)) for column, nodes in enumerate(columns) for k, node in enumerate(nodes)
    }
    channels = sorted({channel for *_, channel in edges} - {EXPOSURE})
    colours = {EXPOSURE: "#9a9a9a"} | {name: _PALETTE[k % 10] for k, name in enumerate(channels)}
    heaviest = max((weight for (*_, channel), weight in edges.items() if channel == EXPOSURE), default=1.0)
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(9, 1.6 + 0.24 * max(map(len, columns))), layout="constrained")
        ax = fig.subplots()
    for (source, target, channel), weight in edges.items():
        if source in place and target in place:
            wide = 0.3 + _WIDEST * (weight / heaviest) ** 0.5 if channel == EXPOSURE else 0.8
            _draw(ax, place[source], place[target], colours[channel], wide, behind=channel == EXPOSURE)
    for node, (x, y) in place.items():
        ax.plot(x, y, "o", color="#222222", markersize=4, zorder=4)
        side = {0: "right", 1: "center", 2: "left"}[x]
        ax.annotate(
            node,
            (x, y),
            ({0: -7, 1: 0, 2: 7}[x], 6 if x == 1 else 0),
            textcoords="offset points",
            ha=side,
            va="bottom" if x == 1 else "center",
            fontsize=8,
            parse_math=False,
            zorder=5,
        )
    for name, colour in colours.items():
        ax.plot([], [], color=colour, linewidth=3 if name == EXPOSURE else 1.2, label=name.replace("_", " "))
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, fontsize=8)
    ax.set_xlim(-0.6, 2.6)
    ax.set_ylim(-1, 0)
    ax.set_axis_off()
    ax.set_title(title, loc="left", fontsize=11, fontweight="bold")
    return fig


def _draw(ax: Any, start: tuple[int, float], end: tuple[int, float], colour: Any, wide: float, behind: bool) -> None:
    """A line between two columns, a bow within one."""
    bow = 0.25 if start[0] == end[0] else 0.0
    ax.annotate(
        "",
        end,
        start,
        arrowprops={
            "arrowstyle": "-",
            "color": colour,
            "linewidth": wide,
            "alpha": 0.45 if behind else 0.8,
            "connectionstyle": f"arc3,rad={bow}",
        },
        zorder=1 if behind else 2,
    )


def _merged(graph: Network) -> tuple[list[list[str]], dict[tuple[str, str, str], float]]:
    """The nodes of each column, heaviest first, and the edges between them: accounts of one population put together."""
    kinds = dict(graph.nodes(data="kind"))

    def whose(node: str) -> str:
        return node.rpartition("/")[0] if kinds[node] == "holder" and "/" in node else node

    edges: dict[tuple[str, str, str], float] = defaultdict(float)
    heavy: dict[str, float] = defaultdict(float)
    for source, target, known in graph.edges(data=True):
        edges[whose(source), whose(target), known["channel"]] += known["weight"]
        for node in (source, target):
            heavy[whose(node)] += known["weight"] if known["channel"] == EXPOSURE else 0.0
    columns: list[dict[str, None]] = [{}, {}, {}]
    for node, kind in kinds.items():
        if graph.degree(node):
            columns[_COLUMNS.get(kind, 0)][whose(node)] = None
    return [sorted(nodes, key=lambda node: (-heavy[node], node))[:MOST] for nodes in columns], dict(edges)
