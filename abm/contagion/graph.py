"""The network of a run: a `networkx.MultiDiGraph` of assets and holders, read from the ledger and the channels, and its tables and files.

Edges point the way in which stress travels. An `exposure` leads from an asset to who holds it: its `lots` are the ledger's, to the unit, and its
`weight` what they are worth at the mid, in currency. A `loan` leads from brokers outside the market to who borrowed there. Every other edge has the
`channel` that carries it and a `weight`, in currency unless the channel says otherwise. Nodes have a `kind`: asset, holder, house, broker, or what
the channel names (factor, pool, hub, community).
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import networkx as nx
import numpy as np
import numpy.typing as npt
import pandas as pd

from abm.exchange.description import MONEY_UNITS

if TYPE_CHECKING:
    from abm.agents.base import Population
    from abm.contagion.channels.base import Channel
    from abm.market import Market

type Network = nx.MultiDiGraph[str]
"""Assets, holders and other nodes by name, and edges keyed by channel."""

EXPOSURE, LOAN = "exposure", "loan"
"""Channels of edges that are there whatever is on: who holds what, and who owes what to brokers outside the market."""

INSURANCE, BROKER = "house:insurance", "broker:outside"
MOST_ACCOUNTS = 64
"""A population of more accounts is one node; of fewer, each account is one."""

_EDGES = {"source": "str", "target": "str", "channel": "str", "weight": "float64", "lots": "Int64"}
_NODES = {"node": "str", "kind": "str", "trader": "str", "cash": "float64", "equity": "float64"}


class Edge(NamedTuple):
    """One edge of the network, in the direction in which stress travels."""

    source: str
    """Name of a node."""
    target: str
    """Name of a node."""
    weight: float
    """Currency, where the channel does not say otherwise."""


class Holder(NamedTuple):
    """A node that holds something: an account, or all accounts of a population."""

    name: str
    population: "Population"
    rows: npt.NDArray[np.int32]
    """Its accounts, which follow one another."""


def holders(market: "Market") -> Iterator[Holder]:
    """The holders of a market, population by population."""
    for population in market.populations:
        if population.size > MOST_ACCOUNTS or population.size == 1:
            yield Holder(population.name, population, population.rows)
        else:
            for k in range(population.size):
                yield Holder(f"{population.name}/{k}", population, population.rows[k : k + 1])


def held_by(market: "Market", rows: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Lots of accounts that follow one another, in each instrument. A view: of a million accounts a copy takes longer than what is done with it."""
    first = int(rows[0]) if len(rows) else 0
    return market.exchange.accounts.position[first : first + len(rows)]


def network(market: "Market", channels: Iterable["Channel"] = ()) -> Network:
    """The network as it is now: assets, holders and exposures, and the nodes and edges of some channels."""
    graph: Network = nx.MultiDiGraph()
    view = market.view()
    mids = np.array([view[instrument.name].mid for instrument in market.exchange.instruments])
    for instrument, mid in zip(market.exchange.instruments, mids.tolist(), strict=True):
        graph.add_node(instrument.name, kind="asset", price=mid)
    accounts = market.exchange.accounts
    worth = mids * [instrument.lot for instrument in market.exchange.instruments]
    everyone = [(name, {"kind": "holder", "trader": owner.kind}, rows) for name, owner, rows in holders(market)]
    if market.exchange.fund >= 0:
        everyone.append((INSURANCE, {"kind": "house"}, np.array([market.exchange.fund], np.int32)))
    owed, elsewhere = market.owed(), market.elsewhere()
    for name, known, rows in everyone:
        lots = held_by(market, rows).sum(axis=0)
        cash, debt = int(accounts.cash[rows].sum()) / MONEY_UNITS, float(owed[rows].sum())
        graph.add_node(name, **known, cash=cash, equity=equity(market, rows) - debt + float(elsewhere[rows].sum()))
        if debt > 0.0:
            graph.add_edge(BROKER, name, LOAN, channel=LOAN, weight=debt)
        for k in np.flatnonzero(lots).tolist():
            asset = market.exchange.instruments[k].name
            graph.add_edge(
                asset, name, EXPOSURE, channel=EXPOSURE, weight=float(abs(lots[k]) * worth[k]), lots=int(lots[k])
            )
    if BROKER in graph:
        graph.nodes[BROKER]["kind"] = "broker"
    for channel in channels:
        graph.add_nodes_from(channel.nodes())
        for edge in channel.edges():
            for node in (edge.source, edge.target):
                if node not in graph:
                    graph.add_node(node, kind=node.partition(":")[0])
            graph.add_edge(edge.source, edge.target, channel.name, channel=channel.name, weight=float(edge.weight))
    return graph


