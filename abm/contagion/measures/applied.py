"""Measures applied to the network of a run: who owes whom, who holds what, and how much hangs on each.

The network (`abm.contagion.graph`) has edges of many kinds. Here are the two that measures of balance sheets want, cut out of it: `debts` for
`debtrank`, `eisenberg_noe`, `neva` and `gai_kapadia`, `holdings` for `overlap_cascade`. Populations of more accounts than the network tells
apart are one node, and so less fragile than their accounts.
"""

from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
import pandas as pd

from abm.contagion.graph import EXPOSURE, LOAN
from abm.contagion.measures.cascades import debtrank, overlap_cascade

if TYPE_CHECKING:
    from abm.contagion.graph import Network

_CLAIMS, _POOLS, _HUB = "credit", "collateral", "hub:"


def debts(network: "Network") -> "nx.DiGraph[str]":
    """Who owes whom: an edge from each debtor to each creditor, its `weight` what is owed, in currency.

    These are the claims of channel `credit`, custody among them; a hub and its own account are one node. What is owed to brokers and pools is secured
    by what was bought with it: it is an external liability, and what secures it an external asset.

    Args:
        network: Of a run: `Result.graph()`.

    Returns:
        Nodes with, in currency, `equity` and `external_liabilities`, and `external_assets` such that
        equity = external_assets + claims - debts - external_liabilities. Who has nothing and owes nothing is left out.
    """
    found: nx.DiGraph[str] = nx.DiGraph()
    for node, known in network.nodes(data=True):
        if "equity" in known:
            found.add_node(node, equity=float(known["equity"]), external_liabilities=0.0)
    for source, target, known in network.edges(data=True):
        debtor, creditor = source.removeprefix(_HUB), target.removeprefix(_HUB)
        secured = known["channel"] == LOAN or (known["channel"] == _POOLS and source.startswith("pool:"))
        if secured and target in found:
            found.nodes[target]["external_liabilities"] += float(known["weight"])
        elif known["channel"] == _CLAIMS and debtor != creditor and debtor in found and creditor in found:
            found.add_edge(debtor, creditor, weight=float(known["weight"]))
    for node, known in found.nodes(data=True):
        owes, owed = (
            sum(d["weight"] for *_, d in edges(node, data=True)) for edges in (found.out_edges, found.in_edges)
        )
        known["external_assets"] = known["equity"] + known["external_liabilities"] + owes - owed
    found.remove_nodes_from([n for n in list(nx.isolates(found)) if not any(found.nodes[n].values())])
    return found


def holdings(network: "Network") -> "nx.DiGraph[str]":
    """Who holds what: an edge from each holder to each asset it is long of, its `weight` what that is worth, in currency.

    Args:
        network: Of a run: `Result.graph()`.

    Returns:
        Holders (`bipartite` 0) with their `equity` in currency, at least 0, and assets (`bipartite` 1).

    Raises:
        ValueError: A holder has no equity.
    """
    found: nx.DiGraph[str] = nx.DiGraph()
    for asset, holder, known in network.edges(data=True):
        if known["channel"] == EXPOSURE and known.get("lots", 1) > 0 and known["weight"] > 0.0:
            if "equity" not in network.nodes[holder]:
                raise ValueError(f"node {holder!r} has no attribute 'equity'; set it, in currency")
            found.add_node(holder, bipartite=0, equity=max(0.0, float(network.nodes[holder]["equity"])))
            found.add_node(asset, bipartite=1)
            found.add_edge(holder, asset, weight=float(known["weight"]))
    return found


def importance(network: "Network", fall: float = 0.1, impact: float = 1.0536) -> pd.DataFrame:
    """What would come of the failure of each holder, and of a fall of each asset.

    A holder that fails pays none of its debts: `debtrank` on `debts`. It sells all that it holds, and who loses more than its equity on the prices
    that this makes fails too: `overlap_cascade` on `holdings`. An asset falls by itself, and then the same.

    Args:
        network: Of a run: `Result.graph()`.
        fall: Of each asset in turn, fraction of its price, above 0 and at most 1.
        impact: alpha of `overlap_cascade`; 1.0536 lowers a price by a tenth when a tenth of what all hold has been sold.

    Returns:
        By node, debtors first and then what costs others most: `kind`; `size`, of a holder its equity and of an asset what is held of it, currency;
        `debtrank`, the part of all equity that others lose through debts, NaN for who owes to nobody here or is insolvent; `failures`, how many
        others fail by what is sold; `loss`, what all others lose as prices fall, the first fall left out, currency.

    Raises:
        ValueError: The fall or the impact is wrong, or a holder has no equity.
    """
    if not 0.0 < fall <= 1.0:
        raise ValueError(f"fall = {fall}: must be above 0 and at most 1")
    ranks, held = _debtranks(debts(network)), holdings(network)
    sold = _sold(held, fall, impact)
    nodes = [*sold, *(node for node in ranks if node not in sold)]
    equity = {node: known["equity"] for node, known in network.nodes(data=True) if "equity" in known}
    table = pd.DataFrame(
        {
            "kind": [network.nodes[node]["kind"] for node in nodes],
            "size": [equity[node] if node in equity else held.in_degree(node, weight="weight") for node in nodes],
            "debtrank": [ranks.get(node, np.nan) for node in nodes],
            "failures": [sold.get(node, (0, 0.0))[0] for node in nodes],
            "loss": [sold.get(node, (0, 0.0))[1] for node in nodes],
        },
        index=pd.Index(nodes, name="node"),
    )
    return table.sort_values(["debtrank", "loss"], ascending=False, kind="stable")


def _debtranks(owed: Any) -> dict[str, float]:
    """DebtRank of the failure of each debtor that is solvent, by the equity that others lose."""
    sound = owed.subgraph([node for node, equity in owed.nodes(data="equity") if equity > 0.0])
    return {node: debtrank(sound, {node: 1.0}, weights="equity").value for node in sound if sound.out_degree(node) > 0}


def _sold(held: Any, fall: float, impact: float) -> dict[str, tuple[int, float]]:
    """How many others fail, and what others lose besides the first fall, if each holder fails or each asset falls."""
    banks = [node for node, side in held.nodes(data="bipartite") if side == 0]
    assets = [node for node, side in held.nodes(data="bipartite") if side == 1]
    if not banks:
        return {}
    worth = nx.bipartite.biadjacency_matrix(held, banks, assets, dtype=np.dtype(np.float64))
    equity, total = np.array([held.nodes[node]["equity"] for node in banks]), worth.sum(axis=0)
    found = {}
    for k, node in enumerate(banks):
        after = overlap_cascade(worth, equity, shocked=k, impact=impact)
        lost = worth @ (1.0 - after.prices)
        found[node] = int(after.failed.sum()) - 1, float(lost.sum() - lost[k])
    for k, node in enumerate(assets):
        after = overlap_cascade(worth, equity, devalued={k: fall}, impact=impact)
        start = np.where(np.arange(len(assets)) == k, 1.0 - fall, 1.0)
        found[node] = int(after.failed.sum()), float(total @ (start - after.prices))
    return found
