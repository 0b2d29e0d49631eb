"""What measures of balance sheets are given: a network of who owes whom, and one number for each node, read and checked.

A network is a networkx DiGraph or MultiDiGraph with an edge from each debtor to each creditor, whose `weight` is what is owed in currency, or a
square matrix (array, table or scipy's sparse one) whose row owes to the column. What belongs to a node, such as its capital, is the name of a node
attribute, a mapping or pandas Series by node, one number for all, or an array in the order of the nodes: that of the graph or table, or 0, 1, ...
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import csr_array, issparse

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Network = Any
"""A networkx graph, a square array or DataFrame, or a sparse matrix: see the head of this module."""
Amounts = Any
"""One number for each node: an attribute's name, a mapping or Series, one number for all, or an array."""

RELATIVE = 1e-12
"""Of what a node can bear: a loss nearer to it than that does not exceed it."""
ROUNDS = 100_000
"""After which an iteration that has not come to its end is given up."""


@dataclass(frozen=True, slots=True)
class BalanceSheets:
    """A graph as matrices, in the order of `nodes`."""

    nodes: tuple[Hashable, ...]
    liabilities: csr_array
    """(n, n), currency: what the node of the row owes that of the column."""
    amounts: Mapping[str, Floats]
    """(n,) each: the node attributes that were asked for, by name."""


def balance_sheets(graph: Network, *attributes: str, weight: str = "weight") -> BalanceSheets:
    """Turn a graph into matrices, in the order in which the graph lists its nodes. Parallel edges add up.

    Args:
        graph: DiGraph or MultiDiGraph with an edge from each debtor to each creditor.
        attributes: Node attributes that are wanted, in currency, each with a number of at least 0.
        weight: Edge attribute with what is owed, currency.

    Raises:
        ValueError: The graph is empty or not directed, an attribute is missing, negative or not finite, or a node owes to itself.
    """
    if not isinstance(graph, nx.Graph):
        raise ValueError(f"{type(graph).__name__} is no graph; give a networkx DiGraph or MultiDiGraph")
    owed = exposures(graph, weight)
    return BalanceSheets(
        tuple(owed.nodes), owed.matrix, {name: owed.amounts(name, name) for name in dict.fromkeys(attributes)}
    )


class Exposures(NamedTuple):
    """A network that was read: what the node of each row owes that of each column (or holds of that asset), in currency."""

    nodes: Sequence[Hashable]
    matrix: csr_array
    graph: Any  # None where the network was given as a matrix

    def amounts(self, given: Amounts, what: str, least: float = 0.0) -> Floats:
        """One finite number of at least `least` for each node."""
        if isinstance(given, str):
            given = self._attribute(given, what)
        return amounts_of(given, what, self.nodes, least)

    def _attribute(self, name: str, what: str) -> list[Any]:
        if self.graph is None:
            raise ValueError(f"{what} = {name!r} names a node attribute, but a matrix has none; give numbers")
        values = []
        for node in self.nodes:
            if name not in self.graph.nodes[node]:
                raise ValueError(f"node {node!r} has no attribute {name!r}; set it, or give {what} as numbers")
            values.append(self.graph.nodes[node][name])
        return values

    def external_liabilities(self, given: Amounts | None) -> Floats:
        """Those that are given, else those that the nodes of the graph have, else none."""
        name = "external_liabilities"
        if given is None:
            has = self.graph is not None and any(name in known for _, known in self.graph.nodes(data=True))
            given = name if has else 0.0
        return self.amounts(given, name)


def exposures(network: Network, weight: str | None = "weight") -> Exposures:
    """Read and check a network. `weight` None: each edge of a graph counts as 1, however many are parallel."""
    if isinstance(network, nx.Graph):
        nodes, matrix = _edges(network, weight)
    else:
        nodes, matrix = _matrix(network)
        if matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"a network must be a square matrix, row owes to column, not of shape {matrix.shape}")
    if not len(nodes):
        raise ValueError("the network has no nodes; add at least one")
    bad = np.flatnonzero(~((matrix.data >= 0) & (matrix.data < np.inf)))
    if len(bad):
        i, j = _ends(matrix, int(bad[0]))
        raise ValueError(
            f"node {nodes[i]!r} owes {matrix.data[bad[0]]} to {nodes[j]!r}: must be finite and not negative; mend that edge"
        )
    own = np.flatnonzero(matrix.diagonal())
    if len(own):
        raise ValueError(f"node {nodes[own[0]]!r} owes to itself; remove that edge")
    return Exposures(nodes, matrix, network if isinstance(network, nx.Graph) else None)


