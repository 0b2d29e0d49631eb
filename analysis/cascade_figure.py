"""The figure of a cascade: one tree of liquidations, each below the one that set it off."""

from collections import defaultdict
from typing import Any

import matplotlib as mpl
import networkx as nx
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from abm.contagion.chain import Forest

BRANCHES = 8
"""Branches of a liquidation that are drawn, those with most liquidations in them; the others are counted."""
_MOST = 90
_PALETTE = sns.color_palette("colorblind", 10)

type _Size = tuple[int, float]
"""Liquidations of a branch, and their notional."""


def deepest_tree(forest: Forest) -> Forest | None:
    """The tree of most generations, of these the one of most notional; None where no liquidation set off another."""
    trees = (forest.subgraph(members) for members in nx.weakly_connected_components(forest) if len(members) > 1)
    return max(trees, key=lambda tree: (_depth(tree), _sizes(tree)[_root(tree)][1], -min(tree)), default=None)


def cascade_figure(tree: Forest, title: str) -> Figure:
    """A tree of liquidations: generations downwards, areas by notional, of each liquidation its largest branches."""
    shown, left_out = _pruned(tree)
    place = _places(shown)
    depth = max(row for _, row in place.values())
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(9, min(2.0 + 0.8 * depth, 11)), layout="constrained")
        ax = fig.subplots()
    for parent, child in shown.edges:
        ax.plot(*zip(place[parent], place[child], strict=True), color="#bbbbbb", linewidth=0.8, zorder=1)
    largest = max(notional for _, notional in shown.nodes(data="notional")) or 1.0
    for k, name in enumerate(sorted({instrument for _, instrument in shown.nodes(data="instrument")})):
        mine = [node for node, instrument in shown.nodes(data="instrument") if instrument == name]
        areas = [14 + 300 * shown.nodes[node]["notional"] / largest for node in mine]
        ax.scatter(*np.transpose([place[node] for node in mine]), areas, color=_PALETTE[k % 10], label=name, zorder=2)
    for node, count in left_out.items():
        x, row = place[node]
        ax.annotate(f"and {count:,} more", (x, row), (14, -4), textcoords="offset points", fontsize=8, color="#555555")
    _finish(ax, depth, largest, title)
    return fig


def _finish(ax: Any, depth: int, largest: float, title: str) -> None:
    ax.set_ylim(depth + 0.5, -0.5)
    ax.margins(x=0.12)
    ax.set_yticks(range(depth + 1), [str(k + 1) for k in range(depth + 1)])
    ax.set_ylabel("generation")
    ax.set_xticks([])
    ax.set_xlabel(f"area: notional sold, at the mark; the largest {largest:,.0f} USD")
    ax.set_title(title, loc="left", fontsize=11, fontweight="bold")
    legend = ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    for handle in legend.legend_handles:
        handle.set_sizes([30])
    sns.despine(ax=ax, bottom=True)


def _root(tree: Forest) -> int:
    return next(node for node in tree if tree.in_degree(node) == 0)


def _depth(tree: Forest) -> int:
    return max(nx.single_source_shortest_path_length(tree, _root(tree)).values())


def _sizes(tree: Forest) -> dict[int, _Size]:
    """Of each liquidation how large the branch is that begins with it."""
    sizes: dict[int, _Size] = {}
    for node in nx.dfs_postorder_nodes(tree, _root(tree)):
        below = [sizes[child] for child in tree.successors(node)]
        notional = float(tree.nodes[node]["notional"])
        sizes[node] = 1 + sum(count for count, _ in below), notional + sum(worth for _, worth in below)
    return sizes


def _pruned(tree: Forest) -> tuple[Forest, dict[int, int]]:
    """The largest branches of each liquidation, from the first on, and how many liquidations below each are left out."""
    sizes, kept = _sizes(tree), [_root(tree)]
    left_out: dict[int, int] = {}
    for node in kept:  # grows
        branches = sorted(tree.successors(node), key=lambda child: (*sizes[child], -child), reverse=True)
        here = branches[: min(BRANCHES, max(_MOST - len(kept), 0))]
        kept += here
        if len(here) < len(branches):
            left_out[node] = sum(sizes[child][0] for child in branches[len(here) :])
    return tree.subgraph(kept), left_out


def _places(tree: Forest) -> dict[int, tuple[float, int]]:
    """Where each is drawn: leaves side by side, who set them off above their middle."""
    row = nx.single_source_shortest_path_length(tree, _root(tree))
    across: dict[int, float] = {}
    under: dict[int, list[float]] = defaultdict(list)
    leaves = 0
    for node in nx.dfs_postorder_nodes(tree, _root(tree)):
        if not under[node]:
            under[node].append(float(leaves))
            leaves += 1
        across[node] = float(np.mean(under[node]))
        for parent in tree.predecessors(node):
            under[parent].append(across[node])
    return {node: (across[node], row[node]) for node in tree}