def equity(market: "Market", rows: npt.NDArray[np.int32]) -> float:
    """Currency that accounts which follow one another are worth: cash, margin and profit at the marks, and at the mids what is paid in full."""
    total = float(market.house.equity(rows).sum()) / MONEY_UNITS
    lots, view = held_by(market, rows).sum(axis=0), market.view()
    for k, instrument in enumerate(market.exchange.instruments):
        if instrument.kind == "spot" and instrument.margin is None and lots[k]:
            total += float(lots[k]) * instrument.lot * view[instrument.name].mid
    return total


# ------------------------------------------------------------------ tables


def to_tables(graph: Network) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Edges and nodes as tables: source, target, channel, weight, lots; node, kind, and what else is known of it."""
    edges = pd.DataFrame(
        [(u, v, d["channel"], d["weight"], d.get("lots")) for u, v, d in graph.edges(data=True)], columns=list(_EDGES)
    )
    nodes = pd.DataFrame([{"node": node, **data} for node, data in graph.nodes(data=True)])
    return edges.astype(_EDGES), nodes


def from_tables(edges: pd.DataFrame, nodes: pd.DataFrame) -> Network:
    """The graph of such tables."""
    graph: Network = nx.MultiDiGraph()
    for row in nodes.to_dict("records"):
        known = {str(key): value for key, value in row.items() if key not in ("node", "time") and not pd.isna(value)}
        graph.add_node(row["node"], **known)
    columns = (edges[name].tolist() for name in _EDGES)
    for source, target, channel, weight, lots in zip(*columns, strict=True):
        known = {} if pd.isna(lots) else {"lots": int(lots)}
        graph.add_edge(source, target, channel, channel=channel, weight=float(weight), **known)
    return graph


# ------------------------------------------------------------------ files


def write_graphml(graph: Network, path: str | Path) -> None:
    """Write a network as GraphML, which Gephi, yEd, igraph and networkx read.

    Raises:
        OSError: The file cannot be written.
    """
    nx.write_graphml(graph, path, named_key_ids=True)


def read_graphml(path: str | Path) -> Network:
    """Read a network from GraphML; each edge needs a `channel` and a `weight`, each node a `kind`.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not GraphML, or an edge or node lacks what it needs; one line says which.
    """
    try:
        read: Any = nx.read_graphml(path, force_multigraph=True)
    except OSError:
        raise
    except Exception as error:  # the parsers of XML and of networkx raise whatever they meet
        raise ValueError(f"{path}: not GraphML ({str(error).splitlines()[0]})") from None
    graph: Network = nx.MultiDiGraph()
    for node, data in read.nodes(data=True):
        if "kind" not in data:
            raise ValueError(f"{path}: node {node} has no kind; write kind=asset, holder, factor, community, ...")
        graph.add_node(node, **data)
    for source, target, data in read.edges(data=True):
        if "channel" not in data or not isinstance(data.get("weight"), int | float):
            raise ValueError(f"{path}: edge {source} -> {target} needs a channel and a weight")
        if graph.has_edge(source, target, data["channel"]):
            raise ValueError(
                f"{path}: edge {source} -> {target} stands twice for {data['channel']}; add the weights up"
            )
        graph.add_edge(source, target, data["channel"], **data)
    return graph