def _edges(graph: Any, weight: str | None) -> tuple[Sequence[Hashable], csr_array]:
    if weight is not None and not graph.is_directed():
        raise ValueError("the graph is not directed; give a DiGraph with an edge from each debtor to each creditor")
    nodes = list(graph)
    edges = list(graph.edges(data=True))
    if not graph.is_directed():
        edges += [(end, start, known) for start, end, known in edges]
    matrix = _gathered(edges, weight, places_of(nodes), places_of(nodes))
    if weight is None:
        matrix.data[:] = 1.0
    return nodes, matrix


def _gathered(edges: Iterable[Any], weight: str | None, rows: Mapping[Any, int], columns: Mapping[Any, int]) -> Any:
    """The sparse matrix of edges, those that are parallel added up."""
    values, starts, ends = [], [], []
    for start, end, known in edges:
        if weight is not None and weight not in known:
            raise ValueError(f"edge {start!r} -> {end!r} has no attribute {weight!r}; set it, in currency")
        value = 1.0 if weight is None else number_of(known[weight], f"edge {start!r} -> {end!r}: {weight}")
        if not 0.0 <= value < np.inf:  # looked at one by one: among parallel edges others could hide it
            raise ValueError(f"edge {start!r} -> {end!r}: {weight} = {value}: must be finite and not negative")
        values.append(value)
        starts.append(rows[start])
        ends.append(columns[end])
    return csr_array((values, (starts, ends)), shape=(len(rows), len(columns)), dtype=np.float64)


def _matrix(given: Any) -> tuple[Sequence[Hashable], csr_array]:
    if isinstance(given, pd.DataFrame):
        if list(given.index) != list(given.columns):
            raise ValueError("rows and columns of the table must be the same nodes in the same order; reindex it")
        nodes, given = list(given.index), given.to_numpy(np.float64)
        if len(set(nodes)) < len(nodes):
            raise ValueError(f"node {next(n for n in nodes if nodes.count(n) > 1)!r} stands twice in the table; add up")
        return nodes, csr_array(given)
    if not issparse(given):
        given = np.asarray(given, np.float64)
        if given.ndim != 2:
            raise ValueError(f"a network must be a square matrix, row owes to column, not of shape {given.shape}")
    matrix = csr_array(given, dtype=np.float64)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    return range(matrix.shape[0]), matrix


def _ends(matrix: csr_array, entry: int) -> tuple[int, int]:
    """Row and column of an entry of a sparse matrix."""
    return int(np.searchsorted(matrix.indptr, entry, "right")) - 1, int(matrix.indices[entry])


def number_of(value: Any, what: str) -> float:
    """A value as a number, or an error that says what it was to be."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{what} = {value!r} is not a number") from None


def amounts_of(given: Amounts, what: str, nodes: Sequence[Hashable], least: float = 0.0) -> Floats:
    """One finite number of at least `least` for each node, of what is given in any way but by an attribute's name."""
    if isinstance(given, pd.Series):
        given = given.to_dict()
    if isinstance(given, Mapping):
        known = set(nodes)
        for node in given:
            if node not in known:
                raise ValueError(f"{what}: {node!r} is not a node of the network; take it out, or add the node")
        for node in nodes:
            if node not in given:
                raise ValueError(f"{what}: node {node!r} is missing; give a number for each node")
        given = [given[node] for node in nodes]
    try:
        values = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        for node, value in zip(nodes, given, strict=False):
            number_of(value, f"{what} of node {node!r}")
        raise ValueError(f"{what} = {given!r}: give one number for each node") from None
    if values.ndim == 0:
        values = np.full(len(nodes), values)
    if values.shape != (len(nodes),):
        raise ValueError(f"{what} must be one number for each of {len(nodes)} nodes, not of shape {values.shape}")
    bad = np.flatnonzero(~((values >= least) & (values < np.inf)))
    if len(bad):
        rule = "not negative" if least == 0.0 else "above 0"
        raise ValueError(f"{what} of node {nodes[bad[0]]!r} = {values[bad[0]]}: must be finite and {rule}")
    return values


def bipartite(given: Network) -> tuple[Exposures, Sequence[Hashable]]:
    """Banks with what each holds of each asset, and the assets."""
    graph: Any = None
    banks: Sequence[Hashable]
    assets: Sequence[Hashable]
    if isinstance(given, nx.Graph):
        graph, (banks, assets) = given, _sides(given)
        held = _gathered(_from_banks(given, set(banks)), "weight", places_of(banks), places_of(assets))
    elif isinstance(given, pd.DataFrame):
        banks, assets, held = list(given.index), list(given.columns), csr_array(given.to_numpy(np.float64))
    else:
        matrix = given if issparse(given) else np.asarray(given, np.float64)
        if matrix.ndim != 2:
            raise ValueError(f"holdings must be banks x assets, not of shape {matrix.shape}")
        held = csr_array(matrix, dtype=np.float64)
        banks, assets = range(held.shape[0]), range(held.shape[1])
    if not len(banks) or not len(assets):
        raise ValueError(f"holdings of {len(banks)} banks in {len(assets)} assets; there must be one of each at least")
    bad = np.flatnonzero(~((held.data >= 0) & (held.data < np.inf)))
    if len(bad):
        i, j = _ends(held, int(bad[0]))
        raise ValueError(
            f"bank {banks[i]!r} holds {held.data[bad[0]]} of {assets[j]!r}: must be finite and not negative"
        )
    return Exposures(banks, held, graph), assets


def _sides(graph: Any) -> tuple[list[Hashable], list[Hashable]]:
    """Banks and assets of a bipartite graph."""
    sides: tuple[list[Hashable], list[Hashable]] = ([], [])
    for node, known in graph.nodes(data=True):
        if known.get("bipartite") not in (0, 1):
            raise ValueError(f"node {node!r} has no attribute 'bipartite'; set it to 0 for a bank and 1 for an asset")
        sides[known["bipartite"]].append(node)
    return sides


def _from_banks(graph: Any, banks: set[Hashable]) -> Iterable[tuple[Hashable, Hashable, Mapping[str, Any]]]:
    """Edges, each from a bank to an asset."""
    for start, end, known in graph.edges(data=True):
        turned = not graph.is_directed() and start not in banks
        bank, asset = (end, start) if turned else (start, end)
        if bank not in banks or asset in banks:
            raise ValueError(
                f"edge {bank!r} -> {asset!r} must lead from a bank to an asset; turn it or mend 'bipartite'"
            )
        yield bank, asset, known


def places_of(nodes: Sequence[Hashable]) -> dict[Hashable, int]:
    """Place of each node."""
    return {node: k for k, node in enumerate(nodes)}


def places(asked: Any, nodes: Sequence[Hashable]) -> Ints:
    """Places of a node, or of each of several."""
    place = places_of(nodes)
    alone = isinstance(asked, Hashable) and asked in place
    several = not alone and isinstance(asked, Iterable) and not isinstance(asked, str)
    found = []
    for node in asked if several else [asked]:
        if node not in place:
            raise ValueError(f"shocked node {node!r} is not in the network; its nodes begin with {nodes[0]!r}")
        found.append(place[node])
    return np.array(found, np.int64)


def check_fraction(value: float, what: str) -> None:
    """Refuse what is not between 0 and 1."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{what} = {value}: must lie between 0 and 1")


def ratio(above: Floats, below: Floats, otherwise: float) -> Floats:
    """The ratio, or `otherwise` where one would divide by nothing."""
    some = below > 0
    return np.where(some, above / np.where(some, below, 1.0), otherwise)


def table_of(nodes: Sequence[Hashable], columns: Mapping[str, npt.NDArray[Any]]) -> pd.DataFrame:
    """Columns by node."""
    return pd.DataFrame(columns, index=pd.Index(list(nodes), name="node", tupleize_cols=False))
